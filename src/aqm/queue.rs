//! A FIFO of fixed capacity that knows its bytes and the age of its head. Packets never move: an entry is a handle and
//! 16 bytes of what an AQM needs at departure.

use std::collections::VecDeque;

use super::stats::Backlog;
use super::{Packet, PacketMeta, Service};
use crate::time::{Instant, Span};
use crate::wire::Ecn;

/// A waiting packet.
#[derive(Clone, Debug)]
pub struct Entry<H> {
    /// The driver's handle.
    pub handle: H,
    /// When it was enqueued.
    pub arrival: Instant,
    /// Bytes on the link.
    pub len: u16,
    /// Its ECN field.
    pub ecn: Ecn,
    flags: u8,
}

const IP: u8 = 1;
const FOUND_COMPANY: u8 = 2;

impl<H> Entry<H> {
    /// An entry for a packet that found `ahead` packets in its queue, `company` of which are needed before the
    /// native L4S AQM may act on it.
    pub fn new(handle: H, meta: PacketMeta, now: Instant, found_company: bool) -> Self {
        let flags = if meta.ip { IP } else { 0 } | if found_company { FOUND_COMPANY } else { 0 };
        Self { handle, arrival: now, len: meta.len, ecn: meta.ecn, flags }
    }

    /// It is an IP packet.
    pub const fn is_ip(&self) -> bool {
        self.flags & IP != 0
    }

    /// It did not arrive at a (nearly) empty queue: TH_LEN of RFC 9332 Appendix A is met.
    pub const fn found_company(&self) -> bool {
        self.flags & FOUND_COMPANY != 0
    }

    /// The packet as it leaves `service` after `sojourn`.
    pub fn depart(self, service: Service, sojourn: Span) -> Packet<H> {
        Packet { handle: self.handle, len: self.len, ecn: self.ecn, service, sojourn }
    }
}

/// The FIFO.
#[derive(Clone, Debug)]
pub struct Fifo<H> {
    entries: VecDeque<Entry<H>>,
    bytes: u64,
    capacity: usize,
}

impl<H> Fifo<H> {
    /// A queue for up to `capacity` packets, allocated now. (A clone, which only simulations make, has memory for what
    /// waits in it and grows.)
    pub fn with_capacity(capacity: u32) -> Self {
        let capacity = capacity as usize;
        Self { entries: VecDeque::with_capacity(capacity), bytes: 0, capacity }
    }

    /// Appends a packet. The caller keeps to the capacity.
    pub fn push(&mut self, entry: Entry<H>) {
        debug_assert!(self.entries.len() < self.capacity, "the limit keeps a queue within its capacity");
        self.bytes += u64::from(entry.len);
        self.entries.push_back(entry);
    }

    /// Takes the oldest packet.
    pub fn pop(&mut self) -> Option<Entry<H>> {
        let entry = self.entries.pop_front()?;
        self.bytes -= u64::from(entry.len);
        if self.entries.is_empty() {
            // Rewinds the ring, so that a short queue keeps to a few cache lines.
            self.entries.clear();
        }
        Some(entry)
    }

    /// The oldest packet.
    pub fn head(&self) -> Option<&Entry<H>> {
        self.entries.front()
    }

    /// When the oldest packet arrived.
    pub fn head_arrival(&self) -> Option<Instant> {
        self.entries.front().map(|e| e.arrival)
    }

    /// How long the oldest packet has waited at `now`; zero if there is none (RFC 9332 Appendix A, `headdelay`).
    pub fn head_delay(&self, now: Instant) -> Span {
        self.entries.front().map_or(Span::ZERO, |e| now.since(e.arrival))
    }

    /// No packet waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Packets and bytes waiting.
    pub fn backlog(&self) -> Backlog {
        Backlog { packets: self.entries.len() as u32, bytes: self.bytes }
    }

    /// Bytes waiting.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets waiting.
    pub fn packets(&self) -> u32 {
        self.entries.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_at_most_24_bytes() {
        assert_eq!(size_of::<Entry<u32>>(), 16);
        assert!(size_of::<Entry<u64>>() <= 24);
    }

    #[test]
    fn order_bytes_and_head_age() {
        let meta = |len| PacketMeta { len, ecn: Ecn::Ect0, nqb: false, ip: true, flow: 0 };
        let mut q = Fifo::with_capacity(8);
        assert_eq!(q.head_delay(Instant::from_millis(5)), Span::ZERO);
        q.push(Entry::new(1u32, meta(100), Instant::from_millis(1), false));
        q.push(Entry::new(2u32, meta(50), Instant::from_millis(2), true));
        assert_eq!(q.backlog(), Backlog { packets: 2, bytes: 150 });
        assert_eq!(q.head_delay(Instant::from_millis(5)), Span::from_millis(4));
        let first = q.pop().unwrap();
        assert_eq!((first.handle, first.found_company()), (1, false));
        let second = q.pop().unwrap();
        assert_eq!((second.handle, second.found_company(), second.is_ip()), (2, true, true));
        assert_eq!((q.bytes(), q.pop().is_none()), (0, true));
    }
}
