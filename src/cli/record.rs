//! What a policy would have seen of a run, window by window, as a file of records.

use std::path::Path;

use crate::aqm::params::Knobs;
use crate::telemetry::TelemetryWindow;
use crate::telemetry::features::dataset::{RecordError, RecordWriter};
use crate::telemetry::features::{Extractor, Schema};

/// Keeps features and parameters of every window.
#[derive(Debug)]
pub(super) struct Recorder {
    extractor: Extractor,
    features: Vec<f32>,
    /// Or what ended the record.
    writer: Result<RecordWriter, RecordError>,
}

impl Recorder {
    /// Into this file, whose folder is made if it is not there.
    pub(super) fn new(file: &Path) -> Result<Self, RecordError> {
        let folder = file.parent().unwrap_or(Path::new(""));
        std::fs::create_dir_all(folder)
            .map_err(|source| RecordError::Io { file: folder.to_owned(), source })?;
        let schema = Schema::embedded();
        Ok(Self {
            extractor: Extractor::new(&schema),
            features: vec![0.0; schema.width()],
            writer: Ok(RecordWriter::new(file, &schema)?),
        })
    }

    /// The next window, and what was in force at its end.
    ///
    /// # Errors
    /// What ends the record, once: nothing is written after it, so that a file has no gap.
    pub(super) fn take(&mut self, window: &TelemetryWindow, in_force: &Knobs) -> Result<(), &RecordError> {
        let Ok(writer) = &mut self.writer else { return Ok(()) };
        self.extractor.push(window, in_force);
        self.extractor.write(&mut self.features);
        if let Err(e) = writer.row(window, &self.features, in_force) {
            self.writer = Err(e);
        }
        self.writer.as_ref().map(|_| ())
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// That cannot be written, or something could not before.
    pub(super) fn finish(self) -> Result<(), RecordError> {
        self.writer?.finish()
    }
}
