//! `l4sd_gym._core`: the environments of `l4sd::env` for Python, over the caller's NumPy arrays, the runs of
//! `l4sd eval`, and the rules that training follows.
//!
//! It converts, checks, and lets go of the interpreter's lock while links are simulated. What a user sees is the Python
//! package on top; nothing here is meant to be called directly. No simulation, no reward and no feature stands here.

mod eval;
mod rules;

use std::path::Path;
use std::sync::Arc;

use l4sd::aqm::params::Knobs;
use l4sd::control::action::{self, Action, ActionTable};
use l4sd::env::episode::INFO;
use l4sd::env::many::StepBuffers;
use l4sd::env::reward::RewardParams;
use l4sd::env::{Autoreset, EnvError, EnvOptions, LinkEnv, Plan, VecLinkEnv};
use l4sd::sim::Scenario;
use l4sd::telemetry::features::Schema;
use l4sd::time::Span;
use numpy::{PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray1, PyReadwriteArray2};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

fn value_error(e: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(e.to_string())
}

/// A step past the end is the order of calls gone wrong; all else is a value.
fn env_error(e: EnvError) -> PyErr {
    if matches!(e, EnvError::Over(_)) { PyRuntimeError::new_err(e.to_string()) } else { value_error(e) }
}

/// Seconds of a user to a span. `Span` itself turns what is no time into zero.
fn span(name: &str, seconds: f64) -> PyResult<Span> {
    if seconds.is_finite() && (0.0..=1e8).contains(&seconds) {
        Ok(Span::from_secs_f64(seconds))
    } else {
        Err(value_error(format!("{name} = {seconds} is not a time: 0 to 10^8 s")))
    }
}

/// Where a scenario comes from: ("file", its path) or ("text", its TOML).
type Source = (String, String);

fn scenario((kind, text): &Source) -> PyResult<Scenario> {
    match kind.as_str() {
        "file" => Scenario::load(Path::new(text)),
        _ => Scenario::parse(text, "scenario"),
    }
    .map_err(value_error)
}

/// Environments over one list of scenarios.
#[pyclass(module = "l4sd_gym._core")]
struct Links {
    envs: VecLinkEnv,
}

/// What environments were, and where they stood.
#[pyclass(module = "l4sd_gym._core", frozen)]
struct Snapshot {
    envs: Vec<(usize, LinkEnv)>,
}

#[pymethods]
impl Links {
    #[new]
    #[pyo3(signature = (
        scenarios, count, *, interval_s, hold, slow_every, duration_s, twin, lam_utilisation, lam_fairness, move_cost,
        grace_s, trail_s, autoreset, threads
    ))]
    #[expect(clippy::too_many_arguments, reason = "keywords of a call from Python, all of them")]
    #[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn new(
        py: Python<'_>,
        scenarios: Vec<Source>,
        count: usize,
        interval_s: f64,
        hold: u32,
        slow_every: u32,
        duration_s: Option<f64>,
        twin: bool,
        lam_utilisation: f64,
        lam_fairness: f64,
        move_cost: f64,
        grace_s: f64,
        trail_s: f64,
        autoreset: &str,
        threads: usize,
    ) -> PyResult<Self> {
        let reward = RewardParams {
            lam_utilisation,
            lam_fairness,
            move_cost,
            grace: span("grace_s", grace_s)?,
            trail: span("trail_s", trail_s)?,
        };
        let options = EnvOptions {
            interval: span("interval_s", interval_s)?,
            hold,
            slow_every,
            duration: duration_s.map(|s| span("duration_s", s)).transpose()?,
            twin,
            reward,
        };
        let autoreset = match autoreset {
            "NextStep" => Autoreset::NextStep,
            "SameStep" => Autoreset::SameStep,
            "Disabled" => Autoreset::Disabled,
            other => {
                return Err(value_error(format!(
                    "autoreset = '{other}' is not one of NextStep, SameStep, Disabled"
                )));
            }
        };
        let scenarios = scenarios.iter().map(scenario).collect::<PyResult<Vec<_>>>()?;
        let plan = Plan::new(scenarios, options).map_err(env_error)?;
        let envs = py.detach(|| VecLinkEnv::new(&plan, count, 0, autoreset, threads));
        Ok(Self { envs: envs.map_err(env_error)? })
    }

    /// Numbers in one observation.
    #[getter]
    fn width(&self) -> usize {
        self.envs.width()
    }

    /// Names of the scenarios, in order.
    #[getter]
    fn scenarios(&self) -> Vec<String> {
        self.envs.plan().scenarios().map(|s| s.name.clone()).collect()
    }

    /// Scenario and seed of the link of environment `index`.
    fn link_seed(&self, index: usize) -> PyResult<(usize, u64)> {
        Ok(self.envs.env(index).map_err(env_error)?.link_seed())
    }

    /// `VecLinkEnv::reset`.
    #[pyo3(signature = (seed, scenario, mask, observations, info))]
    #[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn reset(
        &mut self,
        py: Python<'_>,
        seed: Option<u64>,
        scenario: Option<usize>,
        mask: Option<PyReadonlyArray1<'_, bool>>,
        mut observations: PyReadwriteArray2<'_, f32>,
        mut info: PyReadwriteArray2<'_, f32>,
    ) -> PyResult<()> {
        let mask = mask.as_ref().map(PyReadonlyArray1::as_slice).transpose()?;
        let (observations, info) = (observations.as_slice_mut()?, info.as_slice_mut()?);
        py.detach(|| self.envs.reset(seed, scenario, mask, observations, info)).map_err(env_error)
    }

    /// `VecLinkEnv::step`.
    #[pyo3(signature = (actions, observations, rewards, truncated, info, last_observations, last_info))]
    #[expect(clippy::too_many_arguments, reason = "one array for each thing that a step tells")]
    #[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn step(
        &mut self,
        py: Python<'_>,
        actions: PyReadonlyArray2<'_, i64>,
        mut observations: PyReadwriteArray2<'_, f32>,
        mut rewards: PyReadwriteArray1<'_, f64>,
        mut truncated: PyReadwriteArray1<'_, bool>,
        mut info: PyReadwriteArray2<'_, f32>,
        mut last_observations: Option<PyReadwriteArray2<'_, f32>>,
        mut last_info: Option<PyReadwriteArray2<'_, f32>>,
    ) -> PyResult<()> {
        let actions = actions.as_slice()?;
        let last_observations =
            last_observations.as_mut().map(PyReadwriteArray2::as_slice_mut).transpose()?;
        let last_info = last_info.as_mut().map(PyReadwriteArray2::as_slice_mut).transpose()?;
        let buffers = StepBuffers {
            observations: observations.as_slice_mut()?,
            rewards: rewards.as_slice_mut()?,
            truncated: truncated.as_slice_mut()?,
            info: info.as_slice_mut()?,
            last: last_observations.zip(last_info),
        };
        py.detach(|| self.envs.step(actions, buffers)).map_err(env_error)
    }

    /// Writes observations and info of all.
    fn observe(
        &mut self,
        mut observations: PyReadwriteArray2<'_, f32>,
        mut info: PyReadwriteArray2<'_, f32>,
    ) -> PyResult<()> {
        self.envs.observe(observations.as_slice_mut()?, info.as_slice_mut()?).map_err(env_error)
    }

    /// Environments as they are now; all without `indices`.
    #[pyo3(signature = (indices = None))]
    fn snapshot(&self, py: Python<'_>, indices: Option<Vec<usize>>) -> PyResult<Snapshot> {
        let indices = indices.unwrap_or_else(|| (0..self.envs.count()).collect());
        let take = |i| self.envs.snapshot(i).map(|env| (i, env));
        let envs = py.detach(|| indices.into_iter().map(take).collect::<Result<_, _>>());
        Ok(Snapshot { envs: envs.map_err(env_error)? })
    }

    /// Puts environments back where they were taken, or at `indices`.
    #[pyo3(signature = (snapshot, indices = None))]
    fn restore(&mut self, py: Python<'_>, snapshot: &Snapshot, indices: Option<Vec<usize>>) -> PyResult<()> {
        let envs = &snapshot.envs;
        let indices = indices.unwrap_or_else(|| envs.iter().map(|(i, _)| *i).collect());
        if indices.len() != envs.len() {
            return Err(value_error(format!(
                "{} indices for a snapshot of {} environments",
                indices.len(),
                envs.len()
            )));
        }
        // All of them or none.
        for &index in &indices {
            self.envs.env(index).map_err(env_error)?;
        }
        if let Some((_, env)) = envs.first()
            && !Arc::ptr_eq(env.plan(), self.envs.plan())
        {
            return Err(env_error(EnvError::Foreign));
        }
        let mut pairs = indices.into_iter().zip(envs);
        py.detach(|| pairs.try_for_each(|(i, (_, env))| self.envs.restore(i, env))).map_err(env_error)
    }
}

#[pymethods]
impl Snapshot {
    fn __len__(&self) -> usize {
        self.envs.len()
    }

    /// Seconds since the beginning of the episode of each.
    #[getter]
    fn times_s(&self) -> Vec<f64> {
        self.envs.iter().map(|(_, env)| env.elapsed().as_secs_f64()).collect()
    }
}

/// The values behind the numbers of an action, by the part's name; times in milliseconds.
fn action_values(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let table = ActionTable::new(Schema::embedded().action);
    let mut parts = table.defaults().parts().map(i64::from);
    let values = PyDict::new(py);
    for (i, (name, size)) in action::NAMES.into_iter().zip(action::SIZES).enumerate() {
        let default = parts[i];
        let mut column = Vec::with_capacity(size);
        for value in (0..).take(size) {
            parts[i] = value;
            let k: Knobs = table.knobs(Action::new(parts).map_err(value_error)?);
            column.push([k.target.as_millis_f64(), k.gain, k.ramp_min.as_millis_f64(), k.feed_forward][i]);
        }
        parts[i] = default;
        values.set_item(name, column)?;
    }
    Ok(values)
}

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Links>()?;
    m.add_class::<Snapshot>()?;
    m.add_class::<eval::EvalPlan>()?;
    m.add_function(wrap_pyfunction!(eval::grid_scenarios, m)?)?;
    m.add_function(wrap_pyfunction!(rules::candidates, m)?)?;
    m.add_function(wrap_pyfunction!(rules::judge_figures, m)?)?;
    m.add_function(wrap_pyfunction!(rules::choose, m)?)?;
    m.add("INFO", INFO.to_vec())?;
    m.add("ACTION_NAMES", action::NAMES.to_vec())?;
    m.add("ACTION_SIZES", action::SIZES.to_vec())?;
    m.add("ACTION_VALUES", action_values(m.py())?)?;
    let schema = Schema::embedded();
    m.add("FEATURES", schema.names())?;
    m.add("SCHEMA_HASH", &schema.hash)?;
    m.add("DEFAULT_ACTION", ActionTable::new(schema.action).defaults().parts().map(i64::from).to_vec())?;
    m.add("DEFAULT_SCENARIO", include_str!("../../../scenarios/40mbit-20ms.toml"))?;
    m.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}
