//! The policies that `sim` and `eval` compare, and whether the models among them can be run here.

use l4sd_onnxruntime::{backend, candidates};

use super::exit::Failure;
use super::print;
use crate::config::Policy;
use crate::control::model::{Fault, ModelError, ModelFile, shipped};
use crate::telemetry::features::schema::Schema;

/// `named`, or without any `rival` and the model. A model that was asked for and that nothing here can run is an error; one
/// that was not is left out with one line on standard error.
pub(super) fn chosen(named: &[Policy], rival: Policy) -> Result<Vec<Policy>, Failure> {
    // A file that is none is told before a backend that is none: it is the operator's own mistake.
    let files = named.iter().flat_map(|policy| match policy {
        Policy::Model(file) => [file.as_deref(), None],
        Policy::LookAhead(setup) => [setup.draft.as_deref(), setup.verify.as_deref()],
        _ => [None, None],
    });
    for file in files.flatten() {
        ModelFile::open(Some(file), &Schema::embedded(), None)?;
    }
    let model = named.iter().find_map(|policy| match policy {
        Policy::Model(file) => Some(file.as_deref()),
        Policy::LookAhead(setup) => Some(setup.verify.as_deref()),
        _ => None,
    });
    if !named.is_empty() && model.is_none() {
        return Ok(named.to_vec());
    }
    match (backend(&candidates(None)), model) {
        (Ok(_), Some(_)) => Ok(named.to_vec()),
        (Err(e), Some(file)) => Err(ModelError { file: shipped::name(file), fault: e.into() }.into()),
        (Ok(_), None) => Ok(vec![rival, Policy::Model(None)]),
        (Err(e), None) => {
            print::note(&format!("l4sd: the policy 'model' is left out: {}", Fault::from(e)));
            Ok(vec![rival])
        }
    }
}
