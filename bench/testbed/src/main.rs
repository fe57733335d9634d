//! `l4sd-testbed`: the demo, the acceptance cells, the comparison of live runs with measurements and the simulator, and a
//! model's gain live and simulated, on real traffic in namespaces of their own.

#![forbid(unsafe_code)]

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};

use l4sd_testbed::agreement::{self, AgreementError, AgreementSpec, Live};
use l4sd_testbed::cells::{self, CellsError, CellsSpec};
use l4sd_testbed::demo::{self, DemoError, DemoSpec};
use l4sd_testbed::sandbox::{self, Rights, Stop};
use l4sd_testbed::session::SessionError;
use l4sd_testbed::sim_to_real::gate::Gate;
use l4sd_testbed::sim_to_real::{self, SimToRealError, SimToRealSpec};
use l4sd_testbed::tools::{self, Tools};

const INTERRUPTED: u8 = 130;
const HOST: u8 = 69;

#[derive(Debug, Parser)]
#[command(name = "l4sd-testbed", version, about)]
struct Arguments {
    /// The bridge under test [default: beside this program]
    #[arg(long, global = true)]
    l4sd: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// One Prague and one CUBIC flow through 40 Mbit/s at 20 ms, under dualpi2 and the model: live, a table, a picture
    Demo {
        /// Back end: packet or xdp
        #[arg(long, default_value = "packet")]
        port: String,
        /// Policies, comma separated, run one after the other; the others are compared with the first
        #[arg(long, value_delimiter = ',', default_value = "dualpi2,model")]
        policy: Vec<String>,
        /// Measured seconds under each policy, after 3 s of warm-up
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
        seconds: u32,
        /// Where table.md, the picture, results.json and a folder for each run go
        #[arg(long, default_value = "target/demo")]
        out: PathBuf,
    },
    /// The acceptance cells; exit code 1 if a figure lies outside its band
    Cells {
        /// Back end: packet or xdp
        #[arg(long, default_value = "packet")]
        port: String,
        /// Cells by name, comma separated [default: all]
        #[arg(long, value_delimiter = ',')]
        cells: Vec<String>,
        /// Measured seconds of each cell
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(5..=3600))]
        seconds: u32,
        /// Where cells.md, cells.json and a folder a cell go
        #[arg(long, default_value = "target/cells")]
        out: PathBuf,
    },
    /// Measurement, live run and simulator in one table; exit code 1 if the simulator is too far from the measurement
    Agreement {
        /// Back end of the live runs: packet or xdp
        #[arg(long, default_value = "packet")]
        port: String,
        /// Simulator and measurement only
        #[arg(long)]
        no_live: bool,
        /// Measured seconds of each live run, after 5 s of warm-up; the simulator and the step always take the
        /// reference's 30
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(5..=3600))]
        seconds: u32,
        /// Where agreement.md, agreement.json and the runs go
        #[arg(long, default_value = "target/agreement")]
        out: PathBuf,
        /// Date to print in the table's heading
        #[arg(long)]
        date: Option<String>,
        /// Print agreement.json instead of the table
        #[arg(long)]
        json: bool,
    },
    /// Whether a model's gain in the simulator arrives on real traffic (gate G5); exit code 1 if it does not
    SimToReal(SimToRealArguments),
}

#[derive(Debug, Args)]
struct SimToRealArguments {
    /// The model
    #[arg(long, value_name = "FILE", default_value = "models/student.onnx")]
    model: PathBuf,
    /// Back end: packet or xdp
    #[arg(long, default_value = "packet")]
    port: String,
    /// Drawn links of 12 to 120 Mbit/s and 10 to 60 ms; the second has a step of the rate
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=100))]
    links: u16,
    /// Interleaved pairs of runs, DualPI2 and the model, on each link
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pairs: u64,
    /// Measured seconds of each run, after 5 s of warm-up
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(5..=3600))]
    seconds: u32,
    /// Seed of the links
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where sim-to-real.md, sim-to-real.json, the records and the runs go; what is there is not run again
    #[arg(long, default_value = "target/sim-to-real")]
    out: PathBuf,
    /// Run everything again
    #[arg(long)]
    fresh: bool,
    /// Live runs at a time, each on CPUs of its own, at least 2
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    lanes: u16,
    /// The runs of one lane, by their place in the order; their records go to the standard output
    #[arg(long, value_delimiter = ',', hide = true)]
    units: Option<Vec<usize>>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("l4sd-testbed: {}", message(&e));
            ExitCode::from(HOST)
        }
    }
}

/// An error with its causes, without those that it says itself.
fn message(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let tools = Tools::discover();
    let l4sd = bridge(arguments.l4sd.as_deref())?;
    if let Verb::Agreement { no_live: true, .. } = arguments.verb {
        return agree(&arguments.verb, l4sd, Live::Off("not asked for (--no-live)"));
    }
    if let Some(rights) = sandbox::inside() {
        let stop = sandbox::prepare(&tools)?;
        return act(&arguments.verb, l4sd, &tools, rights, &stop);
    }
    if let Verb::SimToReal(arguments) = &arguments.verb
        && arguments.lanes > 1
        && arguments.units.is_none()
    {
        return in_lanes(&arguments.spec(l4sd), &tools);
    }
    let entered = match tools.require(tools::ALL) {
        Ok(()) => {
            let args: Vec<OsString> = env::args_os().skip(1).collect();
            sandbox::enter(&tools, &args).map_err(anyhow::Error::from)
        }
        Err(missing) => Err(missing.into()),
    };
    match (entered, &arguments.verb) {
        (Ok(status), _) => Ok(ExitCode::from(sandbox::exit_code(status))),
        (Err(e), Verb::Demo { .. }) => without_network(&l4sd, &e),
        (Err(e), Verb::Cells { .. } | Verb::SimToReal(_)) => Err(e),
        (Err(e), Verb::Agreement { .. }) => {
            let reason = message(&e);
            sandbox::skipped("the live runs", &reason);
            agree(&arguments.verb, l4sd, Live::Off(&reason))
        }
    }
}

fn act(verb: &Verb, l4sd: PathBuf, tools: &Tools, rights: Rights, stop: &Stop) -> Result<ExitCode> {
    match verb {
        Verb::Demo { port, policy, seconds, out } => {
            let spec = DemoSpec {
                l4sd,
                port: port.clone(),
                policies: policy.clone(),
                seconds: *seconds,
                out: out.clone(),
            };
            match demo::run(&spec, tools, rights, stop) {
                Ok(()) => Ok(ExitCode::SUCCESS),
                Err(DemoError::Session(SessionError::Interrupted)) => Ok(interrupted()),
                Err(e) => Err(e.into()),
            }
        }
        Verb::Cells { port, cells, seconds, out } => {
            let spec = CellsSpec {
                l4sd,
                port: port.clone(),
                seconds: *seconds,
                out: out.clone(),
                cells: cells.clone(),
            };
            match cells::run(&spec, tools, rights, stop) {
                Ok(reports) => {
                    println!("\n{0}/cells.md  {0}/cells.json", out.display());
                    Ok(ExitCode::from(u8::from(!reports.iter().all(cells::CellReport::pass))))
                }
                Err(CellsError::Interrupted) => Ok(interrupted()),
                Err(e) => Err(e.into()),
            }
        }
        Verb::Agreement { .. } => agree(verb, l4sd, Live::On { tools, rights, stop }),
        Verb::SimToReal(arguments) => {
            let spec = arguments.spec(l4sd);
            match &arguments.units {
                None => gate(&spec, sim_to_real::run(&spec, tools, rights, stop)),
                Some(units) => match sim_to_real::run_units(&spec, units, tools, rights, stop) {
                    Ok(()) => Ok(ExitCode::SUCCESS),
                    Err(SimToRealError::Interrupted) => Ok(ExitCode::from(INTERRUPTED)),
                    Err(e) => Err(e.into()),
                },
            }
        }
    }
}

impl SimToRealArguments {
    fn spec(&self, l4sd: PathBuf) -> SimToRealSpec {
        SimToRealSpec {
            l4sd,
            port: self.port.clone(),
            model: self.model.clone(),
            links: usize::from(self.links),
            pairs: self.pairs,
            seconds: self.seconds,
            seed: self.seed,
            out: self.out.clone(),
            fresh: self.fresh,
            lanes: usize::from(self.lanes),
        }
    }
}

fn in_lanes(spec: &SimToRealSpec, tools: &Tools) -> Result<ExitCode> {
    tools.require(&[tools::ALL, tools::LANES].concat())?;
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    gate(spec, sim_to_real::run_in_lanes(spec, tools, &args))
}

fn gate(spec: &SimToRealSpec, outcome: Result<Gate, SimToRealError>) -> Result<ExitCode> {
    match outcome {
        Ok(gate) => {
            print!("{}", gate.markdown());
            eprintln!("{0}/sim-to-real.md  {0}/sim-to-real.json", spec.out.display());
            Ok(ExitCode::from(u8::from(!gate.pass())))
        }
        Err(SimToRealError::Interrupted) => Ok(interrupted()),
        Err(e) => Err(e.into()),
    }
}

fn agree(verb: &Verb, l4sd: PathBuf, live: Live<'_>) -> Result<ExitCode> {
    let Verb::Agreement { port, no_live, seconds, out, date, json } = verb else {
        bail!("only the verb agreement compares");
    };
    let live_args =
        if *no_live { "--no-live".to_owned() } else { format!("--port {port} --seconds {seconds}") };
    let spec = AgreementSpec {
        l4sd,
        port: port.clone(),
        seconds: *seconds,
        out: out.clone(),
        date: date.clone(),
        command: format!("make agreement AGREE_ARGS=\"{live_args}\""),
    };
    match agreement::run(&spec, live) {
        Ok(report) => {
            if *json {
                println!("{}", report.to_json());
            } else {
                println!("\n{}", agreement::table::markdown(&report));
            }
            eprintln!("{0}/agreement.md  {0}/agreement.json", out.display());
            Ok(ExitCode::from(u8::from(!report.pass())))
        }
        Err(AgreementError::Interrupted) => Ok(interrupted()),
        Err(e) => Err(e.into()),
    }
}

fn interrupted() -> ExitCode {
    eprintln!("interrupted; everything was taken down");
    ExitCode::from(INTERRUPTED)
}

fn without_network(l4sd: &Path, why: &anyhow::Error) -> Result<ExitCode> {
    println!("No real traffic on this host: {}", message(why));
    println!("Running the built-in generator instead: l4sd bench");
    let status = Command::new(l4sd).arg("bench").status().context("cannot start l4sd bench")?;
    Ok(ExitCode::from(sandbox::exit_code(status)))
}

fn bridge(given: Option<&Path>) -> Result<PathBuf> {
    let path = match given {
        Some(path) => std::path::absolute(path)?,
        None => env::current_exe().context("cannot tell where this program is")?.with_file_name("l4sd"),
    };
    if !path.is_file() {
        bail!("no l4sd at {}; build it with `cargo build --release` or name it with --l4sd", path.display());
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let said = |outer: &str| message(&anyhow::anyhow!("no device").context(outer.to_owned()));
        assert_eq!(said("run 3"), "run 3: no device");
        assert_eq!(said("run 3: no device; make tools"), "run 3: no device; make tools");
    }
}
