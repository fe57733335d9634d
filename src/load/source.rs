//! The frames of a [`Mix`], one after the other.
//!
//! A deck holds every combination as often as its weight says, shuffled once by the seed, and is dealt round and round:
//! over every whole deck the mix is exact. A template is copied, and port, stamp and checksum are written into it.

use fastrand::Rng;

use super::mix::Mix;
use super::stamp::{BYTES, Stamp};
use super::{FCS, mix};
use crate::time::Instant;
use crate::wire::Ecn;
use crate::wire::build::{self, FIRST_PORT, IpVersion, UdpFrame};
use crate::wire::checksum;

/// Codepoints times IP versions.
pub(super) const STREAMS: usize = 8;

/// Where a codepoint and an IP version are counted.
pub(super) const fn stream(ecn: Ecn, version: IpVersion) -> usize {
    ecn as usize * 2 + version as usize
}

#[derive(Debug)]
struct Template {
    bytes: Vec<u8>,
    version: IpVersion,
    ecn: Ecn,
    stream: usize,
    /// The sum of the UDP checksum with neither port nor stamp in it.
    sum: u32,
}

impl Template {
    fn new(kind: mix::Kind) -> Self {
        let mix::Kind { size, ecn, version, .. } = kind;
        let mut bytes = UdpFrame { version, ecn, len: usize::from(size) - FCS, flow: 0 }.bytes();
        bytes[version.l4()..version.l4() + 2].fill(0);
        let sum = build::udp_sum(&bytes, version);
        Self { bytes, version, ecn, stream: stream(ecn, version), sum }
    }
}

/// Deals frames.
#[derive(Debug)]
pub struct Source {
    templates: Vec<Template>,
    deck: Vec<u16>,
    at: usize,
    flows: u16,
    next_flow: [u16; STREAMS],
    next_seq: [u64; STREAMS],
    trial: u8,
}

impl Source {
    /// The frames of `mix`, in an order that `seed` decides.
    pub fn new(mix: &Mix, seed: u64) -> Self {
        let kinds = mix.kinds();
        let mut deck = Vec::new();
        for (i, kind) in kinds.iter().enumerate() {
            deck.extend(std::iter::repeat_n(i as u16, kind.weight as usize));
        }
        Rng::with_seed(seed).shuffle(&mut deck);
        Self {
            templates: kinds.into_iter().map(Template::new).collect(),
            deck,
            at: 0,
            flows: mix.flows(),
            next_flow: [0; STREAMS],
            next_seq: [0; STREAMS],
            trial: 0,
        }
    }

    /// Frames until the mix is exact again.
    pub fn cycle(&self) -> usize {
        self.deck.len()
    }

    /// Begins a trial: a full deck, sequence numbers from 0.
    pub(super) fn restart(&mut self, trial: u8) {
        (self.at, self.next_flow, self.next_seq, self.trial) = (0, [0; STREAMS], [0; STREAMS], trial);
    }

    /// Bytes of the next frame, without FCS.
    pub fn next_len(&self) -> usize {
        self.top().bytes.len()
    }

    /// Writes the next frame, which has [`Source::next_len`] bytes, as one that is sent at `now`. It stays the next
    /// until [`Source::deal`].
    #[inline]
    pub fn write(&self, frame: &mut [u8], now: Instant) {
        let card = self.top();
        frame.copy_from_slice(&card.bytes);
        let (l4, payload) = (card.version.l4(), card.version.payload());
        // A sender keeps to one codepoint, so each has ports of its own.
        let port = FIRST_PORT + card.ecn as u16 * Mix::MOST_FLOWS + self.next_flow[card.stream];
        frame[l4..l4 + 2].copy_from_slice(&port.to_be_bytes());
        let stamp =
            Stamp { trial: self.trial, ecn: card.ecn, seq: self.next_seq[card.stream], sent: now }.bytes();
        frame[payload..payload + BYTES].copy_from_slice(&stamp);
        build::set_udp_checksum(frame, l4, card.sum + u32::from(port) + checksum::sum(&stamp));
    }

    /// The next frame was sent; returns its codepoint.
    #[inline]
    pub fn deal(&mut self) -> Ecn {
        let card = &self.templates[usize::from(self.deck[self.at])];
        let (ecn, stream) = (card.ecn, card.stream);
        self.next_seq[stream] += 1;
        self.next_flow[stream] =
            if self.next_flow[stream] + 1 == self.flows { 0 } else { self.next_flow[stream] + 1 };
        self.at = if self.at + 1 == self.deck.len() { 0 } else { self.at + 1 };
        ecn
    }

    fn top(&self) -> &Template {
        &self.templates[usize::from(self.deck[self.at])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Parsed, parse};
    use std::collections::{BTreeMap, BTreeSet};

    fn source(sizes: &str, ecn: &str, versions: &str, flows: u16, seed: u64) -> Source {
        let sizes = mix::parse_sizes(sizes).unwrap();
        let mix = Mix::new(sizes, ecn.parse().unwrap(), versions.parse().unwrap(), flows).unwrap();
        Source::new(&mix, seed)
    }

    fn take(source: &mut Source, now: Instant) -> (Vec<u8>, Parsed) {
        let mut frame = vec![0xee; source.next_len()];
        source.write(&mut frame, now);
        source.deal();
        let parsed = parse(&frame);
        (frame, parsed)
    }

    /// 64=7, 594=4, 1518=1 times ECT(1)=3, Not-ECT=1: of 48 frames 21 are ECT(1) of 64 bytes, 1 is Not-ECT of 1518.
    #[test]
    fn over_a_cycle_the_mix_is_exact_and_the_seed_decides_only_the_order() {
        let mut orders = BTreeSet::new();
        for seed in 0..3 {
            let mut source = source("imix", "ect1=3,not_ect=1", "4", 2, seed);
            assert_eq!(source.cycle(), 48);
            let mut order = Vec::new();
            for _ in 0..2 {
                let mut counts = BTreeMap::new();
                for _ in 0..48 {
                    let (frame, parsed) = take(&mut source, Instant::ZERO);
                    *counts.entry((frame.len() + FCS, parsed.ecn as u8)).or_insert(0) += 1;
                    order.push(frame.len());
                }
                let expected = [
                    ((64, 0), 7),
                    ((64, 1), 21),
                    ((594, 0), 4),
                    ((594, 1), 12),
                    ((1518, 0), 1),
                    ((1518, 1), 3),
                ];
                assert_eq!(counts, BTreeMap::from(expected));
            }
            orders.insert(order);
        }
        assert_eq!(orders.len(), 3, "three seeds, three orders");
    }

    #[test]
    fn frames_carry_their_stamp_their_flow_and_right_checksums() {
        let mut source = source("84,200", "ect1,ect0,ce,not_ect", "4,6", 3, 1);
        source.restart(9);
        let mut next = BTreeMap::new();
        let mut flows: BTreeMap<u8, BTreeSet<u32>> = BTreeMap::new();
        for i in 0..160 {
            let now = Instant::from_nanos(0xffff_ffff_0000 + i * 77_777);
            let (frame, parsed) = take(&mut source, now);
            let stamp = Stamp::read(&frame, &parsed).unwrap();
            assert_eq!((stamp.trial, stamp.ecn, stamp.sent), (9, parsed.ecn, now));
            let seq = next.entry((parsed.kind.label(), stamp.ecn as u8)).or_insert(0);
            assert_eq!(stamp.seq, *seq);
            *seq += 1;
            flows.entry(parsed.ecn as u8).or_default().insert(parsed.flow);
            let packet = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(etherparse::TransportSlice::Udp(udp)) = packet.transport else { panic!("{packet:?}") };
            let expected = match packet.net.unwrap() {
                etherparse::NetSlice::Ipv4(ip) => {
                    udp.to_header().calc_checksum_ipv4(&ip.header().to_header(), udp.payload()).unwrap()
                }
                etherparse::NetSlice::Ipv6(ip) => {
                    udp.to_header().calc_checksum_ipv6(&ip.header().to_header(), udp.payload()).unwrap()
                }
                other @ etherparse::NetSlice::Arp(_) => panic!("{other:?}"),
            };
            assert_eq!(udp.checksum(), expected, "frame {i}");
        }
        for (ecn, flows) in &flows {
            assert_eq!(flows.len(), 6, "codepoint {ecn}: three flows of each IP version");
        }
        let all: BTreeSet<u32> = flows.values().flatten().copied().collect();
        assert_eq!(all.len(), 24, "codepoints share no flow");
    }

    #[test]
    fn a_frame_that_was_not_dealt_is_written_again() {
        let mut source = source("64", "ect1", "4", 1, 1);
        let mut frame = vec![0; 60];
        for (expected, dealt) in [(0, false), (0, true), (1, true)] {
            source.write(&mut frame, Instant::ZERO);
            assert_eq!(Stamp::read(&frame, &parse(&frame)).unwrap().seq, expected);
            if dealt {
                source.deal();
            }
        }
    }
}
