//! Demonstrations from the command line: records become a file of them, and a model that reads none says so.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn l4sd(dir: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_l4sd")).current_dir(dir).args(words).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The record of a link of 10 Mbit/s under DualPI2.
fn record(dir: &Path, seconds: u32) -> PathBuf {
    let scenario = format!(
        "name = \"link{seconds}\"\nduration = \"{seconds}s\"\n[link]\nrate = \"10Mbit\"\n[[flow]]\ncc = \"prague\"\n\
         rtt = \"10ms\"\n[[flow]]\ncc = \"cubic\"\nrtt = \"10ms\"\n"
    );
    std::fs::write(dir.join("link.toml"), scenario).unwrap();
    let out = format!("out{seconds}");
    let (code, _, said) = l4sd(dir, &["sim", "link.toml", "--policy", "dualpi2", "--record", "--out", &out]);
    assert_eq!(code, Some(0), "{said}");
    let mut files = std::fs::read_dir(dir.join(out).join("record")).unwrap();
    files.next().unwrap().unwrap().path()
}

#[test]
fn a_record_of_a_link_becomes_demonstrations() {
    let dir = tempfile::tempdir().unwrap();
    let long = record(dir.path(), 12);
    let (code, told, said) = l4sd(dir.path(), &["model", "adapt", long.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    assert!(told.contains(": 10.000 Mbit/s, demonstrations with returns "), "{told}");
    let file = std::fs::read_to_string(dir.path().join("context.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&file).unwrap();
    let shots = file["profiles"][0]["demonstrations"].as_array().unwrap();
    assert_eq!((shots.len(), shots[0].as_array().unwrap().len()), (4, 12));

    let short = record(dir.path(), 2);
    let (code, _, said) = l4sd(dir.path(), &["model", "adapt", short.to_str().unwrap()]);
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("it covers 2.0 s; a demonstration takes 4.6 s"), "{said}");
    let text = std::fs::read_to_string(&long).unwrap().replacen("sha256 ", "sha256 0", 1);
    std::fs::write(&long, text).unwrap();
    let (code, _, said) = l4sd(dir.path(), &["model", "adapt", long.to_str().unwrap()]);
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("recorded with feature schema") && said.contains("record again"), "{said}");
}

#[test]
fn a_context_for_a_model_that_reads_none_is_one_clear_message() {
    let dir = tempfile::tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/linear.onnx");
    let config = |context: &str| {
        let text = format!(
            "[left]\nport = \"mem:\"\n[right]\nport = \"mem:\"\n[link]\nrate = \"40Mbit\"\n[aqm]\npolicy = \"model\"\n\
             [control]\nmodel = \"{}\"\n{context}",
            model.display()
        );
        std::fs::write(dir.path().join("l4sd.toml"), text).unwrap();
        l4sd(dir.path(), &["check", "-c", "l4sd.toml"])
    };
    for context in ["context = \"auto\"\n", "context = \"mine.json\"\n"] {
        let (code, _, said) = config(context);
        assert_eq!(code, Some(65), "{said}");
        let lines: Vec<&str> = said.lines().filter(|l| l.contains("it reads no context")).collect();
        assert!(
            lines.len() == 1 && lines[0].contains("linear.onnx") && lines[0].contains("\"none\""),
            "{said}"
        );
    }
    for none in ["", "context = \"none\"\n"] {
        let (_, _, said) = config(none);
        assert!(!said.contains("context"), "{said}");
    }
}

/// A second of an idle link of 16 ms windows under a target of its own: some 60 rows a direction, and the action is it.
#[test]
fn a_run_records_what_a_policy_would_have_seen() {
    let dir = tempfile::tempdir().unwrap();
    let words = "run --left mem: --right mem: --rate 40Mbit --policy dualpi2:target=5ms --duration 1s --record --out o --metrics off";
    let (code, _, said) = l4sd(dir.path(), &words.split(' ').collect::<Vec<_>>());
    assert_eq!(code, Some(0), "{said}");
    let schema = l4sd::telemetry::features::Schema::embedded();
    let columns = l4sd::telemetry::features::dataset::columns(&schema);
    let target = columns.iter().position(|c| c == "action.target").unwrap();
    for direction in ["left_to_right", "right_to_left"] {
        let file = dir.path().join("o/record").join(direction).with_extension("csv");
        let rows = l4sd::telemetry::features::dataset::read(&file, &schema).unwrap();
        assert!((40..=70).contains(&rows.len()), "{direction}: {} rows", rows.len());
        assert!(rows.iter().all(|row| (row[target] - 0.005).abs() < 1e-9), "{direction}");
    }
}
