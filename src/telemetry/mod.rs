//! What an egress tells the outside once a window: plain fixed-size data, copied whole, never a reference into the
//! packet path.

use crate::aqm::stats::Snapshot;
use crate::time::{Instant, Span};
use crate::units::BitRate;

/// One telemetry window of one direction. Counters are cumulative, so a lost window loses resolution and nothing else.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct TelemetryWindow {
    /// Windows of a direction are numbered from 0 without gaps.
    pub id: u64,
    /// When the window closed.
    pub end: Instant,
    /// How long it was.
    pub span: Span,
    /// The shaper's rate when it closed.
    pub rate: BitRate,
    /// Bits that the shaper could have sent since it was made.
    pub capacity_bits: u64,
    /// The egress at the close.
    pub egress: Snapshot,
}
