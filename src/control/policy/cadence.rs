//! When a policy chooses: at a link's first window, and once a period from then on.

use crate::time::{Instant, Span};

/// A window is as late as the forwarder woke up, and the one that the grid of choices goes by may have been later than
/// others: a choice must not slip by a window for that. Less than the shortest window.
const EARLY: Span = Span::from_micros(500);

/// The grid of choices on one link.
#[derive(Copy, Clone, Debug)]
pub struct Cadence {
    period: Span,
    next: Instant,
}

impl Cadence {
    /// Of a link that has not begun.
    pub const fn new(period: Span) -> Self {
        Self { period, next: Instant::ZERO }
    }

    /// A link begins anew; its first choice is due at `first`.
    pub const fn begin(&mut self, first: Instant) {
        self.next = first;
    }

    /// Whether there is a choice after a window that ends at `end`; one that ends a little early is meant as well.
    pub fn is_due(&self, end: Instant) -> bool {
        end + EARLY >= self.next
    }

    /// The choice after the window that ends at `end` is made.
    pub fn made(&mut self, end: Instant) {
        self.next = (self.next + self.period).max(end);
    }
}
