//! Two netmap ports: NICs, their host rings, ports of VALE switches, ends of pipes.
//!
//! Ports that share memory exchange buffers: a received frame's buffer is held by the caller, a spare takes its slot,
//! and on the way out it changes places with a buffer whose frame has left, which becomes a spare (last in, first out,
//! so the hot ones go round). Ports of different memories copy, once, into the transmit slot. All receive rings of a
//! port are served in turn, frames leave through its first transmit ring, so that their order is kept; behind it is one
//! AQM an egress. Must not look into frames.
//!
//! Either the pair opens its ports and they leave netmap mode with it, or it borrows them from a keeper
//! ([`keep`]) that outlives it.

pub mod adapter;
mod half;
pub mod keep;
mod open;
pub mod record;

use std::os::fd::BorrowedFd;

use l4sd_netmap::{Buffer, Interest, Netmap, Port};

use self::half::Half;
use self::open::port_error;
use super::{Census, Originate, PortCounters, PortError, PortPair, Side};
use crate::time::{Instant, Span};

pub use adapter::emulates;
pub use open::{NetmapOptions, PairMode};

/// Frames that a breath moves a side. A sync of each side and the wake-up of whoever receives cost as much as some
/// hundred frames do.
const BREATH: usize = 512;

/// How often a running interface is looked at.
const LINK_CHECK: Span = Span::from_millis(100);

/// A received buffer. Belongs to the pair that made it.
#[derive(Debug)]
pub struct Frame {
    buffer: Buffer,
    /// Its length, and 2^16 times its memory: a frame is three words, each of which keeps to a register.
    len_and_memory: u32,
}

impl Frame {
    #[inline]
    fn new(buffer: Buffer, len: u16, memory: usize) -> Self {
        Self { buffer, len_and_memory: u32::from(len) | (memory as u32) << 16 }
    }

    #[inline]
    const fn len(&self) -> u16 {
        self.len_and_memory as u16
    }

    /// The index of its buffer, by which netmap knows it.
    pub fn index(&self) -> u32 {
        self.buffer.index()
    }

    /// Which memory it is in: 1 if it came from a right port that shares none with the left, else 0.
    #[inline]
    pub fn memory(&self) -> usize {
        (self.len_and_memory >> 16) as usize
    }
}

/// Two netmap ports.
#[derive(Debug)]
pub struct NetmapPort {
    /// Gone when the ports are closed.
    halves: Option<[Half; 2]>,
    /// By [`Half::pool`]; the second is empty while both ports share memory.
    spares: [Vec<Buffer>; 2],
    /// Buffers that were in no slot when the ports were opened.
    granted: usize,
    /// Where a borrower of ports writes how many frames it holds.
    board: Option<keep::Board>,
    lost_restart: u64,
    /// Interfaces that were made promiscuous by opening them.
    promiscuous: [bool; 2],
    next_check: Instant,
}

impl NetmapPort {
    /// Opens `left` and `right`, which leave netmap mode when the pair is dropped or the process ends in any way.
    ///
    /// # Errors
    /// [`PortError::Spec`]: no port name, or not both directions of all NIC rings or of the host rings.
    /// [`PortError::Privilege`]: `/dev/netmap` may not be opened. [`PortError::Interface`]: anything about the port, the
    /// module or netmap's memory; the message has the fix.
    pub fn open(
        netmap: &Netmap,
        names: [&str; 2],
        options: NetmapOptions,
    ) -> Result<(Self, PairMode), PortError> {
        let opened = open::open(netmap, names, options)?;
        let mode = opened.mode();
        Ok((Self::new(opened, None, 0), mode))
    }

    fn new(opened: open::Opened, board: Option<keep::Board>, lost_restart: u64) -> Self {
        let open::Opened { ports, specs, links, promiscuous, shared, mut extra, .. } = opened;
        let mut pools = [0, usize::from(!shared)].into_iter();
        let mut parts = ports.into_iter().zip(specs).zip(links);
        let mut half = || {
            let ((port, spec), link) = parts.next()?;
            Some(Half::new(port, spec, link, pools.next()?))
        };
        let halves = half().zip(half()).map(|(left, right)| [left, right]);
        // The boundless capacity that a push needs is there from the start: no buffer comes from elsewhere.
        let buffers = extra.iter().map(Vec::len).sum();
        for spares in &mut extra {
            spares.reserve_exact(buffers - spares.len());
        }
        let next_check = Instant::ZERO;
        Self { halves, spares: extra, granted: buffers, board, lost_restart, promiscuous, next_check }
    }

    #[inline]
    fn half(&self, side: Side) -> &Half {
        &self.both()[side.index()]
    }

    #[inline]
    fn both(&self) -> &[Half; 2] {
        self.halves.as_ref().expect("only `drop` takes the halves")
    }

    /// Splits the borrow: both ports, and the spares of each memory.
    #[inline]
    fn parts(&mut self) -> (&mut [Half; 2], &mut [Vec<Buffer>; 2]) {
        (self.halves.as_mut().expect("only `drop` takes the halves"), &mut self.spares)
    }

    /// What the ring slots hold and what is spare, for a test that knows the rest: indices by memory.
    pub fn whereabouts(&self) -> [(Vec<u32>, Vec<u32>); 2] {
        let mut found: [(Vec<u32>, Vec<u32>); 2] =
            core::array::from_fn(|pool| (Vec::new(), self.spares[pool].iter().map(Buffer::index).collect()));
        for half in self.both() {
            found[half.pool].0.extend(keep::slots(&half.port));
        }
        found
    }

    /// A frame that cannot change places: of the other memory, or without a byte.
    #[inline(never)]
    fn send_copy(&mut self, to: Side, frame: Frame, now: Instant) -> Result<(), Frame> {
        let [left, right] = self.parts().0;
        let (half, other) = if to == Side::Left { (left, right) } else { (right, left) };
        if frame.len() == 0 {
            half.refuse();
        } else if half.tx_room() == 0 {
            return Err(frame);
        } else {
            half.put_copy(other.port.region().bytes(&frame.buffer, usize::from(frame.len())), now);
        }
        self.recycle(frame);
        Ok(())
    }

    /// Buffers in no slot: spares and what the caller holds.
    fn extra(&self) -> usize {
        self.granted - self.both().iter().map(|half| half.swallowed).sum::<usize>()
    }

    fn held(&self) -> usize {
        self.extra() - self.spares.iter().map(Vec::len).sum::<usize>()
    }
}

impl PortPair for NetmapPort {
    type Frame = Frame;

    const BREATH: usize = BREATH;

    fn recv(&mut self, from: Side, budget: usize, batch: &mut Vec<Frame>) -> Result<(), PortError> {
        let (halves, spares) = self.parts();
        let half = &mut halves[from.index()];
        half.receive(budget, batch, &mut spares[half.pool])
    }

    #[inline]
    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        self.both()[frame.memory()].port.region().bytes(&frame.buffer, usize::from(frame.len()))
    }

    #[inline]
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        let (port, len) = (&self.both()[frame.memory()].port, usize::from(frame.len()));
        port.region().bytes_mut(&mut frame.buffer, len)
    }

    #[inline]
    fn tx_room(&self, to: Side) -> usize {
        self.half(to).tx_room()
    }

    #[inline]
    fn tx_has_room(&self, to: Side) -> bool {
        self.half(to).tx_has_room()
    }

    #[inline]
    fn tx_pending_bytes(&self, to: Side) -> u64 {
        self.half(to).tx_pending_bytes()
    }

    #[inline(always)]
    fn send(&mut self, to: Side, frame: Frame, now: Instant) -> Result<(), Frame> {
        let (halves, spares) = self.parts();
        let half = &mut halves[to.index()];
        match spares.get_mut(frame.memory()) {
            Some(spares) if frame.len() > 0 && half.pool == frame.memory() => half.put(frame, now, spares),
            _ => self.send_copy(to, frame, now),
        }
    }

    #[inline]
    fn recycle(&mut self, frame: Frame) {
        self.spares[frame.memory()].push(frame.buffer);
    }

    fn flush(&mut self, now: Instant) -> Result<(), PortError> {
        let held = self.held();
        if let (Some(board), Some([left, _])) = (&mut self.board, &self.halves) {
            board.write(left.port.region(), held as u64);
        }
        for half in self.parts().0 {
            half.flush(now)?;
        }
        if now >= self.next_check {
            self.next_check = now + LINK_CHECK;
            self.both().iter().try_for_each(Half::check_link)?;
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.both().iter().filter_map(Half::next_look).min()
    }

    fn wait(&mut self, timeout: Span) -> Result<(), PortError> {
        let interest = Interest { read: true, write: false };
        let Some([left, right]) = &mut self.halves else { return Ok(()) };
        let ports = [(&mut left.port, interest), (&mut right.port, interest)];
        // A port that has something to complain of says what at its next sync, and `flush` looks at the links.
        Port::wait(ports, timeout.to_std()).map(|_| ()).map_err(|e| port_error(&left.spec, e))
    }

    fn counters(&self, side: Side) -> PortCounters {
        let lost_restart = if side == Side::Left { self.lost_restart } else { 0 };
        PortCounters { lost_restart, ..self.half(side).counters }
    }

    fn census(&self) -> Census {
        let in_rings = self.both().iter().map(|half| open::slot_count(&half.port)).sum();
        let spare = self.spares.iter().map(Vec::len).sum();
        Census { total: in_rings + self.extra(), spare, in_rings }
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.both().iter().map(|half| half.port.fd()).collect()
    }
}

impl Originate for NetmapPort {
    /// In the left port's memory: of two memories, frames that begin here are copied on their way out to the right.
    fn begin(&mut self, len: usize) -> Option<Frame> {
        let fits = self.both()[0].port.region().buffer_size() as usize;
        let len = u16::try_from(len).ok().filter(|&len| usize::from(len) <= fits)?;
        self.spares[0].pop().map(|buffer| Frame::new(buffer, len, 0))
    }
}

impl Drop for NetmapPort {
    /// Gives all spares back. While unwinding nothing is touched: what the buffers hold is then for a keeper to find out.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let Some([left, right]) = self.halves.take() else { return };
        let [first, second] = core::mem::take(&mut self.spares);
        let board = self.board.take().map(|board| board.retire(left.port.region()));
        // A chain that cannot be read is beyond help here, and the descriptors are closed in any case.
        let _ = left.port.close(first.into_iter().chain(board));
        let _ = right.port.close(second);
        open::set_back(&[left.link, right.link], self.promiscuous);
    }
}
