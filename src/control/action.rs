//! The knobs as a small discrete action, checked: what a learner chooses from and what a model's heads mean.
//!
//! Four numbers, each an index into the values that `models/schema.toml` lists for its knob. It decodes only; bounds and
//! slew are the guard's.

use crate::aqm::params::Knobs;
use crate::telemetry::features::schema::{Action as Values, KNOBS};

/// What the parts are called.
pub const NAMES: [&str; 4] = KNOBS;

/// How many values each part of an action has, in the order of [`NAMES`].
pub const SIZES: [usize; 4] = [12, 7, 12, 5];

/// No feed-forward.
const NO_FEED_FORWARD: u8 = 2;

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
    values: Values,
}

impl ActionTable {
    /// The values of a schema.
    pub const fn new(values: Values) -> Self {
        Self { values }
    }

    /// The action that asks for RFC 9332's defaults.
    pub fn defaults(&self) -> Action {
        Action(self.values.default_bins().map(|bin| bin as u8))
    }

    /// What an action asks for.
    pub fn knobs(&self, action: Action) -> Knobs {
        self.values.knobs_of(action.0.map(usize::from)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::guard::{FEED_FORWARD, GuardParams};
    use crate::telemetry::features::Schema;

    /// The schema has the values that this module counts on: as many, the defaults exactly, and feed-forwards that the
    /// guard lets through.
    #[test]
    fn the_schema_fits() {
        let schema = Schema::embedded();
        assert_eq!(schema.action.knobs.each_ref().map(|k| k.values.len()), SIZES);
        let t = ActionTable::new(schema.action);
        assert_eq!(t.defaults().parts(), [9, 2, 4, NO_FEED_FORWARD]);
        assert_eq!(t.knobs(t.defaults()), Knobs::default());
        for i in 0..5 {
            let k = t.knobs(Action([9, 2, 4, i]));
            assert!(FEED_FORWARD.contains(&k.feed_forward));
        }
        let p = GuardParams::default();
        let (least, most) = (t.knobs(Action([0, 0, 0, 2])), t.knobs(Action([11, 6, 11, 2])));
        assert_eq!((least.target, most.target), p.target);
        assert_eq!((least.gain, most.gain), (p.gain[0], p.gain[6]));
        assert_eq!((least.ramp_min, most.ramp_min), p.ramp_min);
    }

    #[test]
    fn what_is_no_index_is_refused_by_name() {
        let message = |parts| Action::new(parts).unwrap_err().to_string();
        assert_eq!(message([12, 0, 0, 0]), "target = 12 is not an index of its values: 0 to 11");
        assert_eq!(message([0, -1, 0, 0]), "gain = -1 is not an index of its values: 0 to 6");
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
