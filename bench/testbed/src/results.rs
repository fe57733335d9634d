//! Reads and completes the result object (`results.json`) that `l4sd run` writes, and prints it as a table.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::flows::{self, FlowResult};

/// The direction that the senders load.
pub const FORWARD: &str = "left_to_right";

/// Why a result object is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// It is not there or not JSON.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// It lacks something the contract promises.
    #[error("results.json has no {0}")]
    Lacks(String),
    /// It cannot be written.
    #[error("cannot write {path}: {reason}")]
    Write {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}

/// One queue's figures in the measured window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Queue {
    /// Rate of forwarded L2 bytes, Mbit/s.
    pub mbps: f64,
    /// Mean delay, milliseconds; `null` if nothing was forwarded. The same holds for the percentiles.
    pub delay_mean_ms: Option<f64>,
    /// Median.
    pub delay_p50_ms: Option<f64>,
    /// 99th percentile.
    pub delay_p99_ms: Option<f64>,
    /// 99.9th percentile.
    pub delay_p999_ms: Option<f64>,
    /// Forwarded frames.
    pub packets: u64,
    /// Frames changed to CE.
    pub marked: u64,
    /// Frames dropped, all causes.
    pub dropped: u64,
}

/// What the testbed reads of one direction's run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Forwarded bits over capacity, 0..=1.
    pub utilization: f64,
    /// Measured seconds.
    pub window_s: f64,
    /// L4S queue.
    pub l: Queue,
    /// Classic queue.
    pub c: Queue,
    /// Goodput ratio of L flows to C flows.
    pub ratio_l_over_c: Option<f64>,
}

/// A parsed `results.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Results(pub(crate) Value);

impl Results {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, ResultsError> {
        let failed = |reason: String| ResultsError::Read { path: path.display().to_string(), reason };
        let text = fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        serde_json::from_str(&text).map(Self).map_err(|e| failed(e.to_string()))
    }

    /// The runs of several files as one, in that order.
    pub fn joined(all: &[Self]) -> Self {
        let runs = |one: &Self| one.0["runs"].as_array().cloned().unwrap_or_default();
        Self(json!({"schema": 1, "runs": all.iter().flat_map(runs).collect::<Vec<Value>>()}))
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<(), ResultsError> {
        let failed = |reason: String| ResultsError::Write { path: path.display().to_string(), reason };
        let mut text = serde_json::to_string_pretty(&self.0).map_err(|e| failed(e.to_string()))?;
        text.push('\n');
        fs::write(path, text).map_err(|e| failed(e.to_string()))
    }

    /// The run of a direction.
    pub fn run(&self, direction: &str) -> Result<&Value, ResultsError> {
        let runs = self.0["runs"].as_array();
        runs.and_then(|runs| runs.iter().find(|r| r["direction"] == direction))
            .ok_or_else(|| ResultsError::Lacks(format!("run with direction {direction}")))
    }

    /// Puts what the senders reported into the loaded direction's run.
    pub fn set_flows(&mut self, flows: &[FlowResult]) -> Result<(), ResultsError> {
        self.run(FORWARD)?;
        let lacks = || ResultsError::Lacks("runs".to_owned());
        let rows = serde_json::to_value(flows)
            .map_err(|e| ResultsError::Lacks(format!("place for its flows: {e}")))?;
        let runs = self.0["runs"].as_array_mut().ok_or_else(lacks)?;
        for run in runs.iter_mut().filter(|r| r["direction"] == FORWARD) {
            run["flows"] = rows.clone();
            run["ratio_l_over_c"] = flows::ratio_l_over_c(flows).into();
        }
        Ok(())
    }

    /// The loaded direction's figures.
    pub fn summary(&self) -> Result<Summary, ResultsError> {
        Summary::of(self.run(FORWARD)?)
    }

    /// The figures of every simulated run of a scenario, in the order of the seeds.
    pub fn simulated(&self, scenario: &str) -> Result<Vec<Summary>, ResultsError> {
        self.scenario(scenario)?.into_iter().map(Summary::of).collect()
    }

    /// Goodput of every flow of every simulated run of a scenario, Mbit/s.
    pub fn goodputs(&self, scenario: &str) -> Result<Vec<Vec<f64>>, ResultsError> {
        let flows = |run: &Value| {
            let flows = run["flows"].as_array().cloned().unwrap_or_default();
            flows.iter().map(|f| number(f, "/goodput_mbps")).collect()
        };
        self.scenario(scenario)?.into_iter().map(flows).collect()
    }

    fn scenario(&self, name: &str) -> Result<Vec<&Value>, ResultsError> {
        let runs = self.0["runs"].as_array().into_iter().flatten();
        let runs: Vec<&Value> = runs.filter(|r| r["scenario"] == name).collect();
        if runs.is_empty() { Err(ResultsError::Lacks(format!("run of scenario {name}"))) } else { Ok(runs) }
    }
}

impl Summary {
    fn of(run: &Value) -> Result<Self, ResultsError> {
        let window_s = number(run, "/duration_s")? - number(run, "/warmup_s")?;
        Ok(Self {
            utilization: number(run, "/link/utilization")?,
            window_s,
            l: queue(run, "l", window_s)?,
            c: queue(run, "c", window_s)?,
            ratio_l_over_c: run["ratio_l_over_c"].as_f64(),
        })
    }
}

/// A number of fixed width, or a dash.
pub fn cell(value: Option<f64>, width: usize) -> String {
    value.map_or_else(|| format!("{:>width$}", "-"), |v| format!("{v:>width$.2}"))
}

fn queue(run: &Value, name: &str, window_s: f64) -> Result<Queue, ResultsError> {
    let at = |rest: &str| format!("/queues/{name}/{rest}");
    let count = |rest: &str| number(run, &at(rest)).map(|v| v as u64);
    let delay = |rest: &str| run.pointer(&at(&format!("delay_ms/{rest}"))).and_then(Value::as_f64);
    let dropped = count("dropped/aqm")? + count("dropped/overload")? + count("dropped/tail")?;
    Ok(Queue {
        mbps: number(run, &at("bytes"))? * 8.0 / 1e6 / window_s,
        delay_mean_ms: delay("mean"),
        delay_p50_ms: delay("p50"),
        delay_p99_ms: delay("p99"),
        delay_p999_ms: delay("p999"),
        packets: count("packets")?,
        marked: count("marked")?,
        dropped,
    })
}

fn number(run: &Value, pointer: &str) -> Result<f64, ResultsError> {
    run.pointer(pointer).and_then(Value::as_f64).ok_or_else(|| ResultsError::Lacks(pointer.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let queue = |bytes: u64, mean: Value| {
            json!({"delay_ms": {"mean": mean, "p50": 0.1, "p99": 0.6, "p999": 1.0, "max": 2.0},
                "packets": 900, "bytes": bytes, "arrived": 1000, "marked": 45,
                "dropped": {"aqm": 90, "overload": 7, "tail": 3}, "queued_end": 0})
        };
        let run = |direction: &str| {
            json!({"direction": direction, "duration_s": 25.0, "warmup_s": 5.0, "flows": [],
                "ratio_l_over_c": null, "link": {"rate_mbps": 40.0, "utilization": 0.979},
                "queues": {"l": queue(62_500_000, json!(0.18)), "c": queue(35_500_000, Value::Null)}})
        };
        Results(json!({"schema": 1, "runs": [run("right_to_left"), run(FORWARD)]}))
    }

    #[test]
    fn rates_are_over_the_window_only() {
        let s = results().summary().unwrap();
        assert_eq!(s.l.mbps, 25.0);
        assert_eq!(s.c.mbps, 14.2);
        assert_eq!(s.l.dropped, 100);
        assert_eq!(s.c.delay_mean_ms, None);
        assert_eq!((s.l.packets, s.l.marked), (900, 45));
    }

    #[test]
    fn flows_go_into_the_loaded_direction_alone() {
        let flow = |queue, cc: &'static str, mbps| FlowResult {
            name: cc.to_owned(),
            cc,
            queue,
            rtt_ms: 20.0,
            goodput_mbps: Some(mbps),
            retransmits: None,
            fct_ms: None,
        };
        let mut r = results();
        r.set_flows(&[flow("l", "prague", 24.0), flow("c", "cubic", 16.0)]).unwrap();
        assert_eq!(r.run(FORWARD).unwrap()["flows"][1]["cc"], "cubic");
        assert_eq!(r.run(FORWARD).unwrap()["flows"][1]["fct_ms"], Value::Null);
        assert_eq!(r.summary().unwrap().ratio_l_over_c, Some(1.5));
        assert_eq!(r.run("right_to_left").unwrap()["flows"], json!([]));
    }

    #[test]
    fn runs_of_several_files_are_joined_in_order() {
        let (a, mut b) = (results(), results());
        b.0["runs"][0]["policy"] = json!("model");
        let both = Results::joined(&[a, b]);
        assert_eq!((both.0["runs"].as_array().unwrap().len(), both.0["schema"].clone()), (4, json!(1)));
        assert_eq!(both.0["runs"][2]["policy"], "model");
    }

    #[test]
    fn simulated_runs_are_found_by_their_scenario() {
        let mut r = results();
        let goodput = |mbps: f64| json!({"name": "prague-1", "goodput_mbps": mbps});
        r.0["runs"][0]["scenario"] = json!("other");
        r.0["runs"][1]["scenario"] = json!("40mbit-20ms");
        r.0["runs"][1]["flows"] = json!([goodput(24.0), goodput(14.0)]);
        let found = r.simulated("40mbit-20ms").unwrap();
        assert_eq!(found.iter().map(|s| s.l.mbps).collect::<Vec<_>>(), [25.0]);
        assert_eq!(r.goodputs("40mbit-20ms").unwrap(), [[24.0, 14.0]]);
        assert_eq!(r.simulated("nine").unwrap_err().to_string(), "results.json has no run of scenario nine");
    }

    #[test]
    fn what_is_lacking_is_named() {
        let mut r = results();
        r.0["runs"][1]["queues"]["c"]["dropped"]["tail"] = Value::Null;
        assert_eq!(r.summary().unwrap_err().to_string(), "results.json has no /queues/c/dropped/tail");
    }
}
