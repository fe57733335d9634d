//! `l4sd reload`: has a running `l4sd run` reread its configuration, and says what came of it.

use std::io;
use std::path::PathBuf;

use clap::Args;

use super::exit::{Exit, Failure};
use super::pidfile::{self, PidError};
use super::print;
use crate::config::Settings;
use crate::runtime::clock::{Clock, Monotonic};
use crate::time::Span;

/// How long to wait for an answer.
const PATIENCE: Span = Span::from_secs(5);
/// How often to look for one.
const LOOK: Span = Span::from_millis(10);

/// Arguments of `l4sd reload`.
#[derive(Debug, Args)]
#[command(
    after_help = "It sends SIGHUP. With a pidfile that `l4sd run` wrote it waits for the answer: exit code 0 if \
    the new configuration is in force, 78 if the old one still is. Under --pid, or with a pidfile of a service \
    manager, the log of the running process has the answer."
)]
pub(super) struct ReloadArgs {
    /// Configuration file that names the pidfile in the section runtime
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
    /// File with the number of the process
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pidfile: Option<PathBuf>,
    /// The number of the process
    #[arg(long, value_name = "N", conflicts_with_all = ["config", "pidfile"], value_parser = clap::value_parser!(i32).range(2..))]
    pid: Option<i32>,
}

impl From<PidError> for Failure {
    fn from(e: PidError) -> Self {
        Self::new(Exit::Host, e)
    }
}

/// Runs the verb.
pub(super) fn reload(args: &ReloadArgs) -> Result<(), Failure> {
    if let Some(pid) = args.pid {
        return hang_up(pid).and_then(|()| unheard(pid));
    }
    let path = match (&args.config, &args.pidfile) {
        (_, Some(path)) => path.clone(),
        (Some(file), None) => Settings::load(file)?.pidfile.ok_or_else(|| {
            let error = anyhow::anyhow!("{}: there is no pidfile under [runtime]", file.display());
            Failure::new(Exit::Config, error)
        })?,
        (None, None) => {
            let error = anyhow::anyhow!(
                "which process? Give --pidfile FILE, --pid N, or -c FILE with a pidfile under [runtime]"
            );
            return Err(Failure::new(Exit::Usage, error));
        }
    };
    let pid = pidfile::running(&path)?;
    let before = pidfile::answer(&path);
    hang_up(pid)?;
    let Some(before) = before else {
        return unheard(pid);
    };
    let clock = Monotonic::start();
    let deadline = clock.now() + PATIENCE;
    while clock.now() < deadline {
        clock.sleep(LOOK);
        match pidfile::answer(&path) {
            Some(answer) if answer.number > before.number => {
                if answer.ok {
                    return print::line(&answer.message);
                }
                return Err(Failure::new(Exit::Config, anyhow::anyhow!(answer.message)));
            }
            _ => {}
        }
    }
    let error = anyhow::anyhow!("process {pid} has not answered within {PATIENCE}; see its log");
    Err(Failure::new(Exit::Host, error))
}

fn unheard(pid: i32) -> Result<(), Failure> {
    print::line(&format!("process {pid} was told to reload; its log says what came of it"))
}

fn hang_up(pid: i32) -> Result<(), Failure> {
    l4sd_host::hang_up(pid).map_err(|e| {
        let privilege = e.errno().map(io::Error::from_raw_os_error).map(|e| e.kind())
            == Some(io::ErrorKind::PermissionDenied);
        let (exit, fix) = if privilege {
            (Exit::Privilege, "ask as root, or as the user that it runs as")
        } else {
            (Exit::Host, "is l4sd running under this number?")
        };
        Failure::new(exit, anyhow::anyhow!("process {pid}: {e}; {fix}"))
    })
}
