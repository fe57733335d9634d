//! The demo's figures, policies side by side: for the terminal and as Markdown.

use std::fmt::Write as _;

use serde_json::Value;

use crate::flows::FlowResult;
use crate::results::{FORWARD, Queue, Results, ResultsError, Summary};

/// What a run of the demo came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its policy as it was asked for.
    pub policy: String,
    /// Queues and link.
    pub summary: Summary,
    /// What the senders reported.
    pub flows: Vec<FlowResult>,
    /// The controller, if the policy has one that decided anything.
    pub controller: Option<Controller>,
}

/// What a controller did in the loaded direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Controller {
    /// Decisions that were followed.
    pub decisions: f64,
    /// Decisions that came too late.
    pub late: f64,
    /// Decisions that the guard refused.
    pub rejected: f64,
    /// Share of windows without a decision to follow, 0..=1.
    pub fallback_share: f64,
    /// 99th percentile of the time per decision, microseconds.
    pub inference_p99_us: f64,
}

impl Outcome {
    /// Reads it from a completed result object.
    pub fn of(policy: &str, results: &Results, flows: Vec<FlowResult>) -> Result<Self, ResultsError> {
        let run = results.run(FORWARD)?;
        let number = |at: &str| run.pointer(at).and_then(Value::as_f64);
        let controller = number("/controller/decisions").map(|decisions| Controller {
            decisions,
            late: number("/controller/late").unwrap_or(0.0),
            rejected: number("/controller/rejected").unwrap_or(0.0),
            fallback_share: number("/fallback_share").unwrap_or(1.0),
            inference_p99_us: number("/controller/inference_us/p99").unwrap_or(0.0),
        });
        Ok(Self { policy: policy.to_owned(), summary: results.summary()?, flows, controller })
    }

    fn goodput(&self, queue: &str) -> Option<f64> {
        self.flows.iter().find(|f| f.queue == queue).and_then(|f| f.goodput_mbps)
    }
}

/// A figure of every run.
struct Row {
    name: &'static str,
    values: Vec<Option<f64>>,
    decimals: usize,
    /// Whether a ratio of two of its values says anything.
    ratio: bool,
}

fn rows(outcomes: &[Outcome]) -> Vec<Row> {
    let row = |name, decimals, ratio, value: &dyn Fn(&Outcome) -> Option<f64>| Row {
        name,
        values: outcomes.iter().map(value).collect(),
        decimals,
        ratio,
    };
    let share = |part: fn(&Queue) -> u64, q: &Queue| {
        let all = q.packets + q.dropped;
        (all > 0).then(|| 100.0 * part(q) as f64 / all as f64)
    };
    let control = |pick: fn(&Controller) -> f64| move |o: &Outcome| o.controller.as_ref().map(pick);
    let mut rows = vec![
        row("C queue delay, mean ms", 2, true, &|o| o.summary.c.delay_mean_ms),
        row("C queue delay, P50 ms", 2, true, &|o| o.summary.c.delay_p50_ms),
        row("C queue delay, P99 ms", 2, true, &|o| o.summary.c.delay_p99_ms),
        row("L queue delay, mean ms", 3, true, &|o| o.summary.l.delay_mean_ms),
        row("L queue delay, P50 ms", 3, true, &|o| o.summary.l.delay_p50_ms),
        row("L queue delay, P99 ms", 3, true, &|o| o.summary.l.delay_p99_ms),
        row("Prague goodput, Mbit/s", 2, true, &|o| o.goodput("l")),
        row("CUBIC goodput, Mbit/s", 2, true, &|o| o.goodput("c")),
        row("goodput ratio, L to C", 2, false, &|o| o.summary.ratio_l_over_c),
        row("utilisation, %", 1, false, &|o| Some(100.0 * o.summary.utilization)),
        row("marked in L, %", 2, false, &|o| share(|q| q.marked, &o.summary.l)),
        row("dropped in C, %", 3, false, &|o| share(|q| q.dropped, &o.summary.c)),
    ];
    if outcomes.iter().any(|o| o.controller.is_some()) {
        rows.push(row("decisions followed", 0, false, &control(|c| c.decisions)));
        rows.push(row("decisions too late", 0, false, &control(|c| c.late)));
        rows.push(row("decisions refused", 0, false, &control(|c| c.rejected)));
        rows.push(row("fallback, % of windows", 1, false, &control(|c| 100.0 * c.fallback_share)));
        rows.push(row("time per decision, P99 us", 0, false, &control(|c| c.inference_p99_us)));
    }
    rows
}

/// Cells of a row: its values, and what they are as multiples of the first.
fn cells(row: &Row) -> Vec<String> {
    let first = row.values.first().copied().flatten().filter(|v| *v > 0.0);
    let value = |v: &Option<f64>| v.map_or_else(|| "-".to_owned(), |v| format!("{v:.*}", row.decimals));
    let ratio = |v: &Option<f64>| match (first, v) {
        (Some(first), Some(v)) if row.ratio => format!("{:.2}", v / first),
        _ => String::new(),
    };
    row.values.iter().map(value).chain(row.values.iter().skip(1).map(ratio)).collect()
}

fn heading(outcomes: &[Outcome]) -> Vec<String> {
    let names = outcomes.iter().map(|o| o.policy.clone());
    let first = outcomes.first().map_or("", |o| &o.policy);
    names.chain(outcomes.iter().skip(1).map(|o| format!("{} / {first}", o.policy))).collect()
}

/// For the terminal.
pub fn text(outcomes: &[Outcome]) -> String {
    let (heads, rows) = (heading(outcomes), rows(outcomes));
    let widths: Vec<usize> = heads.iter().map(|h| h.len().max(9)).collect();
    let line = |name: &str, cells: &[String]| {
        let mut line = format!("{name:<25}");
        for (cell, width) in cells.iter().zip(&widths) {
            let _ = write!(line, "  {cell:>width$}");
        }
        line.trim_end().to_owned() + "\n"
    };
    rows.iter().fold(line("", &heads), |text, row| text + &line(row.name, &cells(row)))
}

/// The same as Markdown.
pub fn markdown(outcomes: &[Outcome]) -> String {
    let heads = heading(outcomes);
    let mut out = format!("| | {} |\n|---|{}\n", heads.join(" | "), "--:|".repeat(heads.len()));
    for row in rows(outcomes) {
        let _ = writeln!(out, "| {} | {} |", row.name, cells(&row).join(" | "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn queue(bytes: u64, mean: f64) -> Value {
        json!({"delay_ms": {"mean": mean, "p50": mean, "p99": 2.0 * mean, "p999": 3.0 * mean, "max": 9.0},
            "packets": 900, "bytes": bytes, "marked": 45, "dropped": {"aqm": 90, "overload": 7, "tail": 3}})
    }

    fn outcome(policy: &str, c_ms: f64, controller: &Value) -> Outcome {
        let run = json!({"direction": FORWARD, "duration_s": 25.0, "warmup_s": 5.0, "ratio_l_over_c": null,
            "link": {"rate_mbps": 40.0, "utilization": 0.979}, "fallback_share": 0.042,
            "controller": controller, "queues": {"l": queue(62_500_000, 0.18), "c": queue(35_500_000, c_ms)}});
        Outcome::of(policy, &Results(json!({"schema": 1, "runs": [run]})), vec![]).unwrap()
    }

    #[test]
    fn policies_stand_side_by_side_with_their_ratio() {
        let none = json!({"decisions": null, "late": null, "rejected": null});
        let some = json!({"decisions": 1204, "late": 3, "rejected": 0, "inference_us": {"p99": 310.4}});
        let both = [outcome("dualpi2", 14.0, &none), outcome("model", 3.5, &some)];
        let text = text(&both);
        let words = |name: &str| {
            let line = text.lines().find(|l| l.starts_with(name)).unwrap();
            line[name.len()..].split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(words("C queue delay, mean ms"), ["14.00", "3.50", "0.25"]);
        assert_eq!(words("decisions followed"), ["-", "1204"]);
        assert_eq!(words("decisions too late"), ["-", "3"]);
        assert_eq!(words("fallback, % of windows"), ["-", "4.2"]);
        assert_eq!(words("dropped in C, %"), ["10.000", "10.000"]);
        assert_eq!(words("Prague goodput, Mbit/s"), ["-", "-"]);
        assert!(markdown(&both).starts_with("| | dualpi2 | model | model / dualpi2 |\n|---|--:|--:|--:|\n"));
        let one = markdown(&both[..1]);
        assert!(one.starts_with("| | dualpi2 |\n|---|--:|\n") && !one.contains("decisions"), "{one}");
    }
}
