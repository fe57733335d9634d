//! The senders: Prague over UDP (udp_prague), CUBIC and constant rate (iperf3), and what their reports say.
//!
//! Flows have no end of their own: they run until they are dropped, so that no idle tail is measured. Goodput is what
//! the receiver reports, second by second.

use std::ops::Range;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::process::{Line, Process, ProcessError};
use crate::tools::{IPERF3, PRAGUE_RECEIVER, PRAGUE_SENDER};
use crate::topology::{Place, RECEIVER_V4, Topology, TopologyError};

const READY: Duration = Duration::from_secs(5);
const ENDLESS_S: &str = "86000";
/// UDP payload that makes a 1490-byte frame.
const CBR_PAYLOAD: &str = "1448";

/// What sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One Prague flow, ECT(1), endless.
    Prague,
    /// The same without its response to a suspected Classic AQM (RFC 9331 section 4.3), which udp_prague has switched
    /// on; its C++ original has none, and the simulator's scenarios leave it off.
    PragueNoFallback,
    /// One CUBIC flow without ECN, endless.
    Cubic,
    /// Unresponsive UDP at this many Mbit/s of payload, ECT(1).
    CbrEct1(u32),
}

/// Why a flow does not run.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// One of its programs failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The sender's namespace could not be set up.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

/// A flow in the result object (contract: `flows[]`).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FlowResult {
    /// Name, unique in a run.
    pub name: String,
    /// Congestion control; `none` for constant rate.
    pub cc: &'static str,
    /// Queue that it is classified into.
    pub queue: &'static str,
    /// Two-way base delay, milliseconds.
    pub rtt_ms: f64,
    /// Payload received in the measured window, Mbit/s.
    pub goodput_mbps: Option<f64>,
    /// Segments sent again in the measured window; `null` where the transport has none.
    pub retransmits: Option<u64>,
    /// Completion time; always `null` here, these flows are endless.
    pub fct_ms: Option<f64>,
}

/// A running flow. Dropping it stops both ends.
#[derive(Debug)]
pub struct Flow {
    kind: Kind,
    sender: Process,
    receiver: Process,
}

/// One line of a sender's or receiver's report: what happened since the line before.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Report {
    seconds: f64,
    mbps: f64,
    retransmits: Option<u64>,
}

impl Kind {
    const fn port(self) -> &'static str {
        match self {
            Self::Prague | Self::PragueNoFallback => "8080",
            Self::Cubic => "5201",
            Self::CbrEct1(_) => "5202",
        }
    }

    /// Name of the flow in results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prague | Self::PragueNoFallback => "prague",
            Self::Cubic => "cubic",
            Self::CbrEct1(_) => "cbr-ect1",
        }
    }

    const fn cc(self) -> &'static str {
        match self {
            Self::Prague | Self::PragueNoFallback => "prague",
            Self::Cubic => "cubic",
            Self::CbrEct1(_) => "none",
        }
    }

    const fn queue(self) -> &'static str {
        match self {
            Self::Prague | Self::PragueNoFallback | Self::CbrEct1(_) => "l",
            Self::Cubic => "c",
        }
    }
}

impl Flow {
    /// Starts the receiver, waits until it listens, then starts the sender.
    pub fn start(topology: &Topology, kind: Kind) -> Result<Self, FlowError> {
        let (receiver, sender) = match kind {
            Kind::Prague => prague(topology, &[])?,
            Kind::PragueNoFallback => prague(topology, &["--no-classic-aqm-fallback"])?,
            Kind::Cubic => {
                topology.set_sender_ecn(false).unwrap_or_else(|e| eprintln!("note: {e}"));
                iperf3(topology, kind, &["-C", "cubic"])?
            }
            Kind::CbrEct1(mbit) => {
                let rate = format!("{mbit}M");
                iperf3(topology, kind, &["-u", "-b", &rate, "-S", "1", "-l", CBR_PAYLOAD])?
            }
        };
        Ok(Self { kind, sender, receiver })
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Fails with its last words if an end has stopped.
    pub fn check(&mut self) -> Result<(), FlowError> {
        self.sender.check()?;
        self.receiver.check()?;
        Ok(())
    }

    /// What it did within `window`; `rtt_ms` is the two-way base delay.
    pub fn result(&self, window: &Range<Instant>, rtt_ms: f64) -> FlowResult {
        let parse = if self.kind.cc() == "prague" { prague_report } else { iperf3_report };
        let received = within(&self.receiver.lines(), window, parse);
        let sent = within(&self.sender.lines(), window, parse);
        let seconds: f64 = received.iter().map(|r| r.seconds).sum();
        let megabits: f64 = received.iter().map(|r| r.seconds * r.mbps).sum();
        let retransmits: Vec<u64> = sent.iter().filter_map(|r| r.retransmits).collect();
        FlowResult {
            name: self.kind.name().to_owned(),
            cc: self.kind.cc(),
            queue: self.kind.queue(),
            rtt_ms,
            goodput_mbps: (seconds > 0.0).then(|| megabits / seconds),
            retransmits: (!retransmits.is_empty()).then(|| retransmits.iter().sum()),
            fct_ms: None,
        }
    }
}

/// Mean goodput of the endless L flows over that of the endless C flows (contract: `ratio_l_over_c`).
pub fn ratio_l_over_c(flows: &[FlowResult]) -> Option<f64> {
    let mean = |queue: &str| {
        let rates: Vec<f64> = flows
            .iter()
            .filter(|f| f.queue == queue && f.cc != "none")
            .map(|f| f.goodput_mbps)
            .collect::<Option<_>>()?;
        (!rates.is_empty()).then(|| rates.iter().sum::<f64>() / rates.len() as f64)
    };
    let (l, c) = (mean("l")?, mean("c")?);
    (c > 0.0).then(|| l / c)
}

fn prague(topology: &Topology, options: &[&str]) -> Result<(Process, Process), FlowError> {
    let port = Kind::Prague.port();
    let mut command = topology.command(Place::Receiver, PRAGUE_RECEIVER);
    let mut receiver = Process::spawn("udp_prague_receiver", command.args(["-p", port]))?;
    receiver.wait_until(READY, |lines| said(lines, "listening"))?;
    let mut command = topology.command(Place::Sender, PRAGUE_SENDER);
    command.args(["-c", "-a", RECEIVER_V4, "-p", port]).args(options);
    let sender = Process::spawn("udp_prague_sender", &mut command)?;
    Ok((receiver, sender))
}

fn iperf3(topology: &Topology, kind: Kind, options: &[&str]) -> Result<(Process, Process), FlowError> {
    let common = ["-i", "1", "-f", "k", "--forceflush", "-p", kind.port()];
    let mut command = topology.command(Place::Receiver, IPERF3);
    let mut receiver = Process::spawn("iperf3 server", command.arg("-s").args(common))?;
    receiver.wait_until(READY, |lines| said(lines, "Server listening"))?;
    let mut command = topology.command(Place::Sender, IPERF3);
    command.args(["-c", RECEIVER_V4, "-t", ENDLESS_S]).args(options).args(common);
    let sender = Process::spawn(&format!("iperf3 {}", kind.name()), &mut command)?;
    Ok((receiver, sender))
}

fn said(lines: &[Line], word: &str) -> bool {
    lines.iter().any(|l| l.text.contains(word))
}

fn within(lines: &[Line], window: &Range<Instant>, parse: fn(&str) -> Option<Report>) -> Vec<Report> {
    lines.iter().filter(|l| window.contains(&l.at)).filter_map(|l| parse(&l.text)).collect()
}

/// `[  5]   1.00-2.00   sec  2.81 MBytes  23585 Kbits/sec   38   36.8 KBytes`
fn iperf3_report(line: &str) -> Option<Report> {
    let rest = line.trim_start().strip_prefix('[')?.split_once(']')?.1;
    let mut words = rest.split_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let seconds = to.parse::<f64>().ok()? - from.parse::<f64>().ok()?;
    if words.next()? != "sec" {
        return None;
    }
    let mut words = words.skip(2);
    let kbps: f64 = words.next()?.parse().ok()?;
    if words.next()? != "Kbits/sec" {
        return None;
    }
    let retransmits = words.next().and_then(|w| w.parse().ok());
    let summary = line.ends_with("sender") || line.ends_with("receiver");
    (!summary).then_some(Report { seconds, mbps: kbps / 1e3, retransmits })
}

/// `[RECVER]: 2.01 sec, Rcvd: 3.224 Mbps, Sent: 0.060 Mbps, RTT: 15.779 ms, ...`: one line a second.
fn prague_report(line: &str) -> Option<Report> {
    let rest = line.strip_prefix("[RECVER]:")?;
    let mbps =
        rest.split(',').find_map(|field| field.trim().strip_prefix("Rcvd: ")?.strip_suffix(" Mbps"))?;
    Some(Report { seconds: 1.0, mbps: mbps.parse().ok()?, retransmits: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn reads_iperf3_intervals_and_not_its_summary() {
        let sender = "[  5]   1.00-2.00   sec  2.80 MBytes  23460 Kbits/sec   38   36.8 KBytes       ";
        assert_eq!(iperf3_report(sender), Some(Report { seconds: 1.0, mbps: 23.46, retransmits: Some(38) }));
        let receiver = "[  5]   0.00-1.50   sec  4.19 MBytes  35178 Kbits/sec                  ";
        assert_eq!(iperf3_report(receiver), Some(Report { seconds: 1.5, mbps: 35.178, retransmits: None }));
        let udp = "[  5]   0.00-1.00   sec  4.30 MBytes  36050 Kbits/sec  0.312 ms  1841/4955 (37%)  ";
        assert_eq!(iperf3_report(udp), Some(Report { seconds: 1.0, mbps: 36.05, retransmits: None }));
        let summary = "[  5]   0.00-6.00   sec  17.2 MBytes  24042 Kbits/sec  124             sender";
        assert_eq!(iperf3_report(summary), None);
        assert_eq!(iperf3_report("[ ID] Interval           Transfer     Bitrate         Retr  Cwnd"), None);
        assert_eq!(iperf3_report("Connecting to host 198.18.0.2, port 5201"), None);
    }

    #[test]
    fn reads_the_prague_receiver_and_not_the_sender() {
        let line =
            "[RECVER]: 2.01 sec, Rcvd: 3.224 Mbps, Sent: 0.060 Mbps, RTT: 15.779 ms, Mark: 0.00%(0/290)";
        assert_eq!(prague_report(line), Some(Report { seconds: 1.0, mbps: 3.224, retransmits: None }));
        assert_eq!(prague_report("[SENDER]: 1.00 sec, Sent: 3.393 Mbps, Rcvd: 0.060 Mbps"), None);
    }

    #[test]
    fn a_window_takes_only_its_own_lines() {
        let t0 = clock::now();
        let at = |s: u64, text: &str| Line { at: t0 + Duration::from_secs(s), text: text.to_owned() };
        let report = |mbps: &str| format!("[RECVER]: 1.0 sec, Rcvd: {mbps} Mbps, Sent: 0.0 Mbps");
        let lines =
            [at(1, &report("99.0")), at(5, &report("10.0")), at(6, &report("20.0")), at(9, &report("77.0"))];
        let window = t0 + Duration::from_secs(5)..t0 + Duration::from_secs(9);
        let rates: Vec<f64> = within(&lines, &window, prague_report).iter().map(|r| r.mbps).collect();
        assert_eq!(rates, [10.0, 20.0]);
    }

    #[test]
    fn ratio_is_of_means_and_leaves_constant_rate_out() {
        let flow = |queue, cc, mbps| FlowResult {
            name: String::new(),
            cc,
            queue,
            rtt_ms: 20.0,
            goodput_mbps: Some(mbps),
            retransmits: None,
            fct_ms: None,
        };
        let flows = [
            flow("l", "prague", 24.0),
            flow("l", "none", 100.0),
            flow("c", "cubic", 12.0),
            flow("c", "cubic", 4.0),
        ];
        assert_eq!(ratio_l_over_c(&flows), Some(3.0));
        assert_eq!(ratio_l_over_c(&flows[..2]), None);
    }
}
