//! A learned policy: windows become features, a model scores settings, the best eligible one is wanted
//! (`--policy model:FILE`).
//!
//! It runs on the controller's thread and may take as long as it likes; how late is too late is the guard's to say.

use super::{Abstention, Policy};
use crate::aqm::params::Knobs;
use crate::control::model::choice::{Chosen, Unfit};
use crate::control::model::{Card, Session};
use crate::telemetry::TelemetryWindow;
use crate::telemetry::features::extract::Extractor;
use crate::telemetry::features::schema::Schema;
use crate::time::{Instant, Span};

/// A window is as late as the forwarder woke up, and the one that the grid of choices goes by may have been later than
/// others: a choice must not slip by a window for that. Less than the shortest window.
const EARLY: Span = Span::from_micros(500);

/// The policy of one direction.
#[derive(Debug)]
pub struct Learned {
    session: Session,
    card: Card,
    extractor: Extractor,
    features: Vec<f32>,
    /// Features that the model is shown as 0.
    masked: Vec<usize>,
    chosen: Chosen,
    /// What holds until the next choice.
    held: Result<Knobs, Abstention>,
    next_choice: Instant,
    /// From the first window to the first choice.
    first_choice: Span,
}

impl Learned {
    /// A policy that has seen nothing. `schema` must be the one that the session's model was judged against.
    pub fn new(session: Session, schema: &Schema) -> Self {
        let extractor = Extractor::new(schema);
        Self {
            card: session.card().clone(),
            session,
            features: vec![0.0; extractor.width()],
            extractor,
            masked: Vec::new(),
            chosen: Chosen::default(),
            held: Err(Abstention::Silent),
            next_choice: Instant::ZERO,
            first_choice: Span::ZERO,
        }
    }

    /// Chooses half a period later than others of its kind, which may share a core with it. Until then it has no opinion.
    #[must_use]
    pub fn half_a_period_later(mut self) -> Self {
        self.first_choice = Span::from_nanos(self.card.period.as_nanos() / 2);
        self
    }

    /// Whether the graph is run after a window that ends at `end`; one that ends a little early is meant as well.
    fn chooses(&self, end: Instant) -> bool {
        end + EARLY >= self.next_choice
    }

    /// The session that it runs.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// From now on the model is shown 0 for these features and no others: what an audit asks.
    ///
    /// # Panics
    /// When it is next asked, if one of them is beyond the schema's width.
    pub fn mask(&mut self, features: &[usize]) {
        features.clone_into(&mut self.masked);
    }

    fn ask(&mut self, slow: bool) -> Result<Knobs, Abstention> {
        self.extractor.write(&mut self.features);
        for &i in &self.masked {
            self.features[i] = 0.0;
        }
        let answer = self.session.run(&self.features).map_err(|_| Abstention::Failed)?;
        let fit = answer.fit(&self.card).map_err(|unfit| match unfit {
            Unfit::NotFinite => Abstention::NotFinite,
            Unfit::Unfamiliar => Abstention::Unfamiliar,
        })?;
        Ok(self.chosen.next(fit, &self.card, slow))
    }
}

impl Policy for Learned {
    fn decide(&mut self, window: &TelemetryWindow, in_force: &Knobs) -> Result<Knobs, Abstention> {
        self.extractor.push(window, in_force);
        let (period, every_window) = (self.card.period, self.card.feed_forward_threshold.is_some());
        if window.id == 0 {
            (self.chosen, self.next_choice) = (Chosen::default(), window.end + self.first_choice);
        }
        let slow = self.chooses(window.end);
        if slow {
            self.next_choice = (self.next_choice + period).max(window.end);
        }
        if slow || every_window {
            let wanted = self.ask(slow);
            self.held = wanted.map(|knobs| Knobs { feed_forward: 1.0, ..knobs });
            return wanted;
        }
        self.held
    }

    fn rehearse(&mut self, next: Instant) -> bool {
        let runs = self.chooses(next) || self.card.feed_forward_threshold.is_some();
        runs && {
            self.extractor.write(&mut self.features);
            self.session.run(&self.features).is_ok()
        }
    }
}
