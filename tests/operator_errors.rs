//! The binary in the hands of an operator, with what can go wrong around it: one clear message that names the thing, an
//! exit code by the contract, no panic, and what is being forwarded goes on.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const L4SD: &str = env!("CARGO_BIN_EXE_l4sd");
const MEM: [&str; 9] =
    ["--left", "mem:", "--right", "mem:", "--rate", "40Mbit", "--policy", "dualpi2", "--metrics=off"];

fn l4sd(verb: &str, arguments: &[&str]) -> Output {
    Command::new(L4SD).arg(verb).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Exit code, and in the last line of standard error all of `parts`.
fn refused(output: &Output, code: i32, parts: &[&str]) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(code), "stderr: {said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("l4sd: "), "{said}");
    for part in parts {
        assert!(last.contains(part), "{part:?} is not named in: {last}");
    }
    assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{said}");
}

/// A disk that is full from some row on: /dev/full in the place of the files.
#[cfg(target_os = "linux")]
#[test]
fn a_record_that_cannot_be_written_ends_alone_and_the_exit_code_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let record = dir.path().join("record");
    fs::create_dir(&record).unwrap();
    for direction in ["left_to_right", "right_to_left"] {
        std::os::unix::fs::symlink("/dev/full", record.join(format!("{direction}.csv"))).unwrap();
    }
    let out = dir.path().to_str().unwrap();
    let output = l4sd(
        "run",
        &[&MEM[..], &["--duration", "1s", "--warmup", "500ms", "--record", "--out", out]].concat(),
    );
    refused(
        &output,
        69,
        &["the record is not complete", "_to_", ".csv", "No space left", "room on the disk"],
    );
    let said = said(&output);
    for direction in ["left_to_right", "right_to_left"] {
        let told = |l: &&str| l.contains("the record ends here") && l.contains(direction);
        let told = said.lines().filter(told).count();
        assert_eq!(told, 1, "{direction}: {said}");
    }
    // 40 Mbit/s went on to the end: the half second that is measured begins when the record had long ended.
    let results: Value =
        serde_json::from_slice(&fs::read(Path::new(out).join("results.json")).unwrap()).unwrap();
    let run = &results["runs"][0];
    assert_eq!(run["direction"], "left_to_right");
    let utilization = run["link"]["utilization"].as_f64().unwrap();
    assert!(utilization > 0.9, "{run}");
}
