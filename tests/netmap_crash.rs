//! A data plane that is killed: the model kernel ends it before each of its stores to shared memory in turn, and the next
//! one, which has nothing but the keeper's record and descriptors, must find every buffer exactly once and forward on.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as a test does")]

use std::collections::{BTreeSet, VecDeque};

use l4sd::port::netmap::keep::{Kept, Record};
use l4sd::port::netmap::{Frame, NetmapOptions, NetmapPort};
use l4sd::port::{PortPair, Side};
use l4sd::time::{Instant, Span};
use l4sd_netmap::crash;
use l4sd_netmap::model::{Line, Model, NicConfig, Outside, TxMode};

const LINE: Line = Line::Nic(0);
const NAMES: [&str; 2] = ["netmap:em0", "netmap:em1"];
const SLOTS: u32 = 8;

/// What a keeper has, and the world outside.
struct World {
    model: Model,
    outsides: [Outside; 2],
    kept: Kept,
}

impl World {
    fn new(names: [&str; 2], tx: TxMode) -> Self {
        let model = Model::new(1024);
        let nic = |name, mem_id| model.nic(name, NicConfig { slots: SLOTS, mem_id, ..NicConfig::default() });
        let outsides = [nic("em0", 1), nic("em1", 2)];
        for outside in &outsides {
            outside.faults(|f| f.tx = tx);
        }
        let options = NetmapOptions { held: 0, emulated: false };
        let (kept, _) = Kept::open(&model.netmap(), names, options).unwrap();
        Self { model, outsides, kept }
    }

    /// A new process: what it knows came over the socket.
    fn borrow(&self) -> (NetmapPort, l4sd::port::netmap::keep::Restart) {
        let record = serde_json::to_vec(self.kept.record()).unwrap();
        let record: Record = serde_json::from_slice(&record).unwrap();
        NetmapPort::borrow(&self.model.netmap(), &record, self.kept.lend().unwrap()).unwrap()
    }
}

/// A frame that carries its number in every byte.
fn frame(n: u8) -> Vec<u8> {
    vec![n; 60 + usize::from(n)]
}

fn number(bytes: &[u8]) -> u8 {
    assert!(bytes.iter().all(|b| *b == bytes[0]), "a frame of two: {bytes:?}");
    assert_eq!(bytes.len(), 60 + usize::from(bytes[0]), "a frame cut or stretched");
    bytes[0]
}

fn at(ms: u64) -> Instant {
    Instant::ZERO + Span::from_millis(ms)
}

/// Receives, queues, sends, recycles, over several frames both ways, and stops in good order.
fn work(world: &World, seen: &mut Vec<u8>) {
    let (mut port, _) = world.borrow();
    let mut queue: VecDeque<(Side, Frame)> = VecDeque::new();
    let mut next = 1;
    for round in 0..6 {
        for side in Side::BOTH {
            for _ in 0..2 {
                world.outsides[side.index()].inject(LINE, &frame(next));
                next += 1;
            }
            let mut batch = Vec::new();
            port.recv(side, 4, &mut batch).unwrap();
            queue.extend(batch.into_iter().map(|frame| (side.other(), frame)));
        }
        while queue.len() > 3 {
            let (to, frame) = queue.pop_front().unwrap();
            if round % 3 == 2 {
                port.recycle(frame);
            } else if let Err(frame) = port.send(to, frame, at(round)) {
                port.recycle(frame);
            }
        }
        port.flush(at(round)).unwrap();
        for outside in &world.outsides {
            outside.complete(LINE, 1);
            seen.extend(outside.collect(LINE).iter().map(|bytes| number(bytes)));
        }
    }
    for (_, frame) in queue {
        port.recycle(frame);
    }
    port.flush(at(9)).unwrap();
}

/// After whatever happened: each buffer of the record is in one place, and traffic passes both ways, complete, in order
/// and unharmed.
fn goes_on(world: &World, at_store: u64, seen: &mut Vec<u8>) -> u64 {
    let (mut port, restart) = world.borrow();
    let record = world.kept.record();
    for (memory, (slots, spares)) in port.whereabouts().into_iter().enumerate() {
        let note = (memory == 0).then_some(record.board);
        let mut found: Vec<u32> = slots.into_iter().chain(spares).chain(note).collect();
        found.sort_unstable();
        let granted: Vec<u32> = record.pools[memory].iter().collect();
        assert_eq!(found, granted, "crash before store {at_store}: every buffer once");
    }
    assert_eq!(restart.repaired, 0, "this data plane leaves no index twice");
    let mut out: [Vec<u8>; 2] = Default::default();
    let mut expected: [Vec<u8>; 2] = Default::default();
    let mut next = 100;
    // More frames than there are buffers, so that each comes round.
    for round in 0..60 {
        for side in Side::BOTH {
            let mut batch = Vec::new();
            if round >= 4 {
                assert!(
                    world.outsides[side.index()].inject(LINE, &frame(next)),
                    "crash before store {at_store}"
                );
                expected[side.other().index()].push(next);
                next = if next == 250 { 100 } else { next + 1 };
            }
            port.recv(side, 64, &mut batch).unwrap();
            for frame in batch {
                port.send(side.other(), frame, at(100 + round)).expect("there is room");
            }
        }
        port.flush(at(100 + round)).unwrap();
        for (outside, out) in world.outsides.iter().zip(&mut out) {
            outside.complete(LINE, SLOTS);
            out.extend(outside.collect(LINE).iter().map(|bytes| number(bytes)));
        }
        port.flush(at(100 + round)).unwrap();
    }
    for (out, expected) in out.into_iter().zip(expected) {
        // What was still in rings when the crash came may arrive first.
        let (old, new): (Vec<u8>, Vec<u8>) = out.into_iter().partition(|n| *n < 100);
        assert_eq!(new, expected, "crash before store {at_store}: all arrive in order");
        seen.extend(old);
    }
    restart.lost
}

fn enumerate(names: [&str; 2], tx: TxMode, keeper_tidies: bool) -> u64 {
    let mut most_lost = 0;
    for store in 0.. {
        let world = World::new(names, tx);
        let mut seen = Vec::new();
        let outcome = crash::at_store(store, || work(&world, &mut seen));
        if keeper_tidies && outcome.is_err() {
            world.kept.tidy().unwrap();
        }
        most_lost = most_lost.max(goes_on(&world, store, &mut seen));
        let distinct: BTreeSet<u8> = seen.iter().copied().collect();
        assert_eq!(distinct.len(), seen.len(), "crash before store {store}: nothing leaves twice: {seen:?}");
        assert_eq!(world.model.damaged(), 0);
        let World { model, kept, .. } = world;
        kept.close().unwrap();
        for memory in if kept_memories(names) == 2 { vec![1, 2] } else { vec![1] } {
            let audit = model.audit(memory);
            assert_eq!(audit.freed_twice, Vec::<u32>::new(), "crash before store {store}");
            assert_eq!(
                audit.free, audit.total,
                "crash before store {store}: the chain has what was in no slot"
            );
        }
        if outcome.is_ok() {
            assert!(store > 100, "only {store} stores: the loop does not do what it should");
            assert!(most_lost > 0, "some crash found frames in the queue");
            return store;
        }
    }
    unreachable!("the loop above ends")
}

const fn kept_memories(names: [&str; 2]) -> usize {
    if names[1].len() > NAMES[1].len() { 2 } else { 1 }
}

#[test]
fn a_kill_at_any_store_loses_no_buffer_and_the_next_data_plane_goes_on() {
    enumerate(NAMES, TxMode::Immediate, true);
}

#[test]
fn also_with_a_slow_transmit_ring_and_a_keeper_that_leaves_all_to_the_next() {
    enumerate(NAMES, TxMode::Manual, false);
}

#[test]
fn also_between_two_memories() {
    enumerate(["netmap:em0", "netmap:em1@2"], TxMode::Immediate, true);
}

#[test]
fn what_was_held_is_reported_once() {
    let world = World::new(NAMES, TxMode::Immediate);
    let (mut port, restart) = world.borrow();
    assert_eq!((restart.lost, port.counters(Side::Left).lost_restart), (0, 0));
    for n in 1..=5 {
        assert!(world.outsides[0].inject(LINE, &frame(n)));
    }
    let mut batch = Vec::new();
    port.recv(Side::Left, 64, &mut batch).unwrap();
    port.recycle(batch.pop().unwrap());
    port.flush(at(0)).unwrap();
    // Killed: nothing of it runs any more.
    std::mem::forget((port, batch));
    // The forgotten process still has its descriptors; the keeper's are others of the same ports.
    assert_eq!(world.kept.tidy().unwrap().lost, 4, "the keeper can tell");
    let (port, restart) = world.borrow();
    assert_eq!((restart.lost, port.counters(Side::Left).lost_restart), (4, 4));
    drop(port);
    let (port, restart) = world.borrow();
    assert_eq!((restart.lost, port.counters(Side::Left).lost_restart), (0, 0), "not again");
    drop(port);
}

#[test]
fn the_keeper_refuses_pipes() {
    let options = NetmapOptions { held: 0, emulated: false };
    let model = Model::new(16_384);
    let message = Kept::open(&model.netmap(), ["netmap:{1", "netmap:{2"], options).unwrap_err().to_string();
    assert!(message.contains("without one"), "{message}");
}
