//! The binary as an operator runs it, on real interfaces and real traffic: it forwards both ways, its books balance,
//! its exit codes tell what is wrong, and it leaves nothing behind.
//!
//! Each test runs again inside the testbed's sandbox, as root or in a user namespace; where neither can be had it is
//! skipped and says so.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use l4sd_testbed::cpus::Placement;
use l4sd_testbed::flows::{Flow, Kind};
use l4sd_testbed::forwarder::{Forwarder, METRICS, RunSpec, Scheduling};
use l4sd_testbed::process::Process;
use l4sd_testbed::sandbox::{self, Rights};
use l4sd_testbed::scrape;
use l4sd_testbed::series::{Bin, Series};
use l4sd_testbed::tools::{self, IP, IPERF3, SETPRIV, Tool, Tools};
use l4sd_testbed::topology::{LEFT, Place, RECEIVER_V4, RECEIVER_V6, RIGHT, Topology};
use serde_json::Value;

const L4SD: &str = env!("CARGO_BIN_EXE_l4sd");
const PING: Tool = Tool { name: "ping", hint: "package iputils-ping" };
const DIRECTIONS: [&str; 2] = ["left_to_right", "right_to_left"];

/// Runs `body` in a sandbox of its own; `test` is the name of the calling test.
fn in_sandbox(test: &str, body: impl FnOnce(&Topology)) {
    let tools = Tools::discover();
    if sandbox::inside().is_some() {
        sandbox::prepare(&tools).unwrap();
        return body(&Topology::build(&tools).unwrap());
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

fn spec(out: &tempfile::TempDir) -> RunSpec {
    RunSpec {
        l4sd: PathBuf::from(L4SD),
        port: "packet".to_owned(),
        rate_mbit: 100,
        rtt_ms: 2,
        policy: "dualpi2".to_owned(),
        duration_s: 60,
        warmup_s: 0,
        out: out.path().to_path_buf(),
        scheduling: Scheduling::Ordinary,
        placement: Placement::default(),
        step: None,
    }
}

fn l4sd(arguments: &[&str]) -> Output {
    Command::new(L4SD).args(arguments).output().unwrap()
}

/// Exit code, and a message that names `what` and is no panic.
fn refused(output: &Output, code: i32, what: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "stderr: {said}");
    assert!(said.contains(what), "{what:?} is not named in: {said}");
    assert!(!said.contains("panicked"), "{said}");
}

fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {out}{err}");
    out.into_owned()
}

fn links(topology: &Topology) -> String {
    [LEFT, RIGHT]
        .map(|dev| output_of(topology.command(Place::Bridge, IP).args(["-d", "link", "show", dev])))
        .concat()
}

/// What arrived was forwarded, dropped or waited at the end. Returns how many arrived.
fn assert_account(run: &Value, queue: &str) -> u64 {
    let t = &run["totals"][queue];
    let n = |pointer: &str| t.pointer(pointer).and_then(Value::as_u64).unwrap();
    let dropped = n("/dropped/aqm") + n("/dropped/overload") + n("/dropped/tail");
    let direction = &run["direction"];
    assert_eq!(n("/arrived"), n("/packets") + dropped + n("/queued_end"), "{direction} {queue}: {t}");
    n("/arrived")
}

#[test]
fn real_traffic_goes_both_ways_and_the_books_balance() {
    in_sandbox("real_traffic_goes_both_ways_and_the_books_balance", |topology| {
        let out = tempfile::tempdir().unwrap();
        let before = links(topology);
        // A kernel that routes must neither answer nor forward a second time what the bridge already has.
        if let Err(e) = fs::write("/proc/sys/net/ipv4/ip_forward", "1") {
            eprintln!("note: ip_forward cannot be set here: {e}");
        }
        let forwarder = Forwarder::start(&spec(&out)).unwrap();
        assert!(links(topology).contains("promiscuity 1"), "the ports must see every frame");

        let mut frames = 0;
        if topology.tools().find(PING).is_some() {
            for address in [RECEIVER_V4, RECEIVER_V6] {
                let arguments = ["-c", "10", "-i", "0.05", "-W", "2", address];
                let said = output_of(topology.command(Place::Sender, PING).args(arguments));
                assert!(said.contains(" 10 received, 0% packet loss"), "{said}");
                assert!(!said.contains("duplicates"), "{said}");
                frames += 10;
            }
        }
        if topology.tools().find(IPERF3).is_some() {
            for direction in [&["-i", "0"][..], &["-i", "0", "-R"]] {
                frames += iperf3(topology, direction);
            }
        }
        if frames == 0 {
            sandbox::skipped("the traffic itself", "neither ping nor iperf3 is there");
        }
        let metrics = forwarder.metrics_text().unwrap();
        assert!(metrics.contains("l4sd_packets_total{"), "{metrics}");
        forwarder.terminate();
        forwarder.finish().unwrap();

        let results: Value =
            serde_json::from_slice(&fs::read(out.path().join("results.json")).unwrap()).unwrap();
        assert_eq!(results["schema"], 1);
        for direction in DIRECTIONS {
            let run =
                results["runs"].as_array().unwrap().iter().find(|r| r["direction"] == direction).unwrap();
            for queue in ["l", "c", "all"] {
                let arrived = assert_account(run, queue);
                assert!(queue != "all" || arrived >= frames, "{direction}: {frames} sent, {arrived} arrived");
            }
        }
        assert_eq!(links(topology), before, "promiscuous mode or a filter was left on a port");
    });
}

/// One megabyte over TCP; returns how many frames that is at least, in either direction.
fn iperf3(topology: &Topology, options: &[&str]) -> u64 {
    let mut server = topology.command(Place::Receiver, IPERF3);
    let mut server = Process::spawn("iperf3 server", server.args(["-s", "-1", "--forceflush"])).unwrap();
    server.wait_until(Duration::from_secs(5), |l| l.iter().any(|l| l.text.contains("listening"))).unwrap();
    let mut client = topology.command(Place::Sender, IPERF3);
    output_of(client.args(["-c", RECEIVER_V4, "-n", "1M"]).args(options));
    // 725 segments of 1448 bytes one way, at least an acknowledgement for every ten of them the other way.
    70
}

/// Reloads that `l4sd` counts under `result`.
fn reloads(forwarder: &Forwarder, result: &str) -> f64 {
    forwarder.metrics().unwrap().sum("l4sd_config_reloads_total", &[("result", result)]).unwrap()
}

fn wait_for_reload(forwarder: &Forwarder, result: &str, number: f64) {
    for _ in 0..500 {
        if reloads(forwarder, result) >= number {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("reload {number} is not {result} within some seconds");
}

fn left_to_right(out: &tempfile::TempDir) -> Value {
    let results: Value = serde_json::from_slice(&fs::read(out.path().join("results.json")).unwrap()).unwrap();
    let runs = results["runs"].as_array().unwrap();
    runs.iter().find(|r| r["direction"] == "left_to_right").unwrap().clone()
}

/// 30 Mbit/s of UDP through 20 and then 10 Mbit/s: what comes out halves, at the time of the SIGHUP and not before; a
/// reload that is refused halves nothing; and the account closes over all of it.
#[test]
fn sighup_halves_the_rate_and_a_refused_one_changes_nothing() {
    in_sandbox("sighup_halves_the_rate_and_a_refused_one_changes_nothing", |topology| {
        if topology.tools().find(IPERF3).is_none() {
            return sandbox::skipped("the reload under load", "no iperf3");
        }
        let out = tempfile::tempdir().unwrap();
        let run = RunSpec { rate_mbit: 20, ..spec(&out) };
        let forwarder = Forwarder::start(&run).unwrap();
        let flow = Flow::start(topology, Kind::CbrEct1(30)).unwrap();
        thread::sleep(Duration::from_millis(1_500));
        forwarder.set_rate(10).unwrap();
        wait_for_reload(&forwarder, "applied", 1.0);
        thread::sleep(Duration::from_millis(700));
        let refused = run.config(40) + "\n[aqm]\nnqb = true\n";
        fs::write(run.config_path(), refused).unwrap();
        forwarder.reload();
        wait_for_reload(&forwarder, "refused", 1.0);
        thread::sleep(Duration::from_millis(700));
        let metrics = forwarder.metrics().unwrap();
        assert_eq!(metrics.sum("l4sd_config_last_reload_success", &[]), Some(0.0));
        let limit = metrics.sum("l4sd_memory_limit_bytes", &[("direction", "left_to_right")]);
        assert_eq!(limit, Some(312_500.0), "250 ms of 10 Mbit/s");
        drop(flow);
        forwarder.terminate();
        forwarder.finish().unwrap();

        let series = Series::read(&out.path().join("series.csv")).unwrap();
        let busy = series.l_busy(5.0).unwrap();
        let bins: Vec<_> = series.within(busy.start + 0.2..busy.end - 0.2).collect();
        let sent = |b: &&&Bin| b.l_mbps + b.c_mbps;
        let mixed = |b: &&&Bin| b.rate_mbps > 10.01 && b.rate_mbps < 19.99;
        assert!(bins.iter().filter(mixed).count() <= 1, "one step and no other: {bins:?}");
        for rate in [20.0, 10.0] {
            let at: Vec<f64> =
                bins.iter().filter(|b| (b.rate_mbps / rate - 1.0).abs() < 1e-3).map(|b| sent(&b)).collect();
            let mean = at.iter().sum::<f64>() / at.len() as f64;
            assert!(at.len() >= 8 && (mean / rate - 1.0).abs() < 0.1, "{rate}: {mean} in {at:?}");
        }
        let run = left_to_right(&out);
        let rate = run["link"]["rate_mbps"].as_f64().unwrap();
        assert!(rate > 10.0 && rate < 20.0, "the time mean: {rate}");
        assert_account(&run, "all");
    });
}

/// A flow of a fifth and two fifths of the link while the rate changes over and over: not one of its packets is lost, by
/// l4sd's account and by the receiver's.
#[test]
fn no_packet_is_lost_to_many_reloads() {
    in_sandbox("no_packet_is_lost_to_many_reloads", |topology| {
        if topology.tools().find(IPERF3).is_none() {
            return sandbox::skipped("the reloads under load", "no iperf3");
        }
        let out = tempfile::tempdir().unwrap();
        let forwarder = Forwarder::start(&RunSpec { rate_mbit: 20, ..spec(&out) }).unwrap();
        let mut server = topology.command(Place::Receiver, IPERF3);
        let mut server = Process::spawn("iperf3 server", server.args(["-s", "-1", "--forceflush"])).unwrap();
        server
            .wait_until(Duration::from_secs(5), |l| l.iter().any(|l| l.text.contains("listening")))
            .unwrap();
        let mut client = topology.command(Place::Sender, IPERF3);
        client.args(["-c", RECEIVER_V4, "-u", "-b", "4M", "-l", "1000", "-t", "2", "--forceflush"]);
        let mut client = Process::spawn("iperf3 client", &mut client).unwrap();
        let mut number = 0.0;
        while client.check().is_ok() {
            number += 1.0;
            forwarder.set_rate(if number % 2.0 == 1.0 { 10 } else { 20 }).unwrap();
            wait_for_reload(&forwarder, "applied", number);
        }
        forwarder.terminate();
        forwarder.finish().unwrap();
        assert!(number >= 10.0, "{number} reloads");
        let said: Vec<String> = client.lines().into_iter().map(|l| l.text).collect();
        let summary =
            said.iter().find(|l| l.trim_end().ends_with("receiver")).unwrap_or_else(|| panic!("{said:?}"));
        let lost = summary.split_whitespace().rev().nth(2).unwrap();
        assert!(lost.starts_with("0/"), "the receiver lacks {lost} after {number} reloads: {summary}");
        let run = left_to_right(&out);
        assert_account(&run, "all");
        let dropped = &run["totals"]["all"]["dropped"];
        assert_eq!(*dropped, serde_json::json!({"aqm": 0, "overload": 0, "tail": 0}), "{number} reloads");
    });
}

#[test]
fn a_missing_interface_is_69_and_named() {
    in_sandbox("a_missing_interface_is_69_and_named", |topology| {
        let before = links(topology);
        let right = format!("packet:{RIGHT}");
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("report");
        let out = report.to_str().unwrap();
        let run = ["run", "--left", "packet:nosuch0", "--right", &right, "--rate", "40Mbit", "--out", out];
        refused(&l4sd(&run), 69, "nosuch0");
        assert!(!report.exists(), "a failed start leaves no folder behind");
        let left = format!("packet:{LEFT}");
        let run =
            ["run", "--left", &left, "--right", "packet:nosuch1", "--rate", "40Mbit", "--duration", "1s"];
        refused(&l4sd(&run), 69, "nosuch1");
        assert_eq!(links(topology), before, "a failed start must leave the ports as they were");
    });
}

#[test]
fn missing_privilege_is_77() {
    in_sandbox("missing_privilege_is_77", |topology| {
        let (left, right) = (format!("packet:{LEFT}"), format!("packet:{RIGHT}"));
        let mut bare = topology.tools().command(SETPRIV);
        bare.args(["--bounding-set", "-all", "--inh-caps", "-all", L4SD, "run"]);
        bare.args(["--left", &left, "--right", &right, "--rate", "40Mbit", "--duration", "1s"]);
        refused(&bare.output().unwrap(), 77, "CAP_NET_");
    });
}

/// Starts `l4sd run` on both ports with this `[runtime]` section and a report, and waits until it forwards.
fn started(folder: &Path, runtime: &str) -> Process {
    let file = folder.join("l4sd.toml");
    let ports = format!("[left]\nport = \"packet:{LEFT}\"\n[right]\nport = \"packet:{RIGHT}\"\n");
    let text = format!("{ports}[link]\nrate = \"100Mbit\"\n[runtime]\n{runtime}");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut run = Command::new(L4SD);
    run.arg("run").arg("-c").arg(&file).arg("--out").arg(folder.join("report"));
    let mut process = Process::spawn("l4sd", &mut run).unwrap();
    for _ in 0..500 {
        process.check().unwrap();
        if scrape::get(METRICS, "/readyz").is_ok_and(|(status, _)| status == 200) {
            return process;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("not ready:\n{}", process.tail());
}

/// The folders in /proc of the threads of the `l4sd` that runs with this configuration: /proc may be the host's, with
/// other numbers than the sandbox's.
fn tasks_of(file: &Path) -> Vec<PathBuf> {
    let mut ours = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let mut words = arguments.split(|byte| *byte == 0);
        if words.next() == Some(L4SD.as_bytes()) && words.any(|word| word == file.as_os_str().as_bytes()) {
            let tasks = fs::read_dir(process.path().join("task")).unwrap();
            ours.extend(tasks.map(|task| task.unwrap().path()));
        }
    }
    ours
}

/// Order of privileges: everything is opened as root, then every thread is the user for good, and it still works.
#[test]
fn root_is_given_up_once_everything_is_open() {
    const NAME: &str = "root_is_given_up_once_everything_is_open";
    in_sandbox(NAME, |topology| {
        let folder = tempfile::tempdir().unwrap();
        if sandbox::inside() != Some(Rights::Root) {
            let file = folder.path().join("l4sd.toml");
            fs::write(&file, "[runtime]\nuser = \"nobody\"\n").unwrap();
            let (left, right) = (format!("packet:{LEFT}"), format!("packet:{RIGHT}"));
            let file = file.to_str().unwrap();
            let run = ["run", "-c", file, "--left", &left, "--right", &right, "--rate", "40Mbit"];
            refused(&l4sd(&run), 77, "cannot become 'nobody'");
            return sandbox::skipped(NAME, "a user namespace has no second user to become");
        }
        let nobody = l4sd_host::User::look_up("nobody").unwrap().unwrap();
        let mut process = started(folder.path(), "user = \"nobody\"\nsched = \"fifo:40\"\n");

        let tasks = tasks_of(&folder.path().join("l4sd.toml"));
        assert!(tasks.len() >= 3, "managing, forwarding and metrics threads: {tasks:?}");
        for task in tasks {
            let status = fs::read_to_string(task.join("status")).unwrap();
            let line = |name: &str| {
                let found = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
                found.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
            };
            let four = |id: u32| [id; 4].map(|id| id.to_string()).join(" ");
            assert_eq!((line("Uid:"), line("Gid:")), (four(nobody.uid), four(nobody.gid)), "{status}");
            assert_eq!(line("Groups:"), nobody.gid.to_string(), "{status}");
            assert_eq!((line("CapPrm:"), line("CapEff:")), ("0".repeat(16), "0".repeat(16)), "{status}");
            assert_eq!(line("NoNewPrivs:"), "1", "{status}");
        }

        if topology.tools().find(PING).is_some() {
            let arguments = ["-c", "10", "-i", "0.05", "-W", "2", RECEIVER_V4];
            let said = output_of(topology.command(Place::Sender, PING).args(arguments));
            assert!(said.contains(" 10 received, 0% packet loss"), "{said}");
        }
        let (status, metrics) = scrape::get(METRICS, "/metrics").unwrap();
        assert!(status == 200 && metrics.contains("l4sd_packets_total{"), "{status}: {metrics}");
        process.signal("TERM");
        let ended = process.wait(Duration::from_secs(10));
        assert!(ended.is_some_and(|status| status.success()), "{}", process.tail());
        let said = |words: &str| process.lines().iter().any(|line| line.text.contains(words));
        assert!(said("running as user nobody") && said("a reload will be refused"), "the file is root's");
        let results = fs::metadata(folder.path().join("report/results.json")).unwrap();
        assert_eq!((results.uid(), results.gid()), (nobody.uid, nobody.gid), "written as the user");
    });
}

/// The answer to `l4sd reload` is written by the user that the process has become, or it is said that it cannot be.
#[test]
fn a_reload_is_answered_after_root_was_given_up_if_the_user_has_the_folder() {
    const NAME: &str = "a_reload_is_answered_after_root_was_given_up_if_the_user_has_the_folder";
    in_sandbox(NAME, |_| {
        if sandbox::inside() != Some(Rights::Root) {
            return sandbox::skipped(NAME, "a user namespace has no second user to become");
        }
        let nobody = l4sd_host::User::look_up("nobody").unwrap().unwrap();
        for has_folder in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let (file, run) = (folder.path().join("l4sd.toml"), folder.path().join("run"));
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
            fs::create_dir(&run).unwrap();
            if has_folder {
                std::os::unix::fs::chown(&run, Some(nobody.uid), Some(nobody.gid)).unwrap();
            }
            let pidfile = run.join("l4sd.pid");
            let answer = run.join("l4sd.pid.reload");
            let mut process =
                started(folder.path(), &format!("user = \"nobody\"\npidfile = \"{}\"\n", pidfile.display()));
            let text = fs::read_to_string(&file).unwrap().replace("100Mbit", "50Mbit");
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
            let reload = l4sd(&["reload", "--pidfile", pidfile.to_str().unwrap()]);
            let printed = String::from_utf8_lossy(&reload.stdout).into_owned();
            assert_eq!(reload.status.code(), Some(0), "{reload:?}\n{}", process.tail());
            let reloaded = Duration::from_secs(5);
            process
                .wait_until(reloaded, |lines| lines.iter().any(|l| l.text.contains("reloaded: link.rate")))
                .unwrap();
            let said = |words: &str| process.lines().iter().filter(|line| line.text.contains(words)).count();
            assert_eq!(said("nobody cannot write in its folder"), usize::from(!has_folder));
            assert_eq!(said("the answer to `l4sd reload` cannot be written"), 0, "said once, at the start");
            if has_folder {
                assert!(printed.starts_with("link.rate 100Mbit to 50Mbit"), "{printed}");
                assert_eq!(fs::metadata(&answer).unwrap().uid(), nobody.uid);
            } else {
                assert!(printed.contains("its log says what came of it"), "{printed}");
                assert!(!answer.exists());
            }
            process.signal("TERM");
            let ended = process.wait(Duration::from_secs(10));
            assert!(ended.is_some_and(|status| status.success()), "{}", process.tail());
            assert_eq!(pidfile.exists(), !has_folder, "the user removes what it can");
        }
    });
}

#[test]
fn a_report_folder_that_the_user_cannot_write_is_69_before_the_first_frame() {
    const NAME: &str = "a_report_folder_that_the_user_cannot_write_is_69_before_the_first_frame";
    in_sandbox(NAME, |_| {
        if sandbox::inside() != Some(Rights::Root) {
            return sandbox::skipped(NAME, "a user namespace has no second user to become");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("l4sd.toml");
        let text = format!("[left]\nport = \"packet:{LEFT}\"\n[right]\nport = \"packet:{RIGHT}\"\n");
        let text = text + "[link]\nrate = \"40Mbit\"\n[runtime]\nuser = \"nobody\"\n";
        fs::write(&file, text).unwrap();
        let out = folder.path().to_str().unwrap();
        let run = ["run", "-c", file.to_str().unwrap(), "--duration", "60s", "--out", out];
        refused(&l4sd(&run), 69, "--out");
    });
}

#[test]
fn a_user_that_is_not_there_is_78() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("l4sd.toml");
    fs::write(&file, "[runtime]\nuser = \"l4sd-no-such-user\"\n").unwrap();
    let run = ["run", "-c", file.to_str().unwrap(), "--left", "mem:", "--right", "mem:", "--rate", "40Mbit"];
    refused(&l4sd(&run), 78, "l4sd-no-such-user");
}

#[test]
fn a_bad_configuration_is_78_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("l4sd.toml");
    let run = |text: &str| {
        fs::write(&file, text).unwrap();
        l4sd(&["run", "-c", file.to_str().unwrap(), "--left", "mem:", "--right", "mem:", "--duration", "1s"])
    };
    refused(&run("version = 1\n[link]\nrate = \"40Mbit\"\nspeed = 3\n"), 78, "speed");
    refused(&run("version = 1\n[link]\nrate = \"40 bananas\"\n"), 78, "bananas");
}

#[test]
fn bad_usage_is_64() {
    refused(&l4sd(&["run", "--bogus"]), 64, "--bogus");
    refused(
        &l4sd(&["run", "--left", "packet:b0", "--right", "packet:b1", "--rate", "40bananas"]),
        64,
        "bananas",
    );
    refused(&l4sd(&["fly"]), 64, "fly");
}
