//! Live look-ahead, speculative decoding in a form that is honest for control: a fast drafter rolls the next ticks forward,
//! what would be seen and what it would do; a slower verifier checks them in one call before their time comes. At each tick
//! the verifier's action goes out as long as everything was seen as foreseen, in bins; else the drafter's, the rest of the plan
//! is void and a new call begins.
//!
//! What it promises: an action that goes out as verified is the verifier's for the bins that were seen ([`plan`]), after a
//! miss nothing of a plan goes out, and none does after its end. What it does not: that the verifier would say the same of
//! what was seen exactly; how often not is counted.
//!
//! Sans I/O: the verifier is asked when a call begins and its answer is kept back until the call's time is over, so that a
//! simulation needs no thread. It must not make knobs of its own, and is subject to the guard as any policy.

pub mod forecast;
pub mod plan;

use std::fmt;

use self::forecast::{Recent, Sliding};
use self::plan::{Bins, Plan, Seen, Step, Verdict};
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
    /// How long a call of the verifier takes, whatever it checks.
    pub call: Span,
    /// Width of bins in the normalised units of the schema.
    pub bin: f32,
    /// From one tick to the next at which what goes out is compared with what the verifier says of what was seen exactly.
    pub compared: u64,
}

/// A call looks at least so many ticks ahead.
const LEAST_AHEAD: u64 = 8;

impl Setup {
    /// How many ticks a call looks ahead: as long again as it takes, so that the next one can be in time.
    fn ahead(&self) -> u64 {
        (2 * self.call.as_nanos().div_ceil(self.tick.as_nanos().max(1))).max(LEAST_AHEAD)
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

/// What a call of the verifier is about.
enum Call {
    /// An answer to what was seen when it began.
    Answer(Said),
    /// A plan.
    Plan(Plan),
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
    drafted: Vec<f32>,
    /// What went out last, without its feed-forward.
    last: Knobs,
    in_force: Knobs,
    /// The tick after which the parameters in force moved last.
    moved_at: Instant,
    previous: Instant,
    plan: Option<Plan>,
    /// The call under way and when it is over.
    call: Option<(Instant, Call)>,
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

impl<D: Chooser, V: Chooser> LookAhead<D, V> {
    /// A policy that has seen nothing.
    pub fn new(drafter: D, verifier: V, setup: Setup, schema: &Schema) -> Self {
        let sliding = Sliding::new(schema, setup.tick);
        Self {
            drafter,
            verifier,
            setup,
            bins: Bins::new(places(schema), setup.bin),
            features: vec![0.0; sliding.width()],
            drafted: vec![0.0; sliding.width()],
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
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    fn begin(&mut self, first: &TelemetryWindow) {
        (self.last, self.in_force) = (Knobs::default(), Knobs::default());
        (self.moved_at, self.previous) = (first.end - first.span, first.end - first.span);
        (self.plan, self.call, self.held) = (None, None, None);
        self.counts = Counts::default();
    }

    /// The verifier at its own pace. Until its first answer the drafter decides.
    fn held(&mut self, now: Instant) -> Said {
        if let Some((_, Call::Answer(said))) = self.call.take_if(|(ready, _)| *ready <= now) {
            self.held = Some(said);
        } else if let Some(said) = &mut self.held {
            *said = said.map(without_factor);
        }
        if self.call.is_none() {
            self.counts.calls += 1;
            let from = self.held.and_then(Result::ok).unwrap_or(self.last);
            let answer = self.verifier.choose(&self.features, &without_factor(from));
            self.call = Some((now + self.setup.call, Call::Answer(answer)));
        }
        self.held.unwrap_or_else(|| self.drafter.choose(&self.features, &self.last))
    }

    fn speculative(&mut self, now: Instant) -> Said {
        let seen = self.bins.of(&self.features, &self.in_force);
        let verified = self.follow(now, &seen);
        let said = verified.unwrap_or_else(|| self.drafter.choose(&self.features, &self.last));
        let soon = now + self.setup.call + self.setup.tick;
        if self.call.is_none() && self.plan.as_ref().is_none_or(|plan| plan.ends() <= soon) {
            self.call_ahead(now, said);
        }
        self.was_verified = verified.is_some();
        said
    }

    /// Counts a tick. To compare costs a call of the verifier, for which only a simulation has the time.
    fn count(&mut self, said: Said) {
        let at_once = self.setup.arm == Arm::Instant;
        let verified = std::mem::take(&mut self.was_verified) || at_once;
        let counts = &mut self.counts;
        if counts.ticks.is_multiple_of(self.setup.compared) {
            let diverged = !at_once && self.verifier.choose(&self.features, &self.last) != said;
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
        if let Some((ready, Call::Plan(plan))) = &mut self.call {
            let (newer, over) = (plan.follow(now, seen), *ready <= now);
            if over && let Some((_, Call::Plan(plan))) = self.call.take() {
                if newer == Verdict::Void {
                    self.counts.voided += 1;
                } else {
                    (self.plan, verdict) = (Some(plan), newer);
                }
            }
        }
        match verdict {
            Verdict::Verified(said) => Some(said),
            _ => None,
        }
    }

    /// Begins a call. `said` goes out at `now`; until the call is over what goes out is the plan's in force or the drafter's.
    fn call_ahead(&mut self, now: Instant, said: Said) {
        let Some(mut forecast) = self.recent.forecast(&self.sliding) else { return };
        let ready = now + self.setup.call;
        let mut guard = Guard::new(GuardParams::default(), without_factor(self.in_force), self.moved_at);
        let decision = |knobs, window_end| Decision { based_on: 0, window_end, knobs };
        // It is on its way to what went out before.
        let _ = guard.step(Some(&decision(self.last, self.previous)), self.previous);
        let (mut said, mut last, mut at) = (said, self.last, now);
        let mut steps = Vec::new();
        for _ in 0..self.setup.ahead() {
            // In this order the real one is asked: at the close of the window, and when the decision comes.
            let _ = guard.step(None, at);
            let applied = guard.step(said.ok().map(|knobs| decision(knobs, at)).as_ref(), at);
            let factor = applied.map_or(1.0, |knobs| knobs.feed_forward);
            last = said.map_or(last, without_factor);
            at += self.setup.tick;
            let in_force = Knobs { feed_forward: factor, ..guard.in_force() };
            forecast.next(&in_force, &mut self.drafted);
            let expected = self.bins.of(&self.drafted, &in_force);
            let agreed = self.plan.as_ref().and_then(|plan| plan.action_at(at)).filter(|_| at < ready);
            let draft = agreed.unwrap_or_else(|| self.drafter.choose(&self.drafted, &last));
            said = draft;
            if at >= ready {
                said = self.verifier.choose(&self.drafted, &last);
                self.counts.checked += 1;
                self.counts.accepted += u64::from(said == draft);
            }
            steps.push(Step { expected, said, verified: at >= ready });
            if said != draft {
                break;
            }
        }
        self.counts.calls += 1;
        self.call = Some((ready, Call::Plan(Plan::new(now, self.setup.tick, steps))));
    }
}

impl<D: Chooser, V: Chooser> Policy for LookAhead<D, V> {
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
            Arm::Instant => self.verifier.choose(&self.features, &self.last),
        };
        self.count(said);
        if let Some((_, Call::Plan(plan))) = &mut self.call {
            plan.went_out(now, said);
        }
        self.last = said.map_or(self.last, without_factor);
        self.previous = now;
        said
    }

    fn look_ahead(&self) -> Option<Counts> {
        Some(self.counts)
    }
}

#[cfg(test)]
mod tests;
