//! Sends on the left port, counts on the right one. One thread does both.

use super::offer::{Offer, Pacer};
use super::{Source, Tally};
use crate::port::{Originate, PortCounters, PortError, Side};
use crate::runtime::clock::Clock;
use crate::time::{Instant, Span};

/// Most frames sent, and received on a port, in one breath.
const BUDGET: usize = 64;
/// A wait shorter than this is not worth a sleep.
const SPIN: Span = Span::from_micros(5);
/// Longest sleep.
const NAP: Span = Span::from_millis(1);

/// A generator on the left and a sink on the right of `P`.
#[derive(Debug)]
pub struct Generator<P: Originate> {
    port: P,
    source: Source,
    tally: Tally,
    pacer: Pacer,
    batch: Vec<P::Frame>,
    trial: u8,
    before: [PortCounters; 2],
}

impl<P: Originate> Generator<P> {
    /// A generator that has not begun.
    pub fn new(port: P, source: Source) -> Self {
        Self {
            port,
            source,
            tally: Tally::new(),
            pacer: Pacer::new(Offer::Line, Instant::ZERO),
            batch: Vec::with_capacity(BUDGET),
            trial: 0,
            before: [PortCounters::default(); 2],
        }
    }

    /// Sends `source` from now on.
    pub fn set_source(&mut self, source: Source) {
        self.source = source;
    }

    /// Forgets the last trial and begins one.
    pub fn restart(&mut self, offer: Offer, now: Instant) {
        self.trial = self.trial.wrapping_add(1);
        self.source.restart(self.trial);
        self.tally.restart(self.trial);
        self.pacer = Pacer::new(offer, now);
        self.before = Side::BOTH.map(|side| self.port.counters(side));
    }

    /// What was counted since [`Generator::restart`].
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Share of the load that was due and never sent, because the generator was away or the port was full; 0..=1.
    pub fn given_up(&self) -> f64 {
        self.pacer.given_up()
    }

    /// Frames that the port took and could not send.
    pub fn refused(&self) -> u64 {
        let side = Side::Left;
        self.port.counters(side).tx_errors - self.before[side.index()].tx_errors
    }

    /// Frames that reached the sink's port and were dropped there: lost, but not by the device.
    pub fn sink_dropped(&self) -> u64 {
        let dropped = |c: PortCounters| c.rx_no_buffer + c.rx_oversize + c.rx_kernel_drops;
        dropped(self.port.counters(Side::Right)) - dropped(self.before[Side::Right.index()])
    }

    /// The pair.
    pub const fn port(&self) -> &P {
        &self.port
    }

    /// Receives, and sends what is due if `sending`; how many frames it moved.
    pub fn breath(&mut self, clock: &impl Clock, sending: bool) -> Result<usize, PortError> {
        let mut moved = 0;
        for side in Side::BOTH {
            self.port.recv(side, BUDGET, &mut self.batch)?;
            moved += self.batch.len();
            let now = clock.now();
            for frame in self.batch.drain(..) {
                match side {
                    Side::Left => self.tally.foreign += 1,
                    Side::Right => self.tally.received(self.port.bytes(&frame), now),
                }
                self.port.recycle(frame);
            }
        }
        let now = clock.now();
        if sending {
            moved += self.send(now);
        }
        self.port.flush(now)?;
        Ok(moved)
    }

    /// How many frames it sent: what is due, what the port takes, and no more than [`BUDGET`].
    fn send(&mut self, now: Instant) -> usize {
        let room = self.port.tx_room(Side::Left).min(BUDGET);
        for sent in 0..room {
            if !self.pacer.due(now) {
                return sent;
            }
            let len = self.source.next_len();
            let Some(mut frame) = self.port.begin(len) else { return sent };
            self.source.write(self.port.bytes_mut(&mut frame), now);
            if let Err(frame) = self.port.send(Side::Left, frame, now) {
                self.port.recycle(frame);
                return sent;
            }
            let ecn = self.source.deal();
            self.tally.sent(ecn, len);
            self.pacer.sent(len);
        }
        room
    }

    /// Sleeps until a frame may have come or is due, if that is worth it.
    pub(super) fn rest(&mut self, now: Instant, sending: bool) -> Result<(), PortError> {
        let left = if sending { self.pacer.next().since(now).min(NAP) } else { NAP };
        if left < SPIN { Ok(()) } else { self.port.wait(left) }
    }
}
