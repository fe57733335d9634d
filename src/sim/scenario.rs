//! The scenario file: TOML text to validated types. An unknown key is an error with its place.

use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::flow::{Control, FlowSpec, SourceSpec, cubic, dctcp, prague, reno};
use crate::config::Limit;
use crate::config::text::{Text, Time};
use crate::time::{Instant, Span};
use crate::units::BitRate;
use crate::wire::Ecn;

/// Bytes of a full-size frame.
const FULL_FRAME: u16 = 1514;
/// Ethernet, IPv4, and TCP with timestamps.
const TCP_HEADERS: u16 = 66;
/// Ethernet, IPv4 and UDP.
const UDP_HEADERS: u16 = 42;
/// Most flows of one scenario.
const MAX_FLOWS: usize = 10_000;

/// Why there is no [`Scenario`].
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("{file}: cannot read the scenario: {source}; check the path")]
    Read {
        /// The file as the user named it.
        file: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It is not TOML, has an unknown key, or a value of the wrong form.
    #[error("{file}:{line}:{column}: {reason}")]
    Form {
        /// The file as the user named it.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// The values do not make sense together.
    #[error("{file}: {reason}")]
    Sense {
        /// The file as the user named it.
        file: String,
        /// What is wrong and what to write instead.
        reason: String,
    },
}

/// A scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// How long it lasts.
    pub duration: Span,
    /// How much of that is left out of the figures.
    pub warmup: Span,
    /// The seed unless another is asked for.
    pub seed: u64,
    /// Rate at the beginning.
    pub rate: BitRate,
    /// Later rates, in the order of time.
    pub steps: Vec<Step>,
    /// The buffer; `None` is the discipline's own.
    pub buffer: Option<Limit>,
    /// The flows, one entry each.
    pub flows: Vec<PlannedFlow>,
}

/// A change of the link's rate.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// When.
    pub at: Span,
    /// To which rate.
    pub rate: BitRate,
}

/// A flow and what the result object says of it.
#[derive(Clone, Debug)]
pub struct PlannedFlow {
    /// Its name: that of the entry, with a number where there are several.
    pub name: String,
    /// Its congestion control; `None` if it does not respond.
    pub cc: Option<&'static str>,
    /// Bytes of data in a packet.
    pub payload: u16,
    /// How it behaves.
    pub spec: FlowSpec,
}

impl PlannedFlow {
    /// It responds to congestion, was there before the window, and stays until the end.
    pub fn is_endless(&self, warmup: Span) -> bool {
        self.cc.is_some() && self.spec.stop.is_none() && self.spec.start <= Instant::ZERO + warmup
    }
}

type TimeText = Text<Time>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    duration: TimeText,
    warmup: Option<TimeText>,
    seed: Option<u64>,
    link: LinkFile,
    flow: Vec<FlowFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkFile {
    rate: Option<Text<BitRate>>,
    #[serde(default)]
    steps: Vec<StepFile>,
    buffer: Option<Text<Limit>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepFile {
    at: TimeText,
    rate: Text<BitRate>,
}

#[derive(Copy, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Cc {
    Prague,
    Cubic,
    Reno,
    Dctcp,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Cbr,
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
    ecn: Option<EcnUse>,
    start: Option<TimeText>,
    stop: Option<TimeText>,
    frame: Option<u16>,
    delayed_acks: Option<bool>,
    rate: Option<Text<BitRate>>,
    codepoint: Option<Codepoint>,
}

impl Scenario {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &file),
            Err(source) => Err(ScenarioError::Read { file, source }),
        }
    }

    /// Reads the text of a file that errors call `name`.
    pub fn parse(text: &str, name: &str) -> Result<Self, ScenarioError> {
        let file: File = toml::from_str(text).map_err(|e| {
            let before = text.get(..e.span().map_or(0, |s| s.start)).unwrap_or(text);
            ScenarioError::Form {
                file: name.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before.chars().rev().take_while(|&c| c != '\n').count() + 1,
                reason: e.message().to_owned(),
            }
        })?;
        file.scenario().map_err(|reason| ScenarioError::Sense { file: name.to_owned(), reason })
    }
}

fn span(text: Option<TimeText>) -> Option<Span> {
    text.map(|t| t.0.0)
}

impl File {
    fn scenario(self) -> Result<Scenario, String> {
        let duration = self.duration.0.0;
        let warmup = span(self.warmup).unwrap_or(Span::ZERO);
        if warmup >= duration {
            return Err("duration must be longer than warmup: nothing would be measured".into());
        }
        let (rate, steps) = self.link.rates(duration)?;
        let mut flows = Vec::new();
        for flow in self.flow {
            flow.plan(&mut flows)?;
        }
        if flows.is_empty() {
            return Err("there is no flow; add [[flow]] with cc = \"prague\" or \"cubic\"".into());
        }
        Ok(Scenario {
            name: self.name,
            duration,
            warmup,
            seed: self.seed.unwrap_or(1),
            rate,
            steps,
            buffer: self.link.buffer.map(|b| b.0),
            flows,
        })
    }
}

impl LinkFile {
    fn rates(&self, duration: Span) -> Result<(BitRate, Vec<Step>), String> {
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

impl FlowFile {
    fn plan(mut self, flows: &mut Vec<PlannedFlow>) -> Result<(), String> {
        let count = self.count.unwrap_or(1);
        if count == 0 || flows.len() + count > MAX_FLOWS {
            return Err(format!(
                "count = {count}: a flow is there at least once, and at most {MAX_FLOWS} in all"
            ));
        }
        let frame = self.frame.unwrap_or(FULL_FRAME);
        if !(100..=9018).contains(&frame) {
            return Err(format!("frame = {frame}: bytes of a frame are 100 to 9018"));
        }
        let start = Instant::ZERO + span(self.start.take()).unwrap_or(Span::ZERO);
        let stop = span(self.stop.take()).map(|s| Instant::ZERO + s);
        if stop.is_some_and(|stop| stop <= start) {
            return Err("stop must be after start".into());
        }
        let (label, cc, payload, source, ecn) = match (self.cc, &self.kind) {
            (Some(cc), None) => {
                let (label, source, ecn) = self.bulk(cc)?;
                (label, Some(label), frame - TCP_HEADERS, source, ecn)
            }
            (None, Some(Kind::Cbr)) => {
                let (source, ecn) = self.cbr(frame)?;
                ("cbr", None, frame - UDP_HEADERS, source, ecn)
            }
            _ => return Err("a flow has either cc = \"prague|cubic|reno|dctcp\" or kind = \"cbr\"".into()),
        };
        let rtt = match span(self.rtt.take()) {
            Some(rtt) => rtt,
            None if cc.is_some() => return Err(format!("rtt of {label} is missing; write rtt = \"20ms\"")),
            None => Span::ZERO,
        };
        if cc.is_some() && rtt < Span::from_micros(10) {
            return Err(format!("rtt of {label} is at least 10us"));
        }
        let base = self.name.unwrap_or_else(|| label.to_owned());
        let first = flows.iter().filter(|f| f.name.rsplit_once('-').is_some_and(|(b, _)| b == base)).count();
        for i in 1..=count {
            let spec = FlowSpec {
                source: source.clone(),
                rtt,
                frame,
                ecn,
                delayed_acks: self.delayed_acks.unwrap_or(label != "prague"),
                start,
                stop,
            };
            flows.push(PlannedFlow { name: format!("{base}-{}", first + i), cc, payload, spec });
        }
        Ok(())
    }

    fn bulk(&self, cc: Cc) -> Result<(&'static str, SourceSpec, Ecn), String> {
        if self.rate.is_some() || self.codepoint.is_some() {
            return Err("rate and codepoint are keys of kind = \"cbr\"; a flow with cc has ecn".into());
        }
        let (label, control, scalable) = match cc {
            Cc::Prague => ("prague", Control::Prague(prague::Prague::default()), true),
            Cc::Dctcp => ("dctcp", Control::Dctcp(dctcp::Dctcp::default()), true),
            Cc::Cubic => ("cubic", Control::Cubic(cubic::Cubic::default()), false),
            Cc::Reno => ("reno", Control::Reno(reno::Reno::default()), false),
        };
        let ecn = match (scalable, self.ecn) {
            (true, None | Some(EcnUse::Ect1)) => Ecn::Ect1,
            (false, None | Some(EcnUse::Off)) => Ecn::NotEct,
            (false, Some(EcnUse::Ect0)) => Ecn::Ect0,
            (true, Some(_)) => return Err(format!("{label} is sent with ecn = \"ect1\"")),
            (false, Some(_)) => return Err(format!("{label} is sent with ecn = \"off\" or \"ect0\"")),
        };
        Ok((label, SourceSpec::Bulk(control), ecn))
    }

    fn cbr(&self, frame: u16) -> Result<(SourceSpec, Ecn), String> {
        if self.ecn.is_some() || self.delayed_acks.is_some() {
            return Err(
                "ecn and delayed_acks are keys of a flow with cc; kind = \"cbr\" has codepoint".into()
            );
        }
        let Some(rate) = &self.rate else {
            return Err("rate of cbr is missing; write rate = \"10Mbit\"".into());
        };
        let gap = Span::from_nanos(u64::from(frame) * 8_000_000_000 / rate.0.as_bps());
        if gap == Span::ZERO {
            return Err("rate of cbr is more than one packet a nanosecond".into());
        }
        Ok((SourceSpec::Cbr { gap }, self.codepoint.map_or(Ecn::NotEct, |c| c.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "name = \"x\"\nduration = \"30s\"\nwarmup = \"5s\"\n";

    fn error(tail: &str) -> String {
        Scenario::parse(&format!("{HEAD}{tail}"), "x.toml").unwrap_err().to_string()
    }

    #[test]
    fn a_scenario_reads() {
        let text = format!(
            "{HEAD}[link]\nsteps = [{{ at = \"0s\", rate = \"40Mbit\" }}, {{ at = \"20s\", rate = \"10Mbit\" }}]\n\
             buffer = \"100ms\"\n\
             [[flow]]\ncc = \"prague\"\ncount = 2\nrtt = \"20ms\"\nframe = 1442\n\
             [[flow]]\ncc = \"cubic\"\nrtt = \"10ms\"\necn = \"ect0\"\nstart = \"1s\"\nstop = \"9s\"\n\
             [[flow]]\nkind = \"cbr\"\nrate = \"12.112Mbit\"\ncodepoint = \"ect1\"\n"
        );
        let s = Scenario::parse(&text, "x.toml").unwrap();
        assert_eq!(
            (s.rate, s.seed, s.buffer),
            (BitRate::from_mbps(40), 1, Some(Limit::Time(Span::from_millis(100))))
        );
        assert_eq!(s.steps, [Step { at: Span::from_secs(20), rate: BitRate::from_mbps(10) }]);
        let names: Vec<_> = s.flows.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["prague-1", "prague-2", "cubic-1", "cbr-1"]);
        assert_eq!(
            (s.flows[1].payload, s.flows[1].spec.ecn, s.flows[1].spec.delayed_acks),
            (1376, Ecn::Ect1, false)
        );
        let cubic = &s.flows[2];
        assert_eq!(
            (cubic.spec.ecn, cubic.spec.stop, cubic.spec.delayed_acks),
            (Ecn::Ect0, Some(Instant::from_millis(9000)), true)
        );
        assert!(s.flows[0].is_endless(s.warmup) && !cubic.is_endless(s.warmup));
        // 1514 bytes at 12.112 Mbit/s take a millisecond.
        assert!(matches!(s.flows[3].spec.source, SourceSpec::Cbr { gap } if gap == Span::from_millis(1)));
    }

    #[test]
    fn every_mistake_is_named() {
        let flow = "[[flow]]\ncc = \"cubic\"\nrtt = \"20ms\"\n";
        let link = "[link]\nrate = \"40Mbit\"\n";
        for (tail, part) in [
            (
                format!("[link]\nrate = \"40Mbit\"\ntrace = \"a\"\n{flow}"),
                "x.toml:6:1: unknown field `trace`",
            ),
            (format!("[link]\nrate = \"40\"\n{flow}"), "x.toml:5:8: '40' has no unit"),
            (format!("[link]\n{flow}"), "link.rate is missing"),
            (format!("{link}{flow}ecn = \"ect1\"\n"), "cubic is sent with"),
            (format!("{link}{flow}kind = \"cbr\"\n"), "either cc"),
            (format!("{link}{flow}count = 0\n"), "at least once"),
            (format!("{link}{flow}stop = \"0s\"\n"), "stop must be after start"),
            (format!("{link}[[flow]]\ncc = \"bbr\"\nrtt = \"1ms\"\n"), "unknown variant `bbr`"),
            (format!("{link}[[flow]]\ncc = \"reno\"\n"), "rtt of reno is missing"),
            (format!("{link}[[flow]]\nkind = \"cbr\"\n"), "rate of cbr is missing"),
            (
                format!("{link}[[flow]]\nkind = \"cbr\"\nrate = \"1Mbit\"\ncodepoint = \"ect2\"\n"),
                "'ect2' is not one of",
            ),
            (format!("{link}steps = [{{ at = \"30s\", rate = \"1Mbit\" }}]\n{flow}"), "at or after the end"),
        ] {
            let message = error(&tail);
            assert!(message.contains(part), "{tail}: {message}");
        }
    }
}
