//! The gate in lanes, as it is called: what is refused, what a lane says, and that nothing outlives the process outside.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use l4sd_testbed::cpus;
use l4sd_testbed::sandbox;
use l4sd_testbed::tools::{self, Tools};

const POLL: Duration = Duration::from_millis(50);
const POLLS: usize = 400;

/// A folder with an "l4sd" in it that runs `script`.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, script: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("l4sd-lanes-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("l4sd"), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(dir.join("l4sd"), fs::Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    /// Two links, one pair, 5 s, with the built-in model.
    fn gate(&self, more: &[&str]) -> Command {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/student.onnx");
        let mut command = Command::new(env!("CARGO_BIN_EXE_l4sd-testbed"));
        command.arg("--l4sd").arg(self.0.join("l4sd")).args(["sim-to-real", "--links", "2", "--pairs", "1"]);
        command
            .args(["--seconds", "5", "--model"])
            .arg(model)
            .arg("--out")
            .arg(self.0.join("out"))
            .args(more);
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Why no run can be made here, if none can.
fn impossible() -> Option<String> {
    let tools = Tools::discover();
    let needed = [tools::ALL, tools::LANES].concat();
    let missing = tools.require(&needed).err().map(|e| e.to_string());
    missing.or_else(|| sandbox::probe(&tools).err().map(|e| e.to_string()))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn runs(sleep: &str) -> usize {
    let wanted = format!("sleep\0{sleep}\0");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|p| fs::read(p.path().join("cmdline")).ok())
        .filter(|c| c == wanted.as_bytes())
        .count()
}

fn becomes(sleep: &str, count: usize) -> bool {
    (0..POLLS).any(|_| {
        thread::sleep(POLL);
        runs(sleep) == count
    })
}

#[test]
fn more_lanes_than_cpus_are_refused_in_one_line() {
    if let Some(why) = impossible() {
        return sandbox::skipped("more_lanes_than_cpus_are_refused_in_one_line", &why);
    }
    let folder = Folder::new("refused", "exit 1");
    let cpus = cpus::granted().len();
    let output = folder.gate(&["--lanes", "1000"]).output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    let most = (cpus / 2).max(1);
    assert_eq!(
        stderr(&output),
        format!(
            "l4sd-testbed: 1000 lanes need 2000 CPUs, 2 each, and this process may use {cpus}: at most --lanes {most}\n"
        )
    );
    assert!(!folder.0.join("out").exists(), "nothing was begun");
}

/// Unit 3 alone, asked for as a lane is, of a bridge that never comes up: what it says is an error, and no record.
#[test]
fn a_lane_makes_the_runs_that_it_is_told_and_keeps_no_records() {
    if let Some(why) = impossible() {
        return sandbox::skipped("a_lane_makes_the_runs_that_it_is_told_and_keeps_no_records", &why);
    }
    let folder = Folder::new("lane", "echo no such device >&2; exit 69");
    let output = folder.gate(&["--units", "3"]).output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("under dualpi2, seed 1: l4sd ended early"), "{said}");
    assert!(said.contains("no such device") && !said.contains("under model"), "{said}");
    let last = said.rsplit("l4sd-testbed: ").next().unwrap();
    assert_eq!(last.matches("no such device").count(), 1, "said once: {last}");
    assert!(output.stdout.is_empty() && !folder.0.join("out/records.jsonl").exists());
    let output = folder.gate(&["--units", "3,4"]).output().unwrap();
    let said = stderr(&output);
    assert!(
        said.ends_with("there is no run 4: --units takes those from 0 to 3 for these --links and --pairs\n"),
        "{said}"
    );
}

/// Needs 4 CPUs and ONNX Runtime.
#[test]
fn lanes_that_fail_say_so_and_kill_9_ends_them_all() {
    let few = (cpus::granted().len() < 4).then(|| "fewer than 4 CPUs".to_owned());
    if let Some(why) = few.or_else(impossible) {
        return sandbox::skipped("lanes_that_fail_say_so_and_kill_9_ends_them_all", &why);
    }
    let folder = Folder::new("fail", "echo no such device >&2; exit 69");
    let output = folder.gate(&["--lanes", "2"]).output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(69), "{said}");
    if said.contains("no ONNX Runtime") {
        return sandbox::skipped("lanes_that_fail_say_so_and_kill_9_ends_them_all", &said);
    }
    assert!(said.contains("l4sd-testbed: lane 1 (CPUs ") && said.contains("no such device"), "{said}");
    assert!(
        said.contains("\nlane 2 (CPUs ") && said.contains("the same command goes on from there"),
        "{said}"
    );

    let sleep = format!("7654.{}", std::process::id());
    let stuck = Folder::new("kill", &format!("trap '' TERM INT HUP\nsleep {sleep}"));
    let mut outside = stuck.gate(&["--lanes", "2"]).stderr(Stdio::null()).spawn().unwrap();
    assert!(becomes(&sleep, 2), "one bridge a lane");
    outside.kill().unwrap();
    outside.wait().unwrap();
    assert!(becomes(&sleep, 0), "a bridge outlived the testbed");
}
