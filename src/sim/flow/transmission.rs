//! One transmission of a sender: when, and what became of it. Must not decide what is lost: that is `tcp`'s.

use crate::time::Instant;

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum State {
    UnderWay = 0,
    /// It reached the receiver, which has not said so yet.
    Received = 1,
    /// Acknowledged or given up.
    Settled = 2,
}

/// When it was sent, and a [`State`] in the two lowest bits: a long window stays in the cache.
#[derive(Copy, Clone, Debug)]
pub(super) struct Transmission(u64);

impl Transmission {
    pub(super) fn new(sent_at: Instant) -> Self {
        Self(sent_at.as_nanos() << 2)
    }

    pub(super) fn sent_at(self) -> Instant {
        Instant::from_nanos(self.0 >> 2)
    }

    pub(super) fn state(self) -> State {
        match self.0 & 3 {
            0 => State::UnderWay,
            1 => State::Received,
            _ => State::Settled,
        }
    }

    pub(super) fn set(&mut self, state: State) {
        self.0 = self.0 & !3 | state as u64;
    }
}
