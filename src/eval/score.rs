//! The score of a cell and its feasibility: a policy's runs of a link against the reference's runs of the same link.
//!
//! S = sqrt(dL x dC) x (`u_ref` / u), where dL and dC are (x + floor) / (ref + floor) of the mean queue delays with
//! floors of .2 ms (L) and .5 ms (C), and u is the utilisation: the inverse of Kleinrock's power (throughput over delay),
//! relative to the reference. A link with one kind of traffic has that ratio alone. Never packet-weighted: starving C
//! would win. Figures are means over the seeds of each side first, then compared.
//!
//! A discipline with a single queue reports it as `c`. Where the link carries L traffic, the delay of L traffic is that
//! of this queue, and so is the delay of C traffic where there is any: each kind of packet is compared with what the
//! reference did to it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::cell::CellInfo;
use crate::report::RunResult;
use crate::report::result::{PerQueue, PhaseResult};

/// Added to mean delays of L before they are divided, in ms.
pub const FLOOR_L_MS: f64 = 0.2;
/// Added to mean delays of C before they are divided, in ms.
pub const FLOOR_C_MS: f64 = 0.5;
/// Utilisation may be this much under the reference's.
pub const UTILIZATION_MARGIN: f64 = 0.01;
/// `|log2 ratio|` may be what the reference has, or 1 if that is more, and this much over it.
pub const RATIO_MARGIN: f64 = 0.1;
/// P99 of a queue may be so many times the reference's.
pub const P99_FACTOR: f64 = 1.1;
/// P99 of a bursty L may be this much over the reference's, in ms.
pub const P99_BURSTY_MS: f64 = 2.0;
/// P95 of the completion times of mice may be so many times the reference's.
pub const MICE_FACTOR: f64 = 1.05;
/// `|log2 ratio|` of a run in which one side got nothing, and the most that any run counts with.
pub const RATIO_CAP: f64 = 10.0;
/// Utilisation counts as at least this where it is divided by.
const LEAST_UTILIZATION: f64 = 1e-3;
/// A queue that forwards less than this share of the packets of a phase has what an earlier phase left.
const PHASE_SHARE: f64 = 0.02;
/// Bounds are compared with this much grace for rounding.
const ROUNDING: f64 = 1e-9;
/// A broken bound counts with at most so many margins in [`Verdict::excess`].
const EXCESS_CAP: f64 = 10.0;

/// Which traffic a link carries, as the reference's runs show it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Some run of the reference forwarded L packets.
    pub l: bool,
    /// Some run of the reference forwarded C packets.
    pub c: bool,
    /// Some run of some policy had a rate ratio: there are endless flows of both kinds.
    pub both_endless: bool,
}

/// The figures of a run, or the mean of several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Forwarded bits over capacity.
    pub utilization: Option<f64>,
    /// Mean queue delay by kind of traffic, in ms.
    pub mean_ms: PerQueue<Option<f64>>,
    /// P99 of queue delay by kind of traffic, in ms.
    pub p99_ms: PerQueue<Option<f64>>,
    /// `|log2|` of the rate ratio, at most [`RATIO_CAP`].
    pub abs_log2_ratio: Option<f64>,
    /// P95 of completion times of each source of mice, in ms, in the order of the flows.
    pub mice_p95_ms: Vec<Option<f64>>,
}

impl Figures {
    /// Of a run of a link with this traffic. `one_queue`: see [`has_one_queue`](super::cell::has_one_queue).
    pub fn of(run: &RunResult, traffic: Traffic, one_queue: bool) -> Self {
        let queues = &run.queues;
        let l = if one_queue { &queues.c } else { &queues.l };
        let by_kind = |pick: fn(&crate::report::result::DelayResult) -> Option<f64>| PerQueue {
            l: pick(&l.delay_ms).filter(|_| traffic.l),
            c: pick(&queues.c.delay_ms).filter(|_| traffic.c),
            all: pick(&queues.all.delay_ms),
        };
        let ratio = run.ratio_l_over_c.map_or(RATIO_CAP, |r| r.log2().abs().min(RATIO_CAP));
        Self {
            utilization: run.link.utilization,
            mean_ms: by_kind(|d| d.mean),
            p99_ms: by_kind(|d| d.p99),
            abs_log2_ratio: traffic.both_endless.then_some(ratio),
            mice_p95_ms: run.flows.iter().filter_map(|f| f.fct).map(|fct| fct.p95_ms).collect(),
        }
    }

    /// Of one phase of a run. What is left in a queue of an earlier phase does not count, nor are short flows told apart
    /// by phase. `one_queue`: see [`has_one_queue`](super::cell::has_one_queue).
    pub fn of_phase(phase: &PhaseResult, one_queue: bool) -> Self {
        let packets = phase.packets;
        let counts = |n: u64| n as f64 >= PHASE_SHARE * packets.all as f64;
        let (l, l_packets) =
            if one_queue { (&phase.delay_ms.c, packets.c) } else { (&phase.delay_ms.l, packets.l) };
        let by_kind = |pick: fn(&crate::report::result::DelayResult) -> Option<f64>| PerQueue {
            l: pick(l).filter(|_| counts(l_packets)),
            c: pick(&phase.delay_ms.c).filter(|_| counts(packets.c)),
            all: pick(&phase.delay_ms.all),
        };
        Self {
            utilization: phase.link.utilization,
            mean_ms: by_kind(|d| d.mean),
            p99_ms: by_kind(|d| d.p99),
            abs_log2_ratio: phase.ratio_l_over_c.map(|r| r.log2().abs().min(RATIO_CAP)),
            mice_p95_ms: Vec::new(),
        }
    }

    /// The mean of several runs; of each figure, over the runs that have it.
    pub fn mean<'a>(runs: &(impl Iterator<Item = &'a Self> + Clone)) -> Self {
        let of = |pick: &dyn Fn(&Self) -> Option<f64>| {
            let (mut sum, mut n) = (0.0, 0.0);
            for value in runs.clone().filter_map(pick) {
                sum += value;
                n += 1.0;
            }
            (n > 0.0).then(|| sum / n)
        };
        let sources = runs.clone().map(|f| f.mice_p95_ms.len()).max().unwrap_or(0);
        Self {
            utilization: of(&|f| f.utilization),
            mean_ms: PerQueue {
                l: of(&|f| f.mean_ms.l),
                c: of(&|f| f.mean_ms.c),
                all: of(&|f| f.mean_ms.all),
            },
            p99_ms: PerQueue { l: of(&|f| f.p99_ms.l), c: of(&|f| f.p99_ms.c), all: of(&|f| f.p99_ms.all) },
            abs_log2_ratio: of(&|f| f.abs_log2_ratio),
            mice_p95_ms: (0..sources).map(|i| of(&|f| f.mice_p95_ms.get(i).copied().flatten())).collect(),
        }
    }
}

/// What a policy is worth on a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// (x + floor) / (ref + floor) of the mean delay of L; `None` without L traffic.
    pub d_l: Option<f64>,
    /// The same of C.
    pub d_c: Option<f64>,
    /// sqrt(dL x dC), or the one there is.
    pub delay_ratio: Option<f64>,
    /// The inverse power ratio before feasibility is looked at; `None` if the reference forwarded nothing.
    pub raw: Option<f64>,
    /// Why the cell is not feasible; empty if it is.
    pub why: Vec<Reason>,
    /// By how much: the sum over broken bounds of what is beyond them, in multiples of the whole margin of each.
    pub excess: f64,
}

impl Verdict {
    /// All bounds hold.
    pub const fn feasible(&self) -> bool {
        self.why.is_empty()
    }

    /// S: what infeasible cells cannot bring under 1.
    pub fn score(&self) -> Option<f64> {
        self.raw.map(|s| if self.feasible() { s } else { s.max(1.0) })
    }
}

/// A bound that does not hold. Prints as words with figures.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// Too much of the link is unused.
    Utilization {
        /// The policy's.
        got: f64,
        /// The reference's.
        reference: f64,
    },
    /// Rates of L and C flows are too far apart.
    Ratio {
        /// `|log2 ratio|` of the policy.
        got: f64,
        /// `|log2 ratio|` of the reference.
        reference: f64,
    },
    /// P99 of a queue is too long.
    P99 {
        /// `L` or `C`.
        queue: &'static str,
        /// The policy's, in ms.
        got: f64,
        /// The reference's, in ms.
        reference: f64,
        /// The bound is an addition.
        bursty: bool,
    },
    /// Mice take too long.
    Mice {
        /// Number of the source among those with completion times, from 1.
        source: usize,
        /// The policy's P95, in ms.
        got: f64,
        /// The reference's P95, in ms.
        reference: f64,
    },
    /// The reference forwarded packets of this kind and the policy none.
    Silent {
        /// `L` or `C`.
        queue: &'static str,
    },
    /// The reference completed short flows of this source and the policy none.
    NoMice {
        /// Number of the source among those with completion times, from 1.
        source: usize,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Utilization { got, reference } => write!(
                f,
                "utilisation {:.2} % is {:.2} points under the reference's {:.2} % (allowed: {:.0})",
                got * 100.0,
                (reference - got) * 100.0,
                reference * 100.0,
                UTILIZATION_MARGIN * 100.0
            ),
            Self::Ratio { got, reference } => write!(
                f,
                "|log2 rate ratio| {got:.2} is over {:.2} (reference: {reference:.2})",
                reference.max(1.0) + RATIO_MARGIN
            ),
            Self::P99 { queue, got, reference, bursty: true } => write!(
                f,
                "{queue} P99 {got:.2} ms is {:.2} ms over the reference's {reference:.2} ms (bursty, allowed: \
                 {P99_BURSTY_MS:.0} ms)",
                got - reference
            ),
            Self::P99 { queue, got, reference, bursty: false } => write!(
                f,
                "{queue} P99 {got:.2} ms is {:.2} times the reference's {reference:.2} ms (allowed: {P99_FACTOR})",
                got / reference
            ),
            Self::Mice { source, got, reference } => write!(
                f,
                "P95 completion of mice (source {source}) {got:.1} ms is {:.2} times the reference's {reference:.1} ms \
                 (allowed: {MICE_FACTOR})",
                got / reference
            ),
            Self::Silent { queue } => write!(f, "nothing of {queue} was forwarded"),
            Self::NoMice { source } => write!(f, "no short flow of source {source} completed"),
        }
    }
}

/// Judges the mean of a policy's runs against the mean of the reference's.
///
/// Where the policy forwarded nothing of a kind that the reference did forward, its delay is unknown: the cell is
/// infeasible and that ratio counts as 1.
pub fn judge(cell: &CellInfo, got: &Figures, reference: &Figures) -> Verdict {
    judge_within(cell, got, reference, 1.0)
}

/// The same with only this share of each margin: what is to be feasible on other seeds too has to keep away from the
/// bounds.
pub fn judge_within(cell: &CellInfo, got: &Figures, reference: &Figures, share: f64) -> Verdict {
    let ratio = |got: Option<f64>, reference: Option<f64>, floor: f64| {
        reference.map(|r| got.map_or(1.0, |x| (x + floor) / (r + floor)))
    };
    let d_l = ratio(got.mean_ms.l, reference.mean_ms.l, FLOOR_L_MS);
    let d_c = ratio(got.mean_ms.c, reference.mean_ms.c, FLOOR_C_MS);
    let delay_ratio = match (d_l, d_c) {
        (Some(l), Some(c)) => Some((l * c).sqrt()),
        (one, other) => one.or(other),
    };
    let used = |f: &Figures| f.utilization.unwrap_or(0.0);
    let raw =
        delay_ratio.map(|d| d * used(reference).max(LEAST_UTILIZATION) / used(got).max(LEAST_UTILIZATION));
    let broken = broken_bounds(cell, got, reference, share);
    let excess = broken.iter().map(|(_, excess)| excess.min(EXCESS_CAP)).sum();
    let why = broken.into_iter().map(|(reason, _)| reason).collect();
    Verdict { d_l, d_c, delay_ratio, raw, why, excess }
}

/// How far within each bound that there is, in its margins: 1 where there is no difference, 0 at the bound, negative
/// beyond it.
pub fn rooms(cell: &CellInfo, got: &Figures, reference: &Figures) -> Vec<f64> {
    let room = |b: Bound| 1.0 - (b.got - b.free) / b.margin.max(f64::MIN_POSITIVE);
    bounds(cell, got, reference).into_iter().map(room).collect()
}

/// The bounds that do not hold, and how many margins what there is lies beyond them.
fn broken_bounds(cell: &CellInfo, got: &Figures, reference: &Figures, share: f64) -> Vec<(Reason, f64)> {
    let broken = |b: Bound| {
        let bound = b.free + share * b.margin;
        (b.got > bound + ROUNDING).then(|| (b.reason, (b.got - bound) / b.margin))
    };
    bounds(cell, got, reference).into_iter().filter_map(broken).collect()
}

/// `got` may be `free` and a margin over it.
struct Bound {
    got: f64,
    free: f64,
    margin: f64,
    reason: Reason,
}

/// Every bound on what there are figures of.
fn bounds(cell: &CellInfo, got: &Figures, reference: &Figures) -> Vec<Bound> {
    let mut all = Vec::new();
    let mut check = |got: f64, free: f64, margin: f64, reason: Reason| {
        all.push(Bound { got, free, margin, reason });
    };
    let utilization = got.utilization.unwrap_or(0.0);
    if let Some(reference) = reference.utilization {
        let reason = Reason::Utilization { got: utilization, reference };
        check(-utilization, -reference, UTILIZATION_MARGIN, reason);
    }
    if let (Some(got), Some(r)) = (got.abs_log2_ratio, reference.abs_log2_ratio) {
        check(got, r.max(1.0), RATIO_MARGIN, Reason::Ratio { got, reference: r });
    }
    let queues = [
        ("L", got.p99_ms.l, reference.p99_ms.l, cell.bursty),
        ("C", got.p99_ms.c, reference.p99_ms.c, false),
    ];
    for (queue, got, reference, bursty) in queues {
        match (got, reference) {
            (Some(got), Some(reference)) => {
                let margin = if bursty { P99_BURSTY_MS } else { reference * (P99_FACTOR - 1.0) };
                check(got, reference, margin, Reason::P99 { queue, got, reference, bursty });
            }
            (None, Some(_)) => check(1.0, 0.0, 1.0 / EXCESS_CAP, Reason::Silent { queue }),
            (_, None) => {}
        }
    }
    if cell.mice {
        for (i, reference) in reference.mice_p95_ms.iter().enumerate() {
            let source = i + 1;
            match (got.mice_p95_ms.get(i).copied().flatten(), *reference) {
                (Some(got), Some(reference)) => {
                    let margin = reference * (MICE_FACTOR - 1.0);
                    check(got, reference, margin, Reason::Mice { source, got, reference });
                }
                (None, Some(_)) => check(1.0, 0.0, 1.0 / EXCESS_CAP, Reason::NoMice { source }),
                _ => {}
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::result::{DelayResult, FctResult, FlowResult};

    const BOTH: Traffic = Traffic { l: true, c: true, both_endless: true };

    /// A run with mean and P99 of L and C.
    fn run(u: f64, l: (f64, f64), c: (f64, f64), ratio: f64) -> RunResult {
        let delay = |(mean, p99)| DelayResult { mean: Some(mean), p99: Some(p99), ..Default::default() };
        let mut run = RunResult::default();
        run.link.utilization = Some(u);
        run.queues.l.delay_ms = delay(l);
        run.queues.c.delay_ms = delay(c);
        run.queues.all.delay_ms = delay(c);
        run.ratio_l_over_c = Some(ratio);
        run
    }

    fn of(run: &RunResult) -> Figures {
        Figures::of(run, BOTH, false)
    }

    fn baseline() -> RunResult {
        run(0.96, (0.3, 1.0), (15.0, 22.0), 1.5)
    }

    fn why(cell: &CellInfo, got: &RunResult, reference: &RunResult) -> Vec<String> {
        judge(cell, &of(got), &of(reference)).why.iter().map(ToString::to_string).collect()
    }

    fn smooth() -> CellInfo {
        CellInfo { grid: "g".into(), name: "n".into(), mix: "1v1".into(), bursty: false, mice: false }
    }

    #[test]
    fn the_score_of_a_cell_by_hand() {
        // dL = (.05 + .2) / (.3 + .2) = .5; dC = (6.7 + .5) / (15 + .5) = 7.2 / 15.5.
        let got = of(&run(0.95, (0.05, 1.0), (6.7, 10.0), 1.5));
        let v = judge(&smooth(), &got, &of(&baseline()));
        assert!((v.d_l.unwrap() - 0.5).abs() < 1e-12);
        assert!((v.d_c.unwrap() - 7.2 / 15.5).abs() < 1e-12);
        // sqrt(.5 x .4645161) x .96 / .95 = .4819315 x 1.0105263.
        assert!((v.raw.unwrap() - 0.487_004_5).abs() < 1e-6, "{v:?}");
        assert_eq!((v.feasible(), v.score()), (true, v.raw));
    }

    #[test]
    fn the_reference_against_itself_is_one_and_feasible() {
        let v = judge(&smooth(), &of(&baseline()), &of(&baseline()));
        assert_eq!((v.raw, v.feasible()), (Some(1.0), true));
    }

    /// Half of the point of utilisation is used; |log2 1.5| is .415 under the 1 that is free and 4.15 margins more; L is at
    /// its bound, 10 % over; C is one margin under the reference.
    #[test]
    fn rooms_are_in_margins() {
        let got = of(&run(0.955, (0.3, 1.1), (15.0, 19.8), 1.5));
        let rooms = rooms(&smooth(), &got, &of(&baseline()));
        for (room, want) in rooms.iter().zip([0.5, 1.0 + 4.150_374_992_788_4, 0.0, 2.0]) {
            assert!((room - want).abs() < 1e-9, "{rooms:?}");
        }
        assert_eq!(rooms.len(), 4);
        let idle = of(&run(0.0, (0.0, 0.0), (0.0, 0.0), 1.0));
        assert_eq!(super::rooms(&smooth(), &idle, &idle), [1.0, 11.0, 1.0, 1.0], "no margin is no trouble");
    }

    #[test]
    fn one_kind_of_traffic_has_that_ratio_alone() {
        let only = |l, c| Traffic { l, c, both_endless: false };
        let got = run(0.96, (0.05, 1.0), (7.25, 10.0), 1.5);
        let score = |t| judge(&smooth(), &Figures::of(&got, t, false), &Figures::of(&baseline(), t, false));
        let l = score(only(true, false));
        assert_eq!((l.d_c, l.raw.map(|s| (s * 1e9).round())), (None, Some(5e8)));
        let c = score(only(false, true));
        assert_eq!((c.d_l, c.raw), (None, Some(0.5)));
    }

    #[test]
    fn seeds_are_averaged_before_they_are_compared() {
        // Means 1 and 4 ms against 2.5 ms: the mean of the ratios would be another figure.
        let t = Traffic { c: true, ..Traffic::default() };
        let side = |c: &[f64]| {
            let runs: Vec<_> =
                c.iter().map(|&c| Figures::of(&run(0.9, (0.0, 0.0), (c, 9.0), 1.0), t, false)).collect();
            Figures::mean(&runs.iter())
        };
        let v = judge(&smooth(), &side(&[1.0, 4.0, 4.0]), &side(&[2.0, 2.0, 5.0]));
        assert_eq!(v.raw, Some(1.0));
        assert!((side(&[1.0, 4.0, 4.0]).utilization.unwrap() - 0.9).abs() < 1e-12);
    }

    #[test]
    fn a_single_queue_stands_for_each_kind_of_traffic() {
        let mut codel = run(0.96, (0.0, 0.0), (5.0, 20.0), 1.2);
        codel.queues.l.delay_ms = DelayResult::default();
        let v = judge(&smooth(), &Figures::of(&codel, BOTH, true), &of(&baseline()));
        // L waits 5 ms in place of .3: (5 + .2) / (.3 + .2).
        assert!((v.d_l.unwrap() - 10.4).abs() < 1e-12);
        assert!((v.d_c.unwrap() - 5.5 / 15.5).abs() < 1e-12);
        assert_eq!(v.why, [Reason::P99 { queue: "L", got: 20.0, reference: 1.0, bursty: false }]);
        // On a link without L traffic nothing is said of L.
        let t = Traffic { c: true, ..Traffic::default() };
        let v = judge(&smooth(), &Figures::of(&codel, t, true), &Figures::of(&baseline(), t, false));
        assert_eq!((v.d_l, v.feasible()), (None, true));
    }

    #[test]
    fn utilisation_may_be_a_point_lower_and_no_more() {
        let at = |u| why(&smooth(), &run(u, (0.3, 1.0), (15.0, 22.0), 1.5), &baseline());
        assert!(at(0.95).is_empty());
        assert_eq!(
            at(0.9499),
            ["utilisation 94.99 % is 1.01 points under the reference's 96.00 % (allowed: 1)"]
        );
    }

    /// Half of the point: .955; .945 is a whole margin below that, and a rate ratio of 2^1.25 two margins over 1.05.
    #[test]
    fn a_share_of_the_margins_is_a_tighter_bound_and_excess_is_in_margins() {
        let at = |u, ratio| {
            judge_within(&smooth(), &of(&run(u, (0.3, 1.0), (15.0, 22.0), ratio)), &of(&baseline()), 0.5)
        };
        assert!(at(0.9551, 1.5).feasible() && !at(0.9549, 1.5).feasible());
        assert!((at(0.945, 1.5).excess - 1.0).abs() < 1e-9);
        assert!((at(0.945, 2f64.powf(1.25)).excess - 3.0).abs() < 1e-9);
        assert_eq!(at(0.955, 1.5).excess, 0.0);
        assert_eq!(at(0.1, 1.5).excess, EXCESS_CAP);
    }

    #[test]
    fn the_rate_ratio_may_be_two_or_what_the_reference_has() {
        let at = |got, reference| {
            let of = |ratio| run(0.96, (0.3, 1.0), (15.0, 22.0), ratio);
            why(&smooth(), &of(got), &of(reference))
        };
        let (two, four) = (2f64.powf(1.0999), 2f64.powf(2.0999));
        // In both directions.
        assert!(at(two, 1.0).is_empty() && at(1.0 / two, 1.0).is_empty() && at(four, 0.25).is_empty());
        assert_eq!(at(2f64.powf(1.2), 1.0), ["|log2 rate ratio| 1.20 is over 1.10 (reference: 0.00)"]);
        assert_eq!(at(2f64.powf(-2.2), 4.0), ["|log2 rate ratio| 2.20 is over 2.10 (reference: 2.00)"]);
        assert_eq!(at(0.0, 1.0), ["|log2 rate ratio| 10.00 is over 1.10 (reference: 0.00)"]);
    }

    #[test]
    fn a_side_that_got_nothing_has_the_worst_ratio() {
        let mut starved = baseline();
        starved.ratio_l_over_c = None;
        assert_eq!(
            why(&smooth(), &starved, &baseline()),
            ["|log2 rate ratio| 10.00 is over 1.10 (reference: 0.58)"]
        );
    }

    #[test]
    fn p99_of_both_queues_may_be_a_tenth_longer() {
        let at = |l, c| why(&smooth(), &run(0.96, (0.3, l), (15.0, c), 1.5), &baseline());
        assert!(at(1.1, 24.2).is_empty());
        assert_eq!(
            at(1.2, 24.3),
            [
                "L P99 1.20 ms is 1.20 times the reference's 1.00 ms (allowed: 1.1)",
                "C P99 24.30 ms is 1.10 times the reference's 22.00 ms (allowed: 1.1)"
            ]
        );
    }

    #[test]
    fn p99_of_a_bursty_l_may_be_2_ms_longer() {
        let cell = CellInfo { bursty: true, ..smooth() };
        let at = |l, c| why(&cell, &run(0.96, (0.3, l), (15.0, c), 1.5), &baseline());
        assert!(at(3.0, 22.0).is_empty());
        assert_eq!(
            at(3.1, 25.0),
            [
                "L P99 3.10 ms is 2.10 ms over the reference's 1.00 ms (bursty, allowed: 2 ms)",
                "C P99 25.00 ms is 1.14 times the reference's 22.00 ms (allowed: 1.1)"
            ]
        );
    }

    #[test]
    fn mice_may_take_a_twentieth_longer_at_each_source() {
        let with = |p95: [Option<f64>; 2]| {
            let mut run = baseline();
            run.flows.push(FlowResult { name: "cubic".into(), ..Default::default() });
            run.flows.extend(p95.map(|p95_ms| FlowResult {
                fct: Some(FctResult { p95_ms, ..Default::default() }),
                ..Default::default()
            }));
            run
        };
        let cell = CellInfo { mice: true, ..smooth() };
        let reference = with([Some(100.0), Some(200.0)]);
        assert!(why(&cell, &with([Some(105.0), Some(1.0)]), &reference).is_empty());
        assert_eq!(
            why(&cell, &with([Some(106.0), None]), &reference),
            [
                "P95 completion of mice (source 1) 106.0 ms is 1.06 times the reference's 100.0 ms (allowed: 1.05)",
                "no short flow of source 2 completed"
            ]
        );
        assert!(why(&smooth(), &with([Some(106.0), None]), &reference).is_empty(), "only where mice count");
    }

    #[test]
    fn what_is_infeasible_scores_at_least_one() {
        let fast = run(0.90, (0.05, 1.0), (1.0, 2.0), 1.5);
        let v = judge(&smooth(), &of(&fast), &of(&baseline()));
        assert!(v.raw.unwrap() < 0.5 && !v.feasible());
        assert_eq!(v.score(), Some(1.0));
        let slow = run(0.90, (0.3, 1.0), (30.0, 60.0), 1.5);
        let v = judge(&smooth(), &of(&slow), &of(&baseline()));
        assert_eq!(v.score(), v.raw);
        assert!(v.raw.unwrap() > 1.4);
    }

    #[test]
    fn a_queue_that_forwards_nothing_is_infeasible_and_brings_no_gain() {
        let mut silent = run(0.96, (0.05, 1.0), (0.0, 0.0), 1.5);
        silent.queues.c.delay_ms = DelayResult::default();
        let v = judge(&smooth(), &of(&silent), &of(&baseline()));
        assert_eq!((v.d_c, v.score()), (Some(1.0), Some(1.0)));
        assert_eq!(v.why[0].to_string(), "nothing of C was forwarded");
    }

    #[test]
    fn a_reference_that_forwarded_nothing_gives_no_score() {
        let v = judge(&smooth(), &of(&baseline()), &Figures::default());
        assert_eq!((v.raw, v.score()), (None, None));
    }
}
