//! `l4sd bench controller`: how long after the end of a window the decision made of it is in force, at real pace. The
//! threads are those of `run` with its priorities and cores; the ports are memory, and a thread of ordinary priority keeps
//! each of the cores busy.

use core::fmt::Write as _;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::memory::{HALF_AND_HALF, frames};
use super::paced::Paced;
use crate::cli::controller::{Monitor, Source};
use crate::cli::exit::{Exit, Failure};
use crate::cli::{logging, print, run};
use crate::config::{Config, Listen, Policy, PortSpec, Sched, Settings};
use crate::control::guard::{Guard, GuardCounters, State};
use crate::control::policy::lookahead::Counts as Totals;
use crate::control::worker::{Stage, times};
use crate::egress::Egress;
use crate::port::mem::{MemConfig, MemPort};
use crate::port::{PortPair, Side};
use crate::runtime::bridge::{self, FramePlan};
use crate::runtime::clock::{Clock, Monotonic};
use crate::runtime::forwarder::Forwarder;
use crate::runtime::lane::{Lane, LaneReader};
use crate::runtime::thread as packet_thread;
use crate::telemetry::Direction;
use crate::time::Span;
use crate::units::{self, BitRate};

const FRAME_BYTES: usize = 1514;
/// How often the managing thread looks around, as in `run`.
const LOOK: Span = Span::from_millis(20);
/// A model is ready in less, or not at all.
const READY: Span = Span::from_secs(60);
/// What a load thread goes through over and over: more than the second cache of a core holds.
const LOAD_BYTES: usize = 4 << 20;

/// Arguments of `l4sd bench controller`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without -c: 40 Mbit/s, fifo:50, forwarder on the first core, controller on the last, as `run` would with \
    [runtime] sched and cores and [control] core. Frames fill nine tenths of the rate. The \
    times are of both directions together: inference = time per decision, admission = from the end of a window to the \
    breath that put its decision in force."
)]
pub(super) struct ControllerArgs {
    /// Configuration file, for all but its ports
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Controller: model, model:FILE, dualpi2-rules, replay:FILE or lookahead:arm=... (docs/lookahead.md)
    #[arg(long, value_name = "POLICY")]
    policy: Option<Policy>,
    /// How long to measure each class
    #[arg(long, value_name = "TIME", value_parser = units::parse_span, default_value = "30s")]
    duration: Span,
    /// Send no frame: the forwarder has nothing to wake up for but windows and decisions
    #[arg(long)]
    quiet: bool,
    /// Leave the cores to the forwarder and the controller
    #[arg(long)]
    no_load: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Times in microseconds; all `null` if there was none.
#[derive(Debug, Serialize)]
struct Times {
    p50: Option<f64>,
    p99: Option<f64>,
    p999: Option<f64>,
    max: Option<f64>,
}

impl Times {
    fn of(ns: &Histogram<u64>) -> Self {
        let us = |ns_of: u64| (!ns.is_empty()).then_some(ns_of as f64 / 1e3);
        let at = |p| us(ns.value_at_percentile(p));
        Self { p50: at(50.0), p99: at(99.0), p999: at(99.9), max: us(ns.max()) }
    }
}

/// What one class of scheduling came to, both directions together.
#[derive(Debug, Default, Serialize)]
struct Counts {
    windows: u64,
    fallback_windows: u64,
    admitted: u64,
    stale: u64,
    rejected: u64,
    missed_windows: u64,
    frames: u64,
}

#[derive(Debug, Serialize)]
struct Row {
    sched: String,
    /// Why the class was not the one that was asked for.
    refused: Option<String>,
    #[serde(flatten)]
    counts: Counts,
    admission_us: Times,
    inference_us: Times,
    /// `null` for a policy that does not look ahead.
    look_ahead: Option<Ahead>,
}

/// What looking ahead came to, both directions together.
#[derive(Debug, Serialize)]
struct Ahead {
    ticks: u64,
    verified: u64,
    checked: u64,
    accepted: u64,
    voided_plans: u64,
    calls: u64,
    call_us: Times,
}

impl Ahead {
    fn of(monitors: &[Monitor]) -> Option<Self> {
        let mut all: Option<(Totals, Histogram<u64>)> = None;
        for (more, calls) in monitors.iter().filter_map(Monitor::look_ahead) {
            let (sum, took) = all.get_or_insert_with(|| (Totals::default(), times()));
            sum.ticks += more.ticks;
            sum.verified += more.verified;
            sum.checked += more.checked;
            sum.accepted += more.accepted;
            sum.voided += more.voided;
            sum.calls += more.calls;
            *took += calls;
        }
        let (Totals { ticks, verified, checked, accepted, voided, calls, .. }, took) = all?;
        let (voided_plans, call_us) = (voided, Times::of(&took));
        Some(Self { ticks, verified, checked, accepted, voided_plans, calls, call_us })
    }
}

/// All that `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    policy: String,
    duration_s: f64,
    cores: [Option<usize>; 2],
    loaded: bool,
    quiet: bool,
    rows: Vec<Row>,
}

/// Runs it.
pub(super) fn bench(args: &ControllerArgs) -> Result<(), Failure> {
    if args.duration == Span::ZERO {
        return Err(Failure::new(Exit::Usage, anyhow::anyhow!("--duration must be longer than nothing")));
    }
    let config = config(args)?;
    logging::start(config.log);
    let mut classes = vec![config.runtime.sched];
    if config.runtime.sched != Sched::Other {
        classes.push(Sched::Other);
    }
    let mut rows = Vec::new();
    for sched in classes {
        let mut config = config.clone();
        config.runtime.sched = sched;
        rows.push(measure(args, &config)?);
    }
    let report = Report {
        schema: 1,
        policy: config.aqm.policy.label(),
        duration_s: args.duration.as_secs_f64(),
        cores: [config.runtime.cores.first().copied(), config.control.core],
        loaded: !args.no_load,
        quiet: args.quiet,
        rows,
    };
    if args.json {
        let json = serde_json::to_string_pretty(&report).map_err(|e| Failure::new(Exit::Internal, e))?;
        print::line(&json)
    } else {
        print::text(&text(&report))
    }
}

fn config(args: &ControllerArgs) -> Result<Config, Failure> {
    let last = thread::available_parallelism().map_or(0, |n| n.get() - 1);
    let mut settings = Settings {
        rate: Some(BitRate::from_mbps(40)),
        sched: Some(Sched::Fifo(50)),
        cores: Some(vec![0]),
        core: i64::try_from(last).ok(),
        ..Settings::default()
    };
    if let Some(file) = &args.config {
        settings = Settings::load(file)?;
    }
    settings.merge(Settings {
        left: Some(PortSpec::Mem),
        right: Some(PortSpec::Mem),
        policy: args.policy.clone(),
        listen: Some(Listen::Off),
        ..Settings::default()
    });
    Ok(settings.validate()?)
}

fn measure(args: &ControllerArgs, config: &Config) -> Result<Row, Failure> {
    let clock = Monotonic::start();
    let plan = FramePlan::new(config);
    let refused = match config.runtime.sched {
        Sched::Fifo(priority) => thread::spawn(move || l4sd_host::set_fifo(i32::from(priority)).err())
            .join()
            .unwrap_or_default()
            .map(|e| e.to_string()),
        Sched::Other => None,
    };
    let mut links = Vec::new();
    for direction in Direction::BOTH {
        let Some(source) = Source::of(config)? else {
            let error = anyhow::anyhow!("{} decides nothing; use model", config.aqm.policy);
            return Err(Failure::new(Exit::Usage, error));
        };
        links.push(source.start(config, direction, clock).map_err(|e| Failure::new(Exit::Internal, e))?);
    }
    for (_, monitor) in &links {
        wait_for(monitor, &clock)?;
    }
    let start = clock.now();
    let mut monitors = Vec::new();
    let mut readers = Vec::new();
    let mut links = links.into_iter();
    let lanes = Direction::BOTH.map(|d| {
        let egress = Egress::new(&bridge::egress(config, d, plan, 1), start);
        let (lane, reader) = Lane::new(d, egress, true);
        readers.push(reader);
        let Some((link, monitor)) = links.next() else { return lane };
        monitors.push(monitor);
        let guard = Guard::new(bridge::guard(config), bridge::default_knobs(config), start);
        lane.with_control(Box::new(link), guard)
    });
    let options = bridge::loop_options(config, Span::ZERO, Some(args.duration), run::throttled().is_some());
    let memory = MemConfig { buffers: plan.total() + 2048, ..MemConfig::default() };
    let memory = MemPort::generator(memory, &frames(FRAME_BYTES, &HALF_AND_HALF), &Side::BOTH)?;
    let rate = config.link.rate.min(config.link.rate_right_to_left);
    let gap = Span::from_secs_f64(FRAME_BYTES as f64 * 8.0 / (0.9 * rate.as_bps() as f64));
    let port = Paced::new(memory, clock, (!args.quiet).then_some(gap));
    let mut forwarder = Forwarder::new(port, clock, lanes, options, start);
    let (over, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut tally =
        Tally { admission: times(), fallback: 0, windows: 0, last: [GuardCounters::default(); 2] };
    let (loops, of_threads, over, stop) = (&mut forwarder, config, &over, &stop);
    thread::scope(|scope| {
        let mut cores = vec![config.runtime.cores.first().copied(), config.control.core];
        cores.dedup();
        for core in cores.into_iter().filter(|_| !args.no_load) {
            scope.spawn(move || load(core, over));
        }
        let forwarding = scope.spawn(move || {
            run::prepare_thread(of_threads);
            loops.run(stop)
        });
        while !forwarding.is_finished() {
            clock.sleep(LOOK);
            for reader in &mut readers {
                tally.drain(reader);
            }
        }
        over.store(true, Ordering::Relaxed);
        let panicked = || Failure::new(Exit::Internal, anyhow::anyhow!("the forwarder panicked"));
        forwarding.join().map_err(|_| panicked())?.map_err(Failure::from)
    })?;
    for reader in &mut readers {
        tally.drain(reader);
    }
    let mut inference = times();
    for monitor in &monitors {
        let [took, _] = monitor.times();
        inference.add(took).map_err(|e| Failure::new(Exit::Internal, e))?;
    }
    let sum = |of: fn(&GuardCounters) -> u64| tally.last.iter().map(of).sum();
    Ok(Row {
        sched: match config.runtime.sched {
            Sched::Fifo(priority) => format!("fifo:{priority}"),
            Sched::Other => "other".to_owned(),
        },
        refused,
        counts: Counts {
            windows: tally.windows,
            fallback_windows: tally.fallback,
            admitted: sum(|c| c.admitted + c.clamped),
            stale: sum(|c| c.stale),
            rejected: sum(|c| c.rejected),
            missed_windows: monitors.iter().map(Monitor::missed_windows).sum(),
            frames: Side::BOTH.iter().map(|side| forwarder.port().counters(*side).tx_frames).sum(),
        },
        admission_us: Times::of(&tally.admission),
        inference_us: Times::of(&inference),
        look_ahead: Ahead::of(&monitors),
    })
}

/// What the lanes have told.
struct Tally {
    admission: Histogram<u64>,
    windows: u64,
    fallback: u64,
    last: [GuardCounters; 2],
}

impl Tally {
    fn drain(&mut self, reader: &mut LaneReader) {
        while let Ok(report) = reader.reports.pop() {
            self.windows += 1;
            if let Some(after) = report.admitted_after {
                self.admission.saturating_record(after.as_nanos());
            }
            if let Some((state, counters)) = report.control {
                self.fallback += u64::from(state == State::Fallback);
                self.last[reader.direction.index()] = counters;
            }
        }
    }
}

fn wait_for(monitor: &Monitor, clock: &Monotonic) -> Result<(), Failure> {
    let until = clock.now() + READY;
    while monitor.stage() == Stage::Loading && clock.now() < until {
        clock.sleep(LOOK);
    }
    if monitor.stage() == Stage::Deciding {
        return Ok(());
    }
    Err(Failure::new(Exit::Host, anyhow::anyhow!("the controller is not ready; the warning above says why")))
}

/// Work that wants the whole core and the caches with it.
fn load(core: Option<usize>, over: &AtomicBool) {
    if let Some(problem) = core.and_then(packet_thread::pin) {
        print::note(&format!("l4sd: warning: load: {problem}"));
    }
    let mut memory = vec![0u8; LOAD_BYTES];
    while !over.load(Ordering::Relaxed) {
        for byte in memory.iter_mut().step_by(64) {
            *byte = byte.wrapping_add(1);
        }
        black_box(&mut memory);
    }
}

fn text(report: &Report) -> String {
    let mut out = String::new();
    let core = |n: Option<usize>| n.map_or("any".to_owned(), |n| n.to_string());
    let _ = writeln!(
        out,
        "{}, {} s a row, forwarder on core {}, controller on core {}, {}, {}",
        report.policy,
        report.duration_s,
        core(report.cores[0]),
        core(report.cores[1]),
        if report.loaded { "both loaded" } else { "no load" },
        if report.quiet { "no frames" } else { "frames at nine tenths of the rate" },
    );
    let _ = writeln!(
        out,
        "{:<10} {:<10} {:>9} {:>9} {:>9} {:>9}  us",
        "class", "time", "P50", "P99", "P99.9", "max"
    );
    for row in &report.rows {
        for (name, t) in [("admission", &row.admission_us), ("inference", &row.inference_us)] {
            let [p50, p99, p999, max] =
                [t.p50, t.p99, t.p999, t.max].map(|us| us.map_or("-".to_owned(), |us| format!("{us:.1}")));
            let _ = writeln!(out, "{:<10} {name:<10} {p50:>9} {p99:>9} {p999:>9} {max:>9}", row.sched);
        }
        let c = &row.counts;
        let _ = writeln!(
            out,
            "{:<10} {} windows, {} admitted, {} stale, {} rejected, {} missed, {} in fallback; {} frames",
            row.sched,
            c.windows,
            c.admitted,
            c.stale,
            c.rejected,
            c.missed_windows,
            c.fallback_windows,
            c.frames
        );
        if let Some(a) = &row.look_ahead {
            let [p50, p99] =
                [a.call_us.p50, a.call_us.p99].map(|us| us.map_or("-".to_owned(), |us| format!("{us:.1}")));
            let _ = writeln!(
                out,
                "{:<10} {} of {} ticks verified, {} of {} drafts accepted, {} plans void, {} calls of {p50} us (P99 {p99})",
                row.sched, a.verified, a.ticks, a.accepted, a.checked, a.voided_plans, a.calls,
            );
        }
        if let Some(why) = &row.refused {
            let _ = writeln!(out, "{:<10} NOT in this class, which was not permitted: {why}", row.sched);
        }
    }
    out
}
