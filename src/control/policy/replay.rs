//! Decisions from a file, for repeating a run's decisions or trying a schedule by hand (`--policy replay:FILE`).
//!
//! CSV with a header: `at_s,target_ms,gain,ramp_min_ms,feed_forward`, rows in order of time since the start. A row holds
//! until the next; before the first there is no opinion. A feed-forward is asked for once, when its row begins.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Abstention, Policy};
use crate::aqm::params::Knobs;
use crate::telemetry::TelemetryWindow;
use crate::time::{Instant, Span};

/// Why a file of decisions cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file is missing, unreadable, or not the CSV that is expected.
    #[error(
        "{file}: {source}; expected CSV with the header {header}", header = HEADER,
        file = file.display()
    )]
    Csv {
        /// The file.
        file: PathBuf,
        /// What the reader said.
        source: csv::Error,
    },
    /// Rows are missing, or not in the order of time.
    #[error("{file}: {reason}", file = file.display())]
    Rows {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

const HEADER: &str = "at_s,target_ms,gain,ramp_min_ms,feed_forward";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    at_s: f64,
    target_ms: f64,
    gain: f64,
    ramp_min_ms: f64,
    feed_forward: f64,
}

/// The policy.
#[derive(Clone, Debug)]
pub struct Replay {
    rows: Vec<(Span, Knobs)>,
    start: Instant,
    current: Option<usize>,
}

impl Replay {
    /// Reads a file; its times count from `start`.
    pub fn open(file: &Path, start: Instant) -> Result<Self, ReplayError> {
        let csv_error = |source| ReplayError::Csv { file: file.to_owned(), source };
        let rows_error = |reason| ReplayError::Rows { file: file.to_owned(), reason };
        // The reader itself takes what cannot be read, such as a folder, for the end of the file.
        let text = std::fs::read(file).map_err(|e| csv_error(e.into()))?;
        let mut reader = csv::Reader::from_reader(text.as_slice());
        let mut rows: Vec<(Span, Knobs)> = Vec::new();
        for (i, row) in reader.deserialize::<Row>().enumerate() {
            let row = row.map_err(csv_error)?;
            let at = Span::from_secs_f64(row.at_s);
            if rows.last().is_some_and(|(last, _)| *last >= at) {
                return Err(rows_error(format!("row {} is not later than the row before it", i + 1)));
            }
            let knobs = Knobs {
                target: Span::from_secs_f64(row.target_ms / 1e3),
                gain: row.gain,
                ramp_min: Span::from_secs_f64(row.ramp_min_ms / 1e3),
                feed_forward: row.feed_forward,
            };
            rows.push((at, knobs));
        }
        if rows.is_empty() {
            return Err(rows_error(format!("there is no row; expected CSV with the header {HEADER}")));
        }
        Ok(Self { rows, start, current: None })
    }
}

impl Policy for Replay {
    fn decide(&mut self, window: &TelemetryWindow, _in_force: &Knobs) -> Result<Knobs, Abstention> {
        let elapsed = window.end.since(self.start);
        let row = self.rows.iter().rposition(|(at, _)| *at <= elapsed).ok_or(Abstention::Silent)?;
        let knobs = self.rows[row].1;
        let fresh = self.current.replace(row) != Some(row);
        Ok(if fresh { knobs } else { Knobs { feed_forward: 1.0, ..knobs } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(ms: u64) -> TelemetryWindow {
        TelemetryWindow::quiet(0, Instant::from_millis(ms))
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let f = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(f.path(), text).unwrap();
        f
    }

    #[test]
    fn a_row_holds_until_the_next_and_feeds_forward_once() {
        let f = file("at_s,target_ms,gain,ramp_min_ms,feed_forward\n1,5,1.4,0.8,2\n2,10,1,1,1\n");
        let mut r = Replay::open(f.path(), Instant::from_millis(100)).unwrap();
        let mut decide = |ms| r.decide(&window(ms), &Knobs::default());
        assert_eq!(decide(1_000), Err(Abstention::Silent));
        let first = decide(1_100).unwrap();
        assert_eq!((first.target, first.gain, first.feed_forward), (Span::from_millis(5), 1.4, 2.0));
        assert_eq!(decide(1_500).unwrap().feed_forward, 1.0);
        assert_eq!(decide(2_100).unwrap().target, Span::from_millis(10));
    }

    #[test]
    fn bad_files_say_what_is_wrong() {
        for (text, part) in [
            ("at_s,target_ms,gain,ramp_min_ms,feed_forward\n", "no row"),
            ("at_s,target_ms,gain,ramp_min_ms,feed_forward\n2,5,1,1,1\n1,5,1,1,1\n", "row 2 is not later"),
            ("at_s,target\n1,2\n", "expected CSV with the header"),
            ("at_s,target_ms,gain,ramp_min_ms,feed_forward\n1,fast,1,1,1\n", "expected CSV"),
        ] {
            let f = file(text);
            let message = Replay::open(f.path(), Instant::ZERO).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        assert!(Replay::open(Path::new("nowhere.csv"), Instant::ZERO).is_err());
    }
}
