//! How bad a thing is that was found before a start.

use core::fmt;

use serde::Serialize;

/// How bad a finding is.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Forwarding works, but something will be slower or different from what one may expect.
    Warn,
    /// Forwarding will fail or damage traffic.
    Fail,
}

impl Severity {
    /// As it is printed.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}
