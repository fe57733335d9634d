//! One trial: a load for a while, then silence until all that will come has come (RFC 2544 §23).

use std::sync::atomic::{AtomicBool, Ordering};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::sink::Seen;
use super::{FCS, GAP, Generator, Offer, mix};
use crate::port::{Originate, PortError};
use crate::runtime::clock::Clock;
use crate::time::Span;
use crate::wire::Ecn;

/// What is offered, and for how long.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Plan {
    /// The load.
    pub offer: Offer,
    /// How long it is sent.
    pub duration: Span,
}

/// A trial is over when nothing has come for so long,
const SILENCE: Span = Span::from_millis(500);
/// or at the latest so long after the last frame was sent.
const DRAIN: Span = Span::from_secs(5);

/// Percentiles of one-way delay in microseconds, from the generator's giving the frame to its port to the sink's
/// getting it, both rings and the generator's own batches included. Absent if nothing arrived.
#[derive(Copy, Clone, Debug, Default, PartialEq, Serialize)]
pub struct DelayResult {
    /// Mean.
    pub mean: Option<f64>,
    /// Median.
    pub p50: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// 99.9th percentile.
    pub p999: Option<f64>,
    /// Longest.
    pub max: Option<f64>,
}

/// Frames of one codepoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CodepointResult {
    /// `not_ect`, `ect1`, `ect0` or `ce`, as sent.
    pub codepoint: &'static str,
    /// Frames that the port took.
    pub sent: u64,
    /// Their bytes without FCS.
    pub sent_bytes: u64,
    /// Frames that arrived.
    pub received: u64,
    /// Their bytes without FCS.
    pub received_bytes: u64,
    /// Frames sent and not received.
    pub lost: u64,
    /// ECT that arrived as CE.
    pub marked: u64,
    /// Frames that arrived with a codepoint that no AQM gives them.
    pub altered: u64,
    /// Their delay.
    pub delay_us: DelayResult,
}

/// What a trial found. `sent` = `received` + `lost`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrialResult {
    /// Mean size of a frame with FCS.
    pub frame_bytes: f64,
    /// The load as it was asked for.
    pub offer: String,
    /// How long it was sent, seconds.
    pub duration_s: f64,
    /// Frames that left.
    pub sent: u64,
    /// Frames a second.
    pub sent_pps: f64,
    /// Mbit/s without FCS.
    pub sent_mbps: f64,
    /// Mbit/s with FCS, preamble and gap: what would fill a wire.
    pub wire_mbps: f64,
    /// Share of the load that was due and not sent, 0..=1: the generator, or its port, was too slow.
    pub given_up: f64,
    /// Frames that the port took and then could not send; not in `sent`.
    pub refused: u64,
    /// Frames that arrived.
    pub received: u64,
    /// Frames a second of the time of sending.
    pub received_pps: f64,
    /// Frames sent and not received.
    pub lost: u64,
    /// Their share of `sent`, 0..=1.
    pub loss: f64,
    /// Of the lost, those that the sink's own port dropped.
    pub sink_dropped: u64,
    /// ECT that arrived as CE.
    pub marked: u64,
    /// Frames that arrived with a codepoint that no AQM gives them.
    pub altered: u64,
    /// Frames that arrived behind a later one of their codepoint and IP version, or a second time.
    pub reordered: u64,
    /// IPv4 frames that arrived with a wrong header checksum.
    pub damaged: u64,
    /// Frames of an earlier trial.
    pub late: u64,
    /// Frames that are not the generator's.
    pub foreign: u64,
    /// Delay of all frames.
    pub delay_us: DelayResult,
    /// By codepoint, those that were sent.
    pub codepoints: Vec<CodepointResult>,
}

#[cfg(test)]
impl TrialResult {
    /// A trial in which nothing happened.
    pub(super) fn empty() -> Self {
        Self {
            frame_bytes: 64.0,
            offer: String::new(),
            duration_s: 1.0,
            sent: 0,
            sent_pps: 0.0,
            sent_mbps: 0.0,
            wire_mbps: 0.0,
            given_up: 0.0,
            refused: 0,
            received: 0,
            received_pps: 0.0,
            lost: 0,
            loss: 0.0,
            sink_dropped: 0,
            marked: 0,
            altered: 0,
            reordered: 0,
            damaged: 0,
            late: 0,
            foreign: 0,
            delay_us: DelayResult::default(),
            codepoints: Vec::new(),
        }
    }
}

/// Runs a trial of frames whose mean size is `frame_bytes`. Ends early if `stop` is set.
pub fn run<P: Originate, C: Clock>(
    generator: &mut Generator<P>,
    clock: &C,
    plan: Plan,
    frame_bytes: f64,
    stop: &AtomicBool,
) -> Result<TrialResult, PortError> {
    let start = clock.now();
    let end = start + plan.duration;
    generator.restart(plan.offer, start);
    let mut now = start;
    while now < end && !stop.load(Ordering::Relaxed) {
        if generator.breath(clock, true)? == 0 {
            generator.rest(clock.now(), true)?;
        }
        now = clock.now();
    }
    let duration = now.since(start);
    let last = now + DRAIN;
    let mut silent = now;
    while now < last && now.since(silent) < SILENCE && !stop.load(Ordering::Relaxed) {
        let tally = generator.tally();
        if tally.total(|seen| seen.received) + generator.refused() >= tally.total(|seen| seen.sent) {
            break;
        }
        if generator.breath(clock, false)? == 0 {
            generator.rest(now, false)?;
        } else {
            silent = now;
        }
        now = clock.now();
    }
    Ok(result(generator, plan, duration, frame_bytes))
}

fn result<P: Originate>(g: &Generator<P>, plan: Plan, duration: Span, frame_bytes: f64) -> TrialResult {
    let tally = g.tally();
    let seconds = duration.as_secs_f64();
    let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
    let refused = g.refused();
    let sent = tally.total(|seen| seen.sent) - refused;
    let sent_mbps = rate(tally.total(|seen| seen.sent_bytes)) * 8.0 / 1e6;
    let received = tally.total(|seen| seen.received);
    let lost = sent.saturating_sub(received);
    let mut all = tally.of(Ecn::NotEct).delays.clone();
    for ecn in [Ecn::Ect1, Ecn::Ect0, Ecn::Ce] {
        all.add(&tally.of(ecn).delays).expect("all delay histograms have the same bounds");
    }
    TrialResult {
        frame_bytes,
        offer: plan.offer.to_string(),
        duration_s: seconds,
        sent,
        sent_pps: rate(sent),
        sent_mbps,
        wire_mbps: sent_mbps + rate(sent) * (FCS + GAP) as f64 * 8.0 / 1e6,
        given_up: g.given_up(),
        refused,
        received,
        received_pps: rate(received),
        lost,
        loss: if sent == 0 { 0.0 } else { lost as f64 / sent as f64 },
        sink_dropped: g.sink_dropped(),
        marked: tally.total(|seen| seen.marked),
        altered: tally.total(|seen| seen.altered),
        reordered: tally.reordered,
        damaged: tally.damaged,
        late: tally.late,
        foreign: tally.foreign,
        delay_us: delay(&all),
        codepoints: Ecn::ALL
            .into_iter()
            .filter(|&e| tally.of(e).sent > 0)
            .map(|e| codepoint(e, tally.of(e)))
            .collect(),
    }
}

fn codepoint(ecn: Ecn, seen: &Seen) -> CodepointResult {
    CodepointResult {
        codepoint: mix::name(ecn),
        sent: seen.sent,
        sent_bytes: seen.sent_bytes,
        received: seen.received,
        received_bytes: seen.received_bytes,
        lost: seen.sent.saturating_sub(seen.received),
        marked: seen.marked,
        altered: seen.altered,
        delay_us: delay(&seen.delays),
    }
}

fn delay(h: &Histogram<u64>) -> DelayResult {
    if h.is_empty() {
        return DelayResult::default();
    }
    let at = |quantile| Some(h.value_at_quantile(quantile) as f64 / 1e3);
    DelayResult {
        mean: Some(h.mean() / 1e3),
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        max: Some(h.max() as f64 / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::search::{self, Limits};
    use crate::load::{Loopback, Mix, Source, parse_sizes};
    use crate::port::{PortPair, Side};
    use crate::time::Instant;
    use crate::wire::set_ce;
    use std::cell::Cell;

    /// Time that passes only by being looked at, a microsecond a look.
    #[derive(Default)]
    struct Looked(Cell<u64>);

    impl Clock for Looked {
        fn now(&self) -> Instant {
            self.0.set(self.0.get() + 1_000);
            Instant::from_nanos(self.0.get())
        }

        fn sleep(&self, _span: Span) {}
    }

    fn generator<D: FnMut(&mut [u8], Instant) -> bool>(
        sizes: &str,
        ecn: &str,
        device: D,
    ) -> (Generator<Loopback<D>>, f64) {
        let mix =
            Mix::new(parse_sizes(sizes).unwrap(), ecn.parse().unwrap(), "4".parse().unwrap(), 4).unwrap();
        (Generator::new(Loopback::new(device), Source::new(&mix, 1)), mix.mean_size())
    }

    fn plan(offer: &str, ms: u64) -> Plan {
        Plan { offer: offer.parse().unwrap(), duration: Span::from_millis(ms) }
    }

    static GO: AtomicBool = AtomicBool::new(false);

    /// A device that drops every 10th and marks every 4th of the rest: 1000 frames a second for a second are 1000 sent,
    /// 900 received, and 225 of them marked if all are ECT(1).
    #[test]
    fn sent_is_received_and_lost_and_marks_are_seen() {
        let mut n = 0;
        let (mut g, size) = generator("64", "ect1", |frame: &mut [u8], _| {
            n += 1;
            n % 10 != 0 && {
                let passed = n - n / 10;
                passed % 4 != 0 || set_ce(frame)
            }
        });
        let t = run(&mut g, &Looked::default(), plan("1kpps", 1000), size, &GO).unwrap();
        assert_eq!((t.sent, t.received, t.lost, t.marked), (1000, 900, 100, 225));
        assert!((t.loss - 0.1).abs() < 1e-12 && (t.sent_pps - 1000.0).abs() < 0.1, "{t:?}");
        assert_eq!(t.sent_mbps, t.sent_pps * 60.0 * 8.0 / 1e6);
        // 64 bytes with FCS take 84 on the wire.
        assert!((t.wire_mbps - t.sent_pps * 84.0 * 8.0 / 1e6).abs() < 1e-9);
        assert_eq!((t.altered, t.damaged, t.reordered, t.foreign, t.late), (0, 0, 0, 0, 0));
        assert_eq!((t.given_up, t.refused, t.sink_dropped), (0.0, 0, 0));
        assert_eq!(g.port().counters(Side::Left).tx_frames, 1000);
    }

    /// 12.144 Mbit/s in frames of 1518 with FCS (1514 without) are 1002.6 frames a second.
    #[test]
    fn a_bit_rate_counts_frames_without_fcs() {
        let (mut g, size) = generator("1518", "ect1,not_ect", |_: &mut [u8], _| true);
        let t = run(&mut g, &Looked::default(), plan("12.144Mbit", 1000), size, &GO).unwrap();
        assert_eq!(t.sent, 1003);
        assert_eq!(t.codepoints.len(), 2);
        for c in &t.codepoints {
            assert!(c.sent.abs_diff(501) <= 1 && c.received_bytes == c.sent_bytes, "{c:?}");
        }
    }

    #[test]
    fn a_trial_that_is_told_to_stop_ends_and_still_reports() {
        let (mut g, size) = generator("64", "ect1", |_: &mut [u8], _| true);
        let t = run(&mut g, &Looked::default(), plan("line", 1000), size, &AtomicBool::new(true)).unwrap();
        assert_eq!((t.sent, t.loss, t.delay_us.p50), (0, 0.0, None));
    }

    /// A device that passes 50,000 frames a second, with room for 10: the search finds it to one percent.
    #[test]
    fn the_search_finds_the_capacity_of_a_device() {
        let (mut empty_at, service) = (0_u64, 20_000_u64);
        let (mut g, size) = generator("64", "ect1", move |_: &mut [u8], now: Instant| {
            let now = now.as_nanos();
            if empty_at.saturating_sub(now) >= 10 * service {
                return false;
            }
            empty_at = empty_at.max(now) + service;
            true
        });
        let clock = Looked::default();
        let limits = Limits { loss: 0.0, resolution: 0.01 };
        let found = search::ndr(limits, |offer| {
            let plan = Plan { offer, duration: Span::from_millis(200) };
            run(&mut g, &clock, plan, size, &GO)
        })
        .unwrap();
        let rate = found.ndr_pps.unwrap();
        assert!((49_000.0..=50_600.0).contains(&rate), "{rate}: {:#?}", found.steps);
        assert!(!found.generator_limited);
    }
}
