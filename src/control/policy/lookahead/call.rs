//! A call of the verifier: what it is asked and what it answers. How long that takes, and on which thread it is done, is for
//! a [`Verifier`](super::Verifier) to say; this must not know it.

use super::forecast::Forecast;
use super::plan::{Bins, Plan, Step};
use super::{Chooser, Said, without_factor};
use crate::aqm::params::Knobs;
use crate::control::Decision;
use crate::control::guard::Guard;
use crate::time::{Instant, Span};

/// What a call is about.
#[derive(Debug)]
pub enum Question {
    /// What the verifier wants of this vector, when this was wanted last.
    Now(Vec<f32>, Knobs),
    /// Whether it agrees to what the drafter would do.
    Ahead(Box<Ahead>),
}

/// What comes of it.
#[derive(Debug)]
pub enum Answer {
    /// What the verifier wants.
    Now(Said),
    /// As far as it agrees, and what it wants then.
    Plan(Plan),
}

/// Drafts that the verifier checked, and those of them that it would have decided likewise.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Checks {
    /// All of them.
    pub checked: u64,
    /// Those that it agreed to.
    pub accepted: u64,
}

impl std::ops::AddAssign for Checks {
    fn add_assign(&mut self, more: Self) {
        self.checked += more.checked;
        self.accepted += more.accepted;
    }
}

impl Question {
    /// The answer of `verifier`; `drafter` must say what the one says that decides.
    pub fn answer(self, drafter: &mut impl Chooser, verifier: &mut impl Chooser) -> (Answer, Checks) {
        match self {
            Self::Now(features, last) => (Answer::Now(verifier.choose(&features, &last)), Checks::default()),
            Self::Ahead(ahead) => ahead.check(drafter, verifier),
        }
    }
}

/// All that is known at a tick of those that follow.
#[derive(Debug)]
pub struct Ahead {
    /// What would be seen.
    pub(super) forecast: Forecast,
    /// A guard as the one in front of the policy is, which has heard of all but what goes out now.
    pub(super) guard: Guard,
    /// What has to be foreseen.
    pub(super) bins: Bins,
    /// The tick.
    pub(super) now: Instant,
    /// From tick to tick.
    pub(super) tick: Span,
    /// How many ticks to look ahead.
    pub(super) ticks: u64,
    /// From here on the verifier is asked; before, there is no verdict yet.
    pub(super) ready: Instant,
    /// What goes out now, and what went out before.
    pub(super) said: Said,
    pub(super) last: Knobs,
    /// The plan in force.
    pub(super) agreed: Option<Plan>,
    /// A plan ends before a tick for which the verifier wants nothing.
    pub(super) else_drafter: bool,
}

impl Ahead {
    /// Until the call is over what goes out is the plan's in force or the drafter's.
    fn check(self, drafter: &mut impl Chooser, verifier: &mut impl Chooser) -> (Answer, Checks) {
        let Self { mut forecast, mut guard, bins, now, tick, ticks, ready, .. } = self;
        let Self { mut said, mut last, agreed, else_drafter, .. } = self;
        let mut vector = vec![0.0; forecast.width()];
        let (mut at, mut steps, mut checks) = (now, Vec::new(), Checks::default());
        for _ in 0..ticks {
            // In this order the real one is asked: at the close of the window, and when the decision comes.
            let _ = guard.step(None, at);
            let decision = said.ok().map(|knobs| Decision { based_on: 0, window_end: at, knobs });
            let applied = guard.step(decision.as_ref(), at);
            let factor = applied.map_or(1.0, |knobs| knobs.feed_forward);
            last = said.map_or(last, without_factor);
            at += tick;
            let in_force = Knobs { feed_forward: factor, ..guard.in_force() };
            forecast.next(&in_force, &mut vector);
            let expected = bins.of(&vector, &in_force);
            let judged = at >= ready;
            let agreed = agreed.as_ref().and_then(|plan| plan.action_at(at)).filter(|_| !judged);
            let draft = agreed.unwrap_or_else(|| drafter.choose(&vector, &last));
            said = draft;
            if judged {
                said = verifier.choose(&vector, &last);
                checks.checked += 1;
                if said.is_err() && else_drafter {
                    break;
                }
                checks.accepted += u64::from(said == draft);
            }
            steps.push(Step { expected, said, verified: judged });
            if said != draft {
                break;
            }
        }
        (Answer::Plan(Plan::new(now, tick, steps)), checks)
    }
}
