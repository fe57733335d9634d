//! A controller that is lost at real pace: its thread hangs or panics while frames flow, and the forwarder falls back in
//! time and loses nothing; and the bench of one that is not. Threads, rings and clock are those of `l4sd run`, the ports are memory.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as a test does")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use l4sd::aqm::params::Knobs;
use l4sd::config::{Config, Settings};
use l4sd::control::Decision;
use l4sd::control::guard::{Guard, State};
use l4sd::control::link::{ControlLink, LinkCounters, ThreadLink};
use l4sd::control::policy::lookahead::threaded::Threaded;
use l4sd::control::policy::lookahead::{Arm, Chooser, LookAhead, Said, Setup};
use l4sd::control::policy::{Abstention, Policy};
use l4sd::control::worker::Stage;
use l4sd::egress::Egress;
use l4sd::port::mem::{MemConfig, MemPort};
use l4sd::port::{PortPair, Side};
use l4sd::runtime::bridge::{self, FramePlan};
use l4sd::runtime::clock::{Clock, Monotonic};
use l4sd::runtime::forwarder::Forwarder;
use l4sd::runtime::lane::{Lane, Report};
use l4sd::telemetry::features::schema::Schema;
use l4sd::telemetry::{Direction, TelemetryWindow};
use l4sd::time::{Instant, Span};
use l4sd::wire::Ecn;
use l4sd::wire::build::{IpVersion, UdpFrame};

/// Windows that are answered: .4 s.
const ANSWERED: u64 = 25;
/// Frames on each side, every half millisecond.
const FRAMES: u32 = 2_000;
const EXPIRES: Span = Span::from_millis(32);

/// What becomes of the policy.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum End {
    Hangs,
    Panics,
}

type Gate = Arc<(Mutex<bool>, Condvar)>;

/// Wants 5 ms for a while, then never answers again.
struct Fails {
    end: End,
    answered: u64,
    /// End of the last window that it answered.
    last: Arc<AtomicU64>,
    gate: Gate,
}

impl Policy for Fails {
    fn decide(&mut self, window: &TelemetryWindow, in_force: &Knobs) -> Result<Knobs, Abstention> {
        if self.answered < ANSWERED {
            self.answered += 1;
            self.last.store(window.end.as_nanos(), Ordering::SeqCst);
            return Ok(Knobs { target: Span::from_millis(5), feed_forward: 1.0, ..*in_force });
        }
        assert!(self.end == End::Hangs, "this policy panics, as its test wants it to");
        let (open, bell) = &*self.gate;
        drop(bell.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
        Err(Abstention::Silent)
    }
}

/// A link that lets its policy go before it waits for its end.
struct LetsGo(Gate, ThreadLink);

impl ControlLink for LetsGo {
    fn offer(&mut self, window: &TelemetryWindow, in_force: &Knobs) {
        self.1.offer(window, in_force);
    }

    fn newest(&mut self) -> Option<Decision> {
        self.1.newest()
    }
}

impl Drop for LetsGo {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

struct Outcome {
    reports: [Vec<Report>; 2],
    /// End of the last window that was answered.
    last: Instant,
    /// Frames that came out on each side.
    sent: [usize; 2],
    spare: (usize, usize),
    counters: Arc<LinkCounters>,
}

fn config(policy: &str) -> Config {
    let text = format!(
        "[left]\nport = \"mem:\"\n[right]\nport = \"mem:\"\n[link]\nrate = \"100Mbit\"\n[aqm]\npolicy = \"{policy}\"\n"
    );
    Settings::from_toml(&text, "test").unwrap().validate().unwrap()
}

/// A policy that fails.
fn run(end: End) -> Outcome {
    let (last, gate) = (Arc::new(AtomicU64::new(0)), Gate::default());
    let policy = Fails { end, answered: 0, last: Arc::clone(&last), gate: Arc::clone(&gate) };
    let outcome = forwarded(&config("model"), Monotonic::start(), policy, gate);
    Outcome { last: Instant::from_nanos(last.load(Ordering::SeqCst)), ..outcome }
}

/// 1.3 s of the bridge, 20 Mbit/s each way for the first second.
fn forwarded(config: &Config, clock: Monotonic, policy: impl Policy + 'static, gate: Gate) -> Outcome {
    let plan = FramePlan::new(config);
    let make = move || Some(Box::new(policy) as Box<dyn Policy>);
    let link = ThreadLink::spawn(make, config.window(), move || clock.now()).unwrap();
    let counters = link.counters();
    while counters.stage() == Stage::Loading {
        thread::yield_now();
    }
    let start = clock.now();
    let mut link = Some(LetsGo(gate, link));
    let mut readers = Vec::new();
    let lanes = Direction::BOTH.map(|d| {
        let (lane, reader) = Lane::new(d, Egress::new(&bridge::egress(config, d, plan, 1), start), true);
        readers.push(reader);
        match link.take() {
            Some(link) => {
                lane.with_control(Box::new(link), Guard::new(bridge::guard(config), Knobs::default(), start))
            }
            None => lane,
        }
    });
    let (port, outside) = MemPort::new(MemConfig { buffers: plan.total() + 2048, ring: FRAMES as usize });
    let options = bridge::loop_options(config, Span::ZERO, Some(Span::from_millis(1_300)), false);
    let mut forwarder = Forwarder::new(port, clock, lanes, options, start);
    let cables = outside.clone();
    thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..FRAMES {
                let ecn = [Ecn::Ect1, Ecn::NotEct][n as usize % 2];
                let frame = UdpFrame { version: IpVersion::V4, ecn, len: 1250, flow: 1 }.bytes();
                for side in Side::BOTH {
                    assert!(cables.inject(side, &frame), "the cable holds them all");
                }
                thread::sleep(Duration::from_micros(500).saturating_sub(
                    clock.now().since(start + Span::from_micros(500 * u64::from(n))).to_std(),
                ));
            }
        });
        forwarder.run(&AtomicBool::new(false)).unwrap();
    });
    let mut all = readers.iter_mut().map(|r| std::iter::from_fn(|| r.reports.pop().ok()).collect());
    let reports = [all.next().unwrap(), all.next().unwrap()];
    let census = forwarder.port().census();
    Outcome {
        reports,
        last: Instant::ZERO,
        sent: Side::BOTH.map(|side| outside.collect(side).len()),
        spare: (census.spare, census.total),
        counters,
    }
}

/// Every window that ends more than 32 ms after the last one that was answered is in fallback, so that it begins no later
/// than one interval after the expiry. Not one frame of either direction is missing.
fn assert_fallback_and_account(outcome: &Outcome) {
    let reports = &outcome.reports[0];
    let state = |r: &Report| r.control.unwrap().0;
    let (lived, after): (Vec<&Report>, Vec<&Report>) =
        reports.iter().partition(|r| r.window.end <= outcome.last);
    assert!(lived.iter().any(|r| state(r) == State::Model), "it was followed");
    for r in &after {
        let age = r.window.end.since(outcome.last);
        let followed = state(r) == State::Model;
        assert!(!followed || age <= EXPIRES, "{age:?} after the last window that it answered");
    }
    let fell = after.iter().find(|r| state(r) == State::Fallback).unwrap();
    let longest = after.iter().map(|r| r.window.span).max().unwrap();
    let took = fell.window.end.since(outcome.last);
    eprintln!("fallback {took:?} after the window of the last answer; longest window {longest:?}");
    assert!(took <= EXPIRES + longest, "{took:?}, longest window {longest:?}");
    let counters = reports.last().unwrap().control.unwrap().1;
    assert!(counters.fallbacks >= 1 && counters.rejected == 0, "{counters:?}");
    assert_account(outcome);
}

fn assert_account(outcome: &Outcome) {
    for direction in Direction::BOTH {
        let report = outcome.reports[direction.index()].last().unwrap();
        assert!(report.last);
        let (mut arrived, mut accounted) = (0, 0);
        for queue in 0..2 {
            let q = &report.window.egress.queues[queue];
            let dropped: u64 = q.dropped.iter().flatten().map(|t| t.packets).sum();
            assert_eq!(dropped, 0, "{direction}: a fifth of the rate");
            arrived += q.arrived.packets;
            accounted +=
                q.forwarded.packets + dropped + u64::from(report.window.egress.backlog[queue].packets);
        }
        assert_eq!((arrived, accounted), (u64::from(FRAMES), u64::from(FRAMES)), "{direction}");
    }
    assert_eq!(outcome.sent, [FRAMES as usize; 2]);
    assert_eq!(outcome.spare.0, outcome.spare.1, "every buffer is back");
}

#[test]
fn a_policy_that_hangs_is_fallen_back_from_in_time_and_no_frame_is_lost() {
    let outcome = run(End::Hangs);
    assert_fallback_and_account(&outcome);
    assert_eq!(outcome.counters.stage(), Stage::Deciding, "nobody can tell a long thought from none");
    assert_eq!(outcome.counters.decisions.load(Ordering::Relaxed), ANSWERED);
    // 1.3 s are 81 windows; one is in its hands, 16 wait.
    assert!(outcome.counters.missed_windows.load(Ordering::Relaxed) > 0);
}

/// As tests are built, a panic unwinds: the thread ends, that is seen, and its end does not hurt who waits for it.
#[test]
fn a_policy_that_panics_is_fallen_back_from_in_time_and_seen_to_have_failed() {
    let outcome = run(End::Panics);
    assert_eq!(outcome.counters.stage(), Stage::Failed);
    assert_fallback_and_account(&outcome);
    assert_eq!(outcome.counters.decisions.load(Ordering::Relaxed), ANSWERED);
}

/// Wants 5 ms at once, or as a verifier that answers so many questions.
struct Wants(Option<(u64, Gate)>);

impl Chooser for Wants {
    fn choose(&mut self, _features: &[f32], _last: &Knobs) -> Said {
        match &mut self.0 {
            Some((0, gate)) => drop(gate.1.wait_while(gate.0.lock().unwrap(), |open| !*open).unwrap()),
            Some((left, _)) => *left -= 1,
            None => {}
        }
        Ok(Knobs { target: Span::from_millis(5), ..Knobs::default() })
    }
}

/// Windows of 4 ms, two thirds of a second of verdicts, then none: the drafter is followed to the end. Bins are so wide that only
/// parameters in force make plans void, and those stand still after a quarter of a second.
#[test]
fn a_verifier_that_hangs_costs_no_decision_and_no_frame() {
    let config = config("lookahead:tick=4ms");
    let (gate, clock) = (Gate::default(), Monotonic::start());
    let verifier = Wants(Some((160, Arc::clone(&gate))));
    let verifier = Threaded::spawn(|| Some((Wants(None), verifier)), 0.0, move || clock.now()).unwrap();
    let worker = verifier.worker();
    let guard = bridge::guard(&config);
    let tick = config.window();
    let setup = Setup { arm: Arm::Speculative, tick, bin: 100.0, compared: None, guard, else_drafter: true };
    let policy = LookAhead::new(Wants(None), verifier, setup, &Schema::embedded());
    let outcome = forwarded(&config, clock, policy, gate);
    assert_account(&outcome);
    let reports = &outcome.reports[0];
    let counts = outcome.counters.look_ahead().unwrap();
    eprintln!("{} windows, {counts:?}, {} calls over", reports.len(), worker.took().len());
    // 325 windows of 4 ms, some of which end together with the next on a busy host.
    assert!(reports.len() > 200 && reports.iter().all(|r| r.window.span < Span::from_millis(300)));
    assert!(counts.verified > 0 && counts.verified < counts.ticks * 3 / 4, "{counts:?}");
    assert_eq!(worker.stage(), Stage::Deciding, "nobody can tell a long thought from none");
    let followed = reports.iter().filter(|r| r.control.unwrap().0 == State::Model).count();
    assert!(followed * 10 > reports.len() * 9, "{followed} of {}", reports.len());
}

/// `l4sd bench controller` with a policy that needs no library: every window of both directions but the last has its
/// decision admitted, and the times are there in the order that percentiles have.
#[test]
fn the_bench_of_a_controller_counts_what_was_admitted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("decisions.csv");
    std::fs::write(&file, "at_s,target_ms,gain,ramp_min_ms,feed_forward\n0,5,1,0.8,1\n").unwrap();
    let policy = format!("replay:{}", file.display());
    let words = ["bench", "controller", "--duration", "500ms", "--no-load", "--json", "--policy", &policy];
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_l4sd")).args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let classes: Vec<_> = rows.iter().map(|r| r["sched"].as_str().unwrap()).collect();
    assert_eq!(classes, ["fifo:50", "other"]);
    for row in rows {
        let n = |key: &str| row[key].as_u64().unwrap();
        assert!(n("windows") >= 40 && n("frames") > 0, "{row}");
        assert!(n("admitted") >= n("windows") - 6 && n("rejected") == 0, "{row}");
        for times in ["inference_us", "admission_us"] {
            let us = ["p50", "p99", "p999", "max"].map(|p| row[times][p].as_f64().unwrap());
            assert!(us[0] > 0.0 && us.is_sorted(), "{row}");
        }
        assert!(row["admission_us"]["p50"].as_f64() >= row["inference_us"]["p50"].as_f64(), "{row}");
    }
    let refused = std::process::Command::new(env!("CARGO_BIN_EXE_l4sd"))
        .args(["bench", "controller", "--policy", "dualpi2"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
}

/// The built-in model on both sides, on a link without a frame: whatever is checked is agreed to. In the account of a run,
/// and in the bench's.
#[test]
fn looking_ahead_is_counted_in_reports() {
    if let Err(e) = l4sd_onnxruntime::backend(&l4sd_onnxruntime::candidates(None)) {
        return eprintln!("SKIPPED: looking_ahead_is_counted_in_reports: {e}");
    }
    let l4sd = |words: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_l4sd"))
            .args(words.split(' '))
            .env_remove("RUST_LOG")
            .current_dir(tempfile::tempdir().unwrap().path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let report =
        l4sd("bench controller --duration 2s --no-load --quiet --json --policy lookahead:tick=8ms:bin=100");
    for row in report["rows"].as_array().unwrap() {
        let n = |key: &str| row["look_ahead"][key].as_u64().unwrap();
        assert!(row["windows"].as_u64().unwrap() >= 2 * 200, "8 ms each way: {row}");
        assert!(n("calls") > 0 && n("accepted") > 0 && n("accepted") == n("checked"), "{row}");
        assert!(n("verified") > 0 && n("verified") < n("ticks"), "{row}");
        assert!(row["look_ahead"]["call_us"]["p50"].as_f64().unwrap() > 0.0, "{row}");
    }
    let run = "run --left mem: --right mem: --rate 40Mbit --duration 2s --json --policy lookahead:arm=held";
    for result in l4sd(run)["runs"].as_array().unwrap() {
        let ahead = &result["controller"]["look_ahead"];
        assert_eq!((ahead["verified_share"].as_f64(), ahead["voided_plans"].as_u64()), (Some(0.0), Some(0)));
        assert!(ahead["target_calls_per_s"].as_f64().unwrap() > 1.0, "{ahead}");
        assert!(ahead["diverged_share"].is_null(), "{ahead}");
    }
}
