//! A scenario under a policy and a seed, to what a live run of one direction leaves behind too.
//!
//! Figures that a live run takes from histograms are exact here.

use std::path::Path;

use super::controller::Controller;
use super::engine::{Probe, Sim};
use super::flow::FlowStats;
use super::models;
use super::phases::Phases;
use super::scenario::{Drawn, PlannedFlow, Scenario};
use super::traffic::SourceSpec;
use crate::aqm::params::{DEFAULT_LIMIT_PACKETS, Knobs, Limit as QueueLimit, PiParams};
use crate::aqm::{PacketMeta, Service};
use crate::config::{AqmConfig, Policy};
use crate::control::guard::GuardCounters;
use crate::control::model::ModelError;
use crate::control::policy::Policy as Decides;
use crate::control::policy::replay::ReplayError;
use crate::control::policy::rules::RulesError;
use crate::egress::{Egress, EgressConfig};
use crate::report::recorder::BIN;
use crate::report::result::{DelayResult, FctResult, FlowResult};
use crate::report::{DirectionRecorder, DirectionReport, RunSetup};
use crate::telemetry::{Direction, TelemetryWindow};
use crate::time::{Instant, Span};
use crate::units::BitRate;
use crate::wire::Ecn;

/// A queue has recovered from a step when the mean delay stays under twice this, whichever the policy.
pub const RECOVERY_TARGET: Span = Span::from_millis(15);
/// For this many bins of 100 ms.
const RECOVERY_BINS: usize = 10;

/// Why a scenario was not run.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The decisions of a `replay:FILE` cannot be read.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The rules cannot be used.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A scenario under a seed with its bottleneck under a policy, before anything has happened.
pub fn simulation(scenario: &Scenario, policy: &Policy, seed: u64) -> Sim<Egress<u32>> {
    let Drawn { flows, link } = scenario.draw(seed);
    let egress = Egress::new(&egress_config(scenario, policy, link.configured, seed), Instant::ZERO);
    Sim::new(egress, flows, seed).with_link(link)
}

/// The bottleneck of a scenario under a policy, at a rate.
pub fn egress_config(scenario: &Scenario, policy: &Policy, rate: BitRate, seed: u64) -> EgressConfig {
    let aqm = AqmConfig { nqb: scenario.nqb, ..AqmConfig::of(policy.clone()) };
    let limit = aqm.limit_rule(scenario.buffer);
    let queue = QueueLimit { bytes: limit.bytes(rate), packets: DEFAULT_LIMIT_PACKETS };
    let discipline = aqm.discipline(queue, seed);
    EgressConfig { rate, overhead: 0, mpu: 0, limit, discipline }
}

/// What is recorded of each packet.
struct Observed {
    measuring: bool,
    /// Delays of the window in nanoseconds, by [`Service::index`].
    delays: [Vec<u64>; 2],
    /// Sum and number of delays per 100 ms since the beginning.
    bins: Vec<(u64, u64)>,
}

impl Probe for Observed {
    fn forwarded(&mut self, service: Service, sojourn: Span, now: Instant) {
        let ns = sojourn.as_nanos();
        if let Some((sum, count)) = self.bins.get_mut((now.as_nanos() / BIN.as_nanos()) as usize) {
            *sum += ns;
            *count += 1;
        }
        if self.measuring {
            self.delays[service.index()].push(ns);
        }
    }
}

/// A run with every delay of its window.
#[derive(Clone, Debug)]
pub struct SimRun {
    /// What a live run leaves behind too.
    pub report: DirectionReport,
    /// Delays in nanoseconds in ascending order, by [`Service::index`].
    pub delays_ns: [Vec<u64>; 2],
}

/// Runs a scenario.
pub fn run(scenario: &Scenario, policy: &Policy, seed: u64) -> Result<DirectionReport, SimError> {
    run_detailed(scenario, policy, seed, &mut ()).map(|r| r.report)
}

/// Is told of every window as it closes, with the parameters then in force.
pub trait WindowSink {
    /// A window has closed.
    fn window(&mut self, window: &TelemetryWindow, in_force: &Knobs);

    /// Asked after each window. False = the run ends there, and nobody will look at its report.
    fn goes_on(&self) -> bool {
        true
    }
}

impl WindowSink for () {
    fn window(&mut self, _: &TelemetryWindow, _: &Knobs) {}
}

/// Runs a scenario and keeps more of it.
pub fn run_detailed(
    scenario: &Scenario,
    policy: &Policy,
    seed: u64,
    sink: &mut impl WindowSink,
) -> Result<SimRun, SimError> {
    let controller = Controller::of(policy, scenario)?;
    let (mut run, _) = run_under(scenario, policy, controller, seed, sink);
    if let Policy::Model(which) = policy {
        run.report.result.model_sha256 = Some(models::file(which)?.sha256.clone());
    }
    Ok(run)
}

/// Runs a scenario under a policy that the caller brings, behind the guard of the live path; result rows call it `model`.
/// With it comes what the guard made of its decisions.
pub fn run_guarded(
    scenario: &Scenario,
    policy: Box<dyn Decides>,
    seed: u64,
    sink: &mut impl WindowSink,
) -> (SimRun, GuardCounters) {
    let controller = Controller::new(policy, scenario);
    run_under(scenario, &Policy::Model(None), Some(controller), seed, sink)
}

/// The policy of a model, that of a file or the one that is built in, that reads these features as 0.
pub fn masked_model(which: Option<&Path>, masked: &[usize]) -> Result<Box<dyn Decides>, SimError> {
    Ok(Box::new(models::policy(&which.map(Path::to_owned), masked)?))
}

fn run_under(
    scenario: &Scenario,
    policy: &Policy,
    mut controller: Option<Controller>,
    seed: u64,
    sink: &mut impl WindowSink,
) -> (SimRun, GuardCounters) {
    let mut sim = simulation(scenario, policy, seed);
    let constants = policy.constants().knobs();
    let mut recorder = DirectionRecorder::new(RunSetup {
        scenario: Some(scenario.name.clone()),
        policy: policy.label(),
        seed: Some(seed),
        direction: Direction::LeftToRight,
        start: Instant::ZERO,
        warmup: scenario.warmup,
        duration: Some(scenario.duration),
    });
    let mut observed = Observed {
        measuring: false,
        delays: [Vec::new(), Vec::new()],
        bins: vec![(0, 0); scenario.duration.as_nanos().div_ceil(BIN.as_nanos()) as usize],
    };
    let measured_from = Instant::ZERO + scenario.warmup;
    let mut phases = Phases::of(scenario);
    let stats = |sim: &Sim<_>| (0..scenario.flows.len()).map(|i| sim.stats(i)).collect::<Vec<FlowStats>>();
    let mut at_warmup = stats(&sim);
    for end in window_ends(scenario, phases.edges(), grid_of(policy)) {
        while let Some(at) = controller.as_ref().and_then(Controller::due).filter(|&at| at <= end) {
            sim.run_until(at, &mut observed);
            if let Some(c) = &mut controller {
                c.apply_due(sim.bottleneck(), at);
            }
        }
        sim.run_until(end, &mut observed);
        let in_force = controller.as_ref().map_or(constants, Controller::in_force);
        if end > Instant::ZERO {
            let window = sim.bottleneck().take_window(end);
            recorder.window(&window);
            sink.window(&window, &in_force);
            if let Some(c) = &mut controller {
                c.window(&window, sim.bottleneck(), end >= measured_from);
            }
            phases.window(&window, &observed.delays, &sim, scenario.flows.len());
            if !sink.goes_on() {
                break;
            }
        }
        if end == measured_from {
            observed.measuring = true;
            at_warmup = stats(&sim);
        }
    }
    let mut report = recorder.finish();
    report.result.phases = phases.results(scenario, &observed.delays);
    let [mut l, mut c] = observed.delays;
    l.sort_unstable();
    c.sort_unstable();
    let queues = &mut report.result.queues;
    queues.all.delay_ms = delay_result(&merged(&l, &c));
    queues.l.delay_ms = delay_result(&l);
    queues.c.delay_ms = delay_result(&c);
    let account = Account { scenario, sim: &sim, at_warmup: &at_warmup, at_end: &stats(&sim) };
    report.result.flows = account.flows();
    report.result.ratio_l_over_c = ratio(scenario, &report.result.flows);
    report.result.recovery_ms = recoveries(scenario, &observed.bins);
    let mut counters = GuardCounters::default();
    if let Some(c) = controller {
        c.report(&mut report.result);
        counters = c.counters();
    }
    (SimRun { report, delays_ns: [l, c] }, counters)
}

/// From window to window.
fn grid_of(policy: &Policy) -> Span {
    match policy {
        Policy::LookAhead(setup) => setup.tick,
        _ => PiParams::default().t_update,
    }
}

/// Ends of windows: a grid, the edges of the measured window, and those of phases.
fn window_ends(scenario: &Scenario, edges: &[Instant], grid: Span) -> Vec<Instant> {
    let grid = grid.as_nanos();
    let end = scenario.duration.as_nanos();
    let mut ends: Vec<u64> =
        (1..=end / grid).map(|i| i * grid).chain([scenario.warmup.as_nanos(), end]).collect();
    ends.extend(edges.iter().map(|e| e.as_nanos()));
    ends.sort_unstable();
    ends.dedup();
    ends.into_iter().map(Instant::from_nanos).collect()
}

/// Two ascending lists as one.
pub fn merged(a: &[u64], b: &[u64]) -> Vec<u64> {
    let (mut i, mut j) = (0, 0);
    let mut all = Vec::with_capacity(a.len() + b.len());
    while i < a.len() && j < b.len() {
        let from_a = a[i] <= b[j];
        all.push(if from_a { a[i] } else { b[j] });
        i += usize::from(from_a);
        j += usize::from(!from_a);
    }
    all.extend_from_slice(&a[i..]);
    all.extend_from_slice(&b[j..]);
    all
}

/// The value below or at which `per_mille` of an ascending list lies, by nearest rank.
pub fn nearest_rank(sorted: &[u64], per_mille: usize) -> Option<u64> {
    sorted.get((sorted.len() * per_mille).div_ceil(1000).max(1) - 1).copied()
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// Mean, exact nearest-rank percentiles and maximum of an ascending list.
pub(super) fn delay_result(sorted: &[u64]) -> DelayResult {
    let Some(&max) = sorted.last() else { return DelayResult::default() };
    let rank = |per_mille: usize| nearest_rank(sorted, per_mille).map(ms);
    let sum: u64 = sorted.iter().sum();
    DelayResult {
        mean: Some(ms(sum) / sorted.len() as f64),
        p50: rank(500),
        p99: rank(990),
        p999: rank(999),
        max: Some(ms(max)),
    }
}

/// What flows have done between two readings.
struct Account<'a> {
    scenario: &'a Scenario,
    sim: &'a Sim<Egress<u32>>,
    at_warmup: &'a [FlowStats],
    at_end: &'a [FlowStats],
}

impl Account<'_> {
    fn flows(&self) -> Vec<FlowResult> {
        self.scenario.flows.iter().enumerate().map(|(i, flow)| self.flow(i, flow)).collect()
    }

    fn flow(&self, i: usize, flow: &PlannedFlow) -> FlowResult {
        let (from, to) = (self.at_warmup[i], self.at_end[i]);
        let seconds = (self.scenario.duration - self.scenario.warmup).as_secs_f64();
        let bits = (to.delivered - from.delivered) as f64 * f64::from(flow.payload) * 8.0;
        let many = matches!(flow.spec.source, SourceSpec::Web(_));
        let measured_from = Instant::ZERO + self.scenario.warmup;
        let completed = self.sim.completions(i).iter().filter(|c| !many || c.opened >= measured_from);
        let mut took: Vec<u64> = completed.map(|c| c.took.as_nanos()).collect();
        took.sort_unstable();
        let mean = took.iter().sum::<u64>() as f64 / took.len() as f64;
        let rank = |per_mille| nearest_rank(&took, per_mille).map(ms);
        FlowResult {
            name: flow.name.clone(),
            cc: flow.cc.map(str::to_owned),
            queue: Some(self.queue(flow).label().to_owned()),
            rtt_ms: flow.cc.map(|_| self.sim.base_rtt(i).as_millis_f64()),
            goodput_mbps: Some(bits / 1e6 / seconds),
            retransmits: flow.cc.map(|_| to.retransmits - from.retransmits),
            fct_ms: (!took.is_empty()).then_some(mean / 1e6),
            fct: many.then(|| FctResult {
                completed: took.len() as u64,
                unfinished: self.sim.open(i) as u64,
                p50_ms: rank(500),
                p95_ms: rank(950),
                p99_ms: rank(990),
            }),
        }
    }

    /// The queue that the bottleneck puts its packets into.
    fn queue(&self, flow: &PlannedFlow) -> Service {
        let meta =
            PacketMeta { len: flow.spec.frame, ecn: flow.spec.ecn, nqb: flow.spec.nqb, ip: true, flow: 0 };
        self.sim.service(&meta)
    }
}

/// Mean goodput of endless flows with the L4S identifier over that of the other endless flows, also where a policy
/// has one queue for both.
fn ratio(scenario: &Scenario, results: &[FlowResult]) -> Option<f64> {
    endless_ratio(
        scenario,
        |i| scenario.flows[i].is_endless(scenario.warmup),
        |i| results.get(i).and_then(|r| r.goodput_mbps),
    )
}

/// The same of any selection of flows.
pub(super) fn endless_ratio(
    scenario: &Scenario,
    counts: impl Fn(usize) -> bool,
    goodput: impl Fn(usize) -> Option<f64>,
) -> Option<f64> {
    let mean = |l4s: bool| {
        let goodputs: Vec<f64> = (0..scenario.flows.len())
            .filter(|&i| counts(i) && (scenario.flows[i].spec.ecn == Ecn::Ect1) == l4s)
            .filter_map(&goodput)
            .collect();
        (!goodputs.is_empty()).then(|| goodputs.iter().sum::<f64>() / goodputs.len() as f64)
    };
    let (l, c) = (mean(true)?, mean(false)?);
    (c > 0.0).then_some(l / c)
}

/// From each step to the start of the first full second of low delay, in whole bins of 100 ms; `None` if the next step
/// or the end comes first. A bin in which nothing was forwarded is no sign of delay or of its absence, and breaks no
/// second.
fn recoveries(scenario: &Scenario, bins: &[(u64, u64)]) -> Vec<Option<f64>> {
    let low = |&(sum, count): &(u64, u64)| sum <= 2 * RECOVERY_TARGET.as_nanos() * count;
    let bin = |at: Span| at.as_nanos().div_ceil(BIN.as_nanos()) as usize;
    let steps = scenario.steps();
    let ends = steps.iter().skip(1).map(|s| s.at).chain([scenario.duration]);
    steps
        .iter()
        .zip(ends)
        .map(|(step, end)| {
            let first = bin(step.at);
            let bins = bins.get(first..bin(end).min(bins.len()))?;
            let good = bins.windows(RECOVERY_BINS).position(|second| second.iter().all(low))?;
            let start = BIN.as_nanos() * (first + good) as u64;
            Some((start - step.at.as_nanos()) as f64 / 1e6)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let d = delay_result(&(1..=300).map(|ms| ms * 1_000_000).collect::<Vec<_>>());
        assert_eq!((d.p50, d.p99, d.p999), (Some(150.0), Some(297.0), Some(300.0)));
        assert_eq!((d.mean, d.max), (Some(150.5), Some(300.0)));
        assert_eq!(delay_result(&[]), DelayResult::default());
        assert_eq!(merged(&[1, 4, 4], &[2, 4, 9]), [1, 2, 4, 4, 4, 9]);
    }

    fn scenario(link: &str) -> Scenario {
        let text = format!(
            "name = \"s\"\nduration = \"4s\"\nwarmup = \"1s\"\n[link]\n{link}\n[[flow]]\ncc = \"reno\"\nrtt = \"20ms\"\n"
        );
        Scenario::parse(&text, "s.toml").unwrap()
    }

    #[test]
    fn recovery_is_the_start_of_the_first_good_second() {
        let s = scenario(
            "rate = \"40Mbit\"\nsteps = [{ at = \"1s\", rate = \"10Mbit\" }, { at = \"2550ms\", rate = \"4Mbit\" }]",
        );
        let mut bins = vec![(20_000_000, 1); 40];
        bins[10] = (31_000_000, 1);
        bins[12] = (60_000_001, 2);
        bins[14] = (0, 0);
        // Good from bin 13 on, which is 300 ms after the first step; and from the first whole bin after the second.
        assert_eq!(recoveries(&s, &bins), [Some(300.0), Some(50.0)]);
        bins[32] = (31_000_000, 1);
        assert_eq!(recoveries(&s, &bins), [Some(300.0), None], "too little is left");
    }

    #[test]
    fn windows_end_where_the_measured_window_does() {
        let ends = window_ends(&scenario("rate = \"40Mbit\""), &[], Span::from_millis(16));
        for ms in [16, 1000, 4000] {
            assert_eq!(ends.iter().filter(|&&e| e == Instant::from_millis(ms)).count(), 1, "{ms}");
        }
        assert!(ends.windows(2).all(|p| p[0] < p[1]));
    }

    /// Counts windows and has enough after so many.
    struct Enough(usize, usize);

    impl WindowSink for Enough {
        fn window(&mut self, _: &TelemetryWindow, _: &Knobs) {
            self.0 += 1;
        }

        fn goes_on(&self) -> bool {
            self.0 < self.1
        }
    }

    /// 4 s are 250 windows of 16 ms; one more ends where the measured time begins, since 1 s is 62.5 of them.
    #[test]
    fn a_sink_may_end_a_run_before_anything_is_measured() {
        for (most, seen) in [(3, 3), (251, 251), (1000, 251)] {
            let mut sink = Enough(0, most);
            run_detailed(&scenario("rate = \"40Mbit\""), &Policy::DualPi2, 1, &mut sink).unwrap();
            assert_eq!(sink.0, seen);
        }
    }
}
