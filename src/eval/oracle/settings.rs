//! Settings of the knobs as bins of the schema, and which of them are tried first.

use serde::{Deserialize, Serialize};

use crate::aqm::params::{Knobs as AqmKnobs, PiParams};
use crate::config::Constants;
use crate::config::Policy;
use crate::telemetry::features::schema::{Action, Schema};

/// Bins of target, gain and ramp, as `models/schema.toml` numbers them; no feed-forward.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Setting(pub [u8; 3]);

/// What policies are offered: the default, then what is tried first on a link with both kinds of traffic.
pub fn candidates() -> Vec<Setting> {
    let knobs = Knobs::new(Schema::embedded().action);
    std::iter::once(knobs.default_setting()).chain(knobs.coarse(true, true)).collect()
}

/// What each of [`candidates`] sets.
pub fn candidate_knobs() -> Vec<crate::aqm::params::Knobs> {
    let action = Schema::embedded().action;
    let no_feed_forward = action.default_bins()[3];
    let knobs = |Setting([target, gain, ramp]): Setting| {
        action.knobs_of([target.into(), gain.into(), ramp.into(), no_feed_forward]).unwrap_or_default()
    };
    candidates().into_iter().map(knobs).collect()
}

/// Which knobs a search may move.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// All of them.
    All,
    /// The Classic target alone.
    Target,
    /// The gain scale alone.
    Gain,
    /// The start of the L ramp alone.
    Ramp,
}

impl Axis {
    /// In the order of tables.
    pub const ORDER: [Self; 4] = [Self::All, Self::Target, Self::Gain, Self::Ramp];

    /// What tables call an oracle that moves these knobs.
    pub const fn policy(self) -> &'static str {
        match self {
            Self::All => "oracle",
            Self::Target => "oracle-target",
            Self::Gain => "oracle-gain",
            Self::Ramp => "oracle-ramp",
        }
    }
}

/// What settings mean.
#[derive(Clone, Debug)]
pub(super) struct Knobs {
    action: Action,
    bins: [u8; 3],
    default: [u8; 3],
}

impl Knobs {
    /// Those of a schema.
    pub(super) fn new(action: Action) -> Self {
        let [target, gain, ramp, _] = action.default_bins().map(|bin| bin as u8);
        let [targets, gains, ramps, _] = action.knobs.each_ref().map(|k| k.values.len() as u8);
        Self { action, bins: [targets, gains, ramps], default: [target, gain, ramp] }
    }

    /// The constants of RFC 9332.
    pub(super) const fn default_setting(&self) -> Setting {
        Setting(self.default)
    }

    /// What a setting sets.
    pub(super) fn values(&self, Setting([target, gain, ramp]): Setting) -> AqmKnobs {
        let no_feed_forward = self.action.default_bins()[3];
        let bins = [target.into(), gain.into(), ramp.into(), no_feed_forward];
        self.action.knobs_of(bins).unwrap_or_default()
    }

    /// The policy that holds a setting for a whole run.
    pub(super) fn policy(&self, setting: Setting) -> Policy {
        let knobs = self.values(setting);
        let rfc = PiParams::default();
        Policy::DualPi2With(Constants {
            target: Some(knobs.target),
            alpha: Some(rfc.alpha * knobs.gain),
            beta: Some(rfc.beta * knobs.gain),
            ramp_min: Some(knobs.ramp_min),
        })
    }

    /// A setting moves no other knob than `axis` has.
    pub(super) fn is_on(&self, Setting(bins): Setting, axis: Axis) -> bool {
        let moved = [0, 1, 2].map(|knob| bins[knob] != self.default[knob]);
        match axis {
            Axis::All => true,
            Axis::Target => !moved[1] && !moved[2],
            Axis::Gain => !moved[0] && !moved[2],
            Axis::Ramp => !moved[0] && !moved[1],
        }
    }

    /// What is tried first on a link with this traffic: every target, and a lattice of the others. The default is not
    /// among them. Without C the ramp decides and the target only where it is shorter than what L waits; without L there
    /// is no ramp.
    pub(super) fn coarse(&self, l: bool, c: bool) -> Vec<Setting> {
        let [target, gain, ramp] = self.default;
        let all = |knob: usize| 0..self.bins[knob];
        let mut settings = Vec::new();
        if c {
            settings.extend(all(0).map(|t| [t, gain, ramp]));
            let (targets, gains): (&[u8], _) =
                if l { (&[5, 7, 9], all(1)) } else { (&[3, 4, 5, 6, 7, 9], all(1)) };
            settings.extend(targets.iter().flat_map(|&t| gains.clone().map(move |g| [t, g, ramp])));
        }
        if c && l {
            let ramps = || [0, 2, 6, 8, 10];
            settings.extend([3, 5, 7, 9].into_iter().flat_map(|t| ramps().map(|r| [t, gain, r])));
        } else if l {
            settings.extend(all(2).map(|r| [target, gain, r]));
            settings.extend([0, 2, 4].into_iter().flat_map(|t| [ramp - 1, ramp].map(|r| [t, gain, r])));
        }
        let mut settings: Vec<_> = settings.into_iter().map(Setting).collect();
        settings.retain(|s| *s != self.default_setting());
        settings.sort_unstable();
        settings.dedup();
        settings
    }

    /// The settings that are one bin away in one knob.
    pub(super) fn beside(&self, Setting(bins): Setting) -> Vec<Setting> {
        let mut near = Vec::new();
        for knob in [0, 2, 1] {
            for bin in [bins[knob].wrapping_sub(1), bins[knob] + 1] {
                if bin < self.bins[knob] {
                    let mut moved = bins;
                    moved[knob] = bin;
                    near.push(Setting(moved));
                }
            }
        }
        near
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aqm::params::{DualQParams, Limit};
    use crate::units::BitRate;

    fn knobs() -> Knobs {
        Knobs::new(Schema::embedded().action)
    }

    /// The default setting runs as `dualpi2` does, to the last bit.
    #[test]
    fn the_default_is_rfc_9332() {
        let k = knobs();
        let rfc = DualQParams::rfc9332(Limit::for_rate(BitRate::from_mbps(40)));
        assert_eq!(k.policy(k.default_setting()).constants().over(&rfc), rfc);
        let all = k.policy(Setting([0, 4, 11])).constants();
        assert_eq!(all.to_string(), ":target=1ms:alpha=0.32:beta=6.4:ramp=8000us");
    }

    #[test]
    fn what_is_tried_first_has_every_axis_and_no_default() {
        let k = knobs();
        for (l, c, count) in [(true, true, 49), (false, true, 47), (true, false, 17)] {
            let coarse = k.coarse(l, c);
            assert_eq!(coarse.len(), count, "L {l}, C {c}");
            assert!(!coarse.contains(&k.default_setting()));
            let on = |axis| coarse.iter().filter(|&&s| k.is_on(s, axis)).count();
            assert_eq!(on(Axis::Target) >= 11, c);
            assert_eq!(on(Axis::Ramp) >= 5, l);
            assert_eq!(on(Axis::Gain) == 6, c);
        }
    }

    #[test]
    fn neighbours_are_within_the_bins() {
        let k = knobs();
        assert_eq!(k.beside(Setting([0, 6, 5])), [[1, 6, 5], [0, 6, 4], [0, 6, 6], [0, 5, 5]].map(Setting));
        assert_eq!(k.beside(k.default_setting()).len(), 6);
    }
}
