//! The one's complement checksum of the IPv4 header, changed without being computed anew (RFC 1624).

/// The checksum after one 16-bit word of what it covers changed from `old` to `new`: equation 3 of RFC 1624,
/// HC' = ~(~HC + ~m + m').
///
/// A valid checksum stays valid, and equal to the one computed from scratch; one that is off stays off by the same
/// one's complement amount. Not defined for an all-zero header, which IPv4 does not have.
#[inline]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = !checksum as u32 + !old as u32 + new as u32;
    let once = (sum & 0xffff) + (sum >> 16);
    !((once & 0xffff) + (once >> 16)) as u16
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
