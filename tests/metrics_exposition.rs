//! What a scraper sees: every line of the text format, every counter of RFC 9332 §2.5.2.2, and an endpoint that stuck
//! or rude clients cannot block.

#![allow(clippy::unwrap_used, reason = "test helpers; a panic is the failure report")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use l4sd::aqm::Service;
use l4sd::aqm::stats::{Backlog, DropCause, MarkCause, OverloadStats, Probabilities, Snapshot, Tally};
use l4sd::metrics::server::{MAX_CONNECTIONS, REQUEST_DEADLINE, Server};
use l4sd::metrics::{BuildInfo, ControllerState, LookAheadCounts, Metrics, Reload, Setup};
use l4sd::port::PortCounters;
use l4sd::telemetry::delays::DelayHistograms;
use l4sd::telemetry::{Direction, TelemetryWindow};
use l4sd::time::{Instant, Span};
use l4sd::units::BitRate;

const KINDS: [&str; 9] = ["ipv4", "ipv6", "arp", "stp", "lacp", "lldp", "pause", "other_non_ip", "malformed"];

fn metrics() -> Metrics {
    Metrics::new(Setup {
        build: BuildInfo {
            version: "0.1.0".into(),
            revision: "a \"quoted\\\" one\n".into(),
            rustc: "1.92".into(),
            ..BuildInfo::default()
        },
        ports: ["packet:a".into(), "packet:b".into()],
        frame_kinds: &KINDS,
        config_fingerprint: 0xabc,
        config_loaded_at: 0.0,
    })
}

fn window(end: Instant, egress: &Snapshot) -> TelemetryWindow {
    TelemetryWindow {
        id: 0,
        end,
        span: Span::from_millis(16),
        rate: BitRate::from_mbps(40),
        capacity_bits: 8_000_000,
        egress: *egress,
        arrivals: l4sd::telemetry::arrivals::ArrivalStats::default(),
    }
}

/// Checks every line against the text format 0.0.4 and returns the value of each series.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let mut types: BTreeMap<String, String> = BTreeMap::new();
    let mut help = BTreeSet::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, words) = rest.split_once(' ').unwrap();
            assert!(!words.is_empty() && help.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(help.contains(name), "HELP before TYPE: {line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
        } else {
            let (key, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(value.is_finite() && value >= 0.0, "{line}");
            let (name, labels) =
                key.split_once('{').map_or((key, ""), |(n, l)| (n, l.strip_suffix('}').unwrap()));
            assert!(name.starts_with("l4sd_"), "{line}");
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{line}"
            );
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| {
                    name.strip_suffix(end).filter(|f| types.get(*f).is_some_and(|t| t == "histogram"))
                })
                .unwrap_or(name);
            assert!(types.contains_key(family), "TYPE before samples: {line}");
            check_labels(labels, line);
            assert!(series.insert(key.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    for (family, kind) in &types {
        assert!(series.keys().any(|k| k.starts_with(family.as_str())), "{family} has no series");
        if kind == "histogram" {
            check_histogram(family, &series, text);
        }
    }
    series
}

/// `name="value",...` with `\\`, `\"` and `\n` as the only escapes.
fn check_labels(mut labels: &str, line: &str) {
    while !labels.is_empty() {
        let (name, rest) = labels.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{line}");
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().unwrap_or_else(|| panic!("open quote: {line}")) {
                (_, '\\') => assert!(matches!(chars.next(), Some((_, '\\' | '"' | 'n'))), "{line}"),
                (at, '"') => break at,
                _ => {}
            }
        };
        labels = rest[end + 1..].strip_prefix(',').unwrap_or(&rest[end + 1..]);
    }
}

fn check_histogram(family: &str, series: &BTreeMap<String, f64>, text: &str) {
    let mut last: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for line in text.lines().filter(|l| l.starts_with(&format!("{family}_bucket"))) {
        let (key, value) = line.rsplit_once(' ').unwrap();
        let (labels, edge) = key.split_once(",le=\"").unwrap();
        let edge = edge.strip_suffix("\"}").unwrap().replace("+Inf", "inf").parse::<f64>().unwrap();
        let labels = labels.replace("_bucket", "") + "}";
        let value = value.parse().unwrap();
        let before = last.insert(labels, (edge, value)).unwrap_or((-1.0, 0.0));
        assert!(before.0 < edge && before.1 <= value, "{line}");
    }
    for (labels, (edge, value)) in last {
        assert!(edge.is_infinite(), "{labels} has no +Inf bucket");
        assert_eq!(series[&labels.replacen('{', "_count{", 1)], value);
        assert!(series.contains_key(&labels.replacen('{', "_sum{", 1)));
    }
}

#[test]
fn every_series_is_there_from_the_start_and_they_are_few() {
    let m = metrics();
    let fresh = parse(&m.render());
    assert!(fresh.len() <= 500, "{} series", fresh.len());
    for (key, value) in &fresh {
        let set = key.starts_with("l4sd_build_info")
            || key == "l4sd_config_hash_info{hash=\"0000000000000abc\"}"
            || key == "l4sd_config_last_reload_success"
            || key == "l4sd_controller_state{state=\"pi2\"}";
        assert_eq!(*value, f64::from(u8::from(set)), "{key}");
    }
    feed(&m);
    let keys = |s: BTreeMap<String, f64>| s.into_keys().collect::<Vec<_>>();
    assert_eq!(keys(parse(&m.render())), keys(fresh), "traffic adds no series");
}

/// Names are public API: docs/metrics.md has each of them, and none beside.
#[test]
fn every_family_is_documented_and_nothing_else() {
    let text = metrics().render();
    let told: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let page = include_str!("../docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `l4sd_")?.split('`').next());
    let documented: BTreeSet<String> = rows.map(|name| format!("l4sd_{name}")).collect();
    assert_eq!(told.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), documented);
}

#[test]
fn reloads_are_counted_by_what_came_of_them() {
    let m = metrics();
    let of = |m: &Metrics, name: &str| parse(&m.render())[&format!("l4sd_config_{name}")];
    for (nth, (reload, at)) in (1..).zip([
        (Reload::Applied, 100.5),
        (Reload::Unchanged, 200.5),
        (Reload::Invalid, 300.5),
        (Reload::Refused, 400.5),
        (Reload::Refused, 500.5),
    ]) {
        assert_eq!(m.count_reload(reload, 0xdef, at), nth);
        assert_eq!(of(&m, "last_reload_success"), f64::from(u8::from(at < 300.0)));
    }
    let counts = ["applied", "unchanged", "refused", "invalid"]
        .map(|result| of(&m, &format!("reloads_total{{result=\"{result}\"}}")));
    assert_eq!(counts, [1.0, 1.0, 2.0, 1.0]);
    assert_eq!(of(&m, "last_reload_timestamp_seconds"), 200.5, "of the last one that is in force");
    assert_eq!(of(&m, "hash_info{hash=\"0000000000000def\"}"), 1.0);
}

/// How long decisions took, and how long after their windows they were admitted, are two things. 80 and 200 us are below
/// .1 and .25 ms, 600 us below 1 ms; a histogram of three digits tells such times to a tenth of a per cent.
#[test]
fn a_controllers_times_reach_their_own_series() {
    let m = metrics();
    let of = |us: &[u64]| {
        let mut times = l4sd::control::worker::times();
        for us in us {
            times.record(us * 1_000).unwrap();
        }
        times
    };
    m.update_inference(Direction::LeftToRight, &of(&[80]));
    m.update_admission(Direction::LeftToRight, &of(&[200, 600, 600]));
    m.update_admission(Direction::RightToLeft, &of(&[80]));
    let series = parse(&m.render());
    let at = |name: &str, direction: &str, le: &str| {
        series[&format!("l4sd_{name}_bucket{{direction=\"{direction}\",le=\"{le}\"}}")]
    };
    let admitted = ["0.0001", "0.00025", "0.0005", "0.001", "+Inf"]
        .map(|le| at("controller_admission_seconds", "left_to_right", le));
    assert_eq!(admitted, [0.0, 1.0, 1.0, 3.0, 3.0]);
    assert_eq!(at("controller_admission_seconds", "right_to_left", "0.0001"), 1.0);
    assert_eq!(at("inference_duration_seconds", "left_to_right", "+Inf"), 1.0);
    assert_eq!(at("inference_duration_seconds", "right_to_left", "+Inf"), 0.0);
    let sum = series["l4sd_controller_admission_seconds_sum{direction=\"left_to_right\"}"];
    assert!((sum / 0.0014 - 1.0).abs() < 2e-3, "{sum}");
}

/// Each count has its own series, and a call of 6 ms is below 10 ms and not below 5.
#[test]
fn what_looking_ahead_came_to_reaches_its_own_series() {
    let m = metrics();
    let mut calls = l4sd::control::worker::times();
    calls.record(6_000_000).unwrap();
    let counts = LookAheadCounts { ticks: 9, verified: 7, voided: 2, calls: 4 };
    m.update_look_ahead(Direction::RightToLeft, counts, &calls);
    let series = parse(&m.render());
    let at =
        |name: &str, direction: &str| series[&format!("l4sd_look_ahead_{name}{{direction=\"{direction}\"}}")];
    let names = ["ticks_total", "verified_ticks_total", "voided_plans_total", "calls_total"];
    assert_eq!(names.map(|name| at(name, "right_to_left")), [9.0, 7.0, 2.0, 4.0]);
    assert_eq!(names.map(|name| at(name, "left_to_right")), [0.0; 4]);
    let below = ["0.005", "0.01"].map(|le| {
        let name = "l4sd_look_ahead_call_duration_seconds_bucket";
        series[&format!("{name}{{direction=\"right_to_left\",le=\"{le}\"}}")]
    });
    assert_eq!(below, [0.0, 1.0]);
}

/// Puts a different number into every counter.
fn feed(m: &Metrics) {
    for direction in Direction::BOTH {
        let far = direction.index() as u64 * 100_000;
        let mut egress = Snapshot { limit_bytes: far + 9, ..Snapshot::default() };
        let mut h = DelayHistograms::new(direction == Direction::LeftToRight);
        for service in Service::BOTH {
            let base = far + service.index() as u64 * 10_000;
            let tally = |n: u64| Tally { packets: base + n, bytes: (base + n) * 1000 };
            let q = &mut egress.queues[service.index()];
            (q.arrived, q.presented, q.forwarded) = (tally(1), tally(2), tally(3));
            q.marked = [base + 4, base + 5, base + 6];
            for cause in DropCause::ALL {
                q.dropped[cause as usize] = [tally(10 + 2 * cause as u64), tally(11 + 2 * cause as u64)];
            }
            q.delay_sum_ns = (base + 20) * 1_000_000_000;
            q.delay_max = Span::from_millis(base + 21);
            egress.backlog[service.index()] = Backlog { packets: 1, bytes: base + 22 };
        }
        egress.p = Probabilities { base: 0.25, coupled: 0.5, classic: 0.0625 };
        egress.overload = OverloadStats { active: true, episodes: far + 23, total: Span::from_millis(1500) };
        m.update_window(direction, &window(Instant::from_millis(1000), &egress));
        // On an edge, just above it, above the last edge, below the first.
        for us in [1000, 1010, 2_000_000, 3] {
            h.record(Service::L4s, Span::from_micros(us));
        }
        m.update_delays(direction, &h);
        m.update_delays(direction, &h);
        let kinds: Vec<_> =
            KINDS.iter().zip(far + 30..).map(|(&k, n)| (k, n)).chain([("unheard_of", 1)]).collect();
        m.update_frames(direction, &kinds, [far + 40, far + 41, far + 42, far + 43]);
    }
    let port = |n| PortCounters {
        rx_frames: n,
        rx_no_buffer: n + 1,
        rx_oversize: n + 2,
        rx_kernel_drops: n + 3,
        tx_frames: n + 4,
        tx_errors: n + 5,
        tx_stalls: n + 6,
        lost_restart: n + 7,
    };
    m.update_ports([(port(50), true), (port(60), false)]);
    m.set_controller(ControllerState::Stale);
}

#[test]
fn every_counter_reaches_its_series() {
    let m = metrics();
    feed(&m);
    let s = parse(&m.render());
    let rl_c = "direction=\"right_to_left\",queue=\"c\"";
    let lr_l = "direction=\"left_to_right\",queue=\"l\"";
    for (key, value) in [
        (format!("forwarded_bytes_total{{{rl_c}}}"), 110_003_000.0),
        (format!("packets_total{{{rl_c},stage=\"arrived\"}}"), 110_001.0),
        (format!("packets_total{{{rl_c},stage=\"aqm\"}}"), 110_002.0),
        (format!("packets_total{{{rl_c},stage=\"forwarded\"}}"), 110_003.0),
        (format!("marked_packets_total{{{lr_l},cause=\"step\"}}"), 4.0),
        (format!("marked_packets_total{{{lr_l},cause=\"coupled\"}}"), 5.0),
        (format!("marked_packets_total{{{rl_c},cause=\"pi2\"}}"), 110_006.0),
        (format!("dropped_packets_total{{{lr_l},ecn=\"not_ect\",cause=\"aqm\"}}"), 10.0),
        (format!("dropped_packets_total{{{lr_l},ecn=\"ect\",cause=\"aqm\"}}"), 11.0),
        (format!("dropped_packets_total{{{lr_l},ecn=\"not_ect\",cause=\"overload\"}}"), 12.0),
        (format!("dropped_packets_total{{{lr_l},ecn=\"ect\",cause=\"overload\"}}"), 13.0),
        (format!("dropped_packets_total{{{lr_l},ecn=\"not_ect\",cause=\"tail\"}}"), 14.0),
        (format!("dropped_packets_total{{{rl_c},ecn=\"ect\",cause=\"tail\"}}"), 110_015.0),
        (format!("queue_delay_seconds_bucket{{{lr_l},le=\"0.00005\"}}"), 2.0),
        (format!("queue_delay_seconds_bucket{{{lr_l},le=\"0.001\"}}"), 4.0),
        (format!("queue_delay_seconds_bucket{{{lr_l},le=\"0.002\"}}"), 6.0),
        (format!("queue_delay_seconds_bucket{{{lr_l},le=\"1\"}}"), 6.0),
        (format!("queue_delay_seconds_count{{{lr_l}}}"), 8.0),
        (format!("queue_delay_seconds_sum{{{lr_l}}}"), 20.0),
        (format!("queue_delay_seconds_sum{{{rl_c}}}"), 110_020.0),
        (format!("queue_delay_max_seconds{{{lr_l}}}"), 0.021),
        (format!("queue_bytes{{{rl_c}}}"), 110_022.0),
        ("memory_limit_bytes{direction=\"right_to_left\"}".into(), 100_009.0),
        ("capacity_bytes_total{direction=\"left_to_right\"}".into(), 1_000_000.0),
        ("probability{direction=\"left_to_right\",kind=\"base\"}".into(), 0.25),
        ("probability{direction=\"left_to_right\",kind=\"coupled\"}".into(), 0.5),
        ("probability{direction=\"left_to_right\",kind=\"classic\"}".into(), 0.0625),
        ("overload_seconds_total{direction=\"left_to_right\"}".into(), 1.5),
        ("overload_state{direction=\"left_to_right\"}".into(), 1.0),
        ("overload_episodes_total{direction=\"right_to_left\"}".into(), 100_023.0),
        ("frames_total{direction=\"left_to_right\",kind=\"ipv4\"}".into(), 30.0),
        ("frames_total{direction=\"right_to_left\",kind=\"malformed\"}".into(), 100_038.0),
        ("unparsed_packets_total{direction=\"left_to_right\",reason=\"arp\"}".into(), 32.0),
        ("ecn_packets_total{direction=\"left_to_right\",codepoint=\"not_ect\"}".into(), 40.0),
        ("ecn_packets_total{direction=\"left_to_right\",codepoint=\"ect1\"}".into(), 41.0),
        ("ecn_packets_total{direction=\"left_to_right\",codepoint=\"ect0\"}".into(), 42.0),
        ("ecn_packets_total{direction=\"left_to_right\",codepoint=\"ce\"}".into(), 43.0),
        ("link_up{interface=\"packet:a\"}".into(), 1.0),
        ("link_up{interface=\"packet:b\"}".into(), 0.0),
        ("port_received_frames_total{interface=\"packet:b\"}".into(), 60.0),
        ("port_lost_frames_total{interface=\"packet:a\",cause=\"no_buffer\"}".into(), 51.0),
        ("port_lost_frames_total{interface=\"packet:a\",cause=\"oversize\"}".into(), 52.0),
        ("port_lost_frames_total{interface=\"packet:a\",cause=\"kernel\"}".into(), 53.0),
        ("port_lost_frames_total{interface=\"packet:a\",cause=\"restart\"}".into(), 57.0),
        ("port_transmit_stalls_total{interface=\"packet:b\"}".into(), 66.0),
        ("port_sent_frames_total{interface=\"packet:a\"}".into(), 54.0),
        ("port_send_errors_total{interface=\"packet:a\"}".into(), 55.0),
        ("controller_state{state=\"stale\"}".into(), 1.0),
        ("controller_state{state=\"pi2\"}".into(), 0.0),
    ] {
        let got = s.get(&format!("l4sd_{key}")).unwrap_or_else(|| panic!("no series {key}"));
        assert_eq!(*got, value, "{key}");
    }
    assert!(!s.contains_key("l4sd_unparsed_packets_total{direction=\"left_to_right\",reason=\"ipv4\"}"));
    assert_eq!(
        MarkCause::ALL.len() * 4,
        s.keys().filter(|k| k.starts_with("l4sd_marked_packets_total")).count()
    );
}

#[test]
fn two_ports_of_the_same_name_stay_apart() {
    let m = Metrics::new(Setup {
        build: BuildInfo::default(),
        ports: ["mem:".into(), "mem:".into()],
        frame_kinds: &[],
        config_fingerprint: 0,
        config_loaded_at: 0.0,
    });
    assert!(
        m.render()
            .contains("l4sd_link_up{interface=\"mem:left\"} 0\nl4sd_link_up{interface=\"mem:right\"} 0\n")
    );
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let promtool = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".into());
    let child = Command::new(&promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        l4sd_testbed::sandbox::skipped(
            "promtool",
            "not in PATH (Debian package prometheus); PROMTOOL may name one",
        );
        return;
    };
    let m = metrics();
    feed(&m);
    child.stdin.take().unwrap().write_all(m.render().as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.trim().is_empty(), "{said}");
}

fn serve() -> (Server, Metrics) {
    let m = metrics();
    (Server::start("127.0.0.1:0".parse().unwrap(), m.clone()).unwrap(), m)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Sends `request` and returns all that comes back until the server closes.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    // A server that closes before it has read everything resets the connection; what came before counts.
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn each_path_answers_as_documented() {
    let (server, m) = serve();
    let at = server.address();
    let (status, body) = get(at, "/metrics");
    assert_eq!(status, 200);
    assert_eq!(parse(&body).len(), parse(&m.render()).len());
    assert_eq!(get(at, "/metrics?name[]=x").0, 200);
    assert_eq!(get(at, "/healthz"), (200, "ok\n".into()));
    assert_eq!(get(at, "/readyz").0, 503);
    m.set_ready(true);
    assert_eq!(get(at, "/readyz"), (200, "ready\n".into()));
    m.set_ready(false);
    assert_eq!(get(at, "/readyz").0, 503);
    assert!(get(at, "/").1.contains("/metrics"));
    assert_eq!(get(at, "/etc/passwd").0, 404);

    let head = ask(at, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = ask(at, &format!("{method} /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 405 "), "{method}: {answer}");
        assert!(answer.contains("allow: GET, HEAD"), "{answer}");
    }
}

#[test]
fn what_is_too_long_or_no_http_is_refused() {
    let (server, _m) = serve();
    let long = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX-Padding: {}\r\n\r\n", "a".repeat(20_000));
    let answer = ask(server.address(), &long);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let answer = ask(server.address(), "\x16\x03\x01\x02\x00 not http\r\n\r\n");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(get(server.address(), "/healthz").0, 200);
}

#[expect(clippy::disallowed_methods, reason = "the deadline of a real socket is measured with a real clock")]
fn seconds_of(f: impl FnOnce()) -> f64 {
    let start = std::time::Instant::now();
    f();
    start.elapsed().as_secs_f64()
}

#[test]
fn a_client_that_does_not_finish_its_request_is_cut_off() {
    let (server, _m) = serve();
    let mut slow = connect(server.address());
    slow.write_all(b"GET /metrics HTT").unwrap();
    let mut rest = Vec::new();
    let took = seconds_of(|| {
        let _ = slow.read_to_end(&mut rest);
    });
    let deadline = REQUEST_DEADLINE.as_secs_f64();
    assert!(took > 0.8 * deadline && took < deadline + 2.0, "{took} s");
    assert!(!String::from_utf8_lossy(&rest).contains("l4sd_"));
}

#[test]
fn stuck_clients_do_not_lock_a_new_one_out() {
    let (server, _m) = serve();
    let stuck: Vec<_> = (0..MAX_CONNECTIONS * 2)
        .map(|_| {
            let mut stream = connect(server.address());
            stream.write_all(b"GET /met").unwrap();
            stream
        })
        .collect();
    let took = seconds_of(|| assert_eq!(get(server.address(), "/healthz").0, 200));
    assert!(took < 0.7 * REQUEST_DEADLINE.as_secs_f64(), "the new one waited {took} s for the stuck ones");
    // The first was pushed out long before its own deadline could have.
    let mut first = stuck.into_iter().next().unwrap();
    let took = seconds_of(|| {
        let _ = first.read(&mut [0; 16]);
    });
    assert!(took < 0.5 * REQUEST_DEADLINE.as_secs_f64(), "{took} s");
}

#[test]
fn an_address_in_use_is_one_clear_line() {
    let (server, m) = serve();
    let error = Server::start(server.address(), m).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot serve metrics at {}: ", server.address())), "{error}");
    assert!(error.contains("[metrics] listen") && error.lines().count() == 1, "{error}");
}

#[test]
fn stopping_frees_the_address_at_once() {
    let (server, m) = serve();
    let address = server.address();
    let mut stuck = connect(address);
    stuck.write_all(b"GET /").unwrap();
    let took = seconds_of(|| server.stop());
    assert!(took < 0.5, "{took} s");
    assert!(TcpStream::connect(address).is_err());
    drop(Server::start(address, m).unwrap());
}
