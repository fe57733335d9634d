//! The event queue: earliest first, and first come first served among events of the same nanosecond.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Instant;

/// What happens. Numbers are indices of flows.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A flow begins.
    Start(u32),
    /// A flow ends: nothing more is sent.
    Stop(u32),
    /// The oldest packet of a flow under way to the bottleneck reaches it.
    Arrive(u32),
    /// The link of the bottleneck may be free.
    LinkFree,
    /// The capacity of the link changes.
    Capacity,
    /// The oldest acknowledgement under way to this flow's sender arrives.
    Ack(u32),
    /// The pacer of a flow lets the next packet go; a source begins its next burst or flow.
    Paced(u32),
    /// The retransmission timer of a flow may have expired.
    Timeout(u32),
    /// The delayed-acknowledgement timer of a flow's receiver may have expired.
    AckTimer(u32),
}

/// An event is its time in the high half, then the order of pushing, then what happens: one comparison of two numbers.
type Entry = u128;

const FLOW_BITS: u32 = 24;
const KIND_BITS: u32 = 4;
const ORDER_BITS: u32 = 64 - FLOW_BITS - KIND_BITS;

impl Event {
    const fn pack(self) -> u64 {
        let (kind, flow) = match self {
            Self::Start(flow) => (0, flow),
            Self::Stop(flow) => (1, flow),
            Self::Arrive(flow) => (2, flow),
            Self::LinkFree => (3, 0),
            Self::Capacity => (4, 0),
            Self::Ack(flow) => (5, flow),
            Self::Paced(flow) => (6, flow),
            Self::Timeout(flow) => (7, flow),
            Self::AckTimer(flow) => (8, flow),
        };
        (kind << FLOW_BITS) | flow as u64
    }

    const fn unpack(packed: u64) -> Self {
        let flow = (packed & ((1 << FLOW_BITS) - 1)) as u32;
        match (packed >> FLOW_BITS) & ((1 << KIND_BITS) - 1) {
            0 => Self::Start(flow),
            1 => Self::Stop(flow),
            2 => Self::Arrive(flow),
            3 => Self::LinkFree,
            4 => Self::Capacity,
            5 => Self::Ack(flow),
            6 => Self::Paced(flow),
            7 => Self::Timeout(flow),
            _ => Self::AckTimer(flow),
        }
    }
}

/// The queue. Flows are below 2^24, and at most 2^36 events are pushed: some ten thousand million packets.
#[derive(Clone, Debug, Default)]
pub struct Events {
    heap: BinaryHeap<Reverse<Entry>>,
    pushed: u64,
}

impl Events {
    /// Adds an event.
    #[inline]
    pub fn push(&mut self, at: Instant, event: Event) {
        debug_assert!(self.pushed < 1 << ORDER_BITS, "more events than their order has bits for");
        let low = (self.pushed << (FLOW_BITS + KIND_BITS)) | event.pack();
        self.heap.push(Reverse(Entry::from(at.as_nanos()) << 64 | Entry::from(low)));
        self.pushed += 1;
    }

    /// Takes the next event that is due strictly before `end`.
    #[inline]
    pub fn pop_before(&mut self, end: Instant) -> Option<(Instant, Event)> {
        let at = |entry: Entry| Instant::from_nanos((entry >> 64) as u64);
        if at(self.heap.peek()?.0) >= end {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (at(entry), Event::unpack(entry as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_first_and_then_the_order_of_pushing() {
        let mut q = Events::default();
        let at = Instant::from_nanos;
        for (t, f) in [(5, 0), (3, 1), (5, 2), (3, 3), (4, 4), (9, 5)] {
            q.push(at(t), Event::Ack(f));
        }
        let mut seen = Vec::new();
        while let Some((t, Event::Ack(f))) = q.pop_before(at(9)) {
            seen.push((t.as_nanos(), f));
        }
        assert_eq!(seen, [(3, 1), (3, 3), (4, 4), (5, 0), (5, 2)], "what is due at the end itself stays");
    }

    #[test]
    fn every_event_comes_back_as_it_was() {
        let most = (1 << FLOW_BITS) - 1;
        for event in [
            Event::Start(0),
            Event::Stop(most),
            Event::Arrive(7),
            Event::LinkFree,
            Event::Capacity,
            Event::Ack(most),
            Event::Paced(1),
            Event::Timeout(most),
            Event::AckTimer(3),
        ] {
            assert_eq!(Event::unpack((0xabc << (FLOW_BITS + KIND_BITS)) | event.pack()), event);
        }
    }
}
