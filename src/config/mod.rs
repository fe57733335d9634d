//! Configuration: a TOML file and command-line flags become one validated [`Config`].
//!
//! The way is always the same: [`Settings`] (every key optional) from the file, other [`Settings`] from the flags
//! merged over them, then [`Settings::validate`]. Nothing here opens an interface or asks the host anything; whether
//! the machine can do what the configuration asks is for `check` and the ports to say.

mod change;
mod constants;
mod discipline;
mod error;
mod file;
mod look_ahead;
mod port_spec;
mod settings;
pub(crate) mod text;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use change::{Changes, Difference, Fixed};
pub use constants::Constants;
pub use error::{ConfigError, Place};
pub use look_ahead::{Call, LookAhead};
pub use port_spec::{PortKind, PortSpec};
pub use settings::{KEYS, Key, Places, Settings};
pub use values::{Context, Limit, Listen, LogFormat, LogLevel, Policy, Sched, ValueError};

use crate::time::Span;
use crate::units::BitRate;

/// A configuration that makes sense as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The first port.
    pub left: PortSpec,
    /// The second port, of the same kind as the first.
    pub right: PortSpec,
    /// The bottleneck.
    pub link: LinkConfig,
    /// The queues of both directions.
    pub aqm: AqmConfig,
    /// The controller.
    pub control: ControlConfig,
    /// Threads and waiting.
    pub runtime: RuntimeConfig,
    /// Where metrics are served; `None` switches the endpoint off.
    pub metrics_listen: Option<SocketAddr>,
    /// Log lines.
    pub log: LogConfig,
}

impl Config {
    /// From one telemetry window to the next: what a policy that looks ahead asks for, else the interval between updates of p'.
    pub const fn window(&self) -> Span {
        match &self.aqm.policy {
            Policy::LookAhead(setup) => setup.tick,
            _ => self.aqm.t_update,
        }
    }
}

/// `[link]`: what the shaper enforces.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// Rate from left to right.
    pub rate: BitRate,
    /// Rate from right to left; the same as `rate` unless the user says otherwise.
    pub rate_right_to_left: BitRate,
    /// Bytes added to every frame's length before it is charged, -64..=256 (4 for the FCS, 24 with preamble and gap).
    pub overhead: i32,
    /// No frame is charged less than this, 0..=256 bytes.
    pub mpu: u32,
    /// The shared buffer of a direction; `None` is the discipline's own default.
    pub limit: Option<Limit>,
    /// Emulated one-way delay per direction, after the DualQ; zero on a real link.
    pub delay: Span,
}

/// `[aqm]`: the discipline and its constants.
#[derive(Clone, Debug, PartialEq)]
pub struct AqmConfig {
    /// The discipline or controller.
    pub policy: Policy,
    /// Target delay of the Classic queue, 1 ms to 1 s; `None` is the discipline's own default (15 ms for PI2).
    pub target: Option<Span>,
    /// Interval between updates of p', 1 ms to 1 s.
    pub t_update: Span,
    /// DSCP 45 (NQB, RFC 9956) joins the L queue.
    pub nqb: bool,
}

/// `[control]`: how a controller's decisions are used.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlConfig {
    /// The file of the policy `model`; `None` is the model that is built in.
    pub model: Option<PathBuf>,
    /// SHA-256 that the model's file must have, 64 hexadecimal digits in lower case.
    pub model_sha256: Option<String>,
    /// The ONNX Runtime library; `None` looks where it usually is.
    pub onnxruntime: Option<PathBuf>,
    /// What the model is shown of the link at its start.
    pub context: Context,
    /// Decide and log, but do not apply.
    pub shadow: bool,
    /// CPU core of the controller thread; `None` leaves it to the scheduler.
    pub core: Option<usize>,
    /// A decision older than this is no longer followed, 1 ms to 10 s.
    pub t_expire: Span,
}

/// `[runtime]`: how the forwarder thread runs.
#[derive(Clone, Debug, PartialEq)]
pub struct RuntimeConfig {
    /// CPU cores for forwarder threads, in order of use; empty leaves it to the scheduler.
    pub cores: Vec<usize>,
    /// Scheduling class of forwarder threads.
    pub sched: Sched,
    /// Never sleep.
    pub busy_poll: bool,
    /// Where the process writes its number, for `l4sd reload` and for service managers.
    pub pidfile: Option<PathBuf>,
    /// Use netmap ports that netmap emulates over an ordinary driver.
    pub netmap_emulated: bool,
    /// Socket of the keeper that lends the netmap ports; `None` opens them here.
    pub keeper: Option<PathBuf>,
    /// The user that the process becomes once everything is open; `None` leaves it whoever started it.
    pub user: Option<String>,
}

/// `[log]`: form and amount of log lines.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// Form of a line.
    pub format: LogFormat,
    /// Least important line that is written.
    pub level: LogLevel,
}

impl Config {
    /// A number that changes when any setting does, for `l4sd_config_hash_info` and for logs (64-bit FNV-1a; not a
    /// defence against anyone).
    pub fn fingerprint(&self) -> u64 {
        format!("{self:?}")
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}
