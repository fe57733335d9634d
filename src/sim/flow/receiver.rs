//! A receiver: which packets it answers, and when.

use crate::time::{Instant, Span};

/// How long an acknowledgement waits for a second packet; Linux's, within the 500 ms of RFC 5681 §4.2.
pub const ACK_DELAY: Span = Span::from_millis(40);

/// An acknowledgement: everything that has arrived up to a transmission.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Ack {
    /// The last transmission that it covers.
    pub newest: u64,
    /// Packets with CE among those that it covers first.
    pub ce: u32,
}

/// The state of a receiver.
#[derive(Clone, Debug)]
pub struct Receiver {
    delayed: bool,
    pending: u32,
    ce: u32,
    newest: Option<u64>,
    last_was_ce: bool,
    due: Option<Instant>,
}

impl Receiver {
    /// A receiver that delays acknowledgements, or one that does not.
    pub const fn new(delayed: bool) -> Self {
        Self { delayed, pending: 0, ce: 0, newest: None, last_was_ce: false, due: None }
    }

    /// When the acknowledgement that waits must go at the latest.
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes packet `transmission`, which arrives at `at`. Returns the acknowledgement that it brings about.
    pub fn receive(&mut self, transmission: u64, ce: bool, at: Instant) -> Option<Ack> {
        let in_order = self.newest.is_none_or(|newest| newest + 1 == transmission);
        let same_mark = self.last_was_ce == ce;
        self.newest = Some(transmission);
        self.last_was_ce = ce;
        self.pending += 1;
        self.ce += u32::from(ce);
        // RFC 5681 §4.2: every second segment, and at once after a gap; RFC 8257 §3.2: at once when the mark changes.
        if !self.delayed || self.pending >= 2 || !in_order || !same_mark {
            return self.answer();
        }
        self.due = Some(at + ACK_DELAY);
        None
    }

    /// The acknowledgement that waits, if it is due at `now`.
    pub fn expire(&mut self, now: Instant) -> Option<Ack> {
        if self.due.is_some_and(|due| due <= now) { self.answer() } else { None }
    }

    fn answer(&mut self) -> Option<Ack> {
        let ack = Ack { newest: self.newest?, ce: self.ce };
        (self.pending, self.ce, self.due) = (0, 0, None);
        Some(ack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_packet_and_at_once_after_a_gap_or_a_change_of_mark() {
        let mut r = Receiver::new(true);
        let at = Instant::from_millis;
        assert_eq!(r.receive(0, false, at(0)), None);
        assert_eq!(r.receive(1, false, at(1)), Some(Ack { newest: 1, ce: 0 }));
        assert_eq!(r.receive(2, true, at(2)), Some(Ack { newest: 2, ce: 1 }), "first CE");
        assert_eq!(r.receive(3, true, at(3)), None);
        assert_eq!(r.receive(5, true, at(4)), Some(Ack { newest: 5, ce: 2 }), "after a gap");
        assert_eq!(r.receive(6, true, at(5)), None);
        assert_eq!((r.due(), r.expire(at(44))), (Some(at(45)), None));
        assert_eq!(r.expire(at(45)), Some(Ack { newest: 6, ce: 1 }));
        assert_eq!((r.due(), r.expire(at(99))), (None, None));
        let mut each = Receiver::new(false);
        assert_eq!(each.receive(0, false, at(0)), Some(Ack { newest: 0, ce: 0 }));
    }
}
