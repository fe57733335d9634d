//! Recorded links in the format of mahimahi: a line per opportunity with its time in milliseconds.

use std::path::{Path, PathBuf};

use super::{OPPORTUNITY_BYTES, rate_of};
use crate::time::{Instant, Span};
use crate::units::BitRate;

/// Why a trace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read.
    #[error("{file}: cannot read the trace: {source}; paths are relative to the scenario file", file = file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A line is not what the format wants.
    #[error("{file}:{line}: {reason}", file = file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// A recording: at each of its times the link can send [`OPPORTUNITY_BYTES`]. It repeats with the period of its last
/// time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trace {
    /// Milliseconds, in order, more than zero at the end.
    times: Vec<u32>,
}

impl Trace {
    /// Reads a file.
    pub fn load(file: &Path) -> Result<Self, TraceError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| TraceError::Read { file: file.to_owned(), source })?;
        Self::parse(&text, file)
    }

    /// Reads the text of a file.
    pub fn parse(text: &str, file: &Path) -> Result<Self, TraceError> {
        let wrong = |line, reason: String| TraceError::Line { file: file.to_owned(), line, reason };
        let mut times: Vec<u32> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let time = line.trim().parse().map_err(|_| {
                wrong(i + 1, format!("'{}' is not a time in whole milliseconds", line.trim()))
            })?;
            if times.last().is_some_and(|&last| last > time) {
                return Err(wrong(i + 1, format!("{time} ms comes after a later time; sort the lines")));
            }
            times.push(time);
        }
        match times.last() {
            None => Err(wrong(1, "there is no opportunity; write one time in milliseconds a line".into())),
            Some(0) => {
                Err(wrong(times.len(), "the last time is the period of the loop and cannot be 0".into()))
            }
            Some(_) => Ok(Self { times }),
        }
    }

    /// After how long it repeats.
    pub fn period(&self) -> Span {
        Span::from_millis(self.times.last().copied().unwrap_or(1).into())
    }

    /// Opportunities in a period.
    pub fn opportunities(&self) -> usize {
        self.times.len()
    }

    /// The mean of the capacity.
    pub fn mean_rate(&self) -> BitRate {
        let bits = self.times.len() as f64 * f64::from(OPPORTUNITY_BYTES) * 8.0;
        rate_of(bits / self.period().as_secs_f64())
    }

    /// The first opportunity at `offset` into the loop or later: its number.
    pub fn first_at(&self, offset: Span) -> u64 {
        let ms = offset.as_nanos().div_ceil(1_000_000);
        self.times.partition_point(|&t| u64::from(t) < ms) as u64
    }

    /// When opportunity `number` comes in a run that began `offset` into the loop.
    pub fn time(&self, number: u64, offset: Span) -> Instant {
        let n = self.times.len() as u64;
        let rounds = Span::from_nanos((number / n) * self.period().as_nanos());
        Instant::ZERO + rounds + Span::from_millis(self.times[(number % n) as usize].into()) - offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Trace, String> {
        Trace::parse(text, Path::new("t.down")).map_err(|e| e.to_string())
    }

    /// Four opportunities in 10 ms are 4 x 1514 x 8 / .01 = 4.8448 Mbit/s.
    #[test]
    fn a_trace_loops_with_the_period_of_its_last_line() {
        let t = parse("0\n3\n3\n10\n").unwrap();
        assert_eq!((t.opportunities(), t.period()), (4, Span::from_millis(10)));
        assert_eq!(t.mean_rate(), BitRate::new(4_844_800).unwrap());
        let times: Vec<_> = (0..6).map(|n| t.time(n, Span::ZERO).as_nanos() / 1_000_000).collect();
        assert_eq!(times, [0, 3, 3, 10, 10, 13]);
        let offset = Span::from_micros(2_500);
        assert_eq!(t.first_at(offset), 1);
        assert_eq!(t.time(1, offset).as_nanos(), 500_000);
        assert_eq!(t.time(4, offset).as_nanos(), 7_500_000);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, part) in [
            ("", "t.down:1: there is no opportunity"),
            ("1\nx\n", "t.down:2: 'x' is not a time"),
            ("1\n5\n4\n", "t.down:3: 4 ms comes after"),
            ("0\n0\n", "t.down:2: the last time"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.starts_with(part), "{message}");
        }
        let message = Trace::load(Path::new("no/such.trace")).unwrap_err().to_string();
        assert!(message.starts_with("no/such.trace: cannot read the trace"), "{message}");
    }
}
