//! What a frame of the generator carries in the first bytes of its UDP payload, big-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | `4c 34` ("L4") |
//! | 2 | number of the trial |
//! | 3 | codepoint that it was sent with |
//! | 4..10 | sequence number, among the frames of one codepoint and IP version |
//! | 10..18 | time of sending, nanoseconds on the generator's clock |

use crate::time::Instant;
use crate::wire::build::IpVersion;
use crate::wire::{Ecn, FrameKind, Parsed};

/// Bytes of a stamp: as many as the shortest Ethernet frame with IPv4 and UDP has room for.
pub const BYTES: usize = 18;

const MAGIC: [u8; 2] = *b"L4";

/// A stamp.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// Number of the trial, so that a frame that is late does not count in the next.
    pub trial: u8,
    /// Codepoint that the frame was sent with.
    pub ecn: Ecn,
    /// Sequence number, below 2^48, among the frames of one codepoint and IP version.
    pub seq: u64,
    /// When it was sent.
    pub sent: Instant,
}

impl Stamp {
    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> [u8; BYTES] {
        let mut b = [0; BYTES];
        b[..2].copy_from_slice(&MAGIC);
        b[2] = self.trial;
        b[3] = self.ecn as u8;
        b[4..10].copy_from_slice(&self.seq.to_be_bytes()[2..]);
        b[10..].copy_from_slice(&self.sent.as_nanos().to_be_bytes());
        b
    }

    /// The stamp of a frame, if it is one of a generator's.
    #[inline]
    pub fn read(frame: &[u8], parsed: &Parsed) -> Option<Self> {
        let version = match parsed.kind {
            FrameKind::Ipv4 => IpVersion::V4,
            FrameKind::Ipv6 => IpVersion::V6,
            _ => return None,
        };
        let at = usize::from(parsed.l3_offset) + version.payload() - crate::wire::build::L3;
        let b: &[u8; BYTES] = frame.get(at..)?.first_chunk()?;
        if b[..2] != MAGIC || b[3] > 3 {
            return None;
        }
        let word = |bytes: &[u8]| bytes.iter().fold(0_u64, |word, &byte| word << 8 | u64::from(byte));
        Some(Self {
            trial: b[2],
            ecn: Ecn::from_bits(b[3]),
            seq: word(&b[4..10]),
            sent: Instant::from_nanos(word(&b[10..])),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::build::UdpFrame;
    use crate::wire::parse;

    const STAMP: Stamp = Stamp {
        trial: 7,
        ecn: Ecn::Ect0,
        seq: 0x0102_0304_0506,
        sent: Instant::from_nanos(0x1122_3344_5566_7788),
    };

    #[test]
    fn the_layout_is_the_documented_one() {
        let expected = [0x4c, 0x34, 7, 2, 1, 2, 3, 4, 5, 6, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];
        assert_eq!(STAMP.bytes(), expected);
    }

    #[test]
    fn a_stamp_is_found_behind_either_ip_and_behind_tags_and_nowhere_else() {
        for version in IpVersion::BOTH {
            let len = version.payload() + BYTES;
            let mut frame = UdpFrame { version, ecn: Ecn::Ect1, len, flow: 0 }.bytes();
            assert_eq!(Stamp::read(&frame, &parse(&frame)), None, "zeros are no stamp");
            frame[version.payload()..].copy_from_slice(&STAMP.bytes());
            assert_eq!(Stamp::read(&frame, &parse(&frame)), Some(STAMP));
            assert_eq!(Stamp::read(&frame[..len - 1], &parse(&frame)), None, "cut off");
            frame.splice(12..12, [0x81, 0x00, 0, 5]);
            assert_eq!(Stamp::read(&frame, &parse(&frame)), Some(STAMP));
        }
        assert_eq!(Stamp::read(&[0; 60], &parse(&[0; 60])), None);
    }
}
