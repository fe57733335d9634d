//! Frames that l4sd makes itself, for generators and benchmarks: Ethernet II, IPv4 or IPv6, UDP.
//!
//! Addresses are those set aside for benchmarks (198.18.0.0/15 of RFC 2544, 2001:2::/48 of RFC 5180), the destination
//! port is discard (RFC 863), and flows differ by their source port. Checksums are right. What is made here is read by
//! [`parse`](super::parse) like any other frame; nothing here reads one.

use super::{Ecn, checksum};

/// Where the IP header starts.
pub const L3: usize = 14;
/// Source port of flow 0: the first dynamic port (RFC 6335 §6).
pub const FIRST_PORT: u16 = 49_152;
/// The destination port.
pub const DISCARD: u16 = 9;
/// Flows that [`UdpFrame::flow`] tells apart.
pub const FLOWS: u16 = u16::MAX - FIRST_PORT + 1;

const DESTINATION: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SOURCE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const UDP: u8 = 17;
const HOPS: u8 = 64;

/// The version of IP in a frame.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpVersion {
    /// Both, IPv4 first.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Offset of the UDP header in a frame.
    pub const fn l4(self) -> usize {
        match self {
            Self::V4 => L3 + 20,
            Self::V6 => L3 + 40,
        }
    }

    /// Offset of the UDP payload in a frame, which is the shortest frame there is.
    pub const fn payload(self) -> usize {
        self.l4() + 8
    }
}

/// A UDP datagram in a frame, its payload zeros.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct UdpFrame {
    /// IPv4 or IPv6.
    pub version: IpVersion,
    /// The codepoint.
    pub ecn: Ecn,
    /// Bytes from the destination address, without FCS: at least [`IpVersion::payload`].
    pub len: usize,
    /// Number of the flow, below [`FLOWS`].
    pub flow: u16,
}

impl UdpFrame {
    /// The frame.
    ///
    /// # Panics
    /// If it is shorter than its headers, longer than an IPv4 packet can be, or of a flow that has no port.
    pub fn bytes(&self) -> Vec<u8> {
        let (version, l4) = (self.version, self.version.l4());
        assert!(self.len >= version.payload() && self.len <= 65_535 + L3, "no frame has {} bytes", self.len);
        assert!(self.flow < FLOWS, "flow {} has no port", self.flow);
        let mut f = vec![0; self.len];
        f[..6].copy_from_slice(&DESTINATION);
        f[6..12].copy_from_slice(&SOURCE);
        match version {
            IpVersion::V4 => self.ipv4(&mut f),
            IpVersion::V6 => self.ipv6(&mut f),
        }
        f[l4..l4 + 2].copy_from_slice(&(FIRST_PORT + self.flow).to_be_bytes());
        f[l4 + 2..l4 + 4].copy_from_slice(&DISCARD.to_be_bytes());
        f[l4 + 4..l4 + 6].copy_from_slice(&((self.len - l4) as u16).to_be_bytes());
        let sum = udp_sum(&f, version);
        set_udp_checksum(&mut f, l4, sum);
        f
    }

    fn ipv4(&self, f: &mut [u8]) {
        f[12..14].copy_from_slice(&0x0800_u16.to_be_bytes());
        f[14] = 0x45;
        f[15] = self.ecn as u8;
        f[16..18].copy_from_slice(&((self.len - L3) as u16).to_be_bytes());
        f[22] = HOPS;
        f[23] = UDP;
        f[26..30].copy_from_slice(&[198, 18, 0, 1]);
        f[30..34].copy_from_slice(&[198, 18, 0, 2]);
        let sum = checksum::of(checksum::sum(&f[L3..L3 + 20]));
        f[24..26].copy_from_slice(&sum.to_be_bytes());
    }

    fn ipv6(&self, f: &mut [u8]) {
        f[12..14].copy_from_slice(&0x86dd_u16.to_be_bytes());
        f[14] = 0x60;
        f[15] = (self.ecn as u8) << 4;
        f[18..20].copy_from_slice(&((self.len - self.version.l4()) as u16).to_be_bytes());
        f[20] = UDP;
        f[21] = HOPS;
        f[22..26].copy_from_slice(&[0x20, 0x01, 0x00, 0x02]);
        f[37] = 1;
        f[38..42].copy_from_slice(&[0x20, 0x01, 0x00, 0x02]);
        f[53] = 2;
    }
}

/// The sum that the UDP checksum of a frame of [`UdpFrame`] is of (RFC 768, RFC 8200 §8.1), without the checksum field:
/// addresses, protocol, length, ports and payload. A field that was zero when the sum was taken may be filled in later
/// by adding its own [`checksum::sum`].
pub fn udp_sum(frame: &[u8], version: IpVersion) -> u32 {
    let l4 = version.l4();
    let addresses = match version {
        IpVersion::V4 => &frame[L3 + 12..l4],
        IpVersion::V6 => &frame[L3 + 8..l4],
    };
    let udp = &frame[l4..];
    let pseudo = checksum::sum(addresses) + u32::from(UDP) + udp.len() as u32;
    pseudo + checksum::sum(&udp[..6]) + checksum::sum(&udp[8..])
}

/// Writes the UDP checksum of what sums to `sum` into the UDP header at `l4`. A checksum of zero is sent as all ones,
/// because zero says that there is none.
#[inline]
pub fn set_udp_checksum(frame: &mut [u8], l4: usize, sum: u32) {
    let checksum = match checksum::of(sum) {
        0 => 0xffff,
        other => other,
    };
    frame[l4 + 6..l4 + 8].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{FrameKind, parse, set_ce};
    use etherparse::SlicedPacket;

    fn frame(version: IpVersion, ecn: Ecn, len: usize, flow: u16) -> Vec<u8> {
        UdpFrame { version, ecn, len, flow }.bytes()
    }

    /// Another implementation finds the same headers and computes the same checksums.
    #[test]
    fn an_independent_parser_agrees_with_every_field() {
        for version in IpVersion::BOTH {
            for (len, flow) in [(version.payload(), 0), (83, 1), (84, 77), (1514, FLOWS - 1)] {
                for ecn in Ecn::ALL {
                    let f = frame(version, ecn, len, flow);
                    assert_eq!(f.len(), len);
                    let packet = SlicedPacket::from_ethernet(&f).unwrap();
                    let Some(etherparse::TransportSlice::Udp(udp)) = packet.transport else {
                        panic!("{packet:?}")
                    };
                    assert_eq!((udp.source_port(), udp.destination_port()), (FIRST_PORT + flow, DISCARD));
                    assert_eq!(udp.payload().len(), len - version.payload());
                    let header = udp.to_header();
                    let expected = match packet.net.unwrap() {
                        etherparse::NetSlice::Ipv4(ip) => {
                            let ip = ip.header().to_header();
                            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                            assert_eq!(usize::from(ip.total_len), len - 14);
                            header.calc_checksum_ipv4(&ip, udp.payload()).unwrap()
                        }
                        etherparse::NetSlice::Ipv6(ip) => {
                            let ip = ip.header().to_header();
                            assert_eq!(usize::from(ip.payload_length), len - 54);
                            header.calc_checksum_ipv6(&ip, udp.payload()).unwrap()
                        }
                        other @ etherparse::NetSlice::Arp(_) => panic!("{other:?}"),
                    };
                    assert_eq!(udp.checksum(), expected, "{version:?} {ecn:?} {len} {flow}");
                }
            }
        }
    }

    #[test]
    fn our_own_parser_and_marker_take_them() {
        for (version, kind) in [(IpVersion::V4, FrameKind::Ipv4), (IpVersion::V6, FrameKind::Ipv6)] {
            for ecn in Ecn::ALL {
                let mut f = frame(version, ecn, 84, 3);
                let parsed = parse(&f);
                assert_eq!((parsed.kind, parsed.ecn, parsed.l3_offset), (kind, ecn, L3 as u8));
                assert_eq!(set_ce(&mut f), matches!(ecn, Ecn::Ect0 | Ecn::Ect1));
            }
            let flows: std::collections::BTreeSet<u32> =
                (0..64).map(|flow| parse(&frame(version, Ecn::Ect1, 84, flow)).flow).collect();
            assert_eq!(flows.len(), 64, "flows differ by their port");
        }
    }

    #[test]
    fn a_payload_filled_in_later_adds_its_own_sum() {
        for version in IpVersion::BOTH {
            let mut f = frame(version, Ecn::Ect1, 100, 0);
            let before = udp_sum(&f, version);
            let at = version.payload();
            let payload = [0xff, 0xfe, 3, 4, 5, 6];
            f[at..at + 6].copy_from_slice(&payload);
            assert_eq!(checksum::of(udp_sum(&f, version)), checksum::of(before + checksum::sum(&payload)));
        }
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_all_ones() {
        let mut f = frame(IpVersion::V6, Ecn::Ect1, 62, 0);
        set_udp_checksum(&mut f, 54, 0xffff);
        assert_eq!(f[60..62], [0xff, 0xff]);
    }
}
