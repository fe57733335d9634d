//! `l4sd eval`: grids of drawn links under policies, judged against `dualpi2`.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use clap::Args;

use super::audit::AuditArgs;
use super::exit::{Exit, Failure};
use super::oracle::OracleArgs;
use super::policies;
use super::print;
use crate::config::Policy;
use crate::control::guard::GuardParams;
use crate::eval::plan::{self, Draws, PlanError};
use crate::eval::runner::{self, RunError};
use crate::eval::{EvalError, EvalPlan, Progress, RecordLog, file, plots, tables};
use crate::report::ReportError;
use crate::time::Span;
use crate::units;

/// Arguments of `l4sd eval`.
#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// Grids: rfc9332, flows, rtt, steps, overload, web, bursty, variable, lowrate, switch, impaired, smoke; or scenario files, each one
    /// cell [default: all grids but smoke]
    #[arg(value_name = "GRID")]
    pub(super) grids: Vec<String>,
    /// Policies, beside dualpi2: dualpi2-linux, dualpi2-tuned, dualpi2-ff, dualpi2-rules, dualpi2:target=5ms, pi2, codel, taildrop, model, model:FILE,
    /// replay:FILE, lookahead:arm=... (docs/lookahead.md); several with commas or by repeating [default: dualpi2-tuned,model]
    #[arg(long, value_name = "POLICY", value_delimiter = ',')]
    pub(super) policy: Vec<Policy>,
    /// Which links are drawn
    #[arg(long, value_name = "SPLIT", value_parser = ["train", "low", "dev", "test"], default_value = "dev")]
    pub(super) split: String,
    /// Seed that the links of the split are drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) split_seed: u64,
    /// Runs of each link and policy; dualpi2 is run as often again, to be compared with itself
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub(super) seeds: u64,
    /// Links drawn near each point of a grid
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) draws: u32,
    /// Three cells of each grid, 10 s each
    #[arg(long, conflicts_with = "draws")]
    pub(super) smoke: bool,
    /// From the close of a window to the decision in force, in place of the scenarios' decision_latency
    #[arg(long, value_name = "TIME", value_parser = units::parse_span, conflicts_with_all = ["audit", "oracle"])]
    pub(super) decision_latency: Option<Span>,
    /// The guard takes no decision whose window closed longer ago, as with control.t_expire [default: 32ms]
    #[arg(long, value_name = "TIME", value_parser = units::parse_span, conflicts_with_all = ["audit", "oracle"])]
    pub(super) t_expire: Option<Span>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub(super) jobs: Option<NonZero<usize>>,
    /// Folder for results.json, table.md, cells.csv and pictures, and for records.jsonl: runs that are there already
    /// are not made again
    #[arg(long, value_name = "DIR", default_value = "l4sd-out")]
    pub(super) out: PathBuf,
    /// Print the result object instead of tables
    #[arg(long)]
    pub(super) json: bool,
    /// Make all runs again, whatever DIR has
    #[arg(long)]
    pub(super) fresh: bool,
    #[command(flatten)]
    pub(super) search: OracleArgs,
    #[command(flatten)]
    pub(super) check: AuditArgs,
}

/// Runs the verb.
pub(super) fn eval(args: &EvalArgs) -> Result<(), Failure> {
    if args.search.oracle {
        return super::oracle::oracle(args);
    }
    if args.check.audit {
        return super::audit::audit(args);
    }
    let split = plan::split(&args.split).map_err(refused)?;
    in_time(args.decision_latency, args.t_expire)?;
    let draws = Draws { split, seed: args.split_seed, draws: args.draws, smoke: args.smoke };
    let policies = policies::chosen(&args.policy, Policy::DualPi2Tuned)?;
    let plan = EvalPlan::new(&args.grids, &policies, &draws, args.seeds).map_err(refused)?;
    let plan = plan.with_latency(args.decision_latency, args.t_expire);
    let jobs = args.jobs.or_else(|| available_parallelism().ok()).map_or(1, NonZero::get);
    let design = &plan.design;
    let definitions = plan.policies.iter().map(plan::definition).collect::<Result<Vec<_>, _>>()?;
    let units = plan.units(|p| definitions[p].clone());
    let mut log = RecordLog::open(&args.out, &plan.header, args.fresh).map_err(failure)?;
    let found = units.iter().filter(|u| log.has(u)).count();
    if found > 0 {
        print::note(&format!("l4sd: {found} of {} runs are in {} already", units.len(), args.out.display()));
    }
    let progress = Progress::stderr(found, units.len());
    let records =
        runner::run(&units, &mut log, jobs, &progress, |unit| plan.run(unit.cell, unit.policy, unit.seed))
            .map_err(|e| match e {
                RunError::Unit { .. } => Failure::new(Exit::Internal, anyhow::anyhow!("{e}")),
                RunError::Eval(e) => failure(e),
            })?;
    drop(progress);
    let (judgement, results) = plan.judge(&records, jobs).map_err(failure)?;
    write(&args.out, "results.json", results.as_bytes())?;
    write(&args.out, "table.md", tables::markdown(design, &judgement).as_bytes())?;
    write(&args.out, "cells.csv", file::cells_csv(&judgement.cells).as_bytes())?;
    if args.json {
        print::text(&results)?;
    } else {
        print::text(&tables::text(design, &judgement))?;
    }
    for picture in plots::draw(design, &records, &judgement)? {
        write(&args.out, &format!("{}.svg", picture.name), picture.svg.as_bytes())?;
        write(&args.out, &format!("{}.png", picture.name), &picture.png()?)?;
    }
    Ok(())
}

/// Whether a decision can be in force before it is stale.
fn in_time(latency: Option<Span>, expires: Option<Span>) -> Result<(), Failure> {
    let expires = expires.unwrap_or(GuardParams::default().expires);
    match latency {
        Some(latency) if latency > expires => Err(Failure::new(
            Exit::Usage,
            anyhow::anyhow!(
                "--decision-latency {latency} is longer than --t-expire {expires}: each decision would be stale when it comes; \
                 say a longer --t-expire as well"
            ),
        )),
        _ => Ok(()),
    }
}

pub(super) fn refused(e: PlanError) -> Failure {
    match e {
        PlanError::Scenario(e) => Failure::new(Exit::Config, e),
        e => Failure::new(Exit::Usage, e),
    }
}

pub(super) fn failure(e: EvalError) -> Failure {
    let exit = match e {
        EvalError::File { .. } | EvalError::Report(_) | EvalError::Busy { .. } => Exit::Host,
        EvalError::Foreign { .. } | EvalError::Damaged { .. } => Exit::Data,
        EvalError::Unfit { .. } | EvalError::Missing(_) => Exit::Internal,
    };
    Failure::new(exit, e)
}

pub(super) fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), ReportError> {
    let path = dir.join(name);
    std::fs::write(&path, bytes).map_err(|source| ReportError::Write { path, source })
}
