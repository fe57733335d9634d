//! The DualQ Coupled AQM of RFC 9332 with DualPI2 (Appendix A), sans I/O.
//!
//! The verdict falls at departure. Ticks of the base probability are made lazily but exactly: before a queue changes,
//! every grid point that has passed is computed with the head delays of its own time.

use super::chance::{Chance, Fixed};
use super::classify::{self, Classifier, Signal};
use super::coupling::Coupling;
use super::laqm::LAqm;
use super::params::{DualQParams, Knobs, LAqmParams, MTU_BYTES};
use super::pi2::Pi2;
use super::queue::{Entry, Fifo, full_bytes};
use super::schedule::Scheduler;
use super::stats::{DropCause, Ledger, MarkCause, Overload, Snapshot, Tally};
use super::{Departure, PacketMeta, Queueing, Service, Verdicts};
use crate::time::{Instant, Span};
use crate::units::BitRate;
use crate::wire::Ecn;

/// Two coupled queues.
#[derive(Clone, Debug)]
pub struct DualQ<H> {
    queues: [Fifo<H>; 2],
    pi: Pi2,
    coupling: Coupling,
    l_aqm: LAqm,
    min_l_packets: u32,
    scheduler: Scheduler,
    chances: Chances,
    nqb: bool,
    rate_feed_forward: bool,
    limit_bytes: u64,
    /// See [`full_bytes`].
    full_bytes: u64,
    limit_packets: u32,
    overload: Overload,
    ledger: Ledger,
}

/// One stream of decisions per kind of signal, so that the share that each takes is exact by itself.
#[derive(Clone, Debug)]
struct Chances {
    l4s: Chance,
    l4s_saturated: Chance,
    classic: Chance,
    /// What is in a queue where its ECN field does not belong: NQB in L, ECT(1) in C.
    steered: Chance,
}

impl<H> DualQ<H> {
    /// Builds the queues; no memory is taken later.
    pub fn new(params: &DualQParams) -> Self {
        let capacity = params.limit.packets;
        Self {
            queues: [Fifo::with_capacity(capacity), Fifo::with_capacity(capacity)],
            pi: Pi2::new(params.pi),
            coupling: Coupling::new(params.coupling),
            l_aqm: LAqm::new(params.l_aqm),
            min_l_packets: params.min_l_packets,
            scheduler: Scheduler::new(params.schedule),
            chances: Chances {
                l4s: Chance::new(params.chance, 0),
                l4s_saturated: Chance::new(params.chance, 1),
                classic: Chance::new(params.chance, 2),
                steered: Chance::new(params.chance, 3),
            },
            nqb: params.nqb,
            rate_feed_forward: params.rate_feed_forward,
            limit_bytes: params.limit.bytes,
            full_bytes: full_bytes(params.limit.bytes),
            limit_packets: capacity,
            overload: Overload::default(),
            ledger: Ledger::default(),
        }
    }

    /// See [`super::Aqm::classifier`].
    pub fn classifier(&self) -> Classifier {
        Classifier::dual(self.nqb)
    }

    /// See [`super::Aqm::enqueue`].
    #[inline]
    pub fn enqueue(&mut self, handle: H, meta: PacketMeta, now: Instant) -> Result<(), H> {
        self.advance(now);
        self.join(self.service(&meta), handle, meta, now)
    }

    /// See [`super::Aqm::dequeue`].
    #[inline]
    pub fn dequeue(&mut self, now: Instant) -> Option<Departure<H>> {
        let mut one = None;
        self.serve(now, &mut one);
        one
    }

    /// Both queues are empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queues[0].is_empty() & self.queues[1].is_empty()
    }

    /// Serves the queue that was picked. RFC 9332 Appendix A figures 4 to 7.
    #[inline(always)]
    fn serve_one(&mut self, service: Service, now: Instant, to: &mut impl Verdicts<H>) -> bool {
        let Some(entry) = self.queues[service.index()].pop() else { return false };
        let sojourn = now.since(entry.arrival);
        let verdict = self.verdict(&entry, service, sojourn);
        if let Verdict::Drop(cause) = verdict {
            self.ledger.dropped(service, entry.len, entry.ecn(), cause);
            to.drop(entry.depart(service, sojourn), cause);
            return true;
        }
        let contended = !self.queues[1 - service.index()].is_empty();
        self.scheduler.sent(service, entry.len, contended);
        self.ledger.forwarded(service, entry.len, sojourn);
        let mut mark = false;
        if let Verdict::Mark(cause) = verdict
            && entry.ecn() != Ecn::Ce
        {
            self.ledger.marked(service, cause);
            mark = true;
        }
        to.pass(entry.depart(service, sojourn), mark);
        true
    }

    /// Decides on a packet that has been taken from its queue.
    #[inline(always)]
    fn verdict(&mut self, entry: &Entry<H>, service: Service, sojourn: Span) -> Verdict {
        // The PI2 part is off while less than two MTU wait: no queue of that size is worth a signal.
        let small = self.bytes() < 2 * u64::from(MTU_BYTES);
        let saturated = self.coupling.saturated && !small;
        let Coupling { p_c, p_cl, .. } = self.coupling;
        let of = |p: Fixed| if small { 0 } else { p };
        let drop_cause = if saturated { DropCause::Overload } else { DropCause::Aqm };
        match classify::signal(service, entry.ecn(), entry.is_ip(), saturated) {
            Signal::Exempt => Verdict::Forward,
            Signal::MarkL4s => {
                let native = if entry.found_company() { self.l_aqm.probability(sojourn) } else { 0 };
                let p_cl = of(p_cl);
                let cause = if native > p_cl { MarkCause::Native } else { MarkCause::Coupled };
                Verdict::mark_if(self.chances.l4s.fires(native.max(p_cl)), cause)
            }
            Signal::DropClassicElseMark => {
                if self.chances.l4s_saturated.fires(of(p_c)) {
                    Verdict::Drop(drop_cause)
                } else {
                    Verdict::Mark(MarkCause::Coupled)
                }
            }
            Signal::MarkCoupled => Verdict::mark_if(self.chances.steered.fires(of(p_cl)), MarkCause::Coupled),
            Signal::MarkClassic => {
                Verdict::mark_if(self.classic_chance(service).fires(of(p_c)), MarkCause::Classic)
            }
            Signal::DropClassic => Verdict::drop_if(self.classic_chance(service), of(p_c), drop_cause),
        }
    }

    #[inline(always)]
    fn classic_chance(&mut self, service: Service) -> &mut Chance {
        match service {
            Service::Classic => &mut self.chances.classic,
            Service::L4s => &mut self.chances.steered,
        }
    }

    /// See [`super::Aqm::advance`]: the delay of an update is the larger of both head delays (RFC 9332 Appendix A
    /// figure 8), so that an overloaded L queue raises p' although C is empty.
    #[inline]
    pub fn advance(&mut self, now: Instant) {
        let [l, c] = &self.queues;
        if self.pi.advance(now, |at| l.head_delay(at).max(c.head_delay(at))) {
            self.coupling.set(self.pi.p());
            self.overload.observe(self.coupling.saturated, now);
        }
    }

    /// See [`super::Aqm::apply`].
    pub fn apply(&mut self, knobs: &Knobs) {
        self.pi.retune(knobs.target, knobs.gain);
        self.l_aqm = LAqm::new(LAqmParams::Ramp {
            min: knobs.ramp_min,
            width: Span::from_nanos(knobs.ramp_min.as_nanos() / 2),
        });
        if knobs.feed_forward != 1.0 {
            self.feed_forward(knobs.feed_forward);
        }
    }

    /// See [`super::Aqm::rate_changed`].
    pub fn rate_changed(&mut self, from: BitRate, to: BitRate) {
        if self.rate_feed_forward && to < from {
            self.feed_forward(from.as_bps() as f64 / to.as_bps() as f64);
        }
    }

    fn feed_forward(&mut self, factor: f64) {
        self.pi.feed_forward(factor);
        self.coupling.set(self.pi.p());
    }

    /// See [`super::Aqm::retune`].
    pub fn retune(&mut self, params: &DualQParams) {
        self.pi.set_constants(&params.pi);
        self.l_aqm = LAqm::new(params.l_aqm);
    }

    /// See [`super::Aqm::set_limit_bytes`].
    pub fn set_limit_bytes(&mut self, limit: u64) {
        (self.limit_bytes, self.full_bytes) = (limit, full_bytes(limit));
    }

    /// See [`super::Aqm::drain_one`].
    pub fn drain_one(&mut self) -> Option<H> {
        Service::BOTH.into_iter().find_map(|service| Some(self.queues[service.index()].pop()?.handle))
    }

    #[inline]
    fn bytes(&self) -> u64 {
        self.queues[0].bytes().wrapping_add(self.queues[1].bytes())
    }

    /// See [`super::Aqm::snapshot`].
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let backlog = self.queues.each_ref().map(Fifo::backlog);
        Snapshot {
            queues: self.ledger.stats(),
            backlog,
            head_delay: [self.queues[0].head_delay(now), self.queues[1].head_delay(now)],
            p: self.coupling.probabilities(),
            overload: self.overload.stats(),
            limit_bytes: self.limit_bytes,
        }
    }

    /// See [`super::Aqm::reset_window`].
    pub fn reset_window(&mut self) {
        self.ledger.reset_window();
    }
}

impl<H> Queueing<H> for DualQ<H> {
    #[inline]
    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }

    #[inline]
    fn service(&self, meta: &PacketMeta) -> Service {
        classify::service(meta, self.nqb)
    }

    #[inline]
    fn l_tally(&self) -> (Tally, u64) {
        self.ledger.l_tally()
    }

    #[inline(always)]
    fn catch_up(&mut self, now: Instant) {
        self.advance(now);
    }

    /// RFC 9332 Appendix A figure 3.
    #[inline(always)]
    fn join(&mut self, service: Service, handle: H, meta: PacketMeta, now: Instant) -> Result<(), H> {
        self.ledger.arrived(service, meta.len);
        let packets = self.queues[0].packets().wrapping_add(self.queues[1].packets());
        if self.bytes() >= self.full_bytes || packets >= self.limit_packets {
            self.ledger.dropped(service, meta.len, meta.ecn, DropCause::Tail);
            return Err(handle);
        }
        let queue = &mut self.queues[service.index()];
        let found_company = queue.packets() >= self.min_l_packets;
        queue.push(Entry::new(handle, meta, now, found_company));
        Ok(())
    }

    #[inline(always)]
    fn serve(&mut self, now: Instant, to: &mut impl Verdicts<H>) -> bool {
        self.advance(now);
        let waiting = self.queues.each_ref().map(|queue| !queue.is_empty());
        let heads = || self.queues.each_ref().map(|queue| queue.head().map_or(Instant::ZERO, |e| e.arrival));
        // Each arm is compiled for its queue.
        match self.scheduler.pick(waiting, heads) {
            Some(Service::L4s) => self.serve_one(Service::L4s, now, to),
            Some(Service::Classic) => self.serve_one(Service::Classic, now, to),
            None => false,
        }
    }
}

#[derive(Copy, Clone, Debug)]
enum Verdict {
    Forward,
    Mark(MarkCause),
    Drop(DropCause),
}

impl Verdict {
    const fn mark_if(fired: bool, cause: MarkCause) -> Self {
        if fired { Self::Mark(cause) } else { Self::Forward }
    }

    fn drop_if(chance: &mut Chance, p: Fixed, cause: DropCause) -> Self {
        if chance.fires(p) { Self::Drop(cause) } else { Self::Forward }
    }
}
