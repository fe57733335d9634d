//! Disciplines with one queue, to compare the DualQ with: tail drop, CoDel (RFC 8289), and PI2 alone. Everything is
//! counted as C.

use super::chance::Chance;
use super::classify::{self, Signal};
use super::codel::Codel;
use super::coupling::Coupling;
use super::params::{ChanceParams, Law, Limit, MTU_BYTES, SingleParams};
use super::pi2::Pi2;
use super::queue::{Entry, Fifo};
use super::stats::{Backlog, DropCause, Ledger, MarkCause, Overload, Snapshot};
use super::{Departure, PacketMeta, Service};
use crate::time::{Instant, Span};
use crate::wire::Ecn;

/// One queue under one law.
#[derive(Clone, Debug)]
pub struct SingleQueue<H> {
    queue: Fifo<H>,
    law: State,
    limit: Limit,
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
            ledger: Ledger::default(),
        }
    }

    /// See [`super::Aqm::enqueue`].
    pub fn enqueue(&mut self, handle: H, meta: PacketMeta, now: Instant) -> Result<(), H> {
        self.advance(now);
        self.ledger.arrived(Service::Classic, meta.len);
        let full = self.queue.bytes() + u64::from(MTU_BYTES) > self.limit.bytes
            || self.queue.packets() >= self.limit.packets;
        if full {
            self.ledger.dropped(Service::Classic, meta.len, meta.ecn, DropCause::Tail);
            return Err(handle);
        }
        self.queue.push(Entry::new(handle, meta, now, false));
        Ok(())
    }

    /// See [`super::Aqm::dequeue`].
    pub fn dequeue(&mut self, now: Instant) -> Option<Departure<H>> {
        self.advance(now);
        let entry = self.queue.pop()?;
        let sojourn = now.since(entry.arrival);
        let (signal, cause) = self.verdict(&entry, now, sojourn);
        let drops = matches!(signal, Some(Signal::DropClassic));
        if drops {
            self.ledger.dropped(Service::Classic, entry.len, entry.ecn, cause);
            return Some(Departure::Drop(entry.depart(Service::Classic, sojourn), cause));
        }
        self.ledger.forwarded(Service::Classic, entry.len, sojourn);
        if signal.is_some() && entry.ecn != Ecn::Ce {
            let mark = if matches!(signal, Some(Signal::MarkCoupled)) {
                MarkCause::Coupled
            } else {
                MarkCause::Classic
            };
            self.ledger.marked(Service::Classic, mark);
            return Some(Departure::Mark(entry.depart(Service::Classic, sojourn)));
        }
        Some(Departure::Forward(entry.depart(Service::Classic, sojourn)))
    }

    /// The signal that this packet gets, if any, and the cause if that is a drop.
    fn verdict(&mut self, entry: &Entry<H>, now: Instant, sojourn: Span) -> (Option<Signal>, DropCause) {
        let behind = self.queue.bytes();
        match &mut self.law {
            State::TailDrop => (None, DropCause::Aqm),
            State::Codel(codel) => {
                let fires = codel.signals(now, sojourn, behind, MTU_BYTES) && entry.is_ip();
                let signal = if entry.ecn.is_ect() { Signal::MarkClassic } else { Signal::DropClassic };
                (fires.then_some(signal), DropCause::Aqm)
            }
            State::Pi2(s) => {
                let small = behind < 2 * u64::from(MTU_BYTES);
                let saturated = s.coupling.saturated && !small;
                let cause = if saturated { DropCause::Overload } else { DropCause::Aqm };
                let signal = classify::signal(Service::Classic, entry.ecn, entry.is_ip(), saturated);
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
        self.limit.bytes = limit;
    }

    /// See [`super::Aqm::drain_one`].
    pub fn drain_one(&mut self) -> Option<H> {
        self.queue.pop().map(|e| e.handle)
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// See [`super::Aqm::snapshot`].
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let (p, overload) = match &self.law {
            State::Pi2(s) => (s.coupling.probabilities(), s.overload.stats()),
            State::TailDrop | State::Codel(_) => Default::default(),
        };
        Snapshot {
            queues: self.ledger.stats(),
            backlog: [Backlog::default(), self.queue.backlog()],
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
