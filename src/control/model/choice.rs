//! From a model's numbers to parameters. Pure. Training asks [`Answer::choose`] through `l4sd_gym.rules`.

use super::Card;
use crate::aqm::params::Knobs;
use crate::control::guard::FEED_FORWARD;

/// A model's answer to one feature vector.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Answer<'a> {
    /// Expected ln of the score of each candidate against RFC 9332's constants: lower is better.
    pub score: &'a [f32],
    /// Logit of each candidate's probability of being feasible.
    pub feasible: &'a [f32],
    /// How unlike the training data the input is.
    pub distance: Option<f32>,
    /// Logits of the factors of [`FEED_FORWARD`]; empty if the model has no opinion.
    pub feed_forward: &'a [f32],
}

/// Why an answer is not followed.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Unfit {
    /// A number in it is not finite.
    NotFinite,
    /// The input is unlike the training data.
    Unfamiliar,
}

/// The probability of a logit.
fn probability(logit: f32) -> f64 {
    1.0 / (1.0 + (-f64::from(logit)).exp())
}

impl Answer<'_> {
    /// The answer, if it may be followed.
    pub fn fit(&self, card: &Card) -> Result<&Self, Unfit> {
        let numbers = self.score.iter().chain(self.feasible).chain(&self.distance).chain(self.feed_forward);
        if numbers.into_iter().any(|x| !x.is_finite()) {
            return Err(Unfit::NotFinite);
        }
        match (self.distance, card.distance_limit) {
            (Some(distance), Some(limit)) if f64::from(distance) > limit => Err(Unfit::Unfamiliar),
            _ => Ok(self),
        }
    }

    /// The candidate to use next when `current` is in use: the best of the eligible, unless `current` is eligible and
    /// not worse by more than the hysteresis. The first is always eligible.
    pub fn candidate(&self, card: &Card, current: usize) -> usize {
        self.choose(card.threshold, card.hysteresis, current)
    }

    /// The same by a threshold and a hysteresis that are on no card yet.
    ///
    /// # Panics
    /// `current` is no candidate, or scores and logits are not as many.
    pub fn choose(&self, threshold: f64, hysteresis: f64, current: usize) -> usize {
        let eligible = |i: usize| i == 0 || probability(self.feasible[i]) >= threshold;
        let best = (0..self.score.len())
            .filter(|&i| eligible(i))
            .min_by(|&a, &b| self.score[a].total_cmp(&self.score[b]))
            .unwrap_or(0);
        let worse = f64::from(self.score[current]) - f64::from(self.score[best]);
        if eligible(current) && worse <= hysteresis { current } else { best }
    }

    /// The feed-forward to ask for: the likeliest, if it is likely enough and not 1.
    pub fn factor(&self, card: &Card) -> f64 {
        let Some(threshold) = card.feed_forward_threshold else { return 1.0 };
        let top = self.feed_forward.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mass: f64 = self.feed_forward.iter().map(|x| f64::from(x - top).exp()).sum();
        let likeliest = self.feed_forward.iter().position(|x| *x == top);
        match likeliest {
            Some(i) if 1.0 / mass >= threshold => FEED_FORWARD.get(i).copied().unwrap_or(1.0),
            _ => 1.0,
        }
    }
}

/// What a model has chosen so far on one link.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Chosen {
    candidate: usize,
}

impl Chosen {
    /// As if these parameters had been chosen; the first candidate if they are none.
    pub fn of(card: &Card, knobs: &Knobs) -> Self {
        let same = |c: &Knobs| Knobs { feed_forward: 1.0, ..*knobs } == *c;
        Self { candidate: card.candidates.iter().position(same).unwrap_or(0) }
    }

    /// Takes in an answer that is fit; returns the parameters that it wants. `slow` = a setting may be chosen now.
    pub fn next(&mut self, answer: &Answer<'_>, card: &Card, slow: bool) -> Knobs {
        if slow {
            self.candidate = answer.candidate(card, self.candidate);
        }
        Knobs { feed_forward: answer.factor(card), ..card.candidates[self.candidate] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::card::Golden;
    use crate::time::Span;

    fn card() -> Card {
        let at = |ms| Knobs { target: Span::from_millis(ms), ..Knobs::default() };
        Card {
            candidates: vec![Knobs::default(), at(10), at(5)],
            period: Span::from_millis(128),
            threshold: 0.9,
            hysteresis: 0.1,
            distance_limit: Some(4.0),
            feed_forward_threshold: Some(0.5),
            feed_forward_rule: None,
            context_encoder: None,
            golden: Golden { inputs: vec![], outputs: vec![], tolerance: 0.0 },
            notes: std::collections::BTreeMap::new(),
        }
    }

    fn answer<'a>(score: &'a [f32; 3], feasible: &'a [f32; 3]) -> Answer<'a> {
        Answer { score, feasible, distance: Some(1.0), feed_forward: &[] }
    }

    /// Logit 2.2 is a probability of .9002, 2.19 one of .8993.
    #[test]
    fn the_best_of_the_eligible_beyond_the_hysteresis() {
        let c = card();
        assert_eq!(answer(&[0.0, -0.3, -0.6], &[-9.0, 2.2, 2.2]).candidate(&c, 0), 2);
        assert_eq!(answer(&[0.0, -0.3, -0.6], &[-9.0, 2.2, 2.19]).candidate(&c, 0), 1, "third is too risky");
        assert_eq!(
            answer(&[0.0, -0.3, -0.6], &[-9.0, 2.1, 2.1]).candidate(&c, 2),
            0,
            "the default is always there"
        );
        assert_eq!(
            answer(&[0.0, -0.3, -0.375], &[9.0, 9.0, 9.0]).candidate(&c, 1),
            1,
            "within the hysteresis"
        );
        assert_eq!(
            answer(&[0.0, -0.3, -0.375], &[9.0, 2.1, 9.0]).candidate(&c, 1),
            2,
            "the one in use became risky"
        );
        assert_eq!(answer(&[0.0, 0.3, 0.2], &[9.0, 9.0, 9.0]).candidate(&c, 2), 0);
    }

    #[test]
    fn what_is_not_finite_or_unfamiliar_is_not_followed() {
        let c = card();
        assert!(answer(&[0.0; 3], &[0.0; 3]).fit(&c).is_ok());
        assert_eq!(answer(&[0.0, f32::NAN, 0.0], &[0.0; 3]).fit(&c), Err(Unfit::NotFinite));
        assert_eq!(answer(&[0.0; 3], &[0.0, 0.0, f32::INFINITY]).fit(&c), Err(Unfit::NotFinite));
        let far = Answer { distance: Some(4.1), ..answer(&[0.0; 3], &[0.0; 3]) };
        assert_eq!(far.fit(&c), Err(Unfit::Unfamiliar));
    }

    #[test]
    fn a_feed_forward_must_be_likely() {
        let c = card();
        let logits = |l: &'static [f32; 5]| Answer { feed_forward: l, ..Answer::default() }.factor(&c);
        assert_eq!(logits(&[0.0, 0.0, 3.0, 0.0, 0.0]), 0.5, "e^3 of e^3 + 4 is .83");
        assert_eq!(logits(&[0.0, 0.0, 1.0, 0.0, 0.0]), 1.0, "e of e + 4 is .40");
        assert_eq!(logits(&[9.0, 0.0, 0.0, 0.0, 0.0]), 1.0);
    }

    #[test]
    fn slow_parameters_hold_between_their_times() {
        let c = card();
        let mut chosen = Chosen::default();
        let best = answer(&[0.0, -0.3, -0.6], &[9.0; 3]);
        assert_eq!(chosen.next(&best, &c, false), Knobs::default());
        assert_eq!(chosen.next(&best, &c, true).target, Span::from_millis(5));
    }
}
