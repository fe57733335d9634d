//! What a direction received, by kind of frame and by ECN codepoint.

use crate::wire::{Ecn, FrameKind, Parsed};

/// Cumulative counts of received frames.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct FrameCounts {
    /// By [`FrameKind::index`].
    pub kinds: [u64; FrameKind::ALL.len()],
    /// IP packets by codepoint, indexed by the two bits.
    pub ecn: [u64; Ecn::ALL.len()],
}

impl FrameCounts {
    /// Counts a frame.
    pub fn add(&mut self, frame: &Parsed) {
        self.kinds[frame.kind.index()] += 1;
        if frame.kind.is_ip() {
            self.ecn[frame.ecn as usize] += 1;
        }
    }
}
