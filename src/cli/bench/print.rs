//! Trials and searches as text: the table, the CSV, the line of a step, and warnings about what a figure is worth.

use core::fmt::Write as _;

use super::load::Report;
use crate::cli::print as say;
use crate::load::trial::{CodepointResult, DelayResult, TrialResult};

/// Share of the load below which it was not offered as asked.
const KEPT_UP: f64 = 0.02;

/// What the reader of a trial should know before believing it, on standard error.
pub(super) fn warn(t: &TrialResult, searching: bool) {
    if t.given_up > KEPT_UP && !searching {
        say::note(&format!(
            "l4sd: warning: the generator kept up with {:.1} % of {} only; the figures are of what it sent",
            100.0 * (1.0 - t.given_up),
            t.offer
        ));
    }
    for (count, what) in [
        (t.sink_dropped, "of the lost frames were dropped by the sink's own port, not by the device"),
        (t.refused, "frames could not be sent by the port and do not count as sent"),
        (t.altered, "frames arrived with a codepoint that no AQM gives them"),
        (t.damaged, "frames arrived with a wrong IPv4 header checksum"),
        (t.reordered, "frames arrived out of order or twice"),
    ] {
        if count > 0 {
            say::note(&format!("l4sd: warning: {count} {what}"));
        }
    }
}

/// The line of a step of a search.
pub(super) fn step(t: &TrialResult, limit: f64) -> String {
    let verdict = if t.sent > 0 && t.loss <= limit { "pass" } else { "fail" };
    format!(
        "{:>6.0} bytes, {:>12} asked for, {:.4} Mpps sent, {} of {} lost ({:.4} %): {verdict}",
        t.frame_bytes,
        t.offer,
        t.sent_pps / 1e6,
        t.lost,
        t.sent,
        100.0 * t.loss
    )
}

fn micros(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |us| format!("{us:.1}"))
}

fn delays(d: &DelayResult) -> String {
    let [p50, p99, p999, max] = [d.p50, d.p99, d.p999, d.max].map(micros);
    format!(" {p50:>9} {p99:>9} {p999:>9} {max:>9}")
}

fn row(t: &TrialResult) -> String {
    format!(
        "{:<8.0} {:>9.4} {:>9.1} {:>9.4} {:>9} {:>8.4} {:>9}{}\n",
        t.frame_bytes,
        t.sent_pps / 1e6,
        t.sent_mbps,
        t.received_pps / 1e6,
        t.lost,
        100.0 * t.loss,
        t.marked,
        delays(&t.delay_us)
    )
}

fn codepoint(c: &CodepointResult, t: &TrialResult) -> String {
    let rate = |count: u64| count as f64 / t.duration_s / 1e6;
    format!(
        "  {:<7} {:>8.4} {:>9.1} {:>9.4} {:>9} {:>8.4} {:>9}{}\n",
        c.codepoint,
        rate(c.sent),
        rate(c.sent_bytes) * 8.0,
        rate(c.received),
        c.lost,
        100.0 * c.lost as f64 / c.sent as f64,
        c.marked,
        delays(&c.delay_us)
    )
}

/// The table.
pub(super) fn table(report: &Report) -> String {
    let load = &report.load;
    let mut out =
        format!("{} to {}, {} s a trial, seed {}\n", load.r#gen, load.sink, load.duration_s, load.seed);
    for mix in &load.mixes {
        let _ = writeln!(out, "  {mix}");
    }
    if !report.trials.is_empty() {
        let _ = writeln!(
            out,
            "{:<8} {:>9} {:>9} {:>9} {:>9} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "bytes",
            "sent Mpps",
            "Mbit/s",
            "rec. Mpps",
            "lost",
            "%",
            "marked",
            "P50 us",
            "P99 us",
            "P99.9 us",
            "max us"
        );
    }
    for t in &report.trials {
        out += &row(t);
        for c in &t.codepoints {
            out += &codepoint(c, t);
        }
    }
    if let Some(limit) = load.loss_limit {
        let _ = writeln!(out, "highest rate with at most {} % of the frames lost", 100.0 * limit);
        let _ = writeln!(out, "{:<8} {:>9} {:>9} {:>6}", "bytes", "Mpps", "Mbit/s", "trials");
    }
    for s in &report.searches {
        let number =
            |v: Option<f64>, digits| v.map_or_else(|| "none".to_owned(), |v| format!("{v:.digits$}"));
        let _ = writeln!(
            out,
            "{:<8.0} {:>9} {:>9} {:>6}{}",
            s.frame_bytes,
            number(s.found.ndr_pps.map(|pps| pps / 1e6), 4),
            number(s.found.ndr_mbps, 1),
            s.found.steps.len(),
            if s.found.generator_limited { "  or more: the generator goes no faster" } else { "" }
        );
    }
    out
}

/// The columns of the CSV file: a row for each trial, those of searches in order. Sizes with FCS, rates without;
/// delays in microseconds, empty if nothing arrived; `passed` and `target_pps` only in searches.
const COLUMNS: &str = "frame_bytes,offer,target_pps,passed,duration_s,sent,sent_pps,sent_mbps,wire_mbps,given_up,refused,\
                       received,received_pps,lost,loss,sink_dropped,marked,altered,reordered,damaged,p50_us,p99_us,\
                       p999_us,max_us";

/// All trials as CSV.
pub(super) fn csv(report: &Report) -> String {
    let mut out = COLUMNS.to_owned() + "\n";
    let single = report.trials.iter().map(|t| (t, String::new(), String::new()));
    let steps = report.searches.iter().flat_map(|s| &s.found.steps);
    let steps = steps.map(|step| {
        let target = step.target_pps.map_or_else(String::new, |pps| format!("{pps:.3}"));
        (&step.trial, target, u8::from(step.passed).to_string())
    });
    for (t, target, passed) in single.chain(steps) {
        let d = &t.delay_us;
        let known = |v: Option<f64>| v.map_or_else(String::new, |us| format!("{us:.3}"));
        let fields = [
            t.frame_bytes.to_string(),
            t.offer.clone(),
            target,
            passed,
            t.duration_s.to_string(),
            t.sent.to_string(),
            format!("{:.3}", t.sent_pps),
            format!("{:.6}", t.sent_mbps),
            format!("{:.6}", t.wire_mbps),
            t.given_up.to_string(),
            t.refused.to_string(),
            t.received.to_string(),
            format!("{:.3}", t.received_pps),
            t.lost.to_string(),
            t.loss.to_string(),
            t.sink_dropped.to_string(),
            t.marked.to_string(),
            t.altered.to_string(),
            t.reordered.to_string(),
            t.damaged.to_string(),
            known(d.p50),
            known(d.p99),
            known(d.p999),
            known(d.max),
        ];
        out += &fields.join(",");
        out.push('\n');
    }
    out
}
