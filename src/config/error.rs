//! What can be wrong with a configuration. Every message is one line that names the key, where it stands, and the fix.

use std::fmt;

use super::PortSpec;

/// Where in a file something stands; both numbers count from 1, columns in characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The file as the user named it.
    pub file: String,
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A place followed by `: `, or nothing when the value came from the command line.
struct At<'a>(&'a Option<Place>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |place| write!(f, "{place}: "))
    }
}

/// Why there is no [`super::Config`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: cannot read the configuration: {source}; check the path given with -c")]
    Read {
        /// The file as the user named it.
        file: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{place}: not valid TOML: {reason}; docs/l4sd.toml.sample shows the form")]
    Syntax {
        /// Where reading stopped.
        place: Place,
        /// What the parser expected.
        reason: String,
    },
    /// A key that l4sd does not have.
    #[error("{place}: unknown key '{key}'; {known}")]
    UnknownKey {
        /// Where the key stands.
        place: Place,
        /// Full name of the key.
        key: String,
        /// The keys that exist there.
        known: String,
    },
    /// A value of the wrong type, form or range.
    #[error("{}{key}: {reason}; write for example {leaf} = {example}", At(.place))]
    Value {
        /// Where the value stands; `None` if it came from the command line.
        place: Option<Place>,
        /// Full name of the key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
        /// Last part of the key.
        leaf: &'static str,
        /// A value that works, as TOML.
        example: &'static str,
    },
    /// A key that has no default was given nowhere.
    #[error(
        "{key} is missing; give {flag} or put '{leaf} = {example}' under [{section}] in the configuration"
    )]
    Missing {
        /// Full name of the key.
        key: &'static str,
        /// The command-line flag for it.
        flag: &'static str,
        /// The section of the file.
        section: &'static str,
        /// Last part of the key.
        leaf: &'static str,
        /// A value that works, as TOML.
        example: &'static str,
    },
    /// The two ports do not go together.
    #[error("{}left.port '{left}' and right.port '{right}' {reason}", At(.place))]
    Ports {
        /// Where the right port stands; `None` if it came from the command line.
        place: Option<Place>,
        /// The left port.
        left: PortSpec,
        /// The right port.
        right: PortSpec,
        /// What is wrong and what to do.
        reason: &'static str,
    },
}

impl ConfigError {
    /// Exit code of a process that ends because of this.
    pub const fn exit_code(&self) -> u8 {
        78
    }
}
