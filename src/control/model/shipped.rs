//! The model that is built into the program: what the policy `model` is while nothing names a file.
//!
//! The last line is the one place that names it. Must not judge it: that is [`ModelFile`](super::ModelFile)'s.

use std::path::{Path, PathBuf};

macro_rules! ship {
    ($file:literal) => {
        /// Its bytes.
        pub const SHIPPED: &[u8] = include_bytes!(concat!("../../../models/", $file));
        /// What logs and errors call it.
        pub const LABEL: &str = concat!("models/", $file, " (built in)");
    };
}

/// What logs and errors call a model: its file, or [`LABEL`].
pub fn name(file: Option<&Path>) -> PathBuf {
    file.unwrap_or(Path::new(LABEL)).to_owned()
}

ship!("student.onnx");
