//! What an egress notes of each packet as it arrives, beyond the counters of the queues: which flows there are, how L's
//! packets are spaced, and how many of them came and were marked in each 4 ms.
//!
//! A few integer instructions a packet; no float, no allocation. What the figures mean is worked out by
//! [`super::features`], away from the packet path.

use crate::aqm::Service;
use crate::aqm::params::MTU_BYTES;
use crate::aqm::stats::Tally;
use crate::time::{Instant, Span};
use crate::units::BitRate;

use super::sketch::{FlowBits, FlowSketch};

/// A gap is counted in units of 2^10 ns, so that the square of the longest fits 2^40.
pub const GAP_UNIT_LOG2: u32 = 10;
/// Longer gaps count as this, about a second.
const GAP_MAX: u64 = 1 << 20;

/// Buckets of burst sizes, four to an octave of bytes: see [`burst_bucket_bytes`].
pub const BURST_BUCKETS: usize = 48;
/// The first bucket ends here.
const BURST_LEAST_LOG2: u32 = 9;

/// Length of a bin of [`Bin`]s.
pub const BIN: Span = Span::from_millis(4);
/// Complete bins that a window carries: 128 ms, so that windows may get lost on their way for as long.
pub const BINS: usize = 32;

/// Packets of L in 4 ms.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Bin {
    /// That arrived.
    pub arrived: u32,
    /// That left with CE which we set. Those marked between the end of a bin and the next arrival in L are in it, too.
    pub marked: u32,
}

/// What a window carries of it. The counters are cumulative and wrap.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct ArrivalStats {
    /// Flows by [`Service::index`].
    pub flows: [FlowBits; 2],
    /// Sum of the gaps before each arrival in L, in units of 2^10 ns.
    pub gap_sum: u64,
    /// Sum of their squares.
    pub gap_square_sum: u64,
    /// Packets of L by the size of the burst that they came in; a burst is counted when it is over.
    pub bursts: [u32; BURST_BUCKETS],
    /// The last bins; bin n, which ended 4 (n + 1) ms after the origin of time, is at n modulo [`BINS`].
    pub bins: [Bin; BINS],
    /// Number of the first bin that is not complete.
    pub bins_end: u64,
}

impl Default for ArrivalStats {
    fn default() -> Self {
        Self {
            flows: [FlowBits::default(); 2],
            gap_sum: 0,
            gap_square_sum: 0,
            bursts: [0; BURST_BUCKETS],
            bins: [Bin::default(); BINS],
            bins_end: 0,
        }
    }
}

/// The bytes at which a bucket of burst sizes begins, and at which it ends: 0..512, then quarters of octaves. The last
/// one has no end.
pub fn burst_bucket_bytes(bucket: usize) -> (f64, f64) {
    let edge = |n: usize| ((4 + n as u64 % 4) << (n / 4) << (BURST_LEAST_LOG2 - 2)) as f64;
    if bucket == 0 { (0.0, edge(0)) } else { (edge(bucket - 1), edge(bucket)) }
}

/// The bucket of a burst of `bytes`.
#[inline]
const fn burst_bucket(bytes: u64) -> usize {
    if bytes < 1 << BURST_LEAST_LOG2 {
        return 0;
    }
    let octave = bytes.ilog2();
    let quarter = (bytes >> (octave - 2)) as usize & 3;
    let bucket = 1 + 4 * (octave - BURST_LEAST_LOG2) as usize + quarter;
    if bucket < BURST_BUCKETS { bucket } else { BURST_BUCKETS - 1 }
}

/// The notes of one egress. It counts no packet that the queues have counted already: their tally, the arrivals in L and
/// the marks of L, is asked for when something is over.
#[derive(Clone, Debug)]
pub struct ArrivalMeter {
    flows: [FlowSketch; 2],
    last_l: Instant,
    /// Packets of L that are no further apart than this came together: half of an MTU's sending time.
    together: Span,
    open_ends: Instant,
    /// The tally when the last complete bin ended.
    bins_until: (u64, u64),
    /// Arrivals when the last complete burst ended.
    bursts_until: Tally,
    /// `flows` is filled in by [`ArrivalMeter::stats`].
    stats: ArrivalStats,
}

impl ArrivalMeter {
    /// Nothing has arrived at `now`, in front of a link of `rate`.
    pub fn new(rate: BitRate, now: Instant) -> Self {
        let bins_end = now.as_nanos() / BIN.as_nanos();
        let mut meter = Self {
            flows: [FlowSketch::new(), FlowSketch::new()],
            last_l: now,
            together: Span::ZERO,
            open_ends: end_of(bins_end),
            bins_until: (0, 0),
            bursts_until: Tally::default(),
            stats: ArrivalStats { bins_end, ..ArrivalStats::default() },
        };
        meter.set_rate(rate);
        meter
    }

    /// The link has another rate from now on.
    pub fn set_rate(&mut self, rate: BitRate) {
        self.together = Span::from_nanos(u64::from(MTU_BYTES) * 4_000_000_000 / rate.as_bps());
    }

    /// A packet arrives, whether or not there is room for it. Says whether time has passed since the last one in L, so
    /// that [`ArrivalMeter::after_gap`] is due: packets of one breath have the same time.
    #[inline]
    #[must_use = "a gap must be accounted for"]
    pub fn on_packet(&mut self, service: Service, flow: u32, ip: bool, now: Instant) -> bool {
        self.flows[service.index()].insert(flow, ip);
        service == Service::L4s && now > self.last_l
    }

    /// Accounts for the gap before a packet that arrives at `now`. `tally` is that of the queues before they see it.
    #[inline(never)]
    pub fn after_gap(&mut self, now: Instant, tally: (Tally, u64)) {
        if now >= self.open_ends {
            self.close_bins(now, tally);
        }
        let gap = now.since(self.last_l);
        self.last_l = now;
        let units = (gap.as_nanos() >> GAP_UNIT_LOG2).min(GAP_MAX);
        self.stats.gap_sum = self.stats.gap_sum.wrapping_add(units);
        self.stats.gap_square_sum = self.stats.gap_square_sum.wrapping_add(units.wrapping_mul(units));
        if gap > self.together {
            let (burst, until) = (tally.0, self.bursts_until);
            let bucket = &mut self.stats.bursts[burst_bucket(burst.bytes - until.bytes)];
            *bucket = bucket.wrapping_add((burst.packets - until.packets) as u32);
            self.bursts_until = burst;
        }
    }

    #[cold]
    fn close_bins(&mut self, now: Instant, (arrived, marked): (Tally, u64)) {
        let (arrived_until, marked_until) = self.bins_until;
        let open =
            Bin { arrived: (arrived.packets - arrived_until) as u32, marked: (marked - marked_until) as u32 };
        let end = now.as_nanos() / BIN.as_nanos();
        // After a longer silence than all bins, the same zeros would be written again.
        let first = self.stats.bins_end.max(end.saturating_sub(BINS as u64));
        for n in first..end {
            self.stats.bins[(n % BINS as u64) as usize] = Bin::default();
        }
        if first == self.stats.bins_end {
            self.stats.bins[(first % BINS as u64) as usize] = open;
        }
        self.bins_until = (arrived.packets, marked);
        self.stats.bins_end = end;
        self.open_ends = end_of(end);
    }

    /// What was noted until `now`; `tally` is that of the queues.
    pub fn stats(&mut self, now: Instant, tally: (Tally, u64)) -> ArrivalStats {
        if now >= self.open_ends {
            self.close_bins(now, tally);
        }
        ArrivalStats { flows: self.flows.each_mut().map(|f| f.bits(now)), ..self.stats }
    }
}

const fn end_of(bin: u64) -> Instant {
    Instant::from_nanos((bin + 1).saturating_mul(BIN.as_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A meter and the tally that the queues would keep.
    struct Rig {
        meter: ArrivalMeter,
        tally: (Tally, u64),
    }

    impl Rig {
        fn new(mbps: u64, start_ms: u64) -> Self {
            let meter = ArrivalMeter::new(BitRate::from_mbps(mbps), Instant::from_millis(start_ms));
            Self { meter, tally: (Tally::default(), 0) }
        }

        fn arrive(&mut self, service: Service, len: u16, flow: u32, now: Instant) {
            if self.meter.on_packet(service, flow, flow != 0, now) {
                self.meter.after_gap(now, self.tally);
            }
            if service == Service::L4s {
                self.tally.0.add(len);
            }
        }

        fn stats(&mut self, now: Instant) -> ArrivalStats {
            self.meter.stats(now, self.tally)
        }
    }

    fn us(n: u64) -> Instant {
        Instant::from_nanos(n * 1000)
    }

    #[test]
    fn buckets_tile_the_sizes() {
        assert_eq!(burst_bucket_bytes(0), (0.0, 512.0));
        assert_eq!(burst_bucket_bytes(1), (512.0, 640.0));
        assert_eq!(burst_bucket_bytes(5), (1024.0, 1280.0));
        for bytes in (0..40_000u64).chain([1 << 20, (1 << 20) + (1 << 18), 1 << 40]) {
            let bucket = burst_bucket(bytes);
            let (from, to) = burst_bucket_bytes(bucket);
            let inside = (bytes as f64) >= from && ((bytes as f64) < to || bucket == BURST_BUCKETS - 1);
            assert!(inside, "{bytes} is not in {from}..{to}");
        }
    }

    /// 20 packets of 1500 bytes back to back, 60 times a second, at 40 Mbit/s: each burst is 30,000 bytes, between
    /// 28,672 and 32,768. What is paced is alone: 1,500 bytes.
    #[test]
    fn bursts_are_what_comes_faster_than_the_link_sends() {
        for (gap_us, size) in [(0, 30_000), (100, 30_000), (400, 1500)] {
            let mut m = Rig::new(40, 0);
            for frame in 1..=60u64 {
                for i in 0..20 {
                    m.arrive(Service::L4s, 1500, 1, us(frame * 16_667 + i * gap_us));
                }
            }
            let stats = m.stats(us(2_000_000));
            let mut expected = [0; BURST_BUCKETS];
            // The last burst, or the last packet of it, is not over.
            expected[burst_bucket(size)] = if size == 1500 { 1199 } else { 1180 };
            assert_eq!(stats.bursts, expected, "{gap_us}");
        }
    }

    /// Half of an MTU's time: 151.4 us at 40 Mbit/s, four times that at 10 Mbit/s.
    #[test]
    fn what_is_a_burst_follows_the_rate() {
        let mut m = Rig::new(40, 0);
        assert_eq!(m.meter.together, Span::from_nanos(151_400));
        m.meter.set_rate(BitRate::from_mbps(10));
        assert_eq!(m.meter.together, Span::from_nanos(605_600));
    }

    /// Gaps of 1.024 and 3.072 ms: 1000 and 3000 units.
    #[test]
    fn gaps_are_summed_with_their_squares() {
        let mut m = Rig::new(40, 0);
        m.arrive(Service::L4s, 100, 1, us(1024));
        m.arrive(Service::Classic, 100, 1, us(2000));
        m.arrive(Service::L4s, 100, 1, us(4096));
        let s = m.stats(us(5000));
        assert_eq!((s.gap_sum, s.gap_square_sum), (4000, 10_000_000));
        m.arrive(Service::L4s, 100, 1, Instant::from_millis(100_000));
        assert_eq!(m.stats(us(100_000_000)).gap_sum, 4000 + (1 << 20));
    }

    /// Bins stand where their number says, through silences shorter and longer than all of them.
    #[test]
    fn bins_count_arrivals_and_marks_of_four_milliseconds() {
        let mut m = Rig::new(40, 6);
        for ms in [6, 7, 8, 11, 12, 24] {
            m.arrive(Service::L4s, 100, 1, Instant::from_millis(ms));
        }
        m.tally.1 = 3;
        let s = m.stats(Instant::from_millis(28));
        assert_eq!(s.bins_end, 7);
        let arrived: Vec<u32> = s.bins[..8].iter().map(|b| b.arrived).collect();
        assert_eq!(arrived, [0, 2, 2, 1, 0, 0, 1, 0]);
        assert_eq!(s.bins.iter().map(|b| b.marked).collect::<Vec<_>>()[..8], [0, 0, 0, 0, 0, 0, 3, 0]);
        m.arrive(Service::L4s, 100, 1, Instant::from_millis(28));
        m.tally.1 = 5;
        let s = m.stats(Instant::from_millis(28 + 4 * 32));
        assert_eq!(s.bins[7].marked, 2);
        assert_eq!(
            (s.bins_end, s.bins[7].arrived, s.bins[6].arrived),
            (39, 1, 0),
            "the oldest one is still there"
        );
        let s = m.stats(Instant::from_millis(1_000_000));
        assert_eq!((s.bins_end, s.bins), (250_000, [Bin::default(); BINS]));
    }

    #[test]
    fn flows_are_counted_per_queue() {
        let mut m = Rig::new(40, 0);
        for flow in 1..=5 {
            m.arrive(Service::Classic, 100, flow, us(flow.into()));
        }
        m.arrive(Service::L4s, 100, 9, us(10));
        m.arrive(Service::L4s, 100, 0, us(11));
        assert_eq!(m.stats(us(20)).flows.map(|f| f.active), [1, 5]);
    }
}
