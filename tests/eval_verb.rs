//! `l4sd eval` as a user sees it: the same bytes whatever the jobs and whether it was resumed, and mistakes explained.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as a test does")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

const SCENARIO: &str = r#"
duration = "6s"
warmup = "2s"
[link]
rate = "8Mbit"
[[flow]]
cc = "prague"
rtt = "20ms"
[[flow]]
cc = "cubic"
rtt = "20ms"
"#;

fn l4sd(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_l4sd")).args(args).output().expect("the program starts")
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be listed").path())
        // Lines of records are in the order of their ends.
        .filter(|path| !path.ends_with("records.jsonl"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn the_same_bytes_whatever_the_jobs_and_whether_it_was_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    for name in ["one", "two"] {
        std::fs::write(path(name), format!("name = \"{name}\"{SCENARIO}")).unwrap();
    }
    let (one, two, a, b) = (path("one"), path("two"), path("a"), path("b"));
    let eval = |out: &str, more: &[&str]| {
        let args = [&["eval", &one, &two, "--policy", "codel,dualpi2-linux", "--out", out], more].concat();
        let run = l4sd(&args);
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        (String::from_utf8(run.stdout).unwrap(), String::from_utf8(run.stderr).unwrap())
    };
    let (table, _) = eval(&a, &["--jobs", "1"]);
    assert!(table.contains("Overall: 2 cells, 3 seeds") && table.contains("Grid files: 2 cells"), "{table}");
    let first = files(Path::new(&a));
    let names: Vec<_> = first.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["cells.csv", "delay-time-files.png", "frontier.svg", "results.json", "table.md"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let (json, _) = eval(&b, &["--jobs", "4", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    // Six runs of the baseline and three of both others.
    assert_eq!(value["runs"].as_array().unwrap().len(), 2 * 12);
    assert_eq!(value["cells"].as_array().unwrap().len(), 2 * 3);
    assert_eq!(first, files(Path::new(&b)));

    // As if killed in the middle of a line.
    let records = Path::new(&b).join("records.jsonl");
    let text = std::fs::read(&records).unwrap();
    std::fs::write(&records, &text[..text.len() / 2]).unwrap();
    let (_, told) = eval(&b, &["--jobs", "2"]);
    assert!(told.contains("of 24 runs are in"), "{told}");
    assert_eq!(first, files(Path::new(&b)));
    let (_, told) = eval(&b, &[]);
    assert!(told.contains("24 of 24 runs"), "{told}");

    // A file of decisions that has been changed is another policy.
    let (decisions, c) = (path("decisions.csv"), path("c"));
    let replay = format!("replay:{decisions}");
    let again = |target_ms: u32| {
        let header = "at_s,target_ms,gain,ramp_min_ms,feed_forward";
        std::fs::write(&decisions, format!("{header}\n0,{target_ms},1,0.8,1\n")).unwrap();
        let run = l4sd(&["eval", &one, "--policy", &replay, "--out", &c]);
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stderr).unwrap()
    };
    again(15);
    assert!(again(15).contains("9 of 9 runs"));
    assert!(again(5).contains("6 of 9 runs"), "only the baseline's are taken");

    for (args, code, part) in [
        (vec!["eval", &one, "--policy", "codel", "--out", &b, "--split-seed", "9"], 65, "--fresh"),
        (
            vec!["eval", &one, &one, "--policy", "codel", "--out", &a],
            64,
            "there is another scenario called 'one'",
        ),
        (vec!["eval", &one, "--policy", "replay:x.csv", "--out", &a], 65, "x.csv: No such file"),
        (vec!["eval", &one, "--policy", "codel", "--split", "all"], 64, "train, low, dev, test"),
        (vec!["eval", "nothing.toml", "--policy", "codel", "--out", &a], 78, "nothing.toml: cannot read"),
    ] {
        let run = l4sd(&args);
        let message = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(code), "{message}");
        assert!(message.contains(part), "{message}");
    }
}

/// By grid and cell, what `cells.csv` says of the baseline.
fn baselines(dir: &Path) -> BTreeMap<String, Vec<f64>> {
    let text = std::fs::read_to_string(dir.join("cells.csv")).unwrap();
    let mut rows = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = rows.next().unwrap();
    let row = |row: Vec<&str>| {
        let of_baseline = head.iter().zip(&row).filter(|(name, _)| name.ends_with("_baseline"));
        let numbers = of_baseline.filter_map(|(_, field)| field.parse().ok()).collect();
        (row[..2].join("/"), numbers)
    };
    rows.map(row).collect()
}

/// The oracle of a link depends on the link alone: not on jobs, nor on whether time was up in between.
#[test]
fn the_oracle_is_the_same_whatever_the_jobs_and_whether_it_was_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let oracle = |out: &Path, more: &[&str]| {
        let out = out.display().to_string();
        let args = ["eval", "lowrate", "--smoke", "--oracle", "--split", "train", "--out", &out];
        let run = l4sd(&[&args, more].concat());
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        (String::from_utf8(run.stdout).unwrap(), String::from_utf8(run.stderr).unwrap())
    };
    let (table, _) = oracle(&a, &["--jobs", "1"]);
    assert!(table.contains("oracle-target") && table.contains("Grid lowrate: 3 cells"), "{table}");
    let (nothing, said) = oracle(&b, &["--jobs", "3", "--budget-s", "0"]);
    assert!(nothing.is_empty() && said.contains("0 of 3 links searched"), "{said}");
    oracle(&b, &["--jobs", "3"]);
    let without_log = |dir: &Path| {
        let mut files = files(dir);
        files.retain(|(name, _)| name != "oracle.jsonl");
        files
    };
    assert_eq!(without_log(&a), without_log(&b));
    let sorted = |dir: &Path| {
        let text = std::fs::read_to_string(dir.join("oracle.jsonl")).unwrap();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let lines = sorted(&a);
    assert_eq!((lines.len(), &lines), (4, &sorted(&b)), "a header and three links");
    let (_, said) = oracle(&a, &[]);
    assert!(said.contains("3 of 3 links are in") && said.contains("0 of them now"), "{said}");
    let record: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    let tried = record["record"]["tried"].as_array().unwrap();
    let reference = tried.iter().filter(|t| t["setting"].is_null()).count();
    assert_eq!(reference, 3, "brief, full with three seeds, full with six");
    assert!(tried.len() > 20 && tried.iter().all(|t| t["s"].is_number()));
    for oracle in record["record"]["oracles"].as_array().unwrap() {
        assert_eq!(oracle["runs"].as_array().unwrap().len(), 3);
    }
    // Its choices are judged against the runs of DualPI2 that `l4sd eval` makes, seed for seed; its figures went through six digits.
    let c = dir.path().join("c");
    let args = ["eval", "lowrate", "--smoke", "--split", "train", "--policy", "codel", "--out"];
    assert!(l4sd(&[&args[..], &[c.to_str().unwrap()]].concat()).status.success());
    let (of_oracle, of_eval) = (baselines(&a), baselines(&c));
    assert_eq!(of_oracle.len(), 3);
    assert!(of_oracle.keys().eq(of_eval.keys()));
    for (one, other) in of_oracle.values().flatten().zip(of_eval.values().flatten()) {
        assert!((one - other).abs() < 1e-5, "{of_oracle:?} {of_eval:?}");
    }
    let refused = l4sd(&["eval", "smoke", "--oracle", "--policy", "codel"]);
    assert_eq!(refused.status.code(), Some(64));
}

/// With a rule, records say so, DualPI2 is what it was, and RFC 9332's constants are tried beside the rule as any setting; a folder of a
/// search without it is refused.
#[test]
fn the_oracle_holds_settings_with_a_feed_forward() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| dir.path().join(name).display().to_string();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (student, trees) = (root.join("models/student.onnx"), root.join("models/trees.onnx"));
    let oracle = |name: &str, more: &[&str]| {
        let args = ["eval", "lowrate", "--smoke", "--oracle", "--split", "train", "--out", &out(name)];
        l4sd(&[&args, more].concat())
    };
    let records = |name: &str| {
        let text = std::fs::read_to_string(dir.path().join(name).join("oracle.jsonl")).unwrap();
        let lines = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
        lines.filter(|l| l.get("record").is_some()).map(|mut l| l["record"].take()).collect::<Vec<_>>()
    };
    let rule = ["--feed-forward", student.to_str().unwrap()];
    assert!(oracle("without", &[]).status.success());
    let with_rule = oracle("with", &rule);
    assert!(with_rule.status.success(), "{}", String::from_utf8_lossy(&with_rule.stderr));
    let (without, with) = (records("without"), records("with"));
    assert_eq!((without.len(), with.len()), (3, 3));
    let of = |records: &[serde_json::Value], default: bool| {
        let tried = records.iter().flat_map(|r| r["tried"].as_array().unwrap().clone());
        let mut all: Vec<_> =
            tried.filter(|t| t["setting"].is_null() == default).map(|t| t.to_string()).collect();
        all.sort();
        all
    };
    assert!(without.iter().all(|r| r.get("feed_forward").is_none()));
    assert!(with.iter().all(|r| r["feed_forward"].as_str().unwrap().starts_with("0.25 ")));
    assert_eq!(of(&with, true), of(&without, true));
    assert_ne!(of(&with, false), of(&without, false));
    let constants = |records: &[serde_json::Value]| {
        let rfc = serde_json::json!([9, 2, 4]);
        of(records, false).iter().filter(|t| t.contains(&format!("\"setting\":{rfc}"))).count()
    };
    assert_eq!(constants(&without), 0);
    assert!(constants(&with) >= 2 * 3, "in brief and in full on three links: {}", constants(&with));
    let mixed = oracle("without", &rule);
    assert!(!mixed.status.success());
    let said = String::from_utf8(mixed.stderr).unwrap();
    assert!(said.contains("feed-forward none") && said.contains("feed-forward 0.25"), "{said}");
    let refused = oracle("with", &["--feed-forward", trees.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(65));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("trees.onnx: it has no feed-forward rule"), "{said}");
}

/// Settings that jump each half second are followed later by 32 ms with a latency of that, and not at all when each decision is
/// stale. The baseline does not decide and stays as it was.
#[test]
fn decisions_are_as_late_and_go_as_stale_as_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (one, decisions) = (path("one"), path("decisions.csv"));
    std::fs::write(&one, format!("name = \"one\"{SCENARIO}")).unwrap();
    let rows = (0..12).map(|i| format!("{},{},1,0.8,1\n", f64::from(i) / 2.0, [4, 15][i as usize % 2]));
    let header = "at_s,target_ms,gain,ramp_min_ms,feed_forward\n".to_owned();
    std::fs::write(&decisions, header + &rows.collect::<String>()).unwrap();
    let replay = format!("replay:{decisions}");
    let eval = |more: &[&str]| {
        let out = path("out");
        let args = ["eval", &one, "--policy", &replay, "--seeds", "1", "--json", "--fresh", "--out", &out];
        let run = l4sd(&[&args, more].concat());
        let told = String::from_utf8(run.stderr).unwrap();
        assert!(run.status.success(), "{told}");
        let value: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
        let of = |policy: &str, what: &str| {
            let runs = value["runs"].as_array().unwrap();
            runs.iter().find(|r| r["policy"] == policy).unwrap().pointer(what).unwrap().clone()
        };
        let delay = "/queues/c/delay_ms/mean";
        (
            of(&replay, delay),
            of("dualpi2", delay),
            of(&replay, "/controller/late"),
            of(&replay, "/fallback_share"),
        )
    };
    let usual = eval(&[]);
    assert_eq!(eval(&["--decision-latency", "2ms", "--t-expire", "32ms"]), usual, "the defaults");
    let late = eval(&["--decision-latency", "32ms"]);
    assert!(late.0 != usual.0 && late.1 == usual.1, "{late:?} {usual:?}");
    assert_eq!((&late.2, &late.3), (&0.into(), &usual.3), "32 ms is not too late");
    let stale = eval(&["--decision-latency", "1ms", "--t-expire", "1ms"]);
    assert_eq!(stale.2, 0, "each is in force at once, and stale at the next look");
    assert!(stale.3.as_f64().unwrap() > 0.9, "{stale:?}");
    let longer = eval(&["--decision-latency", "128ms", "--t-expire", "160ms"]);
    assert_eq!((&longer.2, &longer.3), (&0.into(), &usual.3));
    assert!(longer.0 != late.0, "{longer:?} {late:?}");
    let refused = l4sd(&["eval", &one, "--policy", &replay, "--decision-latency", "33ms"]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(64));
    assert!(message.contains("longer than --t-expire 32ms"), "{message}");
}
