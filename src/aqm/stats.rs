//! Counters of RFC 9332 §2.5.2.2 and the overload report of §2.5.2.3. Plain numbers, written by one thread, copied out
//! whole.

use super::Service;
use crate::time::{Instant, Span};
use crate::wire::Ecn;

/// Packets and the bytes that they occupy on the link (frame plus configured overhead).
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Tally {
    /// Counts one packet of `bytes`. At 400 Gbit/s the bytes last for a decade.
    #[inline]
    pub fn add(&mut self, bytes: u16) {
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(u64::from(bytes));
    }
}

impl core::ops::Add for Tally {
    type Output = Self;
    fn add(self, rhs: Self) -> Self {
        Self { packets: self.packets + rhs.packets, bytes: self.bytes + rhs.bytes }
    }
}

/// Why a packet was dropped by the egress.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
pub enum DropCause {
    /// The AQM signalled congestion to a sender that does not understand marks.
    Aqm,
    /// The DualQ was saturated (p_CL >= 1): Classic drop applies to ECN packets as well (RFC 9332 §2.5.1.1).
    Overload,
    /// The shared buffer was full.
    Tail,
}

impl DropCause {
    /// All causes, in the order of the result object.
    pub const ALL: [Self; 3] = [Self::Aqm, Self::Overload, Self::Tail];

    /// `aqm`, `overload` or `tail`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Aqm => "aqm",
            Self::Overload => "overload",
            Self::Tail => "tail",
        }
    }
}

/// Which part of the AQM set CE.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
pub enum MarkCause {
    /// The native L4S AQM asked for more than the coupling did.
    Native,
    /// The coupled probability p_CL.
    Coupled,
    /// The Classic probability p_C.
    Classic,
}

impl MarkCause {
    /// All causes.
    pub const ALL: [Self; 3] = [Self::Native, Self::Coupled, Self::Classic];

    /// The `cause` label of the metrics: `step`, `coupled` or `pi2`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Native => "step",
            Self::Coupled => "coupled",
            Self::Classic => "pi2",
        }
    }
}

/// Upper edges of the queue-delay buckets in nanoseconds; one more bucket holds what is longer than the last edge.
pub const DELAY_EDGES_NS: [u64; 14] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    15_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    1_000_000_000,
];

/// Cumulative counters of one queue. `arrived = forwarded + dropped + queued` holds after every call.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct QueueStats {
    /// Offered to the egress and classified into this queue, tail drops included.
    pub arrived: Tally,
    /// Presented to the AQM: taken from the queue for a verdict, whether or not the AQM may signal to them.
    pub presented: Tally,
    /// Sent on.
    pub forwarded: Tally,
    /// Changed to CE by us, by [`MarkCause`]. Packets that were CE already do not count.
    pub marked: [u64; 3],
    /// Dropped, by [`DropCause`] and then by 0 = Not-ECT (and non-IP), 1 = ECN-capable.
    pub dropped: [[Tally; 2]; 3],
    /// Sum of the queue delay of forwarded packets in nanoseconds.
    pub delay_sum_ns: u64,
    /// Longest queue delay of a forwarded packet since [`QueueStats::reset_max`].
    pub delay_max: Span,
}

impl QueueStats {
    /// Packets changed to CE, whatever the cause.
    pub fn marked_total(&self) -> u64 {
        self.marked.iter().sum()
    }

    /// Packets dropped for one cause.
    pub fn dropped_for(&self, cause: DropCause) -> Tally {
        let [not_ect, ect] = self.dropped[cause as usize];
        not_ect + ect
    }

    /// Packets dropped, whatever the cause.
    pub fn dropped_total(&self) -> Tally {
        DropCause::ALL.iter().fold(Tally::default(), |sum, &c| sum + self.dropped_for(c))
    }

    /// Starts a new maximum, at the edge of a telemetry window.
    pub fn reset_max(&mut self) {
        self.delay_max = Span::ZERO;
    }
}

/// Packets and bytes waiting in a queue.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Backlog {
    /// Packets.
    pub packets: u32,
    /// Bytes.
    pub bytes: u64,
}

/// The overload report of RFC 9332 §2.5.2.3: saturation with hysteresis, so that one episode is one report.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct OverloadStats {
    /// An episode is going on.
    pub active: bool,
    /// Episodes that have begun.
    pub episodes: u64,
    /// Time spent in episodes, the current one included.
    pub total: Span,
}

/// The probabilities of RFC 9332 Appendix A at one moment, each in 0..=1.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Probabilities {
    /// p', the base probability.
    pub base: f64,
    /// p_CL = min(k p', 1), the coupled L4S marking probability.
    pub coupled: f64,
    /// p_C = p'^2, the Classic dropping or marking probability.
    pub classic: f64,
}

/// Everything that an egress knows about itself at one moment.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Counters by [`Service::index`].
    pub queues: [QueueStats; 2],
    /// What waits, by [`Service::index`].
    pub backlog: [Backlog; 2],
    /// Sojourn so far of the packet at the head, by [`Service::index`]; zero if empty.
    pub head_delay: [Span; 2],
    /// Probabilities in force.
    pub p: Probabilities,
    /// The overload report.
    pub overload: OverloadStats,
    /// Most bytes that both queues together may hold.
    pub limit_bytes: u64,
}

impl Snapshot {
    /// Counters of one queue.
    pub const fn queue(&self, service: Service) -> &QueueStats {
        &self.queues[service.index()]
    }
}

/// Tallies by [`Service::index`], packets and bytes apart from each other: side by side a compiler adds to both in one vector
/// register, which takes three times the instructions.
#[derive(Copy, Clone, Debug, Default)]
struct Tallies {
    packets: [u64; 2],
    bytes: [u64; 2],
}

impl Tallies {
    #[inline]
    fn add(&mut self, service: Service, len: u16) {
        let (packets, bytes) = (&mut self.packets[service.index()], &mut self.bytes[service.index()]);
        *packets = packets.wrapping_add(1);
        *bytes = bytes.wrapping_add(u64::from(len));
    }

    fn of(&self, service: Service) -> Tally {
        Tally { packets: self.packets[service.index()], bytes: self.bytes[service.index()] }
    }
}

/// The counters while they are being written. What arrived and what was forwarded are counted where they happen, neither from
/// the other: that the account closes is for others to check.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// `arrived`, `forwarded` and `presented` are filled in by [`Ledger::stats`].
    queues: [QueueStats; 2],
    arrived: Tallies,
    forwarded: Tallies,
}

impl Ledger {
    /// The counters. What was presented to the AQM is what it forwarded or dropped.
    pub(super) fn stats(&self) -> [QueueStats; 2] {
        Service::BOTH.map(|service| {
            let q = self.queues[service.index()];
            let (arrived, forwarded) = (self.arrived.of(service), self.forwarded.of(service));
            let presented = forwarded + q.dropped_for(DropCause::Aqm) + q.dropped_for(DropCause::Overload);
            QueueStats { arrived, presented, forwarded, ..q }
        })
    }

    /// Arrivals in L and the packets of L that were marked.
    pub(super) fn l_tally(&self) -> (Tally, u64) {
        let l = &self.queues[Service::L4s.index()];
        (self.arrived.of(Service::L4s), l.marked_total())
    }

    #[inline]
    pub(super) fn arrived(&mut self, service: Service, len: u16) {
        self.arrived.add(service, len);
    }

    #[inline]
    pub(super) fn marked(&mut self, service: Service, cause: MarkCause) {
        let marked = &mut self.queues[service.index()].marked[cause as usize];
        *marked = marked.wrapping_add(1);
    }

    #[inline]
    pub(super) fn dropped(&mut self, service: Service, len: u16, ecn: Ecn, cause: DropCause) {
        self.queues[service.index()].dropped[cause as usize][usize::from(ecn.is_ect())].add(len);
    }

    #[inline]
    pub(super) fn forwarded(&mut self, service: Service, len: u16, sojourn: Span) {
        self.forwarded.add(service, len);
        let q = &mut self.queues[service.index()];
        q.delay_sum_ns = q.delay_sum_ns.wrapping_add(sojourn.as_nanos());
        if sojourn > q.delay_max {
            q.delay_max = sojourn;
        }
    }

    pub(super) fn reset_window(&mut self) {
        for q in &mut self.queues {
            q.reset_max();
        }
    }
}

/// How long the coupling must stay below saturation before an overload episode is over: p' wanders across the threshold
/// while an overload lasts, and one overload should be one report (RFC 9332 §2.5.2.3).
pub const OVERLOAD_CLEAR: Span = Span::from_secs(1);

/// Turns saturation, seen once an update, into episodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Overload {
    episodes: u64,
    finished: Span,
    /// First and last saturated moment of the current episode.
    current: Option<(Instant, Instant)>,
}

impl Overload {
    pub(super) fn observe(&mut self, saturated: bool, now: Instant) {
        match (&mut self.current, saturated) {
            (None, false) => {}
            (None, true) => {
                self.episodes += 1;
                self.current = Some((now, now));
            }
            (Some((_, last)), true) => *last = now,
            (Some((first, last)), false) => {
                if now.since(*last) >= OVERLOAD_CLEAR {
                    self.finished = self.finished + last.since(*first);
                    self.current = None;
                }
            }
        }
    }

    pub(super) fn stats(&self) -> OverloadStats {
        let running = self.current.map_or(Span::ZERO, |(first, last)| last.since(first));
        OverloadStats {
            active: self.current.is_some(),
            episodes: self.episodes,
            total: self.finished + running,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of five packets of 100 bytes one was dropped by the AQM and one for want of room, one was sent on: the others are not said to
    /// have been.
    #[test]
    fn what_is_forwarded_is_counted_by_itself() {
        let mut ledger = Ledger::default();
        (0..5).for_each(|_| ledger.arrived(Service::L4s, 100));
        for cause in [DropCause::Aqm, DropCause::Tail] {
            ledger.dropped(Service::L4s, 100, Ecn::Ect1, cause);
        }
        ledger.forwarded(Service::L4s, 100, Span::from_millis(2));
        let [l, c] = ledger.stats();
        let tally = |packets| Tally { packets, bytes: 100 * packets };
        assert_eq!((l.arrived, l.forwarded, l.presented), (tally(5), tally(1), tally(2)));
        assert_eq!((l.delay_sum_ns, l.delay_max), (2_000_000, Span::from_millis(2)));
        assert_eq!(c, QueueStats::default());
    }

    /// RFC 9332 §2.5.2.3: reports do not flap.
    #[test]
    fn an_overload_that_wavers_is_one_episode() {
        let mut o = Overload::default();
        for ms in (0..5_000).step_by(16) {
            o.observe((ms / 160) % 2 == 0, Instant::from_millis(ms));
        }
        let s = o.stats();
        assert_eq!((s.active, s.episodes), (true, 1));
        for ms in (5_000..7_000).step_by(16) {
            o.observe(false, Instant::from_millis(ms));
        }
        let s = o.stats();
        assert_eq!((s.active, s.episodes), (false, 1));
        assert_eq!(s.total, Span::from_millis(4_944), "to the last saturated update");
        o.observe(true, Instant::from_millis(8_000));
        assert_eq!(o.stats().episodes, 2);
    }
}
