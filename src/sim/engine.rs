//! The engine: senders, half of the base delay, the bottleneck, the receiver, the other half, the sender.
//!
//! [`Sim::run_until`] is the only way that time passes. Between two calls the caller may look at the bottleneck, take a
//! telemetry window, set a rate or a controller's parameters: what happens at the very end of a stretch belongs to the
//! next one.

use std::collections::VecDeque;

use super::events::{Event, Events};
use super::flow::receiver::{Ack, Receiver};
use super::flow::tcp::{Permission, Sender};
use super::flow::{FlowSpec, FlowStats, SourceSpec};
use crate::aqm::{Departure, Packet, PacketMeta, Service};
use crate::egress::Egress;
use crate::time::{Instant, Span};
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
        Span::from_nanos(u64::from(len) * 8_000_000_000 / self.rate().as_bps())
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

/// A packet under way to the bottleneck or in it.
#[derive(Copy, Clone, Debug)]
struct InFlight {
    flow: u32,
    transmission: u64,
}

#[derive(Clone, Debug)]
enum Source {
    Bulk(Box<Sender>),
    Cbr { gap: Span, stats: FlowStats },
}

#[derive(Clone, Debug)]
struct Flow {
    source: Source,
    frame: u16,
    ecn: Ecn,
    forward: Span,
    reverse: Span,
    active: bool,
    receiver: Receiver,
    acks: VecDeque<Ack>,
    set: Timers,
}

/// Which timers have an event in the queue: one each at most, which looks at the deadline when it comes.
#[derive(Clone, Debug, Default)]
struct Timers {
    pacer: bool,
    timeout: bool,
    ack: bool,
}

/// A simulation.
#[derive(Clone, Debug)]
pub struct Sim<B> {
    events: Events,
    bottleneck: B,
    link_free_set: Option<Instant>,
    packets: Vec<InFlight>,
    unused: Vec<u32>,
    flows: Vec<Flow>,
}

/// Starts are drawn from this much after the time that was asked for, or a base round trip if that is longer, so that
/// flows that start together are not in step.
pub const START_JITTER: Span = Span::from_millis(20);

impl<B: Bottleneck> Sim<B> {
    /// A simulation at time zero. `seed` draws when within [`START_JITTER`] each flow starts.
    pub fn new(bottleneck: B, flows: Vec<FlowSpec>, seed: u64) -> Self {
        let mut sim = Self {
            events: Events::default(),
            bottleneck,
            link_free_set: None,
            packets: Vec::new(),
            unused: Vec::new(),
            flows: Vec::with_capacity(flows.len()),
        };
        for (index, spec) in flows.into_iter().enumerate() {
            let index = index as u32;
            let mut rng =
                fastrand::Rng::with_seed(seed ^ (u64::from(index) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let jitter = Span::from_nanos(rng.u64(0..=START_JITTER.max(spec.rtt).as_nanos()));
            let start = spec.start + jitter;
            if spec.stop.is_none_or(|stop| start < stop) {
                sim.events.push(start, Event::Start(index));
            }
            if let Some(stop) = spec.stop {
                sim.events.push(stop, Event::Stop(index));
            }
            sim.flows.push(Flow::new(&spec));
        }
        sim
    }

    /// Lets everything happen that is due before `end`.
    pub fn run_until(&mut self, end: Instant, probe: &mut impl Probe) {
        while let Some((now, event)) = self.events.pop_before(end) {
            match event {
                Event::Start(flow) => {
                    self.flows[flow as usize].active = true;
                    self.send(flow, now);
                }
                Event::Stop(flow) => self.flows[flow as usize].active = false,
                Event::Arrive(handle) => self.arrive(handle, now, probe),
                Event::LinkFree => {
                    self.link_free_set = None;
                    self.serve(now, probe);
                }
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

    /// Counters of a flow, by its place in the list that the simulation was made from.
    pub fn stats(&self, flow: usize) -> FlowStats {
        match &self.flows[flow].source {
            Source::Bulk(sender) => sender.stats(),
            Source::Cbr { stats, .. } => *stats,
        }
    }

    fn arrive(&mut self, handle: u32, now: Instant, probe: &mut impl Probe) {
        let flow = self.packets[handle as usize].flow;
        let f = &self.flows[flow as usize];
        let meta = PacketMeta { len: f.frame, ecn: f.ecn, nqb: false, ip: true, flow };
        if let Err(handle) = self.bottleneck.on_packet(handle, meta, now) {
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
                Departure::Drop(p, _) => self.unused.push(p.handle),
            }
        }
        if let Some(at) = self.bottleneck.poll_timeout() {
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
        match &mut f.source {
            Source::Cbr { stats, .. } => stats.delivered += 1,
            Source::Bulk(sender) => {
                // The timer of an earlier packet may expire between now and this packet's arrival.
                if let (Some(due), Some(ack)) = (f.receiver.due(), f.receiver.expire(arrives)) {
                    f.acks.push_back(ack);
                    self.events.push(due + f.reverse, Event::Ack(flow));
                }
                sender.received(transmission);
                if let Some(ack) = f.receiver.receive(transmission, ce, arrives) {
                    f.acks.push_back(ack);
                    self.events.push(arrives + f.reverse, Event::Ack(flow));
                } else if let (Some(due), false) = (f.receiver.due(), f.set.ack) {
                    f.set.ack = true;
                    self.events.push(due, Event::AckTimer(flow));
                }
            }
        }
    }

    fn ack_timer(&mut self, flow: u32, now: Instant) {
        let f = &mut self.flows[flow as usize];
        f.set.ack = false;
        if let Some(ack) = f.receiver.expire(now) {
            f.acks.push_back(ack);
            self.events.push(now + f.reverse, Event::Ack(flow));
        } else if let Some(due) = f.receiver.due() {
            f.set.ack = true;
            self.events.push(due, Event::AckTimer(flow));
        }
    }

    fn acknowledged(&mut self, flow: u32, now: Instant) {
        let f = &mut self.flows[flow as usize];
        if let (Source::Bulk(sender), Some(ack)) = (&mut f.source, f.acks.pop_front()) {
            sender.on_ack(ack, now);
            self.send(flow, now);
        }
    }

    fn timeout(&mut self, flow: u32, now: Instant) {
        let f = &mut self.flows[flow as usize];
        f.set.timeout = false;
        let Source::Bulk(sender) = &mut f.source else { return };
        match sender.timeout() {
            Some(at) if at <= now => {
                sender.on_timeout(now);
                self.send(flow, now);
            }
            Some(at) => {
                f.set.timeout = true;
                self.events.push(at, Event::Timeout(flow));
            }
            None => {}
        }
    }

    /// Sends what a flow may send, and sets its timers.
    fn send(&mut self, flow: u32, now: Instant) {
        let Self { flows, packets, unused, events, .. } = self;
        let f = &mut flows[flow as usize];
        if !f.active {
            return;
        }
        let forward = f.forward;
        let mut launch = |transmission| {
            let packet = InFlight { flow, transmission };
            let handle = if let Some(handle) = unused.pop() {
                packets[handle as usize] = packet;
                handle
            } else {
                packets.push(packet);
                packets.len() as u32 - 1
            };
            events.push(now + forward, Event::Arrive(handle));
        };
        match &mut f.source {
            Source::Cbr { gap, stats } => {
                launch(stats.sent);
                stats.sent += 1;
                events.push(now + *gap, Event::Paced(flow));
            }
            Source::Bulk(sender) => {
                let permission = loop {
                    match sender.permission(now) {
                        Permission::Now => launch(sender.send(now)),
                        other => break other,
                    }
                };
                if let (Permission::At(at), false) = (permission, f.set.pacer) {
                    f.set.pacer = true;
                    events.push(at, Event::Paced(flow));
                }
                if let (Some(at), false) = (sender.timeout(), f.set.timeout) {
                    f.set.timeout = true;
                    events.push(at, Event::Timeout(flow));
                }
            }
        }
    }
}

impl Flow {
    fn new(spec: &FlowSpec) -> Self {
        let forward = Span::from_nanos(spec.rtt.as_nanos() / 2);
        Self {
            source: match &spec.source {
                SourceSpec::Bulk(control) => Source::Bulk(Box::new(Sender::new(control.clone()))),
                SourceSpec::Cbr { gap } => Source::Cbr { gap: *gap, stats: FlowStats::default() },
            },
            frame: spec.frame,
            ecn: spec.ecn,
            forward,
            reverse: spec.rtt - forward,
            active: false,
            receiver: Receiver::new(spec.delayed_acks),
            acks: VecDeque::new(),
            set: Timers::default(),
        }
    }
}
