//! From the first byte of a frame to its IP header: Ethernet II and 802.3, up to four VLAN tags, PPPoE sessions, MPLS.
//!
//! Not followed, and so without ECN field: IP in LLC/SNAP, more than [`MAX_TAGS`] tags or [`MAX_LABELS`] labels,
//! MACsec, tunnels inside IP.

use super::FrameKind;

/// VLAN tags that are looked behind.
pub const MAX_TAGS: usize = 4;

/// MPLS labels that are looked behind; a bound on work per frame.
pub const MAX_LABELS: usize = 16;

const TYPE_AT: usize = 12;
const PAUSE_GROUP: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x01];

mod ethertype {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const ARP: u16 = 0x0806;
    pub(super) const VLAN: u16 = 0x8100;
    pub(super) const IPV6: u16 = 0x86dd;
    pub(super) const MAC_CONTROL: u16 = 0x8808;
    pub(super) const SLOW: u16 = 0x8809;
    pub(super) const MPLS: u16 = 0x8847;
    pub(super) const MPLS_UPSTREAM: u16 = 0x8848;
    pub(super) const PPPOE_SESSION: u16 = 0x8864;
    pub(super) const SERVICE_VLAN: u16 = 0x88a8;
    pub(super) const LLDP: u16 = 0x88cc;
    pub(super) const OLD_SERVICE_VLAN: u16 = 0x9100;
    /// Smaller values are the length of an 802.3 frame (IEEE 802.3 §3.2.6).
    pub(super) const FIRST: u16 = 0x0600;
}

/// What lies behind the link layer.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Network {
    /// The frame says that an IPv4 header starts at this offset, at most [`MAX_L3_OFFSET`]. Its bytes were not read.
    Ipv4(usize),
    /// The same for IPv6.
    Ipv6(usize),
    /// No IP header was announced.
    Other(FrameKind),
}

/// The largest offset in [`Network`].
pub const MAX_L3_OFFSET: usize = TYPE_AT + 4 * MAX_TAGS + 2 + 4 * MAX_LABELS;

/// Where the IP header of an untagged frame starts.
pub const PLAIN_L3_OFFSET: usize = TYPE_AT + 2;

/// The first bytes of the packet in the frame that most frames are, so that all there is to know of it is known after
/// one look at its length: untagged, IPv4 without options, four bytes or more behind the header. None for any other.
#[inline]
pub(super) fn plain_ipv4(frame: &[u8]) -> Option<&[u8]> {
    const NO_OPTIONS: u8 = 0x45;
    let start: &[u8; PLAIN_L3_OFFSET + 20 + 4] = frame.first_chunk()?;
    let kind = u16::from_be_bytes([start[TYPE_AT], start[TYPE_AT + 1]]);
    let plain = kind == ethertype::IPV4 && start[PLAIN_L3_OFFSET] == NO_OPTIONS;
    plain.then_some(&start[PLAIN_L3_OFFSET..])
}

/// Finds the network layer of a frame.
#[inline]
pub fn network(frame: &[u8]) -> Network {
    let mut at = TYPE_AT;
    for _ in 0..=MAX_TAGS {
        let Some(kind) = be16(frame, at) else { return Network::Other(FrameKind::Malformed) };
        match kind {
            ethertype::IPV4 => return Network::Ipv4(at + 2),
            ethertype::IPV6 => return Network::Ipv6(at + 2),
            ethertype::VLAN | ethertype::SERVICE_VLAN | ethertype::OLD_SERVICE_VLAN => at += 4,
            other => return behind_rare_type(frame, at, other),
        }
    }
    Network::Other(FrameKind::OtherNonIp)
}

#[cold]
fn behind_rare_type(frame: &[u8], at: usize, kind: u16) -> Network {
    let body = at + 2;
    Network::Other(match kind {
        ethertype::PPPOE_SESSION => return pppoe(frame, body),
        ethertype::MPLS | ethertype::MPLS_UPSTREAM => return mpls(frame, body),
        ethertype::ARP => FrameKind::Arp,
        ethertype::LLDP => FrameKind::Lldp,
        ethertype::MAC_CONTROL if at == TYPE_AT && frame.starts_with(&PAUSE_GROUP) => FrameKind::Pause,
        ethertype::SLOW => match frame.get(body) {
            Some(1) => FrameKind::Lacp,
            Some(_) => FrameKind::OtherNonIp,
            None => FrameKind::Malformed,
        },
        length if length < ethertype::FIRST => match frame.get(body..body + 2) {
            Some([0x42, 0x42]) => FrameKind::Stp,
            Some(_) => FrameKind::OtherNonIp,
            None => FrameKind::Malformed,
        },
        _ => FrameKind::OtherNonIp,
    })
}

/// RFC 2516 §4: version and type 1, code 0 for data, session, length; then the PPP protocol number.
fn pppoe(frame: &[u8], at: usize) -> Network {
    const HEADER: usize = 6;
    const PPP_IPV4: u16 = 0x0021;
    const PPP_IPV6: u16 = 0x0057;
    let (Some(start), Some(protocol)) = (be16(frame, at), be16(frame, at + HEADER)) else {
        return Network::Other(FrameKind::Malformed);
    };
    match (start, protocol) {
        (0x1100, PPP_IPV4) => Network::Ipv4(at + HEADER + 2),
        (0x1100, PPP_IPV6) => Network::Ipv6(at + HEADER + 2),
        _ => Network::Other(FrameKind::OtherNonIp),
    }
}

/// Walks the label stack (RFC 3032 §2.1) to its bottom.
///
/// Labels do not say what they carry, and the first nibble behind them is only a hint: an Ethernet pseudowire may
/// start with an address that looks like an IP version (RFC 4928 §2, RFC 8469). Marking such a frame would damage
/// somebody's payload. So it is IP only if its own length agrees with the frame's.
fn mpls(frame: &[u8], mut at: usize) -> Network {
    const BOTTOM: u8 = 0x01;
    for _ in 0..MAX_LABELS {
        let Some(&[_, _, flags, _]) = frame.get(at..).and_then(<[u8]>::first_chunk) else {
            return Network::Other(FrameKind::Malformed);
        };
        at += 4;
        if flags & BOTTOM != 0 {
            let Some(nibble) = frame.get(at).map(|byte| byte >> 4) else {
                return Network::Other(FrameKind::Malformed);
            };
            return match nibble {
                4 if fills(frame, at, be16(frame, at + 2).map(usize::from)) => Network::Ipv4(at),
                6 if fills(frame, at, be16(frame, at + 4).map(|n| usize::from(n) + 40)) => Network::Ipv6(at),
                _ => Network::Other(FrameKind::OtherNonIp),
            };
        }
    }
    Network::Other(FrameKind::OtherNonIp)
}

/// Whether a packet of `len` bytes at `at` ends where the frame does, or before the padding of a shortest frame.
fn fills(frame: &[u8], at: usize, len: Option<usize>) -> bool {
    const SHORTEST: usize = 60;
    len.is_some_and(|len| at + len == frame.len() || (at + len < frame.len() && frame.len() <= SHORTEST))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|&pair| u16::from_be_bytes(pair))
}
