//! `l4sd eval`: grids of drawn links under policies, judged against `dualpi2`.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use clap::Args;

use super::exit::{Exit, Failure};
use crate::config::Policy;
use crate::eval::runner::{self, RunError};
use crate::eval::{
    self, CellInfo, CellRecord, Design, EvalError, Header, Progress, RecordLog, bootstrap, file, plots,
    tables,
};
use crate::report::result::PerQueue;
use crate::report::{Bin, ReportError};
use crate::sim::{self, Scenario};
use crate::wire::Ecn;

/// Arguments of `l4sd eval`.
#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// Scenario files, each one cell
    #[arg(value_name = "GRID", required = true)]
    grids: Vec<String>,
    /// Policies, beside dualpi2: dualpi2-linux, pi2, codel, taildrop; several with commas or by repeating
    #[arg(long, value_name = "POLICY", value_delimiter = ',', required = true)]
    policy: Vec<Policy>,
    /// Which links are drawn
    #[arg(long, value_name = "SPLIT", value_parser = ["train", "dev", "test"], default_value = "dev")]
    split: String,
    /// Seed that the links of the split are drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    split_seed: u64,
    /// Runs of each link and policy; dualpi2 is run as often again, to be compared with itself
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    /// Folder for results.json, table.md, cells.csv and pictures, and for records.jsonl: runs that are there already
    /// are not made again
    #[arg(long, value_name = "DIR", default_value = "l4sd-out")]
    out: PathBuf,
    /// Print the result object instead of tables
    #[arg(long)]
    json: bool,
    /// Make all runs again, whatever DIR has
    #[arg(long)]
    fresh: bool,
}

/// What is to be done, validated.
#[derive(Debug)]
struct EvalPlan {
    /// The links.
    cells: Vec<(CellInfo, Scenario)>,
    /// The first is `dualpi2`.
    policies: Vec<Policy>,
    design: Design,
    header: Header,
    jobs: usize,
}

impl EvalPlan {
    fn new(args: &EvalArgs) -> Result<Self, Failure> {
        let policies = policies(&args.policy)?;
        let cells = cells(&args.grids, &args.split, args.split_seed)?;
        let infos = cells.iter().map(|(info, _)| info.clone()).collect();
        let design = Design::new(infos, policies.iter().map(ToString::to_string), args.seeds);
        let header = Header::new(&args.split, args.split_seed);
        let jobs = args.jobs.or_else(|| available_parallelism().ok()).map_or(1, NonZero::get);
        Ok(Self { cells, policies, design, header, jobs })
    }
}

/// Runs the verb.
pub(super) fn eval(args: &EvalArgs) -> Result<(), Failure> {
    let plan = EvalPlan::new(args)?;
    let design = &plan.design;
    let units = design.units(
        |c| format!("{:?}", plan.cells[c].1),
        |p| format!("{:?}", plan.policies[p]),
        |c| plan.cells[c].1.rate.as_bps() as f64 * plan.cells[c].1.duration.as_secs_f64(),
    );
    let mut log = RecordLog::open(&args.out, &plan.header, args.fresh).map_err(failure)?;
    let found = units.iter().filter(|u| log.has(u)).count();
    if found > 0 {
        eprintln!("l4sd: {found} of {} runs are in {} already", units.len(), args.out.display());
    }
    let progress = Progress::stderr(found, units.len());
    let records = runner::run(&units, &mut log, plan.jobs, &progress, |unit| {
        let (cell, scenario) = &plan.cells[unit.cell];
        simulate(cell, scenario, &plan.policies[unit.policy], unit.seed)
    })
    .map_err(|e| match e {
        RunError::Unit { .. } => Failure::new(Exit::Internal, anyhow::anyhow!("{e}")),
        RunError::Eval(e) => failure(e),
    })?;
    drop(progress);
    let judgement = eval::judge(design, &records, bootstrap::DRAWS, plan.jobs).map_err(failure)?;
    let results = file::EvalFile::new(design, &plan.header, &records, &judgement).to_json();
    write(&args.out, "results.json", results.as_bytes())?;
    write(&args.out, "table.md", tables::markdown(design, &judgement).as_bytes())?;
    write(&args.out, "cells.csv", file::cells_csv(&judgement.cells).as_bytes())?;
    if args.json {
        print!("{results}");
    } else {
        print!("{}", tables::text(design, &judgement));
    }
    for picture in plots::draw(design, &records, &judgement)? {
        write(&args.out, &format!("{}.svg", picture.name), picture.svg.as_bytes())?;
        write(&args.out, &format!("{}.png", picture.name), &picture.png()?)?;
    }
    Ok(())
}

/// The baseline, then the others, each once; two that results would call the same are refused.
fn policies(wanted: &[Policy]) -> Result<Vec<Policy>, Failure> {
    let mut policies = vec![Policy::DualPi2];
    for policy in wanted {
        if policies.contains(policy) {
            continue;
        }
        let name = policy.to_string();
        if policies.iter().any(|p| p.to_string() == name) {
            let error = anyhow::anyhow!(
                "two policies are both called '{name}' in results; evaluate them one by one, with another --out each"
            );
            return Err(Failure::new(Exit::Usage, error));
        }
        if matches!(policy, Policy::Replay(_)) {
            let error =
                anyhow::anyhow!("policy '{name}' only works live; take one of those that `l4sd sim` runs");
            return Err(Failure::new(Exit::Usage, error));
        }
        policies.push(policy.clone());
    }
    Ok(policies)
}

/// The links of these grids in a split.
fn cells(grids: &[String], _split: &str, _split_seed: u64) -> Result<Vec<(CellInfo, Scenario)>, Failure> {
    let mut cells: Vec<(CellInfo, Scenario)> = Vec::new();
    for grid in grids {
        let scenario = Scenario::load(Path::new(grid)).map_err(|e| Failure::new(Exit::Config, e))?;
        let cell = file_cell(&scenario);
        if cells.iter().any(|(c, _)| *c == cell) {
            let error =
                anyhow::anyhow!("{grid}: there is another scenario called '{}'; rename one", cell.name);
            return Err(Failure::new(Exit::Config, error));
        }
        cells.push((cell, scenario));
    }
    Ok(cells)
}

/// A scenario file as a cell of the grid `files`.
fn file_cell(scenario: &Scenario) -> CellInfo {
    let l = scenario.flows.iter().filter(|f| matches!(f.spec.ecn, Ecn::Ect1 | Ecn::Ce)).count();
    let mix = match (l, scenario.flows.len() - l) {
        (l, 0) if l > 0 => "l_only".to_owned(),
        (0, _) => "c_only".to_owned(),
        (l, c) => format!("{l}v{c}"),
    };
    CellInfo { grid: "files".to_owned(), name: scenario.name.clone(), mix, bursty: false, mice: false }
}

/// Why a run has no record.
#[derive(Debug, thiserror::Error)]
enum SimulateError {
    #[error(transparent)]
    Sim(#[from] sim::run::SimError),
    #[error("the account does not close: {0}")]
    Account(String),
}

/// One run. Percentiles of delay beyond those of the result object are not known here.
fn simulate(
    cell: &CellInfo,
    scenario: &Scenario,
    policy: &Policy,
    seed: u64,
) -> Result<CellRecord, SimulateError> {
    let report = sim::run(scenario, policy, seed)?;
    if let Some(error) = report.conservation_error {
        return Err(SimulateError::Account(error));
    }
    let (delay_over_time_ms, utilization_over_time) = per_second(&report.bins);
    Ok(CellRecord {
        cell: cell.clone(),
        policy: policy.to_string(),
        seed,
        run: report.result,
        delay_percentiles_ms: PerQueue::default(),
        delay_over_time_ms,
        utilization_over_time,
    })
}

/// Mean delays, weighted with what was forwarded, and utilisation of each second.
fn per_second(bins: &[Bin]) -> (PerQueue<Vec<Option<f64>>>, Vec<f64>) {
    let mut delays: PerQueue<Vec<Option<f64>>> = PerQueue::default();
    let mut used = Vec::new();
    // Bins begin at multiples of .1 s.
    let second = |b: &Bin| (b.t_s + 0.05) as u64;
    for bins in bins.chunk_by(|a, b| second(a) == second(b)) {
        let mean = |queues: &[usize]| {
            let queues = || bins.iter().flat_map(|b| queues.iter().map(|&q| b.queues[q]));
            let weights = || queues().filter_map(|q| q.delay_ms.map(|d| (d, q.mbps)));
            let total: f64 = weights().map(|(_, w)| w).sum();
            (total > 0.0).then(|| weights().map(|(d, w)| d * w).sum::<f64>() / total)
        };
        delays.l.push(mean(&[0]));
        delays.c.push(mean(&[1]));
        delays.all.push(mean(&[0, 1]));
        let capacity: f64 = bins.iter().map(|b| b.rate_mbps).sum();
        let forwarded: f64 = bins.iter().map(|b| b.queues[0].mbps + b.queues[1].mbps).sum();
        used.push(if capacity > 0.0 { forwarded / capacity } else { 0.0 });
    }
    (delays, used)
}

fn failure(e: EvalError) -> Failure {
    let exit = match e {
        EvalError::File { .. } | EvalError::Report(_) | EvalError::Busy { .. } => Exit::Host,
        EvalError::Foreign { .. } | EvalError::Damaged { .. } => Exit::Data,
        EvalError::Unfit { .. } | EvalError::Missing(_) => Exit::Internal,
    };
    Failure::new(exit, e)
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), ReportError> {
    let path = dir.join(name);
    std::fs::write(&path, bytes).map_err(|source| ReportError::Write { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::QueueBin;

    #[test]
    fn the_baseline_comes_first_and_nothing_twice() {
        let of = |names: &[&str]| {
            policies(&names.iter().map(|n| n.parse().unwrap()).collect::<Vec<_>>())
                .map(|p| p.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(of(&["codel", "dualpi2", "codel", "pi2"]).unwrap(), ["dualpi2", "codel", "pi2"]);
        let failure = of(&["replay:x.csv"]).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("only works live"), "{failure}");
    }

    #[test]
    fn seconds_are_weighted_with_what_was_forwarded() {
        let bin = |t_s, l: (f64, Option<f64>), c: (f64, Option<f64>)| {
            let queue = |(mbps, delay_ms)| QueueBin { mbps, delay_ms, ..QueueBin::default() };
            Bin { t_s, rate_mbps: 10.0, queues: [queue(l), queue(c)], ..Bin::default() }
        };
        let (delays, used) = per_second(&[
            bin(0.0, (1.0, Some(1.0)), (0.0, None)),
            bin(0.9, (3.0, Some(2.0)), (4.0, Some(10.0))),
            bin(1.0, (0.0, None), (10.0, Some(5.0))),
        ]);
        assert_eq!(delays.l, [Some(1.75), None]);
        assert_eq!(delays.c, [Some(10.0), Some(5.0)]);
        assert_eq!(delays.all, [Some((1.0 + 6.0 + 40.0) / 8.0), Some(5.0)]);
        assert_eq!(used, [8.0 / 20.0, 1.0]);
    }
}
