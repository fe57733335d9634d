//! Made-up records for tests of what is made of records: no simulation, but figures of a likely size.

use super::cell::{CellInfo, CellRecord};
use super::design::Design;
use crate::report::RunResult;
use crate::report::result::{
    Counters, DelayResult, FctResult, FlowResult, LinkResult, PerQueue, QueueResult,
};

pub(crate) const POLICIES: [&str; 5] = ["dualpi2-tuned", "dualpi2-rules", "model", "codel", "pi2"];

/// 30 cells under six policies with 3 seeds.
pub(crate) fn evaluation() -> (Design, Vec<CellRecord>) {
    build(&POLICIES, 1)
}

/// The same with static targets, for the frontier.
pub(crate) fn with_targets() -> (Design, Vec<CellRecord>) {
    let targets: Vec<String> =
        [1, 2, 3, 5, 8, 10, 15, 20, 25].map(|ms| format!("dualpi2:target={ms}ms")).into();
    let policies: Vec<&str> = POLICIES.iter().copied().chain(targets.iter().map(String::as_str)).collect();
    build(&policies, 1)
}

/// `copies` times as many cells.
pub(crate) fn build(policies: &[&str], copies: usize) -> (Design, Vec<CellRecord>) {
    let mut cells = Vec::new();
    for copy in 0..copies {
        for rate in [4, 12, 40, 120, 200] {
            for rtt in [5, 10, 20, 50, 100] {
                let name = format!("1v1-{rate}mbit-{rtt}ms-{copy}");
                cells.push(CellInfo {
                    grid: "rfc9332".into(),
                    name,
                    mix: "1v1".into(),
                    ..Default::default()
                });
            }
        }
        for i in 0..3 {
            let name = format!("bursty-{copy}-{i}");
            let mix = "bursty".to_owned();
            cells.push(CellInfo { grid: "bursty".into(), name, mix, bursty: true, mice: false });
        }
        for i in 0..2 {
            let name = format!("c_only-{copy}-{i}");
            cells.push(CellInfo { grid: "single".into(), name, mix: "c_only".into(), ..Default::default() });
        }
    }
    let design = Design::new(cells, policies.iter().map(|p| (*p).to_owned()), 3);
    let units = design.units(|_| String::new(), |_| String::new(), |_| 1.0);
    let records = units
        .iter()
        .map(|u| record(&design.cells[u.cell], u.cell, &design.policies[u.policy], u.seed))
        .collect();
    (design, records)
}

/// Target in ms, delay of L in ms, whether there is one queue.
fn behaviour(policy: &str) -> (f64, f64, bool) {
    match policy {
        "dualpi2" => (15.0, 0.25, false),
        "dualpi2-tuned" => (13.0, 0.25, false),
        "dualpi2-rules" => (9.0, 0.23, false),
        "model" => (6.5, 0.2, false),
        "codel" => (5.0, 0.25, true),
        "pi2" => (15.0, 0.25, true),
        _ => {
            let target = policy.trim_start_matches("dualpi2:target=").trim_end_matches("ms");
            (target.parse().expect("a static target"), 0.25, false)
        }
    }
}

fn record(cell: &CellInfo, index: usize, policy: &str, seed: u64) -> CellRecord {
    let (target, l_mean, one_queue) = behaviour(policy);
    let mut rng = fastrand::Rng::with_seed(index as u64 * 1000 + seed);
    let parts: Vec<&str> = cell.name.split(['-', 'm']).filter(|p| !p.is_empty()).collect();
    let number = |i: usize, otherwise: f64| {
        parts
            .get(i)
            .and_then(|p| p.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok())
            .unwrap_or(otherwise)
    };
    let rfc = cell.grid == "rfc9332";
    let (rate, rtt): (f64, f64) = if rfc { (number(1, 40.0), number(3, 20.0)) } else { (40.0, 20.0) };
    let noise = |rng: &mut fastrand::Rng, size: f64| 1.0 + size * (rng.f64() - 0.5);
    let c_mean = target * noise(&mut rng, 0.04);
    let l_mean = (l_mean + 6.0 / rate) * noise(&mut rng, 0.05);
    let lost = (rtt / 100.0 / target).powf(1.2) * 0.12;
    let utilization = (0.985 - lost) * noise(&mut rng, 0.004);
    let (has_l, has_c) = (cell.mix != "c_only", true);
    let percentiles = |mean: f64, spread: f64| -> Vec<f64> {
        (0..=100).map(|p| mean * (spread * (f64::from(p) / 50.0 - 1.0)).exp()).collect()
    };
    let (l, c) = (percentiles(l_mean, 1.6), percentiles(c_mean, 0.45));
    let queue = |there: bool, p: &[f64], mean: f64| QueueResult {
        delay_ms: if there {
            DelayResult {
                mean: Some(mean),
                p50: Some(p[50]),
                p99: Some(p[99]),
                p999: Some(p[100]),
                max: Some(p[100]),
            }
        } else {
            DelayResult::default()
        },
        counters: Counters { packets: u64::from(there) * 1000, ..Counters::default() },
    };
    let l_there = has_l && !one_queue;
    let flow = |name: &str, there: bool| {
        there.then(|| FlowResult {
            name: name.into(),
            cc: Some(name.into()),
            rtt_ms: Some(rtt),
            goodput_mbps: Some(rate / 2.0),
            ..FlowResult::default()
        })
    };
    let mice = cell.mice.then(|| FlowResult {
        name: "web".into(),
        fct: Some(FctResult { completed: 9, p95_ms: Some(100.0), ..FctResult::default() }),
        ..FlowResult::default()
    });
    let ratio = 1.5 * (25.0 / rtt).powf(if target < 8.0 { 0.5 } else { 0.15 }) * noise(&mut rng, 0.1);
    let run = RunResult {
        scenario: Some(cell.name.clone()),
        policy: policy.into(),
        seed: Some(seed),
        direction: "left_to_right".into(),
        duration_s: 60.0,
        warmup_s: 10.0,
        link: LinkResult { rate_mbps: Some(rate), utilization: Some(utilization) },
        queues: PerQueue {
            l: queue(l_there, &l, l_mean),
            c: queue(has_c, &c, c_mean),
            all: queue(true, &c, c_mean * 0.4),
        },
        flows: [flow("prague", has_l), flow("cubic", has_c), mice].into_iter().flatten().collect(),
        ratio_l_over_c: (has_l && has_c).then_some(ratio),
        ..RunResult::default()
    };
    let series = |there: bool, mean: f64| -> Vec<Option<f64>> {
        let mut rng = rng.clone();
        (0..60).map(|_| there.then(|| mean * (1.0 + 0.5 * (rng.f64() - 0.5)))).collect()
    };
    let known = |there: bool, p: Vec<f64>| if there { p } else { Vec::new() };
    CellRecord {
        cell: cell.clone(),
        policy: policy.into(),
        seed,
        delay_over_time_ms: PerQueue {
            l: series(l_there, l_mean),
            c: series(has_c, c_mean),
            all: series(true, c_mean * 0.4),
        },
        delay_percentiles_ms: PerQueue { l: known(l_there, l), c: known(has_c, c.clone()), all: c },
        utilization_over_time: vec![utilization; 60],
        run,
    }
}
