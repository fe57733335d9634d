//! The binary in the hands of an operator, with what can go wrong around it: one clear message that names the thing, an
//! exit code by the contract, no panic, and what is being forwarded goes on.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

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
    // Frames went on to the end: the half second that is measured begins when the record had long ended. Not all of
    // 40 Mbit/s, for another test may have the core.
    let results: Value =
        serde_json::from_slice(&fs::read(Path::new(out).join("results.json")).unwrap()).unwrap();
    let run = &results["runs"][0];
    assert_eq!(run["direction"], "left_to_right");
    let utilization = run["link"]["utilization"].as_f64().unwrap();
    assert!(utilization > 0.5, "{run}");
}

/// Tables and JSON that cannot be written are no crash, and a run's files are there all the same.
#[cfg(target_os = "linux")]
#[test]
fn standard_output_that_is_full_is_69_and_one_that_is_closed_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let scenario = scenario(dir.path());
    let run = [&["run"], &MEM[..], &["--duration", "200ms", "--out", out.to_str().unwrap()]].concat();
    let sim = ["sim", &*scenario, "--policy", "dualpi2", "--out", out.to_str().unwrap()];
    let check = [&["check"], &MEM[..]].concat();
    for arguments in [&run[..], &sim, &check, &["model", "show"]] {
        let to = |out: Stdio| Command::new(L4SD).args(arguments).stdout(out).output().unwrap();
        let full = to(fs::File::options().write(true).open("/dev/full").unwrap().into());
        refused(&full, 69, &["standard output", "No space left"]);
        if arguments[0] == "run" {
            fs::remove_file(out.join("results.json")).unwrap();
        }
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let closed = to(writer.into());
        assert_eq!(closed.status.code(), Some(0), "{arguments:?}: {}", said(&closed));
    }
}

/// A log that nobody reads any more ends neither the forwarding nor the report.
#[cfg(target_os = "linux")]
#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    for (name, log) in [("closed", Stdio::from(writer)), ("full", full.into())] {
        let out = dir.path().join(name);
        let mut run = Command::new(L4SD);
        run.arg("run").args(MEM).args(["--duration", "300ms", "--out"]).arg(&out).env("L4SD_LOG", "debug");
        let output = run.stderr(log).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}");
        assert!(out.join("results.json").exists(), "{name}");
        // And the error of another verb has its code.
        let (_, writer) = std::io::pipe().unwrap();
        let status = Command::new(L4SD).args(["sim", "no-such.toml"]).stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(78));
    }
}

/// A second of one flow.
fn scenario(dir: &Path) -> String {
    let file = dir.join("short.toml");
    let text = "name = \"short\"\nduration = \"1s\"\nwarmup = \"100ms\"\n[link]\nrate = \"10Mbit\"\n[[flow]]\n\
                cc = \"cubic\"\nrtt = \"20ms\"\n";
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn files_that_are_none_are_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (folder, empty, text) = (path(""), path("empty"), path("text"));
    fs::write(&empty, "").unwrap();
    fs::write(&text, "some words\n").unwrap();
    let scenario = scenario(dir.path());
    let ports = ["--left", "mem:", "--right", "mem:", "--rate", "40Mbit", "--metrics=off"];
    let policy = |verb: &str, policy: &str| {
        let policy = ["--policy", policy];
        match verb {
            "sim" => l4sd(verb, &[&[&*scenario][..], &policy, &["--out", &path("out")]].concat()),
            _ => l4sd(verb, &[&ports[..], &policy].concat()),
        }
    };
    for verb in ["run", "check", "sim"] {
        for (file, what) in
            [("missing", "check the path"), (&*folder, "check the path"), (&text, "not an ONNX file")]
        {
            refused(&policy(verb, &format!("model:{file}")), 65, &[file, what]);
        }
        for file in ["missing", &folder, &empty, &text] {
            refused(&policy(verb, &format!("replay:{file}")), 65, &[file, "header at_s,target_ms,gain"]);
        }
        for file in ["missing", &folder] {
            refused(&policy(verb, &format!("dualpi2-rules:{file}")), 65, &[file, "check the path"]);
        }
    }
    refused(&policy("sim", "lookahead:arm=held:draft=missing"), 65, &["missing", "check the path"]);
    for file in ["missing", &folder] {
        refused(&l4sd("model", &["adapt", file]), 65, &[file, "check the path"]);
    }
    for file in [&empty, &text] {
        refused(&l4sd("model", &["adapt", file]), 65, &[file, "not a record", "run --record"]);
    }
    refused(&l4sd("sim", &[&text]), 78, &[&text, ":1:", "docs/scenario.md"]);
    // A folder that cannot be made is told before anything is simulated: nothing is printed.
    let output = l4sd("sim", &[&scenario, "--policy", "dualpi2", "--out", &text]);
    refused(&output, 69, &[&text, "--out"]);
    assert!(output.stdout.is_empty());
}

#[test]
fn check_refuses_the_user_that_run_would_refuse_and_asks_no_privilege_for_no_interface() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("l4sd.toml");
    fs::write(&file, "[runtime]\nuser = \"l4sd-no-such-user\"\n").unwrap();
    let with = ["-c", file.to_str().unwrap()];
    refused(&l4sd("check", &[&with[..], &MEM].concat()), 78, &["l4sd-no-such-user"]);
    // The generator touches no interface: an ordinary user needs nothing for it.
    let checked = l4sd("check", &MEM);
    assert_eq!(checked.status.code(), Some(0), "{}", said(&checked));
}

#[test]
fn an_address_or_a_process_that_is_taken_is_69() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = format!("--metrics={}", taken.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut arguments = MEM.to_vec();
    *arguments.last_mut().unwrap() = &metrics;
    arguments.extend(["--duration", "1s", "--out", out.to_str().unwrap()]);
    refused(&l4sd("run", &arguments), 69, &["in use", "--metrics"]);
    refused(&l4sd("reload", &["--pid", "2147483647"]), 69, &["2147483647", "is l4sd running"]);
}
