//! What arrived: by the codepoint that it was sent with, and what had become of it on the way.

use hdrhistogram::Histogram;

use super::source::{STREAMS, stream};
use super::stamp::Stamp;
use crate::time::Instant;
use crate::wire::build::{IpVersion, L3};
use crate::wire::{Ecn, FrameKind, Parsed, checksum, parse};

/// Delays are told apart from 100 ns to 60 s, to three digits.
const DELAY_NS: [u64; 2] = [100, 60_000_000_000];

/// Frames of one codepoint.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Frames that the port took.
    pub sent: u64,
    /// Their bytes, without FCS.
    pub sent_bytes: u64,
    /// Frames that arrived.
    pub received: u64,
    /// Their bytes, without FCS.
    pub received_bytes: u64,
    /// ECT(0) or ECT(1) that arrived as CE.
    pub marked: u64,
    /// Frames that arrived with any other codepoint than they were sent with.
    pub altered: u64,
    /// Time from sending to receiving, nanoseconds.
    pub delays: Histogram<u64>,
}

/// All that a sink counts in a trial.
#[derive(Clone, Debug)]
pub struct Tally {
    trial: u8,
    codepoints: [Seen; 4],
    next_seq: [u64; STREAMS],
    /// Frames that arrived behind a later one of their codepoint and IP version, or a second time.
    pub reordered: u64,
    /// IPv4 frames whose header checksum is wrong.
    pub damaged: u64,
    /// Frames of an earlier trial.
    pub late: u64,
    /// Frames that are not the generator's, on either port.
    pub foreign: u64,
}

impl Tally {
    /// Nothing yet, with all the memory that it will ever need.
    pub fn new() -> Self {
        let delays = Histogram::new_with_bounds(DELAY_NS[0], DELAY_NS[1], 3)
            .expect("100 ns to 60 s at three digits are valid bounds");
        let seen =
            Seen { sent: 0, sent_bytes: 0, received: 0, received_bytes: 0, marked: 0, altered: 0, delays };
        Self {
            trial: 0,
            codepoints: [seen.clone(), seen.clone(), seen.clone(), seen],
            next_seq: [0; STREAMS],
            reordered: 0,
            damaged: 0,
            late: 0,
            foreign: 0,
        }
    }

    /// Forgets everything and keeps the memory.
    pub(super) fn restart(&mut self, trial: u8) {
        (self.trial, self.next_seq) = (trial, [0; STREAMS]);
        (self.reordered, self.damaged, self.late, self.foreign) = (0, 0, 0, 0);
        for seen in &mut self.codepoints {
            (seen.sent, seen.sent_bytes, seen.received, seen.received_bytes) = (0, 0, 0, 0);
            (seen.marked, seen.altered) = (0, 0);
            seen.delays.reset();
        }
    }

    /// Frames sent with a codepoint.
    pub const fn of(&self, ecn: Ecn) -> &Seen {
        &self.codepoints[ecn as usize]
    }

    /// The sum of `what` over all codepoints.
    pub fn total(&self, what: impl Fn(&Seen) -> u64) -> u64 {
        self.codepoints.iter().map(what).sum()
    }

    #[inline]
    pub(super) fn sent(&mut self, ecn: Ecn, len: usize) {
        let seen = &mut self.codepoints[ecn as usize];
        seen.sent += 1;
        seen.sent_bytes += len as u64;
    }

    /// Counts a frame that arrived by `now`.
    pub fn received(&mut self, frame: &[u8], now: Instant) {
        let parsed = parse(frame);
        let Some(stamp) = Stamp::read(frame, &parsed) else {
            self.foreign += 1;
            return;
        };
        if stamp.trial != self.trial {
            self.late += 1;
            return;
        }
        let seen = &mut self.codepoints[stamp.ecn as usize];
        seen.received += 1;
        seen.received_bytes += frame.len() as u64;
        match (stamp.ecn, parsed.ecn) {
            (before, after) if before == after => {}
            (Ecn::Ect0 | Ecn::Ect1, Ecn::Ce) => seen.marked += 1,
            _ => seen.altered += 1,
        }
        seen.delays.saturating_record(now.since(stamp.sent).as_nanos().min(DELAY_NS[1]));
        self.damaged += u64::from(is_damaged(frame, parsed));
        let version = if parsed.kind == FrameKind::Ipv4 { IpVersion::V4 } else { IpVersion::V6 };
        let next = &mut self.next_seq[stream(stamp.ecn, version)];
        self.reordered += u64::from(stamp.seq < *next);
        *next = (*next).max(stamp.seq + 1);
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether the IPv4 header of a frame of the generator, which has no options, does not fit its checksum.
fn is_damaged(frame: &[u8], parsed: Parsed) -> bool {
    let at = usize::from(parsed.l3_offset);
    parsed.kind == FrameKind::Ipv4
        && frame.get(at..at + IpVersion::V4.l4() - L3).is_some_and(|h| checksum::of(checksum::sum(h)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Mix, Source, parse_sizes};
    use crate::wire::set_ce;

    fn frames(ecn: &str, versions: &str, count: usize) -> Vec<Vec<u8>> {
        let mix = Mix::new(parse_sizes("84").unwrap(), ecn.parse().unwrap(), versions.parse().unwrap(), 1);
        let mut source = Source::new(&mix.unwrap(), 1);
        source.restart(5);
        let make = |i| {
            let mut frame = vec![0; source.next_len()];
            source.write(&mut frame, Instant::from_nanos(i as u64 * 1000));
            source.deal();
            frame
        };
        (0..count).map(make).collect()
    }

    fn tally() -> Tally {
        let mut tally = Tally::new();
        tally.restart(5);
        tally
    }

    #[test]
    fn marks_are_ect_that_became_ce_and_everything_else_is_an_alteration() {
        let mut tally = tally();
        for mut frame in frames("ect1,ect0,ce,not_ect", "4,6", 800) {
            set_ce(&mut frame);
            tally.received(&frame, Instant::from_nanos(2_000_000));
        }
        for (ecn, marked) in [(Ecn::Ect1, 200), (Ecn::Ect0, 200), (Ecn::Ce, 0), (Ecn::NotEct, 0)] {
            let seen = tally.of(ecn);
            assert_eq!((seen.received, seen.marked, seen.altered), (200, marked, 0), "{ecn:?}");
            assert_eq!(seen.received_bytes, 200 * 80);
        }
        assert_eq!((tally.damaged, tally.reordered), (0, 0), "marking keeps the checksum");

        // Bleached: ECT(1) to Not-ECT, as no router may do. The header checksum no longer fits.
        let mut bleached = frames("ect1", "4", 1);
        bleached[0][15] &= !3;
        tally.received(&bleached[0], Instant::from_nanos(2_000_000));
        assert_eq!((tally.of(Ecn::Ect1).altered, tally.damaged), (1, 1));
    }

    #[test]
    fn order_is_kept_within_a_codepoint_and_not_between_them() {
        let mut all = frames("ect1,not_ect", "4", 100);
        // What a DualQ may do: everything of L before everything of C.
        all.sort_by_key(|frame| parse(frame).ecn != Ecn::Ect1);
        let mut tally = tally();
        for frame in &all {
            tally.received(frame, Instant::from_nanos(200_000));
        }
        assert_eq!(tally.reordered, 0);
        tally.received(&all[0], Instant::from_nanos(200_000));
        assert_eq!(tally.reordered, 1, "a second time");
        let mut tally = self::tally();
        all.swap(10, 11);
        for frame in &all {
            tally.received(frame, Instant::from_nanos(200_000));
        }
        assert_eq!(tally.reordered, 1);
    }

    #[test]
    fn delays_are_of_the_frame_itself() {
        let mut tally = tally();
        for (i, frame) in frames("ect1", "4", 100).iter().enumerate() {
            // Sent at i us, received i us later than that.
            tally.received(frame, Instant::from_nanos(2 * i as u64 * 1000));
        }
        let delays = &tally.of(Ecn::Ect1).delays;
        assert!(delays.value_at_quantile(0.5).abs_diff(49_000) < 100, "{}", delays.value_at_quantile(0.5));
        assert!(delays.max().abs_diff(99_000) < 100);
    }

    #[test]
    fn what_does_not_belong_to_the_trial_is_counted_apart() {
        let mut tally = tally();
        tally.received(&[0; 60], Instant::ZERO);
        let frame = &frames("ect1", "4", 1)[0];
        tally.restart(6);
        tally.received(frame, Instant::ZERO);
        tally.received(&[0xff; 60], Instant::ZERO);
        assert_eq!((tally.late, tally.foreign, tally.total(|seen| seen.received)), (1, 1, 0));
    }
}
