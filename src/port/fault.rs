//! A faulty link in front of a pair: received frames are lost, damaged or overtaken, by a seeded generator.
//!
//! The faults happen before the forwarder sees the frame, so they test its parser and its bookkeeping as well as the
//! flows. The buffers stay the inner pair's: a lost frame is recycled, a held one is part of the census, and two runs
//! with one seed and the same traffic fault the same frames.

use std::os::fd::BorrowedFd;

use super::{Census, PortCounters, PortError, PortPair, Side};
use crate::time::{Instant, Span};

/// Probabilities in 0..=1, each drawn once per received frame in this order. A dropped frame suffers nothing else.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct FaultRates {
    /// The frame is lost.
    pub drop: f64,
    /// One byte of the frame, anywhere, changes to another value.
    pub corrupt: f64,
    /// The frame is held back until the next one from its side has overtaken it, or until the next call to `recv`
    /// finds none that could. At most one frame a side is held.
    pub reorder: f64,
}

/// What a [`Fault`] has done to the frames of one side.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct FaultCounters {
    /// Frames lost.
    pub dropped: u64,
    /// Frames with a changed byte.
    pub corrupted: u64,
    /// Frames held back.
    pub reordered: u64,
}

/// A pair with faults on what it receives.
#[derive(Debug)]
pub struct Fault<P: PortPair> {
    inner: P,
    rates: FaultRates,
    random: SplitMix64,
    held: [Option<P::Frame>; 2],
    counters: [FaultCounters; 2],
    arrived: Vec<P::Frame>,
}

impl<P: PortPair> Fault<P> {
    /// Applies `rates` to what both sides of `inner` receive.
    pub fn new(inner: P, rates: FaultRates, seed: u64) -> Self {
        Self {
            inner,
            rates,
            random: SplitMix64(seed),
            held: [None, None],
            counters: [FaultCounters::default(); 2],
            arrived: Vec::new(),
        }
    }

    /// The pair behind the faults.
    pub const fn inner(&self) -> &P {
        &self.inner
    }

    /// What was done to frames received on `side`.
    pub const fn faults(&self, side: Side) -> FaultCounters {
        self.counters[side.index()]
    }

    fn damage(&mut self, frame: &mut P::Frame) {
        let place = self.random.next();
        let flip = (self.random.next() % 255 + 1) as u8;
        let bytes = self.inner.bytes_mut(frame);
        if let Some(at) = place.checked_rem(bytes.len() as u64) {
            bytes[at as usize] ^= flip;
        }
    }
}

impl<P: PortPair> PortPair for Fault<P> {
    type Frame = P::Frame;

    const BREATH: usize = P::BREATH;

    fn recv(&mut self, from: Side, budget: usize, batch: &mut Vec<P::Frame>) -> Result<(), PortError> {
        if budget == 0 {
            return Ok(());
        }
        let side = from.index();
        let mut late = self.held[side].take();
        let mut newly_held = None;
        let room = budget - usize::from(late.is_some());
        let mut arrived = std::mem::take(&mut self.arrived);
        let outcome = self.inner.recv(from, room, &mut arrived);
        for mut frame in arrived.drain(..) {
            if self.random.chance(self.rates.drop) {
                self.counters[side].dropped += 1;
                self.inner.recycle(frame);
                continue;
            }
            if self.random.chance(self.rates.corrupt) {
                self.counters[side].corrupted += 1;
                self.damage(&mut frame);
            }
            if late.is_none() && newly_held.is_none() && self.random.chance(self.rates.reorder) {
                self.counters[side].reordered += 1;
                newly_held = Some(frame);
                continue;
            }
            batch.push(frame);
            batch.extend(late.take());
            batch.extend(newly_held.take());
        }
        batch.extend(late);
        self.arrived = arrived;
        self.held[side] = newly_held;
        outcome
    }

    fn bytes<'a>(&'a self, frame: &'a P::Frame) -> &'a [u8] {
        self.inner.bytes(frame)
    }

    fn bytes_mut<'a>(&'a mut self, frame: &'a mut P::Frame) -> &'a mut [u8] {
        self.inner.bytes_mut(frame)
    }

    fn tx_room(&self, to: Side) -> usize {
        self.inner.tx_room(to)
    }

    fn tx_pending_bytes(&self, to: Side) -> u64 {
        self.inner.tx_pending_bytes(to)
    }

    fn send(&mut self, to: Side, frame: P::Frame, now: Instant) -> Result<(), P::Frame> {
        self.inner.send(to, frame, now)
    }

    fn recycle(&mut self, frame: P::Frame) {
        self.inner.recycle(frame);
    }

    fn flush(&mut self, now: Instant) -> Result<(), PortError> {
        self.inner.flush(now)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.inner.next_deadline()
    }

    /// Does not sleep while a frame is held back.
    fn wait(&mut self, timeout: Span) -> Result<(), PortError> {
        let held = self.held.iter().any(Option::is_some);
        self.inner.wait(if held { Span::ZERO } else { timeout })
    }

    /// `rx_frames` counts what was handed out: neither the dropped nor the held.
    fn counters(&self, side: Side) -> PortCounters {
        let mut counters = self.inner.counters(side);
        let kept = self.counters[side.index()].dropped + u64::from(self.held[side.index()].is_some());
        counters.rx_frames -= kept;
        counters
    }

    fn census(&self) -> Census {
        let mut census = self.inner.census();
        census.in_rings += self.held.iter().flatten().count();
        census
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.inner.descriptors()
    }
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True with probability `p`; the draw has 53 bits.
    fn chance(&mut self, p: f64) -> bool {
        ((self.next() >> 11) as f64) < p * (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::mem::{MemConfig, MemPort, Outside};

    fn pair(rates: FaultRates, seed: u64) -> (Fault<MemPort>, Outside) {
        let (port, outside) = MemPort::new(MemConfig { buffers: 64, ring: 64 });
        (Fault::new(port, rates, seed), outside)
    }

    /// Injects frames numbered from `first`, receives once, and returns their contents.
    fn pass(port: &mut Fault<MemPort>, outside: &Outside, first: u64, count: u64) -> Vec<Vec<u8>> {
        for seq in first..first + count {
            let mut frame = vec![0; 60];
            frame[..8].copy_from_slice(&seq.to_be_bytes());
            assert!(outside.inject(Side::Left, &frame));
        }
        let mut batch = Vec::new();
        port.recv(Side::Left, 64, &mut batch).unwrap();
        let held = usize::from(port.held[0].is_some());
        assert_eq!(port.census(), Census { total: 64, spare: 64 - batch.len() - held, in_rings: held });
        let contents = batch.iter().map(|f| port.bytes(f).to_vec()).collect();
        for frame in batch {
            port.recycle(frame);
        }
        contents
    }

    fn numbers(frames: &[Vec<u8>]) -> Vec<u64> {
        frames.iter().map(|f| u64::from_be_bytes(f[..8].try_into().unwrap())).collect()
    }

    #[test]
    fn the_generator_is_splitmix64() {
        let mut random = SplitMix64(1234567);
        assert_eq!(random.next(), 6457827717110365317);
        assert_eq!(random.next(), 3203168211198807973);
    }

    #[test]
    fn the_drop_rate_is_the_asked_one_and_what_is_left_adds_up() {
        let (mut port, outside) = pair(FaultRates { drop: 0.25, ..FaultRates::default() }, 1);
        let mut passed = 0;
        for round in 0..1000 {
            passed += pass(&mut port, &outside, round * 40, 40).len() as u64;
        }
        let dropped = port.faults(Side::Left).dropped;
        assert_eq!(passed + dropped, 40_000);
        assert_eq!(port.counters(Side::Left).rx_frames, passed);
        // Binomial, n = 40,000: sigma is 87.
        assert!((9_650..=10_350).contains(&dropped), "{dropped}");
        assert_eq!(port.faults(Side::Right), FaultCounters::default());
    }

    #[test]
    fn rates_of_zero_and_one_are_exact() {
        let (mut port, outside) = pair(FaultRates::default(), 2);
        assert_eq!(numbers(&pass(&mut port, &outside, 0, 50)), (0..50).collect::<Vec<_>>());
        let (mut port, outside) = pair(FaultRates { drop: 1.0, corrupt: 1.0, reorder: 1.0 }, 2);
        assert!(pass(&mut port, &outside, 0, 50).is_empty());
        assert_eq!(port.faults(Side::Left), FaultCounters { dropped: 50, corrupted: 0, reordered: 0 });
    }

    #[test]
    fn corruption_changes_exactly_one_byte_and_all_places_get_their_turn() {
        let (mut port, outside) = pair(FaultRates { corrupt: 1.0, ..FaultRates::default() }, 3);
        let mut places = std::collections::BTreeSet::new();
        for seq in 0..2000_u64 {
            let mut clean = [0; 60];
            clean[..8].copy_from_slice(&seq.to_be_bytes());
            let damaged = pass(&mut port, &outside, seq, 1).pop().unwrap();
            let at: Vec<usize> = (0..60).filter(|&i| clean[i] != damaged[i]).collect();
            assert_eq!(at.len(), 1, "frame {seq}");
            places.extend(at);
        }
        assert_eq!(places.len(), 60);
        assert_eq!(port.faults(Side::Left).corrupted, 2000);
    }

    #[test]
    fn a_held_frame_is_overtaken_by_one_or_comes_alone_with_the_next_call() {
        let (mut port, outside) = pair(FaultRates { reorder: 1.0, ..FaultRates::default() }, 4);
        assert_eq!(numbers(&pass(&mut port, &outside, 0, 5)), [1, 0, 3, 2], "4 is held");
        assert_eq!(port.counters(Side::Left).rx_frames, 4);
        assert_eq!(numbers(&pass(&mut port, &outside, 5, 1)), [5, 4]);
        assert_eq!(numbers(&pass(&mut port, &outside, 6, 1)), [] as [u64; 0]);
        assert_eq!(numbers(&pass(&mut port, &outside, 7, 0)), [6]);
        assert_eq!(port.counters(Side::Left).rx_frames, 7);
    }

    #[test]
    fn one_seed_makes_one_sequence_of_faults() {
        let rates = FaultRates { drop: 0.3, corrupt: 0.3, reorder: 0.3 };
        let run = |seed| {
            let (mut port, outside) = pair(rates, seed);
            (0..20).flat_map(|round| pass(&mut port, &outside, round * 30, 30)).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }
}
