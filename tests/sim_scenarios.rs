//! The simulator beside a measurement: one Prague (udp_prague, 1442-byte frames) and one CUBIC flow (Linux, without
//! ECN) through an RFC 9332 box between network namespaces. What was measured, over which windows, and the tolerances
//! are the testbed's, which prints the same comparison with live runs beside it (`make agreement`).

use std::path::Path;

use l4sd::config::Policy;
use l4sd::report::RunResult;
use l4sd::sim::Scenario;
use l4sd::sim::link::LinkSpec;
use l4sd::time::Span;
use l4sd_testbed::agreement::CELLS_THAT_AGREE;
use l4sd_testbed::agreement::pairs::{PAIRS, RankOrder, Scalable};
use l4sd_testbed::agreement::reference::{Phase, cases};
use l4sd_testbed::agreement::simulator::ScenarioFile;
use l4sd_testbed::agreement::verdict::Figures;

fn load(name: &str) -> Scenario {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(format!("{name}.toml"));
    Scenario::load(&path).expect("the scenario is valid")
}

/// The part of a cell's run that a phase is of.
fn window(cell: &Scenario, phase: &Phase) -> Scenario {
    let mut s = cell.clone();
    (s.warmup, s.duration) =
        (Span::from_secs(u64::from(phase.from_s)), Span::from_secs(u64::from(phase.to_s)));
    if let LinkSpec::Rates { steps, .. } = &mut s.link {
        steps.retain(|step| step.at < s.duration);
    }
    s
}

fn figures(r: &RunResult) -> Figures {
    let percent = |n: u64, of: u64| 100.0 * n as f64 / of.max(1) as f64;
    let (l, c) = (&r.queues.l, &r.queues.c);
    let mbps = |bytes: u64| bytes as f64 * 8.0 / 1e6 / (r.duration_s - r.warmup_s);
    Figures {
        l_mbps: mbps(l.counters.bytes),
        c_mbps: mbps(c.counters.bytes),
        utilization: r.link.utilization.expect("the link has a rate"),
        l_delay_ms: l.delay_ms.mean,
        c_delay_ms: c.delay_ms.mean,
        l_p99_ms: l.delay_ms.p99,
        c_p99_ms: c.delay_ms.p99,
        l_marked: Some(percent(l.counters.marked, l.counters.packets)),
        c_dropped: Some(percent(c.counters.dropped.total(), c.counters.packets + c.counters.dropped.total())),
    }
}

fn run(s: &Scenario, seed: u64) -> RunResult {
    l4sd::sim::run(s, &Policy::DualPi2, seed).expect("dualpi2 simulates").result
}

/// At least five of six cells agree in every judged figure of every phase: ratio within a factor 1.35, L mean within a
/// factor 1.5, C mean within 20 %, utilisation within 2 points of what the measurement leaves open.
#[test]
fn figures_agree_with_the_measured_ones() {
    let mut off = Vec::new();
    for case in cases() {
        let cell = load(case.name);
        let verdicts = case.phases.iter().flat_map(|phase| {
            let runs: Vec<Figures> = (1..=3).map(|seed| figures(&run(&window(&cell, phase), seed))).collect();
            let mean = Figures::mean(&runs);
            eprintln!("{} {}: {mean:.3?}", case.name, phase.label);
            mean.against(&phase.measured)
        });
        let wrong: Vec<_> = verdicts.filter(|v| !v.agrees).collect();
        if !wrong.is_empty() {
            off.push((case.name, wrong));
        }
    }
    assert!(off.len() <= cases().len() - CELLS_THAT_AGREE, "{off:#?}");
}

/// What `scenarios/` has and what `make agreement` runs are the same cells; the phases of a cell are of one run.
#[test]
fn the_scenario_files_are_the_compared_cells() {
    for case in cases() {
        let cell = load(case.name);
        let ends = [case.phases[0].from_s, case.phases[case.phases.len() - 1].to_s];
        assert_eq!(
            [cell.warmup, cell.duration],
            ends.map(|s| Span::from_secs(u64::from(s))),
            "{}",
            case.name
        );
        for phase in &case.phases {
            let file = ScenarioFile::of_phase(&case, phase);
            let compared = Scenario::parse(&file.text, &file.name).unwrap();
            let expected = Scenario { name: file.name, ..window(&cell, phase) };
            assert_eq!(format!("{compared:?}"), format!("{expected:?}"));
        }
        let bytes = |s: &Scenario| run(s, 1).queues.all.counters.bytes;
        let parts: u64 = case.phases.iter().map(|phase| bytes(&window(&cell, phase))).sum();
        assert_eq!(parts, bytes(&cell), "{}: nothing is lost between two windows", case.name);
    }
}

/// heistp's RTT pairs: the round-trip times order the shares of a scalable flow beside CUBIC as they were measured.
/// The senders measured had no floor under the round-trip time, hence DCTCP.
#[test]
fn rtt_pairs_are_ordered_as_measured() {
    let mixed: Vec<_> = PAIRS.iter().filter(|p| p.is_mixed()).collect();
    let published: Vec<f64> = mixed.iter().map(|p| p.published.1 / p.published.0).collect();
    let simulated: Vec<f64> = mixed
        .iter()
        .map(|pair| {
            let file = ScenarioFile::of_pair(pair, Scalable::Dctcp);
            let flows = run(&Scenario::parse(&file.text, &file.name).unwrap(), 1).flows;
            flows[1].goodput_mbps.unwrap() / flows[0].goodput_mbps.unwrap()
        })
        .collect();
    let order = RankOrder::of(&published, &simulated);
    assert!(order.spearman.is_some_and(|rho| rho >= 0.95), "{order:?}: {published:.2?} {simulated:.2?}");
}

/// Measured: within a second of the step from 40 to 10 Mbit/s both delays are back.
#[test]
fn a_rate_step_is_recovered_from_within_a_second() {
    let s = load("step-40-10mbit");
    for seed in 1..=3 {
        let r = l4sd::sim::run(&s, &Policy::DualPi2, seed).unwrap().result;
        assert!(
            matches!(r.recovery_ms[..], [Some(ms)] if (100.0..=1000.0).contains(&ms)),
            "{:?}",
            r.recovery_ms
        );
        // 15 s at 40 and 15 s at 10 Mbit/s.
        assert_eq!(r.link.rate_mbps, Some(25.0));
    }
}

/// 60 Mbit/s of ECT(1) on 40: L is at the Classic target, and a third of it is dropped.
#[test]
fn an_overload_of_the_l_queue_is_held_at_the_target() {
    let r = l4sd::sim::run(&load("overload"), &Policy::DualPi2, 1).unwrap().result;
    let l = r.queues.l;
    assert!((l.delay_ms.mean.unwrap() - 15.0).abs() < 1.0, "{l:?}");
    assert!(
        (l.counters.dropped.overload as f64 / l.counters.arrived as f64 - 1.0 / 3.0).abs() < 0.01,
        "{l:?}"
    );
    assert_eq!(l.counters.marked, l.counters.packets, "what survives is marked");
}

/// A live policy comparison makes no sense if the disciplines do not differ in the way that they are known to.
#[test]
fn disciplines_queue_as_they_are_known_to() {
    let s = load("40mbit-20ms");
    let delay = |policy: &str| {
        let r = l4sd::sim::run(&s, &policy.parse().unwrap(), 1).unwrap().result;
        (r.queues.all.delay_ms.mean.unwrap(), r.queues.l.counters.packets)
    };
    let (dualpi2, linux, pi2, codel, taildrop) =
        (delay("dualpi2"), delay("dualpi2-linux"), delay("pi2"), delay("codel"), delay("taildrop"));
    assert!((linux.0 / dualpi2.0 - 1.0).abs() < 0.2, "{linux:?} {dualpi2:?}");
    assert!((pi2.0 - 15.0).abs() < 3.0, "PI2 holds its target: {pi2:?}");
    assert!(codel.0 < 10.0, "{codel:?}");
    assert!(taildrop.0 > 100.0, "most of 250 ms: {taildrop:?}");
    assert!(dualpi2.1 > 0 && pi2.1 == 0 && codel.1 == 0, "single queues have no L");
}

fn l4sd(args: &[&str]) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_l4sd"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(args)
        .output()
        .expect("the program starts")
}

#[test]
fn the_verb_writes_the_same_results_each_time_and_explains_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| dir.path().join(name).display().to_string();
    let scenario = "scenarios/4mbit-20ms.toml";
    for name in ["a", "b"] {
        let run = l4sd(&["sim", scenario, "--policy", "dualpi2,codel", "--seeds", "2", "--out", &out(name)]);
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let table = String::from_utf8(run.stdout).unwrap();
        assert!(table.contains("4mbit-20ms") && table.contains("cubic-1"), "{table}");
    }
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name).join("results.json")).unwrap();
    assert_eq!(read("a"), read("b"));
    let file: l4sd::report::ResultFile = serde_json::from_str(&read("a")).unwrap();
    let runs: Vec<_> = file.runs.iter().map(|r| (r.policy.as_str(), r.seed)).collect();
    assert_eq!(
        runs,
        [("dualpi2", Some(1)), ("dualpi2", Some(2)), ("codel", Some(1)), ("codel", Some(2))],
        "paired seeds"
    );
    assert_eq!(file.runs[0].flows.len(), 2);
    let recorded = l4sd(&["sim", scenario, "--policy", "dualpi2:target=5ms", "--record", "--out", &out("c")]);
    assert!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));
    let file = dir.path().join("c/record/4mbit-20ms-dualpi2_target=5ms-1.csv");
    let schema = l4sd::telemetry::features::Schema::embedded();
    let rows = l4sd::telemetry::features::dataset::read(&file, &schema).unwrap();
    assert_eq!(
        rows.len(),
        35_000 / 16 + 2,
        "a row a window; the warm-up and the end are no multiples of 16 ms"
    );
    let bad = dir.path().join("bad.toml");
    std::fs::write(&bad, "name = \"x\"\nspeed = 3\n").unwrap();
    let bad = bad.display().to_string();
    for (args, code, part) in [
        (vec!["sim", &bad], 78, "bad.toml:2:1: unknown field `speed`"),
        (vec!["sim", "no.toml"], 78, "no.toml: cannot read"),
        (vec!["sim", scenario, "--policy", "fq"], 64, "there is no policy 'fq'"),
        (vec!["sim", scenario, "--policy", "replay:x.csv"], 65, "x.csv"),
    ] {
        let run = l4sd(&args);
        let message = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(code), "{message}");
        assert!(message.contains(part), "{message}");
    }
}
