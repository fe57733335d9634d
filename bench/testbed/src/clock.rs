//! The one place where the testbed reads a clock. Traffic here is real, so time is too; nothing else may read it.

use std::time::Instant;

/// The present moment on the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "real traffic runs on the real clock; this is its only reader")]
pub fn now() -> Instant {
    Instant::now()
}
