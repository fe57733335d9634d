//! What a run found: figures by difference of counters, tables, series, plots and `results.json`.
//!
//! Fed with telemetry windows and delay histograms after the fact; never part of the packet path, and it reads no
//! clock: time comes from the windows. The meaning of every figure is the result object's (docs of [`result`]).

mod csv;
pub(crate) mod plot;
pub mod recorder;
pub mod result;
mod table;
mod write;

pub use self::csv::{COLUMNS, series};
pub use plot::{plot_png, plot_svg};
pub use recorder::{Bin, DirectionRecorder, DirectionReport, QueueBin, RunSetup};
pub use result::{ResultFile, RunResult};
pub use table::{markdown, text};
pub use write::{put_all, write_all};

use std::path::PathBuf;

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file or folder cannot be made.
    #[error("{}: cannot write: {source}; choose another folder with --out", path.display())]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The plot cannot be drawn.
    #[error("cannot draw the delay plot: {0}; the other files of the report are not affected")]
    Plot(String),
}
