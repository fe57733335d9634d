//! Re-runs this executable inside network, mount and process namespaces of its own.
//!
//! The kernel ends every process in there and frees every namespace, interface and mount as soon as the first process
//! inside dies, and that one dies with the process outside: by `SIGKILL` if need be. So nothing can be left behind,
//! not even after `kill -9`. Must not create anything outside of those namespaces.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::clock;
use crate::tools::{MOUNT, SETPRIV, Tools, UNSHARE};

const MARK: &str = "L4SD_TESTBED_SANDBOX";
const GRACE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// Whose rights the sandbox runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Root of the host: real-time scheduling is possible.
    Root,
    /// Root of a user namespace only: no real-time scheduling.
    User,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel or its administrator does not allow the namespaces.
    #[error(
        "this host lets this user make no namespaces ({0}); allow user namespaces (sysctl \
         user.max_user_namespaces, kernel.unprivileged_userns_clone) or run as root"
    )]
    Refused(String),
    /// The operating system has no namespaces.
    #[error(
        "the testbed is made of Linux namespaces, which this system does not have; FreeBSD has freebsd/testbed/"
    )]
    NotLinux,
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A step of making the private file systems failed.
    #[error("cannot prepare the sandbox: {0}")]
    Prepare(String),
}

/// Set once someone asked the sandbox to end: a signal, or the process outside went away.
#[derive(Debug, Clone)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    fn on_signals() -> io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Self(flag))
    }

    /// Whether to end.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sleeps for `span` or until asked to end, in which case it returns true.
    pub fn sleep(&self, span: Duration) -> bool {
        let end = clock::now() + span;
        while !self.requested() {
            let left = end.saturating_duration_since(clock::now());
            if left.is_zero() {
                return false;
            }
            thread::sleep(left.min(POLL));
        }
        true
    }
}

/// The rights inside, or `None` when this process is not inside a sandbox.
pub fn inside() -> Option<Rights> {
    match env::var(MARK).as_deref() {
        Ok("root") => Some(Rights::Root),
        Ok("user") => Some(Rights::User),
        _ => None,
    }
}

/// Whether a sandbox can be made here, and with which rights.
pub fn probe(tools: &Tools) -> Result<Rights, SandboxError> {
    if !cfg!(target_os = "linux") {
        return Err(SandboxError::NotLinux);
    }
    let mut said = String::new();
    for rights in [Rights::Root, Rights::User] {
        let output = unshare(tools, rights)
            .arg("true")
            .output()
            .map_err(|source| SandboxError::Start { program: "unshare", source })?;
        if output.status.success() {
            return Ok(rights);
        }
        said.clear();
        said.push_str(String::from_utf8_lossy(&output.stderr).trim());
    }
    Err(SandboxError::Refused(said))
}

/// Runs this executable again with `args` inside a sandbox and waits for it. SIGINT, SIGTERM and SIGHUP become the
/// inner process's [`Stop`]; one that does not end within ten seconds is killed.
pub fn enter<S: AsRef<OsStr>>(tools: &Tools, args: &[S]) -> Result<ExitStatus, SandboxError> {
    let rights = probe(tools)?;
    let start = |source| SandboxError::Start { program: "setpriv unshare", source };
    let executable = env::current_exe().map_err(start)?;
    let inner = unshare(tools, rights);
    let stop = Stop::on_signals().map_err(start)?;
    let mut outer = tools.command(SETPRIV);
    outer.args(["--pdeathsig", "KILL"]).arg(inner.get_program()).args(inner.get_args());
    outer.arg(executable).args(args);
    outer.env(MARK, if rights == Rights::Root { "root" } else { "user" });
    let mut child = outer.stdin(Stdio::piped()).process_group(0).spawn().map_err(start)?;

    let mut lifeline = child.stdin.take();
    let mut deadline = None;
    loop {
        if let Some(status) = child.try_wait().map_err(start)? {
            return Ok(status);
        }
        if stop.requested() && lifeline.take().is_some() {
            deadline = Some(clock::now() + GRACE);
        }
        if deadline.is_some_and(|d| clock::now() >= d) {
            child.kill().map_err(start)?;
            return child.wait().map_err(start);
        }
        thread::sleep(POLL);
    }
}

/// Says that `what` is not being tested here and why, past the test harness, which keeps a passing test's output back.
pub fn skipped(what: &str, why: &str) {
    writeln!(io::stderr(), "SKIPPED {what}: {why}").ok();
}

/// The exit code to end with for a sandboxed process's status: its own, or 128 plus the signal that ended it.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(70);
    u8::try_from(code).unwrap_or(70)
}

/// First thing inside: a private /run/netns, /sys of this network, and the [`Stop`] that ends with the lifeline.
pub fn prepare(tools: &Tools) -> Result<Stop, SandboxError> {
    let failed = |e: io::Error| SandboxError::Prepare(e.to_string());
    let stop = Stop::on_signals().map_err(failed)?;
    let flag = Arc::clone(&stop.0);
    thread::spawn(move || {
        let mut sink = [0_u8; 64];
        while io::stdin().read(&mut sink).is_ok_and(|n| n > 0) {}
        flag.store(true, Ordering::Relaxed);
    });

    let netns = Path::new("/run/netns");
    let over = if netns.is_dir() { netns } else { Path::new("/run") };
    mount(tools, "tmpfs", over)?;
    std::fs::create_dir_all(netns).map_err(failed)?;
    // Containers may forbid a fresh sysfs; programs then see the host's interface list there, and nothing else differs.
    if let Err(e) = mount(tools, "sysfs", Path::new("/sys")) {
        eprintln!("note: {e}");
    }
    Ok(stop)
}

fn mount(tools: &Tools, kind: &str, at: &Path) -> Result<(), SandboxError> {
    let output = tools
        .command(MOUNT)
        .args(["-t", kind, kind])
        .arg(at)
        .output()
        .map_err(|source| SandboxError::Start { program: "mount", source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(SandboxError::Prepare(format!("mount {kind} on {}: {}", at.display(), said.trim())))
}

fn unshare(tools: &Tools, rights: Rights) -> Command {
    let mut command = tools.command(UNSHARE);
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child"].map(OsString::from));
    if rights == Rights::User {
        command.args(["--user", "--map-root-user"]);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_shell() {
        assert_eq!(exit_code(ExitStatus::from_raw(77 << 8)), 77);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
    }
}
