//! The simulator beside a measurement: one Prague (udp_prague, 1442-byte frames) and one CUBIC flow (Linux, without
//! ECN) through an RFC 9332 box between network namespaces. Rates and utilisation are of frames. The measured
//! utilisation counts one to two idle seconds at the end of each run and reads low by as much, so that only its lower
//! side is compared.

use std::path::Path;

use l4sd::config::Policy;
use l4sd::sim::Scenario;

struct Measured {
    scenario: &'static str,
    /// L over C, by frame bytes.
    ratio: f64,
    utilization: f64,
    l_delay_ms: f64,
    c_delay_ms: f64,
}

const MEASURED: [Measured; 4] = [
    Measured { scenario: "40mbit-20ms", ratio: 1.76, utilization: 0.979, l_delay_ms: 0.18, c_delay_ms: 13.6 },
    Measured { scenario: "40mbit-10ms", ratio: 1.15, utilization: 0.973, l_delay_ms: 0.17, c_delay_ms: 14.9 },
    Measured { scenario: "12mbit-20ms", ratio: 1.23, utilization: 0.976, l_delay_ms: 0.60, c_delay_ms: 15.9 },
    Measured { scenario: "4mbit-20ms", ratio: 1.79, utilization: 0.951, l_delay_ms: 1.90, c_delay_ms: 17.2 },
];

fn load(name: &str) -> Scenario {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(format!("{name}.toml"));
    Scenario::load(&path).expect("the scenario is valid")
}

#[test]
fn figures_agree_with_the_measured_ones() {
    let mut wrong = Vec::new();
    for m in MEASURED {
        let s = load(m.scenario);
        let runs: Vec<_> =
            (1..=3).map(|seed| l4sd::sim::run(&s, &Policy::DualPi2, seed).unwrap().result).collect();
        let mean = |f: &dyn Fn(&l4sd::report::RunResult) -> f64| runs.iter().map(f).sum::<f64>() / 3.0;
        let ratio = mean(&|r| r.queues.l.counters.bytes as f64 / r.queues.c.counters.bytes as f64);
        let utilization = mean(&|r| r.link.utilization.unwrap());
        let l = mean(&|r| r.queues.l.delay_ms.mean.unwrap());
        let c = mean(&|r| r.queues.c.delay_ms.mean.unwrap());
        let marks = mean(&|r| r.queues.l.counters.marked as f64 / r.queues.l.counters.packets as f64 * 100.0);
        let drops = mean(&|r| {
            r.queues.c.counters.dropped.total() as f64 / r.queues.c.counters.arrived as f64 * 100.0
        });
        eprintln!(
            "{}: ratio {ratio:.2} ({}), utilisation {utilization:.3} ({}), L {l:.2} ms ({}), C {c:.1} ms ({}), \
             L marks {marks:.1} %, C drops {drops:.3} %",
            m.scenario, m.ratio, m.utilization, m.l_delay_ms, m.c_delay_ms
        );
        let mut check = |what: &str, fine: bool| {
            if !fine {
                wrong.push(format!("{} {what}", m.scenario));
            }
        };
        let factor = |got: f64, measured: f64| (got / measured).max(measured / got);
        check("ratio", factor(ratio, m.ratio) <= 1.35);
        check("utilisation", utilization - m.utilization >= -0.02);
        check("L delay", factor(l, m.l_delay_ms) <= 1.5);
        check("C delay", (c / m.c_delay_ms - 1.0).abs() <= 0.2);
    }
    assert!(wrong.is_empty(), "{wrong:?}");
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
        // 15 s at 40 and 20 s at 10 Mbit/s.
        assert_eq!(r.link.rate_mbps.map(|m| (m * 1e6).round()), Some(22_857_143.0));
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
