//! The one's complement checksum of IPv4 and UDP (RFC 1071), and changing it without computing it anew (RFC 1624).

/// The one's complement sum of the 16-bit words of `bytes`, not folded; an odd last byte counts as the high half of a
/// word. `bytes` are at most 64 KiB, so that the sum cannot overflow.
#[inline]
pub fn sum(bytes: &[u8]) -> u32 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |&byte| u32::from(byte) << 8);
    pairs.iter().map(|&pair| u32::from(u16::from_be_bytes(pair))).sum::<u32>() + last
}

/// The checksum of what sums to `sum`: folded to 16 bits, and its complement.
#[inline]
pub const fn of(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    !((once & 0xffff) + (once >> 16)) as u16
}

/// The checksum after one 16-bit word of what it covers changed from `old` to `new`: equation 3 of RFC 1624,
/// HC' = ~(~HC + ~m + m').
///
/// A valid checksum stays valid, and equal to the one computed from scratch; one that is off stays off by the same
/// one's complement amount. Not defined for an all-zero header, which IPv4 does not have.
#[inline]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    of(!checksum as u32 + !old as u32 + new as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole computation of RFC 1071 §4.1, over words without the checksum itself.
    fn full(words: &[u16]) -> u16 {
        let mut sum: u64 = words.iter().map(|&w| u64::from(w)).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    /// RFC 1071 §3: the words 0001 f203 f4f5 f6f7 sum to 2ddf0, which folds to ddf2.
    #[test]
    fn the_example_of_rfc_1071_section_3() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0x2ddf0);
        assert_eq!(of(0x2ddf0), !0xddf2);
        assert_eq!(sum(&[0x00, 0x01, 0xf2]), 0xf201, "an odd byte is followed by a zero");
    }

    #[test]
    fn the_example_of_rfc_1624_section_4() {
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn every_first_word_and_every_codepoint_equals_the_full_computation() {
        // The rest of the header: ordinary, all ones, nearly nothing, and one that puts the sum near each carry.
        let rests = [
            [0x1234, 0xabcd, 0x4006],
            [0xffff, 0xffff, 0xffff],
            [0, 0, 1],
            [0x8000, 0x7fff, 0],
            [0, 0xfffe, 0],
        ];
        for rest in rests {
            for word in 0..=u16::MAX {
                for new in [word | 3, word ^ 1, word ^ 2, !word] {
                    let before = full(&[word, rest[0], rest[1], rest[2]]);
                    let after = full(&[new, rest[0], rest[1], rest[2]]);
                    assert_eq!(update(before, word, new), after, "{word:#06x} to {new:#06x} with {rest:x?}");
                }
            }
        }
    }

    #[test]
    fn both_representations_of_zero_lead_to_the_same_checksum() {
        // RFC 1624 §3: equation 2 would give 0xffff where the header sums to 0xffff. The word 0x45fd changes to
        // 0x45ff, and the rest brings the new sum to all ones, whose complement is 0x0000.
        let rest = 0xffff - 0x45ff;
        assert_eq!(update(full(&[0x45fd, rest]), 0x45fd, 0x45ff), 0x0000);
        // The other way round, a stored 0x0000 and a stored 0xffff both stand for a header that sums to all ones.
        let rest = 0xffff - 0x45fd;
        assert_eq!(full(&[0x45fd, rest]), 0x0000);
        assert_eq!(update(0x0000, 0x45fd, 0x45ff), 0xfffd);
        assert_eq!(update(0xffff, 0x45fd, 0x45ff), 0xfffd);
        assert_eq!(full(&[0x45ff, rest]), 0xfffd);
    }
}
