//! The comparison as Markdown: a table of the cells, one of the RTT pairs, and what must be known to read them.

use std::fmt::Write as _;

use super::pairs::{RankOrder, Rates};
use super::reference::{Interval, Measured};
use super::verdict::{Figures, Quantity, Verdict};
use super::{CaseReport, LiveReport, PairReport, Report, explain};
use crate::results::cell;

/// The whole page.
pub fn markdown(report: &Report) -> String {
    let mut out = heading(report);
    out.push_str(
        "| cell | source | L Mb/s | C Mb/s | L : C | busy | L delay mean / P99 ms | C delay mean / P99 ms | L marked \
         | C dropped | against the reference | against live |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|---|\n",
    );
    for case in &report.cases {
        rows(&mut out, case);
    }
    writeln!(out, "\n{}\n", report.summary()).ok();
    out.push_str(&explain::reading(report));
    out.push_str(&explain::differences(report));
    out.push_str(&pairs(report));
    out
}

fn heading(report: &Report) -> String {
    let host = &report.host;
    let mut out = format!(
        "# Measurement, live run and simulator\n\n`{}`, {}: Linux {}, {} cores ({}).\n",
        report.command, report.date, host.kernel, host.cores, host.processor
    );
    let live = match &report.live {
        LiveReport::Off { reason } => format!("**No live runs: {reason}.**"),
        LiveReport::On { port, seconds, quotable } => format!(
            "Live runs: `l4sd run` between `{port}:` ports on veth, {seconds} s measured after {} s.{}",
            super::reference::WARMUP_S,
            if *quotable { "" } else { " **No real-time scheduling: live figures are not for quoting.**" }
        ),
    };
    write!(
        out,
        "{live} Simulator: `l4sd sim`, mean of {} seeds, {} s of which the first {} are left out, as in the \
         reference.\n\n",
        report.seeds,
        super::reference::DURATION_S,
        super::reference::WARMUP_S
    )
    .ok();
    out
}

fn rows(out: &mut String, case: &CaseReport) {
    for phase in &case.phases {
        let label = match phase.label {
            "" => case.title.clone(),
            label => format!("{}, {}", case.title, label.replace('-', " ")),
        };
        writeln!(out, "| **{label}** | reference | {} | | |", reference(&phase.measured)).ok();
        let sim = figures(&phase.simulated, &phase.simulated_against_reference);
        let against_live = phase.simulated_against_live.as_deref().map_or("-".to_owned(), verdict);
        writeln!(
            out,
            "| | simulator | {sim} | {} | {against_live} |",
            verdict(&phase.simulated_against_reference)
        )
        .ok();
        if let Some(live) = &phase.live {
            let verdicts = phase.live_against_reference.as_deref().unwrap_or_default();
            writeln!(out, "| | live | {} | {} | |", figures(live, verdicts), verdict(verdicts)).ok();
        }
    }
    if let Some(reason) = &case.live_skipped {
        writeln!(out, "| | live | SKIPPED: {reason} | | | | | | | | | |").ok();
    }
    if let Some(fallback) = &case.live_with_fallback {
        writeln!(out, "| | live, udp_prague's fall-back on | {} | not judged | |", figures(fallback, &[]))
            .ok();
    }
}

fn verdict(verdicts: &[Verdict]) -> String {
    let off: Vec<&str> = verdicts.iter().filter(|v| !v.agrees).map(|v| v.quantity.name()).collect();
    if off.is_empty() { "agrees".to_owned() } else { format!("**differs: {}**", off.join(", ")) }
}

fn reference(m: &Measured) -> String {
    let number = |i: Option<Interval>, digits: usize| {
        i.map_or_else(
            || "-".to_owned(),
            |i| {
                let low = format!("{:.digits$}", i.low);
                let high = format!("{:.digits$}", i.high);
                if low == high { low } else { format!("{low} to {high}") }
            },
        )
    };
    let share = |v: Option<f64>, digits: usize| v.map_or("-".to_owned(), |v| format!("{v:.digits$} %"));
    format!(
        "{} | {} | {} | {} | {} / {} | {} / {} | {} | {}",
        number(m.l_mbps, 2),
        number(m.c_mbps, 2),
        number(m.ratio(), 2),
        share(m.busy.map(|b| 100.0 * b), 1),
        number(m.l_delay_ms, 2),
        number(m.l_p99_ms, 2),
        number(m.c_delay_ms, 1),
        number(m.c_p99_ms, 1),
        share(m.l_marked, 1),
        share(m.c_dropped, 3)
    )
}

fn figures(f: &Figures, verdicts: &[Verdict]) -> String {
    let judged = |quantity: Quantity, shown: String| match verdicts.iter().find(|v| v.quantity == quantity) {
        None => shown,
        Some(v) => {
            let by = v.deviation.map_or_else(|| "none".to_owned(), |d| deviation(quantity, d));
            if v.agrees { format!("{shown} ({by})") } else { format!("**{shown} ({by})**") }
        }
    };
    let number = |v: Option<f64>, digits: usize| v.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
    let share = |v: Option<f64>, digits: usize| v.map_or("-".to_owned(), |v| format!("{v:.digits$} %"));
    format!(
        "{:.2} | {:.2} | {} | {} | {} / {} | {} / {} | {} | {}",
        f.l_mbps,
        f.c_mbps,
        judged(Quantity::Ratio, number(f.ratio(), 2)),
        judged(Quantity::Utilization, format!("{:.1} %", 100.0 * f.utilization)),
        judged(Quantity::LDelay, number(f.l_delay_ms, 2)),
        number(f.l_p99_ms, 2),
        judged(Quantity::CDelay, number(f.c_delay_ms, 1)),
        number(f.c_p99_ms, 1),
        share(f.l_marked, 1),
        share(f.c_dropped, 3)
    )
}

fn deviation(quantity: Quantity, by: f64) -> String {
    match quantity {
        Quantity::Ratio | Quantity::LDelay => format!("x{by:.2}"),
        Quantity::CDelay => format!("{:+.0} %", 100.0 * by),
        Quantity::Utilization => format!("{:+.1}", 100.0 * by),
    }
}

fn pairs(report: &Report) -> String {
    let mut out = format!(
        "## RTT pairs: heistp's scenario 1\n\n\
         Two flows through DualPI2 at {} Mbit/s, {} s, mean goodput of the last minute. Source: \
         github.com/heistp/l4s-tests, scenario 1, DualPI2 rows (Linux, code of 2020). Simulator only. *DCTCP* stands in \
         for Prague in the last columns: the same response to marks, no floor of 25 ms under the round-trip time.\n\n\
         | flows | RTT ms | published Mb/s | 2nd : 1st | Jain | simulator, Prague | 2nd : 1st | Jain | simulator, DCTCP \
         | 2nd : 1st | Jain |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        super::pairs::RATE_MBIT,
        super::pairs::DURATION_S
    );
    let rates = |r: Option<Rates>| {
        r.map_or_else(
            || "- | - | -".to_owned(),
            |r| format!("{:.2} + {:.2} | {:.2} | {:.3}", r.first, r.second, r.ratio(), r.jain()),
        )
    };
    for row in &report.pairs {
        let (published, prague) = (rates(Some(row.published)), rates(Some(row.prague)));
        writeln!(out, "| {} | {} | {published} | {prague} | {} |", flows(row), rtts(row), rates(row.dctcp))
            .ok();
    }
    let order = |o: RankOrder| format!("{} (Spearman {})", o.verdict(), cell(o.spearman, 0));
    write!(
        out,
        "\nRank order of Prague : CUBIC over the nine pairs, against the published one: with DCTCP {}, with Prague {}.\n\
         \n{}\n",
        order(report.rank.dctcp),
        order(report.rank.prague),
        explain::PAIRS
    )
    .ok();
    out
}

fn flows(row: &PairReport) -> String {
    let name = |cc: super::pairs::Cc| if cc == super::pairs::Cc::Cubic { "CUBIC" } else { "Prague" };
    format!("{} + {}", name(row.pair.first.0), name(row.pair.second.0))
}

fn rtts(row: &PairReport) -> String {
    format!("{} / {}", row.pair.first.1, row.pair.second.1)
}
