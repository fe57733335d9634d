//! A verifier whose calls take as long as is said: it is asked at once and its answer kept back until the time is over, so
//! that a simulation needs no thread and no clock.

use super::call::{Answer, Checks, Question};
use super::{Chooser, Said, Verifier};
use crate::aqm::params::Knobs;
use crate::time::{Instant, Span};

/// A drafter like the one that decides, and a verifier.
#[derive(Debug)]
pub struct Modelled<D, V> {
    drafter: D,
    verifier: V,
    takes: Span,
    /// When the call under way is over, and its answer.
    under_way: Option<(Instant, Answer)>,
    checks: Checks,
}

impl<D, V> Modelled<D, V> {
    /// One that takes so long for a call, whatever it checks.
    pub const fn new(drafter: D, verifier: V, takes: Span) -> Self {
        Self { drafter, verifier, takes, under_way: None, checks: Checks { checked: 0, accepted: 0 } }
    }
}

impl<D: Chooser, V: Chooser> Verifier for Modelled<D, V> {
    fn begin(&mut self) {
        (self.under_way, self.checks) = (None, Checks::default());
    }

    fn ready(&self, now: Instant) -> Instant {
        now + self.takes
    }

    fn ask(&mut self, now: Instant, question: Question) -> bool {
        let (answer, checks) = question.answer(&mut self.drafter, &mut self.verifier);
        self.checks += checks;
        self.under_way = Some((self.ready(now), answer));
        true
    }

    fn answer(&mut self, now: Instant) -> Option<Answer> {
        self.under_way.take_if(|(ready, _)| *ready <= now).map(|(_, answer)| answer)
    }

    fn checks(&self) -> Checks {
        self.checks
    }

    fn at_once(&mut self, features: &[f32], last: &Knobs) -> Option<Said> {
        Some(self.verifier.choose(features, last))
    }
}
