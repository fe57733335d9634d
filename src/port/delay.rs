//! Emulated one-way propagation behind the AQM, for testbeds whose hosts have no delay of their own.
//!
//! What is sent at `now` reaches the inner pair at the first `flush` from `now + delay` on, in order. A delay line is
//! a length of cable and not a queue: it has its own bound, given in frames, and what it holds is not reported as
//! pending, so that the forwarder's bound on bytes in flight keeps meaning the ring behind it. Every frame on the line
//! occupies a buffer of the inner pair: size both for rate x delay / frame length.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use super::{Census, PortCounters, PortError, PortPair, Side};
use crate::time::{Instant, Span};

/// How soon to try again when a frame is due and the inner ring is full.
const RETRY: Span = Span::from_micros(50);

/// A pair whose transmitted frames are `delay` late.
#[derive(Debug)]
pub struct Delay<P: PortPair> {
    inner: P,
    lines: [Line<P::Frame>; 2],
    propagation: Span,
    capacity: usize,
}

#[derive(Debug)]
struct Line<F> {
    held: VecDeque<(Instant, F)>,
    retry: Option<Instant>,
}

impl<F> Line<F> {
    fn deadline(&self) -> Option<Instant> {
        self.held.front().map(|&(due, _)| self.retry.unwrap_or(due))
    }
}

impl<P: PortPair> Delay<P> {
    /// Delays both directions of `inner` by `delay`, with at most `capacity` frames on each line.
    pub fn new(inner: P, delay: Span, capacity: usize) -> Self {
        let line = || Line { held: VecDeque::with_capacity(capacity), retry: None };
        Self { inner, lines: [line(), line()], propagation: delay, capacity }
    }

    /// The delayed pair.
    pub const fn inner(&self) -> &P {
        &self.inner
    }
}

impl<P: PortPair> PortPair for Delay<P> {
    type Frame = P::Frame;

    const BREATH: usize = P::BREATH;

    fn recv(&mut self, from: Side, budget: usize, batch: &mut Vec<P::Frame>) -> Result<(), PortError> {
        self.inner.recv(from, budget, batch)
    }

    fn bytes<'a>(&'a self, frame: &'a P::Frame) -> &'a [u8] {
        self.inner.bytes(frame)
    }

    fn bytes_mut<'a>(&'a mut self, frame: &'a mut P::Frame) -> &'a mut [u8] {
        self.inner.bytes_mut(frame)
    }

    /// Room on the line, whatever the inner ring looks like.
    fn tx_room(&self, to: Side) -> usize {
        self.capacity - self.lines[to.index()].held.len()
    }

    /// Bytes in the inner ring; frames on the line have left the host as far as a queue is concerned.
    fn tx_pending_bytes(&self, to: Side) -> u64 {
        self.inner.tx_pending_bytes(to)
    }

    fn send(&mut self, to: Side, frame: P::Frame, now: Instant) -> Result<(), P::Frame> {
        if self.tx_room(to) == 0 {
            return Err(frame);
        }
        self.lines[to.index()].held.push_back((now + self.propagation, frame));
        Ok(())
    }

    fn recycle(&mut self, frame: P::Frame) {
        self.inner.recycle(frame);
    }

    fn flush(&mut self, now: Instant) -> Result<(), PortError> {
        for to in Side::BOTH {
            let line = &mut self.lines[to.index()];
            line.retry = None;
            while let Some((due, frame)) = line.held.pop_front() {
                if due > now {
                    line.held.push_front((due, frame));
                    break;
                }
                if let Err(frame) = self.inner.send(to, frame, now) {
                    line.held.push_front((due, frame));
                    line.retry = Some(now + RETRY);
                    break;
                }
            }
        }
        self.inner.flush(now)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let [left, right] = &self.lines;
        [left.deadline(), right.deadline(), self.inner.next_deadline()].into_iter().flatten().min()
    }

    fn wait(&mut self, timeout: Span) -> Result<(), PortError> {
        self.inner.wait(timeout)
    }

    /// `tx_frames` includes what is on the line.
    fn counters(&self, side: Side) -> PortCounters {
        let mut counters = self.inner.counters(side);
        counters.tx_frames += self.lines[side.index()].held.len() as u64;
        counters
    }

    fn census(&self) -> Census {
        let mut census = self.inner.census();
        census.in_rings += self.lines.iter().map(|line| line.held.len()).sum::<usize>();
        census
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.inner.descriptors()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::mem::{Frame, MemConfig, MemPort, Outside};

    const MS10: Span = Span::from_millis(10);

    fn at(us: u64) -> Instant {
        Instant::from_nanos(us * 1000)
    }

    fn pair(ring: usize, capacity: usize) -> (Delay<MemPort>, Outside) {
        let (port, outside) = MemPort::new(MemConfig { buffers: 64, ring });
        (Delay::new(port, MS10, capacity), outside)
    }

    fn received(port: &mut Delay<MemPort>, outside: &Outside, seq: u8) -> Frame {
        let mut batch = Vec::new();
        assert!(outside.inject(Side::Left, &[seq; 100]));
        port.recv(Side::Left, 1, &mut batch).unwrap();
        batch.pop().unwrap()
    }

    #[test]
    fn a_frame_leaves_at_its_own_time_and_not_a_nanosecond_before() {
        let (mut port, outside) = pair(8, 8);
        for (seq, us) in [(1, 0), (2, 300), (3, 300)] {
            let frame = received(&mut port, &outside, seq);
            port.send(Side::Right, frame, at(us)).unwrap();
        }
        assert_eq!(port.next_deadline(), Some(at(10_000)));
        assert_eq!(port.tx_pending_bytes(Side::Right), 0, "propagation is no queue");
        assert_eq!(port.census(), Census { total: 64, spare: 61, in_rings: 3 });
        assert_eq!(port.counters(Side::Right).tx_frames, 3);

        port.flush(Instant::from_nanos(9_999_999)).unwrap();
        assert!(outside.collect(Side::Right).is_empty());
        port.flush(at(10_000)).unwrap();
        assert_eq!(outside.collect(Side::Right), [[1; 100]]);
        assert_eq!(port.next_deadline(), Some(at(10_300)));
        port.flush(at(20_000)).unwrap();
        assert_eq!(outside.collect(Side::Right), [[2; 100], [3; 100]]);
        assert_eq!(port.next_deadline(), None);
        assert_eq!(port.counters(Side::Right).tx_frames, 3);
        assert_eq!(port.census().spare, 64);
    }

    #[test]
    fn the_line_takes_its_capacity_and_no_more() {
        let (mut port, outside) = pair(8, 3);
        for seq in 0..3 {
            assert_eq!(port.tx_room(Side::Right), 3 - usize::from(seq));
            let frame = received(&mut port, &outside, seq);
            port.send(Side::Right, frame, at(0)).unwrap();
        }
        let frame = received(&mut port, &outside, 9);
        let back = port.send(Side::Right, frame, at(0)).unwrap_err();
        assert_eq!(port.bytes(&back), [9; 100]);
        assert_eq!(port.tx_room(Side::Left), 3, "directions do not share a line");
        port.flush(at(10_000)).unwrap();
        port.send(Side::Right, back, at(10_000)).unwrap();
    }

    #[test]
    fn due_frames_wait_in_order_for_a_full_inner_ring_and_ask_to_be_tried_again() {
        let (mut port, outside) = pair(2, 8);
        for seq in 0..7 {
            let frame = received(&mut port, &outside, seq);
            port.send(Side::Right, frame, at(0)).unwrap();
        }
        port.flush(at(10_000)).unwrap();
        assert_eq!(port.next_deadline(), Some(at(10_050)), "due, but two are in a ring of two");
        assert_eq!(port.census().in_rings, 5);
        let mut seen: Vec<u8> = Vec::new();
        for us in 1..10 {
            seen.extend(outside.collect(Side::Right).iter().map(|f| f[0]));
            port.flush(at(10_000 + us)).unwrap();
        }
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(port.next_deadline(), None);
        assert_eq!(port.census().spare, 64);
    }
}
