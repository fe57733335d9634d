//! The reward of a step. With trailing means of the candidate and of its twin (`ref`) under RFC 9332's defaults:
//!
//! ```text
//! r = - 1/2 [ ln((dC + .5) / (dC_ref + .5)) + ln((dL + .2) / (dL_ref + .2)) ]     delays in ms
//!     - lam_u * max(0, u_ref - u - .005) / .01                                     utilisation
//!     - lam_f * max(0, |log2 ratio| - max(|log2 ratio_ref|, 1))                    fairness
//!     - .01 * |change of the slow knobs in values of the action|
//! ```
//!
//! The first line is the logarithm of the score that cells are judged by, without its power term: where only one queue
//! carried packets, it is that queue's logarithm whole. Each logarithm, and each of the two constraint terms before its
//! factor, is clipped to -2..=2, so that no single step dominates and the factors can still be raised by dual ascent.
//! The constraint terms are zero in the first seconds of an episode.

use super::options::EnvError;
use super::trail::Means;
use crate::time::Span;

/// Factors and times of the reward.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct RewardParams {
    /// Factor of lost utilisation, per 1 % beyond .5 %. 0 or more; 5.
    pub lam_utilisation: f64,
    /// Factor of unfairness, per doubling beyond the twin's ratio or 2. 0 or more; 2.
    pub lam_fairness: f64,
    /// Cost of a slow knob's move by one value. 0 or more; .01.
    pub move_cost: f64,
    /// Beginning of an episode without constraints. 5 s.
    pub grace: Span,
    /// Length of the trailing means, 16 ms to 60 s. 2 s.
    pub trail: Span,
}

impl Default for RewardParams {
    fn default() -> Self {
        Self {
            lam_utilisation: 5.0,
            lam_fairness: 2.0,
            move_cost: 0.01,
            grace: Span::from_secs(5),
            trail: Span::from_secs(2),
        }
    }
}

impl RewardParams {
    pub(super) fn check(&self) -> Result<(), EnvError> {
        let factors = [
            ("lam_utilisation", self.lam_utilisation),
            ("lam_fairness", self.lam_fairness),
            ("move_cost", self.move_cost),
        ];
        for (name, value) in factors {
            if !value.is_finite() || value < 0.0 {
                return Err(EnvError::Option {
                    name,
                    value: value.to_string(),
                    range: "a finite number, 0 or more",
                });
            }
        }
        if self.trail < Span::from_millis(16) || self.trail > Span::from_secs(60) {
            return Err(EnvError::Option {
                name: "trail",
                value: self.trail.to_string(),
                range: "16ms to 60s",
            });
        }
        Ok(())
    }
}

/// The parts of a reward.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Terms {
    /// The logarithms of the delay ratios, negated and averaged: positive where the candidate's queues are shorter.
    pub delay: f64,
    /// Utilisation lost beyond .5 %, in per cent, 0..=2.
    pub utilisation: f64,
    /// Doublings of the rate ratio beyond what is allowed, 0..=2.
    pub fairness: f64,
    /// Moves of the slow knobs.
    pub moves: f64,
}

const CLIP: f64 = 2.0;
/// Floors of the delays in milliseconds, L and C.
const FLOOR_MS: [f64; 2] = [0.2, 0.5];

impl Terms {
    /// The terms of a step that ended `elapsed` after the beginning of the episode.
    pub fn of(own: &Means, reference: &Means, moves: u32, elapsed: Span, params: &RewardParams) -> Self {
        let logs = [0, 1].map(|q| {
            let (own, reference) = own.delay_ms[q].zip(reference.delay_ms[q])?;
            Some(((own + FLOOR_MS[q]) / (reference + FLOOR_MS[q])).ln().clamp(-CLIP, CLIP))
        });
        let queues = logs.iter().flatten().count().max(1) as f64;
        let delay = -logs.into_iter().flatten().sum::<f64>() / queues;
        let (mut utilisation, mut fairness) = (0.0, 0.0);
        if elapsed >= params.grace {
            utilisation = ((reference.utilisation - own.utilisation - 0.005) / 0.01).clamp(0.0, CLIP);
            if let Some((own, reference)) = own.log2_ratio.zip(reference.log2_ratio) {
                fairness = (own.abs() - reference.abs().max(1.0)).clamp(0.0, CLIP);
            }
        }
        // -0.0 is a surprise to whoever prints it.
        Self { delay: delay + 0.0, utilisation, fairness, moves: f64::from(moves) }
    }

    /// The reward.
    pub fn reward(&self, params: &RewardParams) -> f64 {
        self.delay
            - params.lam_utilisation * self.utilisation
            - params.lam_fairness * self.fairness
            - params.move_cost * self.moves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(l: f64, c: f64, utilisation: f64, log2_ratio: f64) -> Means {
        Means { delay_ms: [Some(l), Some(c)], utilisation, log2_ratio: Some(log2_ratio) }
    }

    const LATE: Span = Span::from_secs(10);

    /// C from 15 to 7.25 ms is 15.5 / 7.75 = 2; L from .8 to .3 is 1.0 / .5 = 2: a reward of ln 2.
    #[test]
    fn halved_delays_are_worth_ln_2() {
        let p = RewardParams::default();
        let t = Terms::of(&means(0.3, 7.25, 0.99, 0.5), &means(0.8, 15.0, 0.99, 0.5), 0, LATE, &p);
        assert!((t.reward(&p) - 2f64.ln()).abs() < 1e-12, "{t:?}");
        let c_only = |c| Means { delay_ms: [None, Some(c)], log2_ratio: None, ..means(0.0, 0.0, 0.99, 0.0) };
        let t = Terms::of(&c_only(7.25), &c_only(15.0), 0, LATE, &p);
        assert!((t.reward(&p) - 2f64.ln()).abs() < 1e-12, "one queue counts whole: {t:?}");
    }

    /// Utilisation .99 against .975: 1.5 % less .5 % is 1 %, times 5. Ratio 8 against an allowed 2: two doublings,
    /// times 2. Three moves at .01.
    #[test]
    fn constraints_and_moves_cost() {
        let p = RewardParams::default();
        let (own, reference) = (means(0.8, 15.0, 0.975, -3.0), means(0.8, 15.0, 0.99, 0.2));
        let t = Terms::of(&own, &reference, 3, LATE, &p);
        assert!((t.utilisation - 1.0).abs() < 1e-9 && t.fairness == 2.0, "{t:?}");
        assert!((t.reward(&p) - (-5.0 - 4.0 - 0.03)).abs() < 1e-9);
        let early = Terms::of(&own, &reference, 3, Span::from_millis(4999), &p);
        assert!((early.reward(&p) + 0.03).abs() < 1e-12, "no constraint in the first 5 s: {early:?}");
    }

    #[test]
    fn terms_are_clipped_and_what_is_allowed_is_free() {
        let p = RewardParams::default();
        let t = Terms::of(&means(500.0, 1e4, 0.1, 9.0), &means(0.0, 0.0, 1.0, 0.0), 0, LATE, &p);
        assert_eq!((t.delay, t.utilisation, t.fairness), (-2.0, 2.0, 2.0));
        let t = Terms::of(&means(1.0, 15.0, 0.986, 1.4), &means(1.0, 15.0, 0.99, -1.5), 0, LATE, &p);
        assert_eq!(t.reward(&p), 0.0, "{t:?}");
    }
}
