//! `wire` against etherparse on generated frames, against hand-built vectors where etherparse does not go, and against
//! its own laws on any bytes.

mod laws;

use etherparse::{EtherType, LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket};
use l4sd::wire::{Ecn, FrameKind, parse, set_ce};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const ADDRESSES: [u8; 12] = [0x02, 0, 0, 0, 0, 0x0b, 0x02, 0, 0, 0, 0, 0x0a];
const TPIDS: [u16; 3] = [0x8100, 0x88a8, 0x9100];

/// An IP packet to be built.
#[derive(Clone, Debug)]
struct Ip {
    v6: bool,
    /// DSCP and ECN.
    class: u8,
    addresses: [u8; 32],
    protocol: u8,
    ttl: u8,
    /// IPv4 flags and fragment offset.
    fragment: u16,
    /// IPv4 options, in words.
    options: usize,
    payload: Vec<u8>,
}

impl Ip {
    fn plain(v6: bool, class: u8) -> Self {
        let addresses = std::array::from_fn(|i| i as u8 * 7 + 1);
        Self {
            v6,
            class,
            addresses,
            protocol: 6,
            ttl: 64,
            fragment: 0,
            options: 0,
            payload: (0..24).collect(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let a = &self.addresses;
        let mut out = Vec::new();
        if self.v6 {
            out.extend(&[0x60 | self.class >> 4, self.class << 4 | 0x0b, 0xcd, 0xef]);
            out.extend((self.payload.len() as u16).to_be_bytes());
            out.extend([self.protocol, self.ttl]);
            out.extend(a);
        } else {
            let header = 20 + 4 * self.options;
            out.extend([0x40 | (header / 4) as u8, self.class]);
            out.extend(((header + self.payload.len()) as u16).to_be_bytes());
            out.extend([0x12, 0x34]);
            out.extend(self.fragment.to_be_bytes());
            out.extend([self.ttl, self.protocol, 0, 0]);
            out.extend(&a[..8]);
            out.extend(std::iter::repeat_n(1, 4 * self.options));
            let sum = etherparse::Ipv4HeaderSlice::from_slice(&out)
                .expect("a header")
                .to_header()
                .calc_header_checksum();
            out[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        out.extend(&self.payload);
        out
    }

    const fn ethertype(&self) -> u16 {
        if self.v6 { 0x86dd } else { 0x0800 }
    }

    fn frame(&self, tags: &[(u16, u16)]) -> Vec<u8> {
        framed(tags, self.ethertype(), &[&self.bytes()])
    }
}

fn framed(tags: &[(u16, u16)], ethertype: u16, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = ADDRESSES.to_vec();
    for (tpid, tci) in tags {
        out.extend(tpid.to_be_bytes());
        out.extend(tci.to_be_bytes());
    }
    out.extend(ethertype.to_be_bytes());
    for part in parts {
        out.extend(*part);
    }
    out
}

prop_compose! {
    fn any_ip()(
        v6: bool,
        class: u8,
        addresses: [u8; 32],
        protocol in prop_oneof![select(vec![6_u8, 17, 1, 58, 44, 0, 43, 51, 60, 33, 132, 136, 4, 41]), any::<u8>()],
        ttl: u8,
        fragment in prop_oneof![Just(0_u16), Just(0x4000), any::<u16>()],
        options in prop_oneof![Just(0_usize), 0..=10_usize],
        payload in vec(any::<u8>(), 0..80),
    ) -> Ip {
        Ip { v6, class, addresses, protocol, ttl, fragment, options, payload }
    }
}

fn any_tags(most: usize) -> impl Strategy<Value = Vec<(u16, u16)>> {
    vec((select(TPIDS.to_vec()), any::<u16>()), 0..=most)
}

/// What etherparse sees: version, ECN bits, DSCP and offset of an IP header that its link layer announces. It looks at
/// the version nibble only, whatever the ethertype says, and into MACsec without encryption, where a mark would break the
/// integrity check; a forwarder does neither.
fn oracle(frame: &[u8]) -> Option<(FrameKind, u8, u8, usize)> {
    let sliced = LaxSlicedPacket::from_ethernet(frame).ok()?;
    if sliced.link_exts.iter().any(|ext| matches!(ext, LaxLinkExtSlice::Macsec(_))) {
        return None;
    }
    let announced = match sliced.link_exts.last() {
        Some(ext) => ext.payload().map(|payload| payload.ether_type)?,
        None => sliced.link.as_ref()?.ether_payload()?.ether_type,
    };
    let at = |header: &[u8]| header.as_ptr() as usize - frame.as_ptr() as usize;
    match sliced.net? {
        LaxNetSlice::Ipv4(ip) if announced == EtherType::IPV4 => {
            let header = ip.header();
            Some((FrameKind::Ipv4, header.ecn().value(), header.dcp().value(), at(header.slice())))
        }
        LaxNetSlice::Ipv6(ip) if announced == EtherType::IPV6 => {
            let header = ip.header();
            Some((FrameKind::Ipv6, header.ecn().value(), header.dscp().value(), at(header.slice())))
        }
        _ => None,
    }
}

/// Both readings of a frame agree, on what they read and on what they cannot. Etherparse gives up behind three tags
/// and follows neither PPPoE nor MPLS.
fn agree(frame: &[u8]) {
    let ours = parse(frame);
    let theirs = oracle(frame);
    if let Some((kind, ecn, dscp, at)) = theirs {
        assert_eq!(
            (ours.kind, ours.ecn as u8, ours.dscp, usize::from(ours.l3_offset)),
            (kind, ecn, dscp, at),
            "{frame:02x?}"
        );
    } else {
        let mut behind_tags = frame.get(12..).unwrap_or_default();
        let mut tags = 0;
        while TPIDS.iter().any(|tpid| behind_tags.starts_with(&tpid.to_be_bytes())) {
            behind_tags = behind_tags.get(4..).unwrap_or_default();
            tags += 1;
        }
        let beyond = tags > 3 || matches!(behind_tags, [0x88, 0x64 | 0x47 | 0x48, ..]);
        assert!(beyond || !ours.kind.is_ip(), "etherparse finds no IP in {frame:02x?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_etherparse_on_whole_frames_and_on_every_prefix(ip in any_ip(), tags in any_tags(3)) {
        let frame = ip.frame(&tags);
        prop_assert!(oracle(&frame).is_some(), "the generator makes what etherparse can read");
        for end in 0..=frame.len() {
            agree(&frame[..end]);
            laws::hold(&frame[..end]);
        }
    }

    #[test]
    fn agrees_with_etherparse_on_damaged_frames(
        ip in any_ip(),
        tags in any_tags(4),
        damage in vec((0..64_usize, any::<u8>()), 1..6),
    ) {
        let mut frame = ip.frame(&tags);
        for (at, byte) in damage {
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
            agree(&frame);
            laws::hold(&frame);
        }
    }

    #[test]
    fn laws_hold_for_any_bytes_behind_any_ethertype(
        bytes in vec(any::<u8>(), 0..200),
        tags in any_tags(5),
        ethertype in prop_oneof![
            select(vec![0x0800_u16, 0x86dd, 0x8864, 0x8847, 0x8848, 0x8808, 0x8809, 0x0806, 0x0026, 0x88cc]),
            any::<u16>(),
        ],
    ) {
        laws::hold(&bytes);
        agree(&bytes);
        let frame = framed(&tags, ethertype, &[&bytes]);
        for end in 0..=frame.len() {
            laws::hold(&frame[..end]);
        }
    }

    #[test]
    fn a_codepoint_is_found_behind_four_tags_pppoe_and_mpls(
        ip in any_ip(),
        tags in any_tags(4),
        labels in vec(any::<[u8; 3]>(), 1..=16),
        session: u16,
    ) {
        let packet = ip.bytes();
        let expected = (if ip.v6 { FrameKind::Ipv6 } else { FrameKind::Ipv4 }, ip.class & 3, ip.class >> 2);
        let plain = ip.frame(&tags);
        let flow = parse(&plain).flow;
        let in_pppoe = framed(&tags, 0x8864, &[&pppoe(session, ip.v6, packet.len()), &packet]);
        let in_mpls = framed(&tags, 0x8847, &[&stack(&labels), &packet]);
        for frame in [plain, in_pppoe, in_mpls] {
            let parsed = parse(&frame);
            prop_assert_eq!((parsed.kind, parsed.ecn as u8, parsed.dscp), expected);
            prop_assert_eq!(&frame[usize::from(parsed.l3_offset)..], &packet[..]);
            prop_assert_eq!(parsed.flow, flow, "the link layer is no part of the flow");
            laws::hold(&frame);
        }
    }

    #[test]
    fn a_flow_is_what_its_packets_share(ip in any_ip(), class: u8, ttl: u8, payload in vec(any::<u8>(), 0..40)) {
        let flow = parse(&ip.frame(&[])).flow;
        let mut other = Ip { class, ttl, ..ip.clone() };
        prop_assert_eq!(parse(&other.frame(&[])).flow, flow, "DSCP, ECN and hop limit change on the way");
        if ip.payload.len() >= 4 {
            other.payload = [&ip.payload[..4], &payload].concat();
            prop_assert_eq!(parse(&other.frame(&[])).flow, flow, "the payload is no part of the flow");
        }
        let first = Ip { fragment: 0x2000, ..ip.clone() };
        let last = Ip { fragment: 0x0007, payload, ..ip.clone() };
        if !ip.v6 {
            prop_assert_eq!(parse(&first.frame(&[])).flow, parse(&last.frame(&[])).flow, "all fragments agree");
        }
    }
}

fn pppoe(session: u16, v6: bool, len: usize) -> Vec<u8> {
    let protocol: u16 = if v6 { 0x0057 } else { 0x0021 };
    let mut out = vec![0x11, 0x00];
    for word in [session, len as u16 + 2, protocol] {
        out.extend(word.to_be_bytes());
    }
    out
}

/// A label stack with the bottom bit on the last entry only.
fn stack(labels: &[[u8; 3]]) -> Vec<u8> {
    let mut out: Vec<u8> = labels.iter().flat_map(|&[a, b, c]| [a, b, c & 0xfe, 64]).collect();
    let bottom = out.len() - 2;
    out[bottom] |= 1;
    out
}

/// RFC 9331 §5.1, RFC 3168 §5: all codepoints in both versions behind 0 to 4 tags.
#[test]
fn every_codepoint_reads_and_marks_behind_every_stack_of_tags() {
    let all_tags = [(0x88a8, 0x0064), (0x8100, 0xe0c8), (0x9100, 0x0001), (0x8100, 0xffff)];
    for v6 in [false, true] {
        for count in 0..=4 {
            for (bits, ecn) in [(0b00, Ecn::NotEct), (0b01, Ecn::Ect1), (0b10, Ecn::Ect0), (0b11, Ecn::Ce)] {
                for dscp in [0, 45, 63] {
                    let mut frame = Ip::plain(v6, dscp << 2 | bits).frame(&all_tags[..count]);
                    let parsed = parse(&frame);
                    let kind = if v6 { FrameKind::Ipv6 } else { FrameKind::Ipv4 };
                    assert_eq!((parsed.kind, parsed.ecn, parsed.dscp), (kind, ecn, dscp));
                    assert_eq!(usize::from(parsed.l3_offset), 14 + 4 * count);
                    assert_eq!(set_ce(&mut frame), matches!(bits, 0b01 | 0b10));
                    let after = Ip::plain(v6, dscp << 2 | if bits == 0 { 0 } else { 0b11 });
                    assert_eq!(
                        frame,
                        after.frame(&all_tags[..count]),
                        "marked like one that was sent marked"
                    );
                }
            }
        }
        let five = [(0x8100, 1); 5];
        assert_eq!(parse(&Ip::plain(v6, 1).frame(&five)).kind, FrameKind::OtherNonIp);
    }
}

#[test]
fn frames_without_ip_have_their_kinds() {
    use FrameKind::{Arp, Lacp, Lldp, Malformed, OtherNonIp, Pause, Stp};
    let to = |destination: [u8; 6], ethertype, body: &[u8]| {
        let mut frame = framed(&[], ethertype, &[body, &[0; 40]]);
        frame[..6].copy_from_slice(&destination);
        frame
    };
    let group = |last| [0x01, 0x80, 0xc2, 0x00, 0x00, last];
    let station = [0x02, 0, 0, 0, 0, 1];
    for (frame, kind) in [
        (to([0xff; 6], 0x0806, &[0, 1, 8, 0, 6, 4, 0, 1]), Arp),
        (to(group(0x00), 0x0026, &[0x42, 0x42, 0x03, 0, 0]), Stp),
        (to(group(0x08), 0x0069, &[0x42, 0x42, 0x03, 0, 0]), Stp),
        (to(group(0x02), 0x8809, &[0x01, 0x01]), Lacp),
        (to(group(0x02), 0x8809, &[0x02, 0x01]), OtherNonIp),
        (to(group(0x0e), 0x88cc, &[0x02, 0x07, 0x04]), Lldp),
        (to(group(0x01), 0x8808, &[0x00, 0x01, 0xff, 0xff]), Pause),
        (to(group(0x01), 0x8808, &[0x01, 0x01, 0x00, 0xff]), Pause),
        (to(station, 0x8808, &[0x00, 0x01, 0xff, 0xff]), OtherNonIp),
        (to(group(0x01), 0x0800, &[0x00]), Malformed),
        (to(station, 0x05dc, &[0xe0, 0xe0, 0x03]), OtherNonIp),
        (to(station, 0x0020, &[0xaa, 0xaa, 0x03, 0, 0, 0, 0x08, 0x00, 0x45]), OtherNonIp),
        (to(station, 0x88e5, &[0x45; 20]), OtherNonIp),
        (to(station, 0x8863, &[0x11, 0x09, 0, 0, 0, 4]), OtherNonIp),
        (to(station, 0x0800, &[0x60; 40]), Malformed),
        (to(station, 0x86dd, &[0x45; 40]), Malformed),
        (to(station, 0x0800, &[0x44; 20]), Malformed),
    ] {
        assert_eq!(parse(&frame).kind, kind, "{frame:02x?}");
        laws::hold(&frame);
    }
    // IEEE 802.1AE: integrity only (E and C clear), so that an IPv4 header can be seen behind the tag.
    let macsec = framed(&[], 0x88e5, &[&[0x00, 0, 0, 0, 0, 1, 0x08, 0x00], &Ip::plain(false, 1).bytes()]);
    assert_eq!(parse(&macsec).kind, OtherNonIp);
    let tagged_arp = framed(&[(0x8100, 5)], 0x0806, &[&[0; 28]]);
    assert_eq!(parse(&tagged_arp).kind, Arp);
    for cut in [0, 1, 13] {
        assert_eq!(parse(&tagged_arp[..cut]).kind, Malformed, "{cut} bytes");
    }
    assert_eq!(parse(&tagged_arp[..17]).kind, Malformed, "a tag without the type behind it");
    assert_eq!(parse(&tagged_arp[..18]).kind, Arp);
}

#[test]
fn a_frame_cut_anywhere_before_the_end_of_its_ip_header_is_malformed() {
    for v6 in [false, true] {
        let packet = Ip { options: 3, ..Ip::plain(v6, 2) }.bytes();
        let header = if v6 { 40 } else { 32 };
        let tags = [(0x88a8, 7), (0x8100, 8)];
        let ethertype = if v6 { 0x86dd } else { 0x0800 };
        for (frame, at) in [
            (framed(&tags, ethertype, &[&packet]), 22),
            (framed(&tags, 0x8864, &[&pppoe(9, v6, packet.len()), &packet]), 30),
        ] {
            for end in 0..=frame.len() {
                let whole = end >= at + header;
                assert_eq!(parse(&frame[..end]).kind == FrameKind::Malformed, !whole, "{end} bytes");
                assert_eq!(parse(&frame[..end]).kind.is_ip(), whole, "{end} bytes");
            }
        }
    }
}

/// RFC 2516 §4 and §7: what a session carries is named by the PPP protocol.
#[test]
fn pppoe_carries_ip_in_data_frames_of_both_versions_only() {
    // Session 0x1234: IPv4, 10.0.0.1 to 10.0.0.2, UDP, ECT(0).
    let mut frame = framed(&[], 0x8864, &[&[0x11, 0x00, 0x12, 0x34, 0x00, 0x1e, 0x00, 0x21]]);
    let packet = [
        0x45, 0x02, 0x00, 0x1c, 0x00, 0x00, 0x00, 0x00, 0x40, 0x11, 0x66, 0xcd, 10, 0, 0, 1, 10, 0, 0, 2,
        0x13, 0x88, 0x13, 0x89, 0x00, 0x08, 0x00, 0x00,
    ];
    frame.extend(packet);
    let parsed = parse(&frame);
    assert_eq!((parsed.kind, parsed.ecn, parsed.l3_offset), (FrameKind::Ipv4, Ecn::Ect0, 22));
    assert!(set_ce(&mut frame));
    assert_eq!(frame[22..24], [0x45, 0x03]);
    assert_eq!(frame[32..34], [0x66, 0xcc]);
    for (at, value, kind) in [
        (14, 0x12, FrameKind::OtherNonIp), // another version
        (15, 0x09, FrameKind::OtherNonIp), // discovery code
        (20, 0xc0, FrameKind::OtherNonIp), // LCP
        (21, 0x57, FrameKind::Malformed),  // IPv6 is promised, IPv4 comes
    ] {
        let mut other = frame.clone();
        other[at] = value;
        assert_eq!(parse(&other).kind, kind, "byte {at} is {value:#04x}");
    }
}

/// RFC 3032 §2.1; RFC 4928 §2 on why the first nibble alone is not to be trusted.
#[test]
fn mpls_carries_ip_only_where_the_lengths_agree() {
    let labels = [[0, 1, 0x00], [0x12, 0x34, 0x5e]];
    for v6 in [false, true] {
        let ip = Ip::plain(v6, 1);
        let packet = ip.bytes();
        for ethertype in [0x8847, 0x8848] {
            let frame = framed(&[(0x8100, 3)], ethertype, &[&stack(&labels), &packet]);
            let parsed = parse(&frame);
            assert_eq!((parsed.kind.is_ip(), parsed.ecn, parsed.l3_offset), (true, Ecn::Ect1, 26));
            assert_eq!(parse(&frame[..frame.len() - 1]).kind, FrameKind::OtherNonIp, "shorter than it says");
            assert_eq!(
                parse(&[&frame[..], &[0]].concat()).kind,
                FrameKind::OtherNonIp,
                "longer than it says"
            );
        }
    }
    let short = Ip { payload: vec![0; 4], ..Ip::plain(false, 2) };
    let mut padded = framed(&[], 0x8847, &[&stack(&labels[..1]), &short.bytes()]);
    padded.resize(60, 0);
    assert_eq!(parse(&padded).ecn, Ecn::Ect0, "padding up to the shortest frame is no contradiction");

    let inner = Ip::plain(false, 1).frame(&[]);
    let mut look_alike = inner.clone();
    look_alike[..6].copy_from_slice(&[0x45, 0x01, 0x02, 0x03, 0x04, 0x05]);
    let control_word = [0, 0, 0, 0];
    let associated_channel = [0x10, 0, 0, 0x21];
    for parts in [
        [&stack(&labels)[..], &control_word, &inner],
        [&stack(&labels), &associated_channel, &inner],
        [&stack(&labels), &[], &look_alike],
        [&stack(&[[0, 1, 0]; 17]), &[], &Ip::plain(false, 1).bytes()],
    ] {
        assert_eq!(parse(&framed(&[], 0x8847, &parts)).kind, FrameKind::OtherNonIp);
    }
    let bottomless = framed(&[], 0x8847, &[&[0, 1, 0x00, 64], &[0, 2, 0x00, 64]]);
    let nothing_behind = framed(&[], 0x8847, &[&stack(&labels)]);
    for frame in [&bottomless[..], &nothing_behind, &nothing_behind[..nothing_behind.len() - 1]] {
        assert_eq!(parse(frame).kind, FrameKind::Malformed);
    }
}

/// Headers of every length and class whose sums come close to every carry and to both representations of zero.
#[test]
fn headers_around_every_carry_mark_like_a_full_computation() {
    let mut ip = Ip { payload: vec![0; 40], ..Ip::plain(false, 0) };
    for options in 0..=10 {
        for class in 0..=255 {
            ip.options = options;
            ip.class = class;
            let frame = ip.frame(&[]);
            // The identification brings the sum to every neighbourhood of a carry.
            let without = frame[24..26].iter().fold(0_u16, |word, &byte| word << 8 | u16::from(byte));
            for nudge in 0..4 {
                let mut nudged = frame.clone();
                nudged[18..20]
                    .copy_from_slice(&(0x1234_u16.wrapping_add(without).wrapping_sub(nudge)).to_be_bytes());
                nudged[24..26].fill(0);
                let sum = etherparse::Ipv4HeaderSlice::from_slice(&nudged[14..]).unwrap().to_header();
                nudged[24..26].copy_from_slice(&sum.calc_header_checksum().to_be_bytes());
                laws::hold(&nudged);
                let stored_zero = nudged[24..26] == [0, 0];
                if stored_zero {
                    nudged[24..26].fill(0xff);
                    laws::hold(&nudged);
                }
            }
        }
    }
}

#[test]
fn flows_of_different_addresses_protocols_and_ports_differ() {
    for v6 in [false, true] {
        let base = Ip { payload: vec![0; 20], options: 2, ..Ip::plain(v6, 0) };
        let mut seen = std::collections::HashSet::from([parse(&base.frame(&[])).flow]);
        let used = if v6 { 32 } else { 8 };
        for bit in 0..used * 8 {
            let mut other = base.clone();
            other.addresses[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(parse(&other.frame(&[])).flow), "address bit {bit}");
        }
        for bit in 0..32 {
            let mut other = base.clone();
            other.payload[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(parse(&other.frame(&[])).flow), "port bit {bit}");
        }
        for protocol in [17, 33, 132, 136, 1, 58, 47, 50] {
            let other = Ip { protocol, ..base.clone() };
            assert!(seen.insert(parse(&other.frame(&[])).flow), "protocol {protocol}");
        }
        let without_ports =
            |payload: Vec<u8>, protocol| parse(&Ip { protocol, payload, ..base.clone() }.frame(&[])).flow;
        assert_eq!(without_ports(vec![1; 20], 47), without_ports(vec![2; 20], 47), "GRE has no ports");
        assert_eq!(
            without_ports(vec![1; 20], 44),
            without_ports(vec![2; 20], 44),
            "nor has a fragment header"
        );
    }
    let whole = Ip::plain(false, 0);
    let fragment = Ip { fragment: 0x2000, ..whole.clone() };
    assert_ne!(
        parse(&whole.frame(&[])).flow,
        parse(&fragment.frame(&[])).flow,
        "ports count in whole packets only"
    );
}

/// Inputs that once broke a law, as the fuzzer wrote them.
#[test]
fn regressions_stay_fixed() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions/wire");
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        laws::hold(&std::fs::read(entry.unwrap().path()).unwrap());
    }
}
