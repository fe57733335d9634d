//! Random work on two ports: after every step every buffer is in exactly one place, frames leave unchanged and in order.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{WIRE, World, frame};
use l4sd_netmap::model::{TxMode, Wrong};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Inject(usize),
    RxSync,
    Take,
    Skip,
    Put,
    Recycle,
    TxSync,
    Complete(u32),
    Slow(bool),
    Link(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (8_usize..1500).prop_map(Step::Inject),
        3 => Just(Step::RxSync),
        6 => Just(Step::Take),
        1 => Just(Step::Skip),
        5 => Just(Step::Put),
        1 => Just(Step::Recycle),
        3 => Just(Step::TxSync),
        2 => (1_u32..4).prop_map(Step::Complete),
        1 => any::<bool>().prop_map(Step::Slow),
        1 => any::<bool>().prop_map(Step::Link),
    ]
}

/// Left to right, one direction; the frames that must come out are noted when they are put.
fn run(slots: u32, extra: u32, steps: &[Step], wrong: Wrong) -> Result<World, String> {
    let mut world = World::new(slots, extra);
    for outside in &world.outside {
        outside.faults(|faults| faults.wrong = wrong);
    }
    let (mut number, mut sent, mut out) = (0, Vec::<Vec<u8>>::new(), Vec::new());
    let (mut arrived, mut taken) = (Vec::<Vec<u8>>::new(), 0);
    for step in steps {
        match step {
            Step::Inject(len) => {
                number += 1;
                let frame = frame(number, *len);
                if world.outside[0].inject(WIRE, &frame) {
                    arrived.push(frame);
                }
            }
            Step::RxSync => world.ports[0].rx_sync().map_err(|e| e.to_string())?,
            Step::Take => {
                if world.take(0)? {
                    let (buffer, len, _) = world.queue.last().ok_or("no frame")?;
                    let bytes = world.ports[0].region().bytes(buffer, usize::from(*len));
                    if arrived.get(taken).is_none_or(|frame| frame != bytes) {
                        return Err(format!("frame {taken} did not come in as it was sent"));
                    }
                    taken += 1;
                }
            }
            Step::Skip => taken += usize::from(world.ports[0].rx(0).skip()),
            Step::Put => {
                let head = world.queue.first().map(|(buffer, len, _)| {
                    world.ports[0].region().bytes(buffer, usize::from(*len)).to_vec()
                });
                let before = world.ports[1].tx(0).pending_bytes();
                if world.put(1)? {
                    let bytes = head.unwrap_or_default();
                    if world.ports[1].tx(0).pending_bytes() != before + bytes.len() as u64 {
                        return Err("pending bytes".to_owned());
                    }
                    sent.push(bytes);
                }
            }
            Step::Recycle => world.spares.extend(world.queue.pop().map(|(buffer, ..)| buffer)),
            Step::TxSync => world.ports[1].tx_sync().map_err(|e| e.to_string())?,
            Step::Complete(n) => world.outside[1].complete(WIRE, *n),
            Step::Slow(slow) => {
                let mode = if *slow { TxMode::Manual } else { TxMode::Immediate };
                world.outside[1].faults(|faults| faults.tx = mode);
            }
            Step::Link(up) => world.outside[1].faults(|faults| faults.link = *up),
        }
        out.extend(world.outside[1].collect(WIRE));
        world.conserved()?;
    }
    world.outside[1].faults(|faults| (faults.tx, faults.link) = (TxMode::Immediate, true));
    for _ in 0..2 {
        world.ports[1].tx_sync().map_err(|e| e.to_string())?;
    }
    out.extend(world.outside[1].collect(WIRE));
    if out != sent {
        return Err(format!("{} frames were put, {} left, or not the same ones", sent.len(), out.len()));
    }
    let ring = world.ports[1].tx(0);
    if (ring.pending_slots(), ring.pending_bytes(), ring.space()) != (0, 0, slots - 1) {
        return Err("something is pending after everything left".to_owned());
    }
    world.conserved()?;
    if world.model.damaged() > 0 {
        return Err("a ring was damaged".to_owned());
    }
    Ok(world)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_buffer_is_lost_or_in_two_places(
        slots in 2_u32..9,
        extra in 0_u32..12,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let world = run(slots, extra, &steps, Wrong::default()).map_err(TestCaseError::fail)?;
        world.close();
    }
}

/// Enough work that every broken rule is noticed.
fn work() -> Vec<Step> {
    let round = [
        Step::Inject(100),
        Step::Inject(200),
        Step::RxSync,
        Step::Take,
        Step::Take,
        Step::Put,
        Step::Put,
        Step::TxSync,
        Step::Complete(1),
    ];
    core::iter::once(Step::Slow(true)).chain(round.into_iter().cycle().take(9 * 20)).collect()
}

#[test]
fn the_same_work_passes_while_no_rule_is_broken() {
    run(8, 8, &work(), Wrong::default()).unwrap().close();
}

#[test]
fn each_broken_rule_is_noticed() {
    let none = Wrong::default();
    for wrong in [
        Wrong { ignore_buf_changed: true, ..none },
        Wrong { duplicate_index: true, ..none },
        Wrong { zero_index: true, ..none },
        Wrong { overrun_tail: true, ..none },
        Wrong { early_completion: true, ..none },
    ] {
        let outcome = run(8, 8, &work(), wrong).map(drop);
        println!("{wrong:?}: {outcome:?}");
        assert!(outcome.is_err(), "{wrong:?} went unnoticed");
    }
}

#[test]
fn a_buffer_that_is_dropped_or_chained_twice_is_noticed() {
    let mut world = World::new(4, 4);
    let lost = world.spares.pop().unwrap();
    assert!(world.conserved().is_err());
    let (model, index) = (world.model.clone(), lost.index());
    drop(lost);
    let World { ports: [left, right], spares, .. } = world;
    left.close(spares).unwrap();
    right.close([]).unwrap();
    let audit = model.audit(1);
    assert_eq!((audit.total - audit.free, audit.freed_twice.len()), (1, 0), "buffer {index} leaked");
}
