//! A pair whose ports are joined in memory by a device that is a function: what the generator alone can do, and what
//! its tests put it in front of.

use std::collections::VecDeque;
use std::fmt;

use crate::port::{Census, Originate, PortCounters, PortError, PortPair, Side};
use crate::time::{Instant, Span};

const BUFFER_BYTES: usize = 2048;
/// Frames in each transmit ring, and in each receive ring.
const RING: usize = 256;

/// A frame of a [`Loopback`].
#[derive(Debug)]
pub struct Frame {
    index: usize,
    len: usize,
}

/// Two joined ports. The device sees each frame as it leaves a port, may change it, and says whether it goes on; what
/// finds the other port's receive ring full is dropped and counted there.
pub struct Loopback<D> {
    device: D,
    buffers: Vec<[u8; BUFFER_BYTES]>,
    spares: Vec<usize>,
    sending: [VecDeque<Frame>; 2],
    arrived: [VecDeque<Frame>; 2],
    counters: [PortCounters; 2],
}

impl<D> fmt::Debug for Loopback<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loopback {{ spares: {} of {} }}", self.spares.len(), self.buffers.len())
    }
}

impl<D: FnMut(&mut [u8], Instant) -> bool> Loopback<D> {
    /// Two ports with `device` between them.
    pub fn new(device: D) -> Self {
        let ring = || VecDeque::with_capacity(RING);
        let count = 4 * RING + 256;
        Self {
            device,
            buffers: vec![[0; BUFFER_BYTES]; count],
            spares: (0..count).rev().collect(),
            sending: [ring(), ring()],
            arrived: [ring(), ring()],
            counters: [PortCounters::default(); 2],
        }
    }
}

impl<D: FnMut(&mut [u8], Instant) -> bool> PortPair for Loopback<D> {
    type Frame = Frame;

    fn recv(&mut self, from: Side, budget: usize, batch: &mut Vec<Frame>) -> Result<(), PortError> {
        let arrived = &mut self.arrived[from.index()];
        let count = budget.min(arrived.len());
        batch.extend(arrived.drain(..count));
        self.counters[from.index()].rx_frames += count as u64;
        Ok(())
    }

    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        &self.buffers[frame.index][..frame.len]
    }

    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        &mut self.buffers[frame.index][..frame.len]
    }

    fn tx_room(&self, to: Side) -> usize {
        RING - self.sending[to.index()].len()
    }

    fn tx_pending_bytes(&self, to: Side) -> u64 {
        self.sending[to.index()].iter().map(|frame| frame.len as u64).sum()
    }

    fn send(&mut self, to: Side, frame: Frame, _now: Instant) -> Result<(), Frame> {
        if self.tx_room(to) == 0 {
            return Err(frame);
        }
        self.sending[to.index()].push_back(frame);
        self.counters[to.index()].tx_frames += 1;
        Ok(())
    }

    fn recycle(&mut self, frame: Frame) {
        self.spares.push(frame.index);
    }

    fn flush(&mut self, now: Instant) -> Result<(), PortError> {
        for side in Side::BOTH {
            let other = side.other().index();
            while let Some(frame) = self.sending[side.index()].pop_front() {
                if !(self.device)(&mut self.buffers[frame.index][..frame.len], now) {
                    self.spares.push(frame.index);
                } else if self.arrived[other].len() < RING {
                    self.arrived[other].push_back(frame);
                } else {
                    self.counters[other].rx_kernel_drops += 1;
                    self.spares.push(frame.index);
                }
            }
        }
        Ok(())
    }

    /// Does not sleep: nobody but its owner can bring a frame.
    fn wait(&mut self, _timeout: Span) -> Result<(), PortError> {
        Ok(())
    }

    fn counters(&self, side: Side) -> PortCounters {
        self.counters[side.index()]
    }

    fn census(&self) -> Census {
        let rings = [&self.sending, &self.arrived];
        let in_rings = rings.into_iter().flatten().map(VecDeque::len).sum();
        Census { total: self.buffers.len(), spare: self.spares.len(), in_rings }
    }
}

impl<D: FnMut(&mut [u8], Instant) -> bool> Originate for Loopback<D> {
    fn begin(&mut self, len: usize) -> Option<Frame> {
        if len > BUFFER_BYTES {
            return None;
        }
        self.spares.pop().map(|index| Frame { index, len })
    }
}
