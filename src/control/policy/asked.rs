//! A policy whose choices are made elsewhere: it works out features as a model's policy does, asks once a period for the
//! number of a setting, and holds it.

use std::fmt;

use super::cadence::Cadence;
use super::{Abstention, Policy};
use crate::aqm::params::Knobs;
use crate::telemetry::TelemetryWindow;
use crate::telemetry::features::extract::Extractor;
use crate::telemetry::features::schema::Schema;
use crate::time::{Instant, Span};

/// What is known when a setting is to be chosen.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Question<'a> {
    /// End of the window.
    pub at: Instant,
    /// The feature vector of the schema.
    pub features: &'a [f32],
    /// Number of the setting that was chosen last, 0 at first.
    pub current: usize,
}

/// The policy of one direction.
pub struct Asked<F> {
    ask: F,
    candidates: Vec<Knobs>,
    cadence: Cadence,
    extractor: Extractor,
    features: Vec<f32>,
    current: usize,
    /// What holds until the next choice.
    held: Result<Knobs, Abstention>,
}

impl<F> Asked<F> {
    /// A policy that has seen nothing and asks every `period` which of `candidates` is wanted.
    pub fn new(ask: F, candidates: Vec<Knobs>, period: Span, schema: &Schema) -> Self {
        let extractor = Extractor::new(schema);
        Self {
            ask,
            candidates,
            cadence: Cadence::new(period),
            features: vec![0.0; extractor.width()],
            extractor,
            current: 0,
            held: Err(Abstention::Silent),
        }
    }
}

impl<F> fmt::Debug for Asked<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked")
            .field("current", &self.current)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl<F: FnMut(Question<'_>) -> Result<usize, Abstention> + Send> Policy for Asked<F> {
    fn decide(&mut self, window: &TelemetryWindow, in_force: &Knobs) -> Result<Knobs, Abstention> {
        self.extractor.push(window, in_force);
        if window.id == 0 {
            self.current = 0;
            self.cadence.begin(window.end);
        }
        if self.cadence.is_due(window.end) {
            self.cadence.made(window.end);
            self.extractor.write(&mut self.features);
            let question = Question { at: window.end, features: &self.features, current: self.current };
            self.held = (self.ask)(question).and_then(|chosen| {
                let knobs = self.candidates.get(chosen).copied().ok_or(Abstention::Failed)?;
                self.current = chosen;
                Ok(knobs)
            });
        }
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows of 16 ms, asked after 0, 8 and 16: number 1 is chosen, then none, then 7 that does not exist, on which it
    /// abstains as well. What was chosen last stays 1.
    #[test]
    fn it_asks_once_a_period_and_holds_what_it_heard() {
        let schema = Schema::embedded();
        let short = Knobs { target: Span::from_millis(5), ..Knobs::default() };
        let mut answers = [Ok(1), Err(Abstention::Silent), Ok(7), Ok(0)].into_iter();
        let mut asked = Vec::new();
        let ask = |q: Question<'_>| {
            asked.push((q.at, q.current, q.features.len()));
            answers.next().unwrap()
        };
        let mut policy = Asked::new(ask, vec![Knobs::default(), short], Span::from_millis(128), &schema);
        let mut wanted = Vec::new();
        for id in 0..26 {
            let window = TelemetryWindow::quiet(id, Instant::from_millis(16 * (id + 1)));
            wanted.push(policy.decide(&window, &Knobs::default()));
        }
        drop(policy);
        let at = |ms, current| (Instant::from_millis(ms), current, schema.width());
        assert_eq!(asked, [at(16, 0), at(144, 1), at(272, 1), at(400, 1)]);
        assert_eq!(wanted[..8], [Ok(short); 8]);
        assert_eq!(wanted[8..16], [Err(Abstention::Silent); 8]);
        assert_eq!(wanted[16..24], [Err(Abstention::Failed); 8]);
        assert_eq!(wanted[24..], [Ok(Knobs::default()); 2]);
    }
}
