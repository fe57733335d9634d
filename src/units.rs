//! Quantities with their unit in the type, and the text forms that configuration and command line share.
//!
//! Rates are bits a second of whatever the shaper counts (L2 bytes plus the configured overhead). Prefixes are
//! decimal, as network rates are: `k` 10^3, `M` 10^6, `G` 10^9.

use core::fmt;
use core::str::FromStr;

use crate::time::Span;

/// A bit rate in bit/s, never zero.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct BitRate(u64);

impl BitRate {
    /// The slowest rate the shaper takes: below it one full-size packet lasts over a second.
    pub const MIN: Self = Self(10_000);
    /// The fastest rate the shaper takes.
    pub const MAX: Self = Self(400_000_000_000);

    /// `bps` bit/s, or `None` outside [`BitRate::MIN`]..=[`BitRate::MAX`].
    pub const fn new(bps: u64) -> Option<Self> {
        if bps < Self::MIN.0 || bps > Self::MAX.0 { None } else { Some(Self(bps)) }
    }

    /// `mbps` Mbit/s, clamped into the accepted range.
    pub const fn from_mbps(mbps: u64) -> Self {
        let bps = mbps.saturating_mul(1_000_000);
        match Self::new(bps) {
            Some(r) => r,
            None if bps < Self::MIN.0 => Self::MIN,
            None => Self::MAX,
        }
    }

    /// The rate in bit/s.
    pub const fn as_bps(self) -> u64 {
        self.0
    }

    /// The rate in Mbit/s.
    pub fn as_mbps_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Whole bytes sent at this rate in `span`, rounded down.
    pub fn bytes_in(self, span: Span) -> u64 {
        (u128::from(self.0) * u128::from(span.as_nanos()) / 8_000_000_000) as u64
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            b if b % 1_000_000_000 == 0 => write!(f, "{}Gbit", b / 1_000_000_000),
            b if b >= 1_000_000 => write!(f, "{}Mbit", b as f64 / 1e6),
            b => write!(f, "{}kbit", b as f64 / 1e3),
        }
    }
}

/// Why a text is not the quantity it should be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UnitError {
    /// The text has no number in front, or a sign, or is empty.
    #[error("'{0}' is not a number with a unit; write it like {1}")]
    NotANumber(String, &'static str),
    /// The number is there, but the unit is missing or unknown.
    #[error("'{0}' has no unit that fits here; write it like {1}")]
    Unit(String, &'static str),
    /// The quantity is outside what l4sd can work with.
    #[error("'{0}' is out of range: {1}")]
    Range(String, &'static str),
}

fn split<'a>(s: &'a str, like: &'static str) -> Result<(f64, &'a str), UnitError> {
    let s = s.trim();
    let end = s.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(s.len());
    let number = s[..end].parse::<f64>().map_err(|_| UnitError::NotANumber(s.to_owned(), like))?;
    Ok((number, s[end..].trim_start()))
}

impl FromStr for BitRate {
    type Err = UnitError;

    /// `40Mbit`, `1.5Gbit`, `500kbit`, `40Mbps`, `40 Mbit/s`, `64000bit`.
    fn from_str(s: &str) -> Result<Self, UnitError> {
        const LIKE: &str = "40Mbit, 500kbit or 1Gbit";
        let (number, unit) = split(s, LIKE)?;
        let unit = unit.to_ascii_lowercase();
        let scale = match unit.strip_suffix("/s").unwrap_or(&unit) {
            "bit" | "bps" => 1.0,
            "kbit" | "kbps" => 1e3,
            "mbit" | "mbps" => 1e6,
            "gbit" | "gbps" => 1e9,
            _ => return Err(UnitError::Unit(s.to_owned(), LIKE)),
        };
        Self::new((number * scale).round() as u64)
            .ok_or_else(|| UnitError::Range(s.to_owned(), "a rate is 10kbit to 400Gbit"))
    }
}

/// Reads a span of time: `15ms`, `800us`, `1.5s`, `2m`, `100ns`.
pub fn parse_span(s: &str) -> Result<Span, UnitError> {
    const LIKE: &str = "15ms, 800us or 20s";
    let (number, unit) = split(s, LIKE)?;
    let scale = match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        _ => return Err(UnitError::Unit(s.to_owned(), LIKE)),
    };
    let seconds = number * scale;
    if seconds > 1e8 {
        return Err(UnitError::Range(s.to_owned(), "a time is at most 10^8 s"));
    }
    Ok(Span::from_secs_f64(seconds))
}

/// Reads a number of bytes: `2MB`, `64kB`, `1500B`.
pub fn parse_bytes(s: &str) -> Result<u64, UnitError> {
    const LIKE: &str = "2MB, 64kB or 1500B";
    let (number, unit) = split(s, LIKE)?;
    let scale = match unit {
        "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        _ => return Err(UnitError::Unit(s.to_owned(), LIKE)),
    };
    let bytes = number * scale;
    if bytes > 1e12 {
        return Err(UnitError::Range(s.to_owned(), "a buffer is at most 10^12 bytes"));
    }
    Ok(bytes.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_and_print() {
        for (text, bps) in [
            ("40Mbit", 40_000_000),
            ("1.5Gbit", 1_500_000_000),
            ("500 kbit/s", 500_000),
            ("12mbps", 12_000_000),
            ("64000bit", 64_000),
        ] {
            assert_eq!(text.parse::<BitRate>().unwrap().as_bps(), bps, "{text}");
        }
        assert_eq!(BitRate::from_mbps(40).to_string(), "40Mbit");
        assert_eq!(BitRate::new(1_500_000).unwrap().to_string(), "1.5Mbit");
        assert_eq!(BitRate::from_mbps(2000).to_string(), "2Gbit");
    }

    #[test]
    fn every_bad_rate_says_how_to_write_it() {
        for (text, part) in [
            ("", "not a number"),
            ("fast", "not a number"),
            ("-4Mbit", "not a number"),
            ("40", "no unit"),
            ("40MB", "no unit"),
            ("1bit", "out of range"),
            ("900000Gbit", "out of range"),
        ] {
            let message = text.parse::<BitRate>().unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn spans_and_bytes_read() {
        assert_eq!(parse_span("15ms").unwrap(), Span::from_millis(15));
        assert_eq!(parse_span("1.5s").unwrap(), Span::from_millis(1500));
        assert_eq!(parse_span("2m").unwrap(), Span::from_secs(120));
        assert!(parse_span("15").is_err());
        assert_eq!(parse_bytes("2MB").unwrap(), 2_000_000);
        assert_eq!(parse_bytes("1.5kB").unwrap(), 1500);
        assert!(parse_bytes("2Mbit").is_err());
    }

    #[test]
    fn a_quarter_second_at_40_mbit_is_1_25_megabytes() {
        assert_eq!(BitRate::from_mbps(40).bytes_in(Span::from_millis(250)), 1_250_000);
    }
}
