//! Models for simulations: a file is read once in a process and made ready once a thread, since that takes as long as a
//! short simulation. A model that is in use goes back to its thread's shelf when the simulation ends.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::aqm::params::Knobs;
use crate::config;
use crate::control::guard::GuardParams;
use crate::control::model::{ModelError, ModelFile, Session, shipped};
use crate::control::policy::learned::Learned;
use crate::control::policy::lookahead::modelled::Modelled;
use crate::control::policy::lookahead::{Chooser, LookAhead, Said, Setup};
use crate::control::policy::{Abstention, Policy};
use crate::telemetry::TelemetryWindow;
use crate::telemetry::features::schema::Schema;

/// A file, or the model that is built in.
type Which = Option<PathBuf>;

static FILES: Mutex<Option<HashMap<Which, Arc<ModelFile>>>> = Mutex::new(None);

thread_local! {
    static SHELF: RefCell<HashMap<Which, Vec<Learned>>> = RefCell::new(HashMap::new());
}

/// The model, as it was when this process first read it.
pub(super) fn file(which: &Which) -> Result<Arc<ModelFile>, ModelError> {
    let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    let files = files.get_or_insert_with(HashMap::new);
    if let Some(model) = files.get(which) {
        return Ok(Arc::clone(model));
    }
    let model = Arc::new(ModelFile::open(which.as_deref(), &Schema::embedded(), None)?);
    files.insert(which.clone(), Arc::clone(&model));
    Ok(model)
}

/// A policy on loan from this thread's shelf.
pub(super) struct Borrowed {
    which: Which,
    policy: Option<Learned>,
}

/// The policy of a model, ready to be asked from window 0 on; it reads the features `masked` as 0.
pub(super) fn policy(which: &Which, masked: &[usize]) -> Result<Borrowed, ModelError> {
    let shelved = SHELF.with_borrow_mut(|shelf| shelf.get_mut(which).and_then(Vec::pop));
    let mut policy = if let Some(policy) = shelved {
        policy
    } else {
        let session = Session::open(&*file(which)?, &shipped::name(which.as_deref()), None)?;
        Learned::new(session, &Schema::embedded())
    };
    policy.mask(masked);
    Ok(Borrowed { which: which.clone(), policy: Some(policy) })
}

impl Policy for Borrowed {
    fn decide(&mut self, window: &TelemetryWindow, in_force: &Knobs) -> Result<Knobs, Abstention> {
        self.policy.as_mut().ok_or(Abstention::Failed)?.decide(window, in_force)
    }
}

impl Chooser for Borrowed {
    fn choose(&mut self, features: &[f32], last: &Knobs) -> Said {
        self.policy.as_mut().ok_or(Abstention::Failed)?.choose(features, last)
    }
}

/// Ticks from one comparison with the verifier to the next: each costs as much time as a decision.
const COMPARED: u64 = 8;

/// Two models, of which one looks ahead.
pub(super) fn look_ahead(
    setup: &config::LookAhead,
) -> Result<LookAhead<Borrowed, Modelled<Borrowed, Borrowed>>, ModelError> {
    let config::LookAhead { arm, call, tick, bin, .. } = *setup;
    let guard = GuardParams::default();
    let how = Setup { arm, tick, bin: bin as f32, compared: Some(COMPARED), guard, else_drafter: false };
    let verifier = Modelled::new(policy(&setup.draft, &[])?, policy(&setup.verify, &[])?, call.modelled());
    Ok(LookAhead::new(policy(&setup.draft, &[])?, verifier, how, &Schema::embedded()))
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(policy) = self.policy.take() {
            let which = self.which.take();
            SHELF.with_borrow_mut(|shelf| shelf.entry(which).or_default().push(policy));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Policy;
    use crate::control::model::fabricate::{Linear, can_run};
    use crate::sim::Scenario;
    use crate::sim::run::run;

    fn four_flows() -> Scenario {
        let text = "name = \"x\"\nduration = \"8s\"\nwarmup = \"2s\"\n[link]\nrate = \"40Mbit\"\n[[flow]]\n\
                    cc = \"cubic\"\nrtt = \"20ms\"\ncount = 4\n";
        Scenario::parse(text, "x").unwrap()
    }

    /// The model wants 5 ms whatever it sees. It is followed from 26 ms on, one bin per 64 ms, so that in the measured
    /// window the queue is that of 5 ms.
    #[test]
    fn a_model_is_followed() {
        if !can_run() {
            return;
        }
        let scenario = four_flows();
        let file = Linear::default().file();
        let of = |policy: Policy| run(&scenario, &policy, 1).unwrap().result;
        let model = of(Policy::Model(Some(file.path().to_owned())));
        let short = of("dualpi2:target=5ms".parse().unwrap());
        let long = of(Policy::DualPi2);
        let mean = |r: &crate::report::RunResult| r.queues.c.delay_ms.mean.unwrap();
        assert!((mean(&model) / mean(&short) - 1.0).abs() < 0.1, "{} {}", mean(&model), mean(&short));
        assert!(mean(&model) < 0.6 * mean(&long), "{} {}", mean(&model), mean(&long));
        assert_eq!(
            (model.policy.as_str(), model.model_sha256.as_ref().map(String::len)),
            ("model", Some(64))
        );
        assert_eq!((model.fallback_share, model.controller.decisions), (Some(0.0), Some(500)));
        let again = of(Policy::Model(Some(file.path().to_owned())));
        assert_eq!(again, model, "a model that was in use before decides as a fresh one does");
    }

    /// A model that wants 5 ms whatever it sees, as drafter and as verifier: with windows of 16 ms each arm does to the queue
    /// what the model does. With windows of 4 ms there are four times as many decisions, and the same of them are verified
    /// with the same seed.
    #[test]
    fn two_models_that_agree_are_one_whoever_decides() {
        if !can_run() {
            return;
        }
        let scenario = four_flows();
        let file = Linear::default().file();
        let of = |policy: Policy| run(&scenario, &policy, 1).unwrap().result;
        let model = of(Policy::Model(Some(file.path().to_owned())));
        let looks = |arm: &str, tick: &str| {
            let path = file.path().display();
            let name = format!("lookahead:arm={arm}:call=8ms:tick={tick}:draft={path}:verify={path}");
            of(name.parse().unwrap())
        };
        let share = |r: &crate::report::RunResult| r.controller.look_ahead.verified_share.unwrap();
        for arm in ["drafter", "held", "speculative", "instant"] {
            let one = looks(arm, "16ms");
            assert_eq!((&one.queues, one.controller.decisions), (&model.queues, Some(500)), "{arm}");
            assert_eq!(one.controller.look_ahead.diverged_share, Some(0.0), "{arm}");
            match arm {
                "instant" => assert_eq!(share(&one), 1.0),
                "speculative" => assert!(share(&one) > 0.2 && share(&one) < 1.0, "{}", share(&one)),
                _ => assert_eq!(share(&one), 0.0, "{arm}"),
            }
        }
        let short = looks("speculative", "4ms");
        assert_eq!(short.controller.decisions, Some(2000));
        assert_eq!(looks("speculative", "4ms"), short);
    }
}
