//! Cells and groups of cells, judged: a policy against the baseline, against `dualpi2-tuned`, against its best rival.
//!
//! Feasibility is always against the baseline. S against another policy is the ratio of both scores against the
//! baseline, on the same seeds. The rows of the baseline itself are its runs with other seeds against its runs with the
//! seeds of all: the noise floor. The best rival of a policy is the one with the lowest S over all cells, the baseline
//! (with S = 1) included.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::EvalError;
use super::bootstrap::{self, Interval, Link, Resamples};
use super::cell::{CellInfo, CellRecord, has_one_queue};
use super::design::{BASELINE, Design, TUNED};
use super::score::{self, Figures, Traffic, Verdict};
use super::{parallel, phases};
use crate::report::result::PerQueue;

/// Shorter delays count as this in ratios of delays without floors, in ms.
const LEAST_DELAY_MS: f64 = 1e-3;

/// One cell under one policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellRow {
    /// Grid of the cell.
    pub grid: String,
    /// Name of the cell.
    pub cell: String,
    /// Mix of its flows.
    pub mix: String,
    /// The policy; the baseline stands for its runs with other seeds.
    pub policy: String,
    /// S: at least 1 where the cell is not feasible; `null` if the baseline forwarded nothing.
    pub s_score: Option<f64>,
    /// All bounds hold.
    pub feasible: bool,
    /// The bounds that do not.
    pub infeasible_why: Vec<String>,
    /// S before feasibility is looked at.
    pub s_unbounded: Option<f64>,
    /// Ratio of mean delays of L, with floor.
    pub d_l: Option<f64>,
    /// Ratio of mean delays of C, with floor.
    pub d_c: Option<f64>,
    /// Means over the seeds.
    pub figures: CellFigures,
    /// The same of the baseline.
    pub baseline: CellFigures,
}

/// Means over the seeds of a cell, by kind of traffic: a single queue stands for both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CellFigures {
    /// Forwarded bits over capacity.
    pub utilization: Option<f64>,
    /// Mean queue delay.
    pub delay_mean_ms: PerQueue<Option<f64>>,
    /// P99 of queue delay.
    pub delay_p99_ms: PerQueue<Option<f64>>,
    /// `|log2|` of the rate ratio, mean over the seeds; at most [`score::RATIO_CAP`].
    pub abs_log2_ratio: Option<f64>,
    /// P95 of completion times of each source of mice.
    pub mice_p95_ms: Vec<Option<f64>>,
}

impl From<&Figures> for CellFigures {
    fn from(f: &Figures) -> Self {
        Self {
            utilization: f.utilization,
            delay_mean_ms: f.mean_ms,
            delay_p99_ms: f.p99_ms,
            abs_log2_ratio: f.abs_log2_ratio,
            mice_p95_ms: f.mice_p95_ms.clone(),
        }
    }
}

/// What a group of cells is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All cells.
    Overall,
    /// Those of a grid.
    Grid,
    /// Those of a mix of flows, whatever the grid.
    Mix,
    /// Phases of this name, each judged as a cell.
    Phase,
}

/// Why a policy is compared with this one.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It is the baseline.
    Baseline,
    /// It is `dualpi2-tuned`.
    Tuned,
    /// It has the lowest S of the others.
    BestRival,
}

/// A group of cells under a policy, compared with another policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SummaryRow {
    /// What the group is.
    pub scope: Scope,
    /// Name of the grid or mix; `null` overall.
    pub name: Option<String>,
    /// The policy; the baseline against itself stands for its runs with other seeds.
    pub policy: String,
    /// The policy it is compared with.
    pub against: String,
    /// Why with that one.
    pub role: Role,
    /// Cells of the group.
    pub cells: usize,
    /// Geometric mean of S over the geometric mean of S of `against`.
    pub s_score: Option<Interval>,
    /// Share of cells in which the policy is feasible, always against the baseline.
    pub feasible_share: Option<Interval>,
    /// Geometric mean of sqrt(dL x dC), the delay part of S, with floors.
    pub delay_ratio: Option<Interval>,
    /// Geometric mean of paired ratios of mean delays, without floors.
    pub delay_mean_ratio: PerQueue<Option<Interval>>,
    /// The same of P99.
    pub delay_p99_ratio: PerQueue<Option<Interval>>,
    /// Mean difference of utilisation; .01 is one percentage point.
    pub utilization_difference: Option<Interval>,
    /// Mean difference of `|log2 rate ratio|`.
    pub abs_log2_ratio_difference: Option<Interval>,
}

/// All that is said.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Cell by cell, policy by policy.
    pub cells: Vec<CellRow>,
    /// Overall, by grid, by mix.
    pub summary: Vec<SummaryRow>,
}

const METRICS: usize = 11;

/// The runs of a cell.
#[derive(Clone, Debug)]
pub struct CellRuns<'a> {
    /// The cell.
    pub info: &'a CellInfo,
    /// By policy of the design, then by seed.
    pub runs: Vec<Vec<Figures>>,
    /// The baseline's with other seeds.
    pub other: Vec<Figures>,
}

impl CellRuns<'_> {
    /// Policy 0 as a candidate is the baseline with other seeds.
    fn candidate(&self, policy: usize) -> &[Figures] {
        if policy == 0 { &self.other } else { &self.runs[policy] }
    }

    fn point(&self, policy: usize) -> (Figures, Figures, Verdict) {
        let got = Figures::mean(&self.candidate(policy).iter());
        let base = Figures::mean(&self.runs[0].iter());
        let verdict = score::judge(self.info, &got, &base);
        (got, base, verdict)
    }

    /// The metrics of `policy` against `against`, with the seeds picked.
    fn metrics(&self, policy: usize, against: usize, pick: &[usize]) -> [Option<f64>; METRICS] {
        let mean = |runs: &[Figures]| Figures::mean(&pick.iter().filter_map(|&i| runs.get(i)));
        let (got, base) = (mean(self.candidate(policy)), mean(&self.runs[0]));
        let reference = if against == 0 { base.clone() } else { mean(&self.runs[against]) };
        let verdict = score::judge(self.info, &got, &base);
        let ln_score = |v: &Verdict| v.score().map(f64::ln);
        let other = if against == 0 {
            verdict.raw.map(|_| 0.0)
        } else {
            ln_score(&score::judge(self.info, &reference, &base))
        };
        let delay = if against == 0 {
            verdict.delay_ratio
        } else {
            score::judge(self.info, &got, &reference).delay_ratio
        };
        let minus = |a: Option<f64>, b: Option<f64>| Some(a? - b?);
        let ln = |x: Option<f64>| x.map(|ms| ms.max(LEAST_DELAY_MS).ln());
        let ratio = |a: Option<f64>, b: Option<f64>| minus(ln(a), ln(b));
        [
            minus(ln_score(&verdict), other),
            verdict.raw.map(|_| f64::from(u8::from(verdict.feasible()))),
            delay.map(f64::ln),
            ratio(got.mean_ms.all, reference.mean_ms.all),
            ratio(got.mean_ms.l, reference.mean_ms.l),
            ratio(got.mean_ms.c, reference.mean_ms.c),
            ratio(got.p99_ms.all, reference.p99_ms.all),
            ratio(got.p99_ms.l, reference.p99_ms.l),
            ratio(got.p99_ms.c, reference.p99_ms.c),
            minus(got.utilization, reference.utilization),
            minus(got.abs_log2_ratio, reference.abs_log2_ratio),
        ]
    }

    fn link(&self, policy: usize, against: usize, resamples: &Resamples) -> Link<METRICS> {
        let all: Vec<usize> = (0..self.runs[0].len()).collect();
        Link {
            point: self.metrics(policy, against, &all),
            resampled: resamples.distinct.iter().map(|pick| self.metrics(policy, against, pick)).collect(),
        }
    }
}

/// Judges the records of a design. `threads` has no influence on the outcome.
pub fn judge(
    design: &Design,
    records: &[CellRecord],
    draws: usize,
    threads: usize,
) -> Result<Judgement, EvalError> {
    let mut judgement = judge_runs(design, &gather(design, records)?, draws, threads);
    judgement.summary.extend(phases::judge(design, records, draws, threads));
    Ok(judgement)
}

/// The same of figures, in the order of the cells of the design.
pub fn judge_runs(design: &Design, cells: &[CellRuns<'_>], draws: usize, threads: usize) -> Judgement {
    let candidates = usize::from(design.other_seeds.is_empty())..design.policies.len();
    let mut rows = Vec::new();
    for cell in cells {
        rows.extend(candidates.clone().map(|p| row(cell, &design.policies[p], cell.point(p))));
    }
    let resamples = Resamples::of(design.seeds.len());
    let groups = groups(&design.cells);
    let mut summary: Vec<(usize, SummaryRow)> = Vec::new();
    for policy in candidates {
        for (against, role) in opponents(design, &rows, policy) {
            let links = parallel::map(cells.len(), threads, |c| cells[c].link(policy, against, &resamples));
            let found = parallel::map(groups.len(), threads, |g| {
                let members: Vec<&Link<METRICS>> = groups[g].members.iter().map(|&c| &links[c]).collect();
                bootstrap::intervals(&members, &resamples, draws, groups[g].seed())
            });
            for (g, figures) in found.into_iter().enumerate() {
                let group = &groups[g];
                let names = (design.policies[policy].as_str(), design.policies[against].as_str());
                summary.push((g, summary_row(group, names, role, &figures)));
            }
        }
    }
    // Group by group; within one in the order of policies, which a stable sort keeps.
    summary.sort_by_key(|(g, _)| *g);
    Judgement { cells: rows, summary: summary.into_iter().map(|(_, row)| row).collect() }
}

fn gather<'a>(design: &'a Design, records: &[CellRecord]) -> Result<Vec<CellRuns<'a>>, EvalError> {
    let index: HashMap<_, _> = records
        .iter()
        .map(|r| ((r.cell.grid.as_str(), r.cell.name.as_str(), r.policy.as_str(), r.seed), r))
        .collect();
    let find = |info: &CellInfo, policy: &str, seed: u64| {
        index.get(&(info.grid.as_str(), info.name.as_str(), policy, seed)).copied().ok_or_else(|| {
            EvalError::Missing(format!("{} {} under {policy}, seed {seed}", info.grid, info.name))
        })
    };
    let one_queue: Vec<bool> = design.policies.iter().map(|p| has_one_queue(p)).collect();
    let of_cell = |info: &'a CellInfo| {
        let runs = |policy: &str, seeds: &[u64]| {
            seeds.iter().map(|&s| find(info, policy, s)).collect::<Result<Vec<_>, _>>()
        };
        let by_policy =
            design.policies.iter().map(|p| runs(p, &design.seeds)).collect::<Result<Vec<_>, _>>()?;
        let other = runs(BASELINE, &design.other_seeds)?;
        let traffic = Traffic {
            l: by_policy[0].iter().any(|r| r.run.queues.l.counters.packets > 0),
            c: by_policy[0].iter().any(|r| r.run.queues.c.counters.packets > 0),
            both_endless: by_policy.iter().flatten().any(|r| r.run.ratio_l_over_c.is_some()),
        };
        let figures = |records: &[&CellRecord], one_queue| {
            records.iter().map(|r| Figures::of(&r.run, traffic, one_queue)).collect::<Vec<_>>()
        };
        Ok(CellRuns {
            info,
            other: figures(&other, false),
            runs: by_policy.iter().zip(&one_queue).map(|(r, &one)| figures(r, one)).collect(),
        })
    };
    design.cells.iter().map(of_cell).collect()
}

fn row(cell: &CellRuns<'_>, policy: &str, (got, base, verdict): (Figures, Figures, Verdict)) -> CellRow {
    CellRow {
        grid: cell.info.grid.clone(),
        cell: cell.info.name.clone(),
        mix: cell.info.mix.clone(),
        policy: policy.to_owned(),
        s_score: verdict.score(),
        feasible: verdict.feasible(),
        infeasible_why: verdict.why.iter().map(ToString::to_string).collect(),
        s_unbounded: verdict.raw,
        d_l: verdict.d_l,
        d_c: verdict.d_c,
        figures: (&got).into(),
        baseline: (&base).into(),
    }
}

/// The policies that one is compared with.
fn opponents(design: &Design, rows: &[CellRow], policy: usize) -> Vec<(usize, Role)> {
    let mut opponents = vec![(0, Role::Baseline)];
    if policy == 0 {
        return opponents;
    }
    if let Some(tuned) = design.policies.iter().position(|p| p == TUNED).filter(|&p| p != policy) {
        opponents.push((tuned, Role::Tuned));
    }
    let overall = |p: usize| {
        let logs =
            rows.iter().filter(|r| r.policy == design.policies[p]).filter_map(|r| r.s_score).map(f64::ln);
        let (sum, n) = logs.fold((0.0, 0.0), |(sum, n), ln| (sum + ln, n + 1.0));
        if p == 0 || n == 0.0 { 0.0 } else { sum / n }
    };
    if design.policies.len() > 2 {
        let rivals = (0..design.policies.len()).filter(|&p| p != policy);
        let best = rivals.min_by(|&a, &b| overall(a).total_cmp(&overall(b)));
        opponents.extend(best.map(|p| (p, Role::BestRival)));
    }
    opponents
}

struct Group {
    scope: Scope,
    name: Option<String>,
    members: Vec<usize>,
}

impl Group {
    /// The same draws for all policies, other draws for each group.
    fn seed(&self) -> u64 {
        let text = format!("{:?} {:?}", self.scope, self.name);
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, b| {
            (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}

fn groups(cells: &[CellInfo]) -> Vec<Group> {
    let mut groups = vec![Group { scope: Scope::Overall, name: None, members: (0..cells.len()).collect() }];
    for (scope, name) in [
        (Scope::Grid, (|c: &CellInfo| &c.grid) as fn(&CellInfo) -> &String),
        (Scope::Mix, |c: &CellInfo| &c.mix),
    ] {
        let first = groups.len();
        for (i, cell) in cells.iter().enumerate() {
            let name = name(cell);
            match groups[first..].iter_mut().find(|g| g.name.as_ref() == Some(name)) {
                Some(group) => group.members.push(i),
                None => groups.push(Group { scope, name: Some(name.clone()), members: vec![i] }),
            }
        }
    }
    groups
}

fn summary_row(
    group: &Group,
    (policy, against): (&str, &str),
    role: Role,
    figures: &[Option<Interval>; METRICS],
) -> SummaryRow {
    let exp = |i: Option<Interval>| i.map(|i| i.map(f64::exp));
    let [s, feasible, delay, mean_all, mean_l, mean_c, p99_all, p99_l, p99_c, utilization, ratio] = *figures;
    SummaryRow {
        scope: group.scope,
        name: group.name.clone(),
        policy: policy.to_owned(),
        against: against.to_owned(),
        role,
        cells: group.members.len(),
        s_score: exp(s),
        feasible_share: feasible,
        delay_ratio: exp(delay),
        delay_mean_ratio: PerQueue { l: exp(mean_l), c: exp(mean_c), all: exp(mean_all) },
        delay_p99_ratio: PerQueue { l: exp(p99_l), c: exp(p99_c), all: exp(p99_all) },
        utilization_difference: utilization,
        abs_log2_ratio_difference: ratio,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::synthetic;

    fn judged(policies: &[&str], threads: usize) -> (Design, Judgement) {
        let (design, records) = synthetic::build(policies, 1);
        let judgement = judge(&design, &records, 1000, threads).unwrap();
        (design, judgement)
    }

    fn find<'a>(
        j: &'a Judgement,
        scope: Scope,
        name: Option<&str>,
        policy: &str,
        role: Role,
    ) -> &'a SummaryRow {
        let mut rows = j.summary.iter().filter(|r| {
            r.scope == scope && r.name.as_deref() == name && r.policy == policy && r.role == role
        });
        let row = rows.next().unwrap();
        assert_eq!(rows.next(), None);
        row
    }

    #[test]
    fn threads_have_no_influence() {
        assert_eq!(judged(&synthetic::POLICIES, 1), judged(&synthetic::POLICIES, 3));
    }

    /// The geometric mean of the rows of the cells.
    #[test]
    fn a_group_is_the_geometric_mean_of_its_cells() {
        let (_, all) = judged(&["model"], 2);
        for (scope, name, cells) in [
            (Scope::Overall, None, 30),
            (Scope::Grid, Some("rfc9332"), 25),
            (Scope::Grid, Some("bursty"), 3),
            (Scope::Mix, Some("c_only"), 2),
        ] {
            let row = find(&all, scope, name, "model", Role::Baseline);
            let members: Vec<_> = all
                .cells
                .iter()
                .filter(|c| c.policy == "model")
                .filter(|c| match scope {
                    Scope::Overall => true,
                    Scope::Grid => Some(c.grid.as_str()) == name,
                    Scope::Mix | Scope::Phase => Some(c.mix.as_str()) == name,
                })
                .collect();
            assert_eq!((row.cells, members.len()), (cells, cells));
            let count = cells as f64;
            let s = (members.iter().map(|c| c.s_score.unwrap().ln()).sum::<f64>() / count).exp();
            assert!((row.s_score.unwrap().value - s).abs() < 1e-12);
            let feasible = members.iter().filter(|c| c.feasible).count() as f64 / count;
            assert!((row.feasible_share.unwrap().value - feasible).abs() < 1e-12);
            let gain = |c: &&CellRow| c.figures.utilization.unwrap() - c.baseline.utilization.unwrap();
            let gain = members.iter().map(gain).sum::<f64>() / count;
            assert!((row.utilization_difference.unwrap().value - gain).abs() < 1e-12);
            for interval in [row.s_score, row.feasible_share, row.delay_ratio, row.delay_mean_ratio.c] {
                let interval = interval.unwrap();
                assert!(interval.lo <= interval.value && interval.value <= interval.hi, "{interval:?}");
            }
        }
        let c_only = find(&all, Scope::Mix, Some("c_only"), "model", Role::Baseline);
        assert_eq!((c_only.delay_mean_ratio.l, c_only.abs_log2_ratio_difference), (None, None));
    }

    /// The synthetic baseline has 15 ms, the model 6.5 ms, whatever the seed: the noise cancels within a pair.
    #[test]
    fn ratios_are_paired() {
        let (_, j) = judged(&["model"], 2);
        let row = find(&j, Scope::Grid, Some("rfc9332"), "model", Role::Baseline);
        let c = row.delay_mean_ratio.c.unwrap();
        assert!((c.value - 6.5 / 15.0).abs() < 1e-9 && c.hi - c.lo < 1e-9, "{c:?}");
        let floor = find(&j, Scope::Grid, Some("rfc9332"), BASELINE, Role::Baseline);
        let c = floor.delay_mean_ratio.c.unwrap();
        assert!(c.lo < 1.0 && c.hi > c.lo && (c.value - 1.0).abs() < 0.02, "other seeds differ: {c:?}");
    }

    #[test]
    fn against_another_policy_s_is_the_ratio_of_both_scores() {
        let (_, j) = judged(&["dualpi2-tuned", "model"], 2);
        let s = |policy, role| find(&j, Scope::Overall, None, policy, role).s_score.unwrap().value;
        let model = s("model", Role::Baseline);
        let ratio = s("model", Role::Tuned);
        assert!((ratio - model / s("dualpi2-tuned", Role::Baseline)).abs() < 1e-12);
        let rival = find(&j, Scope::Overall, None, "model", Role::BestRival);
        assert_eq!((rival.against.as_str(), rival.s_score.unwrap().value), ("dualpi2-tuned", ratio));
        let rival = find(&j, Scope::Overall, None, "dualpi2-tuned", Role::BestRival);
        assert_eq!(rival.against, "model");
        assert!(j.summary.iter().all(|r| r.policy != TUNED || r.role != Role::Tuned), "not against itself");
    }

    #[test]
    fn the_baseline_can_be_the_best_rival_but_is_not_the_only_one() {
        let (_, j) = judged(&["codel", "pi2"], 2);
        assert_eq!(find(&j, Scope::Overall, None, "codel", Role::BestRival).against, BASELINE);
        let (_, j) = judged(&["codel"], 2);
        assert!(j.summary.iter().all(|r| r.role == Role::Baseline));
    }

    #[test]
    fn a_missing_run_is_named() {
        let (design, mut records) = synthetic::build(&["model"], 1);
        records.retain(|r| !(r.cell.name == "bursty-0-1" && r.policy == "model" && r.seed == 2));
        let text = judge(&design, &records, 10, 1).unwrap_err().to_string();
        assert!(text.contains("no record of bursty bursty-0-1 under model, seed 2"), "{text}");
    }

    /// Prints how long many cells take: `cargo test --release -- --ignored --nocapture thousands_of_cells`.
    #[test]
    #[ignore = "a measurement"]
    #[expect(clippy::disallowed_methods, reason = "it measures time")]
    fn thousands_of_cells_take_seconds() {
        let (design, records) = synthetic::build(&synthetic::POLICIES, 100);
        let start = std::time::Instant::now();
        judge(&design, &records, super::bootstrap::DRAWS, 2).unwrap();
        let (cells, policies) = (design.cells.len(), design.policies.len());
        eprintln!("{cells} cells, {policies} policies, 10^4 draws: {:.1} s", start.elapsed().as_secs_f64());
    }
}
