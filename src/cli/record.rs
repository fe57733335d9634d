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
    writer: RecordWriter,
    failed: Option<RecordError>,
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
            writer: RecordWriter::new(file, &schema)?,
            failed: None,
        })
    }

    /// The next window, and what was in force at its end. What goes wrong is told at the end, once.
    pub(super) fn take(&mut self, window: &TelemetryWindow, in_force: &Knobs) {
        self.extractor.push(window, in_force);
        self.extractor.write(&mut self.features);
        if self.failed.is_none() {
            self.failed = self.writer.row(window, &self.features, in_force).err();
        }
    }

    /// Writes out what is buffered.
    pub(super) fn finish(self) -> Result<(), RecordError> {
        match self.failed {
            Some(e) => Err(e),
            None => self.writer.finish(),
        }
    }
}
