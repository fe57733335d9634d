//! How much is offered, and when the next frame is due.
//!
//! Frame `k` of a load of R frames a second is due `k`/R after the start; at a bit rate, a frame is due when what was
//! sent before it has had its time. A generator that was away does not make up for more than a millisecond of what it
//! missed: a burst of it would test something else. What it gives up is counted.

use core::fmt;
use core::str::FromStr;

use crate::time::{Instant, Span};
use crate::units::BitRate;

/// How much of what was missed is made up for.
const MAKE_UP: Span = Span::from_millis(1);
const NANOS: u128 = 1_000_000_000;

/// An offered load.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Offer {
    /// As fast as the port takes frames.
    Line,
    /// Frames a second.
    Frames(f64),
    /// Bit/s of frames without FCS.
    Bits(BitRate),
}

/// Why a text is no [`Offer`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("'{0}' is not a load; write it like 20kpps, 1.5Mpps, 40Mbit, or line for as fast as it goes")]
pub struct OfferError(String);

/// Slowest and fastest rate in frames a second.
const FRAMES: [f64; 2] = [1.0, 1e9];

impl FromStr for Offer {
    type Err = OfferError;

    fn from_str(text: &str) -> Result<Self, OfferError> {
        let wrong = || OfferError(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        if lower == "line" {
            return Ok(Self::Line);
        }
        let Some(number) = lower.strip_suffix("pps") else {
            return text.parse().map(Self::Bits).map_err(|_| wrong());
        };
        let (number, scale) = match number.strip_suffix(['k', 'm', 'g']) {
            Some(rest) if number.ends_with('k') => (rest, 1e3),
            Some(rest) if number.ends_with('m') => (rest, 1e6),
            Some(rest) => (rest, 1e9),
            None => (number, 1.0),
        };
        let frames = number.trim().parse::<f64>().map_err(|_| wrong())? * scale;
        if (FRAMES[0]..=FRAMES[1]).contains(&frames) { Ok(Self::Frames(frames)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line => f.write_str("line"),
            Self::Frames(rate) if *rate >= 1e6 => write!(f, "{:.4}Mpps", rate / 1e6),
            Self::Frames(rate) if *rate >= 1e3 => write!(f, "{:.3}kpps", rate / 1e3),
            Self::Frames(rate) => write!(f, "{rate:.1}pps"),
            Self::Bits(rate) => rate.fmt(f),
        }
    }
}

/// Says which frames are due. Counts in thousandths of frames, or in bits.
#[derive(Debug)]
pub(super) struct Pacer {
    /// Units a second; `None` is no limit.
    rate: Option<u64>,
    per_frame: bool,
    start: Instant,
    spent: u64,
    given_up: u64,
}

/// Units of a frame where frames are counted, so that a rate of part of a frame can be had.
const FRAME: u64 = 1000;

impl Pacer {
    pub(super) fn new(offer: Offer, start: Instant) -> Self {
        let (rate, per_frame) = match offer {
            Offer::Line => (None, true),
            Offer::Frames(rate) => (Some((rate * FRAME as f64).round() as u64), true),
            Offer::Bits(rate) => (Some(rate.as_bps()), false),
        };
        Self { rate, per_frame, start, spent: 0, given_up: 0 }
    }

    /// Whether a frame may be sent; first gives up what is too late.
    pub(super) fn due(&mut self, now: Instant) -> bool {
        let Some(rate) = self.rate else { return true };
        let due = earned(rate, now.since(self.start));
        let most = earned(rate, MAKE_UP).max(self.least());
        let behind = due.saturating_sub(self.spent + self.given_up);
        self.given_up += behind.saturating_sub(most);
        self.spent + self.given_up <= due
    }

    fn least(&self) -> u64 {
        if self.per_frame { 2 * FRAME } else { 2 * 12_144 }
    }

    /// A frame of `len` bytes without FCS was sent.
    pub(super) fn sent(&mut self, len: usize) {
        self.spent += if self.per_frame { FRAME } else { len as u64 * 8 };
    }

    /// When the next frame is due.
    pub(super) fn next(&self) -> Instant {
        let Some(rate) = self.rate else { return self.start };
        let units = u128::from(self.spent + self.given_up) * NANOS;
        self.start + Span::from_nanos(units.div_ceil(u128::from(rate)) as u64)
    }

    /// Share of what was due and never sent, 0..=1.
    pub(super) fn given_up(&self) -> f64 {
        let due = self.spent + self.given_up;
        if due == 0 { 0.0 } else { self.given_up as f64 / due as f64 }
    }
}

/// Whole units that `rate` gives in `span`.
fn earned(rate: u64, span: Span) -> u64 {
    (u128::from(rate) * u128::from(span.as_nanos()) / NANOS) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Instant {
        Instant::from_nanos(us * 1000)
    }

    #[test]
    fn loads_read_and_print() {
        for (text, offer, printed) in [
            ("line", Offer::Line, "line"),
            ("250pps", Offer::Frames(250.0), "250.0pps"),
            ("20kpps", Offer::Frames(20_000.0), "20.000kpps"),
            ("1.5 Mpps", Offer::Frames(1.5e6), "1.5000Mpps"),
            ("40Mbit", Offer::Bits(BitRate::from_mbps(40)), "40Mbit"),
        ] {
            let read: Offer = text.parse().unwrap();
            assert_eq!((read, read.to_string()), (offer, printed.to_owned()), "{text}");
        }
        for text in ["", "40", "0pps", "fastpps", "2Tpps", "nanpps", "40MB"] {
            let message = text.parse::<Offer>().unwrap_err().to_string();
            assert!(message.contains("20kpps"), "{text}: {message}");
        }
    }

    /// 1000 frames a second: frame k at k milliseconds, the first at once.
    #[test]
    fn frames_are_due_at_multiples_of_their_interval() {
        let mut pacer = Pacer::new(Offer::Frames(1000.0), at(500));
        for k in 0..10 {
            assert_eq!(pacer.next(), at(500 + 1000 * k));
            assert!(!pacer.due(at(500 + 1000 * k) - Span::from_nanos(1)) || k == 0);
            assert!(pacer.due(at(500 + 1000 * k)));
            pacer.sent(60);
        }
        assert_eq!(pacer.given_up(), 0.0);
    }

    /// 12 Mbit/s: a frame of 1500 bytes has a millisecond, one of 60 has 40 us.
    #[test]
    fn at_a_bit_rate_each_frame_has_its_own_time() {
        let mut pacer = Pacer::new(Offer::Bits(BitRate::from_mbps(12)), at(0));
        assert!(pacer.due(at(0)));
        pacer.sent(1500);
        assert_eq!(pacer.next(), at(1000));
        assert!(pacer.due(at(1000)));
        pacer.sent(60);
        assert_eq!(pacer.next(), at(1040));
    }

    /// After 100 ms away at 10,000 frames a second, 1000 are behind: 10 of them (1 ms) are sent, 990 given up.
    #[test]
    fn what_is_missed_is_made_up_for_a_millisecond_only() {
        let mut pacer = Pacer::new(Offer::Frames(10_000.0), at(0));
        let mut sent = 0;
        while pacer.due(at(100_000)) {
            pacer.sent(60);
            sent += 1;
        }
        assert_eq!(sent, 11, "10 behind, and the one that is due now");
        assert!((pacer.given_up() - 990.0 / 1001.0).abs() < 1e-9, "{}", pacer.given_up());
    }

    #[test]
    fn a_third_of_a_frame_a_second_is_not_lost_in_rounding() {
        let mut pacer = Pacer::new(Offer::Frames(3.333), at(0));
        for _ in 0..3333 {
            pacer.sent(60);
        }
        assert_eq!(pacer.next(), Instant::ZERO + Span::from_secs(1000));
    }
}
