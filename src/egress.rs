//! The bottleneck of one direction: a shaper in front of which a discipline queues. Sans I/O: the forwarder and the
//! simulator drive it through the same five calls, [`on_packet`](Egress::on_packet), [`poll`](Egress::poll),
//! [`poll_timeout`](Egress::poll_timeout), [`take_window`](Egress::take_window) and [`apply`](Egress::apply); where packets
//! come in batches, [`take_in`](Egress::take_in) and [`let_out`](Egress::let_out) are the first two for a whole one, in a loop
//! that is compiled for each discipline and each queue.
//!
//! It owns what waits and nothing else. It must not know where handles come from.

mod shaper;

pub use self::shaper::CATCH_UP;
use self::shaper::Shaper;
use crate::aqm::classify::Classifier;
use crate::aqm::params::{Discipline, Knobs, MTU_BYTES};
use crate::aqm::stats::DropCause;
use crate::aqm::{Aqm, Departure, Packet, PacketMeta, Queueing, Service, Verdicts};
use crate::telemetry::TelemetryWindow;
use crate::telemetry::arrivals::ArrivalMeter;
use crate::time::{Instant, Span};
use crate::units::BitRate;

/// What one egress is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct EgressConfig {
    /// Rate of the link that is shaped.
    pub rate: BitRate,
    /// Bytes that the link adds to each frame (preamble, FCS, encapsulation), or takes away. -64..=256.
    pub overhead: i32,
    /// Least bytes that a packet occupies on the link, after `overhead`.
    pub mpu: u32,
    /// Most bytes that wait; takes precedence over the discipline's own.
    pub limit: LimitRule,
    /// What queues them.
    pub discipline: Discipline,
}

/// How many bytes may wait.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum LimitRule {
    /// What the link sends in this time at the rate in force; never under 30 MTU.
    Time(Span),
    /// This many, whatever the rate; never under 30 MTU.
    Bytes(u64),
}

impl LimitRule {
    /// RFC 9332 Appendix A: 250 ms.
    pub const DEFAULT: Self = Self::Time(Span::from_millis(250));

    /// The limit in bytes at a rate.
    pub fn bytes(self, rate: BitRate) -> u64 {
        let bytes = match self {
            Self::Time(t) => rate.bytes_in(t),
            Self::Bytes(b) => b,
        };
        bytes.max(30 * u64::from(MTU_BYTES))
    }
}

/// One direction's bottleneck.
#[derive(Clone, Debug)]
pub struct Egress<H> {
    aqm: Aqm<H>,
    shaper: Shaper,
    framing: Framing,
    limit: LimitRule,
    /// The rate that windows report: the configured one, or the mean of a link whose capacity nobody knows.
    reported: BitRate,
    classifier: Classifier,
    arrivals: ArrivalMeter,
    windows: u64,
    window_start: Instant,
}

impl<H> Egress<H> {
    /// An idle egress at `now`.
    pub fn new(config: &EgressConfig, now: Instant) -> Self {
        let mut aqm = Aqm::new(&config.discipline);
        aqm.set_limit_bytes(config.limit.bytes(config.rate));
        aqm.advance(now);
        Self {
            classifier: aqm.classifier(),
            aqm,
            shaper: Shaper::new(config.rate, now),
            framing: Framing { overhead: config.overhead, mpu: config.mpu },
            limit: config.limit,
            reported: config.rate,
            arrivals: ArrivalMeter::new(config.rate, now),
            windows: 0,
            window_start: now,
        }
    }

    /// Bytes that a frame of `frame_len` occupies on the link.
    pub fn link_bytes(&self, frame_len: usize) -> u16 {
        self.framing.link_bytes(frame_len)
    }

    /// The same for whoever asks while the egress is at work.
    pub const fn framing(&self) -> Framing {
        self.framing
    }

    /// Offers a packet that arrived at `now`. `meta.len` is [`Egress::link_bytes`] of its frame. A full buffer gives the
    /// handle back to be recycled, and counts it.
    #[inline]
    pub fn on_packet(&mut self, handle: H, meta: PacketMeta, now: Instant) -> Result<(), H> {
        let Self { aqm, shaper, arrivals, .. } = self;
        match aqm {
            Aqm::DualQ(queues) => arrive(&mut **queues, shaper, arrivals, handle, meta, now),
            Aqm::Single(queue) => arrive(&mut **queue, shaper, arrivals, handle, meta, now),
        }
    }

    /// Offers all of a batch that arrived at `now`, as [`Egress::on_packet`] does one.
    #[inline]
    pub fn take_in(&mut self, inlet: impl Inlet<H>, now: Instant) {
        let Self { aqm, shaper, arrivals, .. } = self;
        match aqm {
            Aqm::DualQ(queues) => take_in(&mut **queues, shaper, arrivals, inlet, now),
            Aqm::Single(queue) => take_in(&mut **queue, shaper, arrivals, inlet, now),
        }
    }

    /// The next packet that the link has time for at `now`, with what to do with it. Call until `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Departure<H>> {
        self.shaper.bound_lag(now);
        if !self.shaper.is_free(now) {
            return None;
        }
        let departure = self.aqm.dequeue(now)?;
        match &departure {
            Departure::Forward(p) | Departure::Mark(p) => self.shaper.sent(p.len.into()),
            Departure::Drop(..) => {}
        }
        Some(departure)
    }

    /// Lets out what the link has time for at `now`, as [`Egress::poll`] does one, while there is room for it.
    #[inline]
    pub fn let_out<O: Outlet<H>>(&mut self, outlet: O, now: Instant) -> O {
        let Self { aqm, shaper, .. } = self;
        match aqm {
            Aqm::DualQ(queues) => let_out(&mut **queues, shaper, outlet, now),
            Aqm::Single(queue) => let_out(&mut **queue, shaper, outlet, now),
        }
    }

    /// When [`Egress::poll`] will have something; `None` while nothing waits, or while the link waits for a grant.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.aqm.is_empty() && !self.shaper.waits_for_grant()).then_some(self.shaper.free_at())
    }

    /// Closes the telemetry window that began at the last call (or at the start).
    pub fn take_window(&mut self, now: Instant) -> TelemetryWindow {
        self.aqm.advance(now);
        let window = TelemetryWindow {
            id: self.windows,
            end: now,
            span: now.since(self.window_start),
            rate: self.reported,
            capacity_bits: self.shaper.capacity_bits(now),
            egress: self.aqm.snapshot(now),
            arrivals: self.arrivals.stats(now, self.aqm.l_tally()),
        };
        self.aqm.reset_window();
        self.windows += 1;
        self.window_start = now;
        window
    }

    /// Puts a controller's parameters in force, from the next update of p' and the next packet on.
    pub fn apply(&mut self, knobs: &Knobs, now: Instant) {
        self.aqm.advance(now);
        self.aqm.apply(knobs);
    }

    /// Takes over what may change while packets wait, from `now` on: rate, overhead, mpu, limit in bytes, and the
    /// discipline's constants ([`Aqm::retune`]). What waits stays and keeps the length that it was charged with.
    pub fn reconfigure(&mut self, config: &EgressConfig, now: Instant) {
        self.aqm.advance(now);
        self.aqm.retune(&config.discipline);
        self.framing = Framing { overhead: config.overhead, mpu: config.mpu };
        self.limit = config.limit;
        if config.rate == self.shaper.rate() {
            self.aqm.set_limit_bytes(self.limit.bytes(config.rate));
        } else {
            self.set_rate(config.rate, now);
        }
    }

    /// Changes the rate from `now` on. The packet being sent ends when it would have.
    pub fn set_rate(&mut self, rate: BitRate, now: Instant) {
        self.shaper.set_rate(rate, now);
        self.aqm.advance(now);
        self.aqm.rate_changed(self.reported, rate);
        self.reported = rate;
        self.arrivals.set_rate(rate);
        self.aqm.set_limit_bytes(self.limit.bytes(rate));
    }

    /// The capacity changes and nobody is told: neither the limit nor the rate that windows report follows. For links
    /// whose capacity is only known by what passes through them.
    pub fn vary(&mut self, rate: BitRate, now: Instant) {
        self.shaper.set_rate(rate, now);
    }

    /// From now on the link sends by [`Egress::grant`] alone and has no rate; windows report the configured one.
    pub fn send_by_grants(&mut self, now: Instant) {
        self.shaper.send_by_grants(now);
    }

    /// The link may send `bytes` more. Credit lasts while packets wait; what an idle link is granted is lost. The packet
    /// that uses up the last of it is sent whole, and what it overdraws is taken from the next grant.
    pub fn grant(&mut self, bytes: u16) {
        self.shaper.grant(bytes, self.aqm.is_empty());
    }

    /// How long a packet of `len` bytes takes at the rate in force, to the nanosecond below; no time at all on a link that
    /// sends by grants.
    pub fn sending_time(&self, len: u16) -> Span {
        self.shaper.sending_time(len)
    }

    /// The rate in force.
    pub const fn rate(&self) -> BitRate {
        self.shaper.rate()
    }

    /// The queue that a packet would join.
    pub const fn service(&self, meta: &PacketMeta) -> Service {
        self.classifier.service(meta)
    }

    /// Takes a waiting packet out without a verdict or an account, for a driver that shuts down.
    pub fn drain_one(&mut self) -> Option<H> {
        self.aqm.drain_one()
    }
}

/// Where the packets of a batch come from.
pub trait Inlet<H> {
    /// Gives every packet to `offer` and takes back those that find the buffer full.
    fn feed(self, offer: impl FnMut(H, PacketMeta) -> Result<(), H>);
}

/// Where packets go that leave.
pub trait Outlet<H>: Verdicts<H> {
    /// There is room for another one.
    fn has_room(&self) -> bool;
}

/// What a frame occupies on the link beyond its own bytes.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Framing {
    overhead: i32,
    mpu: u32,
}

impl Framing {
    /// See [`Egress::link_bytes`].
    #[inline]
    pub fn link_bytes(self, frame_len: usize) -> u16 {
        // What is longer than 32 bits say stays longer than 16 bits say, whatever the overhead.
        let bytes = i64::from(u32::try_from(frame_len).unwrap_or(u32::MAX)) + i64::from(self.overhead);
        bytes.max(i64::from(self.mpu)).clamp(1, i64::from(u16::MAX)) as u16
    }
}

#[inline(always)]
fn arrive<H>(
    queues: &mut impl Queueing<H>,
    shaper: &mut Shaper,
    arrivals: &mut ArrivalMeter,
    handle: H,
    meta: PacketMeta,
    now: Instant,
) -> Result<(), H> {
    // Each arm is compiled for its queue.
    match queues.service(&meta) {
        Service::L4s => join(queues, Service::L4s, shaper, arrivals, handle, meta, now),
        Service::Classic => join(queues, Service::Classic, shaper, arrivals, handle, meta, now),
    }
}

#[inline(always)]
fn join<H>(
    queues: &mut impl Queueing<H>,
    service: Service,
    shaper: &mut Shaper,
    arrivals: &mut ArrivalMeter,
    handle: H,
    meta: PacketMeta,
    now: Instant,
) -> Result<(), H> {
    queues.catch_up(now);
    if arrivals.on_packet(service, meta.flow, meta.ip, now) {
        arrivals.after_gap(now, queues.l_tally());
    }
    if queues.is_empty() {
        shaper.wake(now);
    }
    queues.join(service, handle, meta, now)
}

#[inline(never)]
fn take_in<H>(
    queues: &mut impl Queueing<H>,
    shaper: &mut Shaper,
    arrivals: &mut ArrivalMeter,
    inlet: impl Inlet<H>,
    now: Instant,
) {
    inlet.feed(
        #[inline(always)]
        |handle, meta| arrive(queues, shaper, arrivals, handle, meta, now),
    );
}

#[inline(never)]
fn let_out<H, O: Outlet<H>>(
    queues: &mut impl Queueing<H>,
    shaper: &mut Shaper,
    outlet: O,
    now: Instant,
) -> O {
    // Locals of its own keep their fields in registers.
    let mut to = Charged { bytes: 0, to: outlet };
    if to.to.has_room() {
        shaper.bound_lag(now);
        let allowance = shaper.allowance(now);
        while to.bytes < allowance && queues.serve(now, &mut to) && to.to.has_room() {}
        shaper.sent(to.bytes);
    }
    to.to
}

/// Counts the bytes that are sent.
struct Charged<V> {
    bytes: u64,
    to: V,
}

impl<H, V: Verdicts<H>> Verdicts<H> for Charged<V> {
    #[inline(always)]
    fn pass(&mut self, packet: Packet<H>, mark: bool) {
        self.bytes += u64::from(packet.len);
        self.to.pass(packet, mark);
    }

    #[inline(always)]
    fn drop(&mut self, packet: Packet<H>, cause: DropCause) {
        self.to.drop(packet, cause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aqm::params::{DualQParams, Law, Limit, SingleParams};
    use crate::wire::Ecn;

    fn config(mbps: u64) -> EgressConfig {
        let rate = BitRate::from_mbps(mbps);
        EgressConfig {
            rate,
            overhead: 0,
            mpu: 0,
            limit: LimitRule::DEFAULT,
            discipline: Discipline::Single(SingleParams { law: Law::TailDrop, limit: Limit::for_rate(rate) }),
        }
    }

    fn meta(len: u16) -> PacketMeta {
        PacketMeta { len, ecn: Ecn::NotEct, nqb: false, ip: true, flow: 0 }
    }

    /// 1514 bytes at 40 Mbit/s last 302.8 us.
    #[test]
    fn transmission_time_is_length_over_rate() {
        let mut e = Egress::new(&config(40), Instant::ZERO);
        assert_eq!(e.poll_timeout(), None);
        for i in 0..2 {
            e.on_packet(i, meta(1514), Instant::ZERO).unwrap();
        }
        assert!(e.poll(Instant::ZERO).is_some());
        assert_eq!(e.poll_timeout(), Some(Instant::from_nanos(302_800)));
        assert!(e.poll(Instant::from_nanos(302_799)).is_none());
        assert!(e.poll(Instant::from_nanos(302_800)).is_some());
    }

    /// A rate that does not divide a nanosecond evenly is still exact in the long run, with a driver that is late.
    #[test]
    fn the_long_run_rate_is_exact() {
        let mut e = Egress::new(&config(37), Instant::ZERO);
        let mut sent_bits = 0u64;
        let mut now = Instant::ZERO;
        let end = Instant::from_millis(100_000);
        let mut step = 1u64;
        while now < end {
            while e.aqm.snapshot(now).backlog[1].packets < 20 {
                e.on_packet(0, meta(1001), now).unwrap();
            }
            while let Some(d) = e.poll(now) {
                assert!(matches!(d, Departure::Forward(_)));
                sent_bits += 8 * 1001;
            }
            step = step * 48_271 % 1_000_003;
            now += Span::from_nanos(10_000 + step);
        }
        let capacity = e.take_window(now).capacity_bits;
        let off = capacity.abs_diff(sent_bits);
        assert!(
            off < 2 * 8 * 1001 + 38_000,
            "{off} of {capacity}: at most the packet at each end and one lag"
        );
    }

    /// A driver that was away does not get its absence back as a burst.
    #[test]
    fn catching_up_is_bounded() {
        let mut e = Egress::new(&config(40), Instant::ZERO);
        for i in 0..500 {
            e.on_packet(i, meta(1500), Instant::ZERO).unwrap();
        }
        let mut sent = 0;
        while e.poll(Instant::from_millis(100)).is_some() {
            sent += 1;
        }
        assert_eq!(sent, 17, "5 ms at 300 us a packet, and the one that the link was free for");
    }

    #[test]
    fn overhead_and_mpu() {
        let e: Egress<u32> =
            Egress::new(&EgressConfig { overhead: 24, mpu: 84, ..config(40) }, Instant::ZERO);
        assert_eq!((e.link_bytes(1514), e.link_bytes(60), e.link_bytes(42)), (1538, 84, 84));
        let e: Egress<u32> = Egress::new(&EgressConfig { overhead: -14, ..config(40) }, Instant::ZERO);
        assert_eq!((e.link_bytes(1514), e.link_bytes(10)), (1500, 1));
    }

    /// An opportunity of a trace: kept while packets wait, lost while none does, overdrawn by at most one packet.
    #[test]
    fn grants_are_kept_while_packets_wait() {
        let at = Instant::from_millis;
        let mut e = Egress::new(&config(12), at(0));
        e.send_by_grants(at(0));
        e.grant(1514);
        assert_eq!(e.poll_timeout(), None);
        for i in 0..6 {
            e.on_packet(i, meta(if i < 3 { 1000 } else { 700 }), at(1)).unwrap();
        }
        assert!(e.poll(at(1)).is_none(), "what was granted to the idle link is lost");
        e.grant(1514);
        let sent = |e: &mut Egress<u32>, ms| std::iter::from_fn(|| e.poll(at(ms))).count();
        assert_eq!(sent(&mut e, 2), 2, "1514 - 1000 > 0, then -486");
        e.grant(1514);
        assert_eq!(sent(&mut e, 3), 2, "1028 - 1000 = 28 > 0, then -672");
        e.grant(600);
        assert_eq!((sent(&mut e, 4), e.poll_timeout()), (0, None));
        e.grant(2000);
        assert_eq!(sent(&mut e, 5), 2, "the queue is empty");
        let w = e.take_window(at(10));
        assert_eq!((w.capacity_bits, w.rate), (8 * (1514 * 3 + 600 + 2000), BitRate::from_mbps(12)));
    }

    /// A capacity that nobody is told of: windows and limit stay, sending changes.
    #[test]
    fn a_hidden_rate_is_not_reported() {
        let mut e: Egress<u32> = Egress::new(&config(40), Instant::ZERO);
        e.vary(BitRate::from_mbps(10), Instant::from_millis(1000));
        let w = e.take_window(Instant::from_millis(3000));
        assert_eq!((w.rate, w.capacity_bits), (BitRate::from_mbps(40), 60_000_000));
        assert_eq!((w.egress.limit_bytes, e.rate()), (1_250_000, BitRate::from_mbps(10)));
    }

    /// 40 to 10 Mbit/s: 250 ms are 312,500 bytes. A frame that comes now is charged 24 bytes more; the one that waits is
    /// not, so that they last 1000 and 1019.2 us.
    #[test]
    fn a_new_configuration_leaves_what_waits_alone() {
        let at = Instant::from_nanos;
        let mut e = Egress::new(&config(40), Instant::ZERO);
        let charged = |e: &Egress<u32>| meta(e.link_bytes(1250));
        e.on_packet(1, charged(&e), at(0)).unwrap();
        e.reconfigure(&EgressConfig { overhead: 24, mpu: 84, ..config(10) }, at(0));
        e.on_packet(2, charged(&e), at(0)).unwrap();
        e.on_packet(3, charged(&e), at(0)).unwrap();
        assert_eq!((e.link_bytes(40), e.rate()), (84, BitRate::from_mbps(10)));
        for free_at in [1_000_000, 2_019_200] {
            assert!(e.poll(e.poll_timeout().unwrap()).is_some());
            assert_eq!(e.poll_timeout(), Some(at(free_at)));
        }
        assert_eq!(e.take_window(at(3_000_000)).egress.limit_bytes, 312_500);
        e.reconfigure(
            &EgressConfig { limit: LimitRule::Time(Span::from_millis(100)), ..config(10) },
            at(3_000_000),
        );
        let w = e.take_window(at(4_000_000));
        assert_eq!((w.egress.limit_bytes, w.capacity_bits), (125_000, 40_000));
        assert_eq!(w.egress.queues[1].arrived.packets, 3);
    }

    /// A head that has waited 16, 32 and 48 ms: two updates under 15 ms, 0.16 and 3.2, one under 40 ms, 1 and 2.
    #[test]
    fn constants_change_and_p_stays() {
        use crate::aqm::params::{DualQParams, PiArithmetic, PiParams};
        let grid = |n: u64| Instant::from_millis(16 * n);
        for arithmetic in [PiArithmetic::Float, PiArithmetic::LinuxU32] {
            let with = |pi: PiParams| EgressConfig {
                discipline: Discipline::DualQ(DualQParams {
                    pi: PiParams { arithmetic, ..pi },
                    ..DualQParams::rfc9332(Limit::for_rate(BitRate::from_mbps(40)))
                }),
                ..config(40)
            };
            let mut e = Egress::new(&with(PiParams::default()), Instant::ZERO);
            e.on_packet(0, meta(1500), Instant::ZERO).unwrap();
            let before = e.take_window(grid(2)).egress.p.base;
            // 3.2 x 16 + 0.16 x 1 and 3.2 x 16 + 0.16 x 17, in ms.
            assert!((before - 0.10528).abs() < 1e-3, "{before}");
            let new =
                PiParams { target: Span::from_millis(40), alpha: 1.0, beta: 2.0, ..PiParams::default() };
            e.reconfigure(&with(new), grid(2));
            assert_eq!(e.take_window(grid(2)).egress.p.base, before);
            let after = e.take_window(grid(3)).egress.p.base;
            // 1 x (48 - 40) + 2 x 16 ms.
            assert!((after - before - 0.040).abs() < 1e-4, "{arithmetic:?}: {before} {after}");
        }
    }

    /// The rate changes at once, and capacity is the integral of what it was.
    #[test]
    fn the_rate_changes_while_running() {
        let mut e = Egress::new(&config(40), Instant::ZERO);
        e.set_rate(BitRate::from_mbps(10), Instant::from_millis(1000));
        let w = e.take_window(Instant::from_millis(3000));
        assert_eq!(w.capacity_bits, 40_000_000 + 20_000_000);
        assert_eq!((w.rate, w.span, w.id), (BitRate::from_mbps(10), Span::from_secs(3), 0));
        e.on_packet(1, meta(1250), Instant::from_millis(3000)).unwrap();
        e.on_packet(2, meta(1250), Instant::from_millis(3000)).unwrap();
        assert!(e.poll(Instant::from_millis(3000)).is_some());
        assert_eq!(e.poll_timeout(), Some(Instant::from_millis(3001)));
    }

    /// By hand: one packet waits, and p' after updates at 16, 32 and 48 ms is .16 x (.001 + .017 + .033) + 3.2 x .048. From
    /// 40 to 10 Mbit/s it becomes four times that, once; a faster link, and a plain DualPI2, leave it.
    #[test]
    fn p_follows_a_fall_of_the_rate_that_it_is_told_of_if_it_is_to() {
        let p_after = |rate_feed_forward, to| {
            let limit = Limit::for_rate(BitRate::from_mbps(40));
            let dual = DualQParams { rate_feed_forward, ..DualQParams::rfc9332(limit) };
            let c = EgressConfig { discipline: Discipline::DualQ(dual), ..config(40) };
            let mut e: Egress<u32> = Egress::new(&c, Instant::ZERO);
            e.on_packet(1, meta(1250), Instant::ZERO).unwrap();
            let now = Instant::from_millis(50);
            let before = e.take_window(now).egress.p.base;
            assert!((before - (0.16 * 0.051 + 3.2 * 0.048)).abs() < 1e-12, "{before}");
            e.set_rate(BitRate::from_mbps(to), now);
            e.take_window(now).egress.p.base / before
        };
        assert_eq!((p_after(true, 10), p_after(true, 80), p_after(false, 10)), (4.0, 1.0, 1.0));
    }

    /// A batch of arrivals, each with its number for a handle.
    struct Arriving<'a> {
        metas: &'a [PacketMeta],
        refused: &'a mut Vec<usize>,
    }

    impl Inlet<usize> for Arriving<'_> {
        fn feed(self, mut offer: impl FnMut(usize, PacketMeta) -> Result<(), usize>) {
            for (n, meta) in self.metas.iter().enumerate() {
                self.refused.extend(offer(n, *meta).err());
            }
        }
    }

    /// What came out, for a port with room for so many that are sent.
    struct Leaving(usize, Vec<Departure<usize>>);

    impl Verdicts<usize> for Leaving {
        fn pass(&mut self, packet: Packet<usize>, mark: bool) {
            self.0 -= 1;
            self.1.push(if mark { Departure::Mark(packet) } else { Departure::Forward(packet) });
        }

        fn drop(&mut self, packet: Packet<usize>, cause: DropCause) {
            self.1.push(Departure::Drop(packet, cause));
        }
    }

    impl Outlet<usize> for Leaving {
        fn has_room(&self) -> bool {
            self.0 > 0
        }
    }

    /// Batches and single packets are two ways to the same decisions and the same account, in every discipline, under an
    /// overload that marks, drops, and fills the buffer, with a port that is short of room at times.
    #[test]
    fn a_batch_is_its_packets_one_by_one() {
        use crate::aqm::params::PiParams;
        let limit = Limit { bytes: 120_000, packets: 24 };
        let single = |law| Discipline::Single(SingleParams { law, limit });
        let codel = Law::Codel { target: Span::from_millis(5), interval: Span::from_millis(100) };
        let dual = DualQParams { nqb: true, ..DualQParams::rfc9332(limit) };
        let disciplines = [Discipline::DualQ(dual), single(Law::Pi2(PiParams::default())), single(codel)];
        for discipline in disciplines.into_iter().chain([single(Law::TailDrop)]) {
            let signals = !matches!(&discipline, Discipline::Single(SingleParams { law: Law::TailDrop, .. }));
            let config = EgressConfig { discipline, limit: LimitRule::Bytes(120_000), ..config(12) };
            let mut one = Egress::new(&config, Instant::ZERO);
            let mut many = one.clone();
            let mut rng = fastrand::Rng::with_seed(9332);
            let mut now = Instant::ZERO;
            let mut kinds = [0u32; 4];
            for _ in 0..4_000 {
                now += Span::from_nanos(rng.u64(100_000..4_000_000));
                let metas: Vec<PacketMeta> = (0..rng.usize(0..6))
                    .map(|_| PacketMeta {
                        len: rng.u16(60..1515),
                        ecn: Ecn::from_bits(rng.u8(0..4)),
                        nqb: rng.bool(),
                        ip: rng.u8(0..8) > 0,
                        flow: rng.u32(1..9),
                    })
                    .collect();
                let (mut refused, mut expected) = (Vec::new(), Vec::new());
                many.take_in(Arriving { metas: &metas, refused: &mut refused }, now);
                for (n, meta) in metas.iter().enumerate() {
                    expected.extend(one.on_packet(n, *meta, now).err());
                }
                assert_eq!(refused, expected);
                kinds[3] += refused.len() as u32;
                let room = rng.usize(0..5);
                let Leaving(left, departed) = many.let_out(Leaving(room, Vec::new()), now);
                let mut sent = 0;
                let mut one_by_one = Vec::new();
                while sent < room
                    && let Some(departure) = one.poll(now)
                {
                    let kind = match &departure {
                        Departure::Forward(_) => 0,
                        Departure::Mark(_) => 1,
                        Departure::Drop(..) => 2,
                    };
                    kinds[kind] += 1;
                    sent += usize::from(kind < 2);
                    one_by_one.push(departure);
                }
                assert_eq!((departed, room - left), (one_by_one, sent));
                assert_eq!(
                    (many.poll_timeout(), many.take_window(now)),
                    (one.poll_timeout(), one.take_window(now))
                );
            }
            assert!(kinds[0] > 500 && kinds[3] > 50, "{config:?}: {kinds:?}");
            assert_eq!(kinds[1] > 50 && kinds[2] > 50, signals, "{config:?}: {kinds:?}");
        }
    }

    /// The old formula, whatever the frame: overhead, then mpu, then what 16 bits hold.
    #[test]
    fn link_bytes_are_within_one_and_two_to_the_sixteenth() {
        for overhead in [i32::MIN, -64, -1, 0, 24, 256, i32::MAX] {
            for mpu in [0, 1, 84, 65_535, 65_536, u32::MAX] {
                for len in [0, 1, 60, 63, 65, 1514, 65_535, 65_600, (1 << 31) + 5, (1 << 40) + 7, usize::MAX]
                {
                    let bytes = (len as i128 + i128::from(overhead)).max(i128::from(mpu)).clamp(1, 65_535);
                    assert_eq!(
                        i128::from(Framing { overhead, mpu }.link_bytes(len)),
                        bytes,
                        "{overhead} {mpu} {len}"
                    );
                }
            }
        }
    }
}
