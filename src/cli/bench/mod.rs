//! `l4sd bench`: what the packet path does in memory; or, with `--gen`, what a device between two ports of this host
//! does to a generated load; or, with `controller`, how soon decisions are in force.

mod controller;
mod load;
mod memory;
mod paced;
mod print;

use clap::{Args, Subcommand};

pub(super) use memory::{HALF_AND_HALF, frames};

use super::exit::Failure;
use crate::time::Span;
use crate::units;

/// Arguments of `l4sd bench`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// How long to measure each row, or to send in each trial
    #[arg(long, value_name = "TIME", value_parser = units::parse_span, default_value = "1s")]
    duration: Span,
    /// In memory: buffers in the pool; 256 stays in the first cache, 65536 in none
    #[arg(long, value_name = "N", default_value_t = 4096)]
    buffers: u32,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    load: load::LoadArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Measure how long after its window a decision is in force, at real pace
    Controller(controller::ControllerArgs),
}

/// Runs the verb.
pub(super) fn bench(args: &BenchArgs) -> Result<(), Failure> {
    match &args.what {
        Some(What::Controller(args)) => controller::bench(args),
        None if args.load.is_wanted() => load::run(args),
        None => memory::bench(args),
    }
}
