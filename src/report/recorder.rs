//! Turns telemetry windows and delay histograms of one direction into a [`RunResult`] and a 100 ms series.
//!
//! Counters in windows are cumulative, so every figure is a difference of two windows, and a lost window loses
//! resolution and nothing else.

use std::collections::VecDeque;

use super::result::{Counters, DelayResult, LinkResult, PerQueue, QueueResult, RunResult};
use crate::aqm::Service;
use crate::aqm::stats::{Probabilities, QueueStats};
use crate::telemetry::delays::DelayHistograms;
use crate::telemetry::{Direction, TelemetryWindow};
use crate::time::{Instant, Span};

/// Length of a bin of the series.
pub const BIN: Span = Span::from_millis(100);
/// Bins that are kept: one hour. A longer run keeps its last hour.
pub const BINS_KEPT: usize = 36_000;

/// What is known about a run before it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSetup {
    /// Name of the scenario; `None` for a live run.
    pub scenario: Option<String>,
    /// Discipline or controller.
    pub policy: String,
    /// Seed, if anything is random.
    pub seed: Option<u64>,
    /// Which way the packets go.
    pub direction: Direction,
    /// When the egress was made; its counters were zero then.
    pub start: Instant,
    /// Measured from `start`; the first window that ends at or after its end is the base of the figures.
    pub warmup: Span,
    /// Measured from `start`; `None` if the run ends when someone ends it. The first window that ends there or later is
    /// the last that counts; what comes after it counts in totals only.
    pub duration: Option<Span>,
}

/// A bin of the series: what happened between its first and its last window.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Bin {
    /// Start of the bin in seconds since the start of the run, a multiple of 0.1.
    pub t_s: f64,
    /// Mean capacity in Mbit/s.
    pub rate_mbps: f64,
    /// Queues by [`Service::index`].
    pub queues: [QueueBin; 2],
    /// Probabilities, mean over time.
    pub p: Probabilities,
    /// The DualQ was saturated at the end of the bin.
    pub overload_active: bool,
    /// Overload episodes that have begun since the start of the run.
    pub overload_episodes: u64,
}

/// A queue in a bin.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct QueueBin {
    /// Forwarded, in Mbit/s.
    pub mbps: f64,
    /// Mean queue delay of forwarded packets; `None` if there were none.
    pub delay_ms: Option<f64>,
    /// Longest of these delays.
    pub delay_max_ms: Option<f64>,
    /// Packets changed to CE.
    pub marked: u64,
    /// Packets dropped, whatever the cause.
    pub dropped: u64,
    /// Bytes waiting at the end of the bin.
    pub backlog_bytes: u64,
    /// Packets forwarded.
    pub packets: u64,
}

/// Everything that a run left behind for one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectionReport {
    /// Figures.
    pub result: RunResult,
    /// The series, oldest first; bins without a window are absent.
    pub bins: Vec<Bin>,
    /// Set if arrived = forwarded + dropped + queued does not hold over the whole run: which queue, and by how much.
    pub conservation_error: Option<String>,
}

/// Cumulative readings at one moment.
#[derive(Copy, Clone, Debug)]
struct Reading {
    at: Instant,
    capacity_bits: u64,
    window: Option<TelemetryWindow>,
}

impl Reading {
    fn of(w: &TelemetryWindow) -> Self {
        Self { at: w.end, capacity_bits: w.capacity_bits, window: Some(*w) }
    }

    fn queue(&self, service: Service) -> QueueStats {
        self.window.map_or_else(QueueStats::default, |w| *w.egress.queue(service))
    }
}

/// The bin that is being filled.
#[derive(Copy, Clone, Debug, Default)]
struct Filling {
    index: u64,
    max: [Span; 2],
    p_time: Probabilities,
    time_s: f64,
}

/// Records one direction of a run.
#[derive(Debug)]
pub struct DirectionRecorder {
    setup: RunSetup,
    origin: Reading,
    base: Option<Reading>,
    end: Option<Reading>,
    last: Option<Reading>,
    bin_base: Reading,
    filling: Option<Filling>,
    bins: VecDeque<Bin>,
    window_max: [Span; 2],
    delays: DelayHistograms,
}

impl DirectionRecorder {
    /// A recorder that has seen nothing.
    pub fn new(setup: RunSetup) -> Self {
        let origin = Reading { at: setup.start, capacity_bits: 0, window: None };
        Self {
            base: setup.warmup.eq(&Span::ZERO).then_some(origin),
            setup,
            origin,
            end: None,
            last: None,
            bin_base: origin,
            filling: None,
            bins: VecDeque::new(),
            window_max: [Span::ZERO; 2],
            delays: DelayHistograms::new(true),
        }
    }

    /// The policy has other constants, and with them another name, from now on: the result has the last one.
    pub fn set_policy(&mut self, policy: String) {
        self.setup.policy = policy;
    }

    /// Takes the next window. Windows come in the order of their ends.
    pub fn window(&mut self, w: &TelemetryWindow) {
        self.fill(w);
        let reading = Reading::of(w);
        self.last = Some(reading);
        let over = |r: Reading| self.setup.duration.is_some_and(|d| r.at >= self.setup.start + d);
        if self.end.is_some_and(over) {
            return;
        }
        if self.base.is_none() {
            if w.end >= self.setup.start + self.setup.warmup {
                self.base = Some(reading);
            }
        } else {
            for service in Service::BOTH {
                let max = &mut self.window_max[service.index()];
                *max = (*max).max(w.egress.queue(service).delay_max);
            }
            self.end = Some(reading);
        }
    }

    /// Takes the delays since the last hand-over. Only measured ones count.
    pub fn delays(&mut self, delays: &DelayHistograms) {
        if delays.measured {
            self.delays.merge(delays);
        }
    }

    /// The bins that are complete, oldest first.
    pub fn bins(&self) -> impl DoubleEndedIterator<Item = &Bin> {
        self.bins.iter()
    }

    /// Ends the recording.
    pub fn finish(mut self) -> DirectionReport {
        self.close_bin();
        let base = self.base.unwrap_or(self.origin);
        let end = self.end.unwrap_or(base);
        let last = self.last.unwrap_or(self.origin);
        let between = |from: &Reading, to: &Reading| {
            let one = |s: Service| {
                let backlog = to.window.map_or_else(Default::default, |w| w.egress.backlog[s.index()]);
                Counters::between(&from.queue(s), &to.queue(s), backlog)
            };
            let (l, c) = (one(Service::L4s), one(Service::Classic));
            PerQueue { l, c, all: l.plus(c) }
        };
        let (counters, totals) = (between(&base, &end), between(&self.origin, &last));
        let delay = self.delay_results(&base, &end);
        let capacity = end.capacity_bits.saturating_sub(base.capacity_bits) as f64;
        let window_s = seconds(end.at.since(base.at));
        let result = RunResult {
            scenario: self.setup.scenario,
            policy: self.setup.policy,
            seed: self.setup.seed,
            direction: self.setup.direction.label().to_owned(),
            duration_s: seconds(self.end.map_or(last.at, |e| e.at).since(self.setup.start)),
            warmup_s: seconds(self.setup.warmup),
            link: LinkResult {
                rate_mbps: ratio(capacity / 1e6, window_s),
                utilization: ratio(counters.all.bytes as f64 * 8.0, capacity),
            },
            queues: PerQueue {
                l: QueueResult { delay_ms: delay.l, counters: counters.l },
                c: QueueResult { delay_ms: delay.c, counters: counters.c },
                all: QueueResult { delay_ms: delay.all, counters: counters.all },
            },
            totals,
            ..RunResult::default()
        };
        DirectionReport { conservation_error: conservation(&totals), result, bins: self.bins.into() }
    }

    fn delay_results(&self, base: &Reading, end: &Reading) -> PerQueue<DelayResult> {
        let [l, c] = &self.delays.queues;
        let mut all = l.clone();
        all.add(c).expect("all delay histograms have the same bounds");
        let [(l_sum, l_packets), (c_sum, c_packets)] = Service::BOTH.map(|s| {
            let (from, to) = (base.queue(s), end.queue(s));
            (
                to.delay_sum_ns.saturating_sub(from.delay_sum_ns),
                to.forwarded.packets.saturating_sub(from.forwarded.packets),
            )
        });
        let [l_max, c_max] = self.window_max;
        PerQueue {
            l: delay_result(l, l_sum, l_packets, l_max),
            c: delay_result(c, c_sum, c_packets, c_max),
            all: delay_result(&all, l_sum + c_sum, l_packets + c_packets, l_max.max(c_max)),
        }
    }

    /// Adds a window to the bin that its end falls in; a window that ends on an edge belongs to the earlier bin.
    fn fill(&mut self, w: &TelemetryWindow) {
        let since = w.end.since(self.setup.start).as_nanos();
        let index = since.saturating_sub(1) / BIN.as_nanos();
        if self.filling.is_some_and(|f| f.index != index) {
            self.close_bin();
        }
        let filling = self.filling.get_or_insert(Filling { index, ..Filling::default() });
        for service in Service::BOTH {
            let max = &mut filling.max[service.index()];
            *max = (*max).max(w.egress.queue(service).delay_max);
        }
        let (dt, p) = (w.span.as_secs_f64(), w.egress.p);
        filling.p_time.base += p.base * dt;
        filling.p_time.coupled += p.coupled * dt;
        filling.p_time.classic += p.classic * dt;
        filling.time_s += dt;
    }

    fn close_bin(&mut self) {
        let (Some(filling), Some(last)) = (self.filling.take(), self.last) else { return };
        let Some(w) = last.window else { return };
        let base = std::mem::replace(&mut self.bin_base, last);
        let seconds = last.at.since(base.at).as_secs_f64();
        let per_second = |amount: f64| ratio(amount, seconds).unwrap_or(0.0);
        let queues = Service::BOTH.map(|s| {
            let (from, to) = (base.queue(s), last.queue(s));
            let counted = Counters::between(&from, &to, w.egress.backlog[s.index()]);
            let sum = to.delay_sum_ns.saturating_sub(from.delay_sum_ns) as f64;
            QueueBin {
                mbps: per_second(counted.bytes as f64 * 8e-6),
                delay_ms: ratio(sum * 1e-6, counted.packets as f64),
                delay_max_ms: (counted.packets > 0).then(|| filling.max[s.index()].as_millis_f64()),
                marked: counted.marked,
                dropped: counted.dropped.total(),
                backlog_bytes: w.egress.backlog[s.index()].bytes,
                packets: counted.packets,
            }
        });
        let mean = |p_time| ratio(p_time, filling.time_s).unwrap_or(0.0);
        if self.bins.len() == BINS_KEPT {
            self.bins.pop_front();
        }
        self.bins.push_back(Bin {
            t_s: filling.index as f64 / 10.0,
            rate_mbps: per_second(last.capacity_bits.saturating_sub(base.capacity_bits) as f64 * 1e-6),
            queues,
            p: Probabilities {
                base: mean(filling.p_time.base),
                coupled: mean(filling.p_time.coupled),
                classic: mean(filling.p_time.classic),
            },
            overload_active: w.egress.overload.active,
            overload_episodes: w.egress.overload.episodes,
        });
    }
}

/// By division, which gives 0.3 where a multiplication gives 0.30000000000000004.
fn seconds(span: Span) -> f64 {
    span.as_nanos() as f64 / 1e9
}

/// `a / b`, or `None` where that is no number.
fn ratio(a: f64, b: f64) -> Option<f64> {
    (b > 0.0).then_some(a / b)
}

fn delay_result(
    h: &hdrhistogram::Histogram<u64>,
    sum_ns: u64,
    packets: u64,
    window_max: Span,
) -> DelayResult {
    const NS_PER_MS: f64 = 1e6;
    // The maximum over windows is exact, but a lost window takes its maximum with it; the histogram does not.
    let max = window_max.as_nanos().max(h.lowest_equivalent(h.max()));
    let total = h.len();
    let rank = |per_mille: u64| {
        let rank = (u128::from(total) * u128::from(per_mille)).div_ceil(1000) as f64;
        let value = h.value_at_quantile((rank - 0.5) / total as f64);
        (total > 0).then_some(value.min(max) as f64 / NS_PER_MS)
    };
    DelayResult {
        mean: ratio(sum_ns as f64 / NS_PER_MS, packets as f64),
        p50: rank(500),
        p99: rank(990),
        p999: rank(999),
        max: (packets > 0).then_some(max as f64 / NS_PER_MS),
    }
}

fn conservation(totals: &PerQueue<Counters>) -> Option<String> {
    let wrong: Vec<_> = [("l", totals.l), ("c", totals.c)]
        .into_iter()
        .filter(|(_, counters)| counters.accounted() != counters.arrived)
        .map(|(queue, counters)| {
            format!(
                "queue {queue}: {} arrived, but {} forwarded, {} dropped and {} queued make {}",
                counters.arrived,
                counters.packets,
                counters.dropped.total(),
                counters.queued_end,
                counters.accounted()
            )
        })
        .collect();
    (!wrong.is_empty()).then(|| wrong.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aqm::stats::{Backlog, DropCause, MarkCause, Tally};
    use crate::units::BitRate;

    fn setup(warmup: Span, duration: Option<Span>) -> RunSetup {
        RunSetup {
            scenario: None,
            policy: "dualpi2".into(),
            seed: None,
            direction: Direction::LeftToRight,
            start: Instant::from_millis(1000),
            warmup,
            duration,
        }
    }

    /// A window that ends `end_ms` after the start at a constant 8 Mbit/s, with these cumulative packets per queue.
    fn window(id: u64, end_ms: u64, l: u64, c: u64) -> TelemetryWindow {
        let mut w = TelemetryWindow {
            id,
            end: Instant::from_millis(1000 + end_ms),
            span: Span::from_millis(50),
            rate: BitRate::from_mbps(8),
            capacity_bits: end_ms * 8_000,
            egress: crate::aqm::stats::Snapshot::default(),
            arrivals: crate::telemetry::arrivals::ArrivalStats::default(),
        };
        for (service, packets, delay_ns) in [(Service::L4s, l, 200_000), (Service::Classic, c, 15_000_000)] {
            let q = &mut w.egress.queues[service.index()];
            q.forwarded = Tally { packets, bytes: packets * 1000 };
            q.arrived = Tally { packets: packets + 1, bytes: (packets + 1) * 1000 };
            q.delay_sum_ns = packets * delay_ns;
            q.delay_max = Span::from_nanos(2 * delay_ns);
            w.egress.backlog[service.index()] = Backlog { packets: 1, bytes: 1000 };
        }
        w
    }

    fn near(a: Option<f64>, b: f64) {
        let a = a.expect("a figure");
        assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{a} is not {b}");
    }

    #[test]
    fn figures_are_differences_from_the_first_window_after_the_warm_up() {
        let mut r = DirectionRecorder::new(setup(Span::from_millis(100), Some(Span::from_millis(300))));
        for (id, (end, l, c)) in
            [(50, 10, 10), (100, 20, 25), (150, 30, 40), (200, 50, 55), (300, 70, 75), (350, 500, 500)]
                .into_iter()
                .enumerate()
        {
            let mut w = window(id as u64, end, l, c);
            let q = &mut w.egress.queues[1];
            q.marked[MarkCause::Classic as usize] = c / 5;
            q.dropped[DropCause::Aqm as usize][0] = Tally { packets: 3, bytes: 3000 };
            q.dropped[DropCause::Tail as usize][1] = Tally { packets: end / 100, bytes: 0 };
            q.dropped[DropCause::Overload as usize][1] = Tally { packets: 2, bytes: 0 };
            q.arrived.packets += 5 + end / 100;
            if end == 350 {
                q.delay_max = Span::from_secs(9);
            }
            r.window(&w);
        }
        let report = r.finish();
        assert_eq!(report.conservation_error, None);
        let r = &report.result;
        assert_eq!((r.duration_s, r.warmup_s), (0.3, 0.1));
        // 200 ms at 8 Mbit/s = 1.6 Mbit; 50 + 50 packets of 1000 bytes = 0.8 Mbit.
        near(r.link.rate_mbps, 8.0);
        near(r.link.utilization, 0.5);
        let (l, c, all) = (r.queues.l, r.queues.c, r.queues.all);
        assert_eq!((l.counters.packets, l.counters.bytes, l.counters.arrived), (50, 50_000, 50));
        assert_eq!((c.counters.packets, c.counters.arrived, c.counters.marked), (50, 52, 10));
        assert_eq!((c.counters.dropped.aqm, c.counters.dropped.overload, c.counters.dropped.tail), (0, 0, 2));
        assert_eq!((l.counters.queued_end, all.counters.queued_end), (1, 2));
        near(l.delay_ms.mean, 0.2);
        near(c.delay_ms.mean, 15.0);
        near(all.delay_ms.mean, 7.6);
        near(c.delay_ms.max, 30.0);
        near(l.delay_ms.max, 0.4);
        near(all.delay_ms.max, 30.0);
        let totals = r.totals;
        assert_eq!((totals.l.packets, totals.c.packets, totals.all.packets), (500, 500, 1000));
        assert_eq!((totals.c.dropped.aqm, totals.c.dropped.overload, totals.c.dropped.tail), (3, 2, 3));
        assert_eq!((totals.all.arrived, totals.all.accounted()), (1010, 1010));
    }

    #[test]
    fn without_warm_up_the_first_window_counts_whole() {
        let mut r = DirectionRecorder::new(setup(Span::ZERO, None));
        r.window(&window(0, 50, 10, 0));
        r.window(&window(1, 100, 20, 0));
        let r = r.finish().result;
        assert_eq!((r.queues.l.counters.packets, r.duration_s), (20, 0.1));
        near(r.link.rate_mbps, 8.0);
        near(r.link.utilization, 0.2);
        assert_eq!(r.queues.c.delay_ms, DelayResult::default(), "no packets, no delays");
    }

    #[test]
    fn percentiles_are_nearest_rank_over_measured_delays_only() {
        let mut r = DirectionRecorder::new(setup(Span::ZERO, None));
        let mut warm = DelayHistograms::new(false);
        warm.record(Service::L4s, Span::from_secs(50));
        r.delays(&warm);
        let mut h = DelayHistograms::new(true);
        for ms in 1..=300 {
            h.record(Service::Classic, Span::from_millis(ms));
        }
        for _ in 0..700 {
            h.record(Service::L4s, Span::from_micros(200));
        }
        r.delays(&h);
        let mut w = window(0, 100, 700, 300);
        w.egress.queues[1].delay_max = Span::from_millis(300);
        r.window(&w);
        let q = r.finish().result.queues;
        // Ranks of 300 values 1..=300 ms: ceil(150) = 150, ceil(297) = 297, ceil(299.7) = 300.
        for (got, ms) in [(q.c.delay_ms.p50, 150.0), (q.c.delay_ms.p99, 297.0), (q.c.delay_ms.p999, 300.0)] {
            let got = got.unwrap();
            assert!((got - ms).abs() / ms < 1e-3, "{got} is not {ms}");
        }
        near(q.c.delay_ms.max, 300.0);
        // Of all 1000: rank 500 is an L packet, 990 and 999 are the 290th and 299th C packet.
        for (got, ms) in
            [(q.all.delay_ms.p50, 0.2), (q.all.delay_ms.p99, 290.0), (q.all.delay_ms.p999, 299.0)]
        {
            let got = got.unwrap();
            assert!((got - ms).abs() / ms < 1e-3, "{got} is not {ms}");
        }
        assert!(q.l.delay_ms.p999.unwrap() < 0.201, "warm-up delays are out");
    }

    #[test]
    fn bins_are_100_ms_differences_on_the_grid_of_the_run() {
        let mut r = DirectionRecorder::new(setup(Span::ZERO, None));
        for (id, (end, l, c)) in
            [(48, 5, 0), (96, 10, 2), (150, 10, 12), (196, 10, 14), (410, 20, 14)].into_iter().enumerate()
        {
            let mut w = window(id as u64, end, l, c);
            w.egress.p.base = if end == 150 { 0.4 } else { 0.1 };
            w.span = Span::from_millis(if end == 150 { 75 } else { 25 });
            w.egress.overload.episodes = id as u64;
            r.window(&w);
        }
        assert_eq!(r.bins().count(), 2, "the third is not complete");
        let bins = r.finish().bins;
        assert_eq!(bins.iter().map(|b| b.t_s).collect::<Vec<_>>(), [0.0, 0.1, 0.4]);
        let b = &bins[1];
        // From 96 to 196 ms: 0 L and 12 C packets of 8000 bits in 100 ms.
        assert_eq!((b.queues[0].mbps, b.queues[0].delay_ms, b.queues[0].delay_max_ms), (0.0, None, None));
        near(Some(b.queues[1].mbps), 0.96);
        near(b.queues[1].delay_ms, 15.0);
        assert_eq!((b.queues[0].packets, b.queues[1].packets), (0, 12));
        near(b.queues[1].delay_max_ms, 30.0);
        near(Some(b.rate_mbps), 8.0);
        // 75 ms at .4 and 25 ms at .1.
        near(Some(b.p.base), 0.325);
        assert_eq!((b.overload_episodes, b.queues[1].backlog_bytes), (3, 1000));
        near(Some(bins[2].queues[0].mbps), 10.0 * 8000.0 / 0.214 / 1e6);
    }

    #[test]
    fn a_lost_packet_is_reported() {
        let mut r = DirectionRecorder::new(setup(Span::ZERO, None));
        let mut w = window(0, 100, 10, 10);
        w.egress.queues[0].arrived.packets += 1;
        r.window(&w);
        let error = r.finish().conservation_error.unwrap();
        assert_eq!(error, "queue l: 12 arrived, but 10 forwarded, 0 dropped and 1 queued make 11");
    }

    #[test]
    fn a_run_without_windows_is_all_null_and_zero() {
        let report = DirectionRecorder::new(setup(Span::from_secs(5), None)).finish();
        let r = report.result;
        assert_eq!((r.link.rate_mbps, r.link.utilization, r.duration_s), (None, None, 0.0));
        assert_eq!((r.queues.all, report.bins.len()), (QueueResult::default(), 0));
    }

    #[test]
    fn a_long_run_keeps_its_last_hour() {
        let mut r = DirectionRecorder::new(setup(Span::ZERO, None));
        for i in 1..=(BINS_KEPT as u64 + 20) {
            r.window(&window(i, i * 100, i, i));
        }
        let bins = r.finish().bins;
        assert_eq!((bins.len(), bins[0].t_s), (BINS_KEPT, 2.0));
    }
}
