//! The form of a scenario file, and what its values mean together.

mod flow;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::{Phase, Scenario, Spread};
use crate::config::Limit;
use crate::config::text::{Text, Time};
use crate::control::guard::GuardParams;
use crate::sim::link::{Generator, LinkSpec, Step, Trace, TraceError};
use crate::time::Span;
use crate::units::BitRate;
use crate::wire::Ecn;

/// A controller's decision is taken to be this late: longer than the P99 that was measured of the built-in model under SCHED_FIFO
/// (SPEC.md), and kept, since a change moves every simulated figure.
const DECISION_LATENCY: Span = Span::from_millis(2);

/// Why a file that has the right form is not a scenario.
pub(super) enum Wrong {
    Sense(String),
    Trace(TraceError),
}

impl From<String> for Wrong {
    fn from(reason: String) -> Self {
        Self::Sense(reason)
    }
}

impl From<&str> for Wrong {
    fn from(reason: &str) -> Self {
        Self::Sense(reason.to_owned())
    }
}

type TimeText = Text<Time>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    name: String,
    duration: TimeText,
    warmup: Option<TimeText>,
    seed: Option<u64>,
    #[serde(default)]
    spread: SpreadFile,
    link: LinkFile,
    #[serde(default)]
    phase: Vec<PhaseFile>,
    flow: Vec<FlowFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PhaseFile {
    name: String,
    at: TimeText,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SpreadFile {
    rtt: f64,
    rate: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkFile {
    rate: Option<Text<BitRate>>,
    #[serde(default)]
    steps: Vec<StepFile>,
    trace: Option<PathBuf>,
    generator: Option<GeneratorFile>,
    buffer: Option<Text<Limit>>,
    decision_latency: Option<TimeText>,
    #[serde(default)]
    nqb: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepFile {
    at: TimeText,
    rate: Text<BitRate>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum GeneratorFile {
    Square { high: Text<BitRate>, low: Text<BitRate>, period: TimeText },
    Walk { min: Text<BitRate>, max: Text<BitRate>, every: TimeText, sigma: f64 },
    Gilbert { good: Text<BitRate>, bad: Text<BitRate>, good_for: TimeText, bad_for: TimeText },
    Cellular { mean: Text<BitRate>, sigma: f64 },
    Starlink { mean: Text<BitRate>, sigma: f64 },
}

#[derive(Copy, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Cc {
    Prague,
    Cubic,
    Reno,
    Dctcp,
    Bbr,
}

#[derive(Copy, Clone, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Cbr,
    Video,
    Burst,
    Web,
}

#[derive(Copy, Clone, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum EcnUse {
    Off,
    Ect0,
    Ect1,
}

#[derive(Copy, Clone)]
struct Codepoint(Ecn);

impl<'de> Deserialize<'de> for Codepoint {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Self(match String::deserialize(d)?.as_str() {
            "not_ect" => Ecn::NotEct,
            "ect0" => Ecn::Ect0,
            "ect1" => Ecn::Ect1,
            "ce" => Ecn::Ce,
            other => {
                return Err(D::Error::custom(format!("'{other}' is not one of not_ect, ect0, ect1, ce")));
            }
        }))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlowFile {
    name: Option<String>,
    cc: Option<Cc>,
    kind: Option<Kind>,
    count: Option<usize>,
    rtt: Option<TimeText>,
    start: Option<TimeText>,
    stop: Option<TimeText>,
    frame: Option<u16>,
    dscp: Option<u8>,
    aggregate: Option<TimeText>,
    // With a congestion control.
    ecn: Option<EcnUse>,
    size: Option<Size>,
    delayed_acks: Option<bool>,
    hystart: Option<bool>,
    fallback: Option<bool>,
    ack_jitter: Option<TimeText>,
    ack_compression: Option<TimeText>,
    ack_thinning: Option<TimeText>,
    ce_bleached: Option<bool>,
    // What an application hands over, where there is one; without one, and web, what there is.
    rate: Option<Text<BitRate>>,
    load: Option<f64>,
    codepoint: Option<Codepoint>,
    // Bursts.
    fps: Option<f64>,
    every: Option<TimeText>,
    sigma: Option<f64>,
    access: Option<Text<BitRate>>,
}

struct Size(u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        crate::units::parse_bytes(&text).map(Self).map_err(D::Error::custom)
    }
}

fn span(text: Option<TimeText>) -> Option<Span> {
    text.map(|t| t.0.0)
}

impl File {
    pub(super) fn scenario(self, folder: &Path) -> Result<Scenario, Wrong> {
        let duration = self.duration.0.0;
        let warmup = span(self.warmup).unwrap_or(Span::ZERO);
        if warmup >= duration {
            return Err("duration must be longer than warmup: nothing would be measured".into());
        }
        let Spread { rtt, rate } = Spread { rtt: self.spread.rtt, rate: self.spread.rate };
        if ![rtt, rate].iter().all(|share| (0.0..=0.9).contains(share)) {
            return Err("spread.rtt and spread.rate are shares from 0 to 0.9".into());
        }
        let phases: Vec<_> = self.phase.into_iter().map(|p| Phase { name: p.name, at: p.at.0.0 }).collect();
        if phases.windows(2).any(|pair| pair[0].at >= pair[1].at) {
            return Err("phases must be in the order of time, each at another time".into());
        }
        if phases.last().is_some_and(|p| p.at >= duration) {
            return Err("a phase begins at or after the end; lengthen duration or remove it".into());
        }
        let link = self.link.spec(duration, folder)?;
        let nominal = link.nominal();
        let mut flows = Vec::new();
        for flow in self.flow {
            flow.plan(nominal, &mut flows)?;
        }
        if flows.is_empty() {
            return Err("there is no flow; add [[flow]] with cc = \"prague\" or \"cubic\"".into());
        }
        Ok(Scenario {
            name: self.name,
            duration,
            warmup,
            seed: self.seed.unwrap_or(1),
            link,
            buffer: self.link.buffer.map(|b| b.0),
            decision_latency: span(self.link.decision_latency).unwrap_or(DECISION_LATENCY),
            t_expire: GuardParams::default().expires,
            nqb: self.link.nqb,
            spread: Spread { rtt, rate },
            phases,
            flows,
        })
    }
}

impl LinkFile {
    fn spec(&self, duration: Span, folder: &Path) -> Result<LinkSpec, Wrong> {
        let kinds = usize::from(self.rate.is_some() || !self.steps.is_empty())
            + usize::from(self.trace.is_some())
            + usize::from(self.generator.is_some());
        if kinds > 1 {
            return Err("a link has one of rate (with steps), trace and generator".into());
        }
        if let Some(trace) = &self.trace {
            return Ok(LinkSpec::Trace(Arc::new(Trace::load(&folder.join(trace)).map_err(Wrong::Trace)?)));
        }
        if let Some(generator) = &self.generator {
            return Ok(LinkSpec::Generated(generator.rule()?));
        }
        let (initial, steps) = self.rates(duration)?;
        Ok(LinkSpec::Rates { initial, steps })
    }

    fn rates(&self, duration: Span) -> Result<(BitRate, Vec<Step>), Wrong> {
        let mut steps: Vec<Step> = self.steps.iter().map(|s| Step { at: s.at.0.0, rate: s.rate.0 }).collect();
        if steps.windows(2).any(|pair| pair[0].at >= pair[1].at) {
            return Err("link.steps must be in the order of time, each at another time".into());
        }
        if steps.last().is_some_and(|s| s.at >= duration) {
            return Err("link.steps has a step at or after the end; lengthen duration or remove it".into());
        }
        let first = steps.first().filter(|s| s.at == Span::ZERO).map(|s| s.rate);
        let rate = match (&self.rate, first) {
            (Some(rate), None) => rate.0,
            (None, Some(rate)) => {
                steps.remove(0);
                rate
            }
            (Some(_), Some(_)) => {
                return Err("link.rate and a step at 0s are two first rates; keep one".into());
            }
            (None, None) => return Err("link.rate is missing; write rate = \"40Mbit\" under [link]".into()),
        };
        Ok((rate, steps))
    }
}

impl GeneratorFile {
    fn rule(&self) -> Result<Generator, Wrong> {
        let time = |name: &str, t: &TimeText| {
            if t.0.0 < Span::from_millis(1) {
                return Err(Wrong::Sense(format!("link.generator.{name} is at least 1ms")));
            }
            Ok(t.0.0)
        };
        let spread = |sigma: f64| {
            if !(0.0..=2.0).contains(&sigma) {
                return Err(Wrong::from("link.generator.sigma is from 0 to 2"));
            }
            Ok(sigma)
        };
        Ok(match self {
            Self::Square { high, low, period } => {
                Generator::Square { high: high.0, low: low.0, period: time("period", period)? }
            }
            Self::Walk { min, max, every, sigma } => {
                if min.0 >= max.0 {
                    return Err("link.generator.min must be less than max".into());
                }
                Generator::Walk {
                    min: min.0,
                    max: max.0,
                    every: time("every", every)?,
                    sigma: spread(*sigma)?,
                }
            }
            Self::Gilbert { good, bad, good_for, bad_for } => Generator::Gilbert {
                good: good.0,
                bad: bad.0,
                good_for: time("good_for", good_for)?,
                bad_for: time("bad_for", bad_for)?,
            },
            Self::Cellular { mean, sigma } => Generator::Cellular { mean: mean.0, sigma: spread(*sigma)? },
            Self::Starlink { mean, sigma } => Generator::Starlink { mean: mean.0, sigma: spread(*sigma)? },
        })
    }
}
