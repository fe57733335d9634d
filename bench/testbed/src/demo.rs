//! The demo: one Prague and one CUBIC flow through the bridge under each policy in turn, a line a second, then their figures
//! side by side in a table and a picture.

pub mod plot;
pub mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::plot::{Frame, Trace};
use self::table::Outcome;
use crate::cpus::Placement;
use crate::flows::Kind;
use crate::forwarder::{RunSpec, Scheduling};
use crate::results::{FORWARD, Results, cell};
use crate::sandbox::{Rights, Stop};
use crate::scrape::Samples;
use crate::series::Series;
use crate::session::{self, SessionError};
use crate::tools::Tools;
use crate::topology::{Topology, TopologyError};

/// Link of the demo.
const RATE_MBIT: u32 = 40;
const RTT_MS: u32 = 20;
/// CUBIC has left slow start by then, and a model has long chosen.
const WARMUP_S: u32 = 3;

/// Why the demo has no result.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The namespaces.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A run.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A file of its own.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The picture.
    #[error("cannot draw the picture: {0}; the other files are not affected")]
    Plot(String),
    /// Every policy was left out.
    #[error("none of the policies can be run here; `--policy dualpi2` needs nothing")]
    Nothing,
}

/// What the demo can be told.
#[derive(Debug, Clone)]
pub struct DemoSpec {
    /// The `l4sd` executable.
    pub l4sd: PathBuf,
    /// Back end: `packet`, `xdp`.
    pub port: String,
    /// Policies in order; the others are compared with the first.
    pub policies: Vec<String>,
    /// Measured seconds under each policy, after three of warm-up.
    pub seconds: u32,
    /// Where results.json, table.md, the picture and a folder for each run go.
    pub out: PathBuf,
}

/// Runs it inside a prepared sandbox and prints what happens.
pub fn run(spec: &DemoSpec, tools: &Tools, rights: Rights, stop: &Stop) -> Result<(), DemoError> {
    let scheduling = session::scheduling(tools, rights);
    let mut topology = Topology::build(tools)?;
    topology.set_real_time(scheduling == Scheduling::Fifo);
    println!(
        "One Prague and one CUBIC flow through l4sd: {RATE_MBIT} Mbit/s, {RTT_MS} ms RTT, {}; under {}: {WARMUP_S} s of \
         warm-up, then {} s measured{}",
        spec.port,
        spec.policies.join(", then "),
        spec.seconds,
        caveat(scheduling)
    );
    let (mut outcomes, mut results, mut traces, mut left_out) = (vec![], vec![], vec![], vec![]);
    for policy in &spec.policies {
        if let Err(why) = usable(&spec.l4sd, policy) {
            let line = format!("NOT RUN: {policy}: {why}");
            println!("\n{line}");
            left_out.push(line);
            continue;
        }
        let run = RunSpec {
            l4sd: spec.l4sd.clone(),
            port: spec.port.clone(),
            rate_mbit: RATE_MBIT,
            rtt_ms: RTT_MS,
            policy: policy.clone(),
            duration_s: WARMUP_S + spec.seconds,
            warmup_s: WARMUP_S,
            out: spec.out.join(folder(policy)),
            scheduling,
            placement: Placement::default(),
            step: None,
        };
        let outcome = one(&topology, &run, stop)?;
        outcomes.push(Outcome::of(policy, &outcome.results, outcome.flows).map_err(SessionError::from)?);
        let series = Series::read(&run.out.join("series.csv")).map_err(SessionError::from)?;
        traces.push(Trace { name: policy.clone(), series });
        results.push(outcome.results);
    }
    if outcomes.is_empty() {
        return Err(DemoError::Nothing);
    }
    println!("\n{} s after warm-up{}:\n{}", spec.seconds, caveat(scheduling), table::text(&outcomes));
    for line in left_out {
        println!("{line}\n");
    }
    Results::joined(&results).write(&spec.out.join("results.json")).map_err(SessionError::from)?;
    write(&spec.out, "table.md", table::markdown(&outcomes).as_bytes())?;
    let names: Vec<&str> = outcomes.iter().map(|o| o.policy.as_str()).collect();
    let svg = plot::svg(
        &Frame {
            title: format!(
                "One Prague and one CUBIC flow at {RATE_MBIT} Mbit/s and {RTT_MS} ms RTT under {}",
                names.join(" and ")
            ),
            detail: format!(
                "real traffic over {} ports, one run after the other; means of 100 ms; the first {WARMUP_S} s (grey) are \
                 not in the table{}",
                spec.port,
                caveat(scheduling)
            ),
            warmup_s: f64::from(WARMUP_S),
            duration_s: f64::from(WARMUP_S + spec.seconds),
            rate_mbps: f64::from(RATE_MBIT),
        },
        &traces,
    );
    write(&spec.out, "delay.svg", svg.as_bytes())?;
    write(&spec.out, "delay.png", &plot::png(&svg).map_err(DemoError::Plot)?)?;
    let out = spec.out.display();
    println!("{out}/table.md  {out}/delay.svg  {out}/delay.png  {out}/results.json");
    Ok(())
}

/// One policy: a line a second.
fn one(topology: &Topology, run: &RunSpec, stop: &Stop) -> Result<session::Outcome, DemoError> {
    println!("\n{}", run.policy);
    println!("  time |  L Mb/s  delay ms  marks/s  drops/s |  C Mb/s  delay ms  marks/s  drops/s |      p'");
    let mut before = Live::default();
    let outcome = session::run(topology, run, &[Kind::Prague, Kind::Cubic], stop, |second, samples| {
        let now = Live::read(samples);
        println!("{second:>4} s | {}", now.since(&before));
        before = now;
    })?;
    write(&run.out, "metrics.txt", outcome.metrics_text.as_bytes())?;
    Ok(outcome)
}

/// Whether the bridge can do what a policy needs; what it says if not. Without this a model that cannot be run would be shown
/// as one that does nothing.
fn usable(l4sd: &Path, policy: &str) -> Result<(), String> {
    let Some(file) = policy.strip_prefix("model") else { return Ok(()) };
    let file = file.strip_prefix(':').filter(|file| !file.is_empty());
    let output =
        Command::new(l4sd).args(["model", "check"]).args(file).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.trim().trim_start_matches("l4sd: ").to_owned())
}

/// A policy's name as that of a folder.
fn folder(policy: &str) -> String {
    policy.chars().map(|c| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '_' }).collect()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), DemoError> {
    let path = folder.join(name);
    fs::write(&path, bytes).map_err(|source| DemoError::Write { path: path.display().to_string(), source })
}

const fn caveat(scheduling: Scheduling) -> &'static str {
    match scheduling {
        Scheduling::Fifo => "",
        Scheduling::Ordinary => " (no real-time scheduling here: not for quoting)",
    }
}

/// The counters behind a live line.
#[derive(Debug, Clone, Copy, Default)]
struct Live {
    queues: [LiveQueue; 2],
    p_base: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct LiveQueue {
    bytes: f64,
    delay_sum: f64,
    delay_count: f64,
    marks: f64,
    drops: f64,
}

impl Live {
    fn read(samples: &Samples) -> Self {
        let queue = |q: &str| {
            let sum =
                |name: &str| samples.sum(name, &[("direction", FORWARD), ("queue", q)]).unwrap_or_default();
            LiveQueue {
                bytes: sum("l4sd_forwarded_bytes_total"),
                delay_sum: sum("l4sd_queue_delay_seconds_sum"),
                delay_count: sum("l4sd_queue_delay_seconds_count"),
                marks: sum("l4sd_marked_packets_total"),
                drops: sum("l4sd_dropped_packets_total"),
            }
        };
        let p_base = samples.sum("l4sd_probability", &[("direction", FORWARD), ("kind", "base")]);
        Self { queues: [queue("l"), queue("c")], p_base: p_base.unwrap_or_default() }
    }

    /// The line for the second between two scrapes.
    fn since(&self, before: &Self) -> String {
        let part = |i: usize| {
            let (now, old) = (&self.queues[i], &before.queues[i]);
            let forwarded = now.delay_count - old.delay_count;
            let delay = (forwarded > 0.0).then(|| 1e3 * (now.delay_sum - old.delay_sum) / forwarded);
            format!(
                "{:>7.2}  {}  {:>7.0}  {:>7.0}",
                (now.bytes - old.bytes) * 8.0 / 1e6,
                cell(delay, 8),
                now.marks - old.marks,
                now.drops - old.drops
            )
        };
        format!("{} | {} | {:>7.4}", part(0), part(1), self.p_base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(bytes: u64, sum: f64, count: u64, marks: u64) -> Live {
        let labels = "direction=\"left_to_right\",queue=\"l\"";
        let text = format!(
            "l4sd_forwarded_bytes_total{{{labels}}} {bytes}\n\
             l4sd_forwarded_bytes_total{{direction=\"right_to_left\",queue=\"l\"}} 999999999\n\
             l4sd_queue_delay_seconds_sum{{{labels}}} {sum}\n\
             l4sd_queue_delay_seconds_count{{{labels}}} {count}\n\
             l4sd_marked_packets_total{{cause=\"coupled\",{labels}}} {marks}\n\
             l4sd_marked_packets_total{{cause=\"step\",{labels}}} 5\n\
             l4sd_probability{{direction=\"left_to_right\",kind=\"base\"}} 0.0243\n"
        );
        Live::read(&Samples::parse(&text))
    }

    #[test]
    fn a_policy_is_a_folder_of_its_own() {
        assert_eq!(
            [folder("dualpi2-tuned"), folder("model:../a b.onnx")],
            ["dualpi2-tuned", "model_.._a_b.onnx"]
        );
    }

    #[test]
    fn a_line_is_the_difference_of_two_scrapes() {
        let (a, b) = (scrape(1_000_000, 1.0, 1000, 10), scrape(4_125_000, 1.5, 3000, 110));
        let line = b.since(&a);
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["25.00", "0.25", "100", "0", "|", "0.00", "-", "0", "0", "|", "0.0243"]);
    }
}
