//! The policies that `sim` and `eval` compare when none is named.

use l4sd_onnxruntime::{backend, candidates};

use crate::config::Policy;
use crate::control::model::Fault;

/// `named`, or else `rival` and the model. A model that nobody asked for and that nothing here can run is left out with one
/// line on standard error.
pub(super) fn or_default(named: &[Policy], rival: Policy) -> Vec<Policy> {
    if !named.is_empty() {
        return named.to_vec();
    }
    match backend(&candidates(None)) {
        Ok(_) => vec![rival, Policy::Model(None)],
        Err(e) => {
            eprintln!("l4sd: the policy 'model' is left out: {}", Fault::from(e));
            vec![rival]
        }
    }
}
