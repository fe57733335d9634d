//! Live look-ahead, speculative decoding in a form that is honest for control: a fast drafter rolls the next ticks forward,
//! what would be seen and what it would do; a slower verifier checks them in one call before their time comes. At each tick
//! the verifier's action goes out as long as everything was seen as foreseen, in bins; else the drafter's, the rest of the plan
//! is void and a new call begins.
//!
//! What it promises: an action that goes out as verified is the verifier's for the bins that were seen ([`plan`]), after a
//! miss nothing of a plan goes out, and none does after its end. What it does not: that the verifier would say the same of
//! what was seen exactly; how often not is counted.
//!
//! Where a verifier runs and when its answers come is behind [`Verifier`]: [`modelled`] for simulations, which is sans I/O, and
//! [`threaded`] for a bridge. What is made of an answer is the same for both. It must not make knobs of its own, and is subject to
//! the guard as any policy; a verifier that is late, silent or gone must not keep the drafter from deciding.

pub mod call;
pub mod forecast;
pub mod modelled;
pub mod plan;
pub mod threaded;

use std::fmt;

use self::call::{Ahead, Answer, Checks, Question};
use self::forecast::{Recent, Sliding};
use self::plan::{Bins, Plan, Seen, Verdict};
use super::{Abstention, Policy};
use crate::aqm::params::Knobs;
use crate::control::Decision;
use crate::control::guard::{Guard, GuardParams};
use crate::telemetry::TelemetryWindow;
use crate::telemetry::features::schema::Schema;
use crate::time::{Instant, Span};

/// What is said at a tick.
pub type Said = Result<Knobs, Abstention>;

/// Who says at any tick what it wants of a vector, as a function of that and of what was wanted last.
pub trait Chooser: Send {
    /// The parameters, the feed-forward included.
    ///
    /// # Errors
    /// It wants none, and why.
    fn choose(&mut self, features: &[f32], last: &Knobs) -> Said;
}

/// Who checks, and when what it says is there. It has at most one call under way.
pub trait Verifier: Send {
    /// A link begins: whatever was asked is forgotten.
    fn begin(&mut self);

    /// When the answer to a question that is asked at `now` is expected.
    fn ready(&self, now: Instant) -> Instant;

    /// Begins a call and returns at once. False = nobody is there to answer.
    fn ask(&mut self, now: Instant, question: Question) -> bool;

    /// The answer to what was asked last, once, when it is there.
    fn answer(&mut self, now: Instant) -> Option<Answer>;

    /// What it has checked since the link began.
    fn checks(&self) -> Checks;

    /// What it says of this vector, without a call and at once; `None` outside of simulations, since no machine can do it.
    fn at_once(&mut self, _features: &[f32], _last: &Knobs) -> Option<Said> {
        None
    }
}

/// Who decides.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum Arm {
    /// The drafter at each tick.
    Drafter,
    /// The verifier as often as it can, each answer as late as a call takes and held until the next.
    Held,
    /// The verifier where it was foreseen, else the drafter.
    #[default]
    Speculative,
    /// The verifier at each tick and at once, which no machine can do.
    Instant,
}

impl Arm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Drafter, Self::Held, Self::Speculative, Self::Instant];

    /// As it is written in the name of the policy.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drafter => "drafter",
            Self::Held => "held",
            Self::Speculative => "speculative",
            Self::Instant => "instant",
        }
    }
}

/// How it is done.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Setup {
    /// Who decides.
    pub arm: Arm,
    /// From tick to tick.
    pub tick: Span,
    /// Width of bins in the normalised units of the schema.
    pub bin: f32,
    /// From one tick to the next at which what goes out is compared with what the verifier says at once of what was seen
    /// exactly; `None` = it is not.
    pub compared: Option<u64>,
    /// The guard in front of the policy.
    pub guard: GuardParams,
    /// Where the verifier wants nothing the drafter decides; else nobody does, as with one model.
    pub else_drafter: bool,
}

/// A call looks at least so many ticks ahead.
const LEAST_AHEAD: u64 = 8;
/// An answer is held no longer than this while the next one does not come: longer than any call of a verifier that works.
const HELD: Span = Span::from_secs(2);

impl Setup {
    /// How many ticks a call that takes so long looks ahead: as long again, so that the next one can be in time.
    fn ahead(&self, call: Span) -> u64 {
        (2 * call.as_nanos().div_ceil(self.tick.as_nanos().max(1))).max(LEAST_AHEAD)
    }
}

/// What it came to.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Ticks.
    pub ticks: u64,
    /// Those at which a verified action went out.
    pub verified: u64,
    /// Calls of the verifier that are over or under way.
    pub calls: u64,
    /// Plans that were void before their end, in the call or after it.
    pub voided: u64,
    /// Drafts that the verifier checked, and those of them that it would have decided likewise.
    pub checked: u64,
    /// See `checked`.
    pub accepted: u64,
    /// Ticks at which what went out was compared with what the verifier says of what was seen exactly; those of them at which
    /// it was verified.
    pub compared: [u64; 2],
    /// Those at which it was something else, of each.
    pub diverged: [u64; 2],
}

impl Counts {
    /// Ticks at which a verified action went out, of all.
    pub fn verified_share(&self) -> Option<f64> {
        share(self.verified, self.ticks)
    }

    /// Drafts that the verifier would have decided likewise, of those that it checked.
    pub fn accepted_share(&self) -> Option<f64> {
        share(self.accepted, self.checked)
    }

    /// Ticks at which something else went out than the verifier says of exactly what was seen, of those compared; of all and of
    /// verified ones.
    pub fn diverged_shares(&self) -> [Option<f64>; 2] {
        [0, 1].map(|of| share(self.diverged[of], self.compared[of]))
    }
}

fn share(n: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| n as f64 / of as f64)
}

/// A call under way.
struct UnderWay {
    asked: Instant,
    /// When its answer is expected.
    ready: Instant,
    /// What was seen and said at each tick since.
    since: Vec<(Instant, Seen, Said)>,
}

/// The policy of one direction.
pub struct LookAhead<D, V> {
    drafter: D,
    verifier: V,
    setup: Setup,
    bins: Bins,
    sliding: Sliding,
    recent: Recent,
    features: Vec<f32>,
    /// What went out last, without its feed-forward.
    last: Knobs,
    in_force: Knobs,
    /// The tick after which the parameters in force moved last.
    moved_at: Instant,
    previous: Instant,
    plan: Option<Plan>,
    call: Option<UnderWay>,
    /// The verifier's answer that is held, without its feed-forward.
    held: Option<Said>,
    was_verified: bool,
    counts: Counts,
}

impl<D, V> fmt::Debug for LookAhead<D, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookAhead")
            .field("setup", &self.setup)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

/// What has to be foreseen: what the queues and their load were over 64 ms, p', and the rate.
const FORESEEN: [&str; 8] = [
    "link_rate",
    "p_base.mean_0.064s",
    "delay_mean_l.mean_0.064s",
    "delay_mean_c.mean_0.064s",
    "arrival_l.mean_0.064s",
    "arrival_c.mean_0.064s",
    "drop_c.mean_0.064s",
    "idle.mean_0.064s",
];

/// The places of these features.
fn places(schema: &Schema) -> Vec<usize> {
    let names = schema.names();
    FORESEEN.iter().filter_map(|wanted| names.iter().position(|name| name == wanted)).collect()
}

const fn without_factor(knobs: Knobs) -> Knobs {
    Knobs { feed_forward: 1.0, ..knobs }
}

impl<D: Chooser, V: Verifier> LookAhead<D, V> {
    /// A policy that has seen nothing.
    pub fn new(drafter: D, verifier: V, setup: Setup, schema: &Schema) -> Self {
        let sliding = Sliding::new(schema, setup.tick);
        Self {
            drafter,
            verifier,
            setup,
            bins: Bins::new(places(schema), setup.bin),
            features: vec![0.0; sliding.width()],
            sliding,
            recent: Recent::new(setup.tick),
            last: Knobs::default(),
            in_force: Knobs::default(),
            moved_at: Instant::ZERO,
            previous: Instant::ZERO,
            plan: None,
            call: None,
            held: None,
            was_verified: false,
            counts: Counts::default(),
        }
    }

    /// What it came to since the link began.
    pub fn counts(&self) -> Counts {
        let Checks { checked, accepted } = self.verifier.checks();
        Counts { checked, accepted, ..self.counts }
    }

    fn begin(&mut self, first: &TelemetryWindow) {
        (self.last, self.in_force) = (Knobs::default(), Knobs::default());
        (self.moved_at, self.previous) = (first.end - first.span, first.end - first.span);
        (self.plan, self.call, self.held) = (None, None, None);
        self.counts = Counts::default();
        self.verifier.begin();
    }

    /// Begins a call.
    fn ask(&mut self, now: Instant, question: Question) -> bool {
        let ready = self.verifier.ready(now);
        let begun = self.verifier.ask(now, question);
        if begun {
            self.counts.calls += 1;
            self.call = Some(UnderWay { asked: now, ready, since: Vec::new() });
        }
        begun
    }

    /// The verifier at its own pace. Until its first answer the drafter decides.
    fn held(&mut self, now: Instant) -> Said {
        let mut said = self.held;
        if let Some(Answer::Now(answer)) = self.verifier.answer(now) {
            self.call = None;
            said = Some(answer).filter(|said| said.is_ok() || !self.setup.else_drafter);
            self.held = said.map(|said| said.map(without_factor));
        }
        let waits = if let Some(call) = &self.call {
            now.since(call.asked) <= HELD
        } else {
            let last = said.and_then(Result::ok).map_or(self.last, without_factor);
            self.ask(now, Question::Now(self.features.clone(), last))
        };
        if !waits {
            (said, self.held) = (None, None);
        }
        said.unwrap_or_else(|| self.drafter.choose(&self.features, &self.last))
    }

    fn speculative(&mut self, now: Instant) -> Said {
        let seen = self.bins.of(&self.features, &self.in_force);
        let verified = self.follow(now, &seen);
        let said = verified.unwrap_or_else(|| self.drafter.choose(&self.features, &self.last));
        let soon = self.verifier.ready(now) + self.setup.tick;
        if self.call.is_none() && self.plan.as_ref().is_none_or(|plan| plan.ends() <= soon) {
            self.call_ahead(now, said);
        }
        self.was_verified = verified.is_some();
        if let Some(plan) = &mut self.plan {
            plan.went_out(now, said);
        }
        if let Some(call) = &mut self.call {
            // A plan that comes later than that is over.
            if call.since.len() as u64 <= self.setup.ahead(call.ready.since(call.asked)) {
                call.since.push((now, seen, said));
            }
        }
        said
    }

    /// Counts a tick.
    fn count(&mut self, said: Said) {
        let at_once = self.setup.arm == Arm::Instant;
        let verified = std::mem::take(&mut self.was_verified) || at_once;
        let counts = &mut self.counts;
        if self.setup.compared.is_some_and(|each| counts.ticks.is_multiple_of(each)) {
            let exact = if at_once { None } else { self.verifier.at_once(&self.features, &self.last) };
            let diverged = exact.is_some_and(|exact| exact != said);
            for (of, belongs) in [true, verified].into_iter().enumerate() {
                counts.compared[of] += u64::from(belongs);
                counts.diverged[of] += u64::from(belongs && diverged);
            }
        }
        counts.ticks += 1;
        counts.verified += u64::from(verified);
        counts.calls += u64::from(at_once);
    }

    /// Holds plans against what is seen. A new plan takes the place of the one before it.
    fn follow(&mut self, now: Instant, seen: &Seen) -> Option<Said> {
        let mut verdict = self.plan.as_mut().map_or(Verdict::Over, |plan| plan.follow(now, seen));
        if matches!(verdict, Verdict::Void | Verdict::Over) {
            self.counts.voided += u64::from(verdict == Verdict::Void);
            self.plan = None;
        }
        // What comes sooner than expected has nothing to say yet.
        if self.call.as_ref().is_some_and(|call| call.ready <= now)
            && let Some(answer) = self.verifier.answer(now)
        {
            let since = self.call.take().map_or_else(Vec::new, |call| call.since);
            if let Answer::Plan(mut plan) = answer {
                for (at, seen, said) in &since {
                    plan.follow(*at, seen);
                    plan.went_out(*at, *said);
                }
                match plan.follow(now, seen) {
                    Verdict::Void => self.counts.voided += 1,
                    newer => (self.plan, verdict) = (Some(plan), newer),
                }
            }
        }
        match verdict {
            Verdict::Verified(said) => Some(said),
            _ => None,
        }
    }

    /// Begins a call that looks ahead of `now`, when `said` goes out.
    fn call_ahead(&mut self, now: Instant, said: Said) {
        let Some(forecast) = self.recent.forecast(&self.sliding) else { return };
        let ready = self.verifier.ready(now);
        let mut guard = Guard::new(self.setup.guard, without_factor(self.in_force), self.moved_at);
        // It is on its way to what went out before.
        let before = Decision { based_on: 0, window_end: self.previous, knobs: self.last };
        let _ = guard.step(Some(&before), self.previous);
        let ahead = Ahead {
            forecast,
            guard,
            bins: self.bins.clone(),
            now,
            tick: self.setup.tick,
            ticks: self.setup.ahead(ready.since(now)),
            ready,
            said,
            last: self.last,
            agreed: self.plan.clone(),
            else_drafter: self.setup.else_drafter,
        };
        self.ask(now, Question::Ahead(Box::new(ahead)));
    }
}

impl<D: Chooser, V: Verifier> Policy for LookAhead<D, V> {
    fn decide(&mut self, window: &TelemetryWindow, in_force: &Knobs) -> Said {
        if window.id == 0 {
            self.begin(window);
        }
        if without_factor(*in_force) != without_factor(self.in_force) {
            self.moved_at = self.previous;
        }
        self.in_force = *in_force;
        self.sliding.push(window, in_force);
        self.recent.push(window);
        self.sliding.write(&mut self.features);
        let now = window.end;
        let said = match self.setup.arm {
            Arm::Drafter => self.drafter.choose(&self.features, &self.last),
            Arm::Held => self.held(now),
            Arm::Speculative => self.speculative(now),
            Arm::Instant => {
                let wanted = self.verifier.at_once(&self.features, &self.last);
                wanted.unwrap_or_else(|| self.drafter.choose(&self.features, &self.last))
            }
        };
        self.count(said);
        self.last = said.map_or(self.last, without_factor);
        self.previous = now;
        said
    }

    fn look_ahead(&self) -> Option<Counts> {
        Some(self.counts())
    }
}

#[cfg(test)]
mod tests;
