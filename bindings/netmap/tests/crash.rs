//! A process that dies before any one of its stores to shared memory, and one that goes on with its descriptors.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::os::fd::OwnedFd;

use common::{WIRE, World, frame};
use l4sd_netmap::{Buffer, NotTaken, Port, Registered, SlotFlags, crash, recover};

/// What a keeper holds: descriptors, registrations, the pool.
struct Keeper {
    fds: Vec<OwnedFd>,
    registered: Vec<String>,
    pool: Vec<u32>,
}

impl Keeper {
    fn of(world: &World) -> Self {
        Self {
            fds: world.ports.iter().map(|port| port.fd().try_clone_to_owned().unwrap()).collect(),
            registered: world.ports.iter().map(|p| serde_json::to_string(p.registered()).unwrap()).collect(),
            pool: world.pool.clone(),
        }
    }

    /// The next process: nothing but descriptors and numbers, and a mapping of its own.
    fn hand_over(&self, world_model: &l4sd_netmap::model::Model) -> [Port; 2] {
        let netmap = world_model.netmap();
        [0, 1].map(|i| {
            let registered: Registered = serde_json::from_str(&self.registered[i]).unwrap();
            netmap.attach(self.fds[i].try_clone().unwrap(), registered).unwrap()
        })
    }
}

/// `copy`: as between two regions.
fn forward(world: &mut World, rounds: u32, copy: bool) {
    for round in 0..rounds {
        for i in 0..3 {
            assert!(world.outside[0].inject(WIRE, &frame(round * 3 + i + 1, 60 + i as usize)));
        }
        world.ports[0].rx_sync().unwrap();
        if copy {
            while let Some(frame) = world.ports[0].rx(0).bytes().map(<[u8]>::to_vec) {
                assert!(
                    world.ports[1].tx(0).put_copy(&frame, SlotFlags::NONE) && world.ports[0].rx(0).skip()
                );
            }
        }
        while world.take(0).unwrap() {}
        while world.put(1).unwrap() {}
        world.ports[1].tx_sync().unwrap();
    }
}

fn indices(ports: &[Port; 2], spares: &[Buffer]) -> Vec<u32> {
    let mut all: Vec<u32> =
        ports.iter().flat_map(|port| port.slots_census().map(|slot| slot.index)).collect();
    all.extend(spares.iter().map(Buffer::index));
    all.sort_unstable();
    all
}

fn breath(ports: &mut [Port; 2], spares: &mut Vec<Buffer>) {
    ports[0].rx_sync().unwrap();
    while let Some(spare) = spares.pop() {
        match ports[0].rx(0).take(spare) {
            Ok(received) if received.len == 0 => spares.push(received.buffer),
            Ok(received) => {
                let completed = ports[1].tx(0).put(received.buffer, received.len, received.flags).unwrap();
                spares.push(completed.unwrap());
            }
            Err(NotTaken::Empty(spare)) => {
                spares.push(spare);
                break;
            }
            Err(fault) => panic!("{fault:?}"),
        }
    }
    ports[1].tx_sync().unwrap();
}

/// Everything that the successor must find, whenever the first process died.
fn succeed(keeper: Keeper, model: &l4sd_netmap::model::Model, outside: &[l4sd_netmap::model::Outside; 2]) {
    let mut ports = keeper.hand_over(model);
    let [left, right] = &mut ports;
    let recovered = recover(&mut [left, right], &keeper.pool).unwrap();
    assert_eq!((recovered.repaired, recovered.foreign), (0, 0));
    let mut spares = recovered.spares;
    assert_eq!(indices(&ports, &spares), keeper.pool);
    let mut seen = outside[1].collect(WIRE);
    // Takes what the first process left in the ring, which gives its descriptors back.
    breath(&mut ports, &mut spares);
    ports[0].rx_sync().unwrap();
    for i in 0..3 {
        assert!(outside[0].inject(WIRE, &frame(1000 + i, 60)));
    }
    breath(&mut ports, &mut spares);
    seen.extend(outside[1].collect(WIRE));
    // Frames may be lost, but none is made up, sent twice, or late.
    let numbers: Vec<u32> = seen.iter().map(|f| u32::from_be_bytes(f[..4].try_into().unwrap())).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    assert!(numbers.iter().all(|n| (1..=6).contains(n) || (1000..1003).contains(n)), "{numbers:?}");
    for (number, frame) in numbers.iter().zip(&seen) {
        let len = if *number < 1000 { 60 + (number - 1) % 3 } else { 60 };
        assert_eq!(*frame, common::frame(*number, len as usize));
    }
    assert!(numbers.ends_with(&[1000, 1001, 1002]), "{numbers:?}");
    assert_eq!(indices(&ports, &spares), keeper.pool);
    let [left, right] = ports;
    left.close(spares).unwrap();
    right.close([]).unwrap();
    drop(keeper);
    let audit = model.audit(1);
    assert_eq!((audit.free, audit.freed_twice.len()), (audit.total, 0));
    assert_eq!(model.damaged(), 0);
}

/// How many stores the first process makes; it has died before each of them.
fn every_store(copy: bool) -> u64 {
    for stores in 0.. {
        let mut world = World::new(8, 8);
        let (model, outside, keeper) = (world.model.clone(), world.outside.clone(), Keeper::of(&world));
        let outcome = crash::at_store(stores, move || {
            forward(&mut world, 2, copy);
            let World { ports: [left, right], spares, .. } = world;
            left.close(spares).unwrap();
            right.close([]).unwrap();
        });
        succeed(keeper, &model, &outside);
        if outcome.is_ok() {
            return stores;
        }
    }
    unreachable!()
}

#[test]
fn whichever_store_is_the_last_the_next_process_finds_every_buffer() {
    // 6 frames: 3 stores to take, 3 to put each; 2 + 2 for the pointers of a round and 1 for its report; 8 links, 1 head,
    // and the other port's head.
    assert_eq!(every_store(false), 6 * 6 + 2 * 5 + 8 + 1 + 1);
}

#[test]
fn the_same_where_frames_are_copied() {
    // 6 frames: flags and length to put, length to skip.
    assert_eq!(every_store(true), 6 * 3 + 2 * 5 + 8 + 1 + 1);
}

#[test]
fn a_crash_while_mending_leaves_something_that_can_be_mended() {
    for stores in 0.. {
        let mut world = World::new(8, 8);
        let (model, outside, keeper) = (world.model.clone(), world.outside.clone(), Keeper::of(&world));
        // Dies with the chain of extra buffers built and both ports still open.
        let spares = core::mem::take(&mut world.spares);
        world.ports[0].give_extra(spares).unwrap();
        drop(world);
        let mut ports = keeper.hand_over(&model);
        let pool = keeper.pool.clone();
        let outcome = crash::at_store(stores, move || {
            let [left, right] = &mut ports;
            recover(&mut [left, right], &pool).map(|r| r.spares.len()).unwrap()
        });
        succeed(keeper, &model, &outside);
        if let Ok(spares) = outcome {
            assert_eq!((spares, stores), (8, 1));
            break;
        }
    }
}

#[test]
fn the_keeper_takes_a_pool_that_lacks_a_buffer_for_a_foreign_one() {
    let world = World::new(4, 4);
    let (model, mut keeper) = (world.model.clone(), Keeper::of(&world));
    let in_a_slot = world.ports[1].slots_census().next().unwrap().index;
    drop(world);
    keeper.pool.retain(|index| *index != in_a_slot);
    let mut ports = keeper.hand_over(&model);
    let [left, right] = &mut ports;
    let recovered = recover(&mut [left, right], &keeper.pool).unwrap();
    assert_eq!((recovered.foreign, recovered.repaired, recovered.spares.len()), (1, 0, 4));
}
