use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use super::*;

/// Tests of one process run side by side, each with files of its own.
static CALLS: AtomicU32 = AtomicU32::new(0);

/// A result object with two seeds of every scenario, in which every queue and flow is the same.
fn results(c_mean_ms: f64) -> Results {
    let queue = |bytes: u64, mean: f64| {
        json!({"delay_ms": {"mean": mean, "p50": mean, "p99": mean, "p999": mean, "max": mean},
            "packets": 1000, "bytes": bytes, "arrived": 1000, "marked": 49,
            "dropped": {"aqm": 0, "overload": 0, "tail": 0}, "queued_end": 0})
    };
    let files = cases();
    let phases = files.iter().flat_map(|c| c.phases.iter().map(|p| ScenarioFile::of_phase(c, p).name));
    let runs = phases.chain(pair_files().map(|f| f.name)).flat_map(|name| {
        // 25.2 and 14.8 Mbit/s.
        let run = json!({"scenario": name, "direction": "left_to_right", "duration_s": 35.0, "warmup_s": 5.0,
            "ratio_l_over_c": 1.7, "link": {"rate_mbps": 40.0, "utilization": 1.0},
            "flows": [{"goodput_mbps": 20.0}, {"goodput_mbps": 30.0}],
            "queues": {"l": queue(94_500_000, 0.2), "c": queue(55_500_000, c_mean_ms)}});
        [run.clone(), run]
    });
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("l4sd-agreement-{}-{call}.json", std::process::id()));
    fs::write(&path, json!({"schema": 1, "runs": runs.collect::<Vec<_>>()}).to_string()).unwrap();
    let results = Results::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    results
}

fn spec() -> AgreementSpec {
    AgreementSpec {
        l4sd: PathBuf::from("l4sd"),
        port: "packet".to_owned(),
        seconds: 30,
        out: PathBuf::from("out"),
        date: None,
        command: "make agreement".to_owned(),
    }
}

fn report(c_mean_ms: f64) -> Report {
    let (results, spec) = (results(c_mean_ms), spec());
    let mut runner = LiveRunner::new(&spec, Live::Off("a test"));
    let cases = cases().iter().map(|c| case_report(c, &results, &mut runner).unwrap()).collect();
    let pairs = pair_reports(&results).unwrap();
    Report {
        command: spec.command.clone(),
        date: "2026-01-02".to_owned(),
        host: Host { kernel: "6.0".to_owned(), cores: 2, processor: "P".to_owned() },
        seeds: SEEDS,
        live: runner.report(),
        cases,
        rank: rank(&pairs),
        pairs,
    }
}

#[test]
fn figures_stand_under_the_reference_with_their_distance() {
    let text = table::markdown(&report(13.6));
    let rows: Vec<&str> = text.lines().filter(|l| l.starts_with("| ")).collect();
    assert_eq!(
        rows[1],
        "| **40 Mbit/s, 20 ms** | reference | 25.00 | 14.20 | 1.76 | 97.9 % | 0.18 / 0.60 | 13.6 / 21.8 | 4.9 % | \
         0.078 % | | |"
    );
    assert_eq!(
        rows[2],
        "| | simulator | 25.20 | 14.80 | 1.70 (x0.97) | 100.0 % (+0.0) | 0.20 (x1.11) / 0.20 | 13.6 (+0 %) / 13.6 | \
         4.9 % | 0.000 % | agrees | - |"
    );
    assert!(text.contains("**No live runs: a test.**"), "{text}");
    assert!(
        text.contains(
            "| **40 to 10 Mbit/s, 20 ms, first second** | reference | - | - | - | - | 8.96 / 40.00 |"
        )
    );
    let columns: Vec<usize> = rows[..13].iter().map(|r| r.matches('|').count()).collect();
    assert!(columns.iter().all(|&n| n == 13), "{columns:?}");
}

#[test]
fn a_cell_that_is_off_says_by_what_and_is_explained() {
    let report = report(17.0);
    assert!(!report.cases[0].simulator_agrees(), "17 is 25 % above 13.6");
    let text = table::markdown(&report);
    assert!(text.contains("**17.0 (+25 %)** / 17.0 | 4.9 % | 0.000 % | **differs: C delay** |"), "{text}");
    assert!(
        text.contains(
            "- **120 Mbit/s, 20 ms**, simulator against the reference: the reference has its CUBIC flow"
        ),
        "{text}"
    );
    assert!(
        text.contains("- **40 Mbit/s, 20 ms**, simulator against the reference: not explained yet."),
        "{text}"
    );
    assert!(!report.pass());
}

#[test]
fn equal_rates_have_no_order() {
    let report = report(13.6);
    assert_eq!(report.rank.dctcp.spearman, None);
    assert_eq!(report.pairs[0].prague, Rates { first: 20.0, second: 30.0 });
    assert!(
        table::markdown(&report)
            .contains("| CUBIC + Prague | 10 / 10 | 12.65 + 34.57 | 2.73 | 0.823 | 20.00 + 30.00 |")
    );
}

#[test]
fn live_is_judged_against_the_reference_and_the_simulator_against_live() {
    let case = &cases()[0];
    let figures = |c: f64| Figures {
        l_mbps: 25.0,
        c_mbps: 14.2,
        utilization: 1.0,
        l_delay_ms: Some(0.18),
        c_delay_ms: Some(c),
        ..Figures::default()
    };
    // 15 is 10 % above the reference; 12.4 is 9 % below it but 17 % below 15, and 11.5 is 23 % below 15.
    let report = |sim: f64| CaseReport {
        name: case.name,
        title: "t".to_owned(),
        phases: vec![PhaseReport::new(&case.phases[0], figures(sim), Some(figures(15.0)))],
        live_with_fallback: None,
        live_skipped: None,
    };
    assert_eq!(
        (report(12.4).live_agrees(), report(12.4).simulator_agrees_with_live()),
        (Some(true), Some(true))
    );
    assert_eq!(
        (report(11.5).simulator_agrees(), report(11.5).simulator_agrees_with_live()),
        (true, Some(false))
    );
    let none =
        CaseReport { phases: vec![PhaseReport::new(&case.phases[0], figures(15.0), None)], ..report(15.0) };
    assert_eq!(none.live_agrees(), None);
}

#[test]
fn an_error_fits_into_a_table() {
    assert_eq!(one_line("it ended;\n  its last | lines"), "it ended; its last / lines");
}

/// A series of 35 s whose step is taken `late` seconds after second 20.
fn stepped(late: f64) -> Series {
    use std::fmt::Write as _;
    let mut text =
        "t_s,direction,rate_mbps,l_mbps,c_mbps,l_delay_ms,c_delay_ms,p_base,p_coupled,l_marked,c_marked,\
        l_dropped,c_dropped,l_backlog_bytes,c_backlog_bytes,l_packets,c_packets\n"
            .to_owned();
    for i in 0..350 {
        let t = f64::from(i) / 10.0;
        let before = ((20.0 + late - t) / 0.1).clamp(0.0, 1.0);
        let rate = 40.0 * before + 10.0 * (1.0 - before);
        let delay = if i < 200 {
            1.0
        } else if i < 210 {
            9.0
        } else {
            2.0
        };
        writeln!(
            text,
            "{t:.1},left_to_right,{rate},{0},{0},{delay},{delay},0,0,1,0,0,0,0,0,10,10",
            rate / 2.0
        )
        .unwrap();
    }
    Series::parse(&text).unwrap()
}

#[test]
fn phases_of_a_step_are_cut_from_the_series() {
    let case = &cases()[5];
    let phases = by_phase(case, &stepped(-0.02)).unwrap();
    let seen: Vec<_> = phases.iter().map(|f| (f.l_mbps, f.l_delay_ms, f.l_marked)).collect();
    let all = [(20.0, 1.0), (5.0, 9.0), (5.0, 2.0)].map(|(mbps, delay)| (mbps, Some(delay), Some(10.0)));
    assert_eq!(seen, all);
    let late = by_phase(case, &stepped(0.03)).unwrap_err();
    assert_eq!(late, "at 20 s the rate was 19.00 Mbit/s, not 10");
    assert!(by_phase(case, &stepped(-0.2)).unwrap_err().contains("not 40"), "early");
}
