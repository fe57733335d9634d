//! An evaluation from names: grids, policies and seeds to runs, and the records of these runs to `results.json`.
//!
//! Whatever spreads runs over threads, processes or machines comes here: `l4sd eval` and the Python package make the same
//! runs and write the same bytes. It runs nothing by itself and writes no file.

use std::collections::HashMap;
use std::path::Path;

use super::cell::{CellInfo, CellRecord};
use super::design::{Design, Unit};
use super::file::EvalFile;
use super::records::Header;
use super::simulate::{SimulateError, simulate};
use super::summary::{Judgement, judge};
use super::{EvalError, bootstrap};
use crate::config::Policy;
use crate::control::model::ModelFile;
use crate::control::policy::replay::Replay;
use crate::control::policy::rules::Rules;
use crate::sim::run::SimError;
use crate::sim::scenario::ScenarioError;
use crate::sim::{Cell, Grid, Scenario, Split};
use crate::telemetry::features::schema::Schema;
use crate::time::{Instant, Span};

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Results could not tell two policies apart.
    #[error(
        "two policies are both called '{0}' in results; evaluate them one by one, with another --out each"
    )]
    SameName(String),
    /// No grid and no file.
    #[error("there is no grid '{name}'; it is one of {known}, smoke, or a scenario file")]
    NoGrid {
        /// What was asked for.
        name: String,
        /// Grids, with commas.
        known: String,
    },
    /// No split.
    #[error("there is no split '{0}'; it is one of train, low, dev, test")]
    NoSplit(String),
    /// Results could not tell two cells apart.
    #[error("{name}: there is another scenario called '{cell}'; name each once")]
    SameCell {
        /// Grid or file.
        name: String,
        /// The cell.
        cell: String,
    },
    /// A scenario file is bad.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
}

/// Which links are drawn.
#[derive(Clone, Debug)]
pub struct Draws {
    /// From which ranges.
    pub split: Split,
    /// What they are drawn from.
    pub seed: u64,
    /// Links near each point of a grid; it does not count in a smoke run.
    pub draws: u32,
    /// Three cells of each grid, 10 s each.
    pub smoke: bool,
}

impl Draws {
    /// The cells of a grid.
    pub fn of(&self, grid: Grid) -> Vec<Cell> {
        if self.smoke {
            grid.smoke(self.split, self.seed)
        } else {
            grid.cells(self.split, self.seed, self.draws)
        }
    }
}

/// The split of this name.
pub fn split(name: &str) -> Result<Split, PlanError> {
    Split::by_name(name).ok_or_else(|| PlanError::NoSplit(name.to_owned()))
}

/// The grid of this name.
pub fn grid(name: &str) -> Result<Grid, PlanError> {
    Grid::by_name(name)
        .ok_or_else(|| PlanError::NoGrid { name: name.to_owned(), known: all_grids().join(", ") })
}

/// All grids but smoke.
fn all_grids() -> Vec<String> {
    Grid::ALL.iter().filter(|g| **g != Grid::Smoke).map(|g| g.name().to_owned()).collect()
}

/// What is to be done, validated.
#[derive(Debug)]
pub struct EvalPlan {
    /// The links, in the order of the design.
    pub cells: Vec<(CellInfo, Scenario)>,
    /// The first is `dualpi2`.
    pub policies: Vec<Policy>,
    /// Cells, names of policies, seeds.
    pub design: Design,
    /// Split and version.
    pub header: Header,
}

impl EvalPlan {
    /// Cells of `grids`, which are grids or scenario files (none is all grids but smoke), under `policies` and `dualpi2`,
    /// with seeds 1 to `seeds`.
    pub fn new(grids: &[String], policies: &[Policy], draws: &Draws, seeds: u64) -> Result<Self, PlanError> {
        let policies = distinct(policies)?;
        let cells = cells(grids, draws)?;
        let infos = cells.iter().map(|(info, _)| info.clone()).collect();
        let design = Design::new(infos, policies.iter().map(Policy::label), seeds);
        let header = Header::new(draws.split.name(), draws.seed);
        Ok(Self { cells, policies, design, header })
    }

    /// The same with one policy more, which results call `name` and which is not run by [`EvalPlan::run`].
    pub fn with_guest(mut self, name: &str) -> Result<Self, PlanError> {
        if self.design.policies.iter().any(|p| p == name) {
            return Err(PlanError::SameName(name.to_owned()));
        }
        self.design.policies.push(name.to_owned());
        Ok(self)
    }

    /// The same with decisions in force so long after their windows close, and stale after `expires`, in place of what
    /// scenarios say.
    #[must_use]
    pub fn with_latency(mut self, latency: Option<Span>, expires: Option<Span>) -> Self {
        for (_, scenario) in &mut self.cells {
            scenario.decision_latency = latency.unwrap_or(scenario.decision_latency);
            scenario.t_expire = expires.unwrap_or(scenario.t_expire);
        }
        self
    }

    /// The runs, in the order of results. `definition` tells what a policy is beside its name.
    pub fn units(&self, definition: impl Fn(usize) -> String) -> Vec<Unit> {
        self.design.units(
            |c| format!("{:?}", self.cells[c].1),
            definition,
            |c| self.cells[c].1.link.nominal().as_bps() as f64 * self.cells[c].1.duration.as_secs_f64(),
        )
    }

    /// Makes a run.
    ///
    /// # Panics
    ///
    /// If there is no such cell or policy.
    pub fn run(&self, cell: usize, policy: usize, seed: u64) -> Result<CellRecord, SimulateError> {
        let (info, scenario) = &self.cells[cell];
        simulate(info, scenario, &self.policies[policy], seed)
    }

    /// Records of any order in that of `units`; or the first run that has none.
    pub fn in_order(&self, units: &[Unit], records: Vec<CellRecord>) -> Result<Vec<CellRecord>, EvalError> {
        let mut found: HashMap<_, _> =
            records.into_iter().map(|r| ((r.cell.clone(), r.policy.clone(), r.seed), r)).collect();
        let take = |u: &Unit| {
            let key = (self.design.cells[u.cell].clone(), self.design.policies[u.policy].clone(), u.seed);
            found.remove(&key).ok_or_else(|| EvalError::Missing(u.name.clone()))
        };
        units.iter().map(take).collect()
    }

    /// Judges `records`, which are in the order of [`EvalPlan::units`], and returns the bytes of `results.json` too.
    pub fn judge(&self, records: &[CellRecord], threads: usize) -> Result<(Judgement, String), EvalError> {
        let judgement = judge(&self.design, records, bootstrap::DRAWS, threads)?;
        let results = EvalFile::new(&self.design, &self.header, records, &judgement).to_json();
        Ok((judgement, results))
    }
}

/// All that a policy is: a stored run is not taken for one of a file that has been changed since.
pub fn definition(policy: &Policy) -> Result<String, SimError> {
    match policy {
        Policy::Replay(file) => Ok(format!("{policy:?} {:?}", Replay::open(file, Instant::ZERO)?)),
        Policy::DualPi2Rules(file) => Ok(format!("{:?}", Rules::open(file.as_deref(), &Schema::embedded())?)),
        Policy::Model(which) => Ok(format!("model {}", sha256(which.as_deref())?)),
        Policy::LookAhead(setup) => {
            let models = (sha256(setup.draft.as_deref())?, sha256(setup.verify.as_deref())?);
            Ok(format!("{setup} {models:?}"))
        }
        constants => Ok(format!("{constants:?}")),
    }
}

fn sha256(model: Option<&Path>) -> Result<String, SimError> {
    Ok(ModelFile::open(model, &Schema::embedded(), None)?.sha256)
}

/// The baseline, then the others, each once; two that results would call the same are refused.
fn distinct(wanted: &[Policy]) -> Result<Vec<Policy>, PlanError> {
    let mut policies = vec![Policy::DualPi2];
    for policy in wanted {
        if policies.contains(policy) {
            continue;
        }
        let name = policy.label();
        if policies.iter().any(|p| p.label() == name) {
            return Err(PlanError::SameName(name));
        }
        policies.push(policy.clone());
    }
    Ok(policies)
}

/// The links of grids and scenario files.
fn cells(grids: &[String], draws: &Draws) -> Result<Vec<(CellInfo, Scenario)>, PlanError> {
    let all = all_grids();
    let mut cells: Vec<(CellInfo, Scenario)> = Vec::new();
    for name in if grids.is_empty() { &all } else { grids } {
        let is_file =
            Grid::by_name(name).is_none() && (Path::new(name).exists() || name.contains(['.', '/']));
        let fresh = if is_file {
            let scenario = Scenario::load(Path::new(name))?;
            vec![(file_cell(&scenario), scenario)]
        } else {
            draws.of(grid(name)?).into_iter().map(|c| (CellInfo::from(&c), c.scenario)).collect()
        };
        if let Some((cell, _)) = fresh.iter().find(|(cell, _)| cells.iter().any(|(c, _)| c == cell)) {
            return Err(PlanError::SameCell { name: name.clone(), cell: cell.name.clone() });
        }
        cells.extend(fresh);
    }
    Ok(cells)
}

/// A scenario file as a cell of the grid `files`.
fn file_cell(scenario: &Scenario) -> CellInfo {
    CellInfo {
        grid: "files".to_owned(),
        name: scenario.name.clone(),
        mix: scenario.mix(),
        bursty: false,
        mice: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(grids: &[&str], policies: &[&str], smoke: bool) -> Result<EvalPlan, PlanError> {
        let grids: Vec<_> = grids.iter().map(ToString::to_string).collect();
        let policies: Vec<_> = policies.iter().map(|n| n.parse().unwrap()).collect();
        EvalPlan::new(&grids, &policies, &Draws { split: Split::Dev, seed: 1, draws: 1, smoke }, 1)
    }

    #[test]
    fn the_baseline_comes_first_and_nothing_twice() {
        let plan = planned(&["smoke"], &["codel", "dualpi2", "codel", "pi2"], true).unwrap();
        assert_eq!(plan.design.policies, ["dualpi2", "codel", "pi2"]);
        assert_eq!(plan.policies.len(), 3);
        let error = planned(&["smoke", "smoke"], &[], true).unwrap_err();
        assert!(error.to_string().starts_with("smoke: there is another scenario called"), "{error}");
    }

    #[test]
    fn no_grid_is_all_but_smoke() {
        let plan = planned(&[], &[], true).unwrap();
        assert!(plan.cells.iter().all(|(c, _)| c.grid != "smoke"));
        assert_eq!(plan.cells.first().unwrap().0.grid, "rfc9332");
        assert!(matches!(planned(&["nowhere"], &[], true), Err(PlanError::NoGrid { .. })));
    }

    #[test]
    fn records_of_any_order_are_put_in_that_of_the_runs() {
        let plan = planned(&["smoke"], &["codel"], true).unwrap();
        let units = plan.units(|_| String::new());
        assert_eq!(units.len(), 9, "3 cells, the baseline twice and one other");
        let record = |u: &Unit| CellRecord {
            cell: plan.design.cells[u.cell].clone(),
            policy: plan.design.policies[u.policy].clone(),
            seed: u.seed,
            ..CellRecord::default()
        };
        let records: Vec<_> = units.iter().map(record).collect();
        let backwards: Vec<_> = records.iter().rev().cloned().collect();
        assert_eq!(plan.in_order(&units, backwards).unwrap(), records);
        let error = plan.in_order(&units, records[1..].to_vec()).unwrap_err();
        assert!(error.to_string().contains(&units[0].name), "{error}");
    }
}
