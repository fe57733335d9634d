//! `l4sd bench --gen`: the generator at both ends of a bridge that is `l4sd run`, over real interfaces. What was sent is
//! what was received and what the bridge says it dropped; marks, sizes and the mix agree on both sides.
//!
//! The tests of traffic run again inside the testbed's sandbox, as root or in a user namespace; where neither can be had
//! they are skipped and say so.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use l4sd_testbed::cpus::Placement;
use l4sd_testbed::forwarder::{Forwarder, RunSpec, Scheduling};
use l4sd_testbed::sandbox::{self, Rights};
use l4sd_testbed::tools::{self, Tools};
use serde_json::Value;

const L4SD: &str = env!("CARGO_BIN_EXE_l4sd");

/// Both far ends in one namespace, the bridge's ports here; nothing but the generator's frames on either link.
const WIRES: &str = "
ip netns add ends
for i in 0 1; do
    ip link add b$i type veth peer name g$i netns ends
    for at in '' '-n ends'; do
        [ -z \"$at\" ] && dev=b$i enter='' || { dev=g$i; enter='ip netns exec ends'; }
        ip $at link set $dev addrgenmode none
        $enter sh -c \"echo 1 >/proc/sys/net/ipv6/conf/$dev/disable_ipv6\" || true
        $enter ethtool -K $dev tx off rx off tso off gso off gro off txvlan off rxvlan off \\
            tx-vlan-stag-hw-insert off rx-vlan-stag-hw-parse off tx-udp-segmentation off
        ip $at link set $dev up
    done
done
ip link set lo up";

/// Runs `body` in a sandbox with the wires, with each kind of port that its rights allow; `test` names the caller.
fn on_the_wires(test: &str, body: impl Fn(&str)) {
    let tools = Tools::discover();
    if let Some(rights) = sandbox::inside() {
        sandbox::prepare(&tools).unwrap();
        let output = Command::new("sh").args(["-ec", WIRES]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        body("packet");
        match rights {
            Rights::Root => body("xdp"),
            Rights::User => sandbox::skipped(&format!("{test} over xdp:"), "AF_XDP needs root of the host"),
        }
        return;
    }
    let possible = tools
        .require(tools::NETWORK)
        .map_err(|e| e.to_string())
        .and_then(|()| sandbox::probe(&tools).map_err(|e| e.to_string()));
    if let Err(why) = possible {
        return sandbox::skipped(test, &why);
    }
    let status = sandbox::enter(&tools, &[test, "--exact", "--nocapture"]).unwrap();
    assert!(status.success(), "{test} failed inside the sandbox ({status}); its output is above");
}

fn bridge(port: &str, rate_mbit: u32, out: &tempfile::TempDir) -> Forwarder {
    let spec = RunSpec {
        l4sd: PathBuf::from(L4SD),
        port: port.to_owned(),
        rate_mbit,
        rtt_ms: 0,
        policy: "dualpi2".to_owned(),
        duration_s: 60,
        warmup_s: 0,
        out: out.path().to_path_buf(),
        scheduling: Scheduling::Ordinary,
        placement: Placement::default(),
        step: None,
    };
    Forwarder::start(&spec).unwrap()
}

/// `l4sd bench` between the ends, where `options` are words.
fn bench(port: &str, options: &str) -> Output {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", "ends", L4SD, "bench", "--json"]);
    command.args([format!("--gen={port}:g0"), format!("--sink={port}:g1")]);
    command.args(options.split_whitespace()).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn n(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

fn totals(out: &tempfile::TempDir) -> Value {
    let results: Value = serde_json::from_slice(&fs::read(out.path().join("results.json")).unwrap()).unwrap();
    let runs = results["runs"].as_array().unwrap();
    runs.iter().find(|r| r["direction"] == "left_to_right").unwrap()["totals"].clone()
}

/// What the generator saw against the bridge's own account; returns the bridge's drops.
fn books_balance(trial: &Value, totals: &Value) -> u64 {
    let all = &totals["all"];
    let dropped = n(all, "/dropped/aqm") + n(all, "/dropped/overload") + n(all, "/dropped/tail");
    assert_eq!(n(trial, "/sink_dropped") + n(trial, "/refused"), 0, "{trial}");
    assert_eq!(n(all, "/arrived"), n(trial, "/sent"), "{totals} {trial}");
    assert_eq!(n(trial, "/received") + dropped, n(trial, "/sent"), "{totals} {trial}");
    assert_eq!(n(all, "/marked"), n(trial, "/marked"), "{totals} {trial}");
    for harm in ["altered", "damaged", "foreign", "late"] {
        assert_eq!(n(trial, &format!("/{harm}")), 0, "{harm}: {trial}");
    }
    let queues: [u64; 2] = ["l", "c"].map(|queue| n(totals, &format!("/{queue}/arrived")));
    let sent = |names: &[&str]| -> u64 {
        let codepoints = trial["codepoints"].as_array().unwrap().iter();
        codepoints.filter(|c| names.iter().any(|name| c["codepoint"] == *name)).map(|c| n(c, "/sent")).sum()
    };
    assert_eq!(queues, [sent(&["ect1", "ce"]), sent(&["ect0", "not_ect"])], "L and C as RFC 9332 classifies");
    dropped
}

#[test]
fn an_idle_bridge_passes_every_frame_of_every_size_and_codepoint_as_it_was() {
    on_the_wires("an_idle_bridge_passes_every_frame_of_every_size_and_codepoint_as_it_was", |port| {
        let out = tempfile::tempdir().unwrap();
        let forwarder = bridge(port, 1000, &out);
        let csv = out.path().join("trials.csv");
        let options = format!(
            "--rate 3kpps --duration 700ms --ip 4=2,6 --flows 5 --ecn ect1=4,ect0=2,ce=1,not_ect=3 \
             --size 84=7,594=4,1518=1 --csv {}",
            csv.display()
        );
        let report = json(&bench(port, &options));
        forwarder.terminate();
        forwarder.finish().unwrap();
        let trial = &report["trials"][0];
        assert_eq!(books_balance(trial, &totals(&out)), 0);
        // A host that has other things to do makes the generator give up part of the load, and says so.
        assert!(n(trial, "/sent") <= 2110 && n(trial, "/sent") > 300, "{trial}");
        let sent = n(trial, "/sent");
        for (c, weight) in trial["codepoints"].as_array().unwrap().iter().zip([3, 4, 2, 1]) {
            // 360 frames are a cycle, of which a tenth is a unit of weight.
            let [least, most] = [sent / 360 * 36 * weight, sent.div_ceil(360) * 36 * weight];
            assert!((least..=most).contains(&n(c, "/sent")), "{least}..={most}: {c}");
            assert_eq!(c["received"], c["sent"], "{c}");
            assert_eq!(c["received_bytes"], c["sent_bytes"], "{c}");
            assert!(c["delay_us"]["p50"].as_f64().unwrap() > 0.0, "{c}");
        }
        let csv = fs::read_to_string(csv).unwrap();
        let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!((lines.len(), lines[0].len()), (2, lines[1].len()));
        let column = lines[0].iter().position(|name| *name == "received").unwrap();
        assert_eq!(lines[1][column], sent.to_string());
    });
}

/// 20 Mbit/s into 10: about half is dropped, ECT(1) is marked throughout, and both ends count the same.
#[test]
fn what_an_overloaded_bridge_drops_and_marks_is_what_is_missing_and_marked() {
    on_the_wires("what_an_overloaded_bridge_drops_and_marks_is_what_is_missing_and_marked", |port| {
        let out = tempfile::tempdir().unwrap();
        let forwarder = bridge(port, 10, &out);
        let report = json(&bench(port, "--rate 20Mbit --duration 1s --size 512 --ecn ect1,not_ect"));
        forwarder.terminate();
        forwarder.finish().unwrap();
        let trial = &report["trials"][0];
        let dropped = books_balance(trial, &totals(&out));
        assert!(dropped > n(trial, "/sent") / 10, "{dropped} dropped: {trial}");
        assert!(n(trial, "/marked") > n(trial, "/received") / 10, "{trial}");
        let of = |name: &str| {
            trial["codepoints"].as_array().unwrap().iter().find(|c| c["codepoint"] == name).unwrap()
        };
        assert_eq!(n(of("not_ect"), "/marked"), 0);
    });
}

/// A bridge of 4 Mbit/s and frames of 1250 bytes (1246 without FCS): 401 frames a second.
#[test]
fn the_search_finds_the_rate_of_the_bridge() {
    on_the_wires("the_search_finds_the_rate_of_the_bridge", |port| {
        if port == "xdp" {
            return;
        }
        let out = tempfile::tempdir().unwrap();
        let forwarder = bridge(port, 4, &out);
        // Half a percent of loss, so that a busy host does not decide.
        let options = "--ndr --duration 500ms --size 1250 --ecn not_ect --loss 0.5 --resolution 10";
        let report = json(&bench(port, options));
        forwarder.terminate();
        forwarder.finish().unwrap();
        let search = &report["searches"][0];
        let rate = search["ndr_pps"].as_f64().unwrap();
        // In half a second the queue takes some of the excess: a non-drop rate above the link's is no mistake.
        assert!((250.0..=900.0).contains(&rate), "{search}");
        assert_eq!(search["generator_limited"], false);
        assert!(search["steps"].as_array().unwrap().len() > 2);
    });
}

#[test]
fn a_device_that_forwards_nothing_is_69() {
    on_the_wires("a_device_that_forwards_nothing_is_69", |port| {
        let output = bench(port, "--rate 100pps --duration 100ms");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{said}");
        assert!(said.contains(&format!("arrived at {port}:g1")), "{said}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(n(&report, "/trials/0/lost"), n(&report, "/trials/0/sent"), "{report}");
    });
}

fn refused(options: &str, code: i32, what: &str) {
    let output = Command::new(L4SD).arg("bench").args(options.split_whitespace()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{options}: {said}");
    assert!(said.contains(what), "{options}: {what:?} is not named in: {said}");
}

#[test]
fn mistakes_are_named() {
    refused("--gen packet:a", 64, "--sink");
    refused("--sink packet:a", 64, "--gen");
    refused("--gen packet:a --sink xdp:b", 64, "different kinds");
    refused("--gen mem: --sink mem: --size 60", 64, "64 to 1518");
    refused("--gen mem: --sink mem: --ip 6", 64, "84 or more");
    refused("--gen mem: --sink mem: --ecn ect2", 64, "ect2");
    refused("--gen mem: --sink mem: --rate fast", 64, "20kpps");
    refused("--gen mem: --sink mem: --ndr --rate 1kpps", 64, "--rate");
    refused("--gen mem: --sink mem: --sweep --size 64", 64, "--size");
    refused("--gen mem: --sink mem: --ndr --loss 101", 64, "0 to 100");
    refused("--gen mem: --sink mem: --duration 0s", 64, "--duration");
    refused("--ndr", 64, "--gen");
    refused("--size 64", 64, "--gen");
    refused("--gen packet:nosuch0 --sink packet:nosuch1", 69, "nosuch0");
    refused("--gen netmap:a --sink vale0:b", 69, "netmap");
    refused("--gen netmap:a --sink packet:b", 64, "two netmap:");
    refused("--pcap /nonexistent/x.pcap", 69, "/nonexistent/x.pcap");
}

#[test]
fn the_loop_in_memory_loses_nothing_and_a_capture_needs_no_port() {
    let dir = tempfile::tempdir().unwrap();
    let pcap = dir.path().join("mix.pcap");
    let mut command = Command::new(L4SD);
    command.args("bench --json --sweep --gen mem: --sink mem: --rate 2kpps --duration 50ms".split(' '));
    let report = json(&command.output().unwrap());
    let trials = report["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 7);
    for (trial, size) in trials.iter().zip([64.0, 128.0, 256.0, 512.0, 1024.0, 1280.0, 1518.0]) {
        assert_eq!((trial["frame_bytes"].as_f64(), n(trial, "/lost")), (Some(size), 0), "{trial}");
        assert!(n(trial, "/sent") <= 110, "{trial}");
    }
    let mut command = Command::new(L4SD);
    command.args("bench --size 64 --ecn ect1=3,ect0=1 --pcap".split(' ')).arg(&pcap);
    assert!(command.output().unwrap().status.success());
    // A file header of 24 bytes, and a record header of 16 and 60 bytes for each of 4 frames.
    assert_eq!(fs::metadata(&pcap).unwrap().len(), 24 + 4 * 76);
}
