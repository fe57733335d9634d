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

impl Ack {
    /// One that says what this and a `later` one say.
    #[must_use]
    pub const fn followed_by(self, later: Self) -> Self {
        Self { newest: later.newest, ce: self.ce + later.ce }
    }
}

/// How a receiver says which packets carried CE. Either way an acknowledgement counts them exactly.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Feedback {
    /// A flag that is the same for all packets of an acknowledgement: RFC 8257 §3.2.
    Echo,
    /// A counter: RFC 9768.
    Counter,
}

/// The state of a receiver.
#[derive(Clone, Debug)]
pub struct Receiver {
    delayed: bool,
    feedback: Feedback,
    pending: u32,
    ce: u32,
    newest: Option<u64>,
    last_was_ce: bool,
    due: Option<Instant>,
}

impl Receiver {
    /// A receiver that delays acknowledgements, or one that does not.
    pub const fn new(delayed: bool, feedback: Feedback) -> Self {
        Self { delayed, feedback, pending: 0, ce: 0, newest: None, last_was_ce: false, due: None }
    }

    /// When the acknowledgement that waits must go at the latest.
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes packet `transmission`, which arrives at `at`. Returns the acknowledgements that it brings about, in order.
    pub fn receive(&mut self, transmission: u64, ce: bool, at: Instant) -> impl Iterator<Item = Ack> + use<> {
        let in_order = self.newest.is_none_or(|newest| newest + 1 == transmission);
        let same_mark = self.last_was_ce == ce;
        // RFC 8257 §3.2: what waits is acknowledged in the old state, so that the flag is true of all of it.
        let separate = !same_mark && self.pending > 0 && self.feedback == Feedback::Echo;
        let before = if separate { self.answer() } else { None };
        self.newest = Some(transmission);
        self.last_was_ce = ce;
        self.pending += 1;
        self.ce += u32::from(ce);
        // RFC 5681 §4.2: every second segment, and at once after a gap. RFC 8257 §3.2, RFC 9768 §3.2.2.5.1: at once when
        // the mark changes; the latter asks for it only where CE begins.
        let after = if !self.delayed || self.pending >= 2 || !in_order || !same_mark {
            self.answer()
        } else {
            self.due = Some(at + ACK_DELAY);
            None
        };
        before.into_iter().chain(after)
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

    fn answers(r: &mut Receiver, transmission: u64, ce: bool, at: Instant) -> Vec<Ack> {
        r.receive(transmission, ce, at).collect()
    }

    #[test]
    fn every_second_packet_and_at_once_after_a_gap_or_a_change_of_mark() {
        let mut r = Receiver::new(true, Feedback::Counter);
        let at = Instant::from_millis;
        assert_eq!(answers(&mut r, 0, false, at(0)), []);
        assert_eq!(answers(&mut r, 1, false, at(1)), [Ack { newest: 1, ce: 0 }]);
        assert_eq!(answers(&mut r, 2, true, at(2)), [Ack { newest: 2, ce: 1 }], "first CE");
        assert_eq!(answers(&mut r, 3, true, at(3)), []);
        assert_eq!(answers(&mut r, 5, true, at(4)), [Ack { newest: 5, ce: 2 }], "after a gap");
        assert_eq!(answers(&mut r, 6, true, at(5)), []);
        assert_eq!((r.due(), r.expire(at(44))), (Some(at(45)), None));
        assert_eq!(r.expire(at(45)), Some(Ack { newest: 6, ce: 1 }));
        assert_eq!((r.due(), r.expire(at(99))), (None, None));
        let mut each = Receiver::new(false, Feedback::Echo);
        assert_eq!(answers(&mut each, 0, false, at(0)), [Ack { newest: 0, ce: 0 }]);
    }

    /// RFC 8257 §3.2: what waits goes in the old state, what has come in the new one; alone, one acknowledgement does.
    #[test]
    fn an_echo_is_the_same_for_all_packets_of_an_acknowledgement() {
        let at = Instant::from_millis;
        let run = |feedback| {
            let mut r = Receiver::new(true, feedback);
            let marks = [false, true, true, false, false, false, true, true];
            let all: Vec<_> = (0u64..).zip(marks).map(|(n, ce)| answers(&mut r, n, ce, at(n))).collect();
            assert_eq!(r.due(), Some(at(47)), "the last one waits");
            all
        };
        let ack = |newest, ce| Ack { newest, ce };
        let echo = [
            vec![],
            vec![ack(0, 0), ack(1, 1)],
            vec![],
            vec![ack(2, 1), ack(3, 0)],
            vec![],
            vec![ack(5, 0)],
            vec![ack(6, 1)],
            vec![],
        ];
        assert_eq!(run(Feedback::Echo), echo);
        let counted = run(Feedback::Counter);
        assert_eq!((&counted[1], &counted[3]), (&vec![ack(1, 1)], &vec![ack(3, 1)]));
    }
}
