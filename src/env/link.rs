//! One simulated bottleneck with its flows, advanced from window to window. The only file here that knows how the
//! simulator is driven.

use super::trail::Sums;
use crate::aqm::PacketMeta;
use crate::aqm::params::{Discipline, Knobs};
use crate::config::Policy;
use crate::egress::{Egress, EgressConfig};
use crate::sim::link::{Course, Program};
use crate::sim::run;
use crate::sim::scenario::Drawn;
use crate::sim::traffic::SourceSpec;
use crate::sim::{Scenario, Sim};
use crate::telemetry::TelemetryWindow;
use crate::time::Instant;

/// What a learner must not see and a critic may.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Truth {
    /// Rate of the link in Mbit/s; the mean rate of one that sends by a trace.
    pub capacity_mbps: f64,
    /// Long responsive flows that are there now: in L, in C.
    pub flows: [u32; 2],
    /// Their mean base round-trip times in milliseconds; 0 without flows.
    pub rtt_ms: [f64; 2],
    /// Short responsive flows (web, sized) that are open now.
    pub short: u32,
    /// Unresponsive flows that are there now.
    pub unresponsive: u32,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Kind {
    /// Responsive and as long as its time lasts, in the queue of this index.
    Long(usize),
    /// Responsive, of a given size.
    Short,
    Unresponsive,
}

#[derive(Clone, Debug)]
struct Member {
    kind: Kind,
    payload: u64,
}

/// A link.
#[derive(Clone, Debug)]
pub struct Link {
    sim: Sim<Egress<u32>>,
    members: Vec<Member>,
    presence: [u64; 2],
}

impl Link {
    /// A link at time zero, under RFC 9332's defaults.
    pub fn new(scenario: &Scenario, seed: u64) -> Self {
        let Drawn { flows, link } = scenario.draw(seed);
        let egress = Egress::new(&egress_config(scenario, &link, seed), Instant::ZERO);
        let sim = Sim::new(egress, flows, seed).with_link(link);
        let member = |flow: &crate::sim::scenario::PlannedFlow| {
            let spec = &flow.spec;
            let meta = PacketMeta { len: spec.frame, ecn: spec.ecn, nqb: spec.nqb, ip: true, flow: 0 };
            let kind = match spec.source {
                SourceSpec::Bulk(_) | SourceSpec::Limited { .. } => Kind::Long(sim.service(&meta).index()),
                SourceSpec::Sized { .. } | SourceSpec::Web(_) => Kind::Short,
                SourceSpec::Cbr { .. } | SourceSpec::Frames(_) => Kind::Unresponsive,
            };
            Member { kind, payload: u64::from(flow.payload) }
        };
        let members = scenario.flows.iter().map(member).collect();
        Self { sim, members, presence: [0; 2] }
    }

    /// Lets everything happen that is due before `end`, and closes the window there.
    pub fn advance(&mut self, end: Instant) -> TelemetryWindow {
        self.sim.run_until(end, &mut ());
        let window = self.sim.bottleneck().take_window(end);
        for (i, member) in self.members.iter().enumerate() {
            if let Kind::Long(queue) = member.kind {
                self.presence[queue] += self.sim.open(i) as u64 * window.span.as_nanos();
            }
        }
        window
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
            delivered: [0; 2],
            presence: self.presence,
        };
        for (i, member) in self.members.iter().enumerate() {
            if let Kind::Long(queue) = member.kind {
                sums.delivered[queue] += member.payload * self.sim.stats(i).delivered;
            }
        }
        sums
    }

    /// What is hidden, at the end of a window.
    pub fn truth(&mut self) -> Truth {
        let mut truth =
            Truth { capacity_mbps: self.sim.bottleneck().rate().as_mbps_f64(), ..Truth::default() };
        for (i, member) in self.members.iter().enumerate() {
            let open = self.sim.open(i) as u32;
            match member.kind {
                Kind::Long(queue) => {
                    truth.flows[queue] += open;
                    truth.rtt_ms[queue] += f64::from(open) * self.sim.base_rtt(i).as_millis_f64();
                }
                Kind::Short => truth.short += open,
                Kind::Unresponsive => truth.unresponsive += open,
            }
        }
        for queue in 0..2 {
            truth.rtt_ms[queue] /= f64::from(truth.flows[queue].max(1));
        }
        truth
    }
}

/// The bottleneck under RFC 9332's defaults. Its queues are allocated for what the byte limit lets in, not for what a
/// forwarder may ever need: thousands of links have to fit in memory, and each in the caches.
fn egress_config(scenario: &Scenario, link: &Program, seed: u64) -> EgressConfig {
    let mut config = run::egress_config(scenario, &Policy::DualPi2, link.configured, seed);
    let told: &[_] = match &link.course {
        Course::Rates { changes, hidden: false } => changes,
        Course::Rates { .. } | Course::Trace { .. } => &[],
    };
    let fastest = told.iter().map(|s| s.rate).fold(link.configured, Ord::max);
    let least = scenario.flows.iter().map(|f| f.spec.frame).min().unwrap_or(u16::MAX);
    let packets = config.limit.bytes(fastest) / u64::from(least.max(1)) + 1;
    if let Discipline::DualQ(dual) = &mut config.discipline {
        dual.limit.packets = dual.limit.packets.min(packets.try_into().unwrap_or(u32::MAX));
    }
    config
}
