//! The demo: one Prague and one CUBIC flow through the bridge, a line a second, a table and a plot at the end.

use std::fs;
use std::path::PathBuf;

use crate::flows::Kind;
use crate::forwarder::{RunSpec, Scheduling};
use crate::results::{FORWARD, cell};
use crate::sandbox::{Rights, Stop};
use crate::scrape::Samples;
use crate::session::{self, SessionError};
use crate::tools::Tools;
use crate::topology::{Topology, TopologyError};

/// Link of the demo.
const RATE_MBIT: u32 = 40;
const RTT_MS: u32 = 20;
const WARMUP_S: u32 = 5;

/// Why the demo has no result.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The namespaces.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The run.
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
}

/// What the demo can be told.
#[derive(Debug, Clone)]
pub struct DemoSpec {
    /// The `l4sd` executable.
    pub l4sd: PathBuf,
    /// Back end: `packet`, `xdp`.
    pub port: String,
    /// Measured seconds, after five of warm-up.
    pub seconds: u32,
    /// Where results.json, the plot and the last scrape go.
    pub out: PathBuf,
}

/// Runs it inside a prepared sandbox and prints what happens.
pub fn run(spec: &DemoSpec, tools: &Tools, rights: Rights, stop: &Stop) -> Result<(), DemoError> {
    let scheduling = session::scheduling(tools, rights);
    let mut topology = Topology::build(tools)?;
    topology.set_real_time(scheduling == Scheduling::Fifo);
    let run = RunSpec {
        l4sd: spec.l4sd.clone(),
        port: spec.port.clone(),
        rate_mbit: RATE_MBIT,
        rtt_ms: RTT_MS,
        policy: "dualpi2".to_owned(),
        duration_s: WARMUP_S + spec.seconds,
        warmup_s: WARMUP_S,
        out: spec.out.clone(),
        scheduling,
        step: None,
    };
    println!(
        "One Prague and one CUBIC flow through l4sd: {RATE_MBIT} Mbit/s, {RTT_MS} ms RTT, dualpi2, {}; {} s of \
         warm-up, then {} s measured{}",
        run.port,
        WARMUP_S,
        spec.seconds,
        caveat(scheduling)
    );
    println!("  time |  L Mb/s  delay ms  marks/s  drops/s |  C Mb/s  delay ms  marks/s  drops/s |      p'");
    let mut before = Live::default();
    let outcome = session::run(&topology, &run, &[Kind::Prague, Kind::Cubic], stop, |second, samples| {
        let now = Live::read(samples);
        println!("{second:>4} s | {}", now.since(&before));
        before = now;
    })?;

    let metrics = spec.out.join("metrics.txt");
    fs::write(&metrics, &outcome.metrics_text)
        .map_err(|source| DemoError::Write { path: metrics.display().to_string(), source })?;
    let summary = outcome.results.summary().map_err(SessionError::from)?;
    println!("\n{} s after warm-up{}:\n{}", spec.seconds, caveat(scheduling), summary.table());
    for flow in &outcome.flows {
        println!("goodput {:<7} {} Mb/s", flow.name, cell(flow.goodput_mbps, 6));
    }
    let out = spec.out.display();
    println!("\n{out}/results.json  {out}/delay.svg  {out}/delay.png  {out}/series.csv  {out}/metrics.txt");
    Ok(())
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
    fn a_line_is_the_difference_of_two_scrapes() {
        let (a, b) = (scrape(1_000_000, 1.0, 1000, 10), scrape(4_125_000, 1.5, 3000, 110));
        let line = b.since(&a);
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["25.00", "0.25", "100", "0", "|", "0.00", "-", "0", "0", "|", "0.0243"]);
    }
}
