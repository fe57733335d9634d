//! The part of the command line that `run` and `check` share: what to bridge, and how.

use std::path::PathBuf;

use clap::Args;

use crate::config::{Config, ConfigError, Listen, Policy, PortSpec, Settings};
use crate::control::policy::replay::{Replay, ReplayError};
use crate::time::{Instant, Span};
use crate::units::{self, BitRate};

/// What to bridge. What is given here wins over the file.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// Configuration file (see docs/l4sd.toml.sample)
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Left port: packet:eth0, xdp:eth0, netmap:em0, em0^, vale0:1 or mem: (a built-in generator)
    #[arg(long, value_name = "PORT")]
    left: Option<PortSpec>,
    /// Right port, of the same kind
    #[arg(long, value_name = "PORT")]
    right: Option<PortSpec>,
    /// Rate of the bottleneck, both directions unless the other is given: 40Mbit
    #[arg(long, value_name = "RATE")]
    rate: Option<BitRate>,
    /// Rate from right to left
    #[arg(long, value_name = "RATE")]
    rate_right_to_left: Option<BitRate>,
    /// Discipline or controller: dualpi2, dualpi2-linux, pi2, codel, taildrop or replay:FILE [default: dualpi2]
    #[arg(long, value_name = "POLICY")]
    policy: Option<Policy>,
    /// Let the controller decide and log, but not act
    #[arg(long)]
    shadow: bool,
    /// Emulated one-way delay per direction, behind the queues (testbeds): 10ms
    #[arg(long, value_name = "TIME", value_parser = units::parse_span)]
    delay: Option<Span>,
    /// Address of /metrics, or off [default: 127.0.0.1:9559]
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<Listen>,
    /// Socket of the keeper of netmap ports: `run` borrows them there, `keeper` lends them
    #[arg(long, visible_alias = "socket", value_name = "SOCKET")]
    keeper: Option<PathBuf>,
}

impl Target {
    /// There is a file that can be read again.
    pub(super) const fn has_file(&self) -> bool {
        self.config.is_some()
    }

    /// File and flags, validated.
    pub(super) fn config(&self) -> Result<Config, ConfigError> {
        let mut settings = match &self.config {
            Some(file) => Settings::load(file)?,
            None => Settings::default(),
        };
        settings.merge(Settings {
            left: self.left.clone(),
            right: self.right.clone(),
            rate: self.rate,
            rate_right_to_left: self.rate_right_to_left,
            policy: self.policy.clone(),
            shadow: self.shadow.then_some(true),
            delay: self.delay,
            listen: self.metrics,
            // Files of a service manager name it absolutely; a shell may not.
            keeper: self
                .keeper
                .as_ref()
                .map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone())),
            ..Settings::default()
        });
        settings.validate()
    }
}

/// The decisions that `--policy replay:FILE` names, if that is the policy; their times count from the origin.
pub(super) fn replay_file(config: &Config) -> Result<Option<Replay>, ReplayError> {
    match &config.aqm.policy {
        Policy::Replay(file) => Replay::open(file, Instant::ZERO).map(Some),
        _ => Ok(None),
    }
}

/// What the host has to say about the ports.
#[cfg(target_os = "linux")]
pub(super) fn preflight(config: &Config) -> Vec<crate::runtime::preflight::Finding> {
    use crate::config::Sched;
    use crate::port::xdp;
    use crate::runtime::bridge::FramePlan;
    use crate::runtime::preflight::{self, PortUnderTest, Scheduling};

    // Both ports share one region of locked memory.
    let locked = xdp::locked_bytes(FramePlan::new(config).total()) / 2;
    let ports: Vec<PortUnderTest> = [&config.left, &config.right]
        .into_iter()
        .filter_map(|spec| match spec {
            PortSpec::Packet(name) => Some(PortUnderTest::packet(name)),
            PortSpec::Xdp(name) => Some(PortUnderTest::xdp(name, xdp::MAX_MTU, locked)),
            PortSpec::Netmap(_) => super::netmap::interface(spec).map(|name| PortUnderTest::netmap(&name)),
            PortSpec::Mem => None,
        })
        .collect();
    let scheduling = Scheduling {
        fifo: matches!(config.runtime.sched, Sched::Fifo(_)),
        busy_poll: config.runtime.busy_poll,
    };
    preflight::check(&ports, scheduling)
}
