//! The one error of this crate.

use std::io;

/// Shorthand for results of this crate.
pub type Result<T> = core::result::Result<T, Error>;

/// A system call failed.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {source}")]
pub struct Error {
    /// The call, with the option it set.
    pub call: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

impl Error {
    pub(crate) fn last(call: &'static str) -> Self {
        Self { call, source: io::Error::last_os_error() }
    }

    /// Whether a capability is missing.
    pub fn is_privilege(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::EPERM | libc::EACCES))
    }

    /// Whether the interface went down or away.
    pub fn is_interface_lost(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV))
    }
}
