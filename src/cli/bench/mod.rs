//! `l4sd bench`: what the packet path does in memory; or, with `--gen`, what a device between two ports of this host
//! does to a generated load.

mod load;
mod memory;
mod print;

use clap::Args;

pub(super) use memory::{HALF_AND_HALF, frames};

use super::exit::Failure;
use crate::time::Span;
use crate::units;

/// Arguments of `l4sd bench`.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
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

/// Runs the verb.
pub(super) fn bench(args: &BenchArgs) -> Result<(), Failure> {
    if args.load.is_wanted() { load::run(args) } else { memory::bench(args) }
}
