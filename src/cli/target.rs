//! The part of the command line that `run` and `check` share: what to bridge, and how.

use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Args;
use l4sd_host::Folder;

use crate::config::{Config, ConfigError, Listen, Policy, PortSpec, Settings};
use crate::time::Span;
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
    /// Discipline or controller: dualpi2, dualpi2:target=5ms:..., dualpi2-linux, dualpi2-tuned, dualpi2-ff, dualpi2-rules,
    /// dualpi2-rules:FILE, pi2, codel, taildrop, model, model:FILE, lookahead:arm=... or replay:FILE [default: model]
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
    /// The folder of the configuration file, open from the first time that it is read: later the process may not be
    /// allowed to name it.
    #[arg(skip)]
    folder: OnceLock<Folder>,
}

impl Target {
    /// There is a file that can be read again.
    pub(super) const fn has_file(&self) -> bool {
        self.config.is_some()
    }

    /// File and flags, validated.
    pub(super) fn config(&self) -> Result<Config, ConfigError> {
        let mut settings = match &self.config {
            Some(file) => self.load(file)?,
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

    /// The descriptor that the configuration is read through from the second time on.
    pub(super) fn folder(&self) -> Option<BorrowedFd<'_>> {
        self.folder.get().map(|folder| folder.as_fd())
    }

    fn load(&self, file: &Path) -> Result<Settings, ConfigError> {
        let place = file.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
        let Some((place, name)) = place.zip(file.file_name().and_then(|name| name.to_str())) else {
            return Settings::load(file);
        };
        let folder = match self.folder.get() {
            Some(folder) => folder,
            None => match Folder::open(place) {
                Ok(folder) => self.folder.get_or_init(|| folder),
                // A folder that may be searched but not read.
                Err(_) => return Settings::load(file),
            },
        };
        let shown = file.display().to_string();
        let mut text = String::new();
        folder
            .read(name)
            .and_then(|mut open| open.read_to_string(&mut text))
            .map_err(|source| ConfigError::Read { file: shown.clone(), source })?;
        Settings::from_toml(&text, &shown)
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

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;

    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        target: Target,
    }

    /// What a reload after giving up root relies on.
    #[test]
    fn the_file_is_reread_where_it_was_whatever_becomes_of_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let (before, after) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir(&before).unwrap();
        let write = |folder: &Path, rate: &str| {
            let ports = "[left]\nport = \"mem:\"\n[right]\nport = \"mem:\"\n[link]\n";
            fs::write(folder.join("l4sd.toml"), format!("{ports}rate = \"{rate}\"\n")).unwrap();
        };
        write(&before, "40Mbit");
        let file = before.join("l4sd.toml");
        let Line { target } = Line::parse_from(["l4sd", "-c", file.to_str().unwrap()]);
        assert!(target.folder().is_none());
        assert_eq!(target.config().unwrap().link.rate, BitRate::from_mbps(40));
        assert!(target.folder().is_some());
        fs::rename(&before, &after).unwrap();
        write(&after, "10Mbit");
        assert_eq!(target.config().unwrap().link.rate, BitRate::from_mbps(10));
        fs::remove_file(after.join("l4sd.toml")).unwrap();
        let message = target.config().unwrap_err().to_string();
        assert!(message.contains("a/l4sd.toml: cannot read") && message.contains("-c"), "{message}");
    }

    #[test]
    fn a_bare_name_is_in_the_working_folder_and_one_that_is_not_there_is_named() {
        let Line { target } = Line::parse_from(["l4sd", "-c", "no-such-file.toml"]);
        let message = target.config().unwrap_err().to_string();
        assert!(message.starts_with("no-such-file.toml: cannot read"), "{message}");
    }
}
