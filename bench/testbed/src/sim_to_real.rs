//! Does a gain that the simulator shows arrive on real traffic? Drawn links, each under `dualpi2` and under a model, as
//! interleaved pairs of live runs; the simulator's runs of the same links; both judged by the same score.
//!
//! Every live run is kept in `records.jsonl` as soon as it ends, so that an interrupted gate goes on where it stopped.
//! Live runs are made one after the other, or in several [`lanes`] at a time.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread;

use l4sd::config::Policy;
use l4sd::control::model::{ModelError, ModelFile};
use l4sd::eval::simulate::{SimulateError, simulate};
use l4sd::eval::{CellInfo, CellRecord, Design, EvalError, Header, RecordLog, Unit};
use l4sd::report::RunResult;
use l4sd::sim::Scenario;
use l4sd::sim::scenario::ScenarioError;
use l4sd::telemetry::features::schema::Schema;

use crate::cpus::{self, Placement};
use crate::flows::Kind;
use crate::forwarder::{RunSpec, Scheduling};
use crate::results::{FORWARD, ResultsError};
use crate::sandbox::{self, Rights, SandboxError, Stop};
use crate::session::{self, SessionError};
use crate::tools::Tools;
use crate::topology::{Topology, TopologyError};

pub mod gate;
pub mod lanes;
pub mod links;

use gate::{Conditions, Gate, Verdicts, Worst};
use links::Link;

const WARMUP_S: u32 = 5;
/// Seeds of each simulated link.
const SEEDS: u64 = 5;
/// A live run is tried so often before the gate gives up: a sender that does not come up is no result.
const TRIES: u32 = 3;
/// udp_prague without its response to a suspected Classic AQM: the simulator's Prague has it off too.
const KINDS: &[Kind] = &[Kind::PragueNoFallback, Kind::Cubic];

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum SimToRealError {
    /// The namespaces.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A scenario of ours.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The simulator.
    #[error(transparent)]
    Simulate(#[from] SimulateError),
    /// Records, or the judge.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// A result object, or a file of our own.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// A live run that failed every time.
    #[error("{unit}: {source}")]
    Live {
        /// Which.
        unit: String,
        /// Its last failure.
        source: SessionError,
    },
    /// More lanes than the host has CPUs for.
    #[error("{lanes} lanes need {} CPUs, 2 each, and this process may use {cpus}: at most --lanes {most}", 2 * lanes)]
    Lanes {
        /// Asked for.
        lanes: usize,
        /// Those that this process may use.
        cpus: usize,
        /// So many are possible.
        most: usize,
    },
    /// A lane is asked for a run that the plan does not have.
    #[error("there is no run {unit}: --units takes those from 0 to {last} for these --links and --pairs")]
    NoUnit {
        /// Asked for.
        unit: usize,
        /// The last one.
        last: usize,
    },
    /// A lane cannot be had.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// Signals cannot be watched.
    #[error("cannot watch for signals: {0}")]
    Signals(io::Error),
    /// What a lane made does not get out.
    #[error("cannot say what a run came to: {0}")]
    Tell(io::Error),
    /// Lanes that failed; what was made is kept.
    #[error("{0}\nwhat was made is kept: the same command goes on from there")]
    Lane(String),
    /// Someone asked for the end.
    #[error("interrupted")]
    Interrupted,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct SimToRealSpec {
    /// The `l4sd` executable.
    pub l4sd: PathBuf,
    /// Back end.
    pub port: String,
    /// The model.
    pub model: PathBuf,
    /// Drawn links.
    pub links: usize,
    /// Pairs of runs on each.
    pub pairs: u64,
    /// Measured seconds of each run, after five of warm-up.
    pub seconds: u32,
    /// Seed of the links.
    pub seed: u64,
    /// Where everything goes.
    pub out: PathBuf,
    /// Forget what was run before.
    pub fresh: bool,
    /// Live runs at a time.
    pub lanes: usize,
}

/// How the live runs were made.
struct Made {
    scheduling: Scheduling,
    lanes: usize,
    kept: usize,
}

/// The links as cells, with their scenarios and the two policies.
struct Plan {
    links: Vec<Link>,
    cells: Vec<(CellInfo, Scenario)>,
    policies: [Policy; 2],
    /// Tells the model from others in records.
    sha256: String,
}

impl Plan {
    fn new(spec: &SimToRealSpec) -> Result<Self, SimToRealError> {
        let sha256 = ModelFile::read(&spec.model, &Schema::embedded(), None)?.sha256;
        let links = links::draw(spec.links, spec.seed, WARMUP_S, spec.seconds);
        let cell = |link: &Link| {
            let scenario = Scenario::parse(&link.scenario(WARMUP_S, spec.seconds), &link.name())?;
            let info = CellInfo {
                grid: "sim-to-real".to_owned(),
                name: link.name(),
                mix: scenario.mix(),
                ..CellInfo::default()
            };
            Ok::<_, ScenarioError>((info, scenario))
        };
        let cells = links.iter().map(cell).collect::<Result<_, _>>()?;
        Ok(Self {
            links,
            cells,
            policies: [Policy::DualPi2, Policy::Model(Some(spec.model.clone()))],
            sha256,
        })
    }

    /// All links under both policies with `n` seeds; a pair of live runs is a seed. DualPI2 against itself is another
    /// gate's question.
    fn design(&self, n: u64) -> Design {
        let cells = self.cells.iter().map(|(info, _)| info.clone()).collect();
        let mut design = Design::new(cells, self.policies.iter().map(Policy::label), n);
        design.other_seeds.clear();
        design
    }

    /// The live runs, in the order of one lane.
    fn units(&self, spec: &SimToRealSpec) -> Vec<Unit> {
        interleaved(self.design(spec.pairs).units(
            |c| format!("{:?} {}", self.cells[c].1, spec.port),
            |p| if p == 1 { self.sha256.clone() } else { String::new() },
            |_| 1.0,
        ))
    }

    /// What the judge says of the simulator's runs, which are made here, a thread a link.
    fn simulated(&self) -> Result<Verdicts, SimToRealError> {
        eprintln!("simulator: {} links, both policies, {SEEDS} seeds", self.links.len());
        let of_link = |(info, scenario): &(CellInfo, Scenario)| {
            let runs = self.policies.iter().flat_map(|policy| (1..=SEEDS).map(move |seed| (policy, seed)));
            runs.map(|(policy, seed)| simulate(info, scenario, policy, seed)).collect::<Result<Vec<_>, _>>()
        };
        let records: Vec<Vec<CellRecord>> = thread::scope(|scope| {
            let links: Vec<_> = self.cells.iter().map(|cell| scope.spawn(move || of_link(cell))).collect();
            let joined = links.into_iter().map(|l| l.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
            joined.collect::<Result<_, SimulateError>>()
        })?;
        Ok(gate::verdicts(&self.design(SEEDS), &records.concat())?)
    }

    /// Judges the live runs and writes `sim-to-real.md` and `sim-to-real.json`.
    fn conclude(
        &self,
        spec: &SimToRealSpec,
        simulated: &Verdicts,
        records: &[CellRecord],
        made: &Made,
    ) -> Result<Gate, SimToRealError> {
        let measured = gate::verdicts(&self.design(spec.pairs), records)?;
        let conditions = Conditions {
            pairs: spec.pairs,
            seconds: spec.seconds,
            seeds: SEEDS,
            port: spec.port.clone(),
            model_sha256: self.sha256.clone(),
            quotable: made.scheduling == Scheduling::Fifo,
            lanes: made.lanes,
            kept: made.kept,
            worst: Worst::of(records),
        };
        let gate = Gate::new(&self.links, simulated, &measured, conditions);
        write(&spec.out.join("sim-to-real.md"), &gate.markdown())?;
        write(&spec.out.join("sim-to-real.json"), &(gate.to_json() + "\n"))?;
        Ok(gate)
    }
}

/// The live runs in the order in which they are made: a pair on every link, then the next pair on every link, so that
/// whatever drifts on the host drifts for both policies and all links; the policy that goes first changes with each pair.
fn interleaved(mut units: Vec<Unit>) -> Vec<Unit> {
    units.sort_by_key(|u| (u.seed, u.cell, (u.policy as u64 + u.seed) % 2));
    units
}

/// Simulates, runs what is not in the records, judges, and writes `sim-to-real.md` and `sim-to-real.json`.
pub fn run(spec: &SimToRealSpec, tools: &Tools, rights: Rights, stop: &Stop) -> Result<Gate, SimToRealError> {
    let plan = Plan::new(spec)?;
    let simulated = plan.simulated()?;
    let mut log = RecordLog::open(&spec.out, &Header::new("live", spec.seed), spec.fresh)?;
    let host = LiveHost::new(spec, &plan, tools, rights)?;
    let units = plan.units(spec);
    let mut records = Vec::new();
    let mut kept = 0;
    for (i, unit) in units.iter().enumerate() {
        let record = if let Some(record) = log.take(unit) {
            kept += 1;
            record
        } else {
            let record = host.live(unit, stop)?;
            eprintln!("live {} of {}: {}", i + 1, units.len(), line(unit, &record));
            log.append(unit, record)?
        };
        records.push(record);
    }
    plan.conclude(spec, &simulated, &records, &Made { scheduling: host.scheduling, lanes: 1, kept })
}

/// The same from outside of any sandbox, with `spec.lanes` live runs at a time. `args` are those of this process.
pub fn run_in_lanes(spec: &SimToRealSpec, tools: &Tools, args: &[OsString]) -> Result<Gate, SimToRealError> {
    let sets = lanes::divide(&cpus::granted(), spec.lanes)?;
    let rights = sandbox::probe(tools)?;
    let plan = Plan::new(spec)?;
    let mut log = RecordLog::open(&spec.out, &Header::new("live", spec.seed), spec.fresh)?;
    let simulated = plan.simulated()?;
    let units = plan.units(spec);
    let mut records: Vec<Option<CellRecord>> = units.iter().map(|unit| log.take(unit)).collect();
    let todo: Vec<usize> = (0..units.len()).filter(|&i| records[i].is_none()).collect();
    let kept = units.len() - todo.len();
    let mut known = kept;
    let dealt = lanes::deal(&units, &todo, sets.len());
    let made = Made { scheduling: session::scheduling(tools, rights), lanes: lanes::busy(&dealt), kept };
    eprintln!(
        "live: {} runs, {} at a time, each on CPUs of its own: {}",
        todo.len(),
        made.lanes,
        sets[0].len()
    );
    lanes::run(tools, rights, args, (&sets, &dealt), |fingerprint, record| {
        if let Some(i) = units.iter().position(|u| u.fingerprint == fingerprint) {
            known += 1;
            eprintln!("live {known} of {}: {}", units.len(), line(&units[i], &record));
            records[i] = Some(log.append(&units[i], record)?);
        }
        Ok(())
    })?;
    let records: Vec<CellRecord> = records.into_iter().flatten().collect();
    plan.conclude(spec, &simulated, &records, &made)
}

/// One lane, inside its sandbox: makes the runs of these places in the order and says their records.
pub fn run_units(
    spec: &SimToRealSpec,
    wanted: &[usize],
    tools: &Tools,
    rights: Rights,
    stop: &Stop,
) -> Result<(), SimToRealError> {
    let plan = Plan::new(spec)?;
    let units = plan.units(spec);
    let there = |&unit| units.get(unit).ok_or(SimToRealError::NoUnit { unit, last: units.len() - 1 });
    let wanted: Vec<&Unit> = wanted.iter().map(there).collect::<Result<_, _>>()?;
    let host = LiveHost::new(spec, &plan, tools, rights)?;
    for unit in wanted {
        lanes::tell(unit, host.live(unit, stop)?).map_err(SimToRealError::Tell)?;
    }
    Ok(())
}

/// Where live runs are made.
struct LiveHost<'a> {
    spec: &'a SimToRealSpec,
    plan: &'a Plan,
    topology: Topology,
    scheduling: Scheduling,
    placement: Placement,
}

impl<'a> LiveHost<'a> {
    /// Builds the topology. Beside other lanes the parts of a run have CPUs of their own, if there are enough.
    fn new(
        spec: &'a SimToRealSpec,
        plan: &'a Plan,
        tools: &Tools,
        rights: Rights,
    ) -> Result<Self, SimToRealError> {
        let scheduling = session::scheduling(tools, rights);
        let real_time = scheduling == Scheduling::Fifo;
        let placement = if spec.lanes > 1 {
            Placement::beside_others(&cpus::allowed(), real_time)
        } else {
            Placement::default()
        };
        let mut topology = Topology::build(tools)?;
        topology.set_real_time(real_time);
        topology.set_cpus(&placement.traffic);
        Ok(Self { spec, plan, topology, scheduling, placement })
    }

    /// A live run as the record of a cell; tried again if a sender or the bridge does not come up.
    fn live(&self, unit: &Unit, stop: &Stop) -> Result<CellRecord, SimToRealError> {
        let (spec, plan) = (self.spec, self.plan);
        let link = &plan.links[unit.cell];
        let policy = &plan.policies[unit.policy];
        let run = RunSpec {
            l4sd: spec.l4sd.clone(),
            port: spec.port.clone(),
            rate_mbit: link.rate_mbit,
            rtt_ms: link.rtt_ms,
            policy: policy.to_string(),
            duration_s: WARMUP_S + spec.seconds,
            warmup_s: WARMUP_S,
            out: spec.out.join("live").join(format!("{}-{}-{}", link.name(), policy.label(), unit.seed)),
            scheduling: self.scheduling,
            placement: self.placement.clone(),
            step: link.step,
        };
        let mut tried = 0;
        let outcome = loop {
            tried += 1;
            match session::run(&self.topology, &run, KINDS, stop, |_, _| ()) {
                Ok(outcome) => break outcome,
                Err(SessionError::Interrupted) => return Err(SimToRealError::Interrupted),
                Err(e) if tried < TRIES => eprintln!("{}: {e}; once more", unit.name),
                Err(source) => return Err(SimToRealError::Live { unit: unit.name.clone(), source }),
            }
        };
        let value = outcome.results.run(FORWARD)?.clone();
        let unreadable = |e: serde_json::Error| ResultsError::Lacks(format!("a run that l4sd can read: {e}"));
        let mut result: RunResult = serde_json::from_value(value).map_err(unreadable)?;
        result.seed = Some(unit.seed);
        Ok(CellRecord {
            cell: plan.cells[unit.cell].0.clone(),
            policy: policy.label(),
            seed: unit.seed,
            run: result,
            ..CellRecord::default()
        })
    }
}

/// What a run came to, for whoever watches.
fn line(unit: &Unit, record: &CellRecord) -> String {
    let run = &record.run;
    let ms = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.2}"));
    format!(
        "{}: L {} ms, C {} ms, utilisation {:.1} %, L/C {}, in fallback {}",
        unit.name,
        ms(run.queues.l.delay_ms.mean),
        ms(run.queues.c.delay_ms.mean),
        100.0 * run.link.utilization.unwrap_or(0.0),
        ms(run.ratio_l_over_c),
        run.fallback_share.map_or("-".to_owned(), |x| format!("{:.1} %", 100.0 * x)),
    )
}

fn write(path: &std::path::Path, text: &str) -> Result<(), ResultsError> {
    fs::write(path, text)
        .map_err(|e| ResultsError::Write { path: path.display().to_string(), reason: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pair by pair; in each the two policies of a link follow each other, and the first one alternates.
    #[test]
    fn pairs_are_interleaved() {
        let cell = |name: &str| CellInfo { name: name.to_owned(), ..CellInfo::default() };
        let mut design = Design::new(vec![cell("a"), cell("b")], ["model".to_owned()], 2);
        design.other_seeds.clear();
        let units = interleaved(design.units(|_| String::new(), |_| String::new(), |_| 1.0));
        let order: Vec<_> = units.iter().map(|u| (u.seed, u.cell, u.policy)).collect();
        assert_eq!(
            order,
            [(1, 0, 1), (1, 0, 0), (1, 1, 1), (1, 1, 0), (2, 0, 0), (2, 0, 1), (2, 1, 0), (2, 1, 1)]
        );
    }
}
