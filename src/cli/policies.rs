//! The policies that `sim` and `eval` compare, and whether the models among them can be run here.

use l4sd_onnxruntime::{backend, candidates};

use super::exit::Failure;
use crate::config::Policy;
use crate::control::model::{Fault, ModelError, shipped};

/// `named`, or without any `rival` and the model. A model that was asked for and that nothing here can run is an error; one
/// that was not is left out with one line on standard error.
pub(super) fn chosen(named: &[Policy], rival: Policy) -> Result<Vec<Policy>, Failure> {
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
            eprintln!("l4sd: the policy 'model' is left out: {}", Fault::from(e));
            Ok(vec![rival])
        }
    }
}
