//! The privileged oracle: for each drawn link, whose hidden truth it may run as often as it likes, the constants that
//! DualPI2 should have had. It shows what there is to gain and is what policies are fitted to.
//!
//! A choice is never judged by the runs that it was made by: its figures are those of fresh seeds, the same that
//! `l4sd eval` uses, and tables are made of these alone.

mod link;
mod search;
mod settings;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{sync::mpsc, thread};

pub use link::{LinkRecord, Measured, Rerun};
pub use settings::{Axis, Setting, candidate_knobs, candidates};

use self::link::Link;
use self::search::{MARGIN_SHARE, OTHER_SEEDS, RERUN_SEEDS, Stop};
use self::settings::Knobs;
use super::Progress;
use super::bootstrap;
use super::design::{BASELINE, Design, Unit};
use super::file::EvalFile;
use super::plan::{self, Draws, PlanError};
use super::records::{Header, RecordLog};
use super::runner::RunError;
use super::score::Figures;
use super::simulate::SimulateError;
use super::summary::{CellRuns, Judgement, judge_runs};
use crate::control::model::FeedForwardRule;
use crate::sim::Grid;
use crate::telemetry::features::Schema;

/// Name of the file of records.
pub const FILE: &str = "oracle.jsonl";
/// Seconds of a brief run, unless the cell is shorter or has phases: brief phases would be little but the change between them.
const SHORT_SECONDS: f64 = 30.0;

/// What is to be searched.
#[derive(Debug)]
pub struct OraclePlan {
    links: Vec<Link>,
    knobs: Knobs,
    rule: Option<FeedForwardRule>,
    /// Split and version.
    pub header: Header,
    draws: usize,
}

impl OraclePlan {
    /// The links of `grids`; none is all but smoke.
    pub fn new(grids: &[String], draws: &Draws) -> Result<Self, PlanError> {
        let all = || Grid::ALL.into_iter().filter(|g| *g != Grid::Smoke).collect();
        let grids: Vec<Grid> = match grids {
            [] => all(),
            names => names.iter().map(|name| plan::grid(name)).collect::<Result<_, _>>()?,
        };
        let mut links = Vec::new();
        for grid in grids {
            let full = draws.of(grid);
            let seconds = full.iter().map(|c| c.scenario.duration.as_secs_f64()).fold(0.0, f64::max);
            let short = if seconds > SHORT_SECONDS {
                grid.cells_of(draws.split, draws.seed, draws.draws, SHORT_SECONDS)
            } else {
                full.clone()
            };
            links.extend(full.into_iter().zip(short).map(|(full, short)| {
                let short = if full.scenario.phases.is_empty() { short } else { full.clone() };
                Link::new(full, short)
            }));
        }
        let knobs = Knobs::new(Schema::embedded().action);
        let header = Header::new(draws.split.name(), draws.seed);
        Ok(Self { links, knobs, rule: None, header, draws: draws.draws as usize })
    }

    /// Every setting with this feed-forward: constants as a model that has the rule would hold them.
    #[must_use]
    pub fn with_rule(self, rule: FeedForwardRule) -> Self {
        let header = Header { feed_forward: Some(rule.to_string()), ..self.header };
        Self { rule: Some(rule), header, ..self }
    }

    /// A unit of work for each link, in the order of tables.
    pub fn units(&self) -> Vec<Unit> {
        let cells = self.links.iter().map(|link| link.info.clone()).collect();
        let design =
            Design { cells, policies: vec!["oracle".to_owned()], seeds: vec![0], other_seeds: Vec::new() };
        design.units(
            |c| format!("{:?} {:?} {:?}", self.links[c].full, self.links[c].short, self.knobs),
            |_| format!("{SHORT_SECONDS} {MARGIN_SHARE}"),
            |c| self.links[c].cost(),
        )
    }

    /// Searches the links that `log` does not have, while `go_on` says so, and returns all that have been searched, in
    /// the order of `units`. When time is up, the links in progress are given up.
    pub fn run(
        &self,
        units: &[Unit],
        log: &mut RecordLog<LinkRecord>,
        jobs: usize,
        progress: &Progress,
        go_on: &(impl Fn() -> bool + Sync),
    ) -> Result<Vec<LinkRecord>, RunError<SimulateError>> {
        let mut records: Vec<Option<LinkRecord>> = units.iter().map(|u| log.take(u)).collect();
        let todo = self.order(&records);
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (done, finished) = mpsc::channel();
        let mut failure = None;
        thread::scope(|scope| {
            for _ in 0..jobs.clamp(1, todo.len().max(1)) {
                let (done, todo, next, stop) = (done.clone(), &todo, &next, &stop);
                scope.spawn(move || {
                    let go_on = || !stop.load(Ordering::Relaxed) && go_on();
                    while let Some(&i) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let outcome = search::search(&self.links[i], &self.knobs, self.rule.as_ref(), &go_on);
                        if matches!(outcome, Err(Stop::Time)) {
                            return;
                        }
                        // The receiver lives until the last sender is gone.
                        let _ = done.send((i, outcome));
                    }
                });
            }
            drop(done);
            for (i, outcome) in finished {
                let kept = match outcome {
                    Ok(record) => log.append(&units[i], record).map_err(RunError::Eval),
                    Err(Stop::Failed(error)) => Err(RunError::Unit { unit: units[i].name.clone(), error }),
                    Err(Stop::Time) => continue,
                };
                match kept {
                    Ok(record) => {
                        records[i] = Some(record);
                        progress.step();
                    }
                    Err(e) => {
                        stop.store(true, Ordering::Relaxed);
                        failure.get_or_insert(e);
                    }
                }
            }
        });
        match failure {
            Some(failure) => Err(failure),
            None => Ok(records.into_iter().flatten().collect()),
        }
    }

    /// The links that have no record: the first draw of all points before the second, and within a draw grids mixed, so
    /// that whatever time allows is a sample of all.
    fn order(&self, records: &[Option<LinkRecord>]) -> Vec<usize> {
        let mut per_grid = std::collections::HashMap::new();
        for link in &self.links {
            *per_grid.entry(&link.info.grid).or_insert(0_usize) += 1;
        }
        let mut seen = std::collections::HashMap::new();
        let mut order: Vec<_> = (0..self.links.len())
            .map(|i| {
                let grid = &self.links[i].info.grid;
                let number = seen.entry(grid).or_insert(0_usize);
                *number += 1;
                let points = per_grid[grid] / self.draws.max(1);
                let draw = (*number - 1) / points.max(1);
                // Spread by the golden ratio.
                let place = (i as f64 * 0.618_033_988_749_895).fract();
                (draw, place, i)
            })
            .collect();
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        order.into_iter().map(|(_, _, i)| i).filter(|&i| records[i].is_none()).collect()
    }
}

/// Judges the choices by their fresh seeds; the policies are called as [`Axis::policy`] says. Returns the bytes of
/// `results.json` too, which has no runs.
pub fn judge(header: &Header, records: &[LinkRecord], threads: usize) -> (Design, Judgement, String) {
    let policies =
        std::iter::once(BASELINE).chain(Axis::ORDER.map(Axis::policy)).map(str::to_owned).collect();
    let design = Design {
        cells: records.iter().map(|r| r.cell.clone()).collect(),
        policies,
        seeds: RERUN_SEEDS.to_vec(),
        other_seeds: OTHER_SEEDS.to_vec(),
    };
    let of_axis = |record: &LinkRecord, axis: Axis| -> Vec<Figures> {
        let found = record.oracles.iter().find(|o| o.axis == axis);
        found.map_or_else(|| record.baseline.clone(), |o| o.runs.clone())
    };
    let cells: Vec<_> = records
        .iter()
        .map(|record| CellRuns {
            info: &record.cell,
            runs: std::iter::once(record.baseline.clone())
                .chain(Axis::ORDER.map(|axis| of_axis(record, axis)))
                .collect(),
            other: record.other.clone(),
        })
        .collect();
    let judgement = judge_runs(&design, &cells, bootstrap::DRAWS, threads);
    let results = EvalFile::new(&design, header, &[], &judgement).to_json();
    (design, judgement, results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Split;

    /// Runs of 60 s, brief ones of 30 s; where there are phases, brief ones too are of 60 s.
    #[test]
    fn links_with_phases_are_never_cut_short() {
        let draws = Draws { split: Split::Train, seed: 5, draws: 1, smoke: false };
        let plan = OraclePlan::new(&["switch".to_owned(), "rtt".to_owned()], &draws).unwrap();
        for link in &plan.links {
            let (full, short) = (link.full.duration.as_secs_f64(), link.short.duration.as_secs_f64());
            assert_eq!(short, if link.info.grid == "switch" { full } else { SHORT_SECONDS }, "{full} s");
        }
    }
}
