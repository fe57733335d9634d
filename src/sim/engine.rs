//! The engine: senders, half of the base delay, the bottleneck, the receiver, the other half, the sender.
//!
//! [`Sim::run_until`] is the only way that time passes. Between two calls the caller may look at the bottleneck, take a
//! telemetry window, set a controller's parameters: what happens at the very end of a stretch belongs to the next one.
//! A clone goes on as the original would.

use fastrand::Rng;

use super::connection::{Connection, InFlight, Source};
use super::events::{Event, Events};
use super::flow::FlowStats;
use super::flow::tcp::Permission;
use super::link::{Course, OPPORTUNITY_BYTES, Program};
use super::traffic::{Completion, FlowSpec};
use crate::aqm::{Departure, Packet, PacketMeta, Service};
use crate::egress::Egress;
use crate::time::{Instant, Span};
use crate::units::BitRate;
use crate::wire::Ecn;

/// What packets queue at. [`Egress`] is the one that matters; tests put simpler ones in its place.
pub trait Bottleneck {
    /// Offers a packet; one that is refused is given back.
    fn on_packet(&mut self, handle: u32, meta: PacketMeta, now: Instant) -> Result<(), u32>;
    /// The next packet that the link has time for.
    fn poll(&mut self, now: Instant) -> Option<Departure<u32>>;
    /// When [`Bottleneck::poll`] will have something; `None` while nothing waits.
    fn poll_timeout(&self) -> Option<Instant>;
    /// How long `len` bytes take on the link, at the rate in force.
    fn sending_time(&self, len: u16) -> Span;
    /// The capacity changes. For what has none to change, nothing.
    fn set_capacity(&mut self, capacity: Capacity, now: Instant) {
        let _ = (capacity, now);
    }
}

/// A change of a link's capacity.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Capacity {
    /// This rate from now on, and the shaper is told.
    Told(BitRate),
    /// This rate from now on, and nobody is told.
    Hidden(BitRate),
    /// The link has no rate: it sends by grants.
    ByGrants,
    /// So many bytes may be sent.
    Grant(u16),
}

impl Bottleneck for Egress<u32> {
    fn on_packet(&mut self, handle: u32, meta: PacketMeta, now: Instant) -> Result<(), u32> {
        Self::on_packet(self, handle, meta, now)
    }

    fn poll(&mut self, now: Instant) -> Option<Departure<u32>> {
        Self::poll(self, now)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Self::poll_timeout(self)
    }

    fn sending_time(&self, len: u16) -> Span {
        Self::sending_time(self, len)
    }

    fn set_capacity(&mut self, capacity: Capacity, now: Instant) {
        match capacity {
            Capacity::Told(rate) => self.set_rate(rate, now),
            Capacity::Hidden(rate) => self.vary(rate, now),
            Capacity::ByGrants => self.send_by_grants(now),
            Capacity::Grant(bytes) => self.grant(bytes),
        }
    }
}

/// Is told of every packet that leaves the bottleneck.
pub trait Probe {
    /// A packet was forwarded at `now` after `sojourn` in its queue.
    fn forwarded(&mut self, service: Service, sojourn: Span, now: Instant);
}

impl Probe for () {
    fn forwarded(&mut self, _: Service, _: Span, _: Instant) {}
}

/// A simulation.
#[derive(Clone, Debug)]
pub struct Sim<B> {
    events: Events,
    bottleneck: B,
    link: Program,
    /// The next change of the capacity, or the next opportunity of a trace.
    next_change: u64,
    link_free_set: Option<Instant>,
    packets: Vec<InFlight>,
    unused: Vec<u32>,
    /// First those that the simulation was made from, then those that sources have opened.
    flows: Vec<Connection>,
    /// Flows of sources that have come to an end, to be used again.
    ended: Vec<u32>,
    opened: u32,
}

impl Sim<Egress<u32>> {
    /// The queue that a packet would join.
    pub const fn service(&self, meta: &PacketMeta) -> Service {
        self.bottleneck.service(meta)
    }
}

/// Starts are drawn from this much after the time that was asked for, or a base round trip if that is longer, so that
/// flows that start together are not in step.
pub const START_JITTER: Span = Span::from_millis(20);

/// The stream of random numbers `stream` of a seed.
pub(super) fn stream(seed: u64, stream: u64) -> Rng {
    Rng::with_seed(seed ^ (stream + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl<B: Bottleneck> Sim<B> {
    /// A simulation at time zero of a link that never changes. `seed` draws when within [`START_JITTER`] each flow
    /// starts, and whatever else is random about it; each flow has a stream of its own.
    pub fn new(bottleneck: B, flows: Vec<FlowSpec>, seed: u64) -> Self {
        let mut sim = Self {
            events: Events::default(),
            bottleneck,
            link: Program::constant(BitRate::MIN),
            next_change: 0,
            link_free_set: None,
            packets: Vec::new(),
            unused: Vec::new(),
            flows: Vec::with_capacity(flows.len()),
            ended: Vec::new(),
            opened: 0,
        };
        for (index, spec) in flows.into_iter().enumerate() {
            let index = index as u32;
            let mut rng = stream(seed, u64::from(index));
            let jitter = Span::from_nanos(rng.u64(0..=START_JITTER.max(spec.rtt).as_nanos()));
            let start = spec.start + jitter;
            if spec.stop.is_none_or(|stop| start < stop) {
                sim.events.push(start, Event::Start(index));
            }
            if let Some(stop) = spec.stop {
                sim.events.push(stop, Event::Stop(index));
            }
            sim.opened += 1;
            sim.flows.push(Connection::new(&spec, sim.opened, rng));
        }
        sim
    }

    /// The same with a link that changes. The bottleneck has the rate that the program begins with.
    #[must_use]
    pub fn with_link(mut self, link: Program) -> Self {
        self.link = link;
        match &self.link.course {
            Course::Rates { .. } => self.next_change = 0,
            Course::Trace { trace, offset } => {
                self.bottleneck.set_capacity(Capacity::ByGrants, Instant::ZERO);
                self.next_change = trace.first_at(*offset);
            }
        }
        self.schedule_change();
        self
    }

    fn schedule_change(&mut self) {
        let at = match &self.link.course {
            Course::Rates { changes, .. } => {
                changes.get(self.next_change as usize).map(|s| Instant::ZERO + s.at)
            }
            Course::Trace { trace, offset } => Some(trace.time(self.next_change, *offset)),
        };
        if let Some(at) = at {
            self.events.push(at, Event::Capacity);
        }
    }

    fn change_capacity(&mut self, now: Instant, probe: &mut impl Probe) {
        match &self.link.course {
            Course::Rates { changes, hidden } => {
                let rate = changes[self.next_change as usize].rate;
                let change = if *hidden { Capacity::Hidden(rate) } else { Capacity::Told(rate) };
                self.bottleneck.set_capacity(change, now);
            }
            Course::Trace { .. } => {
                self.bottleneck.set_capacity(Capacity::Grant(OPPORTUNITY_BYTES), now);
                self.serve(now, probe);
            }
        }
        self.next_change += 1;
        self.schedule_change();
    }

    /// Lets everything happen that is due before `end`.
    pub fn run_until(&mut self, end: Instant, probe: &mut impl Probe) {
        while let Some((now, event)) = self.events.pop_before(end) {
            match event {
                Event::Start(flow) => {
                    let f = &mut self.flows[flow as usize];
                    (f.active, f.opened) = (true, now);
                    self.send(flow, now);
                }
                Event::Stop(flow) => self.flows[flow as usize].active = false,
                Event::Arrive(flow) => self.arrive(flow, now, probe),
                Event::LinkFree => {
                    self.link_free_set = None;
                    self.serve(now, probe);
                }
                Event::Capacity => self.change_capacity(now, probe),
                Event::Ack(flow) => self.acknowledged(flow, now),
                Event::Paced(flow) => {
                    self.flows[flow as usize].set.pacer = false;
                    self.send(flow, now);
                }
                Event::Timeout(flow) => self.timeout(flow, now),
                Event::AckTimer(flow) => self.ack_timer(flow, now),
            }
        }
    }

    /// The bottleneck.
    pub const fn bottleneck(&mut self) -> &mut B {
        &mut self.bottleneck
    }

    /// Counters of a flow, by its place in the list that the simulation was made from; of a source, all its flows.
    pub fn stats(&self, flow: usize) -> FlowStats {
        let own = &self.flows[flow];
        let mut stats = own.stats();
        if matches!(own.source, Source::Web(_)) {
            for child in self.flows.iter().filter(|f| f.parent == Some(flow as u32)) {
                stats = stats.plus(child.stats());
            }
        }
        stats
    }

    /// Flows of a source that have completed, in that order; for a sized flow, itself.
    pub fn completions(&self, flow: usize) -> &[Completion] {
        &self.flows[flow].completed
    }

    /// Flows of a source that are open; 1 for any other flow that has begun and neither ended nor completed.
    pub fn open(&self, flow: usize) -> usize {
        match &self.flows[flow].source {
            Source::Web(_) => self.flows.iter().filter(|f| f.parent == Some(flow as u32) && f.active).count(),
            _ => usize::from(self.flows[flow].active),
        }
    }

    /// The two-way base delay of a flow.
    pub fn base_rtt(&self, flow: usize) -> Span {
        self.flows[flow].base_rtt()
    }

    fn arrive(&mut self, flow: u32, now: Instant, probe: &mut impl Probe) {
        let f = &mut self.flows[flow as usize];
        let Some((_, handle)) = f.line.pop_front() else { return };
        if let Some(&(at, _)) = f.line.front() {
            self.events.push(at, Event::Arrive(flow));
        }
        let meta = PacketMeta { len: f.frame, ecn: f.ecn, nqb: f.nqb, ip: true, flow: f.hash };
        if let Err(handle) = self.bottleneck.on_packet(handle, meta, now) {
            f.in_network -= 1;
            self.unused.push(handle);
        }
        if self.link_free_set.is_none() {
            self.serve(now, probe);
        }
    }

    /// Sends what the link has time for, and asks to be called when it has time for more.
    fn serve(&mut self, now: Instant, probe: &mut impl Probe) {
        while let Some(departure) = self.bottleneck.poll(now) {
            match departure {
                Departure::Forward(p) => self.forward(&p, p.ecn == Ecn::Ce, now, probe),
                Departure::Mark(p) => self.forward(&p, true, now, probe),
                Departure::Drop(p, _) => {
                    self.flows[self.packets[p.handle as usize].flow as usize].in_network -= 1;
                    self.unused.push(p.handle);
                }
            }
        }
        if self.link_free_set.is_none()
            && let Some(at) = self.bottleneck.poll_timeout()
        {
            self.link_free_set = Some(at);
            self.events.push(at, Event::LinkFree);
        }
    }

    fn forward(&mut self, packet: &Packet<u32>, ce: bool, now: Instant, probe: &mut impl Probe) {
        probe.forwarded(packet.service, packet.sojourn, now);
        self.unused.push(packet.handle);
        let InFlight { flow, transmission } = self.packets[packet.handle as usize];
        let arrives = now + self.bottleneck.sending_time(packet.len);
        let f = &mut self.flows[flow as usize];
        f.in_network -= 1;
        f.delivered(flow, transmission, ce, arrives, &mut self.events);
    }

    fn ack_timer(&mut self, flow: u32, now: Instant) {
        let f = &mut self.flows[flow as usize];
        f.set.ack = false;
        if let Some(ack) = f.receiver.expire(now) {
            f.acknowledge(flow, ack, now, &mut self.events);
        } else if let Some(due) = f.receiver.due() {
            f.set.ack = true;
            self.events.push(due, Event::AckTimer(flow));
        }
        self.retire(flow);
    }

    fn acknowledged(&mut self, flow: u32, now: Instant) {
        let f = &mut self.flows[flow as usize];
        let Some((_, ack)) = f.acks.pop_front() else { return };
        if let Some(&(at, _)) = f.acks.front() {
            self.events.push(at, Event::Ack(flow));
        }
        let Source::Bulk(sender) = &mut f.source else { return };
        sender.on_ack(ack, now);
        if f.active && sender.is_finished() {
            f.active = false;
            let (parent, completion) = (f.parent, Completion { opened: f.opened, took: now.since(f.opened) });
            self.flows[parent.unwrap_or(flow) as usize].completed.push(completion);
        }
        self.send(flow, now);
        self.retire(flow);
    }

    fn timeout(&mut self, flow: u32, now: Instant) {
        let f = &mut self.flows[flow as usize];
        if f.set.timeout != Some(now) {
            return;
        }
        f.set.timeout = None;
        if let (Source::Bulk(sender), true) = (&mut f.source, f.active) {
            match sender.timeout() {
                Some(at) if at <= now => {
                    sender.on_timeout(now);
                    self.send(flow, now);
                }
                Some(at) => {
                    f.set.timeout = Some(at);
                    self.events.push(at, Event::Timeout(flow));
                }
                None => {}
            }
        }
        self.retire(flow);
    }

    /// Gives the place of a source's flow back once nothing of it is under way.
    fn retire(&mut self, flow: u32) {
        let f = &mut self.flows[flow as usize];
        if let Some(parent) = f.parent.filter(|_| f.is_over()) {
            f.parent = None;
            let stats = f.stats();
            self.ended.push(flow);
            self.flows[parent as usize].add(stats);
        }
    }

    /// Sends what a flow may send, and sets its timers.
    fn send(&mut self, flow: u32, now: Instant) {
        let Self { flows, packets, unused, events, .. } = self;
        let f = &mut flows[flow as usize];
        if !f.active {
            return;
        }
        let at = f.reaches_bottleneck(now);
        let (in_network, line) = (&mut f.in_network, &mut f.line);
        let mut launch = |events: &mut Events, transmission| {
            let packet = InFlight { flow, transmission };
            let handle = if let Some(handle) = unused.pop() {
                packets[handle as usize] = packet;
                handle
            } else {
                packets.push(packet);
                packets.len() as u32 - 1
            };
            *in_network += 1;
            if line.is_empty() {
                events.push(at, Event::Arrive(flow));
            }
            line.push_back((at, handle));
        };
        match &mut f.source {
            Source::Cbr { gap, stats } => {
                launch(events, stats.sent);
                stats.sent += 1;
                events.push(now + *gap, Event::Paced(flow));
            }
            Source::Frames(source) => {
                for _ in 0..source.due(now, f.frame, &mut f.rng) {
                    launch(events, source.stats.sent);
                    source.stats.sent += 1;
                }
                events.push(source.next, Event::Paced(flow));
            }
            Source::Web(_) => self.open_next(flow, now),
            Source::Bulk(sender) => {
                let permission = loop {
                    match sender.permission(now) {
                        Permission::Now => launch(events, sender.send(now)),
                        other => break other,
                    }
                };
                if let (Permission::At(at), false) = (permission, f.set.pacer) {
                    f.set.pacer = true;
                    events.push(at, Event::Paced(flow));
                }
                if let Some(at) = sender.timeout()
                    && f.set.timeout.is_none_or(|set| at < set)
                {
                    f.set.timeout = Some(at);
                    events.push(at, Event::Timeout(flow));
                }
            }
        }
    }

    /// Opens the flow that a source has due, and waits for the next.
    fn open_next(&mut self, source: u32, now: Instant) {
        let f = &mut self.flows[source as usize];
        let Source::Web(web) = &mut f.source else { return };
        let first = web.next.is_none();
        let gap = web.gap(&mut f.rng);
        web.next = Some(now + gap);
        self.events.push(now + gap, Event::Paced(source));
        if first {
            return;
        }
        let packets = web.packets(&mut f.rng);
        self.opened += 1;
        let child = f.child(source, packets, self.opened, now);
        let place = if let Some(place) = self.ended.pop() {
            self.flows[place as usize] = child;
            place
        } else {
            self.flows.push(child);
            self.flows.len() as u32 - 1
        };
        self.send(place, now);
    }
}
