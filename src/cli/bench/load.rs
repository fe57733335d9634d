//! `l4sd bench --gen PORT --sink PORT`: sends a load into a device and counts what comes out of it; `--ndr` looks for
//! the highest rate without loss, `--pcap` writes the frames to a file for other generators.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use l4sd_netmap::Netmap;
use serde::Serialize;

use super::{BenchArgs, print};
use crate::cli::exit::{Exit, Failure};
use crate::cli::print as say;
use crate::config::{PortKind, PortSpec};
use crate::load::search::{self, Found, Limits};
use crate::load::trial::{self, Plan, TrialResult};
use crate::load::{Generator, Loopback, Mix, MixError, Offer, SIZES, Source, Weighted, capture, parse_sizes};
use crate::port::{Originate, PortError};
use crate::runtime::clock::Monotonic;
use crate::runtime::thread;
use crate::time::Span;
use crate::wire::Ecn;
use crate::wire::build::IpVersion;

/// What to send, where, and what to look for.
#[derive(Debug, Args)]
#[command(next_help_heading = "Load on real ports")]
#[group(skip)]
pub(super) struct LoadArgs {
    /// Send on this port: packet:eth0, xdp:eth0 or netmap:eth0; mem: is looped to its sink (the generator's own limit)
    #[arg(long, value_name = "PORT", requires = "sink", group = "load")]
    r#gen: Option<PortSpec>,
    /// Receive on this port, of the same kind, on the other side of the device under test
    #[arg(long, value_name = "PORT", requires = "gen")]
    sink: Option<PortSpec>,
    /// Frame sizes with FCS and their weights: 64, 64=7,594=4,1518=1, or imix for that
    #[arg(long, value_name = "LIST", value_parser = parse_sizes, default_value = "64", requires = "load")]
    size: Weighted<u16>,
    /// One trial or search for each of 64, 128, 256, 512, 1024, 1280 and 1518 bytes (RFC 2544)
    #[arg(long, requires = "gen", conflicts_with = "size")]
    sweep: bool,
    /// Codepoints and their weights: ect1=1,not_ect=1
    #[arg(long, value_name = "LIST", default_value = "ect1,not_ect", requires = "load")]
    ecn: Weighted<Ecn>,
    /// IP versions and their weights: 4=1,6=1
    #[arg(long, value_name = "LIST", default_value = "4", requires = "load")]
    ip: Weighted<IpVersion>,
    /// Flows of each codepoint and IP version
    #[arg(long, value_name = "N", default_value_t = 16, requires = "load")]
    flows: u16,
    /// Load: 20kpps, 1.5Mpps, 40Mbit (without FCS), or line for as fast as it goes
    #[arg(long, value_name = "RATE", default_value = "line", requires = "load")]
    rate: Offer,
    /// Seed of the order of frames
    #[arg(long, value_name = "N", default_value_t = 1, requires = "load")]
    seed: u64,
    /// Search for the non-drop rate, the highest with a loss of --loss at most
    #[arg(long, requires = "gen", conflicts_with = "rate")]
    ndr: bool,
    /// Loss that a trial of --ndr may have, percent
    #[arg(long, value_name = "PERCENT", value_parser = percent, default_value = "0", requires = "ndr")]
    loss: f64,
    /// How closely --ndr looks, percent of the rate
    #[arg(long, value_name = "PERCENT", value_parser = percent, default_value = "1", requires = "ndr")]
    resolution: f64,
    /// Pin the generator to this core
    #[arg(long, value_name = "N", requires = "gen")]
    core: Option<usize>,
    /// Write every trial as a row of this CSV file
    #[arg(long, value_name = "FILE", requires = "gen")]
    csv: Option<PathBuf>,
    /// Write one cycle of the frames to this pcap file
    #[arg(long, value_name = "FILE", group = "load", conflicts_with = "sweep")]
    pcap: Option<PathBuf>,
}

fn percent(text: &str) -> Result<f64, String> {
    let share = text.trim_end_matches('%').trim().parse::<f64>().ok().filter(|p| (0.0..=100.0).contains(p));
    share.map(|p| p / 100.0).ok_or_else(|| "a percentage is 0 to 100".to_owned())
}

impl LoadArgs {
    /// Whether any of it was asked for.
    pub(super) const fn is_wanted(&self) -> bool {
        self.r#gen.is_some() || self.pcap.is_some()
    }

    fn mix(&self) -> Result<Mix, MixError> {
        Mix::new(self.size.clone(), self.ecn.clone(), self.ip.clone(), self.flows)
    }

    /// The loads to try, one after the other.
    fn mixes(&self) -> Result<Vec<Mix>, MixError> {
        if self.sweep {
            SIZES
                .iter()
                .map(|&size| Mix::new(Weighted::only(size), self.ecn.clone(), self.ip.clone(), self.flows))
                .collect()
        } else {
            self.mix().map(|mix| vec![mix])
        }
    }
}

/// All that `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema: u32,
    /// What was run, in the words of the command line.
    pub(super) load: Setup,
    /// One for each mix, unless searches were asked for.
    pub(super) trials: Vec<TrialResult>,
    /// One for each mix, if searches were asked for.
    pub(super) searches: Vec<Search>,
}

/// What was sent, and where.
#[derive(Debug, Serialize)]
pub(super) struct Setup {
    pub(super) r#gen: String,
    pub(super) sink: String,
    pub(super) mixes: Vec<String>,
    pub(super) seed: u64,
    pub(super) duration_s: f64,
    pub(super) loss_limit: Option<f64>,
    pub(super) resolution: Option<f64>,
}

/// A search and the size it was made with.
#[derive(Debug, Serialize)]
pub(super) struct Search {
    pub(super) frame_bytes: f64,
    #[serde(flatten)]
    pub(super) found: Found,
}

fn usage(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(Exit::Usage, error)
}

/// Runs the load.
pub(super) fn run(args: &BenchArgs) -> Result<(), Failure> {
    let load = &args.load;
    if args.duration == Span::ZERO {
        return Err(usage(anyhow::anyhow!("--duration must be longer than nothing")));
    }
    let mixes = load.mixes().map_err(usage)?;
    if let Some(file) = &load.pcap {
        write_pcap(file, &load.mix().map_err(usage)?, load)?;
    }
    let (Some(from), Some(to)) = (&load.r#gen, &load.sink) else { return Ok(()) };
    if from.kind() != to.kind() {
        return Err(usage(anyhow::anyhow!(
            "{from} and {to} are of different kinds; use two packet:, two xdp: or two netmap: ports"
        )));
    }
    let report = match from.kind() {
        #[cfg(target_os = "linux")]
        PortKind::Packet => {
            use crate::port::packet::{PacketOptions, PacketPort};
            let names = [from, to].map(|port| port.interface().unwrap_or(""));
            over(PacketPort::open(names[0], names[1], PacketOptions::default())?, args, &mixes)?
        }
        #[cfg(target_os = "linux")]
        PortKind::Xdp => {
            use crate::port::xdp::{XdpOptions, XdpPort};
            let names = [from, to].map(|port| port.interface().unwrap_or(""));
            let options = XdpOptions { held: 2048, ..XdpOptions::default() };
            over(XdpPort::open(names[0], names[1], &options)?, args, &mixes)?
        }
        PortKind::Netmap => {
            use crate::port::netmap::{NetmapOptions, NetmapPort};
            let names = [from, to].map(ToString::to_string);
            let options = NetmapOptions { held: 2048, ..NetmapOptions::default() };
            let (port, mode) = NetmapPort::open(&Netmap::real(), [&names[0], &names[1]], options)?;
            say::note(&format!("l4sd: netmap: {mode}"));
            over(port, args, &mixes)?
        }
        PortKind::Mem => over(Loopback::new(|_: &mut [u8], _| true), args, &mixes)?,
        #[cfg(not(target_os = "linux"))]
        other => {
            let reason = format!("this build has no {other:?} port on this operating system");
            return Err(PortError::Spec { port: from.to_string(), reason }.into());
        }
    };
    if let Some(file) = &load.csv {
        write(file, &print::csv(&report))?;
    }
    if args.json {
        let json = serde_json::to_string_pretty(&report).map_err(|e| Failure::new(Exit::Internal, e))?;
        say::line(&json)?;
    } else {
        say::text(&print::table(&report))?;
    }
    arrived(&report)
}

/// A load of which nothing arrived is a mistake in the set-up, not a result.
fn arrived(report: &Report) -> Result<(), Failure> {
    let searches = report.searches.iter().flat_map(|s| s.found.steps.iter().map(|step| &step.trial));
    let (sent, received) =
        searches.chain(&report.trials).fold((0, 0), |(s, r), t| (s + t.sent, r + t.received));
    if received > 0 {
        return Ok(());
    }
    let Setup { r#gen, sink, .. } = &report.load;
    Err(Failure::new(
        Exit::Host,
        anyhow::anyhow!(
            "none of {sent} frames sent on {gen} arrived at {sink}: is the device between them up and forwarding?"
        ),
    ))
}

/// Runs every mix through the ports.
fn over<P: Originate>(port: P, args: &BenchArgs, mixes: &[Mix]) -> Result<Report, Failure> {
    let load = &args.load;
    let stop = stop_on_signals()?;
    let core = load.core.and_then(thread::pin);
    for problem in thread::schedule(None, false).into_iter().chain(core) {
        say::note(&format!("l4sd: warning: {problem}"));
    }
    let name = |port: &Option<PortSpec>| port.as_ref().map_or_else(String::new, ToString::to_string);
    let mut report = Report {
        schema: 1,
        load: Setup {
            r#gen: name(&load.r#gen),
            sink: name(&load.sink),
            mixes: mixes.iter().map(ToString::to_string).collect(),
            seed: load.seed,
            duration_s: args.duration.as_secs_f64(),
            loss_limit: load.ndr.then_some(load.loss),
            resolution: load.ndr.then_some(load.resolution),
        },
        trials: Vec::new(),
        searches: Vec::new(),
    };
    let clock = Monotonic::start();
    let Some(first) = mixes.first() else { return Ok(report) };
    let mut generator = Generator::new(port, Source::new(first, load.seed));
    for mix in mixes {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let size = mix.mean_size();
        generator.set_source(Source::new(mix, load.seed));
        let mut try_one = |offer| {
            let plan = Plan { offer, duration: args.duration };
            let result = trial::run(&mut generator, &clock, plan, size, &stop)?;
            print::warn(&result, load.ndr);
            Ok::<_, PortError>(result)
        };
        if load.ndr {
            let limits = Limits { loss: load.loss, resolution: load.resolution };
            let found = search::ndr(limits, |offer| {
                let result = try_one(offer)?;
                say::note(&print::step(&result, load.loss));
                Ok::<_, PortError>(result)
            })?;
            report.searches.push(Search { frame_bytes: size, found });
        } else {
            report.trials.push(try_one(load.rate)?);
        }
    }
    Ok(report)
}

/// Set by the first signal, which ends the trial; the second ends the process.
fn stop_on_signals() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|e| Failure::new(Exit::Internal, e))?;
    }
    Ok(stop)
}

fn cannot_write(file: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Host, anyhow::anyhow!("cannot write {}: {why}", file.display()))
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(|e| cannot_write(file, e))
}

fn write_pcap(file: &Path, mix: &Mix, load: &LoadArgs) -> Result<(), Failure> {
    let out = File::create(file).map_err(|e| cannot_write(file, e))?;
    let frames =
        capture::write(mix, load.seed, load.rate, BufWriter::new(out)).map_err(|e| cannot_write(file, e))?;
    say::note(&format!("{}: {frames} frames of {mix}", file.display()));
    Ok(())
}
