//! The one error of this crate.

use std::io;

/// Shorthand for results of this crate.
pub type Result<T> = core::result::Result<T, Error>;

/// Why the host could not be asked or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call into the operating system failed.
    #[error("{call}: {source}")]
    Os {
        /// The call.
        call: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The process lacks a privilege.
    #[error("{what} needs {privilege}: run as root, or inside `unshare -Urnm`")]
    Privilege {
        /// What was tried.
        what: &'static str,
        /// The capability that is missing.
        privilege: &'static str,
    },
    /// This kernel cannot do it.
    #[error("{what} is not supported by this kernel: {fix}")]
    Unsupported {
        /// What was tried.
        what: &'static str,
        /// What to do about it.
        fix: &'static str,
    },
    /// There is no such interface.
    #[error("{name}: no such interface {}", crate::link::WHERE)]
    NoInterface {
        /// The name that was asked for.
        name: String,
    },
    /// Another bridge has it.
    #[error("another l4sd forwards from {names}: stop it first, both would forward every frame")]
    Taken {
        /// The interfaces, of which it has at least one.
        names: String,
    },
    /// The operating system's answer was not understood.
    #[error("{call}: the answer makes no sense")]
    Garbled {
        /// The call.
        call: &'static str,
    },
}

impl Error {
    pub(crate) fn last(call: &'static str) -> Self {
        Self::Os { call, source: io::Error::last_os_error() }
    }

    /// The operating system's error number, if one was given.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Os { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}
