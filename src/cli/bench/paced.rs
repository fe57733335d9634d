//! Memory ports on which frames come at a pace and not as fast as they are taken: what a controller meets on a link.

use crate::port::mem::{Frame, MemPort};
use crate::port::{Census, PortCounters, PortError, PortPair, Side};
use crate::runtime::clock::{Clock, Monotonic};
use crate::time::{Instant, Span};

/// The generator of both sides of `port`, held back.
#[derive(Debug)]
pub(super) struct Paced {
    port: MemPort,
    clock: Monotonic,
    /// From a frame to the next on the same side; `None` = no frame at all.
    gap: Option<Span>,
    next: [Instant; 2],
}

impl Paced {
    /// Frames begin now.
    pub(super) fn new(port: MemPort, clock: Monotonic, gap: Option<Span>) -> Self {
        let next = [clock.now() + gap.unwrap_or_default(); 2];
        Self { port, clock, gap, next }
    }
}

impl PortPair for Paced {
    type Frame = Frame;

    fn recv(&mut self, from: Side, budget: usize, batch: &mut Vec<Frame>) -> Result<(), PortError> {
        let (Some(gap), now) = (self.gap, self.clock.now()) else { return Ok(()) };
        let next = &mut self.next[from.index()];
        let mut due = 0;
        while due < budget && *next <= now {
            *next += gap;
            due += 1;
        }
        self.port.recv(from, due, batch)
    }

    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        self.port.bytes(frame)
    }

    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        self.port.bytes_mut(frame)
    }

    fn tx_room(&self, to: Side) -> usize {
        self.port.tx_room(to)
    }

    fn tx_pending_bytes(&self, to: Side) -> u64 {
        self.port.tx_pending_bytes(to)
    }

    fn send(&mut self, to: Side, frame: Frame, now: Instant) -> Result<(), Frame> {
        self.port.send(to, frame, now)
    }

    fn recycle(&mut self, frame: Frame) {
        self.port.recycle(frame);
    }

    fn flush(&mut self, now: Instant) -> Result<(), PortError> {
        self.port.flush(now)
    }

    fn wait(&mut self, timeout: Span) -> Result<(), PortError> {
        let [left, right] = self.next;
        let frame = self.gap.map_or(Instant::FAR_FUTURE, |_| left.min(right));
        self.clock.sleep(timeout.min(frame.since(self.clock.now())));
        Ok(())
    }

    fn counters(&self, side: Side) -> PortCounters {
        self.port.counters(side)
    }

    fn census(&self) -> Census {
        self.port.census()
    }
}
