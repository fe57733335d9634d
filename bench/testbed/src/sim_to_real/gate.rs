//! The verdict: does the sign of model minus DualPI2 agree on enough links, and is the live gain large enough?
//!
//! All figures are those of [`l4sd::eval`]: S is at least 1 where a bound of feasibility is broken. S before the bounds
//! are looked at stands beside it: P99 and utilisation of a short live run cross a bound by chance more easily.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::thread;

use l4sd::eval::bootstrap::{DRAWS, Interval};
use l4sd::eval::summary::{CellRow, Role, Scope};
use l4sd::eval::{CellRecord, Design, EvalError, judge};
use serde::Serialize;

use super::links::Link;

/// Of twelve links, on this many the signs must agree; as large a share of fewer.
const AGREE_OF_12: usize = 10;
/// The live gain must be at least this share of the simulator's.
const GAIN_SHARE: f64 = 0.5;
/// What the gate asks for; fewer is a trial.
const WHOLE: (usize, u64, u32) = (12, 10, 30);

/// What the judge says of the model against DualPI2.
#[derive(Debug, Clone)]
pub struct Verdicts {
    /// Link by link.
    rows: Vec<CellRow>,
    /// S of each link over its seeds.
    by_link: Vec<Interval>,
    /// Geometric mean of S over all links.
    overall: Interval,
    /// The same of S before feasibility is looked at.
    overall_unbounded: f64,
}

/// Judges the records of a design of two policies, the baseline first.
pub fn verdicts(design: &Design, records: &[CellRecord]) -> Result<Verdicts, EvalError> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let judged = |design: &Design| {
        let judgement = judge(design, records, DRAWS, threads)?;
        let overall =
            judgement.summary.iter().find(|r| r.scope == Scope::Overall && r.role == Role::Baseline);
        let s = overall.and_then(|r| r.s_score);
        let s = s.ok_or_else(|| EvalError::Missing("a link that carried traffic".to_owned()))?;
        Ok::<_, EvalError>((judgement.cells, s))
    };
    let (rows, overall) = judged(design)?;
    let by_link = design
        .cells
        .iter()
        .map(|cell| judged(&Design { cells: vec![cell.clone()], ..design.clone() }).map(|(_, s)| s))
        .collect::<Result<_, _>>()?;
    let overall_unbounded = geometric_mean(rows.iter().filter_map(|r| r.s_unbounded));
    Ok(Verdicts { rows, by_link, overall, overall_unbounded })
}

fn geometric_mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), s: f64| (sum + s.ln(), n + 1.0));
    f64::exp(sum / n)
}

/// How the runs were made.
#[derive(Debug, Clone, Serialize)]
pub struct Conditions {
    /// Pairs of live runs a link.
    pub pairs: u64,
    /// Measured seconds of each.
    pub seconds: u32,
    /// Seeds of the simulator.
    pub seeds: u64,
    /// Back end.
    pub port: String,
    /// The model.
    pub model_sha256: String,
    /// Under real-time scheduling.
    pub quotable: bool,
    /// Live runs at a time.
    pub lanes: usize,
    /// Live runs that had been made before, with whatever number of lanes.
    pub kept: usize,
    /// What shows whether the machine had time for them.
    pub worst: Worst,
}

/// The worst over the live runs under the model; nothing if no run says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Worst {
    /// Share of the measured time in fallback.
    pub fallback_share: Option<f64>,
    /// From the end of a window to its decision being in force, microseconds, 99th percentile.
    pub admission_p99_us: Option<f64>,
    /// Decisions that came too late, in one run.
    pub late: Option<u64>,
}

impl Worst {
    /// Of these runs.
    pub fn of(records: &[CellRecord]) -> Self {
        let most = |of: fn(&CellRecord) -> Option<f64>| records.iter().filter_map(of).max_by(f64::total_cmp);
        Self {
            fallback_share: most(|r| r.run.fallback_share),
            admission_p99_us: most(|r| r.run.controller.admission_us.p99),
            late: records.iter().filter_map(|r| r.run.controller.late).max(),
        }
    }

    fn words(&self) -> String {
        let or_dash = |x: Option<String>| x.unwrap_or_else(|| "-".to_owned());
        format!(
            "worst run under the model: in fallback {}, window to decision in force P99 {}, late decisions {}",
            or_dash(self.fallback_share.map(|x| format!("{:.1} %", 100.0 * x))),
            or_dash(self.admission_p99_us.map(|x| format!("{:.2} ms", x / 1e3))),
            or_dash(self.late.map(|x| x.to_string())),
        )
    }
}

/// A link, simulated and live.
#[derive(Debug, Clone, Serialize)]
pub struct LinkReport {
    /// Its name.
    pub link: String,
    /// S of the model against DualPI2 in the simulator.
    pub sim_s: f64,
    /// The same of the live runs.
    pub live_s: f64,
    /// Its 95 % interval over the pairs.
    pub live_lo: f64,
    /// As above.
    pub live_hi: f64,
    /// S of the simulator before feasibility is looked at.
    pub sim_s_unbounded: f64,
    /// The same of the live runs.
    pub live_s_unbounded: f64,
    /// Ratios of mean delays of L and C with their floors, in the simulator.
    pub sim_d: [Option<f64>; 2],
    /// The same of the live runs.
    pub live_d: [Option<f64>; 2],
    /// Bounds that do not hold in the simulator.
    pub sim_broken: Vec<String>,
    /// Bounds that do not hold live.
    pub live_broken: Vec<String>,
    /// The sign of ln S is the same.
    pub signs_agree: bool,
    /// Live runs of the gate that were made at a time.
    pub lanes: usize,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Gate {
    links: Vec<LinkReport>,
    sim: Interval,
    live: Interval,
    unbounded: [f64; 2],
    conditions: Conditions,
}

/// -1, 0 or 1: better than, as good as, worse than DualPI2.
fn sign(s: f64) -> i8 {
    i8::from(s > 1.0) - i8::from(s < 1.0)
}

impl Gate {
    /// Holds the live runs of `links` against the simulator's.
    pub fn new(links: &[Link], sim: &Verdicts, live: &Verdicts, conditions: Conditions) -> Self {
        let report = |i: usize| {
            let (s, l) = (&sim.rows[i], &live.rows[i]);
            let known = |x: Option<f64>| x.unwrap_or(1.0);
            let (sim_s, live_s) = (known(s.s_score), known(l.s_score));
            LinkReport {
                link: links[i].name(),
                sim_s,
                live_s,
                live_lo: live.by_link[i].lo,
                live_hi: live.by_link[i].hi,
                sim_s_unbounded: known(s.s_unbounded),
                live_s_unbounded: known(l.s_unbounded),
                sim_d: [s.d_l, s.d_c],
                live_d: [l.d_l, l.d_c],
                sim_broken: s.infeasible_why.clone(),
                live_broken: l.infeasible_why.clone(),
                signs_agree: sign(sim_s) == sign(live_s),
                lanes: conditions.lanes,
            }
        };
        Self {
            links: (0..links.len()).map(report).collect(),
            sim: sim.overall,
            live: live.overall,
            unbounded: [sim.overall_unbounded, live.overall_unbounded],
            conditions,
        }
    }

    fn agree(&self) -> usize {
        self.links.iter().filter(|l| l.signs_agree).count()
    }

    /// Links on which the signs must agree.
    fn wanted(&self) -> usize {
        (self.links.len() * AGREE_OF_12).div_ceil(12)
    }

    /// ln of the live S over ln of the simulator's: the share of the gain that arrives. `None` if the simulator has none.
    fn gain_share(&self) -> Option<Interval> {
        let gain = -self.sim.value.ln();
        let share = |s: f64| -s.ln() / gain;
        (gain > 0.0).then(|| Interval {
            value: share(self.live.value),
            lo: share(self.live.hi),
            hi: share(self.live.lo),
        })
    }

    /// Both conditions hold.
    pub fn pass(&self) -> bool {
        self.agree() >= self.wanted() && self.gain_share().is_some_and(|g| g.value >= GAIN_SHARE)
    }

    /// The last line.
    pub fn line(&self) -> String {
        let c = &self.conditions;
        let gain = self.gain_share().map_or_else(
            || "the simulator has no gain".to_owned(),
            |g| format!("gain live/sim {:.2} [{:.2}, {:.2}], wanted {GAIN_SHARE}", g.value, g.lo, g.hi),
        );
        let mut out = format!(
            "G5 {} signs agree in {} of {} (wanted {}), {gain}; S sim {:.3}, live {:.3} [{:.3}, {:.3}]; before \
             bounds {:.3}, {:.3}",
            if self.pass() { "PASS" } else { "FAIL" },
            self.agree(),
            self.links.len(),
            self.wanted(),
            self.sim.value,
            self.live.value,
            self.live.lo,
            self.live.hi,
            self.unbounded[0],
            self.unbounded[1],
        );
        if (self.links.len(), c.pairs, c.seconds) < WHOLE || c.pairs < WHOLE.1 || c.seconds < WHOLE.2 {
            write!(
                out,
                " (a trial: {} pairs of {} s; the gate has {} of {})",
                c.pairs, c.seconds, WHOLE.1, WHOLE.2
            )
            .ok();
        }
        if !c.quotable {
            out.push_str(" (no real-time scheduling: not for quoting)");
        }
        out
    }

    /// One object a link.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&self.links).unwrap_or_default()
    }

    /// The table, what broke bounds, and the verdict.
    pub fn markdown(&self) -> String {
        let c = &self.conditions;
        let before = if c.kept == 0 { String::new() } else { format!(" ({} made before)", c.kept) };
        let mut out = format!(
            "{} pairs of {} s over {} ports, {} at a time{before}, {} seeds of the simulator, model {}; {}.\n\n\
             | link | S sim | S live | 95 % | before bounds sim / live | dL sim / live | dC sim / live | signs |\n\
             |---|--:|--:|---|--:|--:|--:|---|\n",
            c.pairs,
            c.seconds,
            c.port,
            c.lanes,
            c.seeds,
            c.model_sha256.get(..12).unwrap_or_default(),
            c.worst.words(),
        );
        let d = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.2}"));
        for l in &self.links {
            writeln!(
                out,
                "| {} | {:.3} | {:.3} | {:.3}..{:.3} | {:.3} / {:.3} | {} / {} | {} / {} | {} |",
                l.link,
                l.sim_s,
                l.live_s,
                l.live_lo,
                l.live_hi,
                l.sim_s_unbounded,
                l.live_s_unbounded,
                d(l.sim_d[0]),
                d(l.live_d[0]),
                d(l.sim_d[1]),
                d(l.live_d[1]),
                if l.signs_agree { "agree" } else { "**differ**" },
            )
            .ok();
        }
        out.push('\n');
        for l in &self.links {
            for (where_, broken) in [("simulated", &l.sim_broken), ("live", &l.live_broken)] {
                for why in broken {
                    writeln!(out, "- {}, {where_}: {why}", l.link).ok();
                }
            }
        }
        writeln!(out, "\n{}", self.line()).ok();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use l4sd::eval::CellInfo;
    use l4sd::report::RunResult;
    use l4sd::report::result::DelayResult;

    /// A run of a link that is full, with these mean delays of L and C in ms.
    fn record(cell: &str, policy: &str, seed: u64, l: f64, c: f64) -> CellRecord {
        let mut run = RunResult::default();
        run.link.utilization = Some(0.99);
        run.ratio_l_over_c = Some(1.0);
        let delay = |mean: f64| DelayResult { mean: Some(mean), p99: Some(5.0), ..DelayResult::default() };
        run.queues.l.delay_ms = delay(l);
        run.queues.c.delay_ms = delay(c);
        run.queues.l.counters.packets = 1;
        run.queues.c.counters.packets = 1;
        let cell = CellInfo { grid: "g".to_owned(), name: cell.to_owned(), ..CellInfo::default() };
        CellRecord { cell, policy: policy.to_owned(), seed, run, ..CellRecord::default() }
    }

    /// The delays of C under the model, link by link and pair by pair, against 7.5 ms under DualPI2. With the floor of
    /// .5 ms and L as it was, S = sqrt((x + .5) / 8): .5 at 1.5 ms, .707 at 3.5 ms, 1.414 at 15.5 ms.
    fn judged(c: &[&[f64]]) -> Verdicts {
        let names: Vec<String> = (0..c.len()).map(|i| format!("{i}")).collect();
        let mut records = Vec::new();
        for (name, runs) in names.iter().zip(c) {
            for (&ms, pair) in runs.iter().zip(1..) {
                records.push(record(name, "dualpi2", pair, 0.3, 7.5));
                records.push(record(name, "model", pair, 0.3, ms));
            }
        }
        let cell =
            |name: &String| CellInfo { grid: "g".to_owned(), name: name.clone(), ..CellInfo::default() };
        let cells = names.iter().map(cell).collect();
        let mut design = Design::new(cells, ["model".to_owned()], c[0].len() as u64);
        design.other_seeds.clear();
        verdicts(&design, &records).unwrap()
    }

    fn gate(sim: &[&[f64]], live: &[&[f64]]) -> Gate {
        let link = Link { rate_mbit: 40, rtt_ms: 20, step: None };
        let conditions = Conditions {
            pairs: live[0].len() as u64,
            seconds: 30,
            seeds: 1,
            port: "packet".to_owned(),
            model_sha256: "0123456789abcdef".to_owned(),
            quotable: true,
            lanes: 1,
            kept: 0,
            worst: Worst::default(),
        };
        Gate::new(&vec![link; sim.len()], &judged(sim), &judged(live), conditions)
    }

    #[test]
    fn half_of_the_gain_must_arrive() {
        let half = gate(&[&[1.5]], &[&[3.5]]);
        assert!(
            (half.links[0].sim_s - 0.5).abs() < 1e-12 && (half.links[0].live_s - 0.5f64.sqrt()).abs() < 1e-12
        );
        let share = half.gain_share().unwrap();
        assert!((share.value - 0.5).abs() < 1e-12, "ln(.707) is half of ln(.5): {share:?}");
        let less = gate(&[&[1.5]], &[&[3.6]]);
        assert!(!less.pass() && less.agree() == 1, "{}", less.line());
        assert!(gate(&[&[1.5]], &[&[3.4]]).pass());
        let none = gate(&[&[7.5]], &[&[7.5]]);
        assert!(!none.pass() && none.line().contains("the simulator has no gain"), "{}", none.line());
    }

    /// Of three runs, the one under DualPI2 says nothing; fallback is worst in the second, the rest in the third.
    #[test]
    fn the_table_says_how_many_at_a_time_and_the_worst_run() {
        let run = |fallback: Option<f64>, p99: Option<f64>, late: Option<u64>| {
            let mut record = record("0", "model", 1, 0.3, 1.5);
            record.run.fallback_share = fallback;
            record.run.controller.admission_us.p99 = p99;
            record.run.controller.late = late;
            record
        };
        let runs = [
            run(None, None, None),
            run(Some(0.04), Some(300.0), Some(0)),
            run(Some(0.01), Some(4250.0), Some(7)),
        ];
        let worst = Worst::of(&runs);
        assert_eq!(
            worst,
            Worst { fallback_share: Some(0.04), admission_p99_us: Some(4250.0), late: Some(7) }
        );
        let mut gate = gate(&[&[1.5]], &[&[1.5]]);
        gate.conditions = Conditions { lanes: 16, kept: 3, worst, ..gate.conditions };
        let text = gate.markdown();
        let words = "over packet ports, 16 at a time (3 made before), 1 seeds of the simulator, model 0123456789ab; worst \
                     run under the model: in fallback 4.0 %, window to decision in force P99 4.25 ms, late decisions 7.";
        assert!(text.contains(words), "{text}");
    }

    #[test]
    fn ten_of_twelve_must_agree() {
        let links = |worse: usize| -> Vec<&[f64]> {
            (0..12).map(|i| if i < worse { &[15.5][..] } else { &[1.5][..] }).collect()
        };
        let sim = links(0);
        let two = gate(&sim, &links(2));
        assert_eq!((two.agree(), two.wanted(), two.pass()), (10, 10, true));
        let three = gate(&sim, &links(3));
        assert_eq!((three.agree(), three.pass()), (9, false));
        assert!(three.line().starts_with("G5 FAIL signs agree in 9 of 12 (wanted 10)"), "{}", three.line());
        assert_eq!(gate(&[&[1.5], &[1.5]], &[&[1.5], &[15.5]]).wanted(), 2, "of two links both");
    }

    /// Pairs of 1.5 and 3.5 ms: S of their mean is sqrt(3 / 8); resampled, the first or the second alone.
    #[test]
    fn the_interval_is_over_pairs() {
        let gate = gate(&[&[1.5]], &[&[1.5, 3.5]]);
        let link = &gate.links[0];
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(link.live_s, (3.0f64 / 8.0).sqrt()), "{link:?}");
        assert!(near(link.live_lo, 0.5) && near(link.live_hi, 0.5f64.sqrt()), "{link:?}");
        assert!(gate.to_json().contains("\"live_lo\""));
        assert!(
            gate.markdown().contains("| 40mbit-20ms | 0.500 | 0.612 | 0.500..0.707 |"),
            "{}",
            gate.markdown()
        );
        assert!(gate.to_json().contains("\"lanes\": 1"));
        assert!(gate.line().contains("(a trial: 2 pairs of 30 s; the gate has 10 of 30)"), "{}", gate.line());
    }
}
