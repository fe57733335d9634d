//! One flow as the engine sees it: its source, what of it is under way, its receiver, and which timers are set.

use std::collections::VecDeque;

use fastrand::Rng;

use super::events::{Event, Events};
use super::flow::receiver::{Ack, Feedback, Receiver};
use super::flow::tcp::{Sender, Supply};
use super::flow::{Control, FlowStats, bbr};
use super::link::generator::{exponential, normal};
use super::traffic::{Completion, FlowSpec, FrameSpec, PathSpec, SourceSpec, WebSpec};
use crate::time::{Instant, Span};
use crate::wire::Ecn;

/// A packet under way to the bottleneck or in it.
#[derive(Copy, Clone, Debug)]
pub(super) struct InFlight {
    pub flow: u32,
    pub transmission: u64,
}

/// What a flow sends.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Bulk(Box<Sender>),
    Cbr { gap: Span, stats: FlowStats },
    Frames(FrameSource),
    Web(Box<WebSource>),
}

/// Which timers have an event in the queue. An event looks at the deadline when it comes; the retransmission timer, whose
/// deadline may move forward, has another event then, and only the earliest one counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    pub pacer: bool,
    pub timeout: Option<Instant>,
    pub ack: bool,
}

/// A flow.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub source: Source,
    pub frame: u16,
    pub ecn: Ecn,
    pub nqb: bool,
    /// Tells flows apart at the bottleneck.
    pub hash: u32,
    pub active: bool,
    pub opened: Instant,
    /// The source that opened it; `None` once it has been given up.
    pub parent: Option<u32>,
    /// Packets on the way to the bottleneck, with the time that they reach it.
    pub line: VecDeque<(Instant, u32)>,
    /// Packets on the way to the bottleneck or in it.
    pub in_network: u32,
    pub receiver: Receiver,
    /// Acknowledgements on the way, with the time that they reach the sender.
    pub acks: VecDeque<(Instant, Ack)>,
    pub set: Timers,
    pub rng: Rng,
    pub completed: Vec<Completion>,
    forward: Span,
    reverse: Span,
    delayed_acks: bool,
    path: PathSpec,
    last_ack: Instant,
}

/// The first multiple of `grid` at `at` or later; `at` if there is no grid.
fn round_up(at: Instant, grid: Span) -> Instant {
    match grid.as_nanos() {
        0 => at,
        grid => Instant::from_nanos(at.as_nanos().div_ceil(grid) * grid),
    }
}

/// Spreads the number of a flow over 32 bits.
const fn hash(number: u32) -> u32 {
    let mut x = number;
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

impl Connection {
    /// Flow `number`, from 1; `rng` is its own.
    pub(super) fn new(spec: &FlowSpec, number: u32, mut rng: Rng) -> Self {
        let forward = Span::from_nanos(spec.rtt.as_nanos() / 2);
        let seeded = |control: &Control, rng: &mut Rng| match control {
            // Where in its gain cycle a flow begins is drawn: draft-cardwell-iccrg-bbr-congestion-control §4.3.4.3.
            Control::Bbr(_) => bbr::Bbr::new(rng.u64(..)).into(),
            other => other.clone(),
        };
        let source = match &spec.source {
            SourceSpec::Bulk(control) => Source::Bulk(Box::new(Sender::new(seeded(control, &mut rng)))),
            SourceSpec::Limited { control, gap } => {
                let supply = Supply::Every(*gap);
                Source::Bulk(Box::new(Sender::with_supply(seeded(control, &mut rng), supply)))
            }
            SourceSpec::Sized { control, packets } => {
                let supply = Supply::Packets(*packets);
                Source::Bulk(Box::new(Sender::with_supply(seeded(control, &mut rng), supply)))
            }
            SourceSpec::Cbr { gap } => Source::Cbr { gap: *gap, stats: FlowStats::default() },
            SourceSpec::Frames(frames) => Source::Frames(FrameSource::new(*frames)),
            SourceSpec::Web(web) => {
                Source::Web(Box::new(WebSource { spec: web.clone(), next: None, gone: FlowStats::default() }))
            }
        };
        let feedback = match &source {
            Source::Bulk(sender) if matches!(sender.control(), Control::Dctcp(_)) => Feedback::Echo,
            _ => Feedback::Counter,
        };
        Self {
            source,
            frame: spec.frame,
            ecn: spec.ecn,
            nqb: spec.nqb,
            hash: hash(number),
            active: false,
            opened: spec.start,
            parent: None,
            line: VecDeque::new(),
            in_network: 0,
            receiver: Receiver::new(spec.delayed_acks, feedback),
            acks: VecDeque::new(),
            set: Timers::default(),
            rng,
            completed: Vec::new(),
            forward,
            reverse: spec.rtt - forward,
            delayed_acks: spec.delayed_acks,
            path: spec.path,
            last_ack: Instant::ZERO,
        }
    }

    /// A flow that this source opens, of `packets` packets.
    pub(super) fn child(&mut self, own: u32, packets: u64, number: u32, now: Instant) -> Self {
        let Source::Web(web) = &self.source else { unreachable!("only sources open flows") };
        let spec = FlowSpec {
            source: SourceSpec::Sized { control: web.spec.control.clone(), packets },
            rtt: self.forward + self.reverse,
            frame: self.frame,
            ecn: self.ecn,
            nqb: self.nqb,
            delayed_acks: self.delayed_acks,
            start: now,
            stop: None,
            path: self.path,
        };
        let rng = Rng::with_seed(self.rng.u64(..));
        Self { active: true, parent: Some(own), ..Self::new(&spec, number, rng) }
    }

    /// Two-way base delay.
    pub(super) fn base_rtt(&self) -> Span {
        self.forward + self.reverse
    }

    /// When a packet sent at `now` reaches the bottleneck.
    pub(super) fn reaches_bottleneck(&self, now: Instant) -> Instant {
        round_up(now + self.forward, self.path.aggregate)
    }

    /// A packet has left the bottleneck and reaches the receiver at `arrives`.
    pub(super) fn delivered(
        &mut self,
        own: u32,
        transmission: u64,
        ce: bool,
        arrives: Instant,
        events: &mut Events,
    ) {
        match &mut self.source {
            Source::Cbr { stats, .. } => stats.delivered += 1,
            Source::Frames(source) => source.stats.delivered += 1,
            Source::Web(_) => {}
            Source::Bulk(sender) => {
                sender.received(transmission);
                let ce = ce && !self.path.ce_bleached;
                // The timer of an earlier packet may expire between now and this packet's arrival.
                if let (Some(due), Some(ack)) = (self.receiver.due(), self.receiver.expire(arrives)) {
                    self.acknowledge(own, ack, due, events);
                }
                for ack in self.receiver.receive(transmission, ce, arrives) {
                    self.acknowledge(own, ack, arrives, events);
                }
                if let (Some(due), false) = (self.receiver.due(), self.set.ack) {
                    self.set.ack = true;
                    events.push(due, Event::AckTimer(own));
                }
            }
        }
    }

    /// Sends an acknowledgement at `now` on its way.
    pub(super) fn acknowledge(&mut self, own: u32, ack: Ack, now: Instant, events: &mut Events) {
        let mut at = now + self.reverse;
        if self.path.ack_jitter != Span::ZERO {
            at += Span::from_nanos(self.rng.u64(0..=self.path.ack_jitter.as_nanos()));
        }
        at = round_up(at, self.path.ack_compression);
        at = round_up(at, self.path.ack_thinning).max(self.last_ack);
        self.last_ack = at;
        if self.path.ack_thinning != Span::ZERO
            && let Some((_, waiting)) = self.acks.back_mut().filter(|(waits_until, _)| *waits_until == at)
        {
            *waiting = waiting.followed_by(ack);
            return;
        }
        if self.acks.is_empty() {
            events.push(at, Event::Ack(own));
        }
        self.acks.push_back((at, ack));
    }

    /// Counters; of a source, those of its flows that have been given up.
    pub(super) fn stats(&self) -> FlowStats {
        match &self.source {
            Source::Bulk(sender) => sender.stats(),
            Source::Cbr { stats, .. } => *stats,
            Source::Frames(source) => source.stats,
            Source::Web(web) => web.gone,
        }
    }

    /// Takes over the counters of a flow that is given up.
    pub(super) fn add(&mut self, stats: FlowStats) {
        if let Source::Web(web) = &mut self.source {
            web.gone = web.gone.plus(stats);
        }
    }

    /// It has completed, and nothing of it is under way, nor will a timer of it come.
    pub(super) fn is_over(&self) -> bool {
        let Timers { pacer, timeout, ack } = self.set;
        !self.active && self.in_network == 0 && self.acks.is_empty() && !(pacer || timeout.is_some() || ack)
    }
}

/// Bursts.
#[derive(Clone, Debug)]
pub(super) struct FrameSource {
    spec: FrameSpec,
    /// When the next packet, or the next burst, is due.
    pub next: Instant,
    /// `None` before the first.
    next_burst: Option<Instant>,
    left: u32,
    /// Bytes that did not make a packet of the last burst.
    carried: f64,
    pub stats: FlowStats,
}

impl FrameSource {
    const fn new(spec: FrameSpec) -> Self {
        Self {
            spec,
            next: Instant::ZERO,
            next_burst: None,
            left: 0,
            carried: 0.0,
            stats: FlowStats { sent: 0, retransmits: 0, delivered: 0 },
        }
    }

    /// How many packets of `frame` bytes go now; sets when to ask again.
    pub(super) fn due(&mut self, now: Instant, frame: u16, rng: &mut Rng) -> u32 {
        let begins = *self.next_burst.get_or_insert(now);
        if self.left == 0 && now >= begins {
            self.next_burst = Some(begins + self.spec.every);
            let sigma = self.spec.sigma;
            let factor = if sigma == 0.0 { 1.0 } else { (sigma * normal(rng) - sigma * sigma / 2.0).exp() };
            self.carried += self.spec.bytes * factor;
            self.left = (self.carried / f64::from(frame)) as u32;
            self.carried -= f64::from(self.left) * f64::from(frame);
        }
        let now_due = if self.spec.gap == Span::ZERO { self.left } else { self.left.min(1) };
        self.left -= now_due;
        self.next =
            if self.left > 0 { now + self.spec.gap } else { self.next_burst.map_or(now, |at| at.max(now)) };
        now_due
    }
}

/// Opens short flows.
#[derive(Clone, Debug)]
pub(super) struct WebSource {
    spec: WebSpec,
    /// When the next flow is opened; `None` before the first was drawn.
    pub next: Option<Instant>,
    /// Counters of flows that have been given up.
    gone: FlowStats,
}

impl WebSource {
    /// Time until the next flow.
    pub(super) fn gap(&self, rng: &mut Rng) -> Span {
        Span::from_secs_f64(exponential(1.0 / self.spec.per_second, rng))
    }

    /// Packets of the next flow.
    pub(super) fn packets(&self, rng: &mut Rng) -> u64 {
        (self.spec.sizes.at(rng.f64()) / f64::from(self.spec.payload)).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_keep_their_rate_in_whole_packets() {
        // 2500 bytes every 10 ms in packets of 1000: 2, 3, 2, 3 packets, a millisecond apart.
        let spec =
            FrameSpec { bytes: 2500.0, sigma: 0.0, every: Span::from_millis(10), gap: Span::from_millis(1) };
        let mut source = FrameSource::new(spec);
        let mut rng = Rng::with_seed(1);
        let mut sent = Vec::new();
        let mut now = Instant::from_millis(5);
        while now < Instant::from_millis(45) {
            for _ in 0..source.due(now, 1000, &mut rng) {
                sent.push(now.as_nanos() / 1_000_000);
            }
            now = source.next;
        }
        assert_eq!(sent, [5, 6, 15, 16, 17, 25, 26, 35, 36, 37]);
    }

    #[test]
    fn times_round_up_to_the_grid() {
        let at = Instant::from_millis;
        let grid = Span::from_millis(4);
        assert_eq!((round_up(at(8), grid), round_up(at(9), grid)), (at(8), at(12)));
        assert_eq!(round_up(at(9), Span::ZERO), at(9));
    }
}
