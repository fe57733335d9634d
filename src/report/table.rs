//! The table that a run ends with, as Markdown for files and as aligned text for terminals.

use std::fmt::Write as _;

use super::DirectionReport;
use super::result::{QueueResult, RunResult};

const HEAD: [&str; 12] = [
    "queue",
    "Mb/s",
    "mean ms",
    "P50",
    "P99",
    "P99.9",
    "max",
    "packets",
    "marked",
    "dropped: aqm",
    "overload",
    "tail",
];

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"))
}

fn title(r: &RunResult) -> String {
    let mut title = format!("{}, {}", r.direction.replace('_', " "), r.policy);
    if let Some(scenario) = &r.scenario {
        let _ = write!(title, ", {scenario}");
    }
    let _ = write!(
        title,
        ": {} Mbit/s, utilisation {} %, {:.1} s after {:.1} s of warm-up",
        figure(r.link.rate_mbps, 2),
        figure(r.link.utilization.map(|u| u * 100.0), 1),
        (r.duration_s - r.warmup_s).max(0.0),
        r.warmup_s,
    );
    title
}

fn row(name: &str, q: &QueueResult, seconds: f64) -> [String; 12] {
    let (d, c) = (&q.delay_ms, &q.counters);
    let mbps = (seconds > 0.0).then(|| c.bytes as f64 * 8e-6 / seconds);
    [
        name.to_owned(),
        figure(mbps, 2),
        figure(d.mean, 3),
        figure(d.p50, 3),
        figure(d.p99, 3),
        figure(d.p999, 3),
        figure(d.max, 3),
        c.packets.to_string(),
        c.marked.to_string(),
        c.dropped.aqm.to_string(),
        c.dropped.overload.to_string(),
        c.dropped.tail.to_string(),
    ]
}

fn rows(r: &RunResult) -> [[String; 12]; 3] {
    let seconds = r.duration_s - r.warmup_s;
    [row("L", &r.queues.l, seconds), row("C", &r.queues.c, seconds), row("all", &r.queues.all, seconds)]
}

fn notes(report: &DirectionReport) -> String {
    let mut notes = String::new();
    if let Some(ratio) = report.result.ratio_l_over_c {
        let _ = writeln!(notes, "Goodput of L flows over C flows: {ratio:.2}");
    }
    if let Some(error) = &report.conservation_error {
        let _ = writeln!(notes, "COUNTERS DO NOT ADD UP: {error}");
    }
    notes
}

/// One Markdown table per direction. Delays are in milliseconds.
pub fn markdown(reports: &[DirectionReport]) -> String {
    let mut out = String::new();
    for report in reports {
        let _ = writeln!(out, "### {}\n", title(&report.result));
        let _ = writeln!(out, "| {} |", HEAD.join(" | "));
        let _ = writeln!(out, "|---|{}", "--:|".repeat(HEAD.len() - 1));
        for row in rows(&report.result) {
            let _ = writeln!(out, "| {} |", row.join(" | "));
        }
        let _ = writeln!(out, "\n{}", notes(report));
    }
    out
}

/// The same with aligned columns and no markup.
pub fn text(reports: &[DirectionReport]) -> String {
    let mut out = String::new();
    for report in reports {
        let _ = writeln!(out, "{}", title(&report.result));
        let rows = rows(&report.result);
        let width = |i: usize| rows.iter().map(|r| r[i].len()).fold(HEAD[i].len(), usize::max);
        let mut line = |cells: &[&str]| {
            let cells: Vec<_> = cells
                .iter()
                .enumerate()
                .map(|(i, cell)| {
                    if i == 0 {
                        format!("{cell:<w$}", w = width(i))
                    } else {
                        format!("{cell:>w$}", w = width(i))
                    }
                })
                .collect();
            let _ = writeln!(out, "  {}", cells.join("  "));
        };
        line(&HEAD);
        for row in &rows {
            line(&row.each_ref().map(String::as_str));
        }
        out.push_str(&notes(report));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::result::{Counters, DelayResult, Dropped, LinkResult, PerQueue};

    fn report() -> DirectionReport {
        let l = QueueResult {
            delay_ms: DelayResult {
                mean: Some(0.21),
                p50: Some(0.2),
                p99: Some(1.0),
                p999: Some(1.5),
                max: Some(2.0),
            },
            counters: Counters {
                packets: 1000,
                bytes: 2_500_000,
                arrived: 1010,
                marked: 33,
                dropped: Dropped { aqm: 4, overload: 5, tail: 6 },
                queued_end: 0,
            },
        };
        let result = RunResult {
            policy: "dualpi2".into(),
            direction: "left_to_right".into(),
            duration_s: 3.0,
            warmup_s: 1.0,
            link: LinkResult { rate_mbps: Some(40.0), utilization: Some(0.9876) },
            queues: PerQueue { l, c: QueueResult::default(), all: l },
            ..RunResult::default()
        };
        DirectionReport { result, bins: Vec::new(), conservation_error: None }
    }

    #[test]
    fn markdown_shows_each_figure_in_its_column() {
        let text = markdown(&[report()]);
        assert!(
            text.contains("### left to right, dualpi2: 40.00 Mbit/s, utilisation 98.8 %, 2.0 s after 1.0 s"),
            "{text}"
        );
        // 2.5 MB in 2 s = 10 Mbit/s.
        assert!(
            text.contains("| L | 10.00 | 0.210 | 0.200 | 1.000 | 1.500 | 2.000 | 1000 | 33 | 4 | 5 | 6 |"),
            "{text}"
        );
        assert!(text.contains("| C | 0.00 | - | - | - | - | - | 0 | 0 | 0 | 0 | 0 |"), "{text}");
        let columns = |line: &str| line.matches('|').count();
        let table: Vec<_> = text.lines().filter(|l| l.starts_with('|')).map(columns).collect();
        assert_eq!(table, [13; 5]);
    }

    #[test]
    fn text_columns_line_up() {
        let text = text(&[report()]);
        let ends: Vec<_> = text.lines().skip(1).take(4).map(str::len).collect();
        assert!(ends.iter().all(|&e| e == ends[0]), "{text}");
        assert!(text.lines().nth(2).unwrap().trim_start().starts_with("L      10.00"), "{text}");
    }

    #[test]
    fn counters_that_do_not_add_up_are_shouted() {
        let mut broken = report();
        broken.conservation_error = Some("queue l: 1".into());
        for text in [markdown(&[broken.clone()]), text(&[broken])] {
            assert!(text.contains("COUNTERS DO NOT ADD UP: queue l: 1"));
        }
    }
}
