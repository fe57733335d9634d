//! `records.jsonl`: a header, then one line per finished run. What is there is not run again.
//!
//! A line is written at once when its run is finished, so that an interruption costs the runs in progress. A last line
//! that is not complete is dropped.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::EvalError;
use super::cell::CellRecord;
use super::design::Unit;

/// Name of the file.
pub const FILE: &str = "records.jsonl";
/// The form of the file that this version writes.
pub const SCHEMA: u32 = 1;

/// What all records of a file have in common. Records of another header are not mixed with these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Always [`SCHEMA`].
    pub records_schema: u32,
    /// Version of l4sd.
    pub version: String,
    /// Revision that it was built from.
    pub revision: String,
    /// `train`, `dev` or `test`.
    pub split: String,
    /// Seed that the links were drawn from.
    pub split_seed: u64,
    /// The rule whose feed-forward goes with every setting of an oracle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed_forward: Option<String>,
}

impl Header {
    /// That of this program.
    pub fn new(split: &str, split_seed: u64) -> Self {
        Self {
            records_schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: env!("L4SD_REVISION").to_owned(),
            split: split.to_owned(),
            split_seed,
            feed_forward: None,
        }
    }

    /// The fields that differ, in words, of both.
    fn differences(&self, other: &Self) -> (String, String) {
        let words = |h: &Self| {
            [
                ("records of form", h.records_schema.to_string()),
                ("version", h.version.clone()),
                ("revision", h.revision.clone()),
                ("split", h.split.clone()),
                ("split seed", h.split_seed.to_string()),
                ("feed-forward", h.feed_forward.clone().unwrap_or_else(|| "none".to_owned())),
            ]
        };
        let (ours, theirs) = (words(self), words(other));
        let differ: Vec<_> = ours.iter().zip(&theirs).filter(|(a, b)| a != b).collect();
        let list = |side: usize| {
            let of_side = differ.iter().map(|(a, b)| if side == 0 { a } else { b });
            of_side.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
        };
        (list(0), list(1))
    }
}

#[derive(Serialize, Deserialize)]
struct Line<R> {
    unit: String,
    record: R,
}

/// The open file.
#[derive(Debug)]
pub struct RecordLog<R = CellRecord> {
    path: PathBuf,
    file: File,
    found: HashMap<String, R>,
}

impl RecordLog {
    /// Opens the file of an evaluation in `dir`: see [`RecordLog::open_file`].
    pub fn open(dir: &Path, header: &Header, fresh: bool) -> Result<Self, EvalError> {
        Self::open_file(dir, FILE, header, fresh)
    }
}

impl<R: Serialize + DeserializeOwned> RecordLog<R> {
    /// Opens the file of this name in `dir`, which is made if it does not exist. `fresh` forgets what is there.
    pub fn open_file(dir: &Path, name: &str, header: &Header, fresh: bool) -> Result<Self, EvalError> {
        let path = dir.join(name);
        let failed = |source| EvalError::File { path: path.clone(), source };
        std::fs::create_dir_all(dir).map_err(|source| EvalError::File { path: dir.to_owned(), source })?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(EvalError::Busy { path }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut text = Vec::new();
        if fresh {
            file.set_len(0).map_err(failed)?;
        } else {
            file.read_to_end(&mut text).map_err(failed)?;
        }
        // Up to the end of the last complete line.
        let complete = text.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        text.truncate(complete);
        let found = parse(&path, header, &text)?;
        file.set_len(complete as u64).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut log = Self { path, file, found };
        if complete == 0 {
            log.write(header).map_err(|source| EvalError::File { path: log.path.clone(), source })?;
        }
        Ok(log)
    }

    /// The record of a run, if it has been made.
    pub fn take(&mut self, unit: &Unit) -> Option<R> {
        self.found.remove(&unit.fingerprint)
    }

    /// Whether a run has been made.
    pub fn has(&self, unit: &Unit) -> bool {
        self.found.contains_key(&unit.fingerprint)
    }

    /// Writes a record, and returns it as it will be read: what is judged does not depend on whether it was resumed.
    pub fn append(&mut self, unit: &Unit, record: R) -> Result<R, EvalError> {
        let refused =
            |e: serde_json::Error| EvalError::Unfit { unit: unit.name.clone(), reason: e.to_string() };
        let text = serde_json::to_string(&record).map_err(refused)?;
        let kept = serde_json::from_str(&text).map_err(refused)?;
        let line = Line { unit: unit.fingerprint.clone(), record };
        self.write(&line).map_err(|source| EvalError::File { path: self.path.clone(), source })?;
        Ok(kept)
    }

    fn write(&mut self, line: &impl Serialize) -> std::io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.file.write_all(&bytes)
    }
}

fn parse<R: DeserializeOwned>(
    path: &Path,
    header: &Header,
    text: &[u8],
) -> Result<HashMap<String, R>, EvalError> {
    let damaged = |i: usize| {
        move |e: serde_json::Error| EvalError::Damaged {
            path: path.to_owned(),
            line: i + 1,
            reason: e.to_string(),
        }
    };
    let mut lines = text.split(|&b| b == b'\n').enumerate();
    let mut found = HashMap::new();
    match lines.next() {
        Some((_, [])) | None => return Ok(found),
        Some((i, first)) => {
            let theirs: Header = serde_json::from_slice(first).map_err(damaged(i))?;
            if theirs != *header {
                let (ours, theirs) = header.differences(&theirs);
                return Err(EvalError::Foreign { path: path.to_owned(), theirs, ours });
            }
        }
    }
    for (i, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let line: Line<R> = serde_json::from_slice(line).map_err(damaged(i))?;
        found.insert(line.unit, line.record);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::cell::CellInfo;
    use crate::eval::design::Design;

    fn units() -> Vec<Unit> {
        let cell = CellInfo { grid: "g".into(), name: "a".into(), ..CellInfo::default() };
        Design::new(vec![cell], [], 2).units(|_| "s".into(), |_| String::new(), |_| 1.0)
    }

    fn record(seed: u64) -> CellRecord {
        CellRecord { seed, utilization_over_time: vec![0.1 + 0.2], ..CellRecord::default() }
    }

    fn header() -> Header {
        Header::new("dev", 1)
    }

    #[test]
    fn what_was_appended_is_found_again_and_fresh_forgets_it() {
        let dir = tempfile::tempdir().unwrap();
        let units = units();
        let mut log = RecordLog::open(&dir.path().join("deep"), &header(), false).unwrap();
        assert!(!log.has(&units[0]));
        assert_eq!(log.append(&units[0], record(1)).unwrap(), record(1));
        drop(log);
        let mut log = RecordLog::open(&dir.path().join("deep"), &header(), false).unwrap();
        assert_eq!(log.take(&units[0]), Some(record(1)));
        assert_eq!(log.take(&units[1]), None);
        drop(log);
        assert!(!RecordLog::open(&dir.path().join("deep"), &header(), true).unwrap().has(&units[0]));
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let (units, path) = (units(), dir.path().join(FILE));
        let mut log = RecordLog::open(dir.path(), &header(), false).unwrap();
        for (i, unit) in units.iter().take(2).enumerate() {
            log.append(unit, record(i as u64)).unwrap();
        }
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let mut log = RecordLog::open(dir.path(), &header(), false).unwrap();
        assert!(log.has(&units[0]) && !log.has(&units[1]));
        log.append(&units[1], record(1)).unwrap();
        drop(log);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        // Torn within the header: nothing is there.
        std::fs::write(&path, &whole[..10]).unwrap();
        assert!(!RecordLog::open(dir.path(), &header(), false).unwrap().has(&units[0]));
    }

    #[test]
    fn other_headers_and_damage_are_one_clear_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let mut log = RecordLog::open(dir.path(), &header(), false).unwrap();
        log.append(&units()[0], record(1)).unwrap();
        drop(log);
        let message = |header: &Header| RecordLog::open(dir.path(), header, false).unwrap_err().to_string();
        let text = message(&Header::new("test", 2));
        assert!(
            text.contains("made with split dev, split seed 1, and this is split test, split seed 2; "),
            "{text}"
        );
        assert!(text.contains("--out") && text.contains("--fresh") && !text.contains("revision"), "{text}");
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, whole.replace("\"unit\"", "\"tinu\"")).unwrap();
        let text = message(&header());
        assert!(
            text.contains("records.jsonl:2: the record is damaged: ") && text.contains("--fresh"),
            "{text}"
        );
        assert!(RecordLog::open(dir.path(), &Header::new("test", 2), true).is_ok());
    }

    #[test]
    fn two_at_once_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = RecordLog::open(dir.path(), &header(), false).unwrap();
        let text = RecordLog::open(dir.path(), &header(), true).unwrap_err().to_string();
        assert!(text.contains("another l4sd eval"), "{text}");
    }

    #[test]
    fn a_figure_that_is_no_number_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = RecordLog::open(dir.path(), &header(), false).unwrap();
        let bad = CellRecord { utilization_over_time: vec![f64::NAN], ..record(1) };
        let text = log.append(&units()[0], bad).unwrap_err().to_string();
        assert!(text.starts_with("g a under dualpi2, seed 1: "), "{text}");
        let mut odd = record(1);
        odd.run.link.utilization = Some(f64::INFINITY);
        assert_eq!(log.append(&units()[0], odd).unwrap(), record(1), "absent, as it will be read");
    }
}
