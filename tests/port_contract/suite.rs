//! What every [`PortPair`] owes its caller, as functions over a [`Fixture`].
//!
//! A test file of a port includes this module at its root (`#[path = "../port_contract/suite.rs"] mod suite;`, with
//! `#[macro_use]`), implements [`Fixture`] for a pair and the world outside it, and calls [`contract!`] with an
//! expression that makes one, or `None` after printing why it cannot. The suite's frames carry an ethertype for local
//! experiments and a number; whatever else a medium brings along is recycled and ignored.

use std::collections::VecDeque;
use std::time::Duration;

use l4sd::port::{PortPair, Side};
use l4sd::time::{Instant, Span};

/// What a port promises beyond the trait, for the suite to hold it to.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    /// Frames that `send` takes in one direction before the first flush. The pair must have at least 64 buffers more.
    pub(crate) tx_ring: usize,
    /// Length of a frame that the outside can inject and that does not fit the port's buffers, if the medium carries
    /// such a frame.
    pub(crate) oversize: Option<usize>,
    /// How long a frame may take from `inject` to `recv`, or from `flush` to `collect`, on a busy host.
    pub(crate) patience: Span,
}

/// A pair of ports and the world outside both of them.
pub(crate) trait Fixture {
    /// The pair under test.
    type Pair: PortPair;

    /// The pair.
    fn pair(&mut self) -> &mut Self::Pair;

    /// What the port promises.
    fn promise(&self) -> Promise;

    /// Puts a frame on the medium so that the port of `side` receives it. Never more than 32 at a time without a
    /// `recv`.
    fn inject(&mut self, side: Side, frame: &[u8]);

    /// Everything that the port of `side` transmitted since the last call and that has arrived by now, with its VLAN
    /// tags in place. Does not wait.
    fn collect(&mut self, side: Side) -> Vec<Vec<u8>>;
}

/// A monotonic clock, for the passing of time that ports are told and for patience.
#[derive(Clone, Copy, Debug)]
struct Clock(std::time::Instant);

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test of deadlines must read the clock that they are kept by"
    )]
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn now(self) -> Instant {
        Instant::from_nanos(self.0.elapsed().as_nanos() as u64)
    }
}

const EXPERIMENT: [u8; 2] = [0x88, 0xb5];
const MAGIC: [u8; 4] = *b"l4sd";
const TPIDS: [[u8; 2]; 3] = [[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]];

/// A VLAN tag: TPID and TCI (PCP, DEI and VID).
pub(crate) type Tag = (u16, u16);

/// Frame number `seq`, `len` bytes in all, with `tags` behind the addresses.
pub(crate) fn numbered(seq: u32, len: usize, tags: &[Tag]) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 0x0b, 0x02, 0, 0, 0, 0, 0x0a];
    for (tpid, tci) in tags {
        frame.extend_from_slice(&tpid.to_be_bytes());
        frame.extend_from_slice(&tci.to_be_bytes());
    }
    frame.extend_from_slice(&EXPERIMENT);
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&seq.to_be_bytes());
    assert!(frame.len() <= len, "{len} bytes are too few for a numbered frame");
    let start = frame.len();
    frame.extend((start..len).map(|i| (i as u32).wrapping_mul(seq | 1).wrapping_add(seq >> 3) as u8));
    frame
}

/// The number of one of our frames; `None` for anything else.
pub(crate) fn number(frame: &[u8]) -> Option<u32> {
    let mut rest = frame.get(12..)?;
    while TPIDS.iter().any(|tpid| rest.starts_with(tpid)) {
        rest = rest.get(4..)?;
    }
    let body = rest.strip_prefix(&EXPERIMENT)?.strip_prefix(&MAGIC)?;
    Some(u32::from_be_bytes(*body.first_chunk()?))
}

type FrameOf<F> = <<F as Fixture>::Pair as PortPair>::Frame;

/// A fixture with what the suite holds of it: the conservation law is asserted after every step.
struct Bench<'a, F: Fixture> {
    fixture: &'a mut F,
    clock: Clock,
    held: usize,
    seen: [u64; 2],
    sent: [u64; 2],
}

impl<'a, F: Fixture> Bench<'a, F> {
    fn new(fixture: &'a mut F) -> Self {
        let bench = Self { fixture, clock: Clock::start(), held: 0, seen: [0; 2], sent: [0; 2] };
        let census = bench.fixture.pair().census();
        assert_eq!(census.total, census.spare + census.in_rings, "a new pair has no held buffer");
        let least = bench.fixture.promise().tx_ring + 64;
        assert!(census.total >= least, "the suite needs {least} buffers, the fixture has {}", census.total);
        bench
    }

    fn conserved(&mut self, step: &str) {
        let census = self.fixture.pair().census();
        assert_eq!(census.total, census.spare + census.in_rings + self.held, "after {step}: {census:?}");
    }

    fn recv_raw(&mut self, side: Side, budget: usize) -> Vec<FrameOf<F>> {
        let mut batch = Vec::new();
        self.fixture.pair().recv(side, budget, &mut batch).expect("recv works");
        assert!(batch.len() <= budget, "recv handed out {} frames for a budget of {budget}", batch.len());
        self.seen[side.index()] += batch.len() as u64;
        self.held += batch.len();
        self.conserved("recv");
        let pair = self.fixture.pair();
        let (ours, others): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|f| number(pair.bytes(f)).is_some());
        for frame in others {
            self.recycle(frame);
        }
        ours
    }

    /// Receives until `count` of our frames are there or patience ends.
    fn recv(&mut self, side: Side, count: usize) -> Vec<FrameOf<F>> {
        let deadline = self.clock.now() + self.fixture.promise().patience;
        let mut frames = self.recv_raw(side, count);
        while frames.len() < count && self.clock.now() < deadline {
            self.fixture.pair().wait(Span::from_millis(1)).expect("wait works");
            frames.extend(self.recv_raw(side, count - frames.len()));
        }
        frames
    }

    /// Injects one frame and receives it.
    fn pass(&mut self, side: Side, bytes: &[u8]) -> FrameOf<F> {
        self.fixture.inject(side, bytes);
        let frame = self.recv(side, 1).pop().expect("the injected frame is received");
        assert_eq!(self.fixture.pair().bytes(&frame), bytes, "received as injected");
        frame
    }

    fn send(&mut self, to: Side, frame: FrameOf<F>) -> Result<(), FrameOf<F>> {
        let now = self.clock.now();
        let outcome = self.fixture.pair().send(to, frame, now);
        if outcome.is_ok() {
            self.held -= 1;
            self.sent[to.index()] += 1;
        }
        self.conserved("send");
        outcome
    }

    fn recycle(&mut self, frame: FrameOf<F>) {
        self.fixture.pair().recycle(frame);
        self.held -= 1;
        self.conserved("recycle");
    }

    fn flush(&mut self) {
        let now = self.clock.now();
        self.fixture.pair().flush(now).expect("flush works");
        self.conserved("flush");
    }

    fn collect_raw(&mut self, side: Side) -> Vec<Vec<u8>> {
        let frames = self.fixture.collect(side);
        self.conserved("collect");
        frames.into_iter().filter(|frame| number(frame).is_some()).collect()
    }

    /// Flushes until `count` of our frames have come out or patience ends.
    fn collect(&mut self, side: Side, count: usize) -> Vec<Vec<u8>> {
        let deadline = self.clock.now() + self.fixture.promise().patience;
        let mut frames = Vec::new();
        loop {
            self.flush();
            frames.extend(self.collect_raw(side));
            if frames.len() >= count || self.clock.now() >= deadline {
                return frames;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Everything back in its place: nothing held, nothing pending, counters equal to what was done.
    fn settle(mut self) {
        let deadline = self.clock.now() + self.fixture.promise().patience;
        loop {
            self.flush();
            let pair = self.fixture.pair();
            if Side::BOTH.into_iter().all(|side| pair.tx_pending_bytes(side) == 0) {
                break;
            }
            assert!(self.clock.now() < deadline, "transmitted bytes stay pending on an idle pair");
            for side in Side::BOTH {
                self.collect_raw(side);
            }
        }
        assert_eq!(self.held, 0);
        for side in Side::BOTH {
            let counters = self.fixture.pair().counters(side);
            assert_eq!(
                counters.rx_frames,
                self.seen[side.index()],
                "{side}: rx_frames is what recv handed out"
            );
            assert_eq!(
                counters.tx_frames,
                self.sent[side.index()],
                "{side}: tx_frames is what send accepted"
            );
        }
    }
}

fn numbers(frames: &[Vec<u8>]) -> Vec<u32> {
    frames.iter().filter_map(|f| number(f)).collect()
}

/// Frames of every usual size cross in both directions with every bit and their order intact.
pub(crate) fn bytes_and_order_are_kept<F: Fixture>(fixture: &mut F) {
    let mut bench = Bench::new(fixture);
    let sizes = [60, 61, 63, 64, 65, 127, 128, 590, 1280, 1499, 1500, 1513, 1514];
    for from in Side::BOTH {
        let to = from.other();
        let sample: Vec<_> = sizes.iter().zip(1..).map(|(&len, seq)| numbered(seq, len, &[])).collect();
        for frame in &sample {
            bench.fixture.inject(from, frame);
        }
        let frames = bench.recv(from, sample.len());
        assert_eq!(frames.len(), sample.len(), "{from}: received");
        for (frame, bytes) in frames.iter().zip(&sample) {
            assert_eq!(bench.fixture.pair().bytes(frame), bytes, "{from}: as injected");
        }
        for frame in frames {
            bench.send(to, frame).expect("there is room");
        }
        assert_eq!(bench.collect(to, sample.len()), sample, "{from} to {to}: as sent");
        assert!(bench.collect_raw(from).is_empty(), "{from}: nothing comes back");
    }
    bench.settle();
}

/// No, one or two VLAN tags of either TPID come and go with all 16 bits of their TCI.
pub(crate) fn vlan_tags_are_intact<F: Fixture>(fixture: &mut F) {
    const Q: u16 = 0x8100;
    const AD: u16 = 0x88a8;
    let mut bench = Bench::new(fixture);
    let stacks: [&[Tag]; 9] = [
        &[],
        &[(Q, 0x0064)],
        &[(AD, 0x0064)],
        &[(Q, 0xffff)],
        &[(Q, 0x0000)],
        &[(AD, 0x7123), (Q, 0xb456)],
        &[(Q, 0x0001), (Q, 0x0002)],
        &[(AD, 0x1fff), (AD, 0xe000)],
        &[(Q, 0x0064), (AD, 0x00c8)],
    ];
    for from in Side::BOTH {
        for (stack, seq) in stacks.iter().zip(1..) {
            for len in [60, 64, 1500, 1514] {
                let bytes = numbered(seq, len, stack);
                let frame = bench.pass(from, &bytes);
                bench.send(from.other(), frame).expect("there is room");
                assert_eq!(bench.collect(from.other(), 1), [bytes], "{stack:x?} from {from}, {len} bytes");
            }
        }
    }
    bench.settle();
}

/// What is written through `bytes_mut` is what leaves.
pub(crate) fn changes_are_sent<F: Fixture>(fixture: &mut F) {
    let mut bench = Bench::new(fixture);
    let mut bytes = numbered(7, 200, &[]);
    let mut frame = bench.pass(Side::Left, &bytes);
    for at in [0, 31, 199] {
        bench.fixture.pair().bytes_mut(&mut frame)[at] ^= 0x04;
        bytes[at] ^= 0x04;
    }
    bench.send(Side::Right, frame).expect("there is room");
    assert_eq!(bench.collect(Side::Right, 1), [bytes]);
    bench.settle();
}

/// `send` takes exactly `tx_room` frames, gives the next one back unharmed, and takes it after the ring has drained.
pub(crate) fn a_full_ring_gives_the_frame_back<F: Fixture>(fixture: &mut F) {
    let mut bench = Bench::new(fixture);
    let ring = bench.fixture.promise().tx_ring;
    for to in Side::BOTH {
        assert_eq!(bench.fixture.pair().tx_room(to), ring, "{to}: room in an idle ring");
        let mut waiting = VecDeque::new();
        let mut seq = 0;
        while waiting.len() <= ring {
            let burst = (ring + 1 - waiting.len()).min(32);
            for _ in 0..burst {
                seq += 1;
                bench.fixture.inject(to.other(), &numbered(seq, 100, &[]));
            }
            let frames = bench.recv(to.other(), burst);
            assert_eq!(frames.len(), burst, "{to}: received");
            waiting.extend(frames);
        }
        for accepted in 0..ring {
            assert_eq!(bench.fixture.pair().tx_room(to), ring - accepted);
            let frame = waiting.pop_front().expect("one more than the ring");
            bench.send(to, frame).expect("tx_room said that there is room");
        }
        assert_eq!(bench.fixture.pair().tx_room(to), 0);
        let frame = waiting.pop_front().expect("one more than the ring");
        let back = bench.send(to, frame).expect_err("the ring is full");
        assert_eq!(bench.fixture.pair().bytes(&back), numbered(seq, 100, &[]), "given back as it was");
        assert_eq!(numbers(&bench.collect(to, ring)), (1..seq).collect::<Vec<_>>());
        bench.flush();
        bench.send(to, back).expect("the ring has drained");
        assert_eq!(numbers(&bench.collect(to, 1)), [seq]);
    }
    bench.settle();
}

/// A frame longer than the buffers is counted and not handed out, and the next one is.
pub(crate) fn oversize_is_counted_and_not_delivered<F: Fixture>(fixture: &mut F) {
    let mut bench = Bench::new(fixture);
    let Some(len) = bench.fixture.promise().oversize else {
        l4sd_testbed::sandbox::skipped(
            "oversize",
            "this medium carries no frame that is longer than the port's buffers",
        );
        return;
    };
    for side in Side::BOTH {
        let before = bench.fixture.pair().counters(side).rx_oversize;
        bench.fixture.inject(side, &numbered(1, len, &[]));
        let frame = bench.pass(side, &numbered(2, 60, &[]));
        bench.recycle(frame);
        assert_eq!(bench.fixture.pair().counters(side).rx_oversize, before + 1, "{side}");
    }
    bench.settle();
}

/// `wait` ends at its deadline, or at once when a frame is there. The best of ten tries counts: a busy host may
/// oversleep, a port that waits in steps of its own always does.
pub(crate) fn wait_honours_its_deadline<F: Fixture>(fixture: &mut F) {
    let mut bench = Bench::new(fixture);
    for (timeout, limit) in [(0, 2), (1, 6), (20, 25), (100, 120)] {
        let late = (0..10).map(|_| {
            for side in Side::BOTH {
                for frame in bench.recv_raw(side, 64) {
                    bench.recycle(frame);
                }
            }
            let start = bench.clock.now();
            bench.fixture.pair().wait(Span::from_millis(timeout)).expect("wait works");
            bench.clock.now().since(start)
        });
        let best = late.min().expect("ten tries");
        assert!(best <= Span::from_millis(limit), "wait of {timeout} ms took {best} at best");
    }
    for side in Side::BOTH {
        bench.fixture.inject(side, &numbered(1, 60, &[]));
        let start = bench.clock.now();
        let mut frames = Vec::new();
        while frames.is_empty() && bench.clock.now().since(start) < Span::from_secs(20) {
            bench.fixture.pair().wait(Span::from_secs(10)).expect("wait works");
            frames = bench.recv_raw(side, 1);
        }
        assert!(bench.clock.now().since(start) < Span::from_secs(5), "{side}: a frame did not end the wait");
        for frame in frames {
            bench.recycle(frame);
        }
    }
    bench.settle();
}

/// Recycled buffers are used again: many times more frames than buffers pass, and the spares are whole at the end.
pub(crate) fn recycled_buffers_come_back<F: Fixture>(fixture: &mut F) {
    let mut bench = Bench::new(fixture);
    let rounds = bench.fixture.pair().census().total as u32 * 4 / 16 + 1;
    for round in 0..rounds {
        let side = Side::BOTH[round as usize % 2];
        for seq in round * 16..round * 16 + 16 {
            bench.fixture.inject(side, &numbered(seq, 60, &[]));
        }
        let frames = bench.recv(side, 16);
        assert_eq!(frames.len(), 16, "round {round}");
        for frame in frames {
            bench.recycle(frame);
        }
    }
    bench.settle();
}

/// When the caller holds all it can get, further frames are lost without harm, and traffic goes on after a recycle.
pub(crate) fn an_exhausted_pool_recovers<F: Fixture>(fixture: &mut F) {
    let mut bench = Bench::new(fixture);
    let total = bench.fixture.pair().census().total;
    let mut held = Vec::new();
    let (mut seq, mut dry) = (0, 0);
    while dry < 3 {
        for _ in 0..32 {
            seq += 1;
            bench.fixture.inject(Side::Left, &numbered(seq, 60, &[]));
        }
        let before = held.len();
        for _ in 0..4 {
            held.extend(bench.recv_raw(Side::Left, 64));
            bench.fixture.pair().wait(Span::from_micros(100)).expect("wait works");
        }
        dry = if held.len() == before { dry + 1 } else { 0 };
        assert!(held.len() <= total);
    }
    let mut last = 0;
    for frame in held.drain(..) {
        let n = number(bench.fixture.pair().bytes(&frame)).expect("ours");
        assert!(n > last, "order is kept although frames are missing");
        last = n;
        bench.recycle(frame);
    }
    let leftovers = bench.recv_raw(Side::Left, total + 64 * 32);
    for frame in leftovers {
        bench.recycle(frame);
    }
    let frame = bench.pass(Side::Left, &numbered(seq + 1, 60, &[]));
    bench.send(Side::Right, frame).expect("there is room");
    assert_eq!(numbers(&bench.collect(Side::Right, 1)), [seq + 1]);
    bench.settle();
}

/// 10^5 random steps lose no buffer and break no order, and what was sent has come out at the end.
pub(crate) fn random_steps_conserve_buffers<F: Fixture>(fixture: &mut F) {
    const STEPS: usize = 100_000;
    let mut bench = Bench::new(fixture);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 16) % below
    };
    let mut held: [Vec<_>; 2] = [Vec::new(), Vec::new()];
    let mut expected: [VecDeque<u32>; 2] = Default::default();
    let (mut seq, mut unread, mut uncollected) = (0_u32, [0; 2], [0; 2]);
    let check = |bench: &mut Bench<F>, side: Side, expected: &mut VecDeque<u32>| {
        for n in numbers(&bench.collect_raw(side)) {
            assert_eq!(expected.pop_front(), Some(n), "{side}: what comes out is what was sent, in order");
        }
    };
    for _ in 0..STEPS {
        let side = Side::BOTH[draw(2) as usize];
        match draw(16) {
            0..6 if unread[side.index()] < 32 => {
                seq += 1;
                unread[side.index()] += 1;
                bench.fixture.inject(side, &numbered(seq, 60 + draw(1455) as usize, &[]));
            }
            6..9 => {
                let budget = draw(65) as usize;
                let frames = bench.recv_raw(side, budget);
                if frames.len() < budget {
                    unread[side.index()] = 0;
                }
                held[side.index()].extend(frames);
            }
            9..13 if !held[side.index()].is_empty() && uncollected[side.index()] < 64 => {
                let at = draw(held[side.index()].len() as u64) as usize;
                let frame = held[side.index()].swap_remove(at);
                let n = number(bench.fixture.pair().bytes(&frame)).expect("ours");
                match bench.send(side, frame) {
                    Ok(()) => {
                        expected[side.index()].push_back(n);
                        uncollected[side.index()] += 1;
                    }
                    Err(frame) => held[side.index()].push(frame),
                }
            }
            13 => {
                if let Some(frame) = held[side.index()].pop() {
                    bench.recycle(frame);
                }
            }
            14 => bench.flush(),
            15 => {
                bench.flush();
                check(&mut bench, side, &mut expected[side.index()]);
                uncollected[side.index()] = 0;
            }
            _ => {}
        }
    }
    for frame in held.into_iter().flatten() {
        bench.recycle(frame);
    }
    let deadline = bench.clock.now() + bench.fixture.promise().patience;
    while expected.iter().any(|e| !e.is_empty()) && bench.clock.now() < deadline {
        bench.flush();
        for side in Side::BOTH {
            check(&mut bench, side, &mut expected[side.index()]);
        }
    }
    assert!(expected.iter().all(VecDeque::is_empty), "sent and never seen: {expected:?}");
    for side in Side::BOTH {
        for frame in bench.recv_raw(side, 4096) {
            bench.recycle(frame);
        }
    }
    bench.settle();
}

/// Makes one test of each function of the suite. `$make` is called for each and yields `Option<impl Fixture>`.
macro_rules! contract {
    ($make:expr) => {
        contract!(
            $make;
            bytes_and_order_are_kept,
            vlan_tags_are_intact,
            changes_are_sent,
            a_full_ring_gives_the_frame_back,
            oversize_is_counted_and_not_delivered,
            wait_honours_its_deadline,
            recycled_buffers_come_back,
            an_exhausted_pool_recovers,
            random_steps_conserve_buffers
        );
    };
    ($make:expr; $($law:ident),+) => {
        $(
            #[test]
            fn $law() {
                if let Some(mut fixture) = $make {
                    $crate::suite::$law(&mut fixture);
                }
            }
        )+
    };
}
