//! A cheap hash that packets of one flow share: addresses, protocol, and ports where the first header behind IP has
//! them.
//!
//! Any fragment is hashed without ports, so that all fragments of a packet agree; so are packets with IPv6 extension
//! headers, of which only the number of the first is used. The hash ignores everything that routers change (DSCP, ECN,
//! hop limit) and what differs between packets of a flow. It is for sketches that count flows: unkeyed, so whoever
//! sends the packets can make them collide.

use super::ip::{Ipv4, Ipv6};

/// Protocols whose header starts with two 16-bit ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 33 | 132 | 136)
}

/// The flow of an IPv4 packet, never 0.
#[inline]
pub fn of_ipv4(packet: &Ipv4<'_>) -> u32 {
    let [source, destination] = packet.addresses();
    let with_ports = has_ports(packet.protocol()) && !packet.is_fragment();
    let ports = if with_ports { packet.payload_start() } else { None };
    finish(u64::from(source) << 32 | u64::from(destination), packet.protocol(), ports)
}

/// The flow of an IPv6 packet, never 0.
#[inline]
pub fn of_ipv6(packet: &Ipv6<'_>) -> u32 {
    let [source_high, source_low, destination_high, destination_low] = packet.addresses();
    let ports = if has_ports(packet.next_header()) { packet.payload_start() } else { None };
    let addresses = mix(source_high ^ SALT[0], source_low ^ SALT[1])
        ^ mix(destination_high ^ SALT[2], destination_low ^ SALT[3]).rotate_left(29);
    finish(addresses, packet.next_header(), ports)
}

#[inline]
fn finish(addresses: u64, protocol: u8, ports: Option<&[u8; 4]>) -> u32 {
    let ports = ports.map_or(0, |bytes| u64::from(u32::from_be_bytes(*bytes)));
    let mixed = mix(addresses ^ SALT[0], (ports << 8 | u64::from(protocol)) ^ SALT[1]);
    ((mixed ^ mixed >> 32) as u32).max(1)
}

/// Fractional parts of the square roots of 2, 3, 5 and 7: arbitrary words with many bits set, so that no ordinary
/// address makes a factor zero.
const SALT: [u64; 4] =
    [0x6a09_e667_f3bc_c908, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1];

/// Both halves of the 128-bit product, folded.
#[inline]
const fn mix(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}
