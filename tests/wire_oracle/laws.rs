//! What holds for `wire` whatever the bytes are. Shared by the property tests, the replay of regressions and the fuzz
//! target.

use l4sd::wire::{Ecn, FrameKind, parse, parse_any, set_ce};

/// Panics if a law is broken for `frame`.
pub(crate) fn hold(frame: &[u8]) {
    let parsed = parse(frame);
    assert_eq!(parsed, parse(frame), "the same bytes read the same");
    assert_eq!(parsed, parse_any(frame), "the short way leads where the long one does");
    let at = usize::from(parsed.l3_offset);
    let header = match parsed.kind {
        FrameKind::Ipv4 => 20,
        FrameKind::Ipv6 => 40,
        _ => 0,
    };
    if header == 0 {
        assert_eq!((parsed.ecn, parsed.dscp, parsed.l3_offset, parsed.flow), (Ecn::NotEct, 0, 0, 0));
    } else {
        assert!(at >= 14 && at + header <= frame.len(), "a whole fixed header at {at}");
        assert_eq!(frame[at] >> 4, if header == 20 { 4 } else { 6 });
        assert_ne!(parsed.flow, 0);
        assert!(parsed.dscp < 64);
    }

    let mut marked = frame.to_vec();
    let changed = set_ce(&mut marked);
    assert_eq!(changed, matches!(parsed.ecn, Ecn::Ect0 | Ecn::Ect1), "{parsed:?}");
    if !changed {
        assert_eq!(marked, frame, "refused and yet changed");
        return;
    }
    let mut expected = frame.to_vec();
    if parsed.kind == FrameKind::Ipv4 {
        expected[at + 1] |= 0b0000_0011;
        let words = usize::from(frame[at] & 0x0f) * 2;
        let (before, after) = (sum(&frame[at..at + 2 * words]), sum(&marked[at..at + 2 * words]));
        assert_eq!(before % 0xffff, after % 0xffff, "a checksum keeps being right, or as wrong as it was");
        if before.is_multiple_of(0xffff) {
            let mut anew = expected[at..at + 2 * words].to_vec();
            anew[10..12].fill(0);
            let fresh = 0xffff - fold(sum(&anew));
            assert_eq!(marked[at + 10..at + 12], fresh.to_be_bytes(), "equal to the full computation");
        }
        expected[at + 10..at + 12].copy_from_slice(&marked[at + 10..at + 12]);
    } else {
        expected[at + 1] |= 0b0011_0000;
    }
    assert_eq!(marked, expected, "only the ECN bits and the checksum change");
    let again = parse(&marked);
    assert_eq!((again.ecn, again.dscp, again.flow), (Ecn::Ce, parsed.dscp, parsed.flow));
    assert!(!set_ce(&mut marked), "CE is not set twice");
    assert_eq!(marked, expected);
}

/// Sum of the big-endian words of a header.
fn sum(header: &[u8]) -> u64 {
    header.chunks_exact(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(pair[1])).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
