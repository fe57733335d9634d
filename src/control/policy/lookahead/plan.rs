//! What was agreed on for the next ticks: for each what is expected to be seen, coarsely, and the verifier's action if just
//! that is seen. Pure: it knows no model and reads no clock. It must not give out an action after anything that was not
//! expected, nor after its end.

use super::Said;
use crate::aqm::params::Knobs;
use crate::time::{Instant, Span};

/// What is seen at a tick, as coarsely as it has to be foreseen.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Numbers of bins.
    pub bins: Vec<i32>,
    /// Parameters in force, exactly; the factor on p' of the window that ended.
    pub in_force: Knobs,
}

/// Bins of some features, all of the same width in the units of the vector.
#[derive(Clone, Debug)]
pub struct Bins {
    features: Vec<usize>,
    width: f32,
}

impl Bins {
    /// Of the features at these places.
    pub const fn new(features: Vec<usize>, width: f32) -> Self {
        Self { features, width }
    }

    /// What is seen of this vector.
    pub fn of(&self, vector: &[f32], in_force: &Knobs) -> Seen {
        let bins = self.features.iter().map(|&i| (vector[i] / self.width).round() as i32).collect();
        Seen { bins, in_force: *in_force }
    }
}

/// A tick of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is expected.
    pub expected: Seen,
    /// What is to be said then.
    pub said: Said,
    /// It is the verifier's. Else the tick comes before the verdict does, and what is said then is a guess.
    pub verified: bool,
}

/// What a plan has to say at a tick.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Verdict {
    /// All was as expected: the verifier's action.
    Verified(Said),
    /// All was as expected, and the verdict is for later ticks.
    NotYet,
    /// Something was not as expected: the rest is void.
    Void,
    /// There is no more of it.
    Over,
}

/// A plan.
#[derive(Clone, Debug)]
pub struct Plan {
    begun: Instant,
    tick: Span,
    steps: Vec<Step>,
    /// Ticks that were as expected.
    followed: usize,
    void: bool,
}

impl Plan {
    /// For the ticks after `begun`, one `tick` apart.
    pub const fn new(begun: Instant, tick: Span, steps: Vec<Step>) -> Self {
        Self { begun, tick, steps, followed: 0, void: false }
    }

    /// Which of its ticks is meant with `now`, from 1: the nearest one. A window is as late as the forwarder woke up.
    fn number(&self, now: Instant) -> usize {
        let half = Span::from_nanos(self.tick.as_nanos() / 2);
        ((now + half).since(self.begun).as_nanos() / self.tick.as_nanos().max(1)) as usize
    }

    /// Takes in what is seen at `now`. A tick that was missed was not as expected; the last one may be seen twice.
    pub fn follow(&mut self, now: Instant, seen: &Seen) -> Verdict {
        let number = self.number(now);
        if number > self.steps.len() {
            return Verdict::Over;
        }
        let Some(step) = number.checked_sub(1).and_then(|i| self.steps.get(i)) else {
            return Verdict::NotYet;
        };
        self.void |= number > self.followed + 1 || step.expected != *seen;
        if self.void {
            return Verdict::Void;
        }
        self.followed = number;
        if step.verified { Verdict::Verified(step.said) } else { Verdict::NotYet }
    }

    /// Takes in what was said at `now`, after [`Plan::follow`]: with another action than was expected, too, the rest is void.
    pub fn went_out(&mut self, now: Instant, said: Said) {
        let step = self.number(now).checked_sub(1).and_then(|i| self.steps.get(i));
        self.void |= step.is_some_and(|step| step.said != said);
    }

    /// The verifier's action for the tick nearest to `at`, if all is as expected until then.
    pub fn action_at(&self, at: Instant) -> Option<Said> {
        let step = self.number(at).checked_sub(1).and_then(|i| self.steps.get(i))?;
        (step.verified && !self.void).then_some(step.said)
    }

    /// The last tick that it has something to say of.
    pub fn ends(&self) -> Instant {
        self.begun + Span::from_nanos(self.tick.as_nanos() * self.steps.len() as u64)
    }
}
