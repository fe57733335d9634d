//! What the values of a flow of a scenario file mean together.
//!
//! The form of the file is its parent's; what a flow does is `sim::traffic`'s.

use super::{Cc, EcnUse, FlowFile, Kind, Wrong, span};
use crate::sim::flow::{Control, bbr, cubic, dctcp, prague, reno};
use crate::sim::scenario::PlannedFlow;
use crate::sim::traffic::{FlowSpec, FrameSpec, Pareto, PathSpec, SourceSpec, WebSpec};
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
/// The rate at which the packets of a burst follow each other, unless said otherwise.
const ACCESS: BitRate = BitRate::from_mbps(1000);

/// From the start of one packet of `frame` bytes to the start of the next at so many bit/s.
fn packet_gap(frame: u16, bps: f64) -> Span {
    Span::from_nanos((f64::from(frame) * 8e9 / bps) as u64)
}

impl FlowFile {
    pub(super) fn plan(mut self, nominal: BitRate, flows: &mut Vec<PlannedFlow>) -> Result<(), Wrong> {
        let count = self.count.unwrap_or(1);
        if count == 0 || flows.len() + count > MAX_FLOWS {
            return Err(format!(
                "count = {count}: a flow is there at least once, and at most {MAX_FLOWS} in all"
            )
            .into());
        }
        let frame = self.frame.unwrap_or(FULL_FRAME);
        if !(100..=9018).contains(&frame) {
            return Err(format!("frame = {frame}: bytes of a frame are 100 to 9018").into());
        }
        let start = Instant::ZERO + span(self.start.take()).unwrap_or(Span::ZERO);
        let stop = span(self.stop.take()).map(|s| Instant::ZERO + s);
        if stop.is_some_and(|stop| stop <= start) {
            return Err("stop must be after start".into());
        }
        if self.dscp.is_some_and(|dscp| dscp > 63) {
            return Err("dscp is from 0 to 63".into());
        }
        let (label, cc, payload, source, ecn) = match (self.cc, self.kind) {
            (Some(cc), None) => {
                let (label, control, ecn) = self.control(cc)?;
                self.refuse_open_loop_keys(label)?;
                let payload = frame - TCP_HEADERS;
                let limited = self.rate.is_some() || self.load.is_some();
                let source = match &self.size {
                    Some(_) if limited => {
                        return Err(format!("{label} has either a size or the rate of an application").into());
                    }
                    None if limited => {
                        let gap = packet_gap(frame, self.wanted(label, nominal)?);
                        SourceSpec::Limited { control, gap: gap.max(Span::from_nanos(1)) }
                    }
                    None => SourceSpec::Bulk(control),
                    Some(size) => {
                        SourceSpec::Sized { control, packets: size.0.div_ceil(payload.into()).max(1) }
                    }
                };
                (label, Some(label), payload, source, ecn)
            }
            (cc, Some(Kind::Web)) => {
                let (label, control, ecn) = self.control(cc.unwrap_or(Cc::Cubic))?;
                let payload = frame - TCP_HEADERS;
                ("web", Some(label), payload, self.web(control, payload, nominal)?, ecn)
            }
            (None, Some(kind)) => {
                let (label, source) = self.open_loop(kind, frame, nominal)?;
                let ecn = self.codepoint.map_or(Ecn::NotEct, |c| c.0);
                (label, None, frame - UDP_HEADERS, source, ecn)
            }
            _ => {
                return Err(
                    "a flow has either cc = \"prague|cubic|reno|dctcp|bbr\" or kind = \"cbr|video|burst|web\""
                        .into(),
                );
            }
        };
        let rtt = match span(self.rtt.take()) {
            Some(rtt) => rtt,
            None if cc.is_some() => {
                return Err(format!("rtt of {label} is missing; write rtt = \"20ms\"").into());
            }
            None => Span::ZERO,
        };
        if cc.is_some() && rtt < Span::from_micros(10) {
            return Err(format!("rtt of {label} is at least 10us").into());
        }
        let path = PathSpec {
            aggregate: span(self.aggregate.take()).unwrap_or_default(),
            ack_jitter: span(self.ack_jitter.take()).unwrap_or_default(),
            ack_compression: span(self.ack_compression.take()).unwrap_or_default(),
            ack_thinning: span(self.ack_thinning.take()).unwrap_or_default(),
            ce_bleached: self.ce_bleached.unwrap_or(false),
        };
        let base = self.name.unwrap_or_else(|| label.to_owned());
        let first = flows.iter().filter(|f| f.name.rsplit_once('-').is_some_and(|(b, _)| b == base)).count();
        for i in 1..=count {
            let spec = FlowSpec {
                source: source.clone(),
                rtt,
                frame,
                ecn,
                nqb: self.dscp == Some(45),
                delayed_acks: self.delayed_acks.unwrap_or(cc != Some("prague")),
                start,
                stop,
                path,
            };
            flows.push(PlannedFlow { name: format!("{base}-{}", first + i), cc, payload, spec });
        }
        Ok(())
    }

    /// A congestion control with the codepoint that it sends.
    fn control(&self, cc: Cc) -> Result<(&'static str, Control, Ecn), Wrong> {
        if self.codepoint.is_some() {
            return Err("codepoint is a key of traffic that does not respond; a flow with cc has ecn".into());
        }
        let (label, control, scalable) = match cc {
            Cc::Prague => {
                let prague = prague::Prague::default();
                let fallback = self.fallback == Some(true);
                ("prague", Control::Prague(if fallback { prague.with_fallback() } else { prague }), true)
            }
            Cc::Dctcp => ("dctcp", Control::Dctcp(dctcp::Dctcp::default()), true),
            Cc::Cubic => {
                let cubic = cubic::Cubic::default();
                let plain = self.hystart == Some(false);
                ("cubic", Control::Cubic(if plain { cubic.without_hystart() } else { cubic }), false)
            }
            Cc::Reno => {
                let reno = reno::Reno::default();
                let hystart = self.hystart == Some(true);
                ("reno", Control::Reno(if hystart { reno.with_hystart() } else { reno }), false)
            }
            // Flows draw seeds of their own.
            Cc::Bbr => ("bbr", bbr::Bbr::new(0).into(), false),
        };
        if self.hystart.is_some() && !matches!(cc, Cc::Cubic | Cc::Reno) {
            return Err(format!("hystart is a key of cubic and reno, not of {label}").into());
        }
        if self.fallback.is_some() && !matches!(cc, Cc::Prague) {
            return Err(format!("fallback is a key of prague, not of {label}").into());
        }
        let ecn = match (scalable, self.ecn) {
            (true, None | Some(EcnUse::Ect1)) => Ecn::Ect1,
            (false, None | Some(EcnUse::Off)) => Ecn::NotEct,
            (false, Some(EcnUse::Ect0)) if !matches!(cc, Cc::Bbr) => Ecn::Ect0,
            (false, _) if matches!(cc, Cc::Bbr) => {
                return Err("bbr, version 1, takes no notice of ECN; leave ecn out".into());
            }
            (true, Some(_)) => return Err(format!("{label} is sent with ecn = \"ect1\"").into()),
            (false, Some(_)) => return Err(format!("{label} is sent with ecn = \"off\" or \"ect0\"").into()),
        };
        Ok((label, control, ecn))
    }

    fn refuse_open_loop_keys(&self, label: &str) -> Result<(), Wrong> {
        let given = [
            ("fps", self.fps.is_some()),
            ("every", self.every.is_some()),
            ("sigma", self.sigma.is_some()),
            ("access", self.access.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((key, _)) => {
                Err(format!("{key} is a key of a flow with kind; {label} sends what its window allows")
                    .into())
            }
        }
    }

    /// Bit/s asked for, absolutely or as a share of the link.
    fn wanted(&self, label: &str, nominal: BitRate) -> Result<f64, Wrong> {
        match (&self.rate, self.load) {
            (Some(rate), None) => Ok(rate.0.as_bps() as f64),
            (None, Some(load)) if load > 0.0 && load <= 10.0 => Ok(load * nominal.as_bps() as f64),
            (None, Some(_)) => Err("load is a share of the link's rate, above 0 and up to 10".into()),
            (Some(_), Some(_)) => Err(format!("{label} has either rate or load").into()),
            (None, None) => {
                Err(format!("rate of {label} is missing; write rate = \"10Mbit\" or load = 0.5").into())
            }
        }
    }

    fn web(&self, control: Control, payload: u16, nominal: BitRate) -> Result<SourceSpec, Wrong> {
        if self.size.is_some() || self.fps.is_some() || self.every.is_some() || self.sigma.is_some() {
            return Err(
                "web draws the sizes and times of its flows; size, fps, every and sigma are not its keys"
                    .into(),
            );
        }
        let sizes = Pareto::WEB;
        // Headers count for the link, not for the flow.
        let per_flow = sizes.mean() * (1.0 + f64::from(TCP_HEADERS) / f64::from(payload));
        let per_second = self.wanted("web", nominal)? / 8.0 / per_flow;
        Ok(SourceSpec::Web(WebSpec { control, per_second, sizes, payload }))
    }

    fn open_loop(
        &self,
        kind: Kind,
        frame: u16,
        nominal: BitRate,
    ) -> Result<(&'static str, SourceSpec), Wrong> {
        let label = match kind {
            Kind::Cbr => "cbr",
            Kind::Video => "video",
            Kind::Burst | Kind::Web => "burst",
        };
        if self.ecn.is_some()
            || self.delayed_acks.is_some()
            || self.size.is_some()
            || self.hystart.is_some()
            || self.fallback.is_some()
            || self.ack_jitter.is_some()
            || self.ack_compression.is_some()
            || self.ack_thinning.is_some()
            || self.ce_bleached.is_some()
        {
            return Err(format!(
                "ecn, size, delayed_acks, hystart, fallback, ack_jitter, ack_compression, ack_thinning and ce_bleached are \
                 keys of a flow with cc; kind = \"{label}\" has codepoint, start and stop"
            )
            .into());
        }
        let bps = self.wanted(label, nominal)?;
        if kind == Kind::Cbr {
            if packet_gap(frame, bps) == Span::ZERO {
                return Err("rate of cbr is more than one packet a nanosecond".into());
            }
            return Ok((label, SourceSpec::Cbr { gap: packet_gap(frame, bps) }));
        }
        let every = match (kind, self.fps, &self.every) {
            (Kind::Video, fps, None) => Span::from_secs_f64(1.0 / fps.unwrap_or(60.0).clamp(0.1, 1000.0)),
            (Kind::Burst, None, Some(every)) => every.0.0,
            (Kind::Burst, None, None) => Span::from_millis(4),
            _ => return Err("video has fps, burst has every".into()),
        };
        if every < Span::from_micros(100) {
            return Err("every of burst is at least 100us".into());
        }
        let sigma = self.sigma.unwrap_or(if kind == Kind::Video { 0.3 } else { 0.0 });
        if !(0.0..=2.0).contains(&sigma) {
            return Err("sigma is from 0 to 2".into());
        }
        let access = self.access.as_ref().map_or(ACCESS, |a| a.0);
        let bytes = bps / 8.0 * every.as_secs_f64();
        let gap = packet_gap(frame, access.as_bps() as f64);
        Ok((label, SourceSpec::Frames(FrameSpec { bytes, sigma, every, gap })))
    }
}
