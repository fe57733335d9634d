//! Laws of RFC 9332 held against the DualQ as a whole, each with the section that states it. Numbers are computed by
//! hand or from the RFC's own pseudo-code, never taken from the implementation.
#![allow(clippy::unwrap_used, reason = "a test may")]

use l4sd::aqm::dualq::DualQ;
use l4sd::aqm::params::{DualQParams, Limit, MTU_BYTES, ScheduleParams};
use l4sd::aqm::stats::{DropCause, MarkCause, Snapshot};
use l4sd::aqm::{Departure, PacketMeta, Service};
use l4sd::time::{Instant, Span};
use l4sd::units::BitRate;
use l4sd::wire::Ecn;
use proptest::prelude::*;

const FULL: u16 = 1514;

fn limit() -> Limit {
    Limit::for_rate(BitRate::from_mbps(40))
}

fn dualq() -> DualQ<u32> {
    DualQ::new(&DualQParams::rfc9332(limit()))
}

fn meta(ecn: Ecn, len: u16) -> PacketMeta {
    PacketMeta { len, ecn, nqb: false, ip: true, flow: 0 }
}

fn ms(n: u64) -> Instant {
    Instant::from_millis(n)
}

fn us(n: u64) -> Instant {
    Instant::from_nanos(n * 1000)
}

/// §1.7 of the project's reference page, Appendix A figure 8: p' follows the larger head delay on the 16 ms grid.
#[test]
fn appendix_a_figure_8_through_the_queues() {
    let mut q = dualq();
    // A packet that arrived at t has a head delay of 16 n - t ms at the n-th update; it leaves just before the next one.
    let mut p = Vec::new();
    for (n, delay) in [5u64, 20, 35, 30, 25, 15, 10].into_iter().enumerate() {
        let tick = 16 * (n as u64 + 4);
        q.enqueue(0, meta(Ecn::Ect0, FULL), ms(tick - delay)).unwrap();
        q.advance(ms(tick));
        p.push(q.snapshot(ms(tick)).p);
        while q.dequeue(ms(tick)).is_some() {}
    }
    let want = [0.0144, 0.0632, 0.1144, 0.1008, 0.0864, 0.0544, 0.0376];
    for (got, want) in p.iter().zip(want) {
        assert!((got.base - want).abs() < 1e-9, "{got:?} != {want}");
        assert!((got.classic - want * want).abs() < 1e-9, "eq. (1): p_C = p'^2");
        assert!((got.coupled - 2.0 * want).abs() < 1e-9, "eq. (2): p_CL = k p'");
    }
}

/// A queue whose base probability is known: a packet waits from 13 ms to 48 ms, so the updates see 3, 19 and 35 ms:
/// 0.00768, + 0.16 x 0.004 + 3.2 x 0.016 = 0.05952, + 0.16 x 0.020 + 3.2 x 0.016 = 0.11392.
fn at_p_0_11392() -> (DualQ<u32>, Instant) {
    let mut q = dualq();
    q.enqueue(0, meta(Ecn::Ect0, FULL), ms(13)).unwrap();
    q.advance(ms(48));
    assert!((q.snapshot(ms(48)).p.base - 0.11392).abs() < 1e-9);
    (q, ms(48))
}

/// Fills both queues so that the small-queue exemption is out of the way.
fn fill(q: &mut DualQ<u32>, ecn: Ecn, n: u32, now: Instant) {
    for i in 0..n {
        q.enqueue(i, meta(ecn, FULL), now).unwrap();
    }
}

struct Outcome {
    forwarded: u32,
    marked: u32,
    dropped: u32,
}

fn drain_at(q: &mut DualQ<u32>, now: Instant, n: u32) -> Outcome {
    let mut o = Outcome { forwarded: 0, marked: 0, dropped: 0 };
    for _ in 0..n {
        match q.dequeue(now).expect("filled") {
            Departure::Forward(_) => o.forwarded += 1,
            Departure::Mark(_) => o.marked += 1,
            Departure::Drop(..) => o.dropped += 1,
        }
    }
    o
}

/// A queue whose updates saw 15, 31, ... 159 ms: p' = 3.2 x 0.159 + 0.16 x (0.870 - 0.150) = 0.624, p_C = 0.389376.
fn saturated() -> (DualQ<u32>, Instant) {
    let mut q = dualq();
    q.enqueue(0, meta(Ecn::Ect0, FULL), ms(1)).unwrap();
    q.advance(ms(160));
    assert!((q.snapshot(ms(160)).p.base - 0.624).abs() < 1e-9);
    let _ = q.dequeue(ms(160));
    (q, ms(160))
}

/// Eq. (1) and §2.4: Not-ECT in C is dropped with p_C = p'^2, ECT(0) is marked with it, to within one packet.
#[test]
fn classic_signals_with_the_square() {
    for (ecn, is_drop) in [(Ecn::NotEct, true), (Ecn::Ect0, false)] {
        let mut q = dualq();
        let mut now = ms(0);
        // A standing queue of 30 ms: p' after n updates is known from the controller's own definition.
        for n in 0..40u64 {
            fill(&mut q, ecn, 4, ms(16 * n));
            now = ms(16 * (n + 1));
            q.advance(now);
            for _ in 0..if n == 0 { 0 } else { 4 } {
                let _ = q.dequeue(now);
            }
        }
        let p = q.snapshot(now).p;
        fill(&mut q, ecn, 700, now);
        let o = drain_at(&mut q, now, 690);
        let expected = p.classic * 690.0;
        let (hits, other) = if is_drop { (o.dropped, o.marked) } else { (o.marked, o.dropped) };
        assert!(p.base > 0.05 && p.base < 0.5, "{p:?}");
        assert!((f64::from(hits) - expected).abs() <= 1.0, "{hits} of 690 at {p:?}");
        assert_eq!(other, 0);
    }
}

/// Eq. (2) and (4): ECT(1) that found no L delay is marked with p_CL = k p' alone.
#[test]
fn l_packets_are_marked_with_the_coupled_probability() {
    let (mut q, now) = at_p_0_11392();
    let p = 0.11392;
    fill(&mut q, Ecn::Ect1, 400, now);
    let o = drain_at(&mut q, now, 390);
    let l = q.snapshot(now).queues[Service::L4s.index()];
    assert_eq!(o.dropped, 0);
    assert!((f64::from(o.marked) - 390.0 * 2.0 * p).abs() <= 4.0, "{} marks at p' = {p}", o.marked);
    assert_eq!(l.marked[MarkCause::Native as usize], 0, "no sojourn, no native mark");
    assert_eq!(l.marked[MarkCause::Coupled as usize], u64::from(o.marked));
}

/// Appendix A figures 5 and 7: p_L = max(p'_L, p_CL); with p' = 0 the ramp alone decides, at its middle every second.
#[test]
fn the_native_ramp_marks_without_any_classic_traffic() {
    let mut q = dualq();
    fill(&mut q, Ecn::Ect1, 101, us(1000));
    let o = drain_at(&mut q, us(2000), 101);
    assert_eq!((o.marked, o.forwarded), (50, 51), "1.0 ms is half way up; TH_LEN spares the first");
    let mut q = dualq();
    fill(&mut q, Ecn::Ect1, 11, us(1000));
    assert_eq!(drain_at(&mut q, us(1000 + 1200), 11).marked, 10, "certain from 1.2 ms");
    let mut q = dualq();
    fill(&mut q, Ecn::Ect1, 11, us(1000));
    assert_eq!(drain_at(&mut q, us(1000 + 800), 11).marked, 0, "nothing at 0.8 ms");
}

/// Appendix A, TH_LEN: a packet that was alone in L is not marked natively, however slow the link.
#[test]
fn a_lone_l_packet_is_never_marked_natively() {
    let mut q = dualq();
    for n in 0..100u64 {
        q.enqueue(0, meta(Ecn::Ect1, FULL), us(n * 5_000)).unwrap();
        assert!(matches!(q.dequeue(us(n * 5_000 + 3_000)), Some(Departure::Forward(_))));
    }
}

/// §2.5.1.1: under saturation ECN packets are dropped with p_C like others, and what is left of L is marked.
#[test]
fn overload_drops_both_ecn_types_and_marks_the_rest_of_l() {
    let (mut q, now) = saturated();
    let p = 0.389376;
    fill(&mut q, Ecn::Ect1, 400, now);
    let o = drain_at(&mut q, now, 390);
    assert!((f64::from(o.dropped) - 390.0 * p).abs() <= 1.0, "{} drops at p_C = {p}", o.dropped);
    assert_eq!((o.forwarded, o.marked), (0, 390 - o.dropped));
    let s = q.snapshot(now);
    assert_eq!(s.queues[0].dropped_for(DropCause::Overload).packets, u64::from(o.dropped));
    assert_eq!(s.queues[0].dropped_for(DropCause::Aqm).packets, 0);
    assert_eq!((s.overload.active, s.overload.episodes), (true, 1));

    let (mut q, now) = saturated();
    let p = 0.389376;
    fill(&mut q, Ecn::Ect0, 400, now);
    let o = drain_at(&mut q, now, 390);
    assert!((f64::from(o.dropped) - 390.0 * p).abs() <= 1.0);
    assert_eq!(o.marked, 0, "ECT(0) is dropped, not marked, under overload");
}

/// Appendix A figure 8: d = max(headdelay(C), headdelay(L)), so an overloaded L raises p' although C is empty.
#[test]
fn an_l_queue_alone_drives_the_base_probability() {
    let mut q = dualq();
    fill(&mut q, Ecn::Ect1, 50, ms(1));
    q.advance(ms(112));
    assert!(q.snapshot(ms(112)).p.base > 0.3);
}

/// Linux and reference §1.4: the PI2 part is off while less than two MTU wait behind the packet.
#[test]
fn nothing_is_signalled_while_less_than_two_mtu_wait() {
    let (mut q, now) = saturated();
    fill(&mut q, Ecn::NotEct, 2, now);
    for _ in 0..2 {
        assert!(matches!(q.dequeue(now), Some(Departure::Forward(_))));
    }
}

/// §2.3: the whole truth table of codepoints through the queues; CE is never un-marked nor counted as our mark.
#[test]
fn classification_and_counting_by_codepoint() {
    let (mut q, now) = saturated();
    let before = q.snapshot(now);
    for _ in 0..100 {
        for ecn in Ecn::ALL {
            q.enqueue(0, meta(ecn, FULL), now).unwrap();
        }
    }
    let (mut seen, mut marks, mut ce_forwarded) = ([[0u32; 4]; 2], 0, 0);
    for _ in 0..380 {
        let departure = q.dequeue(now).unwrap();
        match &departure {
            Departure::Mark(p) => {
                assert_eq!(p.ecn, Ecn::Ect1, "only ECT(1) is marked under overload");
                marks += 1;
            }
            Departure::Forward(p) => ce_forwarded += u64::from(p.ecn == Ecn::Ce),
            Departure::Drop(..) => {}
        }
        let (Departure::Forward(p) | Departure::Mark(p) | Departure::Drop(p, _)) = departure;
        seen[p.service.index()][p.ecn as usize] += 1;
    }
    assert!(seen[0][Ecn::Ect1 as usize] > 90 && seen[0][Ecn::Ce as usize] > 90);
    assert_eq!((seen[0][Ecn::NotEct as usize], seen[0][Ecn::Ect0 as usize]), (0, 0));
    assert_eq!((seen[1][Ecn::Ect1 as usize], seen[1][Ecn::Ce as usize]), (0, 0));
    let (before, after) = (before.queues[0], q.snapshot(now).queues[0]);
    assert_eq!(after.marked_total() - before.marked_total(), marks, "CE that arrived as CE is not our mark");
    let dropped = after.dropped_total().packets - before.dropped_total().packets;
    assert_eq!(marks + ce_forwarded + dropped, u64::from(seen[0].iter().sum::<u32>()));
    assert!(marks > 0 && ce_forwarded + dropped >= 90);
}

/// RFC 9956 with the operator's consent: NQB rides in L and is dropped with p_C, never marked.
#[test]
fn nqb_in_l_is_dropped_with_the_classic_probability() {
    let mut q: DualQ<u32> = DualQ::new(&DualQParams { nqb: true, ..DualQParams::rfc9332(limit()) });
    q.enqueue(0, meta(Ecn::Ect0, FULL), ms(13)).unwrap();
    q.advance(ms(48));
    let now = ms(48);
    let p = q.snapshot(now).p;
    for i in 0..400 {
        q.enqueue(i, PacketMeta { nqb: true, ..meta(Ecn::NotEct, FULL) }, now).unwrap();
    }
    let mut dropped = 0;
    for _ in 0..390 {
        match q.dequeue(now).unwrap() {
            Departure::Drop(p, _) => dropped += u32::from(p.service == Service::L4s),
            Departure::Forward(_) => {}
            Departure::Mark(_) => panic!("NQB is not ECN-capable"),
        }
    }
    assert!((f64::from(dropped) - 390.0 * p.classic).abs() <= 1.0, "{dropped} at {p:?}");
}

/// §2.2, §4.2.1: with both queues always backlogged, nine L packets to one C.
#[test]
fn weighted_round_robin_is_nine_to_one() {
    let mut q = dualq();
    fill(&mut q, Ecn::Ect1, 300, ms(1));
    fill(&mut q, Ecn::Ect0, 300, ms(1));
    let mut order = String::new();
    for _ in 0..100 {
        let (Departure::Forward(p) | Departure::Mark(p) | Departure::Drop(p, _)) = q.dequeue(ms(1)).unwrap();
        order.push(if p.service == Service::L4s { 'L' } else { 'C' });
    }
    assert_eq!(order, "LLLLLLLLLC".repeat(10));
}

/// Appendix A figure 3: refused if what waits and one MTU exceed the limit, whatever the size of the packet.
#[test]
fn the_limit_leaves_room_for_one_mtu() {
    let limit = Limit { bytes: 10_000, packets: 1000 };
    let mut q: DualQ<u32> = DualQ::new(&DualQParams { limit, ..DualQParams::rfc9332(limit) });
    let mut taken = 0;
    while q.enqueue(taken, meta(if taken % 2 == 0 { Ecn::Ect1 } else { Ecn::Ect0 }, 100), ms(1)).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 85, "84 x 100 + 1514 <= 10000 still takes one more");
    assert_eq!(q.snapshot(ms(1)).queues[1].dropped_for(DropCause::Tail).packets, 1);
    let limit = Limit { bytes: 1 << 40, packets: 7 };
    let mut q: DualQ<u32> = DualQ::new(&DualQParams { limit, ..DualQParams::rfc9332(limit) });
    assert_eq!((0..20).filter(|&i| q.enqueue(i, meta(Ecn::Ect0, 60), ms(1)).is_ok()).count(), 7);
}

/// Linux bug "drain both C-queue and L-queue in dualpi2_change()": a limit lowered over packets in L holds at once.
#[test]
fn lowering_the_limit_refuses_but_keeps_what_waits() {
    let mut q = dualq();
    fill(&mut q, Ecn::Ect1, 100, ms(1));
    q.set_limit_bytes(50 * u64::from(MTU_BYTES));
    assert!(q.enqueue(0, meta(Ecn::Ect0, FULL), ms(1)).is_err());
    for _ in 0..60 {
        assert!(q.dequeue(ms(1)).is_some());
    }
    assert!(q.enqueue(0, meta(Ecn::Ect0, FULL), ms(1)).is_ok());
}

/// Non-IP frames are exempt from the AQM in overload, and subject to the hard limit only.
#[test]
fn non_ip_frames_are_dropped_by_a_full_buffer_only() {
    let (mut q, now) = saturated();
    for i in 0..200 {
        q.enqueue(i, PacketMeta { ip: false, ..meta(Ecn::NotEct, FULL) }, now).unwrap();
    }
    for _ in 0..200 {
        assert!(matches!(q.dequeue(now), Some(Departure::Forward(p)) if p.service == Service::Classic));
    }
}

fn conserved(s: &Snapshot) -> bool {
    Service::BOTH.iter().all(|q| {
        let c = s.queue(*q);
        let (d, b) = (c.dropped_total(), s.backlog[q.index()]);
        c.arrived.packets == c.forwarded.packets + d.packets + u64::from(b.packets)
            && c.arrived.bytes == c.forwarded.bytes + d.bytes + b.bytes
    })
}

#[derive(Clone, Debug)]
enum Op {
    Enqueue { ecn: u8, len: u16, nqb: bool, ip: bool },
    Dequeue,
    Wait { us: u64 },
    Limit { bytes: u64 },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(
        prop_oneof![
            6 => (0u8..4, 60u16..1515, any::<bool>(), prop::bool::weighted(0.95))
                .prop_map(|(ecn, len, nqb, ip)| Op::Enqueue { ecn, len, nqb, ip }),
            5 => Just(Op::Dequeue),
            2 => (0u64..60_000).prop_map(|us| Op::Wait { us }),
            1 => (50_000u64..2_000_000).prop_map(|bytes| Op::Limit { bytes }),
        ],
        1..400,
    )
}

proptest! {
    /// Whatever happens: arrived = forwarded + dropped + queued in packets and bytes, each queue is FIFO, no handle is
    /// lost or doubled, and probabilities stay in 0..=1.
    #[test]
    fn conservation_order_and_range(ops in ops(), nqb in any::<bool>(), shifted in any::<bool>()) {
        let schedule = if shifted {
            ScheduleParams::TimeShiftedFifo { shift: Span::from_millis(50) }
        } else {
            ScheduleParams::Wrr { classic_percent: 10 }
        };
        let limit = Limit { bytes: 400_000, packets: 300 };
        let mut q: DualQ<u32> = DualQ::new(&DualQParams { nqb, schedule, ..DualQParams::rfc9332(limit) });
        let (mut now, mut next, mut outside) = (ms(1), 0u32, 0u32);
        let mut last = [None::<u32>; 2];
        for op in ops {
            match op {
                Op::Enqueue { ecn, len, nqb, ip } => {
                    let m = PacketMeta { len, ecn: Ecn::from_bits(ecn), nqb, ip, flow: 0 };
                    if let Err(handle) = q.enqueue(next, m, now) {
                        prop_assert_eq!(handle, next);
                        outside += 1;
                    }
                    next += 1;
                }
                Op::Dequeue => {
                    if let Some(d) = q.dequeue(now) {
                        let (Departure::Forward(p) | Departure::Mark(p) | Departure::Drop(p, _)) = d;
                        let service = p.service.index();
                        prop_assert!(last[service].is_none_or(|l| l < p.handle), "FIFO within a queue");
                        last[service] = Some(p.handle);
                        outside += 1;
                    }
                }
                Op::Wait { us } => now += Span::from_micros(us),
                Op::Limit { bytes } => q.set_limit_bytes(bytes),
            }
            let s = q.snapshot(now);
            prop_assert!(conserved(&s), "{s:?}");
            prop_assert_eq!(outside + s.backlog[0].packets + s.backlog[1].packets, next);
            for p in [s.p.base, s.p.coupled, s.p.classic] {
                prop_assert!((0.0..=1.0).contains(&p));
            }
        }
    }
}
