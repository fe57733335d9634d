//! Who names no policy gets the model that is built in, and where nothing can run it, is told so once and gets DualPI2.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// A library that is not there, so that there is no backend whatever the host has.
const NOWHERE: &str = "/nowhere/libonnxruntime.so";
const FIX: &str = "pip install --target DIR --no-deps onnxruntime";
const SCENARIO: &str = "name = \"short\"\nduration = \"2s\"\nwarmup = \"1s\"\n[link]\nrate = \"10Mbit\"\n\
    [[flow]]\ncc = \"prague\"\nrtt = \"10ms\"\n[[flow]]\ncc = \"cubic\"\nrtt = \"10ms\"\n";

/// Runs l4sd in `dir`; `library` in place of what the environment says.
fn l4sd(dir: &Path, library: Option<&str>, words: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_l4sd"));
    command.current_dir(dir).args(words.split(' '));
    if let Some(library) = library {
        command.env("ORT_DYLIB_PATH", library);
    }
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("short.toml"), SCENARIO).unwrap();
    dir
}

fn policies(json: &str) -> Vec<String> {
    let results: Value = serde_json::from_str(json).unwrap();
    let mut all: Vec<String> = results["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["policy"].as_str().unwrap().to_owned())
        .collect();
    all.dedup();
    all
}

/// Whether tract, which needs no library, is built in.
fn always_runs() -> bool {
    let built_in = l4sd_onnxruntime::has_tract();
    if built_in {
        eprintln!("SKIPPED: tract is built in, so there always is a backend");
    }
    built_in
}

#[test]
fn without_a_backend_the_others_run_and_one_line_says_what_is_missing() {
    if always_runs() {
        return;
    }
    let dir = folder();
    for (words, rivals) in [
        ("sim short.toml --json", vec!["dualpi2"]),
        ("eval short.toml --seeds 1 --json", vec!["dualpi2", "dualpi2-tuned"]),
    ] {
        let (code, json, said) = l4sd(dir.path(), Some(NOWHERE), words);
        assert_eq!(code, Some(0), "{words}: {said}");
        assert_eq!(policies(&json), rivals, "{words}");
        let lines: Vec<&str> = said.lines().filter(|l| l.contains("'model' is left out")).collect();
        assert!(lines.len() == 1 && lines[0].contains(NOWHERE) && lines[0].contains(FIX), "{words}: {said}");
    }
    for words in
        ["sim short.toml --policy dualpi2,model", "eval short.toml --policy model --seeds 1", "model check"]
    {
        let (code, _, said) = l4sd(dir.path(), Some(NOWHERE), words);
        assert_eq!(code, Some(69), "{words}: {said}");
        assert!(said.contains("(built in): no ONNX Runtime: ") && said.contains(FIX), "{words}: {said}");
    }
    assert_eq!(l4sd(dir.path(), Some(NOWHERE), "sim short.toml --policy codel").2, "");
}

#[test]
fn without_a_backend_run_forwards_with_the_constants_and_says_so_once() {
    if always_runs() {
        return;
    }
    let dir = folder();
    let ports = "--left mem: --right mem: --rate 10Mbit --metrics off";
    let run = format!("run {ports} --duration 500ms --json");
    let (code, json, said) = l4sd(dir.path(), Some(NOWHERE), &run);
    assert_eq!(code, Some(0), "{said}");
    let of_model: Vec<&str> = said.lines().filter(|l| l.contains("the model is not used")).collect();
    assert!(of_model.len() == 1 && of_model[0].contains(FIX), "{said}");
    assert!(of_model[0].contains("DualPI2's constants stay in force"), "{said}");
    let results: Value = serde_json::from_str(&json).unwrap();
    for run in results["runs"].as_array().unwrap() {
        assert_eq!((&run["policy"], &run["fallback_share"]), (&"model".into(), &1.0.into()));
        assert_eq!((&run["controller"]["decisions"]), &Value::from(0));
    }
    let check = format!("check {ports}");
    let (code, rows, said) = l4sd(dir.path(), Some(NOWHERE), &check);
    assert_eq!(code, Some(0), "{said}");
    let row = rows.lines().find(|l| l.contains("the model is not used")).unwrap_or_default();
    assert!(row.starts_with("warn  model") && row.contains(FIX), "{rows}");
}

#[test]
fn with_a_backend_the_model_is_compared_with_dualpi2() {
    if let Err(e) = l4sd_onnxruntime::backend(&l4sd_onnxruntime::candidates(None)) {
        eprintln!("SKIPPED: {e} (make tools gets one, and sets ORT_DYLIB_PATH)");
        return;
    }
    let dir = folder();
    let (code, json, said) = l4sd(dir.path(), None, "sim short.toml --json");
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert_eq!(policies(&json), ["dualpi2", "model"]);
    let results: Value = serde_json::from_str(&json).unwrap();
    let model = &results["runs"][1];
    let shown: Value = serde_json::from_str(&l4sd(dir.path(), Some(NOWHERE), "model show --json").1).unwrap();
    assert_eq!(model["model_sha256"], shown["sha256"]);
    assert_eq!(shown["file"], l4sd::control::model::shipped::LABEL);
    assert!(model["controller"]["decisions"].as_u64().unwrap() > 50, "{model}");
    let (code, json, said) = l4sd(dir.path(), None, "eval short.toml --seeds 1 --json");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(policies(&json), ["dualpi2", "dualpi2-tuned", "model"]);
}
