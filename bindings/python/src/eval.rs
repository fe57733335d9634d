//! The plan, the runs and the verdict of `l4sd eval`, for whoever spreads the runs over machines.

use std::num::NonZero;
use std::thread::available_parallelism;

use l4sd::config::Policy;
use l4sd::eval::plan::{self, Draws};
use l4sd::eval::{CellRecord, EvalError};
use pyo3::prelude::*;

use super::value_error;

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
    #[pyo3(signature = (grids, policies, *, split, split_seed, seeds, draws, smoke))]
    #[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn new(
        grids: Vec<String>,
        policies: Vec<String>,
        split: &str,
        split_seed: u64,
        seeds: u64,
        draws: u32,
        smoke: bool,
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
