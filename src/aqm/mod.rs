//! Active queue management over opaque handles: RFC 9332's DualQ and the disciplines it is compared with.
//!
//! Nothing here reads a clock, touches a packet's bytes, or allocates once built. A driver says when a packet arrived
//! and what its ECN field was, and is told what to do with it. All AQM arithmetic of the project is in this folder.
//!
//! | module | RFC 9332 |
//! |---|---|
//! | [`classify`] | which queue, which signal: §2.3, §2.5.1.1; RFC 9331 §5 |
//! | [`pi2`] | the base probability p': §2.4, Appendix A figure 8 |
//! | [`coupling`] | p_C = p'^2, p_CL = k p', saturation: §2.4, eq. (1)-(4) |
//! | [`laqm`] | the native L4S AQM: ramp or step, Appendix A figure 5 |
//! | [`chance`] | turning a probability into yes or no, Appendix A figure 4 (`recur`) |
//! | [`schedule`] | conditional priority: §2.2, §4.2.1 |
//! | [`dualq`] | the above joined: Appendix A figures 2-7 |
//! | [`single`], [`codel`] | comparison disciplines with one queue |

pub mod chance;
pub mod classify;
pub mod codel;
pub mod coupling;
pub mod dualq;
pub mod laqm;
pub mod params;
pub mod pi2;
pub mod queue;
pub mod schedule;
pub mod single;
pub mod stats;

use crate::time::{Instant, Span};
use crate::units::BitRate;
use crate::wire::Ecn;
use classify::Classifier;
use params::{Discipline, Knobs};
use stats::{DropCause, Snapshot, Tally};

/// Which of the two queues of a DualQ a packet is in (RFC 9332 §2.3).
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
pub enum Service {
    /// The low latency queue.
    L4s,
    /// The Classic queue; the only queue of a single-queue discipline.
    Classic,
}

impl Service {
    /// Both services, L first.
    pub const BOTH: [Self; 2] = [Self::L4s, Self::Classic];

    /// 0 for L, 1 for C.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// `l` or `c`, as metrics and result files spell it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::L4s => "l",
            Self::Classic => "c",
        }
    }
}

/// What an AQM knows of a packet.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct PacketMeta {
    /// Bytes that the packet occupies on the link, 1..=65535.
    pub len: u16,
    /// Its ECN field; [`Ecn::NotEct`] if it is not IP.
    pub ecn: Ecn,
    /// It carries the NQB code point (DSCP 45, RFC 9956).
    pub nqb: bool,
    /// It is an IP packet. What is not (ARP, STP, ...) is never dropped or marked by an AQM, only by a full buffer.
    pub ip: bool,
    /// A hash of its flow. No AQM here uses it; telemetry counts flows with it.
    pub flow: u32,
}

/// A packet on its way out of an AQM.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Packet<H> {
    /// The driver's handle.
    pub handle: H,
    /// Bytes on the link.
    pub len: u16,
    /// The ECN field that it arrived with.
    pub ecn: Ecn,
    /// The queue that it was in.
    pub service: Service,
    /// How long it was in there.
    pub sojourn: Span,
}

/// What to do with a packet that left a queue.
#[derive(Debug, Eq, PartialEq)]
#[must_use = "a departure owns a packet: send it, mark and send it, or recycle it"]
pub enum Departure<H> {
    /// Send it as it is.
    Forward(Packet<H>),
    /// Set CE and send it. Never returned for a packet that is CE already or is Not-ECT.
    Mark(Packet<H>),
    /// Recycle it.
    Drop(Packet<H>, DropCause),
}

/// What is asked of a discipline for every packet. The loops of the egress are compiled for each, so that which one it is
/// is asked once a batch.
pub(crate) trait Queueing<H> {
    /// Nothing waits.
    fn is_empty(&self) -> bool;

    /// The queue that a packet joins.
    fn service(&self, meta: &PacketMeta) -> Service;

    /// See [`Aqm::l_tally`].
    fn l_tally(&self) -> (Tally, u64);

    /// See [`Aqm::advance`]; before [`Queueing::join`].
    fn catch_up(&mut self, now: Instant);

    /// See [`Aqm::enqueue`]. `service` is what [`Queueing::service`] said.
    fn join(&mut self, service: Service, handle: H, meta: PacketMeta, now: Instant) -> Result<(), H>;

    /// As [`Aqm::dequeue`], but tells `to` what to do with the packet, in the branch that decides. False if nothing waits.
    fn serve(&mut self, now: Instant, to: &mut impl Verdicts<H>) -> bool;
}

/// Who does with packets that left a queue what a [`Departure`] asks for.
pub trait Verdicts<H> {
    /// See [`Departure::Forward`], and if `mark` is set [`Departure::Mark`].
    fn pass(&mut self, packet: Packet<H>, mark: bool);

    /// See [`Departure::Drop`].
    fn drop(&mut self, packet: Packet<H>, cause: DropCause);
}

impl<H> Verdicts<H> for Option<Departure<H>> {
    #[inline]
    fn pass(&mut self, packet: Packet<H>, mark: bool) {
        *self = Some(if mark { Departure::Mark(packet) } else { Departure::Forward(packet) });
    }

    #[inline]
    fn drop(&mut self, packet: Packet<H>, cause: DropCause) {
        *self = Some(Departure::Drop(packet, cause));
    }
}

/// One egress queue structure with its AQM, whichever discipline was configured.
#[derive(Clone, Debug)]
pub enum Aqm<H> {
    /// RFC 9332.
    DualQ(Box<dualq::DualQ<H>>),
    /// One queue.
    Single(Box<single::SingleQueue<H>>),
}

impl<H> Aqm<H> {
    /// Builds the discipline; every buffer it will ever use is allocated here.
    pub fn new(discipline: &Discipline) -> Self {
        match discipline {
            Discipline::DualQ(p) => Self::DualQ(Box::new(dualq::DualQ::new(p))),
            Discipline::Single(p) => Self::Single(Box::new(single::SingleQueue::new(p))),
        }
    }

    /// How it sorts packets into queues.
    pub fn classifier(&self) -> Classifier {
        match self {
            Self::DualQ(q) => q.classifier(),
            Self::Single(_) => Classifier::SINGLE,
        }
    }

    /// Packets that have arrived in L so far, tail drops included, and how many packets of L were changed to CE.
    pub fn l_tally(&self) -> (Tally, u64) {
        match self {
            Self::DualQ(q) => q.l_tally(),
            Self::Single(q) => q.l_tally(),
        }
    }

    /// Offers a packet that arrived at `now`. A full buffer gives the handle back; the tail drop is counted.
    pub fn enqueue(&mut self, handle: H, meta: PacketMeta, now: Instant) -> Result<(), H> {
        match self {
            Self::DualQ(q) => q.enqueue(handle, meta, now),
            Self::Single(q) => q.enqueue(handle, meta, now),
        }
    }

    /// Takes the next packet as the link becomes free at `now`, with a verdict. Call again after a drop.
    pub fn dequeue(&mut self, now: Instant) -> Option<Departure<H>> {
        match self {
            Self::DualQ(q) => q.dequeue(now),
            Self::Single(q) => q.dequeue(now),
        }
    }

    /// Takes any waiting packet out without a verdict; it stays counted as queued.
    pub fn drain_one(&mut self) -> Option<H> {
        match self {
            Self::DualQ(q) => q.drain_one(),
            Self::Single(q) => q.drain_one(),
        }
    }

    /// Nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::DualQ(q) => q.is_empty(),
            Self::Single(q) => q.is_empty(),
        }
    }

    /// Brings the base probability up to `now` on its absolute grid. `enqueue` and `dequeue` do this themselves.
    pub fn advance(&mut self, now: Instant) {
        match self {
            Self::DualQ(q) => q.advance(now),
            Self::Single(q) => q.advance(now),
        }
    }

    /// Sets the parameters that a controller may set. Disciplines without them ignore the call.
    pub fn apply(&mut self, knobs: &Knobs) {
        if let Self::DualQ(q) = self {
            q.apply(knobs);
        }
    }

    /// The link has been told another rate; a DualQ that is to may answer with p'. Call [`Aqm::advance`] before.
    pub fn rate_changed(&mut self, from: BitRate, to: BitRate) {
        if let Self::DualQ(q) = self {
            q.rate_changed(from, to);
        }
    }

    /// Takes over the constants that may change while packets wait: PI target and gains, the native L4S AQM, CoDel's
    /// target. p', the counts and what waits stay. The rest of `discipline` is as it was when this was built, and a
    /// discipline of another kind is ignored.
    pub fn retune(&mut self, discipline: &Discipline) {
        match (self, discipline) {
            (Self::DualQ(q), Discipline::DualQ(p)) => q.retune(p),
            (Self::Single(q), Discipline::Single(p)) => q.retune(p),
            _ => {}
        }
    }

    /// Changes how many bytes may wait. Packets that wait already stay.
    pub fn set_limit_bytes(&mut self, limit: u64) {
        match self {
            Self::DualQ(q) => q.set_limit_bytes(limit),
            Self::Single(q) => q.set_limit_bytes(limit),
        }
    }

    /// Everything the discipline knows about itself at `now`.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        match self {
            Self::DualQ(q) => q.snapshot(now),
            Self::Single(q) => q.snapshot(now),
        }
    }

    /// Starts new per-window maxima.
    pub fn reset_window(&mut self) {
        match self {
            Self::DualQ(q) => q.reset_window(),
            Self::Single(q) => q.reset_window(),
        }
    }
}
