//! The promise of the sandbox: whatever ends the process outside, nothing stays behind.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use l4sd_testbed::sandbox;
use l4sd_testbed::tools::{self, Tools};

const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// A "bridge" that never gets ready, told apart from every other process by how long it sleeps.
struct Stuck {
    dir: PathBuf,
    seconds: String,
}

impl Stuck {
    fn new(name: &str, seconds: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("l4sd-sandbox-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("l4sd"), format!("#!/bin/sh\ntrap '' TERM INT HUP\nsleep {seconds}\n")).unwrap();
        fs::set_permissions(dir.join("l4sd"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir, seconds: seconds.to_owned() }
    }

    fn start(&self) -> Child {
        Command::new(env!("CARGO_BIN_EXE_l4sd-testbed"))
            .arg("--l4sd")
            .arg(self.dir.join("l4sd"))
            .args(["demo", "--out"])
            .arg(self.dir.join("out"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn runs(&self) -> bool {
        let wanted = format!("sleep\0{}\0", self.seconds);
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes.filter_map(|p| fs::read(p.path().join("cmdline")).ok()).any(|c| c == wanted.as_bytes())
    }

    fn becomes(&self, running: bool) -> bool {
        let polls = PATIENCE.as_millis() / POLL.as_millis();
        (0..polls).any(|_| {
            thread::sleep(POLL);
            self.runs() == running
        })
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).ok();
    }
}

fn possible(test: &str) -> bool {
    let tools = Tools::discover();
    let why = match tools.require(tools::ALL) {
        Err(missing) => missing.to_string(),
        Ok(()) => match sandbox::probe(&tools) {
            Ok(_) => return true,
            Err(e) => e.to_string(),
        },
    };
    sandbox::skipped(test, &why);
    false
}

#[test]
fn kill_9_outside_ends_everything_inside() {
    if !possible("kill_9_outside_ends_everything_inside") {
        return;
    }
    let stuck = Stuck::new("kill", "7654.321");
    let mut outside = stuck.start();
    assert!(stuck.becomes(true), "the bridge never started");
    outside.kill().unwrap();
    outside.wait().unwrap();
    assert!(stuck.becomes(false), "the bridge outlived the testbed");
}

#[test]
fn a_bridge_that_ignores_signals_does_not_hold_up_the_end() {
    if !possible("a_bridge_that_ignores_signals_does_not_hold_up_the_end") {
        return;
    }
    let stuck = Stuck::new("term", "7654.322");
    let mut outside = stuck.start();
    assert!(stuck.becomes(true), "the bridge never started");
    Command::new("sh").args(["-c", "kill -TERM \"$0\"", &outside.id().to_string()]).status().unwrap();
    assert!(stuck.becomes(false) || stuck.becomes(false), "the bridge outlived SIGTERM to the testbed");
    assert!(!outside.wait().unwrap().success());
}
