//! A pair that is counted after every step: each buffer that it was opened with is in exactly one ring slot, among the
//! spares, or held.

use std::collections::BTreeSet;

use l4sd::port::netmap::{Frame, NetmapPort};
use l4sd::port::{Census, PortCounters, PortError, PortPair, Side};
use l4sd::time::{Instant, Span};

pub(crate) struct Audited {
    pub(crate) port: NetmapPort,
    granted: [Vec<u32>; 2],
    held: [BTreeSet<u32>; 2],
}

impl Audited {
    pub(crate) fn new(port: NetmapPort) -> Self {
        let granted = port.whereabouts().map(|(slots, spares)| {
            let mut all = [slots, spares].concat();
            all.sort_unstable();
            assert!(all.windows(2).all(|w| w[0] != w[1]), "granted once");
            all
        });
        Self { port, granted, held: Default::default() }
    }

    fn release(&mut self, frame: &Frame) {
        assert!(self.held[frame.memory()].remove(&frame.index()), "held");
    }
}

impl PortPair for Audited {
    type Frame = Frame;

    fn recv(&mut self, from: Side, budget: usize, batch: &mut Vec<Frame>) -> Result<(), PortError> {
        let before = batch.len();
        self.port.recv(from, budget, batch)?;
        for frame in &batch[before..] {
            assert!(self.held[frame.memory()].insert(frame.index()), "buffer {} twice", frame.index());
        }
        Ok(())
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
        let (memory, index) = (frame.memory(), frame.index());
        self.port.send(to, frame, now)?;
        assert!(self.held[memory].remove(&index), "held");
        Ok(())
    }

    fn recycle(&mut self, frame: Frame) {
        self.release(&frame);
        self.port.recycle(frame);
    }

    fn flush(&mut self, now: Instant) -> Result<(), PortError> {
        self.port.flush(now)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.port.next_deadline()
    }

    fn wait(&mut self, timeout: Span) -> Result<(), PortError> {
        self.port.wait(timeout)
    }

    fn counters(&self, side: Side) -> PortCounters {
        self.port.counters(side)
    }

    fn census(&self) -> Census {
        for (((slots, spares), held), granted) in
            self.port.whereabouts().into_iter().zip(&self.held).zip(&self.granted)
        {
            let found = slots.len() + spares.len() + held.len();
            let end = granted.last().map_or(0, |last| *last as usize + 1);
            let mut places = vec![0_u8; end];
            for index in slots.into_iter().chain(spares).chain(held.iter().copied()) {
                if let Some(n) = places.get_mut(index as usize) {
                    *n += 1;
                }
            }
            let once = granted.iter().all(|index| places[*index as usize] == 1) && found == granted.len();
            assert!(once, "slots, spares and held frames are not what was granted");
        }
        self.port.census()
    }
}
