//! The only place that reads a clock. A `clippy` ban keeps it so.

use std::time::{Instant as StdInstant, SystemTime, UNIX_EPOCH};

use crate::time::{Instant, Span};

/// Where a driver's time comes from.
pub trait Clock {
    /// The time now.
    fn now(&self) -> Instant;

    /// Lets `span` pass without doing anything.
    fn sleep(&self, span: Span);
}

/// The operating system's monotonic clock, counted from when this value was made. Copies share the origin.
#[derive(Copy, Clone, Debug)]
pub struct Monotonic {
    origin: StdInstant,
}

impl Monotonic {
    /// A clock at zero.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn start() -> Self {
        Self { origin: StdInstant::now() }
    }
}

impl Clock for Monotonic {
    fn now(&self) -> Instant {
        Instant::ZERO + Span::from(self.origin.elapsed())
    }

    fn sleep(&self, span: Span) {
        l4sd_host::sleep(span.to_std());
    }
}

/// Seconds since 1970, for log lines and metrics about the outside world; never for anything that forwards.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}
