//! Many cells under many policies and seeds, and what is said about them: scores, feasibility, intervals, tables, plots.
//!
//! It judges result objects. Only `simulate` knows that a simulation made them, and no AQM formula stands here.
//!
//! | module | what it is |
//! |---|---|
//! | [`cell`] | a drawn link, and the record of a run |
//! | [`design`] | which runs are made: cells x policies x seeds |
//! | [`simulate`] | one run |
//! | [`plan`] | all of it from names: what `l4sd eval` and the Python package share |
//! | [`batch`] | many runs at once under one policy that answers for all of them |
//! | [`runner`], [`records`] | makes them on all cores; keeps what is done, so that a run can be taken up again |
//! | [`score`] | S and feasibility of a cell |
//! | [`bootstrap`] | 95 % intervals over links and seeds |
//! | [`summary`] | cells and groups of cells, judged |
//! | [`audit`] | whether a model does anything: frozen, fed with other inputs, blindfolded, late |
//! | [`oracle`] | the best constants of each link, found with its hidden truth |
//! | [`file`](mod@file), [`tables`], [`plots`] | what is written |

pub mod audit;
pub mod batch;
pub mod bootstrap;
pub mod cell;
pub mod design;
pub mod file;
pub mod oracle;
mod parallel;
mod phases;
pub mod plan;
pub mod plots;
mod progress;
pub mod records;
pub mod runner;
pub mod score;
pub mod simulate;
pub mod summary;
#[cfg(test)]
pub(crate) mod synthetic;
pub mod tables;

use std::path::PathBuf;

pub use cell::{CellInfo, CellRecord};
pub use design::{Design, Unit};
pub use plan::EvalPlan;
pub use progress::Progress;
pub use records::{Header, RecordLog};
pub use summary::{Judgement, judge};

/// Why there is no evaluation.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A file or folder cannot be read or written.
    #[error("{}: {source}; choose another folder with --out", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Somebody else writes there.
    #[error("{}: another l4sd eval is writing it; wait for it or choose another folder with --out", path.display())]
    Busy {
        /// The file of records.
        path: PathBuf,
    },
    /// Records of another kind are there.
    #[error(
        "{}: these records were made with {theirs}, and this is {ours}; choose another folder with --out, or --fresh \
         to make them all again",
        path.display()
    )]
    Foreign {
        /// The file of records.
        path: PathBuf,
        /// What differs, as the file has it.
        theirs: String,
        /// The same of this run.
        ours: String,
    },
    /// A line of the file of records is not what was written.
    #[error("{}:{line}: the record is damaged: {reason}; --fresh makes all again", path.display())]
    Damaged {
        /// The file of records.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the parser said.
        reason: String,
    },
    /// A figure of a run is not a number.
    #[error("{unit}: the record of this run cannot be kept: {reason}; this is a fault of l4sd")]
    Unfit {
        /// Which run.
        unit: String,
        /// What the parser said.
        reason: String,
    },
    /// A run that the design asks for is not among the records.
    #[error("there is no record of {0}; this is a fault of l4sd")]
    Missing(String),
    /// A picture cannot be drawn.
    #[error(transparent)]
    Report(#[from] crate::report::ReportError),
}
