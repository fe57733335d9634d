//! What a frame carries, as far as the forwarder and its counters tell frames apart.

/// The kind of a frame.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// IPv4, behind whatever tags and labels.
    Ipv4,
    /// IPv6, behind whatever tags and labels.
    Ipv6,
    /// ARP (ethertype 0x0806).
    Arp,
    /// Spanning tree (LLC 0x42; IEEE 802.1D §9).
    Stp,
    /// Link aggregation control (slow protocols, ethertype 0x8809, subtype 1; IEEE 802.1AX §6.4).
    Lacp,
    /// Link layer discovery (ethertype 0x88cc).
    Lldp,
    /// MAC control to its group address (802.3x PAUSE, priority flow control; IEEE 802.3 §31): meant for the next
    /// station on the link, so the forwarder does not pass it on.
    Pause,
    /// Anything else that is not IP.
    OtherNonIp,
    /// Cut off before the header that it announces, or with an IP header that makes no sense.
    Malformed,
}

impl FrameKind {
    /// All kinds in the order of [`FrameKind::index`].
    pub const ALL: [Self; 9] = [
        Self::Ipv4,
        Self::Ipv6,
        Self::Arp,
        Self::Stp,
        Self::Lacp,
        Self::Lldp,
        Self::Pause,
        Self::OtherNonIp,
        Self::Malformed,
    ];

    /// The name that metrics and result files use.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Arp => "arp",
            Self::Stp => "stp",
            Self::Lacp => "lacp",
            Self::Lldp => "lldp",
            Self::Pause => "pause",
            Self::OtherNonIp => "other_non_ip",
            Self::Malformed => "malformed",
        }
    }

    /// The position in [`FrameKind::ALL`], to index counters with.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether the frame has an ECN field that was found.
    pub const fn is_ip(self) -> bool {
        matches!(self, Self::Ipv4 | Self::Ipv6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_every_kind_at_its_index_under_its_own_name() {
        for (i, kind) in FrameKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), i);
        }
        let names: std::collections::BTreeSet<_> = FrameKind::ALL.map(FrameKind::label).into();
        assert_eq!(names.len(), 9);
        assert_eq!(FrameKind::ALL.map(FrameKind::is_ip).iter().filter(|&&ip| ip).count(), 2);
    }
}
