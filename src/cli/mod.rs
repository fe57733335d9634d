//! The command line: one file a verb. The only place that knows exit codes, prints to standard output, and uses
//! `anyhow`.

mod audit;
mod bench;
mod check;
mod controller;
mod eval;
mod exit;
mod keeper;
mod live;
mod logging;
mod look_ahead;
mod model;
mod netmap;
mod oracle;
mod pidfile;
mod policies;
mod print;
mod record;
mod reload;
mod run;
mod sim;
mod sink;
mod target;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use exit::{Exit, Failure};

/// A userspace L4S packet forwarder: a bridge that is the bottleneck of its link and keeps its queues short with the
/// DualQ Coupled AQM of RFC 9332.
#[derive(Debug, Parser)]
#[command(name = "l4sd", version, max_term_width = 110, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 ok, 64 usage, 65 data or model, 69 interface or host, 70 internal, \
                        77 privilege, 78 configuration.")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Forward between two ports until stopped
    Run(Box<run::RunArgs>),
    /// Have a running `run` reread its configuration, and say what came of it
    Reload(reload::ReloadArgs),
    /// Run scenarios in virtual time, with models of senders around the same queues
    Sim(sim::SimArgs),
    /// Run grids of drawn links under policies and judge them against dualpi2
    Eval(eval::EvalArgs),
    /// Say whether the configuration and this host are fit for `run`; changes nothing
    Check(check::CheckArgs),
    /// Say whether a file is a model that can be used here, and what it is
    Model(model::ModelArgs),
    /// Measure the packet path in memory, or send a load through a device and count (--gen)
    Bench(Box<bench::BenchArgs>),
    /// Keep netmap ports open and lend them to `run`, so that a restart neither loses the link nor the mode
    Keeper(keeper::KeeperArgs),
}

/// Runs the program. Errors are one line on standard error.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let exit = if e.use_stderr() { Exit::Usage } else { Exit::Ok };
            // Nothing is left to say if standard error is gone.
            let _ = e.print();
            return exit.into();
        }
    };
    let outcome = match cli.verb {
        Verb::Run(args) => run::run(*args),
        Verb::Reload(args) => reload::reload(&args),
        Verb::Sim(args) => sim::sim(&args),
        Verb::Eval(args) => eval::eval(&args),
        Verb::Keeper(args) => keeper::keeper(&args),
        Verb::Check(args) => check::check(&args),
        Verb::Model(args) => model::model(&args),
        Verb::Bench(args) => bench::bench(&args),
    };
    match outcome {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            print::note(&format!("l4sd: {failure}"));
            failure.exit.into()
        }
    }
}
