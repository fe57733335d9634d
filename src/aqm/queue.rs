//! A FIFO of fixed capacity that knows its bytes and the age of its head. Packets never move: an entry is a handle and
//! 16 bytes of what an AQM needs at departure.

use std::collections::VecDeque;

use super::params::MTU_BYTES;
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
    /// Its ECN field, as its two bits: no value is left over for an `Option` to use, which would have to compare.
    ecn: u8,
    flags: u8,
}

const IP: u8 = 1;
const FOUND_COMPANY: u8 = 2;

impl<H> Entry<H> {
    /// An entry for a packet that found `ahead` packets in its queue, `company` of which are needed before the
    /// native L4S AQM may act on it.
    #[inline]
    pub fn new(handle: H, meta: PacketMeta, now: Instant, found_company: bool) -> Self {
        let flags = (u8::from(meta.ip) * IP) | (u8::from(found_company) * FOUND_COMPANY);
        Self { handle, arrival: now, len: meta.len, ecn: meta.ecn as u8, flags }
    }

    /// Its ECN field.
    #[inline]
    pub const fn ecn(&self) -> Ecn {
        Ecn::from_bits(self.ecn)
    }

    /// It is an IP packet.
    #[inline]
    pub const fn is_ip(&self) -> bool {
        self.flags & IP != 0
    }

    /// It did not arrive at a (nearly) empty queue: TH_LEN of RFC 9332 Appendix A is met.
    #[inline]
    pub const fn found_company(&self) -> bool {
        self.flags & FOUND_COMPANY != 0
    }

    /// The packet as it leaves `service` after `sojourn`.
    #[inline]
    pub fn depart(self, service: Service, sojourn: Span) -> Packet<H> {
        Packet { ecn: self.ecn(), len: self.len, handle: self.handle, service, sojourn }
    }
}

/// The bytes from which on a buffer of `limit` bytes has no room for another MTU.
pub(super) const fn full_bytes(limit: u64) -> u64 {
    limit.saturating_sub(MTU_BYTES as u64 - 1)
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
    #[inline]
    pub fn push(&mut self, entry: Entry<H>) {
        debug_assert!(self.entries.len() < self.capacity, "the limit keeps a queue within its capacity");
        self.bytes = self.bytes.wrapping_add(u64::from(entry.len));
        self.entries.push_back(entry);
    }

    /// Takes the oldest packet.
    #[inline]
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
    #[inline]
    pub fn head(&self) -> Option<&Entry<H>> {
        self.entries.front()
    }

    /// How long the oldest packet has waited at `now`; zero if there is none (RFC 9332 Appendix A, `headdelay`).
    pub fn head_delay(&self, now: Instant) -> Span {
        self.entries.front().map_or(Span::ZERO, |e| now.since(e.arrival))
    }

    /// No packet waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Packets and bytes waiting.
    pub fn backlog(&self) -> Backlog {
        Backlog { packets: self.entries.len() as u32, bytes: self.bytes }
    }

    /// Bytes waiting.
    #[inline]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets waiting.
    #[inline]
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

    /// 10,000 bytes with one more MTU of 1,514 fit from 8,486 waiting downwards.
    #[test]
    fn full_is_without_room_for_another_mtu() {
        for limit in [0, 1_513, 1_514, 10_000, u64::MAX] {
            for waiting in [0, 1, 8_486, 8_487, 10_000] {
                let full = u128::from(waiting) + u128::from(MTU_BYTES) > u128::from(limit);
                assert_eq!(waiting >= full_bytes(limit), full, "{waiting} of {limit}");
            }
        }
        assert_eq!(full_bytes(10_000), 8_487);
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
