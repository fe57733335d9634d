//! Who decides in `run` and `check`: from the policy's name to a thread that makes decisions.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once, OnceLock, mpsc};

use hdrhistogram::Histogram;
use tracing::{info, warn};

use super::exit::Failure;
use super::look_ahead::Pair;
use crate::config::{Config, Context, Policy as PolicyName, Sched};
use crate::control::context::Profiles;
use crate::control::guard::GuardCounters;
use crate::control::link::{LinkCounters, ThreadLink};
use crate::control::model::{EncoderFile, ModelError, ModelFile, Session, shipped};
use crate::control::policy::learned::Learned;
use crate::control::policy::lookahead::Counts;
use crate::control::policy::replay::Replay;
use crate::control::policy::rules::{Ruled, Rules};
use crate::control::policy::{Abstention, Policy};
use crate::control::worker::{Stage, Worker, times};
use crate::metrics::{FallbackReason, LookAheadCounts, Metrics};
use crate::report::result::TimesResult;
use crate::runtime::clock::{Clock, Monotonic};
use crate::runtime::thread as packet_thread;
use crate::telemetry::Direction;
use crate::telemetry::features::schema::Schema;
use crate::time::{Instant, Span};

/// Both directions fail to use a model for the same reason; it is told once.
static SAID: Once = Once::new();

/// What is told of a model that cannot be made ready.
pub(super) fn left_out(error: &ModelError) -> String {
    format!("the model is not used, DualPI2's constants stay in force (as with --policy dualpi2): {error}")
}

/// What a policy with decisions is made of, read and judged but not yet running.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A file of decisions.
    Replay(Replay),
    /// A readable tree.
    Rules(Rules),
    /// A model, what it is called, and what it is shown.
    Model(Arc<ModelFile>, PathBuf, Option<Shown>),
    /// Two models, of which one looks ahead.
    LookAhead(Box<Pair>),
}

/// What a model is shown of a link before it sees it.
#[derive(Clone, Debug)]
pub(super) struct Shown(Arc<(EncoderFile, Profiles)>);

impl Shown {
    /// What the configuration asks for; `None` for nothing. The model must read it.
    fn of(config: &Config, model: &ModelFile, path: &Path) -> Result<Option<Self>, Failure> {
        let file = match &config.control.context {
            Context::None => return Ok(None),
            Context::Auto => None,
            Context::File(file) => Some(file.as_path()),
        };
        let schema = Schema::embedded();
        let encoder = EncoderFile::of(model, path, &schema)?;
        Ok(Some(Self(Arc::new((encoder, Profiles::open(file, &schema)?)))))
    }

    /// Puts the context of a link of this rate in `session`. A link that no profile is like goes without.
    fn show(
        &self,
        session: &mut Session,
        direction: Direction,
        config: &Config,
    ) -> Result<Option<String>, ModelError> {
        let (encoder, profiles) = &*self.0;
        let mbps = match direction {
            Direction::LeftToRight => config.link.rate,
            Direction::RightToLeft => config.link.rate_right_to_left,
        }
        .as_mbps_f64();
        let Some(profile) = profiles.nearest(mbps) else {
            warn!(%direction, "no demonstration is of a link within a factor of two of {mbps} Mbit/s; the model goes without");
            return Ok(None);
        };
        let library = config.control.onnxruntime.as_deref();
        session.set_context(&encoder.encode(&profile.demonstrations, &Schema::embedded(), library)?);
        info!(%direction, profile = %profile.name, encoder = %encoder.sha256, "the model is shown demonstrations");
        Ok(Some(profile.name.clone()))
    }
}

impl Source {
    /// What the configuration's policy needs; `None` for constants.
    pub(super) fn of(config: &Config) -> Result<Option<Self>, Failure> {
        let path = match &config.aqm.policy {
            PolicyName::Replay(file) => return Ok(Some(Self::Replay(Replay::open(file, Instant::ZERO)?))),
            PolicyName::DualPi2Rules(file) => {
                return Ok(Some(Self::Rules(Rules::open(file.as_deref(), &Schema::embedded())?)));
            }
            PolicyName::LookAhead(setup) => return Ok(Some(Self::LookAhead(Box::new(Pair::open(setup)?)))),
            PolicyName::Model(file) => file.clone().or_else(|| config.control.model.clone()),
            _ => return Ok(None),
        };
        let wanted = config.control.model_sha256.as_deref();
        let model = ModelFile::open(path.as_deref(), &Schema::embedded(), wanted)?;
        let name = shipped::name(path.as_deref());
        let shown = Shown::of(config, &model, &name)?;
        Ok(Some(Self::Model(Arc::new(model), name, shown)))
    }

    /// The profiles that the two directions are shown, once everything has been tried; `None` without a context.
    pub(super) fn try_context(&self, config: &Config) -> Result<Option<[Option<String>; 2]>, Failure> {
        let Self::Model(model, path, Some(shown)) = self else { return Ok(None) };
        let mut session = Session::open(model, path, config.control.onnxruntime.as_deref())?;
        let mut of = |direction| shown.show(&mut session, direction, config);
        Ok(Some([of(Direction::LeftToRight)?, of(Direction::RightToLeft)?]))
    }

    /// What makes the policy, and the thread of its verifier if it has one, which is started here.
    fn maker(
        self,
        config: &Config,
        direction: Direction,
        clock: Monotonic,
        backend: &Arc<OnceLock<&'static str>>,
    ) -> std::io::Result<(Maker, Option<Arc<Worker>>)> {
        let maker: Maker = match self {
            Self::Replay(replay) => Box::new(move || Ok(Box::new(replay))),
            Self::Rules(rules) => Box::new(move || Ok(Box::new(Ruled::new(rules, &Schema::embedded())))),
            Self::Model(model, path, shown) => {
                let (config, backend) = (config.clone(), Arc::clone(backend));
                Box::new(move || Ok(Box::new(learned(&model, &path, shown, &config, direction, &backend)?)))
            }
            Self::LookAhead(pair) => {
                let verifier = pair.start_verifier(config, clock)?;
                let (config, worker) = (config.clone(), verifier.worker());
                return Ok((Box::new(move || Ok(Box::new(pair.ready(&config, verifier)?))), Some(worker)));
            }
        };
        Ok((maker, None))
    }

    /// Starts the policy's thread. It makes itself ready there while DualPI2 forwards with its constants; if it fails, it
    /// says so and the constants stay.
    pub(super) fn start(
        self,
        config: &Config,
        direction: Direction,
        clock: Monotonic,
    ) -> std::io::Result<(ThreadLink, Monitor)> {
        let model_sha256 = match &self {
            Self::Model(model, ..) => Some(model.sha256.clone()),
            Self::Replay(_) | Self::Rules(_) | Self::LookAhead(_) => None,
        };
        if matches!(self, Self::Model(..) | Self::LookAhead(_)) {
            // The library is found before privileges are given up; it is an error only for the thread that needs it.
            let _ = l4sd_onnxruntime::backend(&l4sd_onnxruntime::candidates(
                config.control.onnxruntime.as_deref(),
            ));
        }
        let backend = Arc::new(OnceLock::new());
        let (maker, verifier) = self.maker(config, direction, clock, &backend)?;
        let of_thread = config.clone();
        let (scheduled, is_scheduled) = mpsc::channel();
        let make = move || {
            prepare_thread(&of_thread, 1);
            let _ = scheduled.send(());
            match maker() {
                Ok(policy) => Some(policy),
                Err(error) => {
                    SAID.call_once(|| warn!("{}", left_out(&error)));
                    None
                }
            }
        };
        let link = ThreadLink::spawn(make, config.window(), move || clock.now())?;
        // The real-time class as well. A thread that could not start sends nothing and is not waited for.
        let _ = is_scheduled.recv();
        let counters = link.counters();
        let monitor =
            Monitor { counters, verifier, model_sha256, backend, admission: times(), seen: Seen::default() };
        Ok((link, monitor))
    }
}

/// Makes a policy on the thread that will run it. Takes long for a model.
type Maker = Box<dyn FnOnce() -> Result<Box<dyn Policy>, ModelError> + Send>;

fn learned(
    model: &ModelFile,
    path: &Path,
    shown: Option<Shown>,
    config: &Config,
    direction: Direction,
    backend: &OnceLock<&'static str>,
) -> Result<Learned, ModelError> {
    let mut session = Session::open(model, path, config.control.onnxruntime.as_deref())?;
    info!(
        model = %path.display(), sha256 = %session.sha256(), backend = %session.backend(),
        "the model has answered its golden vectors"
    );
    if let Some(shown) = shown {
        shown.show(&mut session, direction, config)?;
    }
    let _ = backend.set(session.backend().label());
    let policy = Learned::new(session, &Schema::embedded());
    // One core is enough for both as long as they do not want it at the same time.
    Ok(match direction {
        Direction::LeftToRight => policy,
        Direction::RightToLeft => policy.half_a_period_later(),
    })
}

/// Makes the calling thread one of the controller's, as far as the host allows: on its core, and so many priorities behind the
/// forwarder, should they share that core. The first one behind takes the least there is; who is further behind and finds none
/// stays in the ordinary class.
pub(super) fn prepare_thread(config: &Config, behind: u8) {
    if let Some(problem) = config.control.core.and_then(packet_thread::pin) {
        warn!("controller: {problem}");
    }
    let Sched::Fifo(priority) = config.runtime.sched else { return };
    let priority = match priority.saturating_sub(behind) {
        0 if behind > 1 => None,
        some => Some(some.max(1)),
    };
    for problem in packet_thread::schedule(priority, config.runtime.user.is_some()) {
        warn!("controller: {problem}");
    }
}

/// A controller as seen from the managing thread.
#[derive(Debug)]
pub(super) struct Monitor {
    counters: Arc<LinkCounters>,
    /// The thread of a verifier.
    verifier: Option<Arc<Worker>>,
    /// SHA-256 of the model.
    pub(super) model_sha256: Option<String>,
    backend: Arc<OnceLock<&'static str>>,
    /// Nanoseconds from a window's end until its decision was admitted.
    admission: Histogram<u64>,
    seen: Seen,
}

/// Counters at the last look.
#[derive(Copy, Clone, Debug, Default)]
struct Seen {
    fallbacks: u64,
    abstained: [u64; Abstention::ALL.len()],
    rejected: [u64; 2],
    failed: bool,
}

impl Monitor {
    /// Tells `metrics` what is new, the guard's counters being `guard`.
    pub(super) fn tell(&mut self, direction: Direction, guard: &GuardCounters, metrics: &Metrics) {
        if let (Some(sha256), Some(backend)) = (&self.model_sha256, self.backend.get()) {
            metrics.set_model(backend, sha256);
        }
        metrics.update_inference(direction, &self.counters.took());
        metrics.update_admission(direction, &self.admission);
        if let Some((counts, calls)) = self.look_ahead() {
            let Counts { ticks, verified, voided, calls: asked, .. } = counts;
            let counts = LookAheadCounts { ticks, verified, voided, calls: asked };
            metrics.update_look_ahead(direction, counts, &calls);
        }
        let now = Seen {
            fallbacks: guard.fallbacks,
            abstained: self.counters.abstained.each_ref().map(|n| n.load(Ordering::Relaxed)),
            rejected: [guard.not_finite, guard.rejected - guard.not_finite],
            failed: self.counters.stage() == Stage::Failed,
        };
        let before = std::mem::replace(&mut self.seen, now);
        if now.failed && !before.failed && guard.admitted + guard.clamped == 0 {
            metrics.count_fallback(FallbackReason::Golden);
        }
        for _ in before.fallbacks..now.fallbacks {
            metrics.count_fallback(reason(&before, &now));
        }
    }

    /// How far its threads have come: one that failed, else one that is not ready, stands for all.
    pub(super) fn stage(&self) -> Stage {
        let verifier = self.verifier.as_ref().map_or(Stage::Deciding, |worker| worker.stage());
        match [self.counters.stage(), verifier] {
            [Stage::Failed, _] | [_, Stage::Failed] => Stage::Failed,
            [Stage::Loading, _] | [_, Stage::Loading] => Stage::Loading,
            [Stage::Deciding, Stage::Deciding] => Stage::Deciding,
        }
    }

    /// What looking ahead came to, and the times of the verifier's calls in nanoseconds; `None` from a policy that does not.
    pub(super) fn look_ahead(&self) -> Option<(Counts, Histogram<u64>)> {
        Some((self.counters.look_ahead()?, self.verifier.as_ref()?.took()))
    }

    /// Windows that the thread had no room for.
    pub(super) fn missed_windows(&self) -> u64 {
        self.counters.missed_windows.load(Ordering::Relaxed)
    }

    /// A decision was admitted this long after its window.
    pub(super) fn admitted(&mut self, after: Span) {
        self.admission.saturating_record(after.as_nanos());
    }

    /// Times per decision, and times from a window to the decision in force, so far, in nanoseconds.
    pub(super) fn times(&self) -> [Histogram<u64>; 2] {
        [self.counters.took(), self.admission.clone()]
    }
}

/// Percentiles of nanoseconds.
pub(super) fn percentiles(ns: &Histogram<u64>) -> TimesResult {
    let us = |p: f64| (!ns.is_empty()).then(|| ns.value_at_percentile(p) as f64 / 1e3);
    TimesResult { p50: us(50.0), p99: us(99.0), p999: us(99.9) }
}

/// Why a fallback that began between two looks began: what else was counted in the meantime, the gravest first.
fn reason(before: &Seen, now: &Seen) -> FallbackReason {
    let more = |why: Abstention| now.abstained[why.index()] > before.abstained[why.index()];
    if now.failed || more(Abstention::Failed) {
        FallbackReason::Crash
    } else if more(Abstention::NotFinite) || now.rejected[0] > before.rejected[0] {
        FallbackReason::Nan
    } else if now.rejected[1] > before.rejected[1] {
        FallbackReason::Range
    } else if more(Abstention::Unfamiliar) {
        FallbackReason::Drift
    } else {
        FallbackReason::Timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fallback_has_the_gravest_reason_of_its_time() {
        let seen = |abstained: [u64; 4], rejected, failed| Seen { fallbacks: 0, abstained, rejected, failed };
        let before = seen([5, 1, 0, 0], [3, 0], false);
        for (now, want) in [
            (before, FallbackReason::Timeout),
            (seen([9, 1, 0, 0], [3, 0], false), FallbackReason::Timeout),
            (seen([5, 1, 4, 0], [3, 0], false), FallbackReason::Drift),
            (seen([5, 1, 4, 0], [3, 1], false), FallbackReason::Range),
            (seen([5, 2, 4, 0], [3, 1], false), FallbackReason::Nan),
            (seen([5, 1, 0, 0], [4, 0], false), FallbackReason::Nan),
            (seen([5, 2, 4, 1], [3, 1], false), FallbackReason::Crash),
            (seen([5, 1, 0, 0], [3, 0], true), FallbackReason::Crash),
        ] {
            assert_eq!(reason(&before, &now), want, "{now:?}");
        }
    }
}
