//! One simulated bottleneck with its flows, advanced from window to window. The only file here that knows how the
//! simulator is driven.

use super::options::EnvError;
use super::trail::Sums;
use crate::aqm::params::{Discipline, Knobs};
use crate::config::Policy;
use crate::egress::{Egress, EgressConfig};
use crate::sim::flow::{FlowSpec, SourceSpec};
use crate::sim::scenario::{PlannedFlow, Step};
use crate::sim::{Scenario, Sim};
use crate::telemetry::TelemetryWindow;
use crate::time::{Instant, Span};

/// The bottleneck of a scenario under RFC 9332's defaults. Its queues are allocated for what the byte limit lets in, not
/// for what a forwarder may ever need: thousands of links have to fit in memory and caches.
pub(super) fn egress_config(scenario: &Scenario) -> Result<EgressConfig, EnvError> {
    let mut config = crate::sim::run::egress_config(scenario, &Policy::DualPi2, scenario.seed)?;
    let fastest = scenario.steps.iter().map(|s| s.rate).fold(scenario.rate, Ord::max);
    let least = scenario.flows.iter().map(|f| f.spec.frame).min().unwrap_or(u16::MAX);
    let packets = config.limit.bytes(fastest) / u64::from(least.max(1)) + 1;
    if let Discipline::DualQ(dual) = &mut config.discipline {
        dual.limit.packets = dual.limit.packets.min(packets.try_into().unwrap_or(u32::MAX));
    }
    Ok(config)
}

/// What a learner must not see and a critic may.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Truth {
    /// Rate of the link in Mbit/s.
    pub capacity_mbps: f64,
    /// Responsive flows that are there now: L4S, Classic.
    pub flows: [u32; 2],
    /// Their mean base round-trip times in milliseconds; 0 without flows.
    pub rtt_ms: [f64; 2],
    /// Unresponsive flows that are there now.
    pub unresponsive: u32,
}

#[derive(Clone, Debug)]
struct Member {
    /// 0 is L4S, 1 is Classic, `None` is unresponsive.
    class: Option<usize>,
    payload: u64,
    rtt: Span,
    start: Instant,
    stop: Instant,
}

impl Member {
    fn of(flow: &PlannedFlow) -> Self {
        // A scalable control is sent with the L4S identifier, the others are not (`sim::scenario`).
        let class = flow.cc.map(|cc| usize::from(!matches!(cc, "prague" | "dctcp")));
        Self {
            class,
            payload: u64::from(flow.payload),
            rtt: flow.spec.rtt,
            start: flow.spec.start,
            stop: flow.spec.stop.unwrap_or(Instant::FAR_FUTURE),
        }
    }

    fn is_there(&self, now: Instant) -> bool {
        self.start <= now && now < self.stop
    }

    fn presence(&self, now: Instant) -> u64 {
        now.min(self.stop).since(self.start).as_nanos()
    }
}

/// A link.
#[derive(Clone, Debug)]
pub struct Link {
    sim: Sim<Egress<u32>>,
    members: Vec<Member>,
    /// Changes of the rate that are still to come, the next one last.
    steps: Vec<Step>,
}

impl Link {
    /// A link at time zero.
    pub fn new(scenario: &Scenario, config: &EgressConfig, seed: u64) -> Self {
        let flows: Vec<FlowSpec> = scenario.flows.iter().map(|f| f.spec.clone()).collect();
        debug_assert!(
            scenario.flows.iter().all(|f| f.cc.is_some() == matches!(f.spec.source, SourceSpec::Bulk(_)))
        );
        Self {
            sim: Sim::new(Egress::new(config, Instant::ZERO), flows, seed),
            members: scenario.flows.iter().map(Member::of).collect(),
            steps: scenario.steps.iter().rev().copied().collect(),
        }
    }

    /// Lets everything happen that is due before `end`, and closes the window there. A rate that changes at `end`
    /// itself is the next window's.
    pub fn advance(&mut self, end: Instant) -> TelemetryWindow {
        while let Some(step) = self.steps.pop_if(|s| Instant::ZERO + s.at < end) {
            let at = Instant::ZERO + step.at;
            self.sim.run_until(at, &mut ());
            self.sim.bottleneck().set_rate(step.rate, at);
        }
        self.sim.run_until(end, &mut ());
        self.sim.bottleneck().take_window(end)
    }

    /// Puts parameters in force.
    pub fn apply(&mut self, knobs: &Knobs, now: Instant) {
        self.sim.bottleneck().apply(knobs, now);
    }

    /// Sums since the beginning, at the end of a window.
    pub fn sums(&self, window: &TelemetryWindow) -> Sums {
        let queues = &window.egress.queues;
        let mut sums = Sums {
            delay_ns: [queues[0].delay_sum_ns, queues[1].delay_sum_ns],
            packets: [queues[0].forwarded.packets, queues[1].forwarded.packets],
            sent_bits: 8 * (queues[0].forwarded.bytes + queues[1].forwarded.bytes),
            capacity_bits: window.capacity_bits,
            ..Sums::default()
        };
        for (i, member) in self.members.iter().enumerate() {
            if let Some(class) = member.class {
                sums.delivered[class] += member.payload * self.sim.stats(i).delivered;
                sums.presence[class] += member.presence(window.end);
            }
        }
        sums
    }

    /// What is hidden, at the end of a window.
    pub fn truth(&mut self, now: Instant) -> Truth {
        let mut truth =
            Truth { capacity_mbps: self.sim.bottleneck().rate().as_mbps_f64(), ..Truth::default() };
        for member in self.members.iter().filter(|m| m.is_there(now)) {
            match member.class {
                Some(class) => {
                    truth.flows[class] += 1;
                    truth.rtt_ms[class] += member.rtt.as_millis_f64();
                }
                None => truth.unresponsive += 1,
            }
        }
        for class in 0..2 {
            truth.rtt_ms[class] /= f64::from(truth.flows[class].max(1));
        }
        truth
    }
}
