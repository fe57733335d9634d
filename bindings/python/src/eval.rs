//! The plan, the runs and the verdict of `l4sd eval`, for whoever spreads the runs over machines.

use std::cmp::Reverse;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread::available_parallelism;

use l4sd::config::Policy;
use l4sd::control::model;
use l4sd::eval::batch::{self, BatchError};
use l4sd::eval::plan::{self, Draws};
use l4sd::eval::{CellRecord, EvalError, Progress, RecordLog, Unit, oracle, runner};
use l4sd::time::Instant;
use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::{span, value_error};

fn draws(split: &str, seed: u64, draws: u32, smoke: bool) -> PyResult<Draws> {
    if !(1..=1000).contains(&draws) {
        return Err(value_error(format!("draws = {draws} is not in 1 to 1000")));
    }
    Ok(Draws { split: plan::split(split).map_err(value_error)?, seed, draws, smoke })
}

/// The runs of an evaluation. The same arguments are the same plan in every process.
#[pyclass(module = "l4sd_gym._core", frozen)]
pub(crate) struct EvalPlan {
    plan: plan::EvalPlan,
}

#[pymethods]
impl EvalPlan {
    #[new]
    #[pyo3(signature = (grids, policies, *, split, split_seed, seeds, draws, smoke, guest = None))]
    #[expect(clippy::too_many_arguments, reason = "keywords of a call from Python")]
    #[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn new(
        grids: Vec<String>,
        policies: Vec<String>,
        split: &str,
        split_seed: u64,
        seeds: u64,
        draws: u32,
        smoke: bool,
        guest: Option<&str>,
    ) -> PyResult<Self> {
        if !(1..=100).contains(&seeds) {
            return Err(value_error(format!("seeds = {seeds} is not in 1 to 100")));
        }
        let policies = policies
            .iter()
            .map(|p| p.parse::<Policy>().map_err(|e| value_error(format!("policy '{p}': {e}"))))
            .collect::<PyResult<Vec<_>>>()?;
        let draws = self::draws(split, split_seed, draws, smoke)?;
        let plan = plan::EvalPlan::new(&grids, &policies, &draws, seeds).map_err(value_error)?;
        let plan = match guest {
            Some(name) => plan.with_guest(name).map_err(value_error)?,
            None => plan,
        };
        Ok(Self { plan })
    }

    /// Cell, policy and seed of each run, the longest first.
    fn units(&self) -> Vec<(usize, usize, u64)> {
        let mut units = self.plan.units(|_| String::new());
        units.sort_by(|a, b| b.cost.total_cmp(&a.cost));
        units.into_iter().map(|u| (u.cell, u.policy, u.seed)).collect()
    }

    /// Makes a run and returns its record, JSON.
    fn run(&self, py: Python<'_>, cell: usize, policy: usize, seed: u64) -> PyResult<String> {
        for (name, index, n) in
            [("cell", cell, self.plan.cells.len()), ("policy", policy, self.plan.policies.len())]
        {
            if index >= n {
                return Err(value_error(format!("{name} {index}: there are {n}")));
            }
        }
        let record = py.detach(|| self.plan.run(cell, policy, seed)).map_err(value_error)?;
        serde_json::to_string(&record).map_err(value_error)
    }

    /// Records of all runs of `dualpi2`, JSON, made on all cores; those that `folder` has are not made again, and it gets
    /// the others.
    #[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn baseline(&self, py: Python<'_>, folder: PathBuf) -> PyResult<Vec<String>> {
        py.detach(|| {
            let text = |e: &dyn std::fmt::Display| e.to_string();
            let definition = plan::definition(&Policy::DualPi2).map_err(|e| text(&e))?;
            let mut units = self.plan.units(|_| definition.clone());
            units.retain(|u| u.policy == 0);
            let mut log = RecordLog::open(&folder, &self.plan.header, false).map_err(|e| text(&e))?;
            let threads = available_parallelism().map_or(1, NonZero::get);
            let work = |u: &Unit| self.plan.run(u.cell, u.policy, u.seed);
            let records =
                runner::run(&units, &mut log, threads, &Progress::quiet(), work).map_err(|e| text(&e))?;
            let records = records.iter().map(|r| serde_json::to_string(r).map_err(|e| text(&e)));
            records.collect::<Result<Vec<_>, _>>()
        })
        .map_err(value_error)
    }

    /// Grid, cell and seed of each run of the guest, the longest first.
    fn guest_runs(&self) -> Vec<(String, String, u64)> {
        let run = |(cell, seed): (usize, u64)| {
            let info = &self.plan.design.cells[cell];
            (info.grid.clone(), info.name.clone(), seed)
        };
        self.guest_units().into_iter().map(run).collect()
    }

    /// Makes the runs of the guest and returns their records, JSON. Each time that all runs under way have a question,
    /// `choose` gets their numbers in [`EvalPlan::guest_runs`], features, current candidates and times, and gives a
    /// candidate for each, negative = none. Candidates are rows of `[target_s, gain, ramp_min_s]`, those of training if
    /// there are none.
    #[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn run_guest(
        &self,
        py: Python<'_>,
        choose: Py<PyAny>,
        period_s: f64,
        at_once: usize,
        candidates: Option<Vec<[f64; 3]>>,
    ) -> PyResult<Vec<String>> {
        let period = span("period_s", period_s)?;
        let candidates =
            candidates.map_or_else(|| Ok(oracle::candidate_knobs()), |rows| model::settings(&rows));
        let candidates = candidates.map_err(value_error)?;
        let Some(name) = self.plan.design.policies.last().filter(|_| self.has_guest()) else {
            return Err(value_error("the plan has no guest"));
        };
        let units = self.guest_units();
        let run = |&(cell, seed): &(usize, u64)| {
            let (cell, scenario) = &self.plan.cells[cell];
            batch::Run { cell, scenario, seed }
        };
        let runs: Vec<_> = units.iter().map(run).collect();
        let ask = |questions: &[batch::Question]| Python::attach(|py| asked(py, &choose, questions));
        let records = py.detach(|| batch::run(&runs, name, &candidates, period, at_once, ask)).map_err(
            |e| match e {
                BatchError::Policy(e) => e,
                BatchError::Unit { .. } | BatchError::Thread(_) | BatchError::Panic => {
                    PyRuntimeError::new_err(e.to_string())
                }
                BatchError::Count(..) | BatchError::NoCandidate(_) => value_error(e),
            },
        )?;
        records.iter().map(|r| serde_json::to_string(r).map_err(value_error)).collect()
    }

    /// The bytes of `results.json`, from the records of all runs in any order.
    #[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn judge(&self, py: Python<'_>, records: Vec<String>) -> PyResult<String> {
        py.detach(|| {
            let records = records.iter().enumerate().map(|(i, text)| {
                serde_json::from_str::<CellRecord>(text).map_err(|e| format!("record {i}: {e}"))
            });
            let records = records.collect::<Result<Vec<_>, _>>()?;
            let units = self.plan.units(|_| String::new());
            let records = self.plan.in_order(&units, records).map_err(|e| match e {
                EvalError::Missing(unit) => format!("there is no record of {unit}"),
                e => e.to_string(),
            })?;
            let threads = available_parallelism().map_or(1, NonZero::get);
            self.plan.judge(&records, threads).map(|(_, results)| results).map_err(|e| e.to_string())
        })
        .map_err(value_error)
    }
}

impl EvalPlan {
    fn has_guest(&self) -> bool {
        self.plan.design.policies.len() > self.plan.policies.len()
    }

    /// Cell and seed of each run of the guest, the longest first.
    fn guest_units(&self) -> Vec<(usize, u64)> {
        let design = &self.plan.design;
        let cells = if self.has_guest() { design.cells.len() } else { 0 };
        let mut units: Vec<_> =
            (0..cells).flat_map(|cell| design.seeds.iter().map(move |&seed| (cell, seed))).collect();
        units.sort_by_key(|&(cell, _)| Reverse(self.plan.cells[cell].1.duration));
        units
    }
}

/// Hands questions to a Python callable.
fn asked(py: Python<'_>, choose: &Py<PyAny>, questions: &[batch::Question]) -> PyResult<Vec<batch::Answer>> {
    let width = questions.first().map_or(0, |q| q.features.len());
    let features: Vec<f32> = questions.iter().flat_map(|q| &q.features).copied().collect();
    let numbers = |of: fn(&batch::Question) -> usize| {
        let numbers: Vec<i64> = questions.iter().map(|q| of(q).cast_signed() as i64).collect();
        PyArray1::from_vec(py, numbers)
    };
    let times: Vec<f64> = questions.iter().map(|q| q.at.since(Instant::ZERO).as_secs_f64()).collect();
    let features = PyArray1::from_vec(py, features).reshape([questions.len(), width])?;
    let answers = choose
        .call1(py, (numbers(|q| q.run), features, numbers(|q| q.current), PyArray1::from_vec(py, times)))?;
    let answers = answers.extract::<PyReadonlyArray1<'_, i64>>(py)?;
    Ok(answers.as_array().iter().map(|&n| usize::try_from(n).ok()).collect())
}

/// Scenario texts of the cells of a grid.
#[pyfunction]
#[pyo3(signature = (grid, split, split_seed, draws, smoke))]
pub(crate) fn grid_scenarios(
    grid: &str,
    split: &str,
    split_seed: u64,
    draws: u32,
    smoke: bool,
) -> PyResult<Vec<String>> {
    let draws = self::draws(split, split_seed, draws, smoke)?;
    let grid = plan::grid(grid).map_err(value_error)?;
    Ok(draws.of(grid).into_iter().map(|c| c.text).collect())
}
