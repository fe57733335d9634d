//! Exit codes in the manner of sysexits(3), and which error has which.

use core::fmt;
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::control::context::ContextError;
use crate::control::model::{Fault, ModelError};
use crate::control::policy::replay::ReplayError;
use crate::control::policy::rules::RulesError;
use crate::port::PortError;
use crate::report::ReportError;
use crate::runtime::keeper::KeeperError;
use crate::runtime::privileges::PrivilegeError;
use crate::sim::run::SimError;

/// An exit code.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// The command line makes no sense.
    Usage = 64,
    /// A data or model file is bad.
    Data = 65,
    /// An interface, or the host, is not as it must be.
    Host = 69,
    /// l4sd itself is wrong.
    Internal = 70,
    /// A privilege is missing.
    Privilege = 77,
    /// The configuration is wrong.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error with the exit code that it ends the process with.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// The error.
    pub error: anyhow::Error,
}

impl Failure {
    /// Any error under a code.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)
    }
}

impl From<ConfigError> for Failure {
    fn from(e: ConfigError) -> Self {
        Self::new(Exit::Config, e)
    }
}

impl From<PortError> for Failure {
    fn from(e: PortError) -> Self {
        let exit = match e {
            PortError::Interface { .. } | PortError::Os { .. } => Exit::Host,
            PortError::Privilege { .. } => Exit::Privilege,
            PortError::Spec { .. } => Exit::Config,
        };
        Self::new(exit, e)
    }
}

impl From<KeeperError> for Failure {
    fn from(e: KeeperError) -> Self {
        let exit = if matches!(e, KeeperError::Forbidden { .. }) { Exit::Privilege } else { Exit::Host };
        Self::new(exit, e)
    }
}

impl From<PrivilegeError> for Failure {
    fn from(e: PrivilegeError) -> Self {
        let exit = match e {
            PrivilegeError::NoUser(_) | PrivilegeError::Root(_) => Exit::Config,
            PrivilegeError::NotRoot(_) | PrivilegeError::Refused { .. } => Exit::Privilege,
            PrivilegeError::Host(_) => Exit::Host,
        };
        Self::new(exit, e)
    }
}

impl From<ReplayError> for Failure {
    fn from(e: ReplayError) -> Self {
        Self::new(Exit::Data, e)
    }
}

impl From<RulesError> for Failure {
    fn from(e: RulesError) -> Self {
        Self::new(Exit::Data, e)
    }
}

impl From<ModelError> for Failure {
    fn from(e: ModelError) -> Self {
        let exit = if matches!(e.fault, Fault::NoBackend(_)) { Exit::Host } else { Exit::Data };
        Self::new(exit, e)
    }
}

impl From<ContextError> for Failure {
    fn from(e: ContextError) -> Self {
        let exit = if matches!(e, ContextError::Io { .. }) { Exit::Host } else { Exit::Data };
        Self::new(exit, e)
    }
}

impl From<SimError> for Failure {
    fn from(e: SimError) -> Self {
        match e {
            SimError::Replay(e) => e.into(),
            SimError::Rules(e) => e.into(),
            SimError::Model(e) => e.into(),
        }
    }
}

impl From<ReportError> for Failure {
    fn from(e: ReportError) -> Self {
        Self::new(Exit::Host, e)
    }
}
