//! The event queue: earliest first, and first come first served among events of the same nanosecond.

use core::cmp::Ordering;
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

#[derive(Clone, Debug)]
struct Entry {
    at: Instant,
    order: u64,
    event: Event,
}

impl Ord for Entry {
    /// Reversed: the standard library's heap has the greatest at the top.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

/// The queue.
#[derive(Clone, Debug, Default)]
pub struct Events {
    heap: BinaryHeap<Entry>,
    pushed: u64,
}

impl Events {
    /// Adds an event.
    pub fn push(&mut self, at: Instant, event: Event) {
        self.heap.push(Entry { at, order: self.pushed, event });
        self.pushed += 1;
    }

    /// Takes the next event that is due strictly before `end`.
    pub fn pop_before(&mut self, end: Instant) -> Option<(Instant, Event)> {
        if self.heap.peek()?.at >= end {
            return None;
        }
        self.heap.pop().map(|e| (e.at, e.event))
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
}
