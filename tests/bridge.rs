//! The whole forwarder, from a frame on one cable to a frame on the other, over memory and with a clock that the test
//! moves. Nothing here takes real time into account, so every figure is computed by hand and holds exactly.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as a test does")]

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use l4sd::aqm::Service;
use l4sd::aqm::params::Knobs;
use l4sd::aqm::stats::DropCause;
use l4sd::config::{Config, Settings};
use l4sd::control::Decision;
use l4sd::control::guard::{Guard, State};
use l4sd::control::link::{ControlLink, ThreadLink};
use l4sd::control::policy::replay::Replay;
use l4sd::control::policy::{Abstention, Policy};
use l4sd::egress::Egress;
use l4sd::port::mem::{MemConfig, MemPort, Outside};
use l4sd::port::{Census, PortCounters, PortError, PortPair, Side};
use l4sd::runtime::bridge::{self, FramePlan};
use l4sd::runtime::change::{self, Change};
use l4sd::runtime::clock::Clock;
use l4sd::runtime::forwarder::{FIFO_NAP, Forwarder, LoopOptions};
use l4sd::runtime::lane::{Lane, LaneReader, Report};
use l4sd::telemetry::{Direction, TelemetryWindow};
use l4sd::time::{Instant, Span};
use l4sd::wire::FrameKind;

const L: usize = Service::L4s as usize;
const C: usize = Service::Classic as usize;

const fn us(n: u64) -> Instant {
    Instant::from_nanos(n * 1_000)
}

const fn ms(n: u64) -> Instant {
    Instant::from_millis(n)
}

/// A clock that moves when told to, when slept on, and by `tick` whenever it is read.
#[derive(Clone, Debug, Default)]
struct Fake {
    ns: Arc<AtomicU64>,
    slept: Arc<AtomicU64>,
    tick: u64,
}

impl Fake {
    fn at(&self) -> Instant {
        Instant::from_nanos(self.ns.load(Ordering::Relaxed))
    }
}

impl Clock for Fake {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.ns.fetch_add(self.tick, Ordering::Relaxed))
    }

    fn sleep(&self, span: Span) {
        self.ns.fetch_add(span.as_nanos(), Ordering::Relaxed);
        self.slept.fetch_add(span.as_nanos(), Ordering::Relaxed);
    }
}

/// A frame that reaches a port at a time.
#[derive(Clone, Debug)]
struct Arrival {
    at: Instant,
    side: Side,
    frame: Vec<u8>,
}

/// Two `mem:` ports with a scripted world around them: frames arrive when they are due, and what is transmitted is
/// taken at once. To wait is to move the clock to the next thing that happens.
#[derive(Debug)]
struct World {
    port: MemPort,
    outside: Outside,
    clock: Fake,
    arrivals: VecDeque<Arrival>,
    sent: [Vec<(Instant, Vec<u8>)>; 2],
    fails_at: Option<Instant>,
    breaths: u64,
    /// Real time that a wait takes, so that a thread of the test's own may keep up.
    pause: Duration,
    /// What the managing thread sends, when, and by what.
    change: Option<(Instant, Change)>,
    changes: rtrb::Producer<Change>,
}

impl PortPair for World {
    type Frame = <MemPort as PortPair>::Frame;

    fn recv(&mut self, from: Side, budget: usize, batch: &mut Vec<Self::Frame>) -> Result<(), PortError> {
        while self.arrivals.front().is_some_and(|a| a.at <= self.clock.at()) {
            let arrival = self.arrivals.pop_front().unwrap();
            assert!(self.outside.inject(arrival.side, &arrival.frame), "the cable is long enough");
        }
        self.port.recv(from, budget, batch)
    }

    fn bytes<'a>(&'a self, frame: &'a Self::Frame) -> &'a [u8] {
        self.port.bytes(frame)
    }

    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Self::Frame) -> &'a mut [u8] {
        self.port.bytes_mut(frame)
    }

    fn tx_room(&self, to: Side) -> usize {
        self.port.tx_room(to)
    }

    fn tx_pending_bytes(&self, to: Side) -> u64 {
        self.port.tx_pending_bytes(to)
    }

    fn send(&mut self, to: Side, frame: Self::Frame, now: Instant) -> Result<(), Self::Frame> {
        self.port.send(to, frame, now)
    }

    fn recycle(&mut self, frame: Self::Frame) {
        self.port.recycle(frame);
    }

    fn flush(&mut self, now: Instant) -> Result<(), PortError> {
        self.breaths += 1;
        if let Some((_, change)) = self.change.take_if(|c| c.0 <= now) {
            self.changes.push(change).unwrap();
        }
        self.port.flush(now)?;
        for side in Side::BOTH {
            self.sent[side.index()].extend(self.outside.collect(side).into_iter().map(|f| (now, f)));
        }
        match self.fails_at {
            Some(at) if now >= at => {
                Err(PortError::Interface { port: "mem:".to_owned(), reason: "it is gone".to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn wait(&mut self, timeout: Span) -> Result<(), PortError> {
        std::thread::sleep(self.pause);
        let woken = self.arrivals.front().map_or(Instant::FAR_FUTURE, |a| a.at);
        let until = woken.min(self.clock.at() + timeout);
        self.clock.ns.fetch_max(until.as_nanos(), Ordering::Relaxed);
        Ok(())
    }

    fn counters(&self, side: Side) -> PortCounters {
        self.port.counters(side)
    }

    fn census(&self) -> Census {
        self.port.census()
    }
}

fn config(keys: &str) -> Config {
    let text = format!("version = 1\n[left]\nport = \"mem:\"\n[right]\nport = \"mem:\"\n{keys}");
    Settings::from_toml(&text, "test").unwrap().validate().unwrap()
}

/// A run to be.
struct Setup {
    config: Config,
    clock: Fake,
    arrivals: Vec<Arrival>,
    warmup: Span,
    duration: Span,
    fails_at: Option<Instant>,
    link: Option<Box<dyn ControlLink>>,
    pause: Duration,
    /// Keys that are in force from a time on.
    change: Option<(Instant, String)>,
}

/// What a run left behind.
struct Outcome {
    result: Result<(), PortError>,
    /// Sent by the port of each side, with when.
    sent: [Vec<(Instant, Vec<u8>)>; 2],
    reports: [Vec<Report>; 2],
    /// Delays in measured and unmeasured histograms, left to right, by queue.
    delays: [[u64; 2]; 2],
    census: Census,
    breaths: u64,
}

impl Setup {
    fn new(keys: &str) -> Self {
        Self {
            config: config(keys),
            clock: Fake::default(),
            arrivals: Vec::new(),
            warmup: Span::ZERO,
            duration: Span::from_secs(1),
            fails_at: None,
            link: None,
            pause: Duration::ZERO,
            change: None,
        }
    }

    /// `keys` in place of the first ones from `at` on.
    fn changing(mut self, at: Instant, keys: &str) -> Self {
        self.change = Some((at, keys.to_owned()));
        self
    }

    fn lasting(mut self, duration_ms: u64) -> Self {
        self.duration = Span::from_millis(duration_ms);
        self
    }

    fn warming(mut self, warmup_ms: u64) -> Self {
        self.warmup = Span::from_millis(warmup_ms);
        self
    }

    fn arriving(mut self, arrivals: impl IntoIterator<Item = Arrival>) -> Self {
        self.arrivals.extend(arrivals);
        self
    }

    /// A controller of left to right.
    fn controlled(mut self, link: impl ControlLink + 'static) -> Self {
        self.link = Some(Box::new(link));
        self
    }

    fn run(mut self) -> Outcome {
        let clock = self.clock;
        let plan = FramePlan::new(&self.config);
        let (changes, taken) = change::ring();
        let (port, outside) = MemPort::new(MemConfig { buffers: plan.total() + 2048, ring: 8192 });
        self.arrivals.sort_by_key(|a| a.at);
        let world = World {
            port,
            outside,
            clock: clock.clone(),
            arrivals: self.arrivals.into(),
            sent: [Vec::new(), Vec::new()],
            fails_at: self.fails_at,
            breaths: 0,
            pause: self.pause,
            change: self.change.map(|(at, keys)| (at, bridge::change(&config(&keys), plan, 1, 1))),
            changes,
        };
        let mut link = self.link.take();
        let [left, right] = Direction::BOTH.map(|d| {
            let egress = Egress::new(&bridge::egress(&self.config, d, plan, 1), clock.at());
            let (lane, reader) = Lane::new(d, egress, self.warmup == Span::ZERO);
            let guard = Guard::new(bridge::guard(&self.config), Knobs::default(), clock.at());
            match link.take() {
                Some(link) => (lane.with_control(link, guard), reader),
                None => (lane, reader),
            }
        });
        let options = bridge::loop_options(&self.config, self.warmup, Some(self.duration), false);
        let options = LoopOptions { spin: Span::ZERO, ..options };
        let mut readers = [left.1, right.1];
        let mut forwarder =
            Forwarder::new(world, clock, [left.0, right.0], options, Instant::ZERO).with_changes(taken);
        let result = forwarder.run(&AtomicBool::new(false));
        let mut delays = [[0; 2]; 2];
        readers[0].drain_delays(|d| {
            for (sum, queue) in delays[usize::from(!d.measured)].iter_mut().zip(&d.queues) {
                *sum += queue.len();
            }
        });
        let all =
            |reader: &mut LaneReader| std::iter::from_fn(|| reader.reports.pop().ok()).collect::<Vec<_>>();
        let reports = readers.each_mut().map(all);
        let world = forwarder.port_mut();
        Outcome {
            result,
            sent: std::mem::take(&mut world.sent),
            reports,
            delays,
            census: world.census(),
            breaths: world.breaths,
        }
    }
}

impl Outcome {
    /// The whole account of a direction.
    fn last(&self, direction: Direction) -> &Report {
        let last = self.reports[direction.index()].last().expect("a run reports");
        assert!(last.last);
        last
    }

    /// Frames that left on the right.
    fn right(&self) -> impl Iterator<Item = &[u8]> {
        self.sent[Side::Right.index()].iter().map(|(_, f)| f.as_slice())
    }

    /// Every frame and every buffer is somewhere: what arrived was forwarded, dropped, or waited at the end; what
    /// waited left during the drain or was recycled; and no buffer is missing.
    fn check_account(&self, injected: [u64; 2]) {
        for direction in Direction::BOTH {
            let report = self.last(direction);
            let counts = &report.window.egress;
            let (mut arrived, mut forwarded, mut waiting) = (0, 0, 0);
            for queue in [L, C] {
                let q = &counts.queues[queue];
                let dropped: u64 = q.dropped.iter().flatten().map(|t| t.packets).sum();
                let queued = u64::from(counts.backlog[queue].packets);
                assert_eq!(
                    q.arrived.packets,
                    q.forwarded.packets + dropped + queued,
                    "{direction}, queue {queue}"
                );
                let bytes: u64 = q.dropped.iter().flatten().map(|t| t.bytes).sum();
                assert_eq!(q.arrived.bytes, q.forwarded.bytes + bytes + counts.backlog[queue].bytes);
                arrived += q.arrived.packets;
                forwarded += q.forwarded.packets;
                waiting += queued;
            }
            let pauses = report.frames.kinds[FrameKind::Pause.index()];
            assert_eq!(arrived + pauses, injected[direction.index()], "{direction}");
            assert_eq!(report.frames.kinds.iter().sum::<u64>(), injected[direction.index()]);
            assert_eq!(report.rx_port.rx_frames, injected[direction.index()]);
            let to = Side::BOTH[1 - direction.index()];
            let sent = self.sent[to.index()].len() as u64;
            assert!(
                sent >= forwarded && sent <= forwarded + waiting,
                "{direction}: {sent}, {forwarded} + {waiting}"
            );
        }
        assert_eq!(self.census.spare, self.census.total, "{:?}", self.census);
    }

    /// p' and the head delay in C in seconds, at each window of left to right.
    fn trajectory(&self) -> Vec<(f64, f64)> {
        let reports = &self.reports[0];
        reports
            .iter()
            .filter(|r| !r.last)
            .map(|r| (r.window.egress.p.base, r.window.egress.head_delay[C].as_secs_f64()))
            .collect()
    }

    /// The target that each update of p' used, worked out backwards from RFC 9332 Appendix A figure 8:
    /// p' moved by alpha (d - target) + beta (d - d_previous).
    fn targets_ms(&self) -> Vec<f64> {
        let steps = self.trajectory();
        steps
            .windows(2)
            .map(|w| {
                let [(p0, d0), (p1, d1)] = [w[0], w[1]];
                (d1 - (p1 - p0 - 3.2 * (d1 - d0)) / 0.16) * 1e3
            })
            .collect()
    }
}

fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

const NOT_ECT: u8 = 0;
const ECT1: u8 = 1;
const ECT0: u8 = 2;
const CE: u8 = 3;

/// An IPv4 packet of `len` bytes on Ethernet; the last four bytes are `seq`.
fn ipv4(len: usize, tos: u8, seq: u32) -> Vec<u8> {
    let mut f = vec![0x5a; len];
    f[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    let total = ((len - 14) as u16).to_be_bytes();
    let id = (seq as u16).to_be_bytes();
    f[14..34].copy_from_slice(&[
        0x45, tos, total[0], total[1], id[0], id[1], 0x40, 0, 64, 17, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2,
    ]);
    let sum = checksum(&f[14..34]);
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    f[len - 4..].copy_from_slice(&seq.to_be_bytes());
    f
}

fn ipv6(len: usize, tos: u8, seq: u32) -> Vec<u8> {
    let mut f = vec![0xa5; len];
    f[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd]);
    f[14] = 0x60 | tos >> 4;
    f[15] = tos << 4 | 7;
    f[18..20].copy_from_slice(&((len - 54) as u16).to_be_bytes());
    f[20..22].copy_from_slice(&[17, 64]);
    f[len - 4..].copy_from_slice(&seq.to_be_bytes());
    f
}

fn tagged(mut frame: Vec<u8>) -> Vec<u8> {
    frame.splice(12..12, [0x81, 0, 0x60, 42]);
    frame
}

fn of_type(ethertype: u16, body: &[u8]) -> Vec<u8> {
    let mut f = vec![0; 60];
    f[..12].copy_from_slice(&[1, 0x80, 0xc2, 0, 0, 1, 2, 0, 0, 0, 0, 1]);
    f[12..14].copy_from_slice(&ethertype.to_be_bytes());
    f[14..14 + body.len()].copy_from_slice(body);
    f
}

fn pause() -> Vec<u8> {
    of_type(0x8808, &[0, 1, 0xff, 0xff])
}

/// ARP, spanning tree, LACP, LLDP.
fn control_frames() -> [(FrameKind, Vec<u8>); 4] {
    [
        (FrameKind::Arp, of_type(0x0806, &[0, 1, 8, 0, 6, 4, 0, 1])),
        (FrameKind::Stp, of_type(38, &[0x42, 0x42, 3, 0, 0])),
        (FrameKind::Lacp, of_type(0x8809, &[1, 1])),
        (FrameKind::Lldp, of_type(0x88cc, &[2, 7, 4])),
    ]
}

fn seq(frame: &[u8]) -> usize {
    u32::from_be_bytes(*frame.last_chunk().unwrap()) as usize
}

/// `n` frames on one side, the first at `from`, one every `every`.
fn stream(
    side: Side,
    from: Instant,
    every: Span,
    n: u64,
    frame: impl Fn(u64) -> Vec<u8>,
) -> impl Iterator<Item = Arrival> {
    (0..n).map(move |i| Arrival { at: from + Span::from_nanos(i * every.as_nanos()), side, frame: frame(i) })
}

/// Where the ECN field of the test's frames is, and of IPv4 the checksum too.
fn masked(frame: &[u8]) -> (Vec<u8>, u8) {
    let at = if frame[12..14] == [0x81, 0] { 18 } else { 14 };
    let mut f = frame.to_vec();
    let ecn = if frame[at] >> 4 == 4 {
        f[at + 1] &= !3;
        f[at + 10..at + 12].fill(0);
        frame[at + 1] & 3
    } else {
        f[at + 1] &= !0x30;
        frame[at + 1] >> 4 & 3
    };
    (f, ecn)
}

/// Both directions at twice what they can carry, all codepoints, IPv4, IPv6 and tags: what comes out is what went in
/// but for CE, the checksum is right, each queue keeps its order, and every frame is accounted for.
#[test]
fn frames_pass_unchanged_but_for_ce() {
    let make = |i: u64| {
        let tos = (45 << 2) | [ECT1, NOT_ECT, ECT0, CE, ECT1][i as usize % 5];
        match i % 3 {
            0 => ipv4(1000, tos, i as u32),
            1 => ipv6(1000, tos, i as u32),
            _ => tagged(ipv4(996, tos, i as u32)),
        }
    };
    // 1000 bytes every 400 us are 20 Mbit/s.
    let (n, every) = (5_000, Span::from_micros(400));
    let run = Setup::new("[link]\nrate = \"10Mbit\"\nrate_right_to_left = \"7Mbit\"\n")
        .arriving(stream(Side::Left, us(500), every, n, make))
        .arriving(stream(Side::Right, us(501), every, n, make))
        .lasting(2_000)
        .run();
    run.result.as_ref().unwrap();
    // The last of the 5,000 arrive at 2.0001 s, after the end.
    run.check_account([4_999, 4_999]);
    for (direction, to) in [(Direction::LeftToRight, Side::Right), (Direction::RightToLeft, Side::Left)] {
        let mut newly_ce = 0;
        let mut last_of = [None; 2];
        let forwarded =
            run.last(direction).window.egress.queues.iter().map(|q| q.forwarded.packets).sum::<u64>();
        for (i, (_, frame)) in run.sent[to.index()].iter().enumerate() {
            let original = make(seq(frame) as u64);
            let ((out, ecn_out), (was, ecn_was)) = (masked(frame), masked(&original));
            assert_eq!(out, was);
            if ecn_out == ecn_was {
                assert_eq!(*frame, original);
            } else {
                assert!(ecn_out == CE && (ecn_was == ECT0 || ecn_was == ECT1), "{ecn_was} became {ecn_out}");
                newly_ce += u64::from((i as u64) < forwarded);
            }
            let l3 = if frame[12..14] == [0x81, 0] { 18 } else { 14 };
            if frame[l3] >> 4 == 4 {
                assert_eq!(checksum(&frame[l3..l3 + 20]), 0, "the header sums to all ones");
            }
            let queue = if ecn_was & 1 == 1 { L } else { C };
            let before = last_of[queue].replace(seq(frame));
            assert!(before < Some(seq(frame)), "{direction}: {before:?} then {} in {queue}", seq(frame));
        }
        let marked: u64 = run.last(direction).window.egress.queues.iter().flat_map(|q| q.marked).sum();
        assert_eq!(newly_ce, marked, "{direction}");
        assert!(marked > 100, "{direction}: {marked}: the link was overloaded");
        let ecn = run.last(direction).frames.ecn;
        assert_eq!(ecn.iter().sum::<u64>(), 4_999);
        assert_eq!(ecn[usize::from(ECT1)], 1_999, "the one that is missing had ECT(1)");
    }
}

/// A packet time that is no whole number of nanoseconds: what is left over must not be lost. 60 bytes at 700 Mbit/s take
/// 685.714 ns; without the fraction 76 packets too many would start in 50 ms. A packet starts whenever the one before it
/// ends, so as many start as whole and begun packet times fit.
#[test]
fn the_rate_is_exact_to_a_packet() {
    for (rate, len, every_ns, lasting_ms) in [(37_000_000, 1001, 200_000, 5_000), (700_000_000, 60, 600, 50)]
    {
        let n = lasting_ms * 1_000_000 / every_ns;
        let run = Setup::new(&format!("[link]\nrate = \"{rate}bit\"\n[aqm]\npolicy = \"taildrop\"\n"))
            .arriving(stream(Side::Left, Instant::ZERO, Span::from_nanos(every_ns), n, |i| {
                ipv4(len, NOT_ECT, i as u32)
            }))
            .lasting(lasting_ms)
            .run();
        let window = run.last(Direction::LeftToRight).window;
        assert_eq!(window.capacity_bits, rate * lasting_ms / 1_000);
        let packets = window.egress.queues[C].forwarded.packets;
        assert_eq!(packets, window.capacity_bits / (8 * len as u64) + 1, "{rate} bit/s");
        run.check_account([n, 0]);
    }
}

/// Rates fall to a quarter and to a half at 1 s, under a load above either: what is sent is the integral of the rate,
/// nothing is lost, and what is charged and how much may wait follow. 1000 bytes at 40 and 10 Mbit/s are 5000 and 1250
/// packets a second, at 8 and 4 Mbit/s 1000 and 500; 250 bytes of overhead make that 1000 and 400.
#[test]
fn a_change_is_taken_over_in_one_breath_and_loses_nothing() {
    let keys = |left: u64, right: u64, more: &str| {
        format!(
            "[link]\nrate = \"{left}Mbit\"\nrate_right_to_left = \"{right}Mbit\"\n{more}[aqm]\npolicy = \"taildrop\"\n"
        )
    };
    let every = Span::from_micros(160);
    let run = Setup::new(&keys(40, 8, "limit = \"100ms\"\n"))
        .arriving(stream(Side::Left, Instant::ZERO, every, 12_500, |i| ipv4(1000, NOT_ECT, i as u32)))
        .arriving(stream(Side::Right, Instant::ZERO, every, 12_500, |i| ipv4(1000, NOT_ECT, i as u32)))
        .changing(ms(1_000), &keys(10, 4, "overhead = 250\nlimit = \"100ms\"\n"))
        .lasting(2_000)
        .run();
    run.check_account([12_500, 12_500]);
    let [right, left] = [Side::Right, Side::Left].map(|side| {
        let sent = run.sent[side.index()].iter().map(|s| s.0);
        let within = |from, to| sent.clone().filter(|at| (from..to).contains(at)).count();
        // What waited at the change is charged 1000 bytes: 400 and 200 ms of it.
        [within(ms(0), ms(1_000)), within(ms(1_000), ms(1_100)), within(ms(1_900), ms(2_000))]
    });
    for (sent, want) in [(right, [5_000, 125, 100]), (left, [1_000, 50, 40])] {
        assert!(sent.iter().zip(want).all(|(n, w)| n.abs_diff(w) <= 2), "{sent:?} instead of {want:?}");
    }
    for (d, bits, limit) in
        [(Direction::LeftToRight, 50_000_000, 125_000), (Direction::RightToLeft, 12_000_000, 50_000)]
    {
        let reports = &run.reports[d.index()];
        let last = run.last(d);
        // The change comes in a breath after 1 s, of which there is one at least every 160 us.
        let capacity = last.window.capacity_bits;
        assert!((bits..bits + 16_000).contains(&capacity), "{d}: {capacity}");
        assert_eq!(last.window.egress.limit_bytes, limit);
        let taken: Vec<_> = reports.iter().map(|r| (r.window.end > ms(1_001), r.change)).collect();
        assert!(taken.iter().all(|&(after, change)| change == u64::from(after)), "{d}: {taken:?}");
    }
}

/// IEEE 802.3 §31: PAUSE is for the next station, and here that is us.
#[test]
fn pause_ends_here_and_is_counted() {
    let run = Setup::new("[link]\nrate = \"10Mbit\"\n")
        .arriving(stream(Side::Left, us(500), Span::from_millis(1), 3, |_| pause()))
        .arriving(stream(Side::Right, us(500), Span::from_millis(1), 2, |i| {
            if i == 0 { pause() } else { ipv4(60, NOT_ECT, 1) }
        }))
        .lasting(100)
        .run();
    assert_eq!((run.sent[0].len(), run.sent[1].len()), (1, 0));
    let pauses = Direction::BOTH.map(|d| run.last(d).frames.kinds[FrameKind::Pause.index()]);
    assert_eq!(pauses, [3, 1]);
    assert_eq!(run.last(Direction::LeftToRight).window.egress.queues[C].arrived.packets, 0);
    run.check_account([3, 2]);
}

/// While everything else is being dropped for overload, what keeps the network up passes, in C.
#[test]
fn control_frames_survive_overload() {
    let flood = stream(Side::Left, us(500), Span::from_micros(240), 8_000, |i| {
        ipv4(1500, [ECT1, ECT0, NOT_ECT][i as usize % 3], i as u32)
    });
    let every = Span::from_millis(10);
    let control = stream(Side::Left, us(700), every, 200, |i| control_frames()[i as usize % 4].1.clone());
    let run = Setup::new("[link]\nrate = \"10Mbit\"\nlimit = \"7MB\"\n")
        .arriving(flood.chain(control))
        .lasting(7_000)
        .run();
    let report = run.last(Direction::LeftToRight);
    for (kind, frame) in control_frames() {
        assert_eq!(report.frames.kinds[kind.index()], 50, "{kind:?}");
        assert_eq!(run.right().filter(|f| *f == frame).count(), 50, "{kind:?}");
    }
    let dropped = |queue: usize, cause: DropCause| {
        report.window.egress.queues[queue].dropped[cause as usize].iter().map(|t| t.packets).sum::<u64>()
    };
    assert!(dropped(L, DropCause::Overload) > 100, "the overload was one");
    assert!(dropped(C, DropCause::Overload) > 100, "in both queues");
    assert_eq!(
        dropped(C, DropCause::Tail) + dropped(L, DropCause::Tail),
        0,
        "only a full buffer may drop them"
    );
    assert!(report.window.egress.overload.episodes >= 1);
    run.check_account([8_200, 0]);
    // Classified as C: with nothing else there, all four kinds are counted there.
    let quiet = Setup::new("[link]\nrate = \"10Mbit\"\n")
        .arriving(control_frames().into_iter().map(|(_, frame)| Arrival {
            at: us(500),
            side: Side::Left,
            frame,
        }))
        .lasting(100)
        .run();
    let queues = quiet.last(Direction::LeftToRight).window.egress.queues;
    assert_eq!((queues[L].arrived.packets, queues[C].forwarded.packets), (0, 4));
}

/// What makes no sense is somebody else's business: it passes as it is, and is counted for what it is.
#[test]
fn malformed_frames_pass_and_are_counted() {
    let mut wrong_version = ipv4(60, ECT1, 1);
    wrong_version[14] = 0x65;
    let mut short_header = ipv4(60, ECT1, 2);
    short_header[14] = 0x44;
    let malformed = [vec![7; 13], wrong_version, short_header, ipv4(60, ECT1, 3)[..33].to_vec(), vec![]];
    let other = of_type(0x88e5, &[1, 2, 3]);
    let frames = malformed.iter().cloned().chain([other.clone()]);
    let run = Setup::new("[link]\nrate = \"10Mbit\"\n")
        .arriving(frames.map(|frame| Arrival { at: us(500), side: Side::Left, frame }))
        .lasting(100)
        .run();
    let kinds = run.last(Direction::LeftToRight).frames.kinds;
    assert_eq!((kinds[FrameKind::Malformed.index()], kinds[FrameKind::OtherNonIp.index()]), (5, 1));
    let sent: Vec<_> = run.right().map(<[u8]>::to_vec).collect();
    assert_eq!(sent, [malformed.as_slice(), &[other]].concat());
    run.check_account([6, 0]);
}

/// A packet every millisecond, each of which takes 0.8 ms on the link.
fn steady(n: u64) -> impl Iterator<Item = Arrival> {
    stream(Side::Left, us(500), Span::from_millis(1), n, |i| ipv4(1000, NOT_ECT, i as u32))
}

/// Windows close on the 16 ms grid, once more where the warm-up ends, and once more at the end; the delays of the warm-up
/// are not among the measured ones.
#[test]
fn windows_keep_to_the_grid_and_the_warm_up_is_left_out() {
    let run = Setup::new("[link]\nrate = \"10Mbit\"\n").arriving(steady(200)).warming(100).lasting(200).run();
    for reports in &run.reports {
        let ends: Vec<_> = reports.iter().map(|r| r.window.end.as_nanos() as f64 / 1e6).collect();
        let grid = [16., 32., 48., 64., 80., 96., 100., 112., 128., 144., 160., 176., 192., 200.];
        assert_eq!(ends, grid);
        let spans: Vec<_> = reports.iter().map(|r| r.window.span.as_millis_f64()).collect();
        assert_eq!(spans, [16., 16., 16., 16., 16., 16., 4., 12., 16., 16., 16., 16., 16., 8.]);
        assert!(reports.iter().enumerate().all(|(i, r)| r.window.id == i as u64));
        assert!(reports.iter().rev().skip(1).all(|r| !r.last) && reports.last().unwrap().last);
    }
    let at_warm = &run.reports[0][6];
    assert_eq!(at_warm.window.egress.queues[C].forwarded.packets, 100);
    assert_eq!(run.delays, [[0, 100], [0, 100]], "measured, then unmeasured");
    let all = Setup::new("[link]\nrate = \"10Mbit\"\n").arriving(steady(200)).lasting(200).run();
    assert_eq!(all.delays, [[0, 200], [0, 0]]);
    let longer =
        Setup::new("[link]\nrate = \"10Mbit\"\n").arriving(steady(2000)).warming(100).lasting(3_000).run();
    assert_eq!(longer.delays, [[0, 1_900], [0, 100]], "three hand-overs lose nothing");
}

/// 2,000 packets of 1 ms wait at once. 100 leave in the 100 ms of the run, and those of the next second, its last moment
/// included, in the drain. The rest is recycled.
#[test]
fn a_stop_sends_what_waits_for_a_second() {
    let run = Setup::new("[link]\nrate = \"10Mbit\"\nlimit = \"5MB\"\n[aqm]\npolicy = \"taildrop\"\n")
        .arriving(stream(Side::Left, Instant::ZERO, Span::ZERO, 2_000, |i| ipv4(1250, NOT_ECT, i as u32)))
        .lasting(100)
        .run();
    let counts = run.last(Direction::LeftToRight).window.egress;
    assert_eq!(counts.queues[C].forwarded.packets, 100);
    assert_eq!(counts.backlog[C].packets, 1_900);
    assert_eq!(run.sent[1].len(), 100 + 1_001);
    assert_eq!(run.sent[1].last().unwrap().0, ms(1_100));
    run.check_account([2_000, 0]);
    let little = Setup::new("[link]\nrate = \"10Mbit\"\n").arriving(steady(150)).lasting(100).run();
    assert_eq!(little.sent[1].len(), 100, "nothing waited, so nothing is waited for");
}

/// A port that fails ends the run with its error; the account is closed all the same.
#[test]
fn a_failing_port_ends_the_run_with_the_account_closed() {
    let mut setup = Setup::new("[link]\nrate = \"10Mbit\"\n").arriving(steady(1000));
    setup.fails_at = Some(ms(300));
    let run = setup.run();
    let error = run.result.as_ref().unwrap_err().to_string();
    assert_eq!(error, "mem:: it is gone");
    let report = run.last(Direction::LeftToRight);
    assert_eq!(report.window.end, us(300_500), "the first breath at or after 300 ms");
    assert_eq!(report.window.egress.queues[C].forwarded.packets, 301);
    assert_eq!(run.delays[0], [0, 301]);
    assert!(run.last(Direction::RightToLeft).last);
}

/// A real-time thread that never rests is stopped by the kernel; with the nap it rests by itself, 6 % at least, loaded
/// or idle, and without it never.
#[test]
fn the_nap_rests_six_percent() {
    let rested = |nap, offering: &[Side]| {
        let clock = Fake { tick: 2_000, ..Fake::default() };
        let port = MemPort::generator(MemConfig::default(), &[ipv4(60, ECT1, 0)], offering).unwrap();
        let config = config("[link]\nrate = \"100Gbit\"\n[runtime]\nbusy_poll = true\nsched = \"fifo:40\"\n");
        let plan = FramePlan::new(&config);
        let lanes = Direction::BOTH
            .map(|d| Lane::new(d, Egress::new(&bridge::egress(&config, d, plan, 1), Instant::ZERO), true).0);
        let duration = Span::from_millis(200);
        let options = bridge::loop_options(&config, Span::ZERO, Some(duration), nap);
        assert_eq!(options.nap, nap.then_some(FIFO_NAP));
        let mut forwarder = Forwarder::new(port, clock.clone(), lanes, options, Instant::ZERO);
        forwarder.run(&AtomicBool::new(false)).unwrap();
        let sent = forwarder.port().counters(Side::Right).tx_frames;
        assert_eq!(sent > 0, !offering.is_empty());
        clock.slept.load(Ordering::Relaxed) as f64 / clock.at().as_nanos() as f64
    };
    for offering in [&[][..], &[Side::Left]] {
        let share = rested(true, offering);
        assert!((0.06..0.07).contains(&share), "{share}");
        // The drain alone sleeps, 50 us at a time, while there is something to send.
        assert!(rested(false, offering) < 1e-3);
    }
}

/// A standing queue of 30 ms that neither grows nor shrinks: 30 packets of 1 ms, then one every millisecond, all
/// ECT(0), so that they are marked and never dropped.
fn standing_queue(n: u64) -> impl Iterator<Item = Arrival> {
    let packet = |i: u64| ipv4(1250, ECT0, i as u32);
    let burst = stream(Side::Left, us(500), Span::ZERO, 30, packet);
    burst.chain(stream(Side::Left, us(1_500), Span::from_millis(1), n, packet))
}

const TEN: &str = "[link]\nrate = \"10Mbit\"\n";

/// What a test says in place of a policy.
struct Says<F: FnMut(&TelemetryWindow) -> Option<Knobs> + Send> {
    policy: F,
    next: Option<Decision>,
}

impl<F: FnMut(&TelemetryWindow) -> Option<Knobs> + Send> Says<F> {
    fn new(policy: F) -> Self {
        Self { policy, next: None }
    }
}

impl<F: FnMut(&TelemetryWindow) -> Option<Knobs> + Send> ControlLink for Says<F> {
    fn offer(&mut self, window: &TelemetryWindow, _in_force: &Knobs) {
        self.next = (self.policy)(window).map(|knobs| Decision {
            based_on: window.id,
            window_end: window.end,
            knobs,
        });
    }

    fn newest(&mut self) -> Option<Decision> {
        self.next.take()
    }
}

fn target(ms: u64) -> Knobs {
    Knobs { target: Span::from_millis(ms), ..Knobs::default() }
}

fn assert_targets(found: &[f64], want: impl IntoIterator<Item = (usize, f64)>) {
    let mut all = Vec::new();
    for (times, target) in want {
        all.extend(std::iter::repeat_n(target, times));
    }
    assert_eq!(found.len(), all.len(), "{found:?}");
    for (i, (found, want)) in found.iter().zip(&all).enumerate() {
        assert!((found - want).abs() < 1e-3, "update {i}: {found} ms, not {want} ms");
    }
}

/// Without a controller each update is RFC 9332's, with the target of 15 ms.
#[test]
fn the_defaults_are_in_force_without_a_controller() {
    let run = Setup::new(TEN).arriving(standing_queue(1000)).lasting(500).run();
    assert_targets(&run.targets_ms(), [(30, 15.0)]);
    let (p, d) = run.trajectory()[0];
    assert!((p - (0.16 * (d - 0.015) + 3.2 * d)).abs() < 1e-12, "{p} from rest with {d} s");
    assert!(run.reports[0].iter().all(|r| r.control.is_none()));
}

/// Decisions for 5 ms reach the controller one bin (a factor of 25^(1/11)) every 64 ms: what is put in force at 64 ms is
/// used from the update at 80 ms on.
#[test]
fn decisions_reach_the_egress() {
    let run = Setup::new(TEN)
        .arriving(standing_queue(1000))
        .controlled(Says::new(|_| Some(target(5))))
        .lasting(500)
        .run();
    let bin = 25f64.powf(1.0 / 11.0);
    let steps = [(3, 15.0), (4, 15.0 / bin), (4, 15.0 / bin.powi(2)), (4, 15.0 / bin.powi(3)), (15, 5.0)];
    assert_targets(&run.targets_ms(), steps);
    let (state, counters) = run.last(Direction::LeftToRight).control.unwrap();
    assert_eq!((state, counters.admitted, counters.fallbacks), (State::Model, 31, 0));
    assert!(run.last(Direction::RightToLeft).control.is_none());
}

/// A policy that dies at 300 ms: its last decision expires 32 ms later, the target goes home bin by bin, and every p' is
/// one PI2 step from the one before it: nothing jumps.
#[test]
fn a_dead_policy_is_followed_bumplessly_by_the_defaults() {
    let run = Setup::new(TEN)
        .arriving(standing_queue(1000))
        .controlled(Says::new(|w| (w.end < ms(300)).then(|| target(5))))
        .lasting(800)
        .run();
    let bin = 25f64.powf(1.0 / 11.0);
    let down = [(3, 15.0), (4, 15.0 / bin), (4, 15.0 / bin.powi(2)), (4, 15.0 / bin.powi(3))];
    // 5 ms from the update at 272 ms on. Fallback at 336 ms, which is the window's edge where the last decision (288 ms)
    // is older than 32 ms; the bins move at multiples of 64 ms: 384, 448, 512, 576.
    let home = [(8, 5.0), (4, 5.0 * bin), (4, 5.0 * bin.powi(2)), (4, 5.0 * bin.powi(3)), (13, 15.0)];
    assert_targets(&run.targets_ms(), down.into_iter().chain(home));
    for (i, w) in run.trajectory().windows(2).enumerate() {
        let [(p0, d0), (p1, d1)] = [w[0], w[1]];
        // No target is under 5 ms or over 15 ms.
        let step = |target: f64| 0.16 * (d1 - target) + 3.2 * (d1 - d0);
        assert!(p1 - p0 <= step(0.005) + 1e-12 && p1 - p0 >= step(0.015) - 1e-12, "update {i}: {p0} to {p1}");
    }
    let states: Vec<_> = run.reports[0].iter().map(|r| (r.window.end, r.control.unwrap().0)).collect();
    let fell = states.iter().rev().take_while(|(_, s)| *s == State::Fallback).last().unwrap().0;
    assert_eq!(fell, ms(336));
    assert_eq!(run.last(Direction::LeftToRight).control.unwrap().1.fallbacks, 1);
}

/// A target that changes at 248 ms is that of the update at 256 ms; p' goes on from where it is.
#[test]
fn a_new_target_is_used_from_the_next_update_on() {
    let run = Setup::new(TEN)
        .arriving(standing_queue(1000))
        .changing(ms(248), &format!("{TEN}[aqm]\ntarget = \"5ms\"\n"))
        .lasting(500)
        .run();
    assert_targets(&run.targets_ms(), [(14, 15.0), (16, 5.0)]);
}

/// With a controller the configured target is where its silence leads to, and nothing before that: the policy that dies at
/// 300 ms, with a default that becomes 10 ms at 150 ms.
#[test]
fn a_new_target_is_what_a_fallback_goes_to() {
    let run = Setup::new(TEN)
        .arriving(standing_queue(1000))
        .controlled(Says::new(|w| (w.end < ms(300)).then(|| target(5))))
        .changing(ms(150), &format!("{TEN}[aqm]\ntarget = \"10ms\"\n"))
        .lasting(800)
        .run();
    let bin = 25f64.powf(1.0 / 11.0);
    let down = [(3, 15.0), (4, 15.0 / bin), (4, 15.0 / bin.powi(2)), (4, 15.0 / bin.powi(3))];
    let home = [(8, 5.0), (4, 5.0 * bin), (4, 5.0 * bin.powi(2)), (17, 10.0)];
    assert_targets(&run.targets_ms(), down.into_iter().chain(home));
}

/// A policy that talks nonsense is as good as dead.
#[test]
fn a_mad_policy_changes_nothing() {
    let nonsense = Knobs { gain: f64::NAN, feed_forward: 1e9, ..target(1) };
    let mad = Setup::new(TEN).arriving(standing_queue(1000)).controlled(Says::new(move |_| Some(nonsense)));
    let mad = mad.lasting(500).run();
    let none = Setup::new(TEN).arriving(standing_queue(1000)).lasting(500).run();
    assert_eq!(mad.sent, none.sent);
    assert_eq!(mad.trajectory(), none.trajectory());
    assert_eq!(mad.last(Direction::LeftToRight).control.unwrap().1.rejected, 31);
}

/// `--shadow`: decisions are admitted and counted, and not one bit on the wire differs.
#[test]
fn a_shadow_policy_changes_nothing() {
    let policy = || Says::new(|_| Some(Knobs { feed_forward: 2.0, gain: 2.0, ..target(1) }));
    let shadow = format!("{TEN}[control]\nshadow = true\n");
    let shadow = Setup::new(&shadow).arriving(standing_queue(1000)).controlled(policy()).lasting(500).run();
    let none = Setup::new(TEN).arriving(standing_queue(1000)).lasting(500).run();
    assert_eq!(shadow.sent, none.sent);
    assert_eq!(shadow.trajectory(), none.trajectory());
    assert_eq!(shadow.last(Direction::LeftToRight).control.unwrap().1.admitted, 31);
    let real = Setup::new(TEN).arriving(standing_queue(1000)).controlled(policy()).lasting(500).run();
    assert_ne!(real.sent, none.sent, "the same policy does change things when it may");
}

/// A policy that answers an older window than the last; `None` while it has none.
struct Late<F>(F, Option<Decision>);
impl<F: FnMut(&TelemetryWindow) -> Option<TelemetryWindow> + Send> ControlLink for Late<F> {
    fn offer(&mut self, window: &TelemetryWindow, _in_force: &Knobs) {
        self.1 = (self.0)(window).map(|w| Decision { based_on: w.id, window_end: w.end, knobs: target(5) });
    }
    fn newest(&mut self) -> Option<Decision> {
        self.1.take()
    }
}

/// `t_expire`: how old a decision may be.
#[test]
fn an_expired_decision_is_stale() {
    // Decisions on windows of 100 ms ago.
    let late = || {
        let mut line = VecDeque::new();
        move |w: &TelemetryWindow| {
            line.push_back(*w);
            (line.len() > 6).then(|| line.pop_front().unwrap())
        }
    };
    let run = |keys: &str| {
        let setup = Setup::new(&format!("{TEN}{keys}")).arriving(standing_queue(1000));
        setup.controlled(Late(late(), None)).lasting(500).run()
    };
    let strict = run("").last(Direction::LeftToRight).control.unwrap();
    assert_eq!((strict.0, strict.1.admitted, strict.1.stale), (State::Fallback, 0, 25));
    let patient = run("[control]\nt_expire = \"200ms\"\n").last(Direction::LeftToRight).control.unwrap();
    assert_eq!((patient.0, patient.1.admitted, patient.1.stale), (State::Model, 25, 0));
}

/// Decisions from a file, made by the real thread: 5 ms from 0.1 s on, p' doubled once at 0.3 s.
#[test]
fn a_replayed_file_is_followed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "at_s,target_ms,gain,ramp_min_ms,feed_forward\n0.1,5,1,0.8,1\n0.3,5,1,0.8,2\n",
    )
    .unwrap();
    let keys =
        format!("{TEN}[aqm]\npolicy = \"replay:{}\"\n[control]\nt_expire = \"1s\"\n", file.path().display());
    let policy = Replay::open(Path::new(file.path()), Instant::ZERO).unwrap();
    let link = ThreadLink::spawn(|| Some(Box::new(policy)), Span::from_millis(16), || Instant::ZERO).unwrap();
    let mut setup = Setup::new(&keys).arriving(standing_queue(2000)).controlled(link).lasting(1_000);
    setup.pause = Duration::from_micros(100);
    let run = setup.run();
    let targets = run.targets_ms();
    assert!(targets[..5].iter().all(|t| (t - 15.0).abs() < 1e-3), "no opinion before 0.1 s: {targets:?}");
    assert!(targets[50..].iter().all(|t| (t - 5.0).abs() < 1e-3), "{targets:?}");
    // Doubling p' looks like a step far from any target, once.
    let jumps = targets.iter().filter(|t| **t < 1.0).count();
    assert_eq!(jumps, 1, "{targets:?}");
}

/// A policy that never comes back.
struct Stuck {
    gate: Arc<(Mutex<bool>, Condvar)>,
    gave_up: Arc<AtomicBool>,
}

impl Policy for Stuck {
    fn decide(&mut self, _window: &TelemetryWindow, _in_force: &Knobs) -> Result<Knobs, Abstention> {
        let (open, bell) = &*self.gate;
        let limit = Duration::from_mins(1);
        let (_guard, wait) = bell.wait_timeout_while(open.lock().unwrap(), limit, |open| !*open).unwrap();
        self.gave_up.fetch_or(wait.timed_out(), Ordering::Relaxed);
        Err(Abstention::Silent)
    }
}

/// Opens the gate when the link is dropped, before the link joins its thread: whoever waited for the policy until then
/// would have waited for ever.
struct OpensAfterwards {
    gate: Arc<(Mutex<bool>, Condvar)>,
    link: ThreadLink,
}

impl ControlLink for OpensAfterwards {
    fn offer(&mut self, window: &TelemetryWindow, in_force: &Knobs) {
        self.link.offer(window, in_force);
    }

    fn newest(&mut self) -> Option<Decision> {
        self.link.newest()
    }
}

impl Drop for OpensAfterwards {
    fn drop(&mut self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }
}

/// Answers this long after it was asked.
struct Answers {
    after: Span,
    clock: Fake,
    next: Option<Decision>,
}

impl ControlLink for Answers {
    fn offer(&mut self, window: &TelemetryWindow, _in_force: &Knobs) {
        self.next = Some(Decision { based_on: window.id, window_end: window.end, knobs: target(5) });
    }

    fn newest(&mut self) -> Option<Decision> {
        self.next.take_if(|d| self.clock.at() >= d.window_end + self.after)
    }
}

/// On a link without a frame a decision is looked for .2 and .45 ms after the window, not again once it is there, and else
/// found with the next window. So a window costs at most two breaths more, whatever the policy does.
#[test]
fn a_decision_is_looked_for_twice() {
    let windows = 62;
    let breaths = Setup::new(TEN).run().breaths;
    for (after_us, found_us, looks) in
        [(0, 200, 1), (200, 200, 1), (201, 450, 2), (450, 450, 2), (451, 16_000, 2), (40_000, 0, 2)]
    {
        let mut setup = Setup::new(TEN);
        let (after, clock) = (Span::from_micros(after_us), setup.clock.clone());
        setup = setup.controlled(Answers { after, clock, next: None });
        let run = setup.run();
        assert_eq!(run.breaths - breaths, windows * looks, "{after_us} us");
        let admitted: Vec<_> = run.reports[0].iter().filter_map(|r| r.admitted_after).collect();
        let times = if found_us == 0 { 0 } else { windows as usize };
        assert!(admitted.iter().all(|a| *a == Span::from_micros(found_us)), "{after_us} us: {admitted:?}");
        // At 16 ms it is found in the window after, and the last window has none.
        assert!((times.saturating_sub(1)..=times).contains(&admitted.len()), "{after_us} us: {admitted:?}");
    }
}

/// A controller thread that hangs costs the forwarder at most the two looks of each window, and not one frame is late.
#[test]
fn a_stuck_policy_never_delays_the_forwarder() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let gave_up = Arc::new(AtomicBool::new(false));
    let policy = Stuck { gate: Arc::clone(&gate), gave_up: Arc::clone(&gave_up) };
    let link = ThreadLink::spawn(|| Some(Box::new(policy)), Span::from_millis(16), || Instant::ZERO).unwrap();
    let counters = link.counters();
    let stuck =
        Setup::new(TEN).arriving(standing_queue(1000)).controlled(OpensAfterwards { gate, link }).run();
    let none = Setup::new(TEN).arriving(standing_queue(1000)).run();
    assert!(!gave_up.load(Ordering::Relaxed), "the policy was stuck all the while");
    assert!(stuck.breaths <= none.breaths + 2 * 62, "{} and {}", stuck.breaths, none.breaths);
    assert_eq!(stuck.sent, none.sent);
    // 63 windows (62 on the grid and the last): 16 wait in the ring, one may be in the policy's hands.
    let missed = counters.missed_windows.load(Ordering::Relaxed);
    assert!((46..=47).contains(&missed), "{missed}");
    assert_eq!(counters.decisions.load(Ordering::Relaxed), 0);
    assert_eq!(stuck.last(Direction::LeftToRight).control.unwrap().0, State::Fallback);
}

/// `aqm.nqb`: DSCP 45 goes to L if the operator says so.
#[test]
fn the_nqb_key_decides_the_queue() {
    let packets = || {
        stream(Side::Left, us(500), Span::from_millis(1), 10, |i| {
            ipv4(1000, if i % 2 == 0 { 45 << 2 } else { 0 }, i as u32)
        })
    };
    for (key, l, c) in [("", 0, 10), ("[aqm]\nnqb = false\n", 0, 10), ("[aqm]\nnqb = true\n", 5, 5)] {
        let run = Setup::new(&format!("{TEN}{key}")).arriving(packets()).lasting(100).run();
        let queues = run.last(Direction::LeftToRight).window.egress.queues;
        assert_eq!((queues[L].forwarded.packets, queues[C].forwarded.packets), (l, c), "{key}");
        assert_eq!(run.sent[1].len(), 10);
    }
}

/// `link.overhead` and `link.mpu` are charged to the link and counted in bytes: in a second of 10 Mbit/s fit 1,250,000
/// bytes, and the packet that starts last.
#[test]
fn overhead_and_mpu_are_charged() {
    for (keys, frame, charged) in [
        ("", 1000, 1000),
        ("overhead = 24\n", 1000, 1024),
        ("overhead = -14\n", 1000, 986),
        ("mpu = 84\n", 60, 84),
        ("overhead = 24\nmpu = 100\n", 60, 100),
        ("overhead = 24\nmpu = 84\n", 61, 85),
    ] {
        let n = 2_000_000 / frame as u64;
        let every = Span::from_nanos(1_000_000_000 / n);
        let run = Setup::new(&format!("{TEN}{keys}[aqm]\npolicy = \"taildrop\"\n"))
            .arriving(stream(Side::Left, Instant::ZERO, every, n, |i| ipv4(frame, NOT_ECT, i as u32)))
            .run();
        let q = run.last(Direction::LeftToRight).window.egress.queues[C];
        assert_eq!(q.forwarded.packets, 1_250_000_u64.div_ceil(charged), "{keys}");
        assert_eq!(q.forwarded.bytes, q.forwarded.packets * charged, "{keys}");
    }
}

/// `link.limit`: a packet is refused if it and one MTU would not fit. At 60 kB 59 of 1000 bytes are taken at once, one
/// leaves, one more is taken.
#[test]
fn the_limit_is_where_the_tail_drops_begin() {
    for (limit, taken) in [("60kB", 60), ("90kB", 90), ("48ms", 60), ("1kB", 45)] {
        let run = Setup::new(&format!("{TEN}limit = \"{limit}\"\n[aqm]\npolicy = \"taildrop\"\n"))
            .arriving(stream(Side::Left, Instant::ZERO, Span::ZERO, 500, |i| ipv4(1000, NOT_ECT, i as u32)))
            .lasting(500)
            .run();
        let q = run.last(Direction::LeftToRight).window.egress.queues[C];
        assert_eq!(q.forwarded.packets, taken, "{limit}");
        assert_eq!(q.dropped[DropCause::Tail as usize][0].packets, 500 - taken, "{limit}");
        run.check_account([500, 0]);
    }
}

/// `aqm.target` and `aqm.t_update` set the controller's error and its grid.
#[test]
fn target_and_interval_are_the_controllers() {
    let run = Setup::new(&format!("{TEN}[aqm]\ntarget = \"9ms\"\n"))
        .arriving(standing_queue(1000))
        .lasting(500)
        .run();
    assert_targets(&run.targets_ms(), [(30, 9.0)]);
    let keys = format!("{TEN}[aqm]\nt_update = \"32ms\"\n");
    let run = Setup::new(&keys).arriving(standing_queue(1000)).lasting(500).run();
    assert_targets(&run.targets_ms(), [(14, 15.0)]);
    assert!(run.reports[0].iter().take(15).all(|r| r.window.span == Span::from_millis(32)));
    let single = format!("{TEN}[aqm]\npolicy = \"pi2\"\ntarget = \"9ms\"\n");
    let run = Setup::new(&single).arriving(standing_queue(1000)).lasting(500).run();
    assert_targets(&run.targets_ms(), [(30, 9.0)]);
}
