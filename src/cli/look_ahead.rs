//! The policy that looks ahead, on a real host: two models become a drafter on the policy's thread and, on a thread of its
//! own behind that, a verifier with a drafter like it.

use std::path::PathBuf;
use std::sync::{Arc, Once, mpsc};

use tracing::{info, warn};

use super::controller::prepare_thread;
use super::run;
use crate::config::{self, Config, Sched};
use crate::control::model::{ModelError, ModelFile, Session, shipped};
use crate::control::policy::learned::Learned;
use crate::control::policy::lookahead::threaded::Threaded;
use crate::control::policy::lookahead::{LookAhead, Setup};
use crate::runtime::bridge;
use crate::runtime::clock::{Clock, Monotonic};
use crate::telemetry::features::schema::Schema;

/// Both directions fail to use a verifier for the same reason; it is told once.
static SAID: Once = Once::new();

/// A real-time verifier rests so many times as long as a call took where the kernel stops real-time threads that use up a core:
/// two of them then leave the drafters on their core a fifth of it, and none is stopped.
const REST: f64 = 1.5;

/// A model and what it is called.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) file: Arc<ModelFile>,
    pub(super) path: PathBuf,
}

impl Named {
    fn open(file: Option<&PathBuf>) -> Result<Self, ModelError> {
        let path = file.map(PathBuf::as_path);
        let model = ModelFile::open(path, &Schema::embedded(), None)?;
        Ok(Self { file: Arc::new(model), path: shipped::name(path) })
    }

    fn ready(&self, config: &Config) -> Result<Learned, ModelError> {
        let session = Session::open(&self.file, &self.path, config.control.onnxruntime.as_deref())?;
        Ok(Learned::new(session, &Schema::embedded()))
    }

    /// The same, and says so.
    fn ready_as(&self, role: &str, config: &Config) -> Result<Learned, ModelError> {
        let policy = self.ready(config)?;
        let (model, session) = (self.path.display(), policy.session());
        info!(%model, sha256 = %session.sha256(), backend = %session.backend(), "the {role} has answered its golden vectors");
        Ok(policy)
    }
}

/// Two models, read and judged but not yet running.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) drafter: Named,
    pub(super) verifier: Named,
    setup: config::LookAhead,
}

impl Pair {
    /// Reads both files.
    pub(super) fn open(setup: &config::LookAhead) -> Result<Self, ModelError> {
        Ok(Self {
            drafter: Named::open(setup.draft.as_ref())?,
            verifier: Named::open(setup.verify.as_ref())?,
            setup: setup.clone(),
        })
    }

    /// Starts the verifier's thread, which makes itself ready there; until then, and if it fails, the drafter decides alone.
    pub(super) fn start_verifier(&self, config: &Config, clock: Monotonic) -> std::io::Result<Threaded> {
        let (this, of_thread) = (self.clone(), config.clone());
        let (scheduled, is_scheduled) = mpsc::channel();
        let make = move || {
            // Behind the drafter, should they share a core.
            prepare_thread(&of_thread, 2);
            let _ = scheduled.send(());
            let made = this.that_check(&of_thread);
            made.inspect_err(|error| {
                SAID.call_once(|| warn!("the verifier is not used, the drafter decides alone: {error}"));
            })
            .ok()
        };
        let throttled = matches!(config.runtime.sched, Sched::Fifo(_)) && run::throttled().is_some();
        let verifier = Threaded::spawn(make, if throttled { REST } else { 0.0 }, move || clock.now())?;
        // The real-time class as well, which may be out of reach later. A thread that could not start sends nothing.
        let _ = is_scheduled.recv();
        Ok(verifier)
    }

    /// A drafter like the one that decides, and the verifier. Takes long.
    fn that_check(&self, config: &Config) -> Result<(Learned, Learned), ModelError> {
        Ok((self.drafter.ready(config)?, self.verifier.ready_as("verifier", config)?))
    }

    /// The policy, with this verifier. Takes long.
    pub(super) fn ready(
        &self,
        config: &Config,
        verifier: Threaded,
    ) -> Result<LookAhead<Learned, Threaded>, ModelError> {
        let drafter = self.drafter.ready_as("drafter", config)?;
        let config::LookAhead { arm, tick, bin, .. } = self.setup;
        let guard = bridge::guard(config);
        let how = Setup { arm, tick, bin: bin as f32, compared: None, guard, else_drafter: true };
        Ok(LookAhead::new(drafter, verifier, how, &Schema::embedded()))
    }
}
