//! What must be known to read the tables, and why figures are off where they are. An explanation is printed only where
//! the difference that it is for was seen.

use std::fmt::Write as _;

use super::reference::READS_LOW;
use super::verdict::{C_DELAY_SHARE, L_DELAY_FACTOR, RATIO_FACTOR, UTILIZATION_POINTS};
use super::{CaseReport, LiveReport, Report};

/// Under the table of RTT pairs.
pub const PAIRS: &str = "\
Two Prague flows of 2020 at 20 and 10 ms came to 15.8 and 30.8 Mbit/s, nearly 1 to 2, and heistp's text finds rates in \
inverse proportion to round-trip times: that code had no floor under them. The Prague of the simulator and of udp_prague \
behaves as if its round trip were at least 25 ms, so that its rows of 10 and of 20 ms coincide and fall behind the row of \
80 / 80. That is the reason why the order is judged with DCTCP. Between two scalable flows only the native AQM marks; \
there DCTCP is further apart than the Prague of 2020, for a reason that was not looked into, and nothing is ranked.";

/// How the table is meant.
pub fn reading(report: &Report) -> String {
    let mut out = format!(
        "## How to read it\n\n\
         - In brackets: distance from the reference; bold where it is outside the tolerance. Tolerances: L : C and L \
         delay mean within a factor {RATIO_FACTOR} and {L_DELAY_FACTOR}, C delay mean within {:.0} %, utilisation within \
         {:.0} points. A cell agrees if each figure does, in each of its phases. Percentiles, marks and drops are shown \
         and not judged.\n\
         - Rates, ratio and utilisation are of frames without FCS and preamble.\n\
         - *reference*: an independent DualPI2 box in C between namespaces, with the C++ udp_prague and iperf3's CUBIC; \
         its machine had a load of 6 to 13 from other jobs. It drops 5 s of warm-up. Its *busy* counts 0.6 to 2.5 idle \
         seconds at the end and reads {:.0} to {:.0} % low by its own account, so that utilisation is held against the \
         range that this leaves (97.9 % stands for 99.9 to 100 %), and against the live run, which has no idle tail.\n\
         - Length and warm-up of the simulated runs are those of the reference, so that a flow that is still growing \
         there is still growing here.\n",
        100.0 * C_DELAY_SHARE,
        100.0 * UTILIZATION_POINTS,
        100.0 * READS_LOW.0,
        100.0 * READS_LOW.1,
    );
    if matches!(report.live, LiveReport::On { .. }) {
        out.push_str(
            "- *live*: udp_prague runs with `--no-classic-aqm-fallback`. Its release 0.2.2 answers a suspected Classic \
             AQM (RFC 9331 section 4.3) by default; neither the reference's sender nor the simulated one here does.\n\
             - *live* at the step: `l4sd run` gets another rate in its file and SIGHUP, and has it in force within the last \
             45 ms before second 20. Figures of its windows are from `series.csv`, which has no percentiles; *before* ends at \
             19.9 s.\n",
        );
    }
    out.push('\n');
    out
}

/// Why each cell that differs does.
pub fn differences(report: &Report) -> String {
    let mut out = String::from("## Where it differs\n\n");
    let start = out.len();
    for case in &report.cases {
        let mut said: Vec<(&str, Vec<&str>)> = Vec::new();
        for (source, differs) in [
            (SIMULATOR, !case.simulator_agrees()),
            (LIVE, case.live_agrees() == Some(false)),
            (SIMULATOR_LIVE, case.simulator_agrees_with_live() == Some(false)),
        ] {
            if differs {
                let why = of(case, source);
                match said.iter_mut().find(|(w, _)| *w == why) {
                    Some((_, sources)) => sources.push(source),
                    None => said.push((why, vec![source])),
                }
            }
        }
        for (why, sources) in said {
            writeln!(out, "- **{}**, {}: {why}", case.title, sources.join(" and ")).ok();
        }
        if case.live_with_fallback.is_some() {
            writeln!(out, "- **{}**, live with the fall-back of udp_prague: {FALLBACK}", case.title).ok();
        }
        if let Some(reason) = &case.live_skipped {
            writeln!(out, "- **{}**, no live run: {reason}.", case.title).ok();
        }
    }
    if out.len() == start {
        out.push_str("Nowhere.\n");
    }
    out.push('\n');
    out
}

const SIMULATOR: &str = "simulator against the reference";
const LIVE: &str = "live against the reference";
const SIMULATOR_LIVE: &str = "simulator against live";

const FALLBACK: &str = "\
one frame takes 3 ms here, so that the round trip of an L packet varies by more than the 0.75 ms beyond which the \
detector suspects a Classic queue. It then puts a floor under its alpha and leaves the link to CUBIC. Without it the \
same sender through the same bridge is where reference and simulator are.";

const RECOVERING: &str = "\
the reference has its CUBIC flow down as still recovering: the link not full, the C queue often empty (6.3 ms instead of \
about 13). That is no matter of warm-up and length: simulated second by second, the C delay is between 10 and 15 ms from \
the second second on. It is likely one of load, of which the reference's machine had 6 to 13. A single live run with seven \
busy loops beside it, the bridge under SCHED_FIFO and the senders not, went the same way: C delay 9.9 ms instead of 12.9, \
L : C 1.80 instead of 1.61. One lost burst costs CUBIC about (W / 0.4)^(1/3) = 7 s of the 30 until its window is back at \
this cell's W = 125 packets. The L delay of the reference has the same load in it (P99 0.55 ms; two frames take 0.2).";

const HIDDEN_WAIT: &str = "\
live L delays are some 0.03 ms shorter at every rate, which matters only where a frame takes 0.1 ms. A live delay begins \
when the forwarder takes the frame from the ring. It cannot while it is in the system call that sends the frame before, \
and this wait is the likely rest; busy polling did not change it.";

fn of(case: &CaseReport, source: &str) -> &'static str {
    match (case.name, source) {
        ("120mbit-20ms", SIMULATOR | LIVE) => RECOVERING,
        ("120mbit-20ms", SIMULATOR_LIVE) => HIDDEN_WAIT,
        _ => "not explained yet.",
    }
}
