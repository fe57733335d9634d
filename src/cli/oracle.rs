//! `l4sd eval --oracle`: the best constants of each link, found with its hidden truth.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use clap::Args;

use super::eval::{EvalArgs, failure, refused, write};
use super::exit::{Exit, Failure};
use super::print;
use crate::control::model::{FeedForwardRule, ModelFile};
use crate::eval::oracle::{self, OraclePlan};
use crate::eval::plan::{self, Draws};
use crate::eval::runner::RunError;
use crate::eval::{Progress, RecordLog, file, tables};
use crate::runtime::clock::{Clock as _, Monotonic};
use crate::telemetry::features::schema::Schema;
use crate::time::{Instant, Span};

/// Arguments of the search.
#[derive(Debug, Args)]
pub(super) struct OracleArgs {
    /// Search the best constants of each link with its hidden truth, and judge them with fresh seeds: oracle.jsonl, and
    /// no pictures. Links that are there already are not searched again
    #[arg(long, conflicts_with_all = ["policy", "seeds"])]
    pub(super) oracle: bool,
    /// Begin no run of the oracle after so many seconds; links in progress are given up
    #[arg(long, value_name = "SECONDS", requires = "oracle")]
    budget_s: Option<u64>,
    /// Try every setting of the oracle with the feed-forward rule of this model file, as a model that has it would hold it
    #[arg(long, value_name = "FILE", requires = "oracle")]
    feed_forward: Option<PathBuf>,
}

/// The feed-forward rule of a model file.
fn rule(file: &Path) -> Result<FeedForwardRule, Failure> {
    let model = ModelFile::open(Some(file), &Schema::embedded(), None)?;
    model.card.feed_forward_rule.ok_or_else(|| {
        let without = anyhow::anyhow!(
            "{}: it has no feed-forward rule; models/train/feed_forward.py gives it one, or leave --feed-forward out",
            file.display()
        );
        Failure::new(Exit::Data, without)
    })
}

/// Runs it.
pub(super) fn oracle(args: &EvalArgs) -> Result<(), Failure> {
    let clock = Monotonic::start();
    let split = plan::split(&args.split).map_err(refused)?;
    let draws = Draws { split, seed: args.split_seed, draws: args.draws, smoke: args.smoke };
    let mut plan = OraclePlan::new(&args.grids, &draws).map_err(refused)?;
    if let Some(file) = &args.search.feed_forward {
        plan = plan.with_rule(rule(file)?);
    }
    let jobs = args.jobs.or_else(|| available_parallelism().ok()).map_or(1, NonZero::get);
    let units = plan.units();
    let mut log = RecordLog::open_file(&args.out, oracle::FILE, &plan.header, args.fresh).map_err(failure)?;
    let found = units.iter().filter(|u| log.has(u)).count();
    if found > 0 {
        print::note(&format!("l4sd: {found} of {} links are in {} already", units.len(), args.out.display()));
    }
    let until = args.search.budget_s.map(|seconds| Instant::ZERO + Span::from_secs(seconds));
    let in_time = || until.is_none_or(|until| clock.now() < until);
    let progress = Progress::stderr(found, units.len());
    let records = plan.run(&units, &mut log, jobs, &progress, &in_time).map_err(|e| match e {
        RunError::Unit { .. } => Failure::new(Exit::Internal, anyhow::anyhow!("{e}")),
        RunError::Eval(e) => failure(e),
    })?;
    drop(progress);
    let fresh = records.len() - found;
    let runs: u64 = records.iter().map(|r| u64::from(r.runs)).sum();
    print::note(&format!(
        "l4sd: {} of {} links searched, {fresh} of them now; {runs} runs in all; {:.0} s",
        records.len(),
        units.len(),
        clock.now().since(Instant::ZERO).as_secs_f64()
    ));
    if records.is_empty() {
        return Ok(());
    }
    let (design, judgement, results) = oracle::judge(&plan.header, &records, jobs);
    write(&args.out, "results.json", results.as_bytes())?;
    write(&args.out, "table.md", tables::markdown(&design, &judgement).as_bytes())?;
    write(&args.out, "cells.csv", file::cells_csv(&judgement.cells).as_bytes())?;
    if args.json {
        print::text(&results)?;
    } else {
        print::text(&tables::text(&design, &judgement))?;
    }
    Ok(())
}
