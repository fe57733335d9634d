//! What training must not state again: the candidate settings, what figures are worth, and the choice among candidates.

use l4sd::control::model::choice::Answer;
use l4sd::eval::CellInfo;
use l4sd::eval::oracle;
use l4sd::eval::score::{self, Figures};
use numpy::{PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use super::value_error;

/// Bins of target, gain and ramp of each candidate, RFC 9332's constants first.
#[pyfunction]
pub(crate) fn candidates() -> Vec<(u8, u8, u8)> {
    oracle::candidates().into_iter().map(|oracle::Setting([t, g, r])| (t, g, r)).collect()
}

/// ln S whether feasible or not, and the room within each bound, of figures against a reference's, both JSON.
/// With `phase`, they are those of a phase of that name.
#[pyfunction]
#[pyo3(signature = (got, reference, bursty, mice, phase))]
pub(crate) fn judge_figures(
    got: &str,
    reference: &str,
    bursty: bool,
    mice: bool,
    phase: Option<&str>,
) -> PyResult<(Option<f64>, Vec<f64>)> {
    let figures = |name: &str, text: &str| {
        serde_json::from_str::<Figures>(text).map_err(|e| value_error(format!("{name}: {e}")))
    };
    let (got, reference) = (figures("got", got)?, figures("reference", reference)?);
    let cell = CellInfo { bursty, mice, ..CellInfo::default() };
    let cell = phase.map_or(cell.clone(), |name| cell.of_phase(0, name));
    let verdict = score::judge(&cell, &got, &reference);
    Ok((verdict.raw.map(f64::ln), score::rooms(&cell, &got, &reference)))
}

/// The candidate of each row to use next, when that of `current` is in use.
#[pyfunction]
#[pyo3(signature = (score, feasible, current, threshold, hysteresis))]
#[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub(crate) fn choose(
    score: PyReadonlyArray2<'_, f32>,
    feasible: PyReadonlyArray2<'_, f32>,
    current: PyReadonlyArray1<'_, i64>,
    threshold: f64,
    hysteresis: f64,
) -> PyResult<Vec<usize>> {
    let (score, feasible, current) = (score.as_array(), feasible.as_array(), current.as_array());
    let (rows, width) = score.dim();
    if width == 0 || feasible.dim() != (rows, width) || current.len() != rows {
        return Err(value_error(format!(
            "score is {:?}, feasible {:?}, current {:?}; they are (n, k), (n, k) and (n,)",
            score.dim(),
            feasible.dim(),
            current.dim()
        )));
    }
    let mut chosen = Vec::with_capacity(rows);
    for ((score, feasible), &current) in score.rows().into_iter().zip(feasible.rows()).zip(&current) {
        let current = usize::try_from(current)
            .ok()
            .filter(|&c| c < width)
            .ok_or_else(|| value_error(format!("current = {current} is not 0 to {}", width - 1)))?;
        let (score, feasible) = (score.to_vec(), feasible.to_vec());
        let answer = Answer { score: &score, feasible: &feasible, ..Answer::default() };
        chosen.push(answer.choose(threshold, hysteresis, current));
    }
    Ok(chosen)
}
