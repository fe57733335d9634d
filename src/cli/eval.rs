//! `l4sd eval`: grids of drawn links under policies, judged against `dualpi2`.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use clap::Args;

use super::exit::{Exit, Failure};
use crate::config::Policy;
use crate::control::policy::replay::Replay;
use crate::eval::runner::{self, RunError};
use crate::eval::simulate::simulate;
use crate::eval::{
    self, CellInfo, Design, EvalError, Header, Progress, RecordLog, bootstrap, file, plots, tables,
};
use crate::report::ReportError;
use crate::sim::{Grid, Scenario, Split};
use crate::time::Instant;
use crate::wire::Ecn;

/// Arguments of `l4sd eval`.
#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// Grids: rfc9332, flows, rtt, steps, overload, web, bursty, variable, lowrate, smoke; or scenario files, each one
    /// cell [default: all grids but smoke]
    #[arg(value_name = "GRID")]
    grids: Vec<String>,
    /// Policies, beside dualpi2: dualpi2-linux, dualpi2-tuned, dualpi2:target=5ms, pi2, codel, taildrop, replay:FILE;
    /// several with commas or by repeating
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
    /// Links drawn near each point of a grid
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    draws: u32,
    /// Three cells of each grid, 10 s each
    #[arg(long, conflicts_with = "draws")]
    smoke: bool,
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
    /// What each policy is beside its name.
    definitions: Vec<String>,
    design: Design,
    header: Header,
    jobs: usize,
}

impl EvalPlan {
    fn new(args: &EvalArgs) -> Result<Self, Failure> {
        let policies = policies(&args.policy)?;
        let definitions = policies.iter().map(definition).collect::<Result<_, _>>()?;
        let cells = cells(args)?;
        let infos = cells.iter().map(|(info, _)| info.clone()).collect();
        let design = Design::new(infos, policies.iter().map(ToString::to_string), args.seeds);
        let header = Header::new(&args.split, args.split_seed);
        let jobs = args.jobs.or_else(|| available_parallelism().ok()).map_or(1, NonZero::get);
        Ok(Self { cells, policies, definitions, design, header, jobs })
    }
}

/// Runs the verb.
pub(super) fn eval(args: &EvalArgs) -> Result<(), Failure> {
    let plan = EvalPlan::new(args)?;
    let design = &plan.design;
    let units = design.units(
        |c| format!("{:?}", plan.cells[c].1),
        |p| plan.definitions[p].clone(),
        |c| plan.cells[c].1.link.nominal().as_bps() as f64 * plan.cells[c].1.duration.as_secs_f64(),
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
        policies.push(policy.clone());
    }
    Ok(policies)
}

/// All that a policy is: a stored run is not taken for one of a file that has been changed since.
fn definition(policy: &Policy) -> Result<String, Failure> {
    let Policy::Replay(file) = policy else { return Ok(format!("{policy:?}")) };
    let replay = Replay::open(file, Instant::ZERO)?;
    Ok(format!("{policy:?} {replay:?}"))
}

/// The links of grids and scenario files.
fn cells(args: &EvalArgs) -> Result<Vec<(CellInfo, Scenario)>, Failure> {
    let split = Split::by_name(&args.split).unwrap_or(Split::Dev);
    let all: Vec<String> =
        Grid::ALL.iter().filter(|g| **g != Grid::Smoke).map(|g| g.name().to_owned()).collect();
    let mut cells: Vec<(CellInfo, Scenario)> = Vec::new();
    for name in if args.grids.is_empty() { &all } else { &args.grids } {
        let fresh = if let Some(grid) = Grid::by_name(name) {
            let drawn = if args.smoke {
                grid.smoke(split, args.split_seed)
            } else {
                grid.cells(split, args.split_seed, args.draws)
            };
            drawn.into_iter().map(|c| (CellInfo::from(&c), c.scenario)).collect()
        } else if Path::new(name).exists() || name.contains(['.', '/']) {
            let scenario = Scenario::load(Path::new(name)).map_err(|e| Failure::new(Exit::Config, e))?;
            vec![(file_cell(&scenario), scenario)]
        } else {
            let error = anyhow::anyhow!(
                "there is no grid '{name}'; it is one of {}, smoke, or a scenario file",
                all.join(", ")
            );
            return Err(Failure::new(Exit::Usage, error));
        };
        if let Some((cell, _)) = fresh.iter().find(|(cell, _)| cells.iter().any(|(c, _)| c == cell)) {
            let error =
                anyhow::anyhow!("{name}: there is another scenario called '{}'; name each once", cell.name);
            return Err(Failure::new(Exit::Usage, error));
        }
        cells.extend(fresh);
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

    #[test]
    fn the_baseline_comes_first_and_nothing_twice() {
        let of = |names: &[&str]| {
            policies(&names.iter().map(|n| n.parse().unwrap()).collect::<Vec<_>>())
                .map(|p| p.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(of(&["codel", "dualpi2", "codel", "pi2"]).unwrap(), ["dualpi2", "codel", "pi2"]);
    }
}
