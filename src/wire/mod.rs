//! Bytes of a frame down to the ECN field, and nothing further.
//!
//! [`parse`] is total: any bytes give a [`Parsed`], without panic, allocation or a loop longer than the headers that
//! it crosses. What it cannot follow to an IP header is a frame without ECN field and is left alone: the codepoint is
//! Not-ECT, and [`set_ce`] refuses it. Nothing here changes a byte other than the two ECN bits and the IPv4 checksum.
//!
//! One file a layer: [`ethernet`] from the addresses to the IP header, [`ip`] the headers of both versions, [`flow`]
//! the hash of a flow, [`checksum`] the sums of RFC 1071 and RFC 1624, [`ecn`] the codepoints. [`build`] goes the other
//! way: it makes the frames of generators and benchmarks.

pub mod build;
pub mod checksum;
pub mod ecn;
pub mod ethernet;
pub mod flow;
pub mod ip;
mod kind;

pub use ecn::Ecn;
pub use kind::FrameKind;

use ethernet::Network;
use ip::{Ipv4, Ipv6};

/// What the forwarder knows about a frame, in as many bytes as a register has.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Parsed {
    /// What the frame carries.
    pub kind: FrameKind,
    /// The ECN codepoint; Not-ECT if the frame is not IP.
    pub ecn: Ecn,
    /// The DSCP, 0..=63; 0 if the frame is not IP.
    pub dscp: u8,
    /// Offset of the IP header in the frame; 0 if the frame is not IP.
    pub l3_offset: u8,
    /// A hash of addresses, protocol and ports (see [`flow`]), never 0 for IP; 0 if the frame is not IP.
    pub flow: u32,
}

impl Parsed {
    const fn without_ip(kind: FrameKind) -> Self {
        Self { kind, ecn: Ecn::NotEct, dscp: 0, l3_offset: 0, flow: 0 }
    }
}

/// Reads a frame, from the destination address on and without FCS.
#[inline]
pub fn parse(frame: &[u8]) -> Parsed {
    match plain_ipv4(frame) {
        Some(packet) => of_ipv4(&packet, ethernet::PLAIN_L3_OFFSET),
        None => parse_any(frame),
    }
}

/// The packet in the frame that most frames are, untagged IPv4 without options: a loop keeps this in sight, and
/// [`parse_any`] out of it. None for any other.
#[inline]
pub fn plain_ipv4(frame: &[u8]) -> Option<Ipv4<'_>> {
    ethernet::plain_ipv4(frame).and_then(Ipv4::new)
}

/// As [`parse`], whatever the frame is.
#[inline(never)]
pub fn parse_any(frame: &[u8]) -> Parsed {
    match ethernet::network(frame) {
        Network::Ipv4(at) => match frame.get(at..).and_then(Ipv4::new) {
            Some(packet) => of_ipv4(&packet, at),
            None => Parsed::without_ip(FrameKind::Malformed),
        },
        Network::Ipv6(at) => match frame.get(at..).and_then(Ipv6::new) {
            Some(packet) => Parsed {
                kind: FrameKind::Ipv6,
                ecn: packet.ecn(),
                dscp: packet.dscp(),
                l3_offset: at as u8,
                flow: flow::of_ipv6(&packet),
            },
            None => Parsed::without_ip(FrameKind::Malformed),
        },
        Network::Other(kind) => Parsed::without_ip(kind),
    }
}

#[inline]
fn of_ipv4(packet: &Ipv4<'_>, at: usize) -> Parsed {
    Parsed {
        kind: FrameKind::Ipv4,
        ecn: packet.ecn(),
        dscp: packet.dscp(),
        l3_offset: at as u8,
        flow: flow::of_ipv4(packet),
    }
}

/// Sets the ECN field to CE if it is ECT(0) or ECT(1), with the IPv4 header checksum following; says whether it did.
///
/// Not-ECT, CE and frames that are not IP stay as they are (RFC 9331 §5.1, RFC 3168 §5). A valid IPv4 checksum stays
/// valid; an invalid one stays as far off as it was.
#[inline]
pub fn set_ce(frame: &mut [u8]) -> bool {
    match ethernet::network(frame) {
        Network::Ipv4(at) => frame.get_mut(at..).is_some_and(ip::set_ce_v4),
        Network::Ipv6(at) => frame.get_mut(at..).is_some_and(ip::set_ce_v6),
        Network::Other(_) => false,
    }
}
