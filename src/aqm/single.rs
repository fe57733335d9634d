//! Disciplines with one queue, to compare the DualQ with: tail drop, CoDel (RFC 8289), and PI2 alone. Everything is
//! counted as C.

use super::chance::Chance;
use super::classify::{self, Signal};
use super::codel::Codel;
use super::coupling::Coupling;
use super::params::{ChanceParams, Law, Limit, MTU_BYTES, SingleParams};
use super::pi2::Pi2;
use super::queue::{Entry, Fifo, full_bytes};
use super::stats::{Backlog, DropCause, Ledger, MarkCause, Overload, Snapshot, Tally};
use super::{Departure, PacketMeta, Queueing, Service, Verdicts};
use crate::time::{Instant, Span};
use crate::wire::Ecn;

/// One queue under one law.
#[derive(Clone, Debug)]
pub struct SingleQueue<H> {
    queue: Fifo<H>,
    law: State,
    limit: Limit,
    /// See [`full_bytes`].
    full_bytes: u64,
    ledger: Ledger,
}

#[derive(Clone, Debug)]
enum State {
    TailDrop,
    Codel(Codel),
    Pi2(Box<Pi2State>),
}

#[derive(Clone, Debug)]
struct Pi2State {
    pi: Pi2,
    coupling: Coupling,
    classic: Chance,
    scalable: Chance,
    overload: Overload,
}

impl<H> SingleQueue<H> {
    /// Builds the queue; no memory is taken later.
    pub fn new(params: &SingleParams) -> Self {
        let law = match params.law {
            Law::TailDrop => State::TailDrop,
            Law::Codel { target, interval } => State::Codel(Codel::new(target, interval)),
            Law::Pi2(pi) => State::Pi2(Box::new(Pi2State {
                pi: Pi2::new(pi),
                coupling: Coupling::new(2),
                classic: Chance::new(ChanceParams::Accumulator, 0),
                scalable: Chance::new(ChanceParams::Accumulator, 1),
                overload: Overload::default(),
            })),
        };
        Self {
            queue: Fifo::with_capacity(params.limit.packets),
            law,
            limit: params.limit,
            full_bytes: full_bytes(params.limit.bytes),
            ledger: Ledger::default(),
        }
    }

    /// See [`super::Aqm::enqueue`].
    #[inline]
    pub fn enqueue(&mut self, handle: H, meta: PacketMeta, now: Instant) -> Result<(), H> {
        self.advance(now);
        self.join(Service::Classic, handle, meta, now)
    }

    /// See [`super::Aqm::dequeue`].
    #[inline]
    pub fn dequeue(&mut self, now: Instant) -> Option<Departure<H>> {
        let mut one = None;
        self.serve(now, &mut one);
        one
    }

    /// Nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The signal that this packet gets, if any, and the cause if that is a drop.
    #[inline(always)]
    fn verdict(&mut self, entry: &Entry<H>, now: Instant, sojourn: Span) -> (Option<Signal>, DropCause) {
        let behind = self.queue.bytes();
        match &mut self.law {
            State::TailDrop => (None, DropCause::Aqm),
            State::Codel(codel) => {
                let fires = codel.signals(now, sojourn, behind, MTU_BYTES) && entry.is_ip();
                let signal = if entry.ecn().is_ect() { Signal::MarkClassic } else { Signal::DropClassic };
                (fires.then_some(signal), DropCause::Aqm)
            }
            State::Pi2(s) => {
                let small = behind < 2 * u64::from(MTU_BYTES);
                let saturated = s.coupling.saturated && !small;
                let cause = if saturated { DropCause::Overload } else { DropCause::Aqm };
                let signal = classify::signal(Service::Classic, entry.ecn(), entry.is_ip(), saturated);
                let fires = match signal {
                    _ if small => false,
                    Signal::Exempt => false,
                    Signal::MarkCoupled | Signal::MarkL4s => s.scalable.fires(s.coupling.p_cl),
                    Signal::MarkClassic | Signal::DropClassic | Signal::DropClassicElseMark => {
                        s.classic.fires(s.coupling.p_c)
                    }
                };
                (fires.then_some(signal), cause)
            }
        }
    }

    /// See [`super::Aqm::advance`].
    #[inline]
    pub fn advance(&mut self, now: Instant) {
        if let State::Pi2(s) = &mut self.law {
            let queue = &self.queue;
            if s.pi.advance(now, |at| queue.head_delay(at)) {
                s.coupling.set(s.pi.p());
                s.overload.observe(s.coupling.saturated, now);
            }
        }
    }

    /// See [`super::Aqm::retune`].
    pub fn retune(&mut self, params: &SingleParams) {
        match (&mut self.law, params.law) {
            (State::Pi2(s), Law::Pi2(pi)) => s.pi.set_constants(&pi),
            (State::Codel(codel), Law::Codel { target, .. }) => codel.set_target(target),
            _ => {}
        }
    }

    /// See [`super::Aqm::set_limit_bytes`].
    pub fn set_limit_bytes(&mut self, limit: u64) {
        (self.limit.bytes, self.full_bytes) = (limit, full_bytes(limit));
    }

    /// See [`super::Aqm::drain_one`].
    pub fn drain_one(&mut self) -> Option<H> {
        Some(self.queue.pop()?.handle)
    }

    /// See [`super::Aqm::snapshot`].
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let (p, overload) = match &self.law {
            State::Pi2(s) => (s.coupling.probabilities(), s.overload.stats()),
            State::TailDrop | State::Codel(_) => Default::default(),
        };
        let backlog = [Backlog::default(), self.queue.backlog()];
        Snapshot {
            queues: self.ledger.stats(),
            backlog,
            head_delay: [Span::ZERO, self.queue.head_delay(now)],
            p,
            overload,
            limit_bytes: self.limit.bytes,
        }
    }

    /// See [`super::Aqm::reset_window`].
    pub fn reset_window(&mut self) {
        self.ledger.reset_window();
    }
}

impl<H> Queueing<H> for SingleQueue<H> {
    #[inline]
    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }

    #[inline]
    fn service(&self, _meta: &PacketMeta) -> Service {
        Service::Classic
    }

    #[inline]
    fn l_tally(&self) -> (Tally, u64) {
        Default::default()
    }

    #[inline(always)]
    fn catch_up(&mut self, now: Instant) {
        self.advance(now);
    }

    #[inline(always)]
    fn join(&mut self, _only: Service, handle: H, meta: PacketMeta, now: Instant) -> Result<(), H> {
        self.ledger.arrived(Service::Classic, meta.len);
        let full = self.queue.bytes() >= self.full_bytes || self.queue.packets() >= self.limit.packets;
        if full {
            self.ledger.dropped(Service::Classic, meta.len, meta.ecn, DropCause::Tail);
            return Err(handle);
        }
        self.queue.push(Entry::new(handle, meta, now, false));
        Ok(())
    }

    #[inline(always)]
    fn serve(&mut self, now: Instant, to: &mut impl Verdicts<H>) -> bool {
        self.advance(now);
        let Some(entry) = self.queue.pop() else { return false };
        let sojourn = now.since(entry.arrival);
        let (signal, cause) = self.verdict(&entry, now, sojourn);
        if let Some(Signal::DropClassic) = signal {
            self.ledger.dropped(Service::Classic, entry.len, entry.ecn(), cause);
            to.drop(entry.depart(Service::Classic, sojourn), cause);
            return true;
        }
        self.ledger.forwarded(Service::Classic, entry.len, sojourn);
        let mut mark = false;
        if let Some(signal) = signal
            && entry.ecn() != Ecn::Ce
        {
            let coupled = signal == Signal::MarkCoupled;
            self.ledger
                .marked(Service::Classic, if coupled { MarkCause::Coupled } else { MarkCause::Classic });
            mark = true;
        }
        to.pass(entry.depart(Service::Classic, sojourn), mark);
        true
    }
}
