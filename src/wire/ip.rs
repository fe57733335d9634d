//! The fixed headers of IPv4 (RFC 791 §3.1) and IPv6 (RFC 8200 §3): just what the egress needs, and setting CE.
//!
//! Lengths and checksums of received packets are not verified: whether a packet is worth delivering is for its
//! receiver to say. The MPLS walk alone looks at lengths, because there nothing else says that it is IP.

use super::{Ecn, checksum};

const CE: u8 = Ecn::Ce as u8;

/// An IPv4 packet whose header is whole.
#[derive(Copy, Clone, Debug)]
pub struct Ipv4<'a> {
    fixed: &'a [u8; 20],
    packet: &'a [u8],
    header_len: usize,
}

impl<'a> Ipv4<'a> {
    /// The packet at the start of `bytes`; `None` if the version is not 4, or the header with its options is not all
    /// there.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let fixed: &[u8; 20] = bytes.first_chunk()?;
        let header_len = usize::from(fixed[0] & 0x0f) * 4;
        let sound = fixed[0] >> 4 == 4 && header_len >= 20 && header_len <= bytes.len();
        sound.then_some(Self { fixed, packet: bytes, header_len })
    }

    /// The ECN codepoint.
    pub const fn ecn(&self) -> Ecn {
        Ecn::from_bits(self.fixed[1])
    }

    /// The DSCP, 0..=63.
    pub const fn dscp(&self) -> u8 {
        self.fixed[1] >> 2
    }

    /// The protocol number.
    pub const fn protocol(&self) -> u8 {
        self.fixed[9]
    }

    /// Whether this is any fragment of a packet: more fragments follow, or the offset is not 0.
    pub const fn is_fragment(&self) -> bool {
        u16::from_be_bytes([self.fixed[6], self.fixed[7]]) & 0x3fff != 0
    }

    /// Source and destination address, each in network order.
    pub const fn addresses(&self) -> [u32; 2] {
        let f = self.fixed;
        [u32::from_be_bytes([f[12], f[13], f[14], f[15]]), u32::from_be_bytes([f[16], f[17], f[18], f[19]])]
    }

    /// The first four bytes behind header and options, if they are there.
    #[inline]
    pub fn payload_start(&self) -> Option<&'a [u8; 4]> {
        self.packet.get(self.header_len..)?.first_chunk()
    }
}

/// An IPv6 packet whose fixed header is whole.
#[derive(Copy, Clone, Debug)]
pub struct Ipv6<'a> {
    fixed: &'a [u8; 40],
    packet: &'a [u8],
}

impl<'a> Ipv6<'a> {
    /// The packet at the start of `bytes`; `None` if the version is not 6, or the fixed header is not all there.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let fixed: &[u8; 40] = bytes.first_chunk()?;
        (fixed[0] >> 4 == 6).then_some(Self { fixed, packet: bytes })
    }

    /// The ECN codepoint.
    pub const fn ecn(&self) -> Ecn {
        Ecn::from_bits(self.fixed[1] >> 4)
    }

    /// The DSCP, 0..=63.
    pub const fn dscp(&self) -> u8 {
        (self.fixed[0] & 0x0f) << 2 | self.fixed[1] >> 6
    }

    /// The number of the header that follows the fixed one.
    pub const fn next_header(&self) -> u8 {
        self.fixed[6]
    }

    /// The 32 bytes of source and destination address, as four words.
    #[inline]
    pub fn addresses(&self) -> [u64; 4] {
        let (_, addresses) = self.fixed.split_at(8);
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(addresses.as_chunks().0) {
            *word = u64::from_be_bytes(*bytes);
        }
        words
    }

    /// The first four bytes behind the fixed header, if they are there.
    #[inline]
    pub fn payload_start(&self) -> Option<&'a [u8; 4]> {
        self.packet.get(40..)?.first_chunk()
    }
}

/// [`set_ce`](super::set_ce) for a packet that should be IPv4.
pub(super) fn set_ce_v4(packet: &mut [u8]) -> bool {
    if !Ipv4::new(packet).is_some_and(|packet| markable(packet.ecn())) {
        return false;
    }
    let Some(header) = packet.first_chunk_mut::<20>() else { return false };
    let old = u16::from_be_bytes([header[0], header[1]]);
    header[1] |= CE;
    let new = u16::from_be_bytes([header[0], header[1]]);
    let sum = checksum::update(u16::from_be_bytes([header[10], header[11]]), old, new);
    [header[10], header[11]] = sum.to_be_bytes();
    true
}

/// [`set_ce`](super::set_ce) for a packet that should be IPv6.
pub(super) fn set_ce_v6(packet: &mut [u8]) -> bool {
    let markable = Ipv6::new(packet).is_some_and(|packet| markable(packet.ecn()));
    if markable {
        packet[1] |= CE << 4;
    }
    markable
}

const fn markable(ecn: Ecn) -> bool {
    matches!(ecn, Ecn::Ect0 | Ecn::Ect1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10.0.0.1 to 10.0.0.2, TCP, ECT(1) with DSCP 45, checksum by hand.
    const V4: [u8; 24] = [
        0x45, 0xb5, 0x00, 0x18, 0x00, 0x00, 0x40, 0x00, 0x40, 0x06, 0x26, 0x29, 10, 0, 0, 1, 10, 0, 0, 2, 1,
        2, 3, 4,
    ];

    #[test]
    fn an_ipv4_header_reads_as_written() {
        let packet = Ipv4::new(&V4).unwrap();
        assert_eq!((packet.ecn(), packet.dscp(), packet.protocol()), (Ecn::Ect1, 45, 6));
        assert_eq!(packet.addresses(), [0x0a00_0001, 0x0a00_0002]);
        assert_eq!(packet.payload_start(), Some(&[1, 2, 3, 4]));
        assert!(!packet.is_fragment(), "don't fragment is no fragment");
    }

    #[test]
    fn an_ipv6_header_reads_as_written() {
        let mut bytes = [0; 44];
        // Traffic class 0xb6: DSCP 45, ECT(0); flow label 0xfffff.
        bytes[..8].copy_from_slice(&[0x6b, 0x6f, 0xff, 0xff, 0x00, 0x04, 17, 64]);
        bytes[15] = 1;
        bytes[39] = 2;
        bytes[43] = 9;
        let packet = Ipv6::new(&bytes).unwrap();
        assert_eq!((packet.ecn(), packet.dscp(), packet.next_header()), (Ecn::Ect0, 45, 17));
        assert_eq!(packet.addresses(), [1, 0, 0, 2]);
        assert_eq!(packet.payload_start(), Some(&[0, 0, 0, 9]));
    }

    #[test]
    fn headers_that_make_no_sense_are_refused() {
        for first in [0x35, 0x55, 0x65, 0x05] {
            let mut packet = V4;
            packet[0] = first;
            assert!(Ipv4::new(&packet).is_none(), "{first:#x}: version");
        }
        for words in 0..5 {
            let mut packet = V4;
            packet[0] = 0x40 | words;
            assert!(Ipv4::new(&packet).is_none(), "{words} words of header");
        }
        let mut options = V4;
        options[0] = 0x46;
        assert!(Ipv4::new(&options).is_some(), "24 bytes of header in 24");
        assert!(Ipv4::new(&options[..23]).is_none(), "24 bytes of header in 23");
        options[0] = 0x47;
        assert!(Ipv4::new(&options).is_none(), "28 bytes of header in 24");
        assert!(Ipv6::new(&[0x60; 39]).is_none());
        assert!(Ipv6::new(&[0x60; 40]).is_some());
        assert!(Ipv6::new(&[0x45; 40]).is_none());
    }

    #[test]
    fn every_field_of_a_fragment_makes_it_one() {
        for (flags, is) in [
            (0x0000, false),
            (0x4000, false),
            (0x8000, false),
            (0x2000, true),
            (0x0001, true),
            (0x1fff, true),
        ] {
            let mut packet = V4;
            packet[6..8].copy_from_slice(&u16::to_be_bytes(flags));
            assert_eq!(Ipv4::new(&packet).unwrap().is_fragment(), is, "{flags:#06x}");
        }
    }

    #[test]
    fn ce_changes_two_bits_and_the_checksum() {
        let mut packet = V4;
        assert!(set_ce_v4(&mut packet));
        let mut expected = V4;
        expected[1] = 0xb7;
        // ECT(1) to CE adds 2 to the first word, so the checksum loses 2.
        expected[11] = 0x27;
        assert_eq!(packet, expected);
        assert!(!set_ce_v4(&mut packet), "CE stays CE");
        assert_eq!(packet, expected);
    }
}
