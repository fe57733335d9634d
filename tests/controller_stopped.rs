//! `l4sd run` on real interfaces and real traffic, with its controller stopped from outside: the threads of the policy
//! alone, as a debugger does it, and the whole process by SIGSTOP. It goes on, and no packet that it had is missing.
//!
//! Each test runs again inside the testbed's sandbox, as root or in a user namespace; where neither can be had, or a tool
//! is missing, it is skipped and says so.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use l4sd_testbed::cpus::Placement;
use l4sd_testbed::forwarder::{Forwarder, RunSpec, Scheduling};
use l4sd_testbed::process::Process;
use l4sd_testbed::sandbox;
use l4sd_testbed::tools::{self, IPERF3, Tool, Tools};
use l4sd_testbed::topology::{Place, RECEIVER_V4, Topology};
use serde_json::Value;

const PYTHON: Tool = Tool { name: "python3", hint: "package python3" };

/// Stops the threads that are named and lets them go when it ends: SIGSTOP would stop the whole process.
const HOLD: &str = "
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
for tid in map(int, sys.argv[1:]):
    for request in SEIZE, INTERRUPT:
        if libc.ptrace(request, tid, None, None):
            sys.exit(f'ptrace of {tid}: {os.strerror(ctypes.get_errno())}')
    os.waitpid(tid, WALL)
print('held', flush=True)
signal.pause()
";

/// Runs `body` in a sandbox of its own, if `tools` are there; `test` is the name of the calling test.
fn in_sandbox(test: &str, needed: &[Tool], body: impl FnOnce(&Topology)) {
    let tools = Tools::discover();
    if sandbox::inside().is_some() {
        sandbox::prepare(&tools).unwrap();
        return body(&Topology::build(&tools).unwrap());
    }
    let possible = tools
        .require(tools::NETWORK)
        .and_then(|()| tools.require(needed))
        .map_err(|e| e.to_string())
        .and_then(|()| sandbox::probe(&tools).map_err(|e| e.to_string()));
    if let Err(why) = possible {
        return sandbox::skipped(test, &why);
    }
    let status = sandbox::enter(&tools, &[test, "--exact", "--nocapture"]).unwrap();
    assert!(status.success(), "{test} failed inside the sandbox ({status}); its output is above");
}

/// A bridge that follows a policy, through the thread and the guard that a model has.
fn started(out: &tempfile::TempDir) -> Forwarder {
    let decisions = out.path().join("decisions.csv");
    fs::write(&decisions, "at_s,target_ms,gain,ramp_min_ms,feed_forward\n0,5,1,0.8,1\n").unwrap();
    let forwarder = Forwarder::start(&RunSpec {
        l4sd: PathBuf::from(env!("CARGO_BIN_EXE_l4sd")),
        port: "packet".to_owned(),
        rate_mbit: 100,
        rtt_ms: 2,
        policy: format!("replay:{}", decisions.display()),
        duration_s: 60,
        warmup_s: 0,
        out: out.path().to_path_buf(),
        scheduling: Scheduling::Ordinary,
        placement: Placement::default(),
        step: None,
    })
    .unwrap();
    until(&forwarder, "it is followed", |f| state(f, "model") == 1.0);
    forwarder
}

fn sum(forwarder: &Forwarder, name: &str, labels: &[(&str, &str)]) -> f64 {
    forwarder.metrics().unwrap().sum(name, labels).unwrap()
}

fn state(forwarder: &Forwarder, of: &str) -> f64 {
    sum(forwarder, "l4sd_controller_state", &[("state", of)])
}

fn timeouts(forwarder: &Forwarder) -> f64 {
    sum(forwarder, "l4sd_controller_fallbacks_total", &[("reason", "timeout")])
}

fn until(forwarder: &Forwarder, what: &str, mut there: impl FnMut(&Forwarder) -> bool) {
    for _ in 0..1_000 {
        if there(forwarder) {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("not within some seconds: {what}");
}

/// 4 Mbit/s of UDP in ECT(1) packets, which are marked and not dropped, for 3 s.
struct Stream {
    server: Process,
    client: Process,
}

impl Stream {
    fn start(topology: &Topology) -> Self {
        let mut server = topology.command(Place::Receiver, IPERF3);
        let mut server = Process::spawn("iperf3 server", server.args(["-s", "-1", "--forceflush"])).unwrap();
        server
            .wait_until(Duration::from_secs(5), |l| l.iter().any(|l| l.text.contains("listening")))
            .unwrap();
        let mut client = topology.command(Place::Sender, IPERF3);
        client.args([
            "-c",
            RECEIVER_V4,
            "-u",
            "-b",
            "4M",
            "-l",
            "1000",
            "-t",
            "3",
            "-S",
            "1",
            "--forceflush",
        ]);
        let client = Process::spawn("iperf3 client", &mut client).unwrap();
        thread::sleep(Duration::from_millis(700));
        Self { server, client }
    }

    /// Packets that did not reach the receiver, and all of them, by the receiver's account.
    fn end(mut self) -> (u64, u64) {
        self.client.wait(Duration::from_secs(20)).expect("it ends");
        let said: Vec<String> = self.client.lines().into_iter().map(|l| l.text).collect();
        self.server.wait(Duration::from_secs(5));
        let summary =
            said.iter().find(|l| l.trim_end().ends_with("receiver")).unwrap_or_else(|| panic!("{said:?}"));
        let (lost, all) =
            summary.split_whitespace().rev().nth(2).and_then(|share| share.split_once('/')).unwrap();
        (lost.parse().unwrap(), all.parse().unwrap())
    }
}

/// The account of both directions closes; returns what the queues dropped on the way to the receiver, and the decisions that
/// came too late.
fn dropped_and_late(out: &tempfile::TempDir) -> (u64, u64) {
    let results: Value = serde_json::from_slice(&fs::read(out.path().join("results.json")).unwrap()).unwrap();
    let mut found = None;
    for run in results["runs"].as_array().unwrap() {
        let n = |pointer: &str| run.pointer(pointer).and_then(Value::as_u64).unwrap();
        let t = |what: &str| n(&format!("/totals/all/{what}"));
        let dropped = t("dropped/aqm") + t("dropped/overload") + t("dropped/tail");
        assert_eq!(t("arrived"), t("packets") + dropped + t("queued_end"), "{run}");
        if run["direction"] == "left_to_right" {
            found = Some((dropped, n("/controller/late")));
            assert!(run.pointer("/controller/admission_us/p50").unwrap().as_f64().unwrap() > 0.0, "{run}");
        }
    }
    found.unwrap()
}

/// Packets that never reached the queues, or were refused behind them.
fn lost_at_ports(forwarder: &Forwarder) -> u64 {
    let lost = sum(forwarder, "l4sd_port_lost_frames_total", &[]);
    (lost + sum(forwarder, "l4sd_port_send_errors_total", &[])) as u64
}

/// The numbers of the threads of the policies of the `l4sd` that reports to `out`, in its own PID namespace: /proc may be
/// the host's, with other numbers, and show other sandboxes.
fn policy_threads(out: &tempfile::TempDir) -> Vec<String> {
    let mut threads = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        if !arguments.split(|byte| *byte == 0).any(|word| word == out.path().as_os_str().as_bytes()) {
            continue;
        }
        for task in fs::read_dir(process.path().join("task")).into_iter().flatten().flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            if status.starts_with("Name:\tl4sd-control\n") {
                let line = status.lines().find_map(|l| l.strip_prefix("NSpid:")).unwrap();
                threads.extend(line.split_whitespace().last().map(str::to_owned));
            }
        }
    }
    threads
}

#[test]
fn stopped_policy_threads_are_fallen_back_from_and_followed_again() {
    const NAME: &str = "stopped_policy_threads_are_fallen_back_from_and_followed_again";
    in_sandbox(NAME, &[IPERF3, PYTHON], |topology| {
        let out = tempfile::tempdir().unwrap();
        let forwarder = started(&out);
        let threads = policy_threads(&out);
        assert_eq!(threads.len(), 2, "one for each direction: {threads:?}");
        let stream = Stream::start(topology);
        let before = timeouts(&forwarder);

        let mut hold = Command::new("python3");
        let mut hold = Process::spawn("python3", hold.args(["-c", HOLD]).args(&threads)).unwrap();
        let stopped = hold.wait_until(Duration::from_secs(5), |l| l.iter().any(|l| l.text == "held"));
        if let Err(why) = stopped {
            return sandbox::skipped(NAME, &format!("no thread can be stopped here: {why}"));
        }
        until(&forwarder, "fallback", |f| state(f, "stale") == 1.0 && timeouts(f) >= before + 2.0);
        thread::sleep(Duration::from_millis(500));
        assert_eq!((state(&forwarder, "stale"), timeouts(&forwarder)), (1.0, before + 2.0), "still stopped");
        assert_eq!(sum(&forwarder, "l4sd_controller_decision_age_seconds", &[]), 0.0);
        hold.kill();
        until(&forwarder, "it is followed again", |f| state(f, "model") == 1.0);

        let (lost, all) = stream.end();
        let at_ports = lost_at_ports(&forwarder);
        forwarder.terminate();
        forwarder.finish().unwrap();
        let (dropped, late) = dropped_and_late(&out);
        assert!(all > 1_000, "{all}");
        assert_eq!((lost, at_ports, dropped), (0, 0, 0), "of {all}");
        assert!(late > 0, "what it says of the windows that waited is too late");
    });
}

#[test]
fn a_stopped_process_goes_on_and_has_lost_nothing_that_it_had() {
    const NAME: &str = "a_stopped_process_goes_on_and_has_lost_nothing_that_it_had";
    in_sandbox(NAME, &[IPERF3], |topology| {
        let out = tempfile::tempdir().unwrap();
        let forwarder = started(&out);
        let stream = Stream::start(topology);
        let before = timeouts(&forwarder);
        forwarder.signal("STOP");
        thread::sleep(Duration::from_millis(500));
        forwarder.signal("CONT");
        until(&forwarder, "a fallback each way", |f| timeouts(f) >= before + 2.0);
        until(&forwarder, "it is followed again", |f| state(f, "model") == 1.0);
        let sent = |f: &Forwarder| sum(f, "l4sd_packets_total", &[("stage", "forwarded")]);
        let then = sent(&forwarder);
        until(&forwarder, "it forwards on", |f| sent(f) > then + 100.0);

        let (lost, all) = stream.end();
        let at_ports = lost_at_ports(&forwarder);
        forwarder.terminate();
        forwarder.finish().unwrap();
        let (dropped, _) = dropped_and_late(&out);
        eprintln!("{lost} of {all} lost, {at_ports} at the ports, {dropped} in the queues");
        assert!(all > 1_000, "{all}");
        assert_eq!(lost, at_ports + dropped, "of {all}");
    });
}
