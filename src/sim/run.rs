//! A scenario under a policy and a seed, to what a live run of one direction leaves behind too.
//!
//! Figures that a live run takes from histograms are exact here.

use super::engine::{Probe, Sim};
use super::flow::{FlowSpec, FlowStats};
use super::scenario::Scenario;
use crate::aqm::Service;
use crate::aqm::params::{DEFAULT_LIMIT_PACKETS, Discipline, Limit as QueueLimit, PiParams};
use crate::config::{AqmConfig, Policy};
use crate::egress::{Egress, EgressConfig};
use crate::report::recorder::BIN;
use crate::report::result::{DelayResult, FlowResult};
use crate::report::{DirectionRecorder, DirectionReport, RunSetup};
use crate::telemetry::Direction;
use crate::time::{Instant, Span};
use crate::wire::Ecn;

/// A queue has recovered from a step when the mean delay stays under twice this, whichever the policy.
pub const RECOVERY_TARGET: Span = Span::from_millis(15);
/// For this many bins of 100 ms.
const RECOVERY_BINS: usize = 10;

/// Why a scenario was not run.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A policy that only works live.
    #[error(
        "policy '{0}' does not run in the simulator; take dualpi2, dualpi2-linux, pi2, codel or taildrop"
    )]
    Policy(String),
}

/// The bottleneck of a scenario under a policy.
pub fn egress_config(scenario: &Scenario, policy: &Policy, seed: u64) -> Result<EgressConfig, SimError> {
    if matches!(policy, Policy::Replay(_)) {
        return Err(SimError::Policy(policy.to_string()));
    }
    let aqm = AqmConfig::of(policy.clone());
    let (rate, limit) = (scenario.rate, aqm.limit_rule(scenario.buffer));
    let queue = QueueLimit { bytes: limit.bytes(rate), packets: DEFAULT_LIMIT_PACKETS };
    let discipline = aqm.discipline(queue, seed);
    Ok(EgressConfig { rate, overhead: 0, mpu: 0, limit, discipline })
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

/// Runs a scenario.
pub fn run(scenario: &Scenario, policy: &Policy, seed: u64) -> Result<DirectionReport, SimError> {
    let config = egress_config(scenario, policy, seed)?;
    let has_l_queue = matches!(config.discipline, Discipline::DualQ(_));
    let flows: Vec<FlowSpec> = scenario.flows.iter().map(|f| f.spec.clone()).collect();
    let mut sim = Sim::new(Egress::new(&config, Instant::ZERO), flows, seed);
    let mut recorder = DirectionRecorder::new(RunSetup {
        scenario: Some(scenario.name.clone()),
        policy: policy.to_string(),
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
    let stats = |sim: &Sim<_>| (0..scenario.flows.len()).map(|i| sim.stats(i)).collect::<Vec<FlowStats>>();
    let mut at_warmup = stats(&sim);
    for stop in stops(scenario) {
        sim.run_until(stop.at, &mut observed);
        let egress = sim.bottleneck();
        if stop.window && stop.at > Instant::ZERO {
            recorder.window(&egress.take_window(stop.at));
        }
        if let Some(step) = scenario.steps.iter().find(|s| Instant::ZERO + s.at == stop.at) {
            egress.set_rate(step.rate, stop.at);
        }
        if stop.at == Instant::ZERO + scenario.warmup {
            observed.measuring = true;
            at_warmup = stats(&sim);
        }
    }
    let at_end = stats(&sim);
    let mut report = recorder.finish();
    let [l, c] = observed.delays;
    let queues = &mut report.result.queues;
    let all = [l.as_slice(), c.as_slice()].concat();
    for (queue, delays) in [(&mut queues.l, l), (&mut queues.c, c), (&mut queues.all, all)] {
        queue.delay_ms = delay_result(delays);
    }
    let seconds = (scenario.duration - scenario.warmup).as_secs_f64();
    report.result.flows = flow_results(scenario, &at_warmup, &at_end, seconds, has_l_queue);
    report.result.ratio_l_over_c = ratio(scenario, &report.result.flows);
    report.result.recovery_ms = recoveries(scenario, &observed.bins);
    Ok(report)
}

/// A moment at which something is done between two packets.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
struct Stop {
    at: Instant,
    window: bool,
}

/// Ends of windows: a grid, and the edges of the measured window; and the steps of the rate.
fn stops(scenario: &Scenario) -> Vec<Stop> {
    let grid = PiParams::default().t_update.as_nanos();
    let end = scenario.duration.as_nanos();
    let windows = (1..=end / grid).map(|i| i * grid).chain([scenario.warmup.as_nanos(), end]);
    let mut stops: Vec<Stop> = windows.map(|ns| Stop { at: Instant::from_nanos(ns), window: true }).collect();
    stops.extend(scenario.steps.iter().map(|s| Stop { at: Instant::ZERO + s.at, window: false }));
    // Where a step falls on the end of a window, the window comes first and sees the old rate.
    stops.sort_unstable_by_key(|s| (s.at, !s.window));
    stops.dedup_by_key(|s| s.at);
    stops
}

/// Mean, exact nearest-rank percentiles and maximum.
fn delay_result(mut ns: Vec<u64>) -> DelayResult {
    ns.sort_unstable();
    let Some(&max) = ns.last() else { return DelayResult::default() };
    let ms = |ns: u64| Some(ns as f64 / 1e6);
    let rank = |per_mille: usize| ms(ns[(ns.len() * per_mille).div_ceil(1000) - 1]);
    let sum: u64 = ns.iter().sum();
    DelayResult {
        mean: Some(sum as f64 / 1e6 / ns.len() as f64),
        p50: rank(500),
        p99: rank(990),
        p999: rank(999),
        max: ms(max),
    }
}

fn flow_results(
    scenario: &Scenario,
    from: &[FlowStats],
    to: &[FlowStats],
    seconds: f64,
    has_l_queue: bool,
) -> Vec<FlowResult> {
    let flows = scenario.flows.iter().zip(from.iter().zip(to));
    flows
        .map(|(flow, (from, to))| {
            let in_l = has_l_queue && matches!(flow.spec.ecn, Ecn::Ect1 | Ecn::Ce);
            let service = if in_l { Service::L4s } else { Service::Classic };
            let bits = (to.delivered - from.delivered) as f64 * f64::from(flow.payload) * 8.0;
            FlowResult {
                name: flow.name.clone(),
                cc: flow.cc.map(str::to_owned),
                queue: Some(service.label().to_owned()),
                rtt_ms: flow.cc.map(|_| flow.spec.rtt.as_millis_f64()),
                goodput_mbps: Some(bits / 1e6 / seconds),
                retransmits: flow.cc.map(|_| to.retransmits - from.retransmits),
                fct_ms: None,
                fct: None,
            }
        })
        .collect()
}

/// Mean goodput of endless flows with the L4S identifier over that of the other endless flows, also where a policy
/// has one queue for both.
fn ratio(scenario: &Scenario, results: &[FlowResult]) -> Option<f64> {
    let mean = |l4s: bool| {
        let goodputs: Vec<f64> = scenario
            .flows
            .iter()
            .zip(results)
            .filter(|(f, _)| f.is_endless(scenario.warmup) && (f.spec.ecn == Ecn::Ect1) == l4s)
            .filter_map(|(_, r)| r.goodput_mbps)
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
    let ends = scenario.steps.iter().skip(1).map(|s| s.at).chain([scenario.duration]);
    scenario
        .steps
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
        let d = delay_result((1..=300).rev().map(|ms| ms * 1_000_000).collect());
        assert_eq!((d.p50, d.p99, d.p999), (Some(150.0), Some(297.0), Some(300.0)));
        assert_eq!((d.mean, d.max), (Some(150.5), Some(300.0)));
        assert_eq!(delay_result(Vec::new()), DelayResult::default());
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
        let s = scenario(
            "rate = \"40Mbit\"\nsteps = [{ at = \"1s\", rate = \"10Mbit\" }, { at = \"1500ms\", rate = \"4Mbit\" }]",
        );
        let stops = stops(&s);
        let at = |ms| {
            stops.iter().filter(|s| s.at == Instant::from_millis(ms)).map(|s| s.window).collect::<Vec<_>>()
        };
        assert_eq!((at(1000), at(1500), at(4000), at(16)), (vec![true], vec![false], vec![true], vec![true]));
        assert!(stops.windows(2).all(|p| p[0].at < p[1].at));
    }
}
