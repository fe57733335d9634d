//! `l4sd eval --audit`: what does nothing is found out, and what looks at its link is not taken for it.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as a test does")]

use std::process::Command;

use l4sd::aqm::params::Knobs;
use l4sd::control::policy::{Abstention, Policy};
use l4sd::eval::CellInfo;
use l4sd::eval::audit::{Audit, Subject, audit, outcome::Check};
use l4sd::sim::run::SimError;
use l4sd::sim::{Grid, Scenario, Split};
use l4sd::telemetry::TelemetryWindow;
use l4sd::time::Span;

/// Few and short: a quarter of a grid with several links of each mix, the first three mixes of two others; 6 and 10 s each.
fn cells() -> Vec<(CellInfo, Scenario)> {
    let many = Grid::Rfc9332.cells_of(Split::Dev, 1, 1, 6.0).into_iter().step_by(4);
    many.chain([Grid::Steps, Grid::Switch].into_iter().flat_map(|grid| grid.smoke(Split::Dev, 1)))
        .map(|cell| (CellInfo::from(&cell), cell.scenario))
        .collect()
}

/// The same target whatever it sees.
#[derive(Clone, Copy)]
struct Always(u64);

impl Policy for Always {
    fn decide(&mut self, _: &TelemetryWindow, _: &Knobs) -> Result<Knobs, Abstention> {
        Ok(Knobs { target: Span::from_millis(self.0), ..Knobs::default() })
    }
}

impl Subject for Always {
    fn policy(&self, _: &[usize]) -> Result<Box<dyn Policy>, SimError> {
        Ok(Box::new(*self))
    }
}

/// A target that goes up and down every second; features do not matter to it.
#[derive(Clone, Copy)]
struct Swings;

impl Policy for Swings {
    fn decide(&mut self, window: &TelemetryWindow, _: &Knobs) -> Result<Knobs, Abstention> {
        let up = (window.id / 31).is_multiple_of(2);
        Ok(Knobs { target: Span::from_millis(if up { 15 } else { 5 }), ..Knobs::default() })
    }
}

impl Subject for Swings {
    fn policy(&self, _: &[usize]) -> Result<Box<dyn Policy>, SimError> {
        Ok(Box::new(*self))
    }
}

fn of(audit: &Audit, number: &str) -> Check {
    audit.checks.iter().find(|c| c.number == number).unwrap().clone()
}

#[test]
fn a_model_that_does_nothing_is_found_out() {
    for target in [15, 5] {
        let audit = audit(&cells(), &Always(target), 1, 2).unwrap();
        let text = audit.text();
        assert_eq!(audit.checks.len(), 8);
        for number in ["i", "ii", "iii", "iv", "v"] {
            assert_eq!(of(&audit, number).passed, Some(false), "{target} ms ({number})\n{text}");
        }
        assert_eq!(of(&audit, "vi").passed, Some(true), "{text}");
        assert_eq!(of(&audit, "viii").passed, Some(true), "{text}");
        let figure = |number: &str, i: usize| of(&audit, number).figures[i].value.unwrap();
        assert_eq!(figure("ii", 0), 1.0, "other inputs make no difference\n{text}");
        assert_eq!(figure("iii", 0), 1.0, "nor do none\n{text}");
        assert_eq!((figure("iv", 0), figure("iv", 1)), (0.0, 1.0), "{text}");
    }
}

#[test]
fn an_oscillation_is_found() {
    let audit = audit(&cells(), &Swings, 1, 2).unwrap();
    let steadiness = of(&audit, "viii");
    assert_eq!(steadiness.passed, Some(false), "{}", audit.text());
    // From 5 to 15 ms is 3.75 bins; the guard moves one per 64 ms, so that the wave is a trapezium of about 1 Hz.
    let peak = steadiness.figures[0].value.unwrap();
    assert!((1.2..2.8).contains(&peak), "{peak}");
}

#[test]
fn the_same_whatever_the_jobs() {
    let cells = &cells()[..3];
    let one = audit(cells, &Swings, 2, 1).unwrap();
    assert_eq!(one, audit(cells, &Swings, 2, 3).unwrap());
}

#[test]
fn mistakes_are_explained() {
    let run = |args: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_l4sd")).args(args).output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let (code, stderr) = run(&["eval", "--audit", "--policy", "dualpi2-tuned"]);
    assert_eq!(code, Some(64), "{stderr}");
    assert!(stderr.contains("say --policy model, model:FILE, or none"), "{stderr}");
    let (code, _) = run(&["eval", "--links", "3", "--policy", "codel"]);
    assert_eq!(code, Some(64), "--links is the audit's");
    let (code, stderr) = run(&["eval", "--audit", "--policy", "model:nowhere.onnx"]);
    assert_eq!(code, Some(65), "{stderr}");
}

/// The fabricated model, through the verb: needs ONNX Runtime.
#[test]
fn the_verb_writes_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let model = concat!("model:", env!("CARGO_MANIFEST_DIR"), "/tests/models/linear.onnx");
    let out = Command::new(env!("CARGO_BIN_EXE_l4sd"))
        .args([
            "eval", "rfc9332", "steps", "--audit", "--smoke", "--seeds", "1", "--links", "2", "--policy",
            model,
        ])
        .args(["--out", dir.path().to_str().unwrap()])
        .output()
        .unwrap();
    let stderr = String::from_utf8(out.stderr).unwrap();
    if out.status.code() == Some(69) && stderr.contains("onnxruntime") {
        eprintln!("SKIPPED: {stderr}");
        return;
    }
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(65), "{text}{stderr}");
    assert!(stderr.contains("of the 8 checks of its audit fail"), "{stderr}");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 8, "{text}");
    assert!(lines[0].starts_with("FAIL (i) freeze: "), "{text}");
    assert!(lines[6].starts_with("SKIP (vii) regime switches: "), "no link has phases\n{text}");
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("audit.json")).unwrap()).unwrap();
    assert_eq!((&json["checks"][0]["passed"], &json["checks"][6]["passed"]), (&false.into(), &().into()));
    let csv = std::fs::read_to_string(dir.path().join("audit.csv")).unwrap();
    assert!(csv.starts_with("check,name,figure,value,lo,hi,limit,passed\ni,freeze,"), "{csv}");
}
