//! `mem:` two ports over one pool of buffers, with no operating system behind them.
//!
//! Two media can be on the far side. [`MemPort::new`] gives an [`Outside`], a handle that puts frames on a port's
//! cable and takes off what the port transmitted; it copies, may live on another thread, and is meant for tests.
//! [`MemPort::generator`] is the medium of the in-memory benchmark: frames are written into the buffers once, `recv`
//! hands out spare buffers as if they had just arrived, and a transmitted buffer is spare again at the next `flush`.
//! No byte moves, so what is measured is the path between `recv` and `send`.
//!
//! The spare list is a stack: the buffer freed last is used first, and a short queue keeps the working set in cache.
//! This module must not look into frames; it only rewrites a buffer that somebody changed.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crossbeam::queue::ArrayQueue;

use super::{Census, Originate, PortCounters, PortError, PortPair, Side};
use crate::time::{Instant, Span};

/// Bytes in a buffer; a longer frame is counted as oversize.
pub const BUFFER_BYTES: usize = 2048;

/// Sizes of a pair.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct MemConfig {
    /// Buffers that exist. Must cover what the AQM holds plus both transmit rings.
    pub buffers: u32,
    /// Frames in each transmit ring, and on each direction of each cable. At least 1.
    pub ring: usize,
}

impl Default for MemConfig {
    /// 8,192 buffers (16 MiB) and rings of 512.
    fn default() -> Self {
        Self { buffers: 8192, ring: 512 }
    }
}

/// A buffer of a [`MemPort`] that holds a frame. Belongs to the pair that made it.
#[derive(Debug)]
pub struct Frame {
    index: u32,
    len: u16,
}

/// Two in-memory ports.
#[derive(Debug)]
pub struct MemPort {
    pool: Pool,
    tx: [TxRing; 2],
    medium: Medium,
    counters: [PortCounters; 2],
}

struct Pool {
    buffers: Vec<[u8; BUFFER_BYTES]>,
    /// Which of them somebody may have written to.
    changed: Vec<bool>,
    spares: Vec<u32>,
}

impl Pool {
    fn bytes(&self, frame: &Frame) -> &[u8] {
        &self.buffers[frame.index as usize][..usize::from(frame.len)]
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool {{ buffers: {}, spares: {} }}", self.buffers.len(), self.spares.len())
    }
}

#[derive(Debug)]
struct TxRing {
    frames: VecDeque<Frame>,
    capacity: usize,
    bytes: u64,
}

#[derive(Debug)]
enum Medium {
    Cables(Arc<Cables>),
    Generator(Generator),
}

/// Frames on their way, by side. `into` flows towards the port, `out` away from it.
#[derive(Debug)]
struct Cables {
    into: [ArrayQueue<Vec<u8>>; 2],
    out: [ArrayQueue<Vec<u8>>; 2],
    refused: [AtomicU64; 2],
    lock: Mutex<()>,
    bell: Condvar,
}

impl Cables {
    fn guard(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn quiet(&self) -> bool {
        self.into.iter().all(ArrayQueue::is_empty)
    }
}

/// The far end of both cables of a [`MemPort`]. Clones share the cables.
#[derive(Clone, Debug)]
pub struct Outside(Arc<Cables>);

impl Outside {
    /// Sends `frame` towards the port of `side`. False if the cable is full: the frame is then lost, and the port
    /// counts it under `rx_kernel_drops`.
    pub fn inject(&self, side: Side, frame: &[u8]) -> bool {
        let taken = self.0.into[side.index()].push(frame.to_vec()).is_ok();
        if taken {
            drop(self.0.guard());
            self.0.bell.notify_all();
        } else {
            self.0.refused[side.index()].fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Takes what the port of `side` transmitted, oldest first. Until this is called a full cable stops the transmit
    /// ring from draining.
    pub fn collect(&self, side: Side) -> Vec<Vec<u8>> {
        let cable = &self.0.out[side.index()];
        let mut frames = Vec::with_capacity(cable.len());
        while let Some(frame) = cable.pop() {
            frames.push(frame);
        }
        frames
    }
}

/// Buffer `i` holds frame `i % templates.len()` for ever.
#[derive(Debug)]
struct Generator {
    templates: Vec<Vec<u8>>,
    lens: Vec<u16>,
    offers: [bool; 2],
}

impl Generator {
    fn template(&self, index: u32) -> &[u8] {
        &self.templates[index as usize % self.templates.len()]
    }

    /// Makes a buffer spare, with its own frame in it.
    fn take_back(&self, frame: &Frame, pool: &mut Pool) {
        if core::mem::take(&mut pool.changed[frame.index as usize]) {
            let template = self.template(frame.index);
            pool.buffers[frame.index as usize][..template.len()].copy_from_slice(template);
        }
        pool.spares.push(frame.index);
    }
}

impl MemPort {
    /// Two ports and the far end of their cables.
    pub fn new(config: MemConfig) -> (Self, Outside) {
        let ring = config.ring.max(1);
        let queues = || [ArrayQueue::new(ring), ArrayQueue::new(ring)];
        let cables = Arc::new(Cables {
            into: queues(),
            out: queues(),
            refused: [AtomicU64::new(0), AtomicU64::new(0)],
            lock: Mutex::new(()),
            bell: Condvar::new(),
        });
        (Self::over(config, Medium::Cables(Arc::clone(&cables))), Outside(cables))
    }

    /// Two ports on which one of `frames` is always waiting, as long as a buffer is spare: an unlimited offered load
    /// on every side in `offering`, and a sink behind both transmit rings.
    ///
    /// Buffers take turns over `frames` by index. A buffer whose bytes were borrowed mutably is rewritten when it
    /// returns, so a frame that was marked CE comes back with its own codepoint.
    ///
    /// # Errors
    /// [`PortError::Spec`] if there are no frames, or one does not fit [`BUFFER_BYTES`].
    pub fn generator(config: MemConfig, frames: &[Vec<u8>], offering: &[Side]) -> Result<Self, PortError> {
        let spec = |reason: String| PortError::Spec { port: "mem:".to_owned(), reason };
        if frames.is_empty() {
            return Err(spec("a generator needs at least one frame to send".to_owned()));
        }
        if let Some(long) = frames.iter().find(|f| f.len() > BUFFER_BYTES) {
            let len = long.len();
            return Err(spec(format!(
                "a frame of {len} bytes is longer than a buffer; use at most {BUFFER_BYTES}"
            )));
        }
        let generator = Generator {
            lens: (0..config.buffers as usize).map(|i| frames[i % frames.len()].len() as u16).collect(),
            templates: frames.to_vec(),
            offers: Side::BOTH.map(|side| offering.contains(&side)),
        };
        let mut port = Self::over(config, Medium::Generator(generator));
        for (buffer, frame) in port.pool.buffers.iter_mut().zip(frames.iter().cycle()) {
            buffer[..frame.len()].copy_from_slice(frame);
        }
        Ok(port)
    }

    fn over(config: MemConfig, medium: Medium) -> Self {
        let capacity = config.ring.max(1);
        let ring = || TxRing { frames: VecDeque::with_capacity(capacity), capacity, bytes: 0 };
        Self {
            pool: Pool {
                buffers: vec![[0; BUFFER_BYTES]; config.buffers as usize],
                changed: vec![false; config.buffers as usize],
                spares: (0..config.buffers).rev().collect(),
            },
            tx: [ring(), ring()],
            medium,
            counters: [PortCounters::default(); 2],
        }
    }
}

impl PortPair for MemPort {
    type Frame = Frame;

    fn recv(&mut self, from: Side, budget: usize, batch: &mut Vec<Frame>) -> Result<(), PortError> {
        let counters = &mut self.counters[from.index()];
        match &self.medium {
            Medium::Generator(generator) => {
                if generator.offers[from.index()] {
                    let first = self.pool.spares.len() - budget.min(self.pool.spares.len());
                    counters.rx_frames += (self.pool.spares.len() - first) as u64;
                    batch.extend(
                        self.pool
                            .spares
                            .drain(first..)
                            .map(|index| Frame { index, len: generator.lens[index as usize] }),
                    );
                }
            }
            Medium::Cables(cables) => {
                for _ in 0..budget {
                    let Some(bytes) = cables.into[from.index()].pop() else { break };
                    if bytes.len() > BUFFER_BYTES {
                        counters.rx_oversize += 1;
                    } else if let Some(index) = self.pool.spares.pop() {
                        self.pool.buffers[index as usize][..bytes.len()].copy_from_slice(&bytes);
                        counters.rx_frames += 1;
                        batch.push(Frame { index, len: bytes.len() as u16 });
                    } else {
                        counters.rx_no_buffer += 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        self.pool.bytes(frame)
    }

    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        self.pool.changed[frame.index as usize] = true;
        &mut self.pool.buffers[frame.index as usize][..usize::from(frame.len)]
    }

    fn tx_room(&self, to: Side) -> usize {
        let ring = &self.tx[to.index()];
        ring.capacity - ring.frames.len()
    }

    fn tx_pending_bytes(&self, to: Side) -> u64 {
        self.tx[to.index()].bytes
    }

    fn send(&mut self, to: Side, frame: Frame, _now: Instant) -> Result<(), Frame> {
        let ring = &mut self.tx[to.index()];
        if ring.frames.len() == ring.capacity {
            return Err(frame);
        }
        ring.bytes = ring.bytes.wrapping_add(u64::from(frame.len));
        ring.frames.push_back(frame);
        let sent = &mut self.counters[to.index()].tx_frames;
        *sent = sent.wrapping_add(1);
        Ok(())
    }

    fn recycle(&mut self, frame: Frame) {
        match &self.medium {
            Medium::Generator(generator) => generator.take_back(&frame, &mut self.pool),
            Medium::Cables(_) => self.pool.spares.push(frame.index),
        }
    }

    fn flush(&mut self, _now: Instant) -> Result<(), PortError> {
        for (side, ring) in self.tx.iter_mut().enumerate() {
            match &self.medium {
                Medium::Generator(generator) => {
                    let (older, newer) = ring.frames.as_slices();
                    for frame in older.iter().chain(newer) {
                        generator.take_back(frame, &mut self.pool);
                    }
                    ring.frames.clear();
                    ring.bytes = 0;
                }
                Medium::Cables(cables) => {
                    while !cables.out[side].is_full() {
                        let Some(frame) = ring.frames.pop_front() else { break };
                        ring.bytes -= u64::from(frame.len);
                        let refused = cables.out[side].push(self.pool.bytes(&frame).to_vec()).is_err();
                        self.counters[side].tx_errors += u64::from(refused);
                        self.pool.spares.push(frame.index);
                    }
                }
            }
        }
        Ok(())
    }

    fn wait(&mut self, timeout: Span) -> Result<(), PortError> {
        match &self.medium {
            Medium::Cables(cables) => {
                let guard = cables.guard();
                if cables.quiet() {
                    drop(cables.bell.wait_timeout(guard, timeout.to_std()));
                }
            }
            Medium::Generator(generator) => {
                if !generator.offers.contains(&true) || self.pool.spares.is_empty() {
                    std::thread::sleep(timeout.to_std());
                }
            }
        }
        Ok(())
    }

    fn counters(&self, side: Side) -> PortCounters {
        let mut counters = self.counters[side.index()];
        if let Medium::Cables(cables) = &self.medium {
            counters.rx_kernel_drops = cables.refused[side.index()].load(Ordering::Relaxed);
        }
        counters
    }

    fn census(&self) -> Census {
        Census {
            total: self.pool.buffers.len(),
            spare: self.pool.spares.len(),
            in_rings: self.tx.iter().map(|ring| ring.frames.len()).sum(),
        }
    }
}

impl Originate for MemPort {
    fn begin(&mut self, len: usize) -> Option<Frame> {
        let len = u16::try_from(len).ok().filter(|&len| usize::from(len) <= BUFFER_BYTES)?;
        let index = self.pool.spares.pop()?;
        self.pool.changed[index as usize] = true;
        Some(Frame { index, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::ZERO;

    fn frames(lens: &[usize]) -> Vec<Vec<u8>> {
        lens.iter().enumerate().map(|(i, &len)| vec![i as u8 + 1; len]).collect()
    }

    #[test]
    fn a_generator_reuses_the_hottest_buffers_and_never_runs_dry() {
        let config = MemConfig { buffers: 16, ring: 4 };
        let mut port = MemPort::generator(config, &frames(&[60, 61, 62, 63]), &[Side::Left]).unwrap();
        let mut batch = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            port.recv(Side::Left, 4, &mut batch).unwrap();
            assert_eq!(batch.len(), 4);
            for frame in batch.drain(..) {
                assert_eq!(port.bytes(&frame).len(), 60 + frame.index as usize % 4);
                seen.insert(frame.index);
                port.send(Side::Right, frame, NOW).unwrap();
            }
            assert_eq!(port.tx_pending_bytes(Side::Right), 60 + 61 + 62 + 63);
            port.flush(NOW).unwrap();
            assert_eq!(port.tx_pending_bytes(Side::Right), 0);
        }
        assert_eq!(seen.len(), 4, "a stack of spares touches only as many buffers as are in use");
        assert_eq!(port.counters(Side::Left).rx_frames, 400);
        assert_eq!(port.counters(Side::Right).tx_frames, 400);
        port.recv(Side::Right, 4, &mut batch).unwrap();
        assert!(batch.is_empty(), "no load was asked for on this side");
    }

    #[test]
    fn a_generator_stops_when_all_buffers_are_held_and_goes_on_after_a_recycle() {
        let config = MemConfig { buffers: 3, ring: 4 };
        let mut port = MemPort::generator(config, &frames(&[60]), &Side::BOTH).unwrap();
        let mut batch = Vec::new();
        port.recv(Side::Left, 64, &mut batch).unwrap();
        port.recv(Side::Right, 64, &mut batch).unwrap();
        assert_eq!(batch.len(), 3);
        port.recycle(batch.pop().unwrap());
        port.recv(Side::Right, 64, &mut batch).unwrap();
        assert_eq!(batch.len(), 3);
        assert_eq!(port.counters(Side::Left).rx_frames + port.counters(Side::Right).rx_frames, 4);
    }

    #[test]
    fn a_changed_frame_of_a_generator_comes_back_as_it_was() {
        let config = MemConfig { buffers: 1, ring: 4 };
        let mut port = MemPort::generator(config, &frames(&[60]), &[Side::Left]).unwrap();
        let mut batch = Vec::new();
        for sent in [true, false] {
            port.recv(Side::Left, 1, &mut batch).unwrap();
            let mut frame = batch.pop().unwrap();
            port.bytes_mut(&mut frame)[15] = 0xff;
            if sent {
                port.send(Side::Right, frame, NOW).unwrap();
                port.flush(NOW).unwrap();
            } else {
                port.recycle(frame);
            }
            port.recv(Side::Left, 1, &mut batch).unwrap();
            let frame = batch.pop().unwrap();
            assert_eq!(port.bytes(&frame), [1; 60]);
            port.recycle(frame);
        }
    }

    #[test]
    fn a_begun_frame_is_a_spare_buffer_that_is_held_until_it_is_sent() {
        let (mut port, outside) = MemPort::new(MemConfig { buffers: 2, ring: 4 });
        assert!(port.begin(BUFFER_BYTES + 1).is_none());
        let (mut first, second) = (port.begin(60).unwrap(), port.begin(BUFFER_BYTES).unwrap());
        assert!(port.begin(60).is_none(), "both are held");
        assert_eq!(port.census(), Census { total: 2, spare: 0, in_rings: 0 });
        port.bytes_mut(&mut first).fill(7);
        port.send(Side::Left, first, NOW).unwrap();
        port.recycle(second);
        port.flush(NOW).unwrap();
        assert_eq!(outside.collect(Side::Left), [[7; 60]]);
        assert_eq!(port.census(), Census { total: 2, spare: 2, in_rings: 0 });
    }

    #[test]
    fn a_generator_refuses_what_it_cannot_send() {
        let none = MemPort::generator(MemConfig::default(), &[], &Side::BOTH).unwrap_err();
        assert!(none.to_string().contains("at least one frame"), "{none}");
        let long = MemPort::generator(MemConfig::default(), &frames(&[60, 2049]), &Side::BOTH).unwrap_err();
        assert!(long.to_string().contains("2049"), "{long}");
    }

    #[test]
    fn a_full_cable_keeps_frames_in_the_ring_and_the_ring_gives_back_what_it_cannot_take() {
        let (mut port, outside) = MemPort::new(MemConfig { buffers: 16, ring: 2 });
        let mut batch = Vec::new();
        let mut accepted = 0;
        for seq in 0..6_u8 {
            assert!(outside.inject(Side::Left, &[seq; 60]));
            port.recv(Side::Left, 8, &mut batch).unwrap();
            match port.send(Side::Right, batch.pop().unwrap(), NOW) {
                Ok(()) => accepted += 1,
                Err(frame) => port.recycle(frame),
            }
            port.flush(NOW).unwrap();
        }
        assert_eq!(accepted, 4, "two on the cable and two in the ring");
        assert_eq!(port.tx_pending_bytes(Side::Right), 120);
        assert_eq!(outside.collect(Side::Right), [[0; 60], [1; 60]]);
        port.flush(NOW).unwrap();
        assert_eq!(outside.collect(Side::Right), [[2; 60], [3; 60]]);
        assert_eq!(port.census(), Census { total: 16, spare: 16, in_rings: 0 });
        assert_eq!(port.counters(Side::Right).tx_errors, 0);
    }

    #[test]
    fn a_full_cable_towards_the_port_is_a_counted_loss() {
        let (port, outside) = MemPort::new(MemConfig { buffers: 4, ring: 2 });
        let taken = (0..5).filter(|_| outside.inject(Side::Right, &[0; 60])).count();
        assert_eq!(taken, 2);
        assert_eq!(port.counters(Side::Right).rx_kernel_drops, 3);
        assert_eq!(port.counters(Side::Left).rx_kernel_drops, 0);
    }

    #[test]
    fn a_frame_from_another_thread_ends_the_wait() {
        let (mut port, outside) = MemPort::new(MemConfig { buffers: 4, ring: 2 });
        let sender = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(5));
            outside.inject(Side::Right, &[7; 60])
        });
        let mut batch = Vec::new();
        while batch.is_empty() {
            port.wait(Span::from_secs(3600)).unwrap();
            port.recv(Side::Right, 1, &mut batch).unwrap();
        }
        assert!(sender.join().unwrap());
    }
}
