//! Other constants for the DualQ than those of RFC 9332: `dualpi2:target=5ms:ramp=2ms` on the command line, and the
//! frozen ones of `dualpi2-tuned`.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::text::{Text, Time};
use super::values::ValueError;
use crate::aqm::params::{DualQParams, Knobs, LAqmParams, PiParams};
use crate::time::Span;
use crate::units;

/// Constants of a DualQ. What is `None` is as in RFC 9332.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Constants {
    /// Classic queue delay target, 500 us to 1 s.
    pub target: Option<Span>,
    /// Integral gain in Hz, above 0 and up to 100.
    pub alpha: Option<f64>,
    /// Proportional gain in Hz, above 0 and up to 100.
    pub beta: Option<f64>,
    /// Sojourn at which the L ramp begins, 50 us to 100 ms; its width is half of that.
    pub ramp_min: Option<Span>,
}

// Constants are read from text that has no not-a-number in it.
impl Eq for Constants {}

const TUNED: &str = include_str!("../../models/tuned.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TunedFile {
    target: Text<Time>,
    alpha: f64,
    beta: f64,
    ramp: Text<Time>,
}

impl Constants {
    /// Those of `dualpi2-tuned`: `models/tuned.toml` as it was when this was built.
    pub fn tuned() -> Self {
        let file: TunedFile = toml::from_str(TUNED).expect("models/tuned.toml is checked by a test");
        Self {
            target: Some(file.target.0.0),
            alpha: Some(file.alpha),
            beta: Some(file.beta),
            ramp_min: Some(file.ramp.0.0),
        }
    }

    /// What a controller that set them would have in force. Gains are not scaled but set, so that the gain scale is 1.
    pub fn knobs(&self) -> Knobs {
        let rfc = Knobs::default();
        Knobs {
            target: self.target.unwrap_or(rfc.target),
            ramp_min: self.ramp_min.unwrap_or(rfc.ramp_min),
            ..rfc
        }
    }

    /// `params` with these constants in place of its own.
    #[must_use]
    pub fn over(&self, params: &DualQParams) -> DualQParams {
        let pi = PiParams {
            target: self.target.unwrap_or(params.pi.target),
            alpha: self.alpha.unwrap_or(params.pi.alpha),
            beta: self.beta.unwrap_or(params.pi.beta),
            ..params.pi
        };
        let l_aqm = self.ramp_min.map_or(params.l_aqm, |min| LAqmParams::Ramp {
            min,
            width: Span::from_nanos(min.as_nanos() / 2),
        });
        DualQParams { pi, l_aqm, ..params.clone() }
    }
}

impl fmt::Display for Constants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |span: Span| span.as_nanos() as f64 / 1e3;
        if let Some(target) = self.target {
            write!(f, ":target={}ms", target.as_millis_f64())?;
        }
        if let Some(alpha) = self.alpha {
            write!(f, ":alpha={alpha}")?;
        }
        if let Some(beta) = self.beta {
            write!(f, ":beta={beta}")?;
        }
        if let Some(ramp) = self.ramp_min {
            write!(f, ":ramp={}us", us(ramp))?;
        }
        Ok(())
    }
}

impl FromStr for Constants {
    type Err = ValueError;

    /// `target=5ms:alpha=0.2:beta=4:ramp=2ms`, any of them, once each.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut constants = Self::default();
        for part in text.split(':') {
            let wrong = |why: &str| {
                ValueError(format!(
                    "'{part}' {why}; constants are written like dualpi2:target=5ms:alpha=0.16:beta=3.2:ramp=800us"
                ))
            };
            let (name, value) = part.split_once('=').ok_or_else(|| wrong("is not a constant"))?;
            let gain = || value.parse::<f64>().ok().filter(|&v| v > 0.0 && v <= 100.0);
            let span =
                |least: Span, most: Span| units::parse_span(value).ok().filter(|&v| v >= least && v <= most);
            let fresh = match name {
                "target" => {
                    let value = span(Span::from_micros(500), Span::from_secs(1));
                    constants
                        .target
                        .replace(value.ok_or_else(|| wrong("is not a time of 500us to 1s"))?)
                        .is_none()
                }
                "ramp" => {
                    let value = span(Span::from_micros(50), Span::from_millis(100));
                    constants
                        .ramp_min
                        .replace(value.ok_or_else(|| wrong("is not a time of 50us to 100ms"))?)
                        .is_none()
                }
                "alpha" => constants
                    .alpha
                    .replace(gain().ok_or_else(|| wrong("is not above 0 and up to 100"))?)
                    .is_none(),
                "beta" => constants
                    .beta
                    .replace(gain().ok_or_else(|| wrong("is not above 0 and up to 100"))?)
                    .is_none(),
                _ => return Err(wrong("is neither target, alpha, beta nor ramp")),
            };
            if !fresh {
                return Err(wrong("is there twice"));
            }
        }
        Ok(constants)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aqm::params::Limit;
    use crate::units::BitRate;

    #[test]
    fn constants_read_print_and_replace() {
        let c: Constants = "target=5ms:ramp=2ms:beta=4".parse().unwrap();
        assert_eq!(c.to_string(), ":target=5ms:beta=4:ramp=2000us");
        let rfc = DualQParams::rfc9332(Limit::for_rate(BitRate::from_mbps(40)));
        let p = c.over(&rfc);
        assert_eq!((p.pi.target, p.pi.alpha, p.pi.beta), (Span::from_millis(5), 0.16, 4.0));
        assert_eq!(p.l_aqm, LAqmParams::Ramp { min: Span::from_millis(2), width: Span::from_millis(1) });
        assert_eq!(Constants::default().over(&rfc), rfc);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("", "'' is not a constant"),
            ("target", "'target' is not a constant"),
            ("target=5", "'target=5' is not a time"),
            ("alpha=0", "'alpha=0' is not above 0"),
            ("beta=nan", "'beta=nan' is not above 0"),
            ("k=2", "'k=2' is neither"),
            ("alpha=1:alpha=1", "'alpha=1' is there twice"),
        ] {
            let message = text.parse::<Constants>().unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("dualpi2:target="), "{text}: {message}");
        }
    }

    #[test]
    fn the_frozen_constants_are_within_what_a_user_may_ask_for() {
        let tuned = Constants::tuned();
        assert_eq!(tuned.to_string()[1..].parse::<Constants>().unwrap(), tuned);
    }
}
