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
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::clock;
use crate::cpus;
use crate::tools::{MOUNT, SETPRIV, TASKSET, Tools, UNSHARE};

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
    /// Set by SIGINT, SIGTERM and SIGHUP, which end nothing by themselves any more.
    pub fn on_signals() -> io::Result<Self> {
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
    let stop = Stop::on_signals().map_err(start)?;
    let mut sandboxed = Sandboxed::start(tools, rights, args, &[], false)?;
    loop {
        if let Some(status) = sandboxed.tend(&stop)? {
            return Ok(status);
        }
        thread::sleep(POLL);
    }
}

fn start(source: io::Error) -> SandboxError {
    SandboxError::Start { program: "setpriv unshare", source }
}

/// This executable, started again inside a sandbox. Dropping it ends everything in there at once.
#[derive(Debug)]
pub struct Sandboxed {
    child: Child,
    lifeline: Option<ChildStdin>,
    deadline: Option<Instant>,
}

impl Sandboxed {
    /// Starts it with `args`, on `cpus` alone if any are named. `piped` = what it says is for [`Sandboxed::outputs`].
    pub fn start<S: AsRef<OsStr>>(
        tools: &Tools,
        rights: Rights,
        args: &[S],
        cpus: &[usize],
        piped: bool,
    ) -> Result<Self, SandboxError> {
        let executable = env::current_exe().map_err(start)?;
        let inner = unshare(tools, rights);
        let mut outer = tools.command(SETPRIV);
        outer.args(["--pdeathsig", "KILL"]);
        if !cpus.is_empty() {
            outer.arg(tools.command(TASKSET).get_program()).args(["-c", &cpus::list(cpus)]);
        }
        outer.arg(inner.get_program()).args(inner.get_args()).arg(executable).args(args);
        outer.env(MARK, if rights == Rights::Root { "root" } else { "user" });
        if piped {
            outer.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let mut child = outer.stdin(Stdio::piped()).process_group(0).spawn().map_err(start)?;
        let lifeline = child.stdin.take();
        Ok(Self { child, lifeline, deadline: None })
    }

    /// What it says, once, if it was asked for.
    pub fn outputs(&mut self) -> Option<(ChildStdout, ChildStderr)> {
        self.child.stdout.take().zip(self.child.stderr.take())
    }

    /// Its end, if it has ended. To be asked every few milliseconds: passes `stop` on, and kills when the grace is over.
    pub fn tend(&mut self, stop: &Stop) -> Result<Option<ExitStatus>, SandboxError> {
        if let Some(status) = self.child.try_wait().map_err(start)? {
            return Ok(Some(status));
        }
        if stop.requested() && self.lifeline.take().is_some() {
            self.deadline = Some(clock::now() + GRACE);
        }
        if self.deadline.is_some_and(|d| clock::now() >= d) {
            self.child.kill().map_err(start)?;
            return self.child.wait().map(Some).map_err(start);
        }
        Ok(None)
    }
}

impl Drop for Sandboxed {
    fn drop(&mut self) {
        // An error means that it has ended, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
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
