//! The phases of a run, each measured by itself: readings where one ends and the next begins, and their differences.

use super::engine::Sim;
use super::flow::FlowStats;
use super::run::{delay_result, endless_ratio, merged};
use super::scenario::Scenario;
use crate::aqm::Service;
use crate::egress::Egress;
use crate::report::result::{LinkResult, PerQueue, PhaseResult};
use crate::telemetry::TelemetryWindow;
use crate::time::Instant;

/// Cumulative readings where a phase begins or the run ends.
#[derive(Clone, Debug)]
struct Reading {
    at: Instant,
    /// Delays recorded until then, by [`Service::index`].
    delays: [usize; 2],
    flows: Vec<FlowStats>,
    capacity_bits: u64,
    sent_bytes: u64,
}

/// The readings of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct Phases {
    edges: Vec<Instant>,
    names: Vec<String>,
    readings: Vec<Reading>,
}

impl Phases {
    /// Of the phases that begin in the measured part of `scenario`.
    pub(super) fn of(scenario: &Scenario) -> Self {
        let measured = || scenario.phases.iter().filter(|p| p.at >= scenario.warmup);
        let mut edges: Vec<_> = measured().map(|p| Instant::ZERO + p.at).collect();
        if !edges.is_empty() {
            edges.push(Instant::ZERO + scenario.duration);
        }
        Self { edges, names: measured().map(|p| p.name.clone()).collect(), readings: Vec::new() }
    }

    /// Where windows have to end.
    pub(super) fn edges(&self) -> &[Instant] {
        &self.edges
    }

    /// Takes a reading if a phase begins or the last one ends with `window`.
    pub(super) fn window(
        &mut self,
        window: &TelemetryWindow,
        delays: &[Vec<u64>; 2],
        sim: &Sim<Egress<u32>>,
        flows: usize,
    ) {
        if self.edges.contains(&window.end) {
            let bytes = |s: Service| window.egress.queue(s).forwarded.bytes;
            self.readings.push(Reading {
                at: window.end,
                delays: [delays[0].len(), delays[1].len()],
                flows: (0..flows).map(|i| sim.stats(i)).collect(),
                capacity_bits: window.capacity_bits,
                sent_bytes: bytes(Service::L4s) + bytes(Service::Classic),
            });
        }
    }

    /// The figures. `delays` are in the order of time.
    pub(super) fn results(&self, scenario: &Scenario, delays: &[Vec<u64>; 2]) -> Vec<PhaseResult> {
        self.readings
            .windows(2)
            .zip(&self.names)
            .map(|(edge, name)| phase(scenario, name, &edge[0], &edge[1], delays))
            .collect()
    }
}

fn phase(
    scenario: &Scenario,
    name: &str,
    from: &Reading,
    to: &Reading,
    delays: &[Vec<u64>; 2],
) -> PhaseResult {
    let [l, c] = [0, 1].map(|q| {
        let mut of_phase = delays[q][from.delays[q]..to.delays[q]].to_vec();
        of_phase.sort_unstable();
        of_phase
    });
    let seconds = to.at.since(from.at).as_secs_f64();
    let capacity = (to.capacity_bits - from.capacity_bits) as f64;
    let goodput = |i: usize| {
        let packets = to.flows[i].delivered - from.flows[i].delivered;
        Some(packets as f64 * f64::from(scenario.flows[i].payload) * 8.0 / 1e6 / seconds)
    };
    let throughout = |i: usize| {
        let flow = &scenario.flows[i];
        flow.is_greedy() && flow.spec.start <= from.at && flow.spec.stop.is_none_or(|stop| stop >= to.at)
    };
    PhaseResult {
        name: name.to_owned(),
        from_s: from.at.since(Instant::ZERO).as_secs_f64(),
        to_s: to.at.since(Instant::ZERO).as_secs_f64(),
        link: LinkResult {
            rate_mbps: Some(capacity / 1e6 / seconds),
            utilization: (capacity > 0.0).then(|| (to.sent_bytes - from.sent_bytes) as f64 * 8.0 / capacity),
        },
        packets: PerQueue { l: l.len() as u64, c: c.len() as u64, all: (l.len() + c.len()) as u64 },
        delay_ms: PerQueue { all: delay_result(&merged(&l, &c)), l: delay_result(&l), c: delay_result(&c) },
        ratio_l_over_c: endless_ratio(scenario, throughout, goodput),
    }
}
