//! A learned policy's file: read whole, checked whole, or refused. It is an ONNX graph whose metadata says how it is
//! used; [`mod@file`] reads and judges the bytes, [`card`] the metadata, [`Session`] runs the graph, and [`choice`]
//! turns its numbers into parameters. A model that reads a context has an [`encoder`] beside it. `docs/model.md` is the
//! format for those who make such files.
//!
//! Must not decide what is admitted: that is the guard's.

pub mod card;
pub mod choice;
pub mod encoder;
#[cfg(test)]
pub(crate) mod fabricate;
pub mod file;
mod proto;
pub mod session;
pub mod shipped;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use card::{Card, FeedForwardRule, settings};
pub use encoder::EncoderFile;
pub use file::ModelFile;
pub use session::Session;

/// Why a model is not used. Each message names the file, what is wrong with it, and where it matters the way out.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {fault}", file = .file.display())]
pub struct ModelError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong.
    #[source]
    pub fault: Fault,
}

impl ModelError {
    fn new(file: &Path, fault: Fault) -> Self {
        Self { file: file.to_owned(), fault }
    }
}

/// What is wrong with a model.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It cannot be read.
    #[error("{0}; check the path")]
    Read(#[from] std::io::Error),
    /// It is larger than [`file::MAX_BYTES`].
    #[error("{0} bytes; a model has at most {max}", max = file::MAX_BYTES)]
    TooLarge(u64),
    /// Its SHA-256 is not the one that was asked for.
    #[error("its SHA-256 is {is}, and {wanted} was asked for")]
    Hash {
        /// What the file has.
        is: String,
        /// What the configuration asks for.
        wanted: String,
    },
    /// It is not an ONNX file, or has what a model for l4sd may not have.
    #[error("{0}")]
    Graph(String),
    /// Its metadata is missing something or contradicts the graph or this program.
    #[error("{0}")]
    Card(String),
    /// The backend does not take it.
    #[error("{backend} refused it: {reason}")]
    Backend {
        /// Which.
        backend: String,
        /// What it said.
        reason: String,
    },
    /// Nothing can run models here.
    #[error(
        "{0}; get it with 'pip install --target DIR --no-deps onnxruntime' (in a checkout 'make tools', into target/tools; on \
         FreeBSD 'pkg install onnxruntime') and name DIR/onnxruntime/capi/libonnxruntime.so.VERSION in ORT_DYLIB_PATH or \
         [control] onnxruntime"
    )]
    NoBackend(#[from] l4sd_onnxruntime::NoBackend),
    /// A context was asked for, and it reads none.
    #[error(
        "it reads no context: set [control] context = \"none\", or name a model with the input 'context' (docs/model.md)"
    )]
    NoContext,
    /// The encoder of a model that reads a context is not there.
    #[error(
        "there is no such file; the encoder that was made with a model belongs beside it (docs/model.md)"
    )]
    NoEncoder,
    /// Its answers to the golden inputs are not the golden outputs.
    #[error(
        "its answers differ from its golden vectors by {worst:e} where {tolerance:e} is allowed ({backend})"
    )]
    Golden {
        /// Largest difference.
        worst: f32,
        /// What the card allows.
        tolerance: f32,
        /// The backend.
        backend: String,
    },
}
