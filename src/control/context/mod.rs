//! What a link did under settings that were in force, shown to a model before it sees the link itself: demonstrations.
//!
//! A demonstration is [`RECORDS`] records, [`PERIOD`] apart: the slow features of the schema, the action in force, and what
//! came of it since the record before. [`record`] makes them of what `l4sd run --record` wrote, [`profiles`] is the file
//! that they are kept in, and `control::model::encoder` turns them into the vectors that a model reads, once, at its
//! start. `models/train/demonstrations.py` makes the same for training.
//!
//! Must not know a model or a backend, nor judge a link.

pub mod profiles;
pub mod record;

pub use profiles::{Profile, Profiles};

use std::path::PathBuf;

use crate::telemetry::features::dataset::RecordError;
use crate::telemetry::features::schema::Schema;
use crate::time::Span;

/// Records in a demonstration.
pub const RECORDS: usize = 12;
/// Time between them.
pub const PERIOD: Span = Span::from_millis(128);
/// Most demonstrations that are shown at once.
pub const MOST: usize = 4;
/// Numbers of the action in force: ln of target, gain and ramp over RFC 9332's.
const ACTION: usize = 3;
/// Numbers of what came of it: is there C, ln(its delay in ms + .5), is there L, ln(its delay + .2), utilisation, is the
/// ratio known, log2 of the rate of a flow in L over that of one in C.
const OUTCOMES: usize = 7;

/// Why demonstrations cannot be had. Each message names the file and the way out.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The record cannot be read, or is of another schema.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The record is too short.
    #[error(
        "{file}: it covers {seconds:.1} s; a demonstration takes {least:.1} s of one link from its beginning, four of them \
         some 9.3 s: record for longer",
        file = .file.display()
    )]
    Short {
        /// The record.
        file: PathBuf,
        /// What it covers.
        seconds: f64,
        /// What it must cover.
        least: f64,
    },
    /// The record is not of one run.
    #[error("{file}: its time goes back after {after_s} s; it is not of one run: record again", file = .file.display())]
    Order {
        /// The record.
        file: PathBuf,
        /// The last time in order.
        after_s: f64,
    },
    /// The operating system refused.
    #[error("{file}: {source}; check the path and the room on the disk", file = .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// A file of demonstrations is not what it should be.
    #[error("{file}: {reason}; make it with 'l4sd model adapt RECORD'", file = .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Slow features of a schema; they come first.
pub fn slow(schema: &Schema) -> usize {
    schema.width() - schema.raw_windows * schema.signals.iter().filter(|s| s.raw).count()
}

/// Numbers in a record.
pub fn width(schema: &Schema) -> usize {
    slow(schema) + ACTION + OUTCOMES
}

/// A demonstration: its records.
pub type Demonstration = Vec<Vec<f32>>;

/// What a demonstration returned: the mean of ln utilisation less ln delay, the mean of the queues that carried packets.
pub fn value(demonstration: &Demonstration) -> f64 {
    let of = |record: &Vec<f32>| {
        let at = |i: usize| f64::from(record[record.len() - OUTCOMES + i]);
        let queues = (at(0) + at(2)).max(1.0);
        at(4).max(0.01).ln() - (at(0) * at(1) + at(2) * at(3)) / queues
    };
    demonstration.iter().map(of).sum::<f64>() / demonstration.len().max(1) as f64
}

/// What an encoder takes: up to [`MOST`] demonstrations in order of rising return, zeros after them, and 1 for each that is
/// there.
pub fn prompt(demonstrations: &[Demonstration], schema: &Schema) -> (Vec<f32>, [f32; MOST]) {
    let mut order: Vec<&Demonstration> = demonstrations.iter().take(MOST).collect();
    order.sort_by(|a, b| value(a).total_cmp(&value(b)));
    let mut shown: Vec<f32> = order.iter().flat_map(|d| d.iter().flatten().copied()).collect();
    shown.resize(MOST * RECORDS * width(schema), 0.0);
    let mut mask = [0.0; MOST];
    mask[..order.len()].fill(1.0);
    (shown, mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shot(classic_ms: f32, l4s_ms: Option<f32>, utilisation: f32) -> Demonstration {
        let schema = Schema::embedded();
        let mut record = vec![0.0; slow(&schema) + ACTION];
        record.extend([1.0, (classic_ms + 0.5).ln()]);
        record.extend([l4s_ms.is_some().into(), l4s_ms.map_or(0.0, |ms| (ms + 0.2).ln())]);
        record.extend([utilisation, 0.0, 0.0]);
        vec![record; RECORDS]
    }

    /// 14.5 + .5 ms and .8 + .2 ms: -(ln 15 + ln 1)/2. C alone counts whole. Half the utilisation is ln 2.
    #[test]
    fn the_return_is_ln_utilisation_less_ln_delay() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} is not {b}");
        near(value(&shot(14.5, Some(0.8), 1.0)), -(15f64.ln()) / 2.0);
        near(value(&shot(14.5, None, 1.0)), -(15f64.ln()));
        near(value(&shot(14.5, None, 0.5)), -(15f64.ln()) - 2f64.ln());
    }

    #[test]
    fn a_prompt_is_in_order_of_rising_return_with_zeros_behind() {
        let schema = Schema::embedded();
        let shots = [shot(7.0, None, 1.0), shot(14.5, None, 1.0), shot(3.0, None, 1.0)];
        let (shown, mask) = prompt(&shots, &schema);
        let each = RECORDS * width(&schema);
        assert_eq!((shown.len(), mask), (MOST * each, [1.0, 1.0, 1.0, 0.0]));
        let delay = |n: usize| shown[n * each + width(&schema) - OUTCOMES + 1];
        assert_eq!([delay(0), delay(1), delay(2), delay(3)], [15f32.ln(), 7.5f32.ln(), 3.5f32.ln(), 0.0]);
    }
}
