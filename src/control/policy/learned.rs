//! A learned policy: windows become features, a model scores settings, the best eligible one is wanted
//! (`--policy model:FILE`).
//!
//! It runs on the controller's thread and may take as long as it likes; how late is too late is the guard's to say.

use super::cadence::Cadence;
use super::lookahead::{Chooser, Said};
use super::{Abstention, Policy};
use crate::aqm::params::Knobs;
use crate::control::model::choice::{Chosen, Unfit};
use crate::control::model::{Card, Session};
use crate::telemetry::TelemetryWindow;
use crate::telemetry::features::extract::Extractor;
use crate::telemetry::features::schema::Schema;
use crate::time::{Instant, Span};

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
    cadence: Cadence,
    /// From the first window to the first choice.
    first_choice: Span,
}

impl Learned {
    /// A policy that has seen nothing. `schema` must be the one that the session's model was judged against.
    pub fn new(session: Session, schema: &Schema) -> Self {
        let extractor = Extractor::new(schema);
        Self {
            cadence: Cadence::new(session.card().period),
            card: session.card().clone(),
            session,
            features: vec![0.0; extractor.width()],
            extractor,
            masked: Vec::new(),
            chosen: Chosen::default(),
            held: Err(Abstention::Silent),
            first_choice: Span::ZERO,
        }
    }

    /// Chooses half a period later than others of its kind, which may share a core with it. Until then it has no opinion.
    #[must_use]
    pub fn half_a_period_later(mut self) -> Self {
        self.first_choice = Span::from_nanos(self.card.period.as_nanos() / 2);
        self
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

    fn see(&mut self) {
        self.extractor.write(&mut self.features);
        for &i in &self.masked {
            self.features[i] = 0.0;
        }
    }

    fn ask(&mut self, slow: bool) -> Result<Knobs, Abstention> {
        let answer = self.session.run(&self.features).map_err(|_| Abstention::Failed)?;
        Ok(self.chosen.next(answer.fit(&self.card).map_err(abstention)?, &self.card, slow))
    }
}

const fn abstention(unfit: Unfit) -> Abstention {
    match unfit {
        Unfit::NotFinite => Abstention::NotFinite,
        Unfit::Unfamiliar => Abstention::Unfamiliar,
    }
}

/// The model alone, at any time and for any vector: it has no grid of choices of its own here.
impl Chooser for Learned {
    fn choose(&mut self, features: &[f32], last: &Knobs) -> Said {
        let answer = self.session.run(features).map_err(|_| Abstention::Failed)?;
        let mut chosen = Chosen::of(&self.card, last);
        let knobs = chosen.next(answer.fit(&self.card).map_err(abstention)?, &self.card, true);
        Ok(with_rule(&self.card, features, knobs))
    }
}

/// These parameters with the feed-forward of the card's rule, if it has one.
fn with_rule(card: &Card, features: &[f32], knobs: Knobs) -> Knobs {
    match &card.feed_forward_rule {
        Some(rule) => Knobs { feed_forward: rule.of(features), ..knobs },
        None => knobs,
    }
}

impl Policy for Learned {
    fn decide(&mut self, window: &TelemetryWindow, in_force: &Knobs) -> Result<Knobs, Abstention> {
        self.extractor.push(window, in_force);
        let every_window = self.card.feed_forward_threshold.is_some();
        if window.id == 0 {
            self.chosen = Chosen::default();
            self.cadence.begin(window.end + self.first_choice);
        }
        let slow = self.cadence.is_due(window.end);
        if slow {
            self.cadence.made(window.end);
        }
        let runs = slow || every_window;
        if runs || self.card.feed_forward_rule.is_some() {
            self.see();
        }
        let wanted = if runs {
            let wanted = self.ask(slow);
            self.held = wanted.map(|knobs| Knobs { feed_forward: 1.0, ..knobs });
            wanted
        } else {
            self.held
        };
        wanted.map(|knobs| with_rule(&self.card, &self.features, knobs))
    }

    fn rehearse(&mut self, next: Instant) -> bool {
        let runs = self.cadence.is_due(next) || self.card.feed_forward_threshold.is_some();
        runs && {
            self.extractor.write(&mut self.features);
            self.session.run(&self.features).is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::ModelFile;
    use crate::control::model::fabricate::{Linear, can_run};

    fn policy() -> Learned {
        policy_of(&Linear::default())
    }

    fn policy_of(model: &Linear) -> Learned {
        let (file, schema) = (model.file(), Schema::embedded());
        let model = ModelFile::read(file.path(), &schema, None).unwrap();
        Learned::new(Session::open(&model, file.path(), None).unwrap(), &schema)
    }

    /// Windows of 16 ms, the first `late_us` late; rehearses before each but the first. The numbers of the windows before
    /// which there was something to rehearse, and what was wanted after each.
    fn windows(
        mut policy: Learned,
        late_us: u64,
        rehearsed: bool,
    ) -> (Vec<u64>, Vec<Result<Knobs, Abstention>>) {
        let (mut before, mut wanted) = (Vec::new(), Vec::new());
        let mut end = Instant::ZERO;
        for id in 0..20 {
            if rehearsed && id > 0 && policy.rehearse(end + Span::from_millis(16)) {
                before.push(id);
            }
            end = Instant::from_nanos(16_000_000 * (id + 1) + if id == 0 { late_us * 1_000 } else { 0 });
            let window = TelemetryWindow::quiet(id, end);
            wanted.push(policy.decide(&window, &Knobs::default()));
        }
        (before, wanted)
    }

    /// A choice every 128 ms, 8 windows: after 0, 8 and 16, or after 4 and 12. A first window that was 30 us late changes
    /// nothing.
    #[test]
    fn it_rehearses_before_the_windows_that_it_chooses_after() {
        if !can_run() {
            return;
        }
        for late_us in [0, 30] {
            assert_eq!(windows(policy(), late_us, true).0, [8, 16], "{late_us} us");
            let (before, wanted) = windows(policy().half_a_period_later(), late_us, true);
            assert_eq!(before, [4, 12], "{late_us} us");
            let chosen = Knobs { target: Span::from_millis(5), ..Knobs::default() };
            assert_eq!(wanted[..4], [Err(Abstention::Silent); 4]);
            assert_eq!(wanted[4..], [Ok(chosen); 16], "{late_us} us");
        }
    }

    /// Windows of 16 ms have dt = ln(1) = 0. The graph runs when it would without the rule.
    #[test]
    fn a_rule_acts_after_every_window_and_runs_no_graph_for_it() {
        if !can_run() {
            return;
        }
        let with = |rule| policy_of(&Linear { rule: Some(rule), ..Linear::default() });
        let chosen = Knobs { target: Span::from_millis(5), ..Knobs::default() };
        let beyond = r#"{"factor": 0.25, "over": {"dt": -0.5}}"#;
        let (before, wanted) = windows(with(beyond), 0, true);
        assert_eq!(before, [8, 16]);
        assert_eq!(wanted, [Ok(Knobs { feed_forward: 0.25, ..chosen }); 20]);
        let short = r#"{"factor": 0.25, "over": {"dt": -0.5, "link_rate": 9.5}}"#;
        assert_eq!(windows(with(short), 0, false).1, [Ok(chosen); 20]);
    }

    /// Asked about a state of its own, as a look-ahead does: the rule reads that state.
    #[test]
    fn a_rule_reads_the_state_that_it_is_asked_about() {
        if !can_run() {
            return;
        }
        let rule = Some(r#"{"factor": 0.5, "over": {"dt": 0.5}}"#);
        let mut policy = policy_of(&Linear { rule, ..Linear::default() });
        let mut features = vec![0.0; Schema::embedded().width()];
        let chosen = Knobs { target: Span::from_millis(5), ..Knobs::default() };
        assert_eq!(policy.choose(&features, &Knobs::default()), Ok(chosen));
        features[0] = 0.6;
        let wanted = Ok(Knobs { feed_forward: 0.5, ..chosen });
        assert_eq!(policy.choose(&features, &Knobs::default()), wanted);
    }

    #[test]
    fn a_rule_is_silent_where_the_model_is() {
        if can_run() {
            let rule = Some(r#"{"factor": 4, "over": {"dt": -0.5}}"#);
            let policy = policy_of(&Linear { rule, ..Linear::default() }).half_a_period_later();
            assert_eq!(windows(policy, 0, false).1[..4], [Err(Abstention::Silent); 4]);
        }
    }

    #[test]
    fn a_rehearsal_changes_no_decision() {
        if can_run() {
            assert_eq!(windows(policy(), 0, true).1, windows(policy(), 0, false).1);
        }
    }
}
