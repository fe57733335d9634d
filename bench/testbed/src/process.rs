//! Child processes whose lines are kept with the time they came, and which never outlive their handle.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::clock;

const POLL: Duration = Duration::from_millis(10);

/// One line of output and when it was read.
#[derive(Debug, Clone)]
pub struct Line {
    /// When the line arrived.
    pub at: Instant,
    /// The line without its end.
    pub text: String,
}

/// Why a child is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot start {name}: {source}")]
    Start {
        /// What was to be started.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended before it was expected to.
    #[error("{name} ended early ({status}); its last lines:\n{tail}")]
    Ended {
        /// What ended.
        name: String,
        /// How.
        status: ExitStatus,
        /// Its last lines.
        tail: String,
    },
    /// It did not get ready in time.
    #[error("{name} was not ready within {waited:?}; its last lines:\n{tail}")]
    NotReady {
        /// What is late.
        name: String,
        /// How long it was waited for.
        waited: Duration,
        /// Its last lines.
        tail: String,
    },
}

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<Line>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command` with no standard input; both outputs are collected.
    pub fn spawn(name: &str, command: &mut Command) -> Result<Self, ProcessError> {
        let start = |source| ProcessError::Start { name: name.to_owned(), source };
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(start)?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let mut readers = Vec::new();
        if let Some(out) = child.stdout.take() {
            readers.push(collect(out, &lines));
        }
        if let Some(err) = child.stderr.take() {
            readers.push(collect(err, &lines));
        }
        Ok(Self { name: name.to_owned(), child, lines, readers })
    }

    /// What it was named when it was started.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id, for signals.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last lines, for an error message.
    pub fn tail(&self) -> String {
        let lines = self.lines();
        let from = lines.len().saturating_sub(8);
        lines[from..].iter().map(|l| format!("  {}", l.text)).collect::<Vec<_>>().join("\n")
    }

    /// Waits until `ready` says so; fails if the child ends or `within` passes first.
    pub fn wait_until(
        &mut self,
        within: Duration,
        mut ready: impl FnMut(&[Line]) -> bool,
    ) -> Result<(), ProcessError> {
        let deadline = clock::now() + within;
        loop {
            if ready(&self.lines()) {
                return Ok(());
            }
            self.check()?;
            if clock::now() >= deadline {
                let (name, tail) = (self.name.clone(), self.tail());
                return Err(ProcessError::NotReady { name, waited: within, tail });
            }
            thread::sleep(POLL);
        }
    }

    /// Fails if the child has ended.
    pub fn check(&mut self) -> Result<(), ProcessError> {
        match self.child.try_wait() {
            Ok(Some(status)) => {
                self.drain();
                Err(ProcessError::Ended { name: self.name.clone(), status, tail: self.tail() })
            }
            Ok(None) => Ok(()),
            Err(source) => Err(ProcessError::Start { name: self.name.clone(), source }),
        }
    }

    /// Sends a signal by name (`TERM`, `INT`, ...); one that already ended is left alone.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\" 2>/dev/null", signal, &self.child.id().to_string()])
            .status();
        if let Err(e) = sent {
            eprintln!("note: cannot signal {}: {e}", self.name);
        }
    }

    /// Waits for the end; `None` if it does not come within `within`.
    pub fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let deadline = clock::now() + within;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.drain();
                return Some(status);
            }
            if clock::now() >= deadline {
                return None;
            }
            thread::sleep(POLL);
        }
    }

    /// Kills it now and collects what it said.
    pub fn kill(&mut self) {
        // An error means that it is gone already, which is what was asked for.
        self.child.kill().ok();
        self.child.wait().ok();
        self.drain();
    }

    fn drain(&mut self) {
        for reader in self.readers.drain(..) {
            reader.join().ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn collect(from: impl Read + Send + 'static, into: &Arc<Mutex<Vec<Line>>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    thread::spawn(move || {
        for text in BufReader::new(from).lines().map_while(Result::ok) {
            into.lock().unwrap_or_else(PoisonError::into_inner).push(Line { at: clock::now(), text });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_end_is_an_error_with_its_last_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo fine; echo no such device >&2; exit 69"]);
        let mut p = Process::spawn("box", &mut command).unwrap();
        let e = p.wait_until(Duration::from_secs(5), |_| false).unwrap_err().to_string();
        assert!(e.contains("box ended early") && e.contains("no such device") && e.contains("69"), "{e}");
    }

    #[test]
    fn a_signal_reaches_the_child_and_its_lines_are_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.02; done"]);
        let mut p = Process::spawn("sh", &mut command).unwrap();
        p.wait_until(Duration::from_secs(5), |l| l.iter().any(|l| l.text == "up")).unwrap();
        p.signal("TERM");
        assert_eq!(p.wait(Duration::from_secs(5)).unwrap().code(), Some(3));
        assert!(p.lines().iter().any(|l| l.text == "bye"));
    }
}
