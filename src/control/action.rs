//! The knobs as a small discrete action: what a learner chooses from and what a model's heads mean.
//!
//! Four numbers, each an index: Classic target, gain scale, L ramp start, feed-forward. Targets and ramp starts are
//! log-spaced over the guard's bounds, and the value nearest to RFC 9332's default is that default, so that "do what
//! DualPI2 does" is an action. It decodes only; bounds and slew are the guard's.

use super::guard::GuardParams;
use crate::aqm::params::Knobs;
use crate::time::Span;

/// Values of the target and of the ramp start.
pub const BINS: usize = 12;

/// Gain scales, by index.
pub const GAINS: [f64; 5] = [0.5, 0.7, 1.0, 1.4, 2.0];

/// One-shot factors on p', by index: those of the guard, rising.
pub const FEED_FORWARDS: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];
const NO_FEED_FORWARD: u8 = 2;

/// How many values each part of an action has: target, gain, ramp, feed-forward.
pub const SIZES: [usize; 4] = [BINS, GAINS.len(), BINS, FEED_FORWARDS.len()];

/// What the parts are called.
pub const NAMES: [&str; 4] = ["target", "gain", "ramp_min", "feed_forward"];

/// Why numbers are not an action.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{name} = {value} is not an index of its values: 0 to {last}")]
pub struct ActionError {
    /// Which part.
    pub name: &'static str,
    /// What it was.
    pub value: i64,
    /// The greatest that it may be.
    pub last: usize,
}

/// Indices within [`SIZES`].
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Action([u8; 4]);

impl Action {
    /// From numbers in the order of [`NAMES`].
    pub fn new(parts: [i64; 4]) -> Result<Self, ActionError> {
        let mut action = [0; 4];
        for (i, value) in parts.into_iter().enumerate() {
            action[i] = u8::try_from(value)
                .ok()
                .filter(|&v| usize::from(v) < SIZES[i])
                .ok_or(ActionError { name: NAMES[i], value, last: SIZES[i] - 1 })?;
        }
        Ok(Self(action))
    }

    /// The indices, in the order of [`NAMES`].
    pub const fn parts(self) -> [u8; 4] {
        self.0
    }

    /// The same without a feed-forward.
    #[must_use]
    pub const fn held(self) -> Self {
        let [target, gain, ramp, _] = self.0;
        Self([target, gain, ramp, NO_FEED_FORWARD])
    }

    /// The slow knobs of this action with the feed-forward of `other`.
    #[must_use]
    pub const fn with_feed_forward_of(self, other: Self) -> Self {
        let [target, gain, ramp, _] = self.0;
        Self([target, gain, ramp, other.0[3]])
    }

    /// By how many values the slow knobs differ, summed over target, gain and ramp.
    pub fn distance(self, other: Self) -> u32 {
        (0..3).map(|i| u32::from(self.0[i].abs_diff(other.0[i]))).sum()
    }
}

/// The values behind the indices.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionTable {
    targets: [Span; BINS],
    ramps: [Span; BINS],
    defaults: Action,
}

impl Default for ActionTable {
    /// Over the bounds of [`GuardParams::default`].
    fn default() -> Self {
        let (bounds, rfc) = (GuardParams::default(), Knobs::default());
        let (targets, target) = values(bounds.target, rfc.target);
        let (ramps, ramp) = values(bounds.ramp_min, rfc.ramp_min);
        let gain = GAINS.iter().position(|&g| g == rfc.gain).unwrap_or(0);
        Self { targets, ramps, defaults: Action([target, gain as u8, ramp, NO_FEED_FORWARD]) }
    }
}

impl ActionTable {
    /// The action that asks for RFC 9332's defaults.
    pub const fn defaults(&self) -> Action {
        self.defaults
    }

    /// What an action asks for.
    pub fn knobs(&self, action: Action) -> Knobs {
        let [target, gain, ramp, feed_forward] = action.0.map(usize::from);
        Knobs {
            target: self.targets[target],
            gain: GAINS[gain],
            ramp_min: self.ramps[ramp],
            feed_forward: FEED_FORWARDS[feed_forward],
        }
    }
}

/// Log-spaced values from the least to the most, the one nearest to `default` (in ratio) replaced by it; and its index.
fn values((least, most): (Span, Span), default: Span) -> ([Span; BINS], u8) {
    let ns = |s: Span| s.as_nanos() as f64;
    let step = (ns(most) / ns(least)).ln() / (BINS - 1) as f64;
    let nearest = ((ns(default) / ns(least)).ln() / step).round() as usize;
    let value = |i: usize| match i {
        i if i == nearest => default,
        i => Span::from_nanos((ns(least) * (step * i as f64).exp()).round() as u64),
    };
    (core::array::from_fn(value), nearest as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 ms x 25^(i/11), with 15 ms in place of 13.93; .2 ms x 40^(i/11), with .8 ms in place of .765.
    #[test]
    fn values_are_log_spaced_and_hold_the_defaults() {
        let t = ActionTable::default();
        let ms = |spans: [Span; BINS]| spans.map(|s| (s.as_millis_f64() * 1e3).round() / 1e3);
        assert_eq!(
            ms(t.targets),
            [1.0, 1.34, 1.795, 2.406, 3.224, 4.319, 5.788, 7.755, 10.392, 15.0, 18.658, 25.0]
        );
        assert_eq!(ms(t.ramps), [0.2, 0.28, 0.391, 0.547, 0.8, 1.07, 1.496, 2.092, 2.925, 4.091, 5.721, 8.0]);
        assert_eq!(t.defaults().parts(), [9, 2, 4, 2]);
        assert_eq!(t.knobs(t.defaults()), Knobs::default());
    }

    #[test]
    fn feed_forwards_are_those_of_the_guard() {
        let sorted = |mut factors: [f64; 5]| {
            factors.sort_by(f64::total_cmp);
            factors
        };
        assert_eq!(sorted(crate::control::guard::FEED_FORWARD), FEED_FORWARDS);
        assert_eq!(FEED_FORWARDS[usize::from(NO_FEED_FORWARD)], 1.0);
    }

    #[test]
    fn what_is_no_index_is_refused_by_name() {
        let message = |parts| Action::new(parts).unwrap_err().to_string();
        assert_eq!(message([12, 0, 0, 0]), "target = 12 is not an index of its values: 0 to 11");
        assert_eq!(message([0, -1, 0, 0]), "gain = -1 is not an index of its values: 0 to 4");
        assert_eq!(
            message([0, 0, 0, i64::MAX]),
            format!("feed_forward = {} is not an index of its values: 0 to 4", i64::MAX)
        );
        assert!(Action::new([11, 4, 11, 4]).is_ok());
    }

    #[test]
    fn distance_is_of_the_slow_knobs_only() {
        let of = |parts| Action::new(parts).unwrap();
        assert_eq!(of([9, 2, 4, 0]).distance(of([4, 3, 4, 2])), 6);
        assert_eq!(of([9, 2, 4, 3]).held(), of([9, 2, 4, 2]));
    }
}
