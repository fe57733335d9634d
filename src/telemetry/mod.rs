//! What an egress tells the outside once a window: plain fixed-size data, copied whole, never a reference into the
//! packet path.

pub mod arrivals;
pub mod delays;
pub mod features;
pub mod frames;
pub mod sketch;

pub use frames::{FrameCounts, FrameMeter};

use core::fmt;

use arrivals::ArrivalStats;

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
    /// What arrived, beyond the counters of the queues.
    pub arrivals: ArrivalStats,
}

#[cfg(test)]
impl TelemetryWindow {
    /// A window of 16 ms at 40 Mbit/s in which nothing arrived.
    pub(crate) fn quiet(id: u64, end: Instant) -> Self {
        Self {
            id,
            end,
            span: Span::from_millis(16),
            rate: BitRate::from_mbps(40),
            capacity_bits: 640_000,
            egress: Snapshot::default(),
            arrivals: ArrivalStats::default(),
        }
    }
}

/// One of the two directions of a bridge, each with its own bottleneck.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
pub enum Direction {
    /// Frames received on the left port.
    LeftToRight,
    /// Frames received on the right port.
    RightToLeft,
}

impl Direction {
    /// Both directions.
    pub const BOTH: [Self; 2] = [Self::LeftToRight, Self::RightToLeft];

    /// 0 for left to right, 1 for right to left.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// `left_to_right` or `right_to_left`, as metrics and result files spell it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::LeftToRight => "left_to_right",
            Self::RightToLeft => "right_to_left",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeftToRight => "left to right",
            Self::RightToLeft => "right to left",
        })
    }
}
