//! The feature and action schema: the file `models/schema.toml`, read strictly. The file says what its keys mean.

use serde::Deserialize;
use sha2::{Digest, Sha256};
use toml::Spanned;

use super::signals;
use crate::aqm::params::Knobs;
use crate::time::Span;

/// The file that this program was built with.
pub const EMBEDDED: &str = include_str!("../../../models/schema.toml");

/// The version of the schema that this program understands.
pub const VERSION: u32 = 1;

/// Why a text is not a schema that can be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{file}:{line}: {reason}")]
pub struct SchemaError {
    /// The file as the caller named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong there, and what to write instead.
    pub reason: String,
}

/// How a signal becomes a feature.
#[derive(Copy, Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// x / scale.
    Linear,
    /// ln(1 + |x| / scale), with the sign of x.
    Log1p,
    /// ln(x / scale).
    Ln,
}

/// A signal.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// What it is.
    pub meaning: String,
    /// Where it comes from.
    pub source: String,
    /// Normalisation.
    pub norm: Norm,
    /// Its scale, positive.
    pub scale: f64,
    /// The feature stays within plus and minus this.
    pub clip: f64,
    /// Which of [`Schema::horizons`] it is averaged over, in their order.
    pub horizons: Vec<usize>,
    /// Its last values are features, too.
    pub raw: bool,
}

impl Signal {
    /// The feature of a value of this signal; finite whatever the value is.
    pub fn normalise(&self, x: f64) -> f32 {
        let x = if x.is_finite() { x } else { 0.0 };
        let y = match self.norm {
            Norm::Linear => x / self.scale,
            Norm::Log1p => (x.abs() / self.scale).ln_1p().copysign(x),
            Norm::Ln => (x / self.scale).max(f64::MIN_POSITIVE).ln(),
        };
        y.clamp(-self.clip, self.clip) as f32
    }
}

/// Something that may be set.
#[derive(Clone, Debug, PartialEq)]
pub struct Knob {
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// What it does.
    pub meaning: String,
    /// The values that may be chosen, rising.
    pub values: Vec<f64>,
    /// Which of them is RFC 9332's.
    pub default: usize,
    /// What is in force moves by at most one bin in this time, or acts once in it.
    pub slew: Span,
    /// It holds until it is changed; otherwise it acts once.
    pub hold: bool,
}

impl Knob {
    /// The bin whose value is nearest to `value` in the logarithm.
    pub fn nearest(&self, value: f64) -> usize {
        let off = |bin: &usize| (self.values[*bin] / value.max(f64::MIN_POSITIVE)).ln().abs();
        (0..self.values.len()).min_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or(self.default)
    }
}

/// The names of the knobs, in the order of the file.
pub const KNOBS: [&str; 4] = ["target", "gain", "ramp_min", "feed_forward"];

/// What may be set.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// In the order of [`KNOBS`].
    pub knobs: [Knob; KNOBS.len()],
    /// The slow knobs are decided this often.
    pub period: Span,
}

impl Action {
    /// The knobs that a choice of bins means; `None` if a bin does not exist.
    pub fn knobs_of(&self, bins: [usize; KNOBS.len()]) -> Option<Knobs> {
        let value = |n: usize| self.knobs[n].values.get(bins[n]).copied();
        Some(Knobs {
            target: Span::from_secs_f64(value(0)?),
            gain: value(1)?,
            ramp_min: Span::from_secs_f64(value(2)?),
            feed_forward: value(3)?,
        })
    }

    /// The bins nearest to `knobs`.
    pub fn bins_of(&self, knobs: &Knobs) -> [usize; KNOBS.len()] {
        let values =
            [knobs.target.as_secs_f64(), knobs.gain, knobs.ramp_min.as_secs_f64(), knobs.feed_forward];
        core::array::from_fn(|n| self.knobs[n].nearest(values[n]))
    }

    /// RFC 9332's.
    pub fn default_bins(&self) -> [usize; KNOBS.len()] {
        self.knobs.each_ref().map(|k| k.default)
    }
}

/// A schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// SHA-256 of the file in hex.
    pub hash: String,
    /// Time constants of the averages, rising.
    pub horizons: Vec<Span>,
    /// How many raw values are features.
    pub raw_windows: usize,
    /// What averages and raw values are of.
    pub step: Span,
    /// In the order of the features.
    pub signals: Vec<Signal>,
    /// What may be set.
    pub action: Action,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: Spanned<u32>,
    horizons_s: Spanned<Vec<f64>>,
    raw_windows: Spanned<usize>,
    step_s: Spanned<f64>,
    signal: Vec<Spanned<SignalFile>>,
    action: Spanned<ActionFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignalFile {
    name: Spanned<String>,
    unit: String,
    meaning: String,
    source: String,
    norm: Norm,
    scale: Spanned<f64>,
    clip: Spanned<f64>,
    over_s: Spanned<Vec<f64>>,
    raw: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionFile {
    period_s: Spanned<f64>,
    knob: Vec<Spanned<KnobFile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KnobFile {
    name: Spanned<String>,
    unit: String,
    meaning: String,
    least: Option<f64>,
    most: Option<f64>,
    bins: Option<usize>,
    values: Option<Vec<f64>>,
    default: f64,
    slew_s: Spanned<f64>,
    hold: bool,
}

/// A fault: where in the text it is, and what it is.
type Fault = (usize, String);

fn positive(value: &Spanned<f64>, what: &str) -> Result<f64, Fault> {
    let x = *value.get_ref();
    if x > 0.0 && x.is_finite() {
        Ok(x)
    } else {
        Err((value.span().start, format!("{what} must be more than 0 and finite")))
    }
}

impl Schema {
    /// The schema that this program was built with.
    ///
    /// # Panics
    /// Never: a test reads it.
    pub fn embedded() -> Self {
        match Self::parse(EMBEDDED, "models/schema.toml") {
            Ok(schema) => schema,
            Err(error) => unreachable!("{error}"),
        }
    }

    /// Reads the text of a file that errors call `name`.
    pub fn parse(text: &str, name: &str) -> Result<Self, SchemaError> {
        let fault = |(at, reason): Fault| SchemaError {
            file: name.to_owned(),
            line: text.get(..at).unwrap_or(text).matches('\n').count() + 1,
            reason,
        };
        let file: File = toml::from_str(text)
            .map_err(|e| fault((e.span().map_or(0, |s| s.start), e.message().to_owned())))?;
        file.schema(hash_of(text.as_bytes())).map_err(fault)
    }

    /// Length of the feature vector.
    pub fn width(&self) -> usize {
        let of = |s: &Signal| 1 + 2 * s.horizons.len() + if s.raw { self.raw_windows } else { 0 };
        self.signals.iter().map(of).sum()
    }

    /// Names of the features in order: `delay_mean_c`, `delay_mean_c.mean_0.5s`, `delay_mean_c.std_0.5s`, ..., and
    /// `delay_mean_c.raw_15` (oldest) to `delay_mean_c.raw_0`.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::with_capacity(self.width());
        for s in &self.signals {
            names.push(s.name.clone());
            for &h in &s.horizons {
                let seconds = self.horizons[h].as_secs_f64();
                names.extend(["mean", "std"].map(|of| format!("{}.{of}_{seconds}s", s.name)));
            }
        }
        for s in self.signals.iter().filter(|s| s.raw) {
            names.extend((0..self.raw_windows).rev().map(|age| format!("{}.raw_{age}", s.name)));
        }
        names
    }
}

/// SHA-256 in hex.
fn hash_of(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

impl File {
    fn schema(self, hash: String) -> Result<Schema, Fault> {
        if *self.version.get_ref() != VERSION {
            let reason =
                format!("version {} is not {VERSION}, which this program knows", self.version.get_ref());
            return Err((self.version.span().start, reason));
        }
        let seconds = self.horizons_s.get_ref();
        if seconds.is_empty()
            || seconds.iter().any(|s| !(*s > 0.0 && *s <= 1e6))
            || !seconds.windows(2).all(|p| p[0] < p[1])
        {
            return Err((self.horizons_s.span().start, "horizons_s must rise from above 0".to_owned()));
        }
        if !(1..=1024).contains(self.raw_windows.get_ref()) {
            return Err((self.raw_windows.span().start, "raw_windows must be 1 to 1024".to_owned()));
        }
        let mut signals: Vec<Signal> = Vec::with_capacity(self.signal.len());
        for file in self.signal {
            let signal = file.into_inner().signal(seconds, &signals)?;
            signals.push(signal);
        }
        Ok(Schema {
            hash,
            horizons: seconds.iter().map(|s| Span::from_secs_f64(*s)).collect(),
            raw_windows: *self.raw_windows.get_ref(),
            step: Span::from_secs_f64(positive(&self.step_s, "step_s")?),
            signals,
            action: ActionFile::action(self.action)?,
        })
    }
}

impl SignalFile {
    fn signal(self, horizons: &[f64], before: &[Signal]) -> Result<Signal, Fault> {
        let (at, name) = (self.name.span().start, self.name.into_inner());
        if signals::find(&name).is_none() {
            return Err((at, format!("signal '{name}' is not one that l4sd measures")));
        }
        if before.iter().any(|s| s.name == name) {
            return Err((at, format!("signal '{name}' is there twice; remove one")));
        }
        let mut indices = Vec::new();
        for s in self.over_s.get_ref() {
            let index = horizons.iter().position(|h| h == s);
            let Some(index) = index.filter(|i| indices.last().is_none_or(|last| last < i)) else {
                let reason = format!("over_s of '{name}': {s} is not in horizons_s, or not in their order");
                return Err((self.over_s.span().start, reason));
            };
            indices.push(index);
        }
        if self.norm == Norm::Ln && (self.raw || !indices.is_empty()) {
            return Err((
                at,
                format!("signal '{name}' with norm = \"ln\" has no horizons and no raw values"),
            ));
        }
        Ok(Signal {
            scale: positive(&self.scale, "scale")?,
            clip: positive(&self.clip, "clip")?,
            name,
            unit: self.unit,
            meaning: self.meaning,
            source: self.source,
            norm: self.norm,
            horizons: indices,
            raw: self.raw,
        })
    }
}

impl ActionFile {
    fn action(file: Spanned<Self>) -> Result<Action, Fault> {
        let at = file.span().start;
        let file = file.into_inner();
        let mut knobs = Vec::with_capacity(file.knob.len());
        for knob in file.knob {
            let place = knob.span().start;
            let expected = KNOBS.get(knobs.len()).copied();
            let knob = knob.into_inner();
            if expected != Some(knob.name.get_ref().as_str()) {
                let reason = format!("the knobs are {}, in this order", KNOBS.join(", "));
                return Err((knob.name.span().start, reason));
            }
            knobs.push(knob.knob(place)?);
        }
        let period = Span::from_secs_f64(positive(&file.period_s, "period_s")?);
        match knobs.try_into() {
            Ok(knobs) => Ok(Action { knobs, period }),
            Err(_) => {
                Err((at, format!("a knob is missing; the knobs are {}, in this order", KNOBS.join(", "))))
            }
        }
    }
}

impl KnobFile {
    fn knob(self, place: usize) -> Result<Knob, Fault> {
        let name = self.name.into_inner();
        let mut values = match (self.least, self.most, self.bins, self.values) {
            (Some(least), Some(most), Some(bins @ 2..=1024), None) if least > 0.0 && most > least => {
                let step = (most / least).ln() / (bins - 1) as f64;
                (0..bins)
                    .map(|n| if n + 1 == bins { most } else { least * (step * n as f64).exp() })
                    .collect()
            }
            (None, None, None, Some(values)) => values,
            _ => {
                let reason = format!("knob '{name}' needs least < most and 2 to 1024 bins, or else values");
                return Err((place, reason));
            }
        };
        let rising = values.windows(2).all(|p| p[0] < p[1]);
        let inside = values.first().is_some_and(|v| *v > 0.0 && *v <= self.default)
            && values.last().is_some_and(|v| v.is_finite() && *v >= self.default);
        if !rising || !inside {
            let reason =
                format!("knob '{name}': values must rise from above 0, with the default between them");
            return Err((place, reason));
        }
        let mut knob = Knob {
            name,
            unit: self.unit,
            meaning: self.meaning,
            values: values.clone(),
            default: 0,
            slew: Span::from_secs_f64(positive(&self.slew_s, "slew_s")?),
            hold: self.hold,
        };
        knob.default = knob.nearest(self.default);
        values[knob.default] = self.default;
        knob.values = values;
        Ok(knob)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_schema_has_every_signal() {
        let schema = Schema::embedded();
        for (name, _) in signals::ALL {
            assert!(
                schema.signals.iter().any(|s| s.name == *name),
                "{name} is measured and not in the schema"
            );
        }
        let names = schema.names();
        assert_eq!(names.len(), schema.width());
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert!(names.contains(&"delay_mean_c.std_0.064s".to_owned()), "{names:?}");
        assert_eq!(names.last().map(String::as_str), Some("arrival_c.raw_0"));
    }

    /// FIPS 180-2 appendix B.1, and that a byte of a comment counts.
    #[test]
    fn the_hash_is_of_the_bytes() {
        assert_eq!(hash_of(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let other = format!("{EMBEDDED}#");
        let changed = Schema::parse(&other, "x").unwrap();
        let embedded = Schema::embedded();
        assert_ne!(changed.hash, embedded.hash);
        assert_eq!(Schema { hash: embedded.hash.clone(), ..changed }, embedded);
    }

    #[test]
    fn faults_name_their_line() {
        let line_of = |part: &str| EMBEDDED.lines().position(|l| l == part).unwrap() + 1;
        for (from, to, line, part) in [
            ("version = 1", "version = 0", line_of("version = 1"), "version 0 is not 1"),
            ("raw_windows = 16", "raw_windows = 0", line_of("raw_windows = 16"), "1 to 1024"),
            ("name = \"idle\"", "name = \"idel\"", line_of("name = \"idle\""), "not one that l4sd measures"),
            ("name = \"idle\"", "name = \"dt\"", line_of("name = \"idle\""), "there twice"),
            (
                "name = \"idle\"",
                "name = \"idle\"\ncolour = 1",
                line_of("name = \"idle\"") + 1,
                "unknown field",
            ),
            (
                "horizons_s = [0.064",
                "horizons_s = [0.7",
                line_of("horizons_s = [0.064, 0.5, 4.0, 16.0]"),
                "rise",
            ),
            ("name = \"gain\"", "name = \"target\"", line_of("name = \"gain\""), "in this order"),
            ("norm = \"ln\"", "norm = \"log\"", line_of("norm = \"ln\""), "unknown variant"),
        ] {
            let text = EMBEDDED.replacen(from, to, 1);
            let error = Schema::parse(&text, "s.toml").unwrap_err();
            assert!(error.line == line && error.reason.contains(part), "{from} -> {to}: {error}, not {line}");
            assert!(error.to_string().starts_with(&format!("s.toml:{line}: ")));
        }
        for cut in ["unit = \"s\"\n", "period_s = 0.128\n", "step_s = 0.016\n", "hold = false\n"] {
            let error = Schema::parse(&EMBEDDED.replacen(cut, "", 1), "s.toml").unwrap_err();
            assert!(error.reason.contains("missing field"), "{cut}: {error}");
        }
    }

    /// 12 bins over 1..25 ms are a factor of 1.33995 apart: the tenth, 13.92 ms, is the nearest to 15 ms and is 15 ms.
    /// Over 0.2..8 ms, a factor of 1.39853: the fifth, 0.765 ms, is 0.8 ms.
    #[test]
    fn the_defaults_are_among_the_bins() {
        let action = Schema::embedded().action;
        let bins = action.default_bins();
        assert_eq!(bins, [9, 2, 4, 2]);
        assert_eq!(action.knobs_of(bins), Some(Knobs::default()));
        assert_eq!(action.bins_of(&Knobs::default()), bins);
        let target = &action.knobs[0].values;
        for (bin, ms) in [(0, 1.0), (1, 1.33995), (8, 10.3926), (9, 15.0), (10, 18.6575), (11, 25.0)] {
            assert!((target[bin] * 1e3 - ms).abs() < 1e-3, "{bin}: {}", target[bin]);
        }
        assert_eq!(action.knobs_of([12, 0, 0, 0]), None);
        for bin in 0..12 {
            let knobs = action.knobs_of([bin, 4, 11 - bin, 0]).unwrap();
            assert_eq!(action.bins_of(&knobs), [bin, 4, 11 - bin, 0]);
        }
    }

    #[test]
    fn features_are_finite_and_within_the_clip() {
        for s in Schema::embedded().signals {
            for x in [0.0, -0.0, 1.0, -1.0, f64::MAX, f64::MIN, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let y = f64::from(s.normalise(x));
                assert!(y.is_finite() && y.abs() <= s.clip * (1.0 + 1e-6), "{} of {x}: {y}", s.name);
            }
        }
        let schema = Schema::embedded();
        let delay = schema.signals.iter().find(|s| s.name == "delay_mean_c").unwrap();
        assert!((f64::from(delay.normalise(0.015)) - (1.0f64 + 7.5).ln()).abs() < 1e-6);
    }
}
