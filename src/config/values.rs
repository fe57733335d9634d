//! Values of single keys and their text forms, shared by the file and the command line.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::constants::Constants;
use super::look_ahead::LookAhead;
use crate::time::Span;
use crate::units::{self, BitRate, UnitError};

/// Why a text is not a value of its key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub(super) String);

/// What decides about marks and drops. Names of contract.md "Words".
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Policy {
    /// The DualQ of RFC 9332 with constant parameters.
    DualPi2,
    /// The DualQ of RFC 9332 with other constants.
    DualPi2With(Constants),
    /// The DualQ with the constants that a search has found.
    DualPi2Tuned,
    /// The DualQ of RFC 9332 whose p' answers at once when the link is told to be slower.
    DualPi2Ff,
    /// The DualQ with the decisions of a readable tree: this file, or the one that is built in.
    DualPi2Rules(Option<PathBuf>),
    /// The DualQ with the choices of Linux `sch_dualpi2`.
    DualPi2Linux,
    /// A single queue under PI2.
    Pi2,
    /// A single queue under CoDel.
    Codel,
    /// A single queue that only overflows.
    Taildrop,
    /// The DualQ with decisions read from this file.
    Replay(PathBuf),
    /// The DualQ with the decisions of a model: this file, else the one that the configuration names, else the built-in one.
    Model(Option<PathBuf>),
    /// The DualQ with the decisions of two models, of which one looks ahead.
    LookAhead(LookAhead),
}

impl Policy {
    /// Every accepted spelling.
    pub const NAMES: &'static str = "dualpi2, dualpi2-linux, dualpi2-tuned, dualpi2-ff, dualpi2-rules, dualpi2-rules:FILE, \
         dualpi2:target=5ms:..., pi2, codel, taildrop, model, model:FILE, replay:FILE or lookahead:arm=...";

    /// What result rows call it: as it is written, but any model is `model`.
    pub fn label(&self) -> String {
        match self {
            Self::Model(_) => "model".to_owned(),
            other => other.to_string(),
        }
    }

    /// The constants that it sets in place of those of RFC 9332.
    pub fn constants(&self) -> Constants {
        match self {
            Self::DualPi2With(constants) => *constants,
            Self::DualPi2Tuned => Constants::tuned(),
            _ => Constants::default(),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DualPi2 => "dualpi2",
            Self::DualPi2With(constants) => return write!(f, "dualpi2{constants}"),
            Self::DualPi2Tuned => "dualpi2-tuned",
            Self::DualPi2Ff => "dualpi2-ff",
            Self::DualPi2Rules(None) => "dualpi2-rules",
            Self::DualPi2Rules(Some(path)) => return write!(f, "dualpi2-rules:{}", path.display()),
            Self::DualPi2Linux => "dualpi2-linux",
            Self::Pi2 => "pi2",
            Self::Codel => "codel",
            Self::Taildrop => "taildrop",
            Self::Replay(path) => return write!(f, "replay:{}", path.display()),
            Self::Model(None) => "model",
            Self::Model(Some(path)) => return write!(f, "model:{}", path.display()),
            Self::LookAhead(setup) => return write!(f, "lookahead{setup}"),
        })
    }
}

impl FromStr for Policy {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Ok(match text {
            "dualpi2" => Self::DualPi2,
            "dualpi2-tuned" => Self::DualPi2Tuned,
            "dualpi2-ff" => Self::DualPi2Ff,
            "dualpi2-rules" => Self::DualPi2Rules(None),
            "dualpi2-rules:" => {
                return Err(ValueError(
                    "'dualpi2-rules:' needs a file, as in dualpi2-rules:mine.toml".into(),
                ));
            }
            _ if text.starts_with("dualpi2-rules:") => {
                Self::DualPi2Rules(Some(text["dualpi2-rules:".len()..].into()))
            }
            "dualpi2-linux" => Self::DualPi2Linux,
            "pi2" => Self::Pi2,
            "codel" => Self::Codel,
            "taildrop" => Self::Taildrop,
            "model" => Self::Model(None),
            "model:" => return Err(ValueError("'model:' needs a file, as in model:student.onnx".into())),
            _ if text.starts_with("model:") => Self::Model(Some(text["model:".len()..].into())),
            _ if text.starts_with("lookahead:") => Self::LookAhead(text["lookahead:".len()..].parse()?),
            _ if text.starts_with("dualpi2:") => Self::DualPi2With(text["dualpi2:".len()..].parse()?),
            _ => match text.strip_prefix("replay:") {
                Some("") => {
                    return Err(ValueError("'replay:' needs a file, as in replay:decisions.csv".into()));
                }
                Some(path) => Self::Replay(path.into()),
                None => {
                    return Err(ValueError(format!(
                        "there is no policy '{text}'; it is one of {}",
                        Self::NAMES
                    )));
                }
            },
        })
    }
}

/// Size of a direction's shared buffer.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Limit {
    /// So many bytes.
    Bytes(u64),
    /// As much as the link sends in this time, recomputed when the rate is changed.
    Time(Span),
}

impl Limit {
    /// The buffer in bytes at `rate`.
    pub fn bytes_at(self, rate: BitRate) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Time(span) => rate.bytes_in(span),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes}B"),
            Self::Time(span) => span.fmt(f),
        }
    }
}

impl FromStr for Limit {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let limit = match (units::parse_span(text), units::parse_bytes(text)) {
            (Ok(span), _) => Self::Time(span),
            (_, Ok(bytes)) => Self::Bytes(bytes),
            (Err(e @ UnitError::Range(..)), _) | (_, Err(e @ UnitError::Range(..))) => {
                return Err(ValueError(e.to_string()));
            }
            _ => {
                return Err(ValueError(format!("'{text}' is neither a time like 250ms nor a size like 2MB")));
            }
        };
        if matches!(limit, Self::Bytes(0) | Self::Time(Span::ZERO)) {
            return Err(ValueError(format!("'{text}' leaves no room for a single packet")));
        }
        Ok(limit)
    }
}

/// Scheduling class of a forwarder thread.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum Sched {
    /// The ordinary time-sharing class.
    #[default]
    Other,
    /// `SCHED_FIFO` at this priority, 1..=99.
    Fifo(u8),
}

impl FromStr for Sched {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "other" {
            return Ok(Self::Other);
        }
        text.strip_prefix("fifo:")
            .and_then(|priority| priority.parse().ok())
            .filter(|priority| (1..=99).contains(priority))
            .map(Self::Fifo)
            .ok_or_else(|| {
                ValueError(format!("'{text}' is neither 'other' nor 'fifo:N' with N from 1 to 99"))
            })
    }
}

/// What a model is shown of a link before it sees it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Context {
    /// Nothing.
    #[default]
    None,
    /// The profile of the built-in library whose rate is nearest.
    Auto,
    /// That of this file, which `l4sd model adapt` wrote.
    File(PathBuf),
}

impl FromStr for Context {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "" => Err(ValueError("it names no file; 'none' and 'auto' are the other values".to_owned())),
            "none" => Ok(Self::None),
            "auto" => Ok(Self::Auto),
            file => Ok(Self::File(file.into())),
        }
    }
}

/// Where metrics are served.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// At this address.
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| {
            ValueError(format!(
                "'{text}' is neither 'off' nor an address with a port (a host name will not do)"
            ))
        })
    }
}

/// Form of a log line.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// `key=value` for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(ValueError(format!("'{text}' is neither 'text' nor 'json'"))),
        }
    }
}

/// Least important log line that is written.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum LogLevel {
    /// What made something fail.
    Error,
    /// What an operator should look at.
    Warn,
    /// What was done.
    #[default]
    Info,
    /// How it was done.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The name, as `tracing` spells it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl FromStr for LogLevel {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace]
            .into_iter()
            .find(|level| level.label() == text)
            .ok_or_else(|| ValueError(format!("'{text}' is not one of error, warn, info, debug, trace")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_read_and_print_the_same() {
        for name in [
            "dualpi2",
            "dualpi2-linux",
            "dualpi2-tuned",
            "dualpi2-ff",
            "dualpi2-rules",
            "dualpi2-rules:a/b.toml",
            "dualpi2:target=5ms:alpha=0.2:ramp=2000us",
            "pi2",
            "codel",
            "taildrop",
            "replay:a/b.csv",
        ] {
            assert_eq!(name.parse::<Policy>().unwrap().to_string(), name);
        }
        assert!("replay:".parse::<Policy>().is_err() && "dualpi2-rules:".parse::<Policy>().is_err());
        let message = "fq_codel".parse::<Policy>().unwrap_err().to_string();
        assert!(message.contains("'fq_codel'") && message.contains(Policy::NAMES), "{message}");
    }

    #[test]
    fn a_limit_is_a_time_or_a_size() {
        assert_eq!("250ms".parse::<Limit>().unwrap(), Limit::Time(Span::from_millis(250)));
        assert_eq!("2MB".parse::<Limit>().unwrap(), Limit::Bytes(2_000_000));
        for text in ["250ms", "2000000B"] {
            assert_eq!(text.parse::<Limit>().unwrap().to_string(), text);
        }
        assert_eq!(Limit::Time(Span::from_millis(250)).bytes_at(BitRate::from_mbps(40)), 1_250_000);
        assert_eq!(Limit::Bytes(7).bytes_at(BitRate::from_mbps(40)), 7);
        for (text, part) in [
            ("2Mbit", "neither"),
            ("", "neither"),
            ("0ms", "no room"),
            ("0B", "no room"),
            ("9999GB", "range"),
        ] {
            let message = text.parse::<Limit>().unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn fifo_priorities_are_those_of_the_kernel() {
        assert_eq!("other".parse::<Sched>().unwrap(), Sched::Other);
        assert_eq!("fifo:1".parse::<Sched>().unwrap(), Sched::Fifo(1));
        assert_eq!("fifo:99".parse::<Sched>().unwrap(), Sched::Fifo(99));
        for text in ["fifo:0", "fifo:100", "fifo", "rr:1", "fifo:-1", "FIFO:1"] {
            assert!(text.parse::<Sched>().is_err(), "{text}");
        }
    }

    #[test]
    fn listen_takes_both_families_and_off() {
        assert_eq!("off".parse::<Listen>().unwrap(), Listen::Off);
        assert_eq!("[::1]:9".parse::<Listen>().unwrap(), Listen::At("[::1]:9".parse().unwrap()));
        assert!("localhost:9559".parse::<Listen>().is_err());
        assert!("127.0.0.1".parse::<Listen>().is_err());
    }
}
