//! The engine's links and traffic against arithmetic, and copies of a simulation.

use std::path::Path;

use l4sd::aqm::Service;
use l4sd::config::Policy;
use l4sd::report::{ResultFile, RunResult};
use l4sd::sim::engine::Probe;
use l4sd::sim::{Scenario, run};
use l4sd::time::{Instant, Span};

fn scenario(text: &str) -> Scenario {
    Scenario::parse(&format!("name = \"e\"\nduration = \"40s\"\nwarmup = \"10s\"\n{text}"), "e.toml")
        .expect("the scenario is valid")
}

fn result(scenario: &Scenario, policy: &Policy, seed: u64) -> RunResult {
    let report = run::run(scenario, policy, seed).expect("the policy runs");
    assert_eq!(report.conservation_error, None);
    let totals = report.result.totals.all;
    assert_eq!(totals.arrived, totals.accounted());
    report.result
}

/// A trace is a link of its mean rate: a backlogged queue uses every opportunity, and delays are those of a buffer.
#[test]
fn a_trace_gives_exactly_its_opportunities() {
    let dir = tempfile::tempdir().unwrap();
    // 1 opportunity a millisecond, none in every second half of 100 ms: 500 a second, 6.056 Mbit/s.
    let times: String = (1..=1000).filter(|t| (t / 50) % 2 == 0).map(|t| t.to_string() + "\n").collect();
    std::fs::write(dir.path().join("t"), times).unwrap();
    let file = dir.path().join("s.toml");
    let text = "name = \"t\"\nduration = \"21s\"\nwarmup = \"1s\"\n[link]\ntrace = \"t\"\n\
                [[flow]]\nkind = \"cbr\"\nrate = \"10Mbit\"\n";
    std::fs::write(&file, text).unwrap();
    let s = Scenario::load(Path::new(&file)).unwrap();
    let r = result(&s, &Policy::Taildrop, 1);
    assert_eq!(r.queues.all.counters.packets, 20 * 500, "all that the trace offers in 20 s");
    assert_eq!(r.link.utilization, Some(1.0));
    assert!((r.link.rate_mbps.unwrap() - 6.056).abs() < 1e-6);
    // 250 ms of the mean rate wait.
    let delay = r.queues.all.delay_ms.mean.unwrap();
    assert!((delay - 250.0).abs() < 15.0, "{delay}");
}

/// A link that nobody is told of has the capacity of its program, whatever the configured rate.
#[test]
fn generated_links_are_used_up_by_what_overloads_them() {
    for generator in [
        "{ kind = \"gilbert\", good = \"12Mbit\", bad = \"3Mbit\", good_for = \"1s\", bad_for = \"500ms\" }",
        "{ kind = \"walk\", min = \"4Mbit\", max = \"12Mbit\", every = \"100ms\", sigma = 0.2 }",
        "{ kind = \"cellular\", mean = \"8Mbit\", sigma = 0.5 }",
        "{ kind = \"starlink\", mean = \"8Mbit\", sigma = 0.3 }",
        "{ kind = \"square\", high = \"12Mbit\", low = \"4Mbit\", period = \"2s\" }",
    ] {
        let s = scenario(&format!(
            "[link]\ngenerator = {generator}\n[[flow]]\nkind = \"cbr\"\nrate = \"40Mbit\"\n"
        ));
        let r = result(&s, &Policy::Taildrop, 3);
        let used = r.link.utilization.unwrap();
        assert!((used - 1.0).abs() < 2e-3, "{generator}: {used}");
        assert_ne!(
            r.link.rate_mbps,
            result(&s, &Policy::Taildrop, 4).link.rate_mbps.filter(|_| !generator.contains("square"))
        );
    }
}

/// Poisson arrivals of the asked load, each flow completed; an idle link adds little to their times.
#[test]
fn web_flows_complete_and_carry_their_load() {
    let s = scenario("[link]\nrate = \"40Mbit\"\n[[flow]]\nkind = \"web\"\nload = 0.2\nrtt = \"20ms\"\n");
    let r = result(&s, &Policy::DualPi2, 1);
    let mbps = r.queues.c.counters.bytes as f64 * 8.0 / 30.0 / 1e6;
    // Sizes are heavy-tailed: some 3300 flows vary by 6 % in sum.
    assert!((mbps / 8.0 - 1.0).abs() < 0.2, "{mbps}");
    let fct = r.flows[0].fct.unwrap();
    assert!(fct.completed > 2500 && fct.unfinished < 20, "{fct:?}");
    // The median flow is of two packets: a round trip, their sending, and the delayed acknowledgement at worst.
    let median = fct.p50_ms.unwrap();
    assert!((20.0..70.0).contains(&median), "{fct:?}");
    assert!(fct.p95_ms > fct.p50_ms && fct.p99_ms > fct.p95_ms);
}

/// 691 packets at 10 Mbit/s are .837 s of sending; slow start from ten packets at 20 ms adds a few round trips.
#[test]
fn a_sized_flow_ends() {
    let s = scenario(
        "[link]\nrate = \"10Mbit\"\n[[flow]]\ncc = \"cubic\"\nrtt = \"20ms\"\nsize = \"1MB\"\nstart = \"11s\"\n",
    );
    let r = result(&s, &Policy::DualPi2, 1);
    let flow = &r.flows[0];
    assert_eq!((flow.goodput_mbps.unwrap() * 30e6 / 8.0 / 1448.0).round() as u64, 691);
    let fct = flow.fct_ms.unwrap();
    assert!((840.0..1300.0).contains(&fct), "{fct}");
    assert_eq!(flow.fct, None);
}

/// Remembers when packets left.
#[derive(Default)]
struct Departures(Vec<u64>);

impl Probe for Departures {
    fn forwarded(&mut self, _: Service, _: Span, now: Instant) {
        self.0.push(now.as_nanos());
    }
}

/// Bursts of 20 packets at 60 a second through an idle link: 14.5 Mbit/s, and the last packet of a burst has waited
/// for 19 others.
#[test]
fn a_burst_is_its_own_delay() {
    let s = scenario(
        "[link]\nrate = \"100Mbit\"\n[[flow]]\nkind = \"video\"\nrate = \"14.5344Mbit\"\nsigma = 0\ncodepoint = \"ect1\"\n\
         access = \"100Gbit\"\n",
    );
    let r = result(&s, &Policy::Taildrop, 1);
    let sending_ms = 1514.0 * 8.0 / 100e3;
    let max = r.queues.all.delay_ms.max.unwrap();
    assert!((max - 19.0 * sending_ms).abs() < 0.01, "{max}");
    let mbps = r.queues.all.counters.bytes as f64 * 8.0 / 30e6;
    assert!((mbps - 14.534).abs() < 0.05, "{mbps}");
}

/// Aggregates leave the path at multiples of their interval, and compressed acknowledgements make bursts of a sender
/// that does not pace. A burst of more than the ramp's millisecond is marked however empty the link is: the sender waits
/// longer in L and gets a fraction of the link that is its own.
#[test]
fn aggregates_and_compressed_acknowledgements_make_bursts() {
    let run = |extra: &str| {
        let s = scenario(&format!(
            "[link]\nrate = \"40Mbit\"\n[[flow]]\ncc = \"dctcp\"\nrtt = \"20ms\"\n{extra}"
        ));
        let r = result(&s, &Policy::DualPi2, 1);
        (r.queues.l.delay_ms.p99.unwrap(), r.link.utilization.unwrap())
    };
    let (plain, used) = run("");
    assert!(plain < 2.0 && used > 0.99, "{plain} {used}");
    for extra in ["aggregate = \"8ms\"\n", "ack_compression = \"8ms\"\n"] {
        let (p99, used) = run(extra);
        assert!(p99 > 1.2 * plain && used < 0.5, "{extra}: {p99} beside {plain}, {used} used");
    }
    let s = scenario(
        "[link]\nrate = \"1Gbit\"\n[[flow]]\nkind = \"cbr\"\nrate = \"12.112Mbit\"\naggregate = \"8ms\"\n",
    );
    let max = result(&s, &Policy::Taildrop, 1).queues.all.delay_ms.max.unwrap();
    assert!(
        (max - 7.0 * 0.012_112).abs() < 1e-3,
        "8 packets each 8 ms, of which the last waits for 7: {max}"
    );
    let mut s = scenario(
        "[link]\nrate = \"40Mbit\"\n[[flow]]\ncc = \"cubic\"\nrtt = \"20ms\"\nack_jitter = \"4ms\"\n",
    );
    let jittered = result(&s, &Policy::DualPi2, 1);
    s.flows[0].spec.path.ack_jitter = Span::ZERO;
    assert_ne!(jittered, result(&s, &Policy::DualPi2, 1));
    assert!(jittered.link.utilization.unwrap() > 0.9);
}

/// NQB packets join L only where the scenario says so.
#[test]
fn nqb_is_a_matter_of_the_scenario() {
    let text = |nqb: bool| {
        format!(
            "[link]\nrate = \"40Mbit\"\nnqb = {nqb}\n[[flow]]\nkind = \"cbr\"\nrate = \"1Mbit\"\ndscp = 45\n"
        )
    };
    let queue = |nqb| {
        let r = result(&scenario(&text(nqb)), &Policy::DualPi2, 1);
        (r.flows[0].queue.clone().unwrap(), r.queues.l.counters.packets > 0)
    };
    assert_eq!(queue(false), ("c".to_owned(), false));
    assert_eq!(queue(true), ("l".to_owned(), true));
}

const MIXED: &str = "[spread]\nrtt = 0.2\nrate = 0.1\n[link]\n\
    generator = { kind = \"cellular\", mean = \"12Mbit\", sigma = 0.4 }\n\
    [[flow]]\ncc = \"prague\"\nrtt = \"20ms\"\n[[flow]]\ncc = \"cubic\"\nrtt = \"30ms\"\nack_jitter = \"2ms\"\n\
    [[flow]]\nkind = \"web\"\nload = 0.2\nrtt = \"20ms\"\n\
    [[flow]]\nkind = \"video\"\nrate = \"2Mbit\"\ncodepoint = \"ect1\"\n\
    [[flow]]\nkind = \"cbr\"\nload = 0.1\nstart = \"15s\"\nstop = \"20s\"\n";

/// A copy goes on as the original does, packet by packet.
#[test]
fn a_snapshot_goes_on_as_the_original() {
    let s = scenario(MIXED);
    let mut original = run::simulation(&s, &Policy::DualPi2, 5);
    original.run_until(Instant::from_millis(9_876), &mut ());
    let mut copy = original.clone();
    let (mut a, mut b) = (Departures::default(), Departures::default());
    original.run_until(Instant::from_millis(25_000), &mut a);
    copy.run_until(Instant::from_millis(25_000), &mut b);
    assert!(a.0.len() > 5_000);
    assert!(a.0 == b.0, "departures differ");
    for i in 0..s.flows.len() {
        assert_eq!(original.stats(i), copy.stats(i));
        assert_eq!(original.completions(i), copy.completions(i));
    }
}

#[test]
fn everything_at_once_conserves_and_repeats() {
    let s = scenario(MIXED);
    for policy in [
        "dualpi2",
        "dualpi2-linux",
        "dualpi2-tuned",
        "dualpi2-ff",
        "dualpi2-rules",
        "dualpi2:target=5ms",
        "pi2",
        "codel",
        "taildrop",
    ] {
        let policy: Policy = policy.parse().unwrap();
        let json = |seed| ResultFile::new(vec![result(&s, &policy, seed)]).to_json();
        assert_eq!(json(2), json(2));
        assert_ne!(json(2), json(3).replace("\"seed\": 3", "\"seed\": 2"), "{policy}");
    }
    let targets = |policy: &str| result(&s, &policy.parse().unwrap(), 2).queues.c.delay_ms.mean.unwrap();
    assert!(targets("dualpi2:target=5ms") < 0.8 * targets("dualpi2"), "constants act");
}

/// The target in force at the end of each window, in ms.
struct Seen(Vec<(u64, f64)>);

impl run::WindowSink for Seen {
    fn window(&mut self, w: &l4sd::telemetry::TelemetryWindow, k: &l4sd::aqm::params::Knobs) {
        self.0.push((w.end.as_nanos() / 1_000_000, k.target.as_millis_f64()));
    }
}

/// A tree with two leaves on a link of 40 Mbit/s: the leaf of its rate is in force, one bin per 64 ms from the hold on; a file that is no
/// tree is one message.
#[test]
fn rules_act_through_the_guard() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("r.toml");
    let policy: Policy = format!("dualpi2-rules:{}", file.display()).parse().unwrap();
    let hash = l4sd::telemetry::features::Schema::embedded().hash;
    let write = |fast: &str| {
        let tree = format!(
            "if link_rate < 30 Mbit/s:\n    target 25 ms, gain 1, ramp 0.8 ms\nelse:\n    target {fast}, gain 1, ramp 0.8 ms\n"
        );
        let head = format!("version = 1\nschema = \"{hash}\"\nperiod_s = 0.128\nhold_s = 0.5\n");
        std::fs::write(&file, format!("{head}tree = '''\n{tree}'''\n")).unwrap();
    };
    let s = scenario("[link]\nrate = \"40Mbit\"\n[[flow]]\ncc = \"cubic\"\nrtt = \"20ms\"\ncount = 5\n");
    write("5 ms");
    let result = run::run(&s, &policy, 1).unwrap().result;
    let mean = result.queues.c.delay_ms.mean.unwrap();
    assert!((mean - 5.0).abs() < 1.5, "{mean}");
    assert_eq!((result.fallback_share, result.controller.rejected), (Some(0.0), Some(0)));
    assert!(result.controller.decisions.unwrap() > 1000);
    let mut seen = Seen(Vec::new());
    run::run_detailed(&s, &policy, 1, &mut seen).unwrap();
    let first = seen.0.iter().find(|(_, target)| *target < 15.0).unwrap();
    assert!((528..=700).contains(&first.0) && first.1 > 11.0, "{first:?}: after the hold, and by a bin");
    write("50 ms");
    let message = run::run(&s, &policy, 1).unwrap_err().to_string();
    assert!(message.ends_with("r.toml:9: target must be from 1 ms to 25 ms"), "{message}");
}

/// A schedule of decisions in the simulator: the target goes to 5 ms in the second half.
#[test]
fn replayed_decisions_act() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("d.csv");
    std::fs::write(&file, "at_s,target_ms,gain,ramp_min_ms,feed_forward\n0,15,1,0.8,1\n20,5,1,0.8,1\n")
        .unwrap();
    let s = scenario("[link]\nrate = \"40Mbit\"\n[[flow]]\ncc = \"cubic\"\nrtt = \"20ms\"\ncount = 5\n");
    let policy: Policy = format!("replay:{}", file.display()).parse().unwrap();
    let report = run::run(&s, &policy, 1).unwrap();
    let mean = |from: f64, to: f64| {
        let bins = report.bins.iter().filter(|b| b.t_s >= from && b.t_s < to);
        let d: Vec<f64> = bins.filter_map(|b| b.queues[Service::Classic.index()].delay_ms).collect();
        d.iter().sum::<f64>() / d.len() as f64
    };
    let (before, after) = (mean(10.0, 20.0), mean(22.0, 40.0));
    assert!((before - 15.0).abs() < 2.5 && (after - 5.0).abs() < 1.5, "{before} {after}");
    let c = report.result.controller;
    assert_eq!((c.late, c.rejected, report.result.fallback_share), (Some(0), Some(0), Some(0.0)));
    assert_eq!(c.decisions, Some(2500), "one a window of 16 ms");
}

/// Options of congestion controls reach them.
#[test]
fn options_of_senders_act() {
    let run = |flow: &str, policy: &str| {
        let s = scenario(&format!(
            "[link]\nrate = \"40Mbit\"\nbuffer = \"1s\"\n[[flow]]\nrtt = \"50ms\"\n{flow}\n"
        ));
        result(&s, &policy.parse().unwrap(), 1)
    };
    let longest = |flow: &str| {
        let s = scenario(&format!(
            "[link]\nrate = \"40Mbit\"\nbuffer = \"1s\"\n[[flow]]\nrtt = \"50ms\"\n{flow}\n"
        ));
        let mut sim = run::simulation(&s, &Policy::Taildrop, 1);
        let mut longest = Longest(0);
        sim.run_until(Instant::from_millis(1_500), &mut longest);
        longest.0
    };
    for cc in ["cubic", "reno"] {
        let (with, without) = (
            longest(&format!("cc = \"{cc}\"\nhystart = true")),
            longest(&format!("cc = \"{cc}\"\nhystart = false")),
        );
        assert!(
            with * 3 < without * 2,
            "{cc}: leaving slow start early keeps the queue shorter, though RFC 9406 goes on for five rounds: {with} {without}"
        );
    }
    // Alone with a classic ECN AQM, Prague keeps its queue at the target either way; suspicion halves it more deeply.
    let (trusting, suspicious) =
        (run("cc = \"prague\"", "codel"), run("cc = \"prague\"\nfallback = true", "codel"));
    assert_ne!(trusting.queues.c.counters.marked, suspicious.queues.c.counters.marked);
    let bbr = run("cc = \"bbr\"", "taildrop");
    assert!(bbr.link.utilization.unwrap() > 0.95 && bbr.queues.c.delay_ms.mean.unwrap() < 75.0, "{bbr:?}");
}

/// Remembers the longest delay in nanoseconds.
struct Longest(u64);

impl Probe for Longest {
    fn forwarded(&mut self, _: Service, sojourn: Span, _: Instant) {
        self.0 = self.0.max(sojourn.as_nanos());
    }
}

/// A flow whose very last packet is lost repairs it after a probe, two round trips later, and not by the retransmission
/// timer, which stands at a second after the start: RFC 8985 §7. At 4 Mbit/s a buffer of 30 packets loses the 66th.
#[test]
fn a_lost_tail_is_probed_for() {
    let s = scenario(
        "[link]\nrate = \"4Mbit\"\nbuffer = \"10kB\"\n\
         [[flow]]\ncc = \"reno\"\nrtt = \"20ms\"\nsize = \"95568B\"\ndelayed_acks = false\nstart = \"11s\"\n",
    );
    let flow = &result(&s, &Policy::Taildrop, 1).flows[0];
    assert_eq!(flow.retransmits, Some(1));
    // 66 packets take 200 ms to send; the round trip has grown to some 110 ms by then.
    assert!(flow.fct_ms.unwrap() < 600.0, "{flow:?}");
}

/// An application that hands over a packet each 4 ms sends 250 a second where it may, leaves the rest to others, and gets
/// less where there is less.
#[test]
fn an_application_sends_what_it_has_and_no_more() {
    let goodputs = |link: &str, cc: &str| {
        let s = scenario(&format!(
            "[link]\nrate = \"{link}\"\n[[flow]]\ncc = \"{cc}\"\nrtt = \"20ms\"\nrate = \"3.028Mbit\"\n\
             [[flow]]\ncc = \"cubic\"\nrtt = \"20ms\"\n"
        ));
        assert!(!s.flows[0].is_endless(s.warmup) && s.flows[1].is_endless(s.warmup));
        let r = result(&s, &Policy::DualPi2, 1);
        (r.flows[0].goodput_mbps.unwrap(), r.flows[1].goodput_mbps.unwrap())
    };
    for cc in ["prague", "cubic", "reno", "bbr"] {
        let (limited, other) = goodputs("40Mbit", cc);
        // 250 packets a second of 1448 bytes.
        assert!((limited / 2.896 - 1.0).abs() < 0.01, "{cc}: {limited}");
        assert!(other > 30.0, "{cc}: {other}");
        let (squeezed, _) = goodputs("4Mbit", cc);
        assert!(squeezed < 2.8, "{cc}: {squeezed}");
    }
}

/// Fewer acknowledgements say the same: a sender that is paced loses nothing by them, marks included.
#[test]
fn thinned_acknowledgements_lose_no_marks() {
    let run = |extra: &str| {
        let s = scenario(&format!(
            "[link]\nrate = \"20Mbit\"\n[[flow]]\ncc = \"prague\"\nrtt = \"20ms\"\n{extra}"
        ));
        result(&s, &Policy::DualPi2, 1)
    };
    let (plain, thinned) = (run(""), run("ack_thinning = \"4ms\"\n"));
    assert_ne!(plain, thinned);
    assert!(thinned.link.utilization.unwrap() > 0.9, "{thinned:?}");
    assert!(thinned.queues.l.delay_ms.mean.unwrap() < 2.0, "{thinned:?}");
}

/// A flow that hears of no mark takes what it can get beside one that does.
#[test]
fn a_flow_without_ce_does_not_yield() {
    let s = scenario(
        "[link]\nrate = \"20Mbit\"\n[[flow]]\ncc = \"prague\"\nrtt = \"20ms\"\n\
         [[flow]]\ncc = \"prague\"\nrtt = \"20ms\"\nce_bleached = true\n",
    );
    let flows = result(&s, &Policy::DualPi2, 1).flows;
    let (plain, deaf) = (flows[0].goodput_mbps.unwrap(), flows[1].goodput_mbps.unwrap());
    assert!(deaf > 4.0 * plain, "{deaf} {plain}");
}

/// What phases measure adds up to what the window does, and each has the flows that are there throughout.
#[test]
fn phases_add_up_to_the_window() {
    let phase = |name: &str, at: &str| format!("[[phase]]\nname = \"{name}\"\nat = \"{at}\"\n");
    let text = format!(
        "[link]\nrate = \"20Mbit\"\n{}{}{}[[flow]]\ncc = \"cubic\"\nrtt = \"20ms\"\n\
         [[flow]]\ncc = \"prague\"\nrtt = \"20ms\"\nstart = \"15s\"\n",
        phase("before", "5s"),
        phase("c_only", "10s"),
        phase("1v1", "20010ms")
    );
    let r = result(&scenario(&text), &Policy::DualPi2, 1);
    let names: Vec<_> = r.phases.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["c_only", "1v1"], "what begins in the warm-up is not measured");
    let [first, second] = &r.phases[..] else { panic!("{names:?}") };
    assert_eq!((first.from_s, first.to_s, second.to_s), (10.0, 20.01, 40.0));
    let sent = |p: &l4sd::report::result::PhaseResult| {
        p.link.utilization.unwrap() * p.link.rate_mbps.unwrap() * (p.to_s - p.from_s)
    };
    let whole = r.queues.all.counters.bytes as f64 * 8e-6;
    assert!(((sent(first) + sent(second)) / whole - 1.0).abs() < 1e-9);
    let longest = |p: &l4sd::report::result::PhaseResult| p.delay_ms.c.max.unwrap();
    assert_eq!(r.queues.c.delay_ms.max, Some(longest(first).max(longest(second))));
    // Prague begins within the first phase, so that only the second has a ratio.
    assert_eq!(first.ratio_l_over_c, None);
    assert!((0.2..5.0).contains(&second.ratio_l_over_c.unwrap()), "{second:?}");
}

/// At a fall of the rate that it is told of, `dualpi2-ff` has the shorter queues, and is `dualpi2` but for that.
#[test]
fn feed_forward_shortens_the_queue_after_a_step() {
    let worst = |steps: &str, policy: &str| {
        let s = scenario(&format!(
            "[link]\nrate = \"100Mbit\"\n{steps}[[flow]]\ncc = \"prague\"\nrtt = \"20ms\"\ncount = 5\n\
             [[flow]]\ncc = \"cubic\"\nrtt = \"20ms\"\ncount = 5\n"
        ));
        result(&s, &policy.parse().unwrap(), 1).queues.c.delay_ms.max.unwrap()
    };
    let fall = "steps = [{ at = \"20s\", rate = \"20Mbit\" }]\n";
    let (plain, ff) = (worst(fall, "dualpi2"), worst(fall, "dualpi2-ff"));
    assert!(ff < 0.9 * plain, "{ff} {plain}");
    assert_eq!(worst("", "dualpi2"), worst("", "dualpi2-ff"));
}
