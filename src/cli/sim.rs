//! `l4sd sim`: scenarios under policies and seeds, in virtual time.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::exit::{Exit, Failure};
use super::policies;
use super::print;
use super::record::Recorder;
use crate::aqm::params::Knobs;
use crate::config::Policy;
use crate::report::{self, DirectionReport, ReportError, ResultFile};
use crate::sim::run::WindowSink;
use crate::sim::{self, Scenario};
use crate::telemetry::TelemetryWindow;
use crate::telemetry::features::dataset::RecordError;

/// Arguments of `l4sd sim`.
#[derive(Debug, Args)]
pub(super) struct SimArgs {
    /// Scenario files
    #[arg(value_name = "SCENARIO.toml", required = true)]
    scenarios: Vec<PathBuf>,
    /// Policies: dualpi2, dualpi2-linux, dualpi2-tuned, dualpi2-ff, dualpi2-rules, dualpi2:target=5ms, pi2, codel, taildrop, model, model:FILE,
    /// replay:FILE, lookahead:arm=... (docs/lookahead.md); several with commas or by repeating [default: dualpi2,model]
    #[arg(long, value_name = "POLICY", value_delimiter = ',')]
    policy: Vec<Policy>,
    /// Seed, in place of the scenario's
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run this many seeds, from the scenario's on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: Option<u64>,
    /// Folder for results.json and table.md
    #[arg(long, value_name = "DIR", default_value = "l4sd-out")]
    out: PathBuf,
    /// Also write what a policy would have seen, window by window: a CSV file per run under DIR/record, with the features
    /// and actions of models/schema.toml
    #[arg(long)]
    record: bool,
    /// Print the result object instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the verb: scenario by scenario, policy by policy, seed by seed.
pub(super) fn sim(args: &SimArgs) -> Result<(), Failure> {
    let scenarios = args
        .scenarios
        .iter()
        .map(|path| Scenario::load(path))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Failure::new(Exit::Config, e))?;
    let policies = policies::chosen(&args.policy, Policy::DualPi2)?;
    // Before hours of simulation rather than after them.
    folder(&args.out)?;
    let mut reports = Vec::new();
    for scenario in &scenarios {
        for policy in &policies {
            let first = args.seed.unwrap_or(scenario.seed);
            for seed in (first..).take(args.seeds.unwrap_or(1) as usize) {
                let report = if args.record {
                    let name = format!("{}-{policy}-{seed}.csv", scenario.name).replace(['/', ':'], "_");
                    recorded(scenario, policy, seed, &args.out.join("record").join(name))?
                } else {
                    sim::run(scenario, policy, seed).map_err(|e| Failure::new(Exit::Data, e))?
                };
                if let Some(error) = &report.conservation_error {
                    let error = anyhow::anyhow!("{}: the account does not close: {error}", scenario.name);
                    return Err(Failure::new(Exit::Internal, error));
                }
                reports.push(report);
            }
        }
    }
    let results = ResultFile::new(reports.iter().map(|r| r.result.clone()).collect()).to_json();
    write(&args.out, &results, &report::markdown(&reports))?;
    if args.json {
        print::text(&results)?;
    } else {
        for one in &reports {
            let table = report::text(std::slice::from_ref(one));
            print::line(&format!("{}{}", table.trim_end(), flows(one)))?;
        }
    }
    Ok(())
}

impl WindowSink for Recorder {
    fn window(&mut self, window: &TelemetryWindow, in_force: &Knobs) {
        // The error is told by `finish`.
        let _ = self.take(window, in_force);
    }
}

/// A run whose windows go into `file`.
fn recorded(
    scenario: &Scenario,
    policy: &Policy,
    seed: u64,
    file: &Path,
) -> Result<DirectionReport, Failure> {
    let failed = |e: RecordError| Failure::new(Exit::Host, e);
    let mut recorder = Recorder::new(file).map_err(failed)?;
    let run = sim::run::run_detailed(scenario, policy, seed, &mut recorder)
        .map_err(|e| Failure::new(Exit::Data, e))?;
    recorder.finish().map_err(failed)?;
    Ok(run.report)
}

/// A line per flow.
fn flows(report: &DirectionReport) -> String {
    let mut out = String::from("\n");
    for f in &report.result.flows {
        let goodput = f.goodput_mbps.unwrap_or(0.0);
        let _ = write!(out, "  {:<12} {goodput:>9.3} Mbit/s of data", f.name);
        if let Some(again) = f.retransmits {
            let _ = write!(out, ", {again} packets sent again");
        }
        out.push('\n');
    }
    for (i, recovery) in report.result.recovery_ms.iter().enumerate() {
        let _ = match recovery {
            Some(ms) => writeln!(out, "  recovery from step {}: {ms:.0} ms", i + 1),
            None => writeln!(out, "  recovery from step {}: none", i + 1),
        };
    }
    out
}

fn folder(dir: &Path) -> Result<(), ReportError> {
    std::fs::create_dir_all(dir).map_err(|source| ReportError::Write { path: dir.to_owned(), source })
}

fn write(dir: &Path, results: &str, table: &str) -> Result<(), ReportError> {
    for (name, text) in [("results.json", results), ("table.md", table)] {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|source| ReportError::Write { path, source })?;
    }
    Ok(())
}
