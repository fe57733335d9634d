//! Feature vectors with the action that was in force and raw outcomes, one row a window, as CSV. The first line is
//! `# l4sd features: schema version V, sha256 H`; a file of another schema is not read.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::schema::{KNOBS, Schema, VERSION};
use crate::aqm::Service;
use crate::aqm::params::Knobs;
use crate::telemetry::TelemetryWindow;

/// Why a file of records cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The operating system refused.
    #[error("{file}: {source}; check the path and the room on the disk", file = file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// It cannot be read.
    #[error("{file}: {source}; check the path", file = file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It is something else.
    #[error(
        "{file}: not a record, whose first line begins with '{first}': make one with `l4sd run --record` or `l4sd sim --record`", first = FIRST.trim_end(),
        file = file.display()
    )]
    NoRecord {
        /// The file.
        file: PathBuf,
    },
    /// The file is of another schema.
    #[error(
        "{file}: recorded with feature {found}, but this program has {wanted}; record again, or use the program that wrote it",
        file = file.display()
    )]
    Schema {
        /// The file.
        file: PathBuf,
        /// What its first line says.
        found: String,
        /// What it should say.
        wanted: String,
    },
    /// A line is not what the schema makes it.
    #[error("{file}:{line}: {reason}", file = file.display())]
    Row {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

const FIRST: &str = "# l4sd features: ";

fn identity(schema: &Schema) -> String {
    format!("schema version {VERSION}, sha256 {}", schema.hash)
}

/// Cumulative outcomes of a queue, so that any two rows give those of the time between them.
const OUTCOMES: [&str; 7] = [
    "arrived_packets",
    "forwarded_packets",
    "forwarded_bytes",
    "dropped_packets",
    "marked_packets",
    "delay_sum_ns",
    "delay_max_ns",
];

/// Names of the columns: `t_s`, the features, `action.KNOB`, `capacity_bits`, `l.OUTCOME`, `c.OUTCOME`. Outcomes are raw
/// and cumulative but for the longest delay, which is the window's.
pub fn columns(schema: &Schema) -> Vec<String> {
    let outcomes = Service::BOTH.iter().flat_map(|s| OUTCOMES.map(|name| format!("{}.{name}", s.label())));
    ["t_s".to_owned()]
        .into_iter()
        .chain(schema.names())
        .chain(KNOBS.map(|k| format!("action.{k}")))
        .chain(["capacity_bits".to_owned()])
        .chain(outcomes)
        .collect()
}

/// Writes a file of records.
#[derive(Debug)]
pub struct RecordWriter {
    file: PathBuf,
    out: BufWriter<File>,
    width: usize,
    line: String,
}

impl RecordWriter {
    /// A new file; one that is there is replaced.
    pub fn new(path: &Path, schema: &Schema) -> Result<Self, RecordError> {
        let io = |source| RecordError::Io { file: path.to_owned(), source };
        let mut out = BufWriter::new(File::create(path).map_err(io)?);
        let columns = columns(schema).join(",");
        writeln!(out, "{FIRST}{}\n{columns}", identity(schema)).map_err(io)?;
        Ok(Self { file: path.to_owned(), out, width: schema.width(), line: String::new() })
    }

    /// A row: what [`super::Extractor::write`] said after `window`, and the knobs that were then put in force.
    ///
    /// # Panics
    /// If `features` is not as long as the schema makes it.
    pub fn row(
        &mut self,
        window: &TelemetryWindow,
        features: &[f32],
        knobs: &Knobs,
    ) -> Result<(), RecordError> {
        assert_eq!(features.len(), self.width, "the vector must have the width of the schema");
        let line = &mut self.line;
        line.clear();
        // Writing to a string does not fail.
        let _ = write!(line, "{}", window.end.as_nanos() as f64 / 1e9);
        for x in features {
            let _ = write!(line, ",{x}");
        }
        let (target, ramp) = (knobs.target.as_secs_f64(), knobs.ramp_min.as_secs_f64());
        let _ =
            write!(line, ",{target},{},{ramp},{},{}", knobs.gain, knobs.feed_forward, window.capacity_bits);
        for service in Service::BOTH {
            let q = window.egress.queue(service);
            let values = [
                q.arrived.packets,
                q.forwarded.packets,
                q.forwarded.bytes,
                q.dropped_total().packets,
                q.marked_total(),
                q.delay_sum_ns,
                q.delay_max.as_nanos(),
            ];
            for v in values {
                let _ = write!(line, ",{v}");
            }
        }
        line.push('\n');
        self.out
            .write_all(line.as_bytes())
            .map_err(|source| RecordError::Io { file: self.file.clone(), source })
    }

    /// Writes out what is buffered. A writer that is dropped tries that too, but cannot say that it failed.
    pub fn finish(mut self) -> Result<(), RecordError> {
        self.out.flush().map_err(|source| RecordError::Io { file: self.file.clone(), source })
    }
}

/// Reads a file of records of this very schema: the rows, by [`columns`].
pub fn read(path: &Path, schema: &Schema) -> Result<Vec<Vec<f64>>, RecordError> {
    let io = |source| RecordError::Read { file: path.to_owned(), source };
    let row = |line: usize, reason: String| RecordError::Row { file: path.to_owned(), line, reason };
    let mut lines = BufReader::new(File::open(path).map_err(io)?).lines();
    let mut next = || lines.next().transpose().map_err(io);
    let (wanted, first) = (identity(schema), next()?.unwrap_or_default());
    let Some(found) = first.strip_prefix(FIRST).map(str::to_owned) else {
        return Err(RecordError::NoRecord { file: path.to_owned() });
    };
    if found != wanted {
        return Err(RecordError::Schema { file: path.to_owned(), found, wanted });
    }
    let columns = columns(schema);
    if next()?.unwrap_or_default() != columns.join(",") {
        return Err(row(2, "the columns are not those of the schema".to_owned()));
    }
    let mut rows = Vec::new();
    while let Some(text) = next()? {
        let line = rows.len() + 3;
        let values: Result<Vec<f64>, _> = text.split(',').map(str::parse).collect();
        match values {
            Ok(values) if values.len() == columns.len() => rows.push(values),
            Ok(values) => {
                let (is, wanted) = (values.len(), columns.len());
                let reason =
                    format!("{is} values for {wanted} columns; a last line that was cut off may be deleted");
                return Err(row(line, reason));
            }
            Err(error) => return Err(row(line, error.to_string())),
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aqm::stats::Snapshot;
    use crate::telemetry::arrivals::ArrivalStats;
    use crate::time::{Instant, Span};
    use crate::units::BitRate;

    fn window() -> TelemetryWindow {
        let mut egress = Snapshot::default();
        egress.queues[1].delay_sum_ns = 77;
        TelemetryWindow {
            id: 0,
            end: Instant::from_millis(16),
            span: Span::from_millis(16),
            rate: BitRate::from_mbps(40),
            capacity_bits: 640_000,
            egress,
            arrivals: ArrivalStats::default(),
        }
    }

    #[test]
    fn what_is_written_is_read_back_by_the_same_schema_only() {
        let schema = Schema::embedded();
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = RecordWriter::new(file.path(), &schema).unwrap();
        let features: Vec<f32> = (0..schema.width()).map(|n| n as f32 / 3.0).collect();
        writer.row(&window(), &features, &Knobs::default()).unwrap();
        writer.finish().unwrap();
        let rows = read(file.path(), &schema).unwrap();
        let columns = columns(&schema);
        let value = |name: &str| rows[0][columns.iter().position(|c| c == name).unwrap()];
        assert_eq!((rows.len(), rows[0].len()), (1, columns.len()));
        let read_back: Vec<f32> = rows[0][1..=schema.width()].iter().map(|x| *x as f32).collect();
        assert!(read_back == features, "the shortest decimal form of an f32 is read as the same");
        assert_eq!((value("t_s"), value("action.target"), value("action.feed_forward")), (0.016, 0.015, 1.0));
        assert_eq!((value("capacity_bits"), value("c.delay_sum_ns")), (640_000.0, 77.0));

        let other = Schema { hash: "0".repeat(64), ..schema.clone() };
        let message = read(file.path(), &other).unwrap_err().to_string();
        assert!(message.contains(&schema.hash) && message.contains("record again"), "{message}");
        let mut text = std::fs::read_to_string(file.path()).unwrap();
        text.push_str("1,2\n");
        std::fs::write(file.path(), text).unwrap();
        let message = read(file.path(), &schema).unwrap_err().to_string();
        assert!(message.contains(":4: 2 values for"), "{message}");
    }
}
