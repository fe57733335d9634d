//! What a direction received, by kind of frame and by ECN codepoint.

use crate::wire::{Ecn, FrameKind};

/// Cumulative counts of received frames.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct FrameCounts {
    /// By [`FrameKind::index`].
    pub kinds: [u64; FrameKind::ALL.len()],
    /// IP packets by codepoint, indexed by the two bits.
    pub ecn: [u64; Ecn::ALL.len()],
}

/// The counts while they are being made: one addition a frame.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct FrameMeter {
    /// By [`FrameKind::index`] and the two bits, which are 0 where the frame is not IP.
    seen: [[u64; Ecn::ALL.len()]; FrameKind::ALL.len()],
}

impl FrameMeter {
    /// Counts a frame.
    #[inline]
    pub fn add(&mut self, kind: FrameKind, ecn: Ecn) {
        let seen = &mut self.seen[kind.index()][ecn as usize];
        *seen = seen.wrapping_add(1);
    }

    /// What was counted.
    pub fn counts(&self) -> FrameCounts {
        let ip = FrameKind::ALL.into_iter().filter(|kind| kind.is_ip());
        FrameCounts {
            kinds: self.seen.map(|by_ecn| by_ecn.iter().sum()),
            ecn: core::array::from_fn(|ecn| ip.clone().map(|kind| self.seen[kind.index()][ecn]).sum()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two of IPv4 and one of IPv6 with ECT(1), one of IPv6 with CE, three of ARP, which has no codepoint.
    #[test]
    fn codepoints_are_those_of_both_versions_and_of_nothing_else() {
        let mut meter = FrameMeter::default();
        let seen =
            [(FrameKind::Ipv4, Ecn::Ect1, 2), (FrameKind::Ipv6, Ecn::Ect1, 1), (FrameKind::Ipv6, Ecn::Ce, 1)];
        for (kind, ecn, times) in seen.into_iter().chain([(FrameKind::Arp, Ecn::NotEct, 3)]) {
            (0..times).for_each(|_| meter.add(kind, ecn));
        }
        let counts = meter.counts();
        assert_eq!(counts.kinds, [2, 2, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(counts.ecn, [0, 3, 0, 1], "by the two bits");
    }
}
