//! Parameters that stand still, and beside them the one-shot feed-forward of a model's rule: what the oracle holds on a link when it
//! looks for labels of a model that will have that rule (`l4sd eval --oracle --feed-forward`). It chooses nothing.

use super::{Abstention, Policy};
use crate::aqm::params::Knobs;
use crate::control::model::FeedForwardRule;
use crate::telemetry::TelemetryWindow;
use crate::telemetry::features::extract::Extractor;
use crate::telemetry::features::schema::Schema;

/// The policy of one direction.
#[derive(Debug)]
pub struct Held {
    knobs: Knobs,
    rule: FeedForwardRule,
    extractor: Extractor,
    features: Vec<f32>,
}

impl Held {
    /// Wants `knobs` after every window, with the factor that `rule` asks for. `schema` is the one that the rule was read with.
    pub fn new(knobs: Knobs, rule: FeedForwardRule, schema: &Schema) -> Self {
        let extractor = Extractor::new(schema);
        Self { knobs, rule, features: vec![0.0; extractor.width()], extractor }
    }
}

impl Policy for Held {
    fn decide(&mut self, window: &TelemetryWindow, in_force: &Knobs) -> Result<Knobs, Abstention> {
        self.extractor.push(window, in_force);
        self.extractor.write(&mut self.features);
        Ok(Knobs { feed_forward: self.rule.of(&self.features), ..self.knobs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Instant, Span};

    /// Feature 0 is dt, ln(1) = 0 for windows of 16 ms.
    #[test]
    fn it_holds_its_parameters_and_asks_for_what_the_rule_says() {
        let schema = Schema::embedded();
        let knobs = Knobs { target: Span::from_millis(5), ..Knobs::default() };
        for (limit, factor) in [(-0.5, 0.25), (0.5, 1.0)] {
            let rule = FeedForwardRule { factor: 0.25, over: vec![(0, limit)] };
            let mut held = Held::new(knobs, rule, &schema);
            for id in 0..3 {
                let window = TelemetryWindow::quiet(id, Instant::from_millis(16 * (id + 1)));
                assert_eq!(
                    held.decide(&window, &Knobs::default()),
                    Ok(Knobs { feed_forward: factor, ..knobs })
                );
            }
        }
    }
}
