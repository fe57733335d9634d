//! What must be known to read the tables, and why figures are off where they are. An explanation is printed only where
//! the difference that it is for was seen.

use std::fmt::Write as _;

use super::reference::READS_LOW;
use super::verdict::{C_DELAY_SHARE, L_DELAY_FACTOR, RATIO_FACTOR, UTILIZATION_POINTS};
use super::{CaseReport, LiveReport, Report};

/// Under the table of RTT pairs.
pub const PAIRS: &str = "\
Two Prague flows of 2020 at 20 and 10 ms came to 15.8 and 30.8 Mbit/s, nearly 1 to 2: that code depends on the \
round-trip time as DCTCP does. The Prague of the simulator and of udp_prague behaves as if its round trip were at least \
25 ms. So its rows of 10 and of 20 ms coincide, and they fall behind the row of 80 / 80; without the floor the order is \
to be that of the measurement. Two DCTCP flows are further apart than two Prague flows of 2020, because without CUBIC \
only the native ramp marks, in bursts that fall on the shorter round trip's whole window at once; those rows are not \
ranked.";

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
             AQM (RFC 9331 section 4.3) by default; neither the reference's sender nor the simulator's model does.\n",
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
        for (source, differs) in [
            ("simulator against the reference", !case.simulator_agrees()),
            ("live against the reference", case.live_agrees() == Some(false)),
            ("simulator against live", case.simulator_agrees_with_live() == Some(false)),
        ] {
            if differs {
                writeln!(out, "- **{}**, {source}: {}", case.title, of(case, source)).ok();
            }
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

const FALLBACK: &str = "\
one frame takes 3 ms here, so that an L packet's round trip varies by more than the 0.75 ms that the detector takes for a \
Classic queue's. It then keeps its alpha high and leaves the link to CUBIC. Without it the same sender through the same \
bridge is where reference and simulator are.";

const RECOVERING: &str = "\
the reference notes that its CUBIC flow was still recovering: the link was not full (busy 89.7 %) and the C queue often \
empty (6.3 ms instead of about 13). A window that a burst of losses has emptied needs about (W / 0.4)^(1/3) s, that is \
7 s, to grow to the W = 125 packets of this cell, out of 30 that were measured; the machine was loaded. No choice of \
warm-up and length brings this about in the simulator, or in a live run on a quiet machine.";

fn of(case: &CaseReport, source: &str) -> &'static str {
    match (case.name, source) {
        ("120mbit-20ms", "simulator against the reference" | "live against the reference") => RECOVERING,
        _ => "not explained yet.",
    }
}
