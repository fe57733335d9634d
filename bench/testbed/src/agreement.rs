//! Measurement, live run and simulator in one table: `l4sd-testbed agreement`.
//!
//! [`mod@reference`] has what was measured elsewhere, [`pairs`] the published RTT pairs, [`simulator`] runs `l4sd sim`,
//! [`verdict`] has the tolerances, [`table`] and [`explain`] say it. Nothing here simulates or forwards: figures come
//! out of `results.json`.

use std::fmt::Write as _;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;

use serde::Serialize;

use crate::cpus::Placement;
use crate::flows::Kind;
use crate::forwarder::{RunSpec, Scheduling};
use crate::results::{Results, ResultsError};
use crate::sandbox::{self, Rights, Stop};
use crate::series::Series;
use crate::session::{self, SessionError};
use crate::tools::Tools;
use crate::topology::Topology;

pub mod explain;
pub mod pairs;
pub mod reference;
pub mod simulator;
pub mod table;
pub mod verdict;

use pairs::{PAIRS, Pair, RankOrder, Rates, Scalable};
use reference::{Case, DURATION_S, Measured, Phase, WARMUP_S, cases};
use simulator::{ScenarioFile, SimulatorError, simulate};
use verdict::{Figures, Verdict};

/// Seeds of each simulated cell.
const SEEDS: u32 = 3;
/// Of the six cells, this many must agree.
pub const CELLS_THAT_AGREE: usize = 5;
/// Bins of `series.csv`.
const BIN_S: f64 = 0.1;
/// A bin whose rate is off by more than this share has a part of another rate.
const RATE_OFF: f64 = 0.02;
const LIVE_KINDS: &[Kind] = &[Kind::PragueNoFallback, Kind::Cubic];
const DEFAULT_KINDS: &[Kind] = &[Kind::Prague, Kind::Cubic];

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum AgreementError {
    /// The simulator.
    #[error(transparent)]
    Simulator(#[from] SimulatorError),
    /// Its results, or a file of our own.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// Someone asked for the end.
    #[error("interrupted")]
    Interrupted,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct AgreementSpec {
    /// The `l4sd` executable.
    pub l4sd: PathBuf,
    /// Back end of the live runs.
    pub port: String,
    /// Measured seconds of each live run, after the warm-up.
    pub seconds: u32,
    /// Where everything goes.
    pub out: PathBuf,
    /// The date to print.
    pub date: Option<String>,
    /// The command to print.
    pub command: String,
}

/// Whether the live cells run.
#[derive(Debug, Clone, Copy)]
pub enum Live<'a> {
    /// Inside a prepared sandbox.
    On {
        /// Programs.
        tools: &'a Tools,
        /// Rights inside.
        rights: Rights,
        /// When to end.
        stop: &'a Stop,
    },
    /// Not, and why.
    Off(&'a str),
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    kernel: String,
    cores: usize,
    processor: String,
}

/// The conditions of the live runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum LiveReport {
    /// They ran.
    On {
        /// Back end.
        port: String,
        /// Measured seconds.
        seconds: u32,
        /// Under real-time scheduling.
        quotable: bool,
    },
    /// They did not.
    Off {
        /// Why.
        reason: String,
    },
}

/// A window of a cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseReport {
    label: &'static str,
    measured: Measured,
    simulated: Figures,
    live: Option<Figures>,
    simulated_against_reference: Vec<Verdict>,
    live_against_reference: Option<Vec<Verdict>>,
    simulated_against_live: Option<Vec<Verdict>>,
}

/// A cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseReport {
    name: &'static str,
    title: String,
    phases: Vec<PhaseReport>,
    /// A live run with udp_prague's fall-back, where that changes the figures.
    live_with_fallback: Option<Figures>,
    /// Why there is no live run although live runs were asked for.
    live_skipped: Option<String>,
}

/// A row of the RTT pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairReport {
    pair: Pair,
    published: Rates,
    prague: Rates,
    /// With DCTCP in place of Prague; `null` where there is none.
    dctcp: Option<Rates>,
}

/// How the simulator orders the mixed pairs, against the published order.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RankReport {
    prague: RankOrder,
    dctcp: RankOrder,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    command: String,
    date: String,
    host: Host,
    seeds: u32,
    live: LiveReport,
    cases: Vec<CaseReport>,
    pairs: Vec<PairReport>,
    rank: RankReport,
}

fn all_agree<'a>(verdicts: impl IntoIterator<Item = &'a Vec<Verdict>>) -> bool {
    verdicts.into_iter().flatten().all(|v| v.agrees)
}

impl PhaseReport {
    fn new(phase: &Phase, simulated: Figures, live: Option<Figures>) -> Self {
        Self {
            label: phase.label,
            measured: phase.measured,
            simulated,
            live,
            simulated_against_reference: simulated.against(&phase.measured),
            live_against_reference: live.map(|l| l.against(&phase.measured)),
            simulated_against_live: live.map(|l| simulated.against_live(&l)),
        }
    }
}

impl CaseReport {
    fn simulator_agrees(&self) -> bool {
        all_agree(self.phases.iter().map(|p| &p.simulated_against_reference))
    }

    fn live_agrees(&self) -> Option<bool> {
        self.phases
            .iter()
            .map(|p| p.live_against_reference.as_ref())
            .collect::<Option<Vec<_>>>()
            .map(all_agree)
    }

    fn simulator_agrees_with_live(&self) -> Option<bool> {
        self.phases
            .iter()
            .map(|p| p.simulated_against_live.as_ref())
            .collect::<Option<Vec<_>>>()
            .map(all_agree)
    }
}

impl Report {
    /// Whether the simulator agrees with the reference on enough cells and orders the RTT pairs as they were measured.
    pub fn pass(&self) -> bool {
        self.cells_that_agree() >= CELLS_THAT_AGREE && self.rank.dctcp.same
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    fn cells_that_agree(&self) -> usize {
        self.cases.iter().filter(|c| c.simulator_agrees()).count()
    }

    fn summary(&self) -> String {
        let mut out = format!(
            "The simulator agrees with the reference on {} of {} cells (wanted: {CELLS_THAT_AGREE}).",
            self.cells_that_agree(),
            self.cases.len()
        );
        for (what, agrees) in [
            ("The live runs agree with the reference", CaseReport::live_agrees as fn(&CaseReport) -> _),
            ("The simulator agrees with the live runs", CaseReport::simulator_agrees_with_live),
        ] {
            let known: Vec<bool> = self.cases.iter().filter_map(agrees).collect();
            if !known.is_empty() {
                let yes = known.iter().filter(|y| **y).count();
                write!(out, " {what} on {yes} of {}.", known.len()).ok();
            }
        }
        out
    }
}

/// Runs everything, prints what is going on, and writes `agreement.md` and `agreement.json`.
pub fn run(spec: &AgreementSpec, live: Live<'_>) -> Result<Report, AgreementError> {
    let all = cases();
    eprintln!("simulator: {} cells, {} RTT pairs", all.len(), PAIRS.len());
    let files: Vec<ScenarioFile> = all
        .iter()
        .flat_map(|case| case.phases.iter().map(|phase| ScenarioFile::of_phase(case, phase)))
        .chain(pair_files())
        .collect();
    let results = simulate(&spec.l4sd, &files, SEEDS, &spec.out.join("sim"))?;

    let mut runner = LiveRunner::new(spec, live);
    let mut reports = Vec::new();
    for case in &all {
        reports.push(case_report(case, &results, &mut runner)?);
    }
    let pairs = pair_reports(&results)?;
    let report = Report {
        command: spec.command.clone(),
        date: spec.date.clone().unwrap_or_else(|| "date not given".to_owned()),
        host: Host::read(),
        seeds: SEEDS,
        live: runner.report(),
        cases: reports,
        rank: rank(&pairs),
        pairs,
    };
    write(&spec.out.join("agreement.md"), &table::markdown(&report))?;
    write(&spec.out.join("agreement.json"), &(report.to_json() + "\n"))?;
    Ok(report)
}

/// The rows of the table that are simulated with either sender.
fn pair_files() -> impl Iterator<Item = ScenarioFile> {
    let prague = PAIRS.iter().map(|p| ScenarioFile::of_pair(p, Scalable::Prague));
    prague.chain(PAIRS.iter().filter(|p| p.has_prague()).map(|p| ScenarioFile::of_pair(p, Scalable::Dctcp)))
}

fn pair_reports(results: &Results) -> Result<Vec<PairReport>, ResultsError> {
    let rates = |pair: &Pair, scalable: Scalable| {
        let name = pair.name(scalable);
        Rates::mean(&results.goodputs(&name)?)
            .ok_or_else(|| ResultsError::Lacks(format!("two flows in {name}")))
    };
    let report = |pair: &Pair| {
        let dctcp = pair.has_prague().then(|| rates(pair, Scalable::Dctcp)).transpose()?;
        let published = Rates { first: pair.published.0, second: pair.published.1 };
        Ok(PairReport { pair: *pair, published, prague: rates(pair, Scalable::Prague)?, dctcp })
    };
    PAIRS.iter().map(report).collect()
}

fn rank(pairs: &[PairReport]) -> RankReport {
    let mixed = || pairs.iter().filter(|p| p.pair.is_mixed());
    let ratios = |of: fn(&PairReport) -> f64| mixed().map(of).collect::<Vec<f64>>();
    let published = ratios(|p| p.published.ratio());
    RankReport {
        prague: RankOrder::of(&published, &ratios(|p| p.prague.ratio())),
        dctcp: RankOrder::of(&published, &ratios(|p| p.dctcp.unwrap_or(p.prague).ratio())),
    }
}

fn case_report(
    case: &Case,
    results: &Results,
    runner: &mut LiveRunner<'_>,
) -> Result<CaseReport, AgreementError> {
    let simulated = |phase: &Phase| {
        let runs = results.simulated(&ScenarioFile::of_phase(case, phase).name)?;
        Ok::<_, ResultsError>(Figures::mean(&runs.iter().map(Figures::from).collect::<Vec<_>>()))
    };
    let (live, mut live_skipped) = split(runner.cell(case, LIVE_KINDS, case.name)?);
    let mut live_with_fallback = None;
    if case.fallback_matters && live.is_some() {
        let (figures, skipped) =
            split(runner.cell(case, DEFAULT_KINDS, &format!("{}-fallback", case.name))?);
        live_with_fallback = figures.and_then(|f| f.first().copied());
        live_skipped = live_skipped.or(skipped);
    }
    let phases = case
        .phases
        .iter()
        .enumerate()
        .map(|(i, phase)| {
            let live = live.as_ref().and_then(|l| l.get(i)).copied();
            Ok(PhaseReport::new(phase, simulated(phase)?, live))
        })
        .collect::<Result<_, ResultsError>>()?;
    let step = case.step.map(|s| format!(" to {} Mbit/s", s.rate_mbit)).unwrap_or_default();
    let rate = if case.step.is_some() {
        format!("{}", case.rate_mbit)
    } else {
        format!("{} Mbit/s", case.rate_mbit)
    };
    let title = format!("{rate}{step}, {} ms", case.rtt_ms);
    Ok(CaseReport { name: case.name, title, phases, live_with_fallback, live_skipped })
}

type Phases = Vec<Figures>;

fn split(outcome: Option<Result<Phases, String>>) -> (Option<Phases>, Option<String>) {
    match outcome {
        None => (None, None),
        Some(Ok(figures)) => (Some(figures), None),
        Some(Err(reason)) => (None, Some(reason)),
    }
}

/// The live side, if there is one.
struct LiveRunner<'a> {
    spec: &'a AgreementSpec,
    host: Result<(Topology, Scheduling, &'a Stop), String>,
}

impl<'a> LiveRunner<'a> {
    fn new(spec: &'a AgreementSpec, live: Live<'a>) -> Self {
        let host = match live {
            Live::Off(reason) => Err(reason.to_owned()),
            Live::On { tools, rights, stop } => match Topology::build(tools) {
                Ok(mut topology) => {
                    let scheduling = session::scheduling(tools, rights);
                    topology.set_real_time(scheduling == Scheduling::Fifo);
                    Ok((topology, scheduling, stop))
                }
                Err(e) => {
                    sandbox::skipped("the live runs", &e.to_string());
                    Err(one_line(&e.to_string()))
                }
            },
        };
        Self { spec, host }
    }

    fn report(&self) -> LiveReport {
        match &self.host {
            Err(reason) => LiveReport::Off { reason: reason.clone() },
            Ok((_, scheduling, _)) => LiveReport::On {
                port: self.spec.port.clone(),
                seconds: self.spec.seconds,
                quotable: *scheduling == Scheduling::Fifo,
            },
        }
    }

    /// The figures of a live run, by phase; `None` if there are no live runs, an error in words if this one cannot be had.
    fn cell(
        &mut self,
        case: &Case,
        kinds: &[Kind],
        folder: &str,
    ) -> Result<Option<Result<Phases, String>>, AgreementError> {
        let Ok((topology, scheduling, stop)) = &self.host else { return Ok(None) };
        // The windows of a step are those of the reference.
        let duration_s = if case.step.is_some() { DURATION_S } else { WARMUP_S + self.spec.seconds };
        eprintln!("live: {folder}, {duration_s} s");
        let run = RunSpec {
            l4sd: self.spec.l4sd.clone(),
            port: self.spec.port.clone(),
            rate_mbit: case.rate_mbit,
            rtt_ms: case.rtt_ms,
            policy: "dualpi2".to_owned(),
            duration_s,
            warmup_s: WARMUP_S,
            out: self.spec.out.join("live").join(folder),
            scheduling: *scheduling,
            placement: Placement::default(),
            step: case.step,
        };
        let outcome = match session::run(topology, &run, kinds, stop, |_, _| ()) {
            Err(SessionError::Interrupted) => return Err(AgreementError::Interrupted),
            Err(e) => Err(one_line(&e.to_string())),
            Ok(outcome) if case.step.is_none() => {
                outcome.results.summary().map(|s| vec![Figures::from(&s)]).map_err(|e| e.to_string())
            }
            Ok(_) => Series::read(&run.out.join("series.csv"))
                .map_err(|e| e.to_string())
                .and_then(|series| by_phase(case, &series)),
        };
        if let Err(reason) = &outcome {
            sandbox::skipped(&format!("the live run of {folder}"), reason);
        }
        Ok(Some(outcome))
    }
}

/// The figures of each phase of a case with a step, if the step came at its second: the signal is sent a little early,
/// so that the bin before it has a little of the new rate and is left out, and the bin after it has nothing else.
fn by_phase(case: &Case, series: &Series) -> Result<Phases, String> {
    let of = |phase: &Phase| {
        let (from, to) = (f64::from(phase.from_s), f64::from(phase.to_s));
        let step = case.step.filter(|s| s.at_s <= phase.from_s);
        let to = if case.step.is_some_and(|s| s.at_s == phase.to_s) { to - BIN_S } else { to };
        // Between the tenths, which are not exact.
        let bins: Vec<_> = series.within(from - BIN_S / 2.0..to - BIN_S / 2.0).collect();
        let rate = step.map_or(case.rate_mbit, |s| s.rate_mbit);
        match bins.iter().find(|b| (b.rate_mbps / f64::from(rate) - 1.0).abs() > RATE_OFF) {
            Some(bin) => {
                Err(format!("at {} s the rate was {:.2} Mbit/s, not {rate}", bin.t_s, bin.rate_mbps))
            }
            None => Figures::of_bins(&bins).ok_or_else(|| format!("no bins from {from} to {to} s")),
        }
    };
    case.phases.iter().map(of).collect()
}

/// Fit for a table's cell.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "/")
}

impl Host {
    fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let model = text("/proc/cpuinfo").lines().find_map(|l| {
            l.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned())
        });
        let kernel = text("/proc/sys/kernel/osrelease").trim().to_owned();
        Self {
            kernel: if kernel.is_empty() { "unknown".to_owned() } else { kernel },
            cores: thread::available_parallelism().map_or(1, NonZeroUsize::get),
            processor: model.unwrap_or_else(|| "unknown processor".to_owned()),
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), ResultsError> {
    let failed =
        |e: std::io::Error| ResultsError::Write { path: path.display().to_string(), reason: e.to_string() };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}

#[cfg(test)]
mod tests;
