//! Sender models against the rate laws of their papers, and the whole simulator against arithmetic.

use std::collections::VecDeque;

use l4sd::aqm::stats::DropCause;
use l4sd::aqm::{Departure, Packet, PacketMeta, Service};
use l4sd::config::Policy;
use l4sd::report::ResultFile;
use l4sd::sim::engine::Probe;
use l4sd::sim::flow::bbr::Bbr;
use l4sd::sim::flow::cubic::Cubic;
use l4sd::sim::flow::dctcp::Dctcp;
use l4sd::sim::flow::prague::Prague;
use l4sd::sim::flow::reno::Reno;
use l4sd::sim::flow::{Control, FlowSpec, SourceSpec};
use l4sd::sim::{Bottleneck, Scenario, Sim};
use l4sd::time::{Instant, Span};
use l4sd::wire::Ecn;

/// Which packets are marked.
#[derive(Clone)]
enum Marks {
    /// Every n-th.
    Periodic { period: u32, count: u32 },
    /// Each with the probability 1/n, independently.
    Random { period: u32, rng: fastrand::Rng },
}

impl Marks {
    fn next(&mut self) -> bool {
        match self {
            Self::Periodic { period, count } => {
                *count += 1;
                *count %= *period;
                *count == 0
            }
            Self::Random { period, rng } => rng.u32(0..*period) == 0,
        }
    }
}

/// A link without a queue that marks, or drops what cannot be marked.
struct Marker {
    waiting: VecDeque<(u32, PacketMeta)>,
    marks: Marks,
}

impl Bottleneck for Marker {
    fn on_packet(&mut self, handle: u32, meta: PacketMeta, _: Instant) -> Result<(), u32> {
        self.waiting.push_back((handle, meta));
        Ok(())
    }

    fn poll(&mut self, _: Instant) -> Option<Departure<u32>> {
        let (handle, m) = self.waiting.pop_front()?;
        let p = Packet { handle, len: m.len, ecn: m.ecn, service: Service::L4s, sojourn: Span::ZERO };
        Some(match (self.marks.next(), m.ecn) {
            (false, _) => Departure::Forward(p),
            (true, Ecn::NotEct) => Departure::Drop(p, DropCause::Aqm),
            (true, _) => Departure::Mark(p),
        })
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn sending_time(&self, _: u16) -> Span {
        Span::ZERO
    }
}

fn flow(control: Control, rtt: Span) -> FlowSpec {
    FlowSpec::new(SourceSpec::Bulk(control), rtt, Ecn::Ect0)
}

/// Packets a second of a flow under marks, once it has settled.
fn rate_of(flow: FlowSpec, marks: &Marks, settle: Span, measure: Span) -> f64 {
    let (marker, ecn) = (Marker { waiting: VecDeque::new(), marks: marks.clone() }, flow.ecn);
    let mut sim = Sim::new(marker, vec![flow], 1);
    sim.run_until(Instant::ZERO + settle, &mut ());
    let before = sim.stats(0);
    sim.run_until(Instant::ZERO + settle + measure, &mut ());
    let after = sim.stats(0);
    assert_eq!(after.retransmits == 0, ecn != Ecn::NotEct, "what can be marked is not lost");
    (after.delivered - before.delivered) as f64 / measure.as_secs_f64()
}

fn rate(control: Control, rtt: Span, marks: &Marks, settle: Span, measure: Span) -> f64 {
    rate_of(flow(control, rtt), marks, settle, measure)
}

const PERIODS: [u32; 5] = [1000, 200, 100, 20, 10];
/// How far from its law a rate may be.
const PERIODIC: f64 = 0.10;
const RANDOM: f64 = 0.20;

/// Whether each rate is near its law, which is told for all before any of them fails.
#[derive(Default)]
struct Verdict {
    wrong: Vec<String>,
}

impl Verdict {
    fn check(&mut self, name: &str, got: f64, law: f64, share: f64) {
        let off = got / law - 1.0;
        let line = format!("{name}: {got:.1} packets/s, law {law:.1}: {:+.1} %", off * 100.0);
        eprintln!("{line}");
        if off.abs() > share + 1e-9 {
            self.wrong.push(line);
        }
    }

    fn end(self) {
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
    }
}

const fn periodic(period: u32) -> Marks {
    Marks::Periodic { period, count: 0 }
}

fn random(period: u32) -> Marks {
    Marks::Random { period, rng: fastrand::Rng::with_seed(u64::from(period)) }
}

/// Windows of a settled sender, cut into rounds: enough of them for 4000 random marks.
fn classic_rounds(period: u32, window: f64, random: bool) -> u64 {
    if random { (4000.0 * f64::from(period) / window) as u64 } else { 2000 }
}

fn reno_law(r: f64, p: f64) -> f64 {
    1.22 / (r * p.sqrt())
}

/// Under random marks the factor is 1.31 (Mathis et al., CCR 27(3), 1997), which is within reach of 1.22.
#[test]
fn reno_sends_1_22_over_r_root_p() {
    let mut verdict = Verdict::default();
    for (ms, period) in [20, 100].into_iter().flat_map(|ms| PERIODS.map(|n| (ms, n))) {
        let (rtt, p) = (Span::from_millis(ms), 1.0 / f64::from(period));
        let law = reno_law(rtt.as_secs_f64(), p);
        let window = law * rtt.as_secs_f64();
        if window < 4.0 {
            continue;
        }
        for (kind, marks, share) in [("", periodic(period), PERIODIC), ("random ", random(period), RANDOM)] {
            let rounds = |n: u64| Span::from_millis(ms * n);
            let measure = rounds(classic_rounds(period, window, share == RANDOM));
            for (name, reno) in [("reno", Reno::default()), ("reno hystart", Reno::default().with_hystart())]
            {
                let got = rate(reno.into(), rtt, &marks, rounds(500), measure);
                verdict.check(&format!("{name} {kind}{ms} ms, p 1/{period}"), got, law, share);
            }
        }
    }
    verdict.end();
}

fn larger(cubic: f64, reno: f64, r: f64, p: f64) -> f64 {
    (cubic / (r.powf(0.25) * p.powf(0.75))).max(reno / (r * p.sqrt()))
}

fn cubic_law(r: f64, p: f64) -> f64 {
    larger((0.4f64 * 3.7 / (4.0 * 0.3)).powf(0.25), 1.22, r, p)
}

/// RFC 9438 §5, which is of CUBIC without fast convergence, and Reno's law where that is faster (§4.3). Both are of
/// periodic marks. With exponential distances between marks the cubic function, integrated, gives 1.30 in place of
/// (C (3 + beta)/(4 (1 - beta)))^(1/4) = 1.054 (Poojary and Sharma, arXiv 1510.08496), and AIMD 1.31 in place of 1.22.
#[test]
fn cubic_sends_the_larger_of_its_own_response_and_reno() {
    let mut verdict = Verdict::default();
    for (ms, period) in [10, 20, 100, 200, 400].into_iter().flat_map(|ms| PERIODS.map(|n| (ms, n))) {
        let (rtt, p) = (Span::from_millis(ms), 1.0 / f64::from(period));
        let r = rtt.as_secs_f64();
        let law_of_periodic = cubic_law(r, p);
        if law_of_periodic * r < 4.0 {
            continue;
        }
        for (kind, marks, share, law) in [
            ("", periodic(period), PERIODIC, law_of_periodic),
            ("random ", random(period), RANDOM, larger(1.30, 1.31, r, p)),
        ] {
            let rounds = |n: u64| Span::from_millis(ms * n);
            let measure = rounds(classic_rounds(period, law * r, share == RANDOM));
            let one = |c: Cubic| rate(c.into(), rtt, &marks, rounds(500), measure);
            let mut check = |name: &str, c: Cubic| {
                verdict.check(&format!("{name} {kind}{ms} ms, p 1/{period}"), one(c), law, share);
            };
            check("cubic", Cubic::without_fast_convergence());
            // Under periodic marks each window is a little short of the last, so that the plateau is lowered for
            // nothing: by up to 16 % of the rate at 400 ms.
            if ms <= 200 {
                check("cubic with fast convergence", Cubic::default());
            }
        }
    }
    verdict.end();
}

/// Round trips `virtual_ms` long where they would be shorter; `factor` is what stands for 2 under random marks.
fn scalable(name: &str, control: &Control, virtual_ms: u64, factor: f64, rtts: &[u64], periods: &[u32]) {
    let mut verdict = Verdict::default();
    for (&ms, &period) in rtts.iter().flat_map(|ms| periods.iter().map(move |n| (ms, n))) {
        let (rtt, p) = (Span::from_millis(ms), 1.0 / f64::from(period));
        let unit = 1.0 / (ms.max(virtual_ms) as f64 / 1e3 * p);
        if 2.0 * unit * rtt.as_secs_f64() < 4.0 {
            continue;
        }
        // The window closes in on its law with a time constant of 2/p round trips.
        let rounds = |n: u32| Span::from_millis(ms.max(virtual_ms) * u64::from(n));
        for (kind, marks, share, law) in
            [("", periodic(period), PERIODIC, 2.0 * unit), ("random ", random(period), RANDOM, factor * unit)]
        {
            let (settle, measure) = (rounds(6 * period + 200), rounds(period + 200));
            let got = rate(control.clone(), rtt, &marks, settle, measure);
            verdict.check(&format!("{name} {kind}{ms} ms, p 1/{period}"), got, law, share);
        }
    }
    verdict.end();
}

/// With x random marks a round trip, and a reduction one round trip after the last at the earliest, reductions are
/// 1 + 1/x round trips apart, each by x/2 packets, against one packet a round trip: x^2 = 2 + 2x, and x = 1 + sqrt 3.
#[test]
fn prague_sends_2_over_the_virtual_rtt_times_p() {
    let random = 1.0 + 3.0f64.sqrt();
    scalable("prague", &Prague::default().into(), 25, random, &[50], &PERIODS);
    scalable("prague", &Prague::default().into(), 25, random, &[10], &PERIODS[1..]);
    // On a path without a queue its fall-back sees none.
    let fallback = Prague::default().with_fallback().into();
    scalable("prague with fall-back", &fallback, 25, random, &[25], &[100, 20]);
}

/// Random marks: as Prague, and for the same reason, once a window of data is reckoned from the reduction (RFC 8257 §3.3).
#[test]
fn dctcp_sends_2_over_r_p() {
    scalable("dctcp", &Dctcp::default().into(), 0, 1.0 + 3.0f64.sqrt(), &[20], &PERIODS);
}

/// Windows under random marks and losses beside ns-3's, whose figures `bench/ns3/run.py` writes: within 20 % where the
/// row is judged. That random marks lift a window over the law of periodic ones is no fault of these models: ns-3's CUBIC
/// is 14 to 19 % over it, and ours within 7 % of ns-3's. ns-3 has no Prague, and its DCTCP holds the window after a
/// reduction; the reckoning that gives 1 + sqrt 3 for senders that grow throughout gives sqrt 2 for one that does not, and
/// ns-3's has 1.36 to 1.41.
#[test]
fn random_signals_are_answered_as_in_ns3() {
    let mut verdict = Verdict::default();
    eprintln!("random marks: cc, RTT, p, signal: ns-3 / ours / periodic law");
    for line in include_str!("../bench/ns3/signals.csv").lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let &[cc, ms, period, ecn, acks, judged, theirs] = fields.as_slice() else { panic!("{line}") };
        let (ms, period): (u64, u32) = (ms.parse().unwrap(), period.parse().unwrap());
        let (rtt, p, theirs) =
            (Span::from_millis(ms), 1.0 / f64::from(period), theirs.parse::<f64>().unwrap());
        let r = rtt.as_secs_f64();
        let (control, law): (Control, f64) = match cc {
            "reno" => (Reno::default().into(), reno_law(r, p)),
            "cubic" => (Cubic::default().without_hystart().into(), cubic_law(r, p)),
            "dctcp" => (Dctcp::default().into(), 2.0 / (r * p)),
            other => panic!("{other}"),
        };
        let ecn = if ecn == "off" { Ecn::NotEct } else { Ecn::Ect0 };
        let flow = FlowSpec { ecn, delayed_acks: acks == "2", ..flow(control, rtt) };
        // 4000 signals, and as many for a scalable control's slow average.
        let rounds = (4000.0 * f64::from(period) / (law * r)) as u64;
        let settle = if cc == "dctcp" { 6 * u64::from(period) + 200 } else { 500 };
        let measure = Span::from_millis(ms * rounds);
        let ours = rate_of(flow, &random(period), Span::from_millis(ms * settle), measure) * r;
        let line = format!("{cc}, {ms} ms, 1/{period}, {ecn:?}: {theirs:.2} / {ours:.2} / {:.2}", law * r);
        eprintln!("{line}");
        if judged == "yes" && (ours / theirs - 1.0).abs() > RANDOM {
            verdict.wrong.push(line);
        }
    }
    verdict.end();
}

/// A link of 1000 packets a second and a FIFO queue of so many packets.
struct Line {
    queue: VecDeque<(u32, PacketMeta, Instant)>,
    most: usize,
    free_at: Instant,
    dropped: u64,
}

const PER_PACKET: Span = Span::from_millis(1);

impl Line {
    const fn new(most: usize) -> Self {
        Self { queue: VecDeque::new(), most, free_at: Instant::ZERO, dropped: 0 }
    }
}

impl Bottleneck for Line {
    fn on_packet(&mut self, handle: u32, meta: PacketMeta, now: Instant) -> Result<(), u32> {
        if self.queue.len() >= self.most {
            self.dropped += 1;
            return Err(handle);
        }
        self.queue.push_back((handle, meta, now));
        Ok(())
    }

    fn poll(&mut self, now: Instant) -> Option<Departure<u32>> {
        if self.free_at > now {
            return None;
        }
        let (handle, m, arrived) = self.queue.pop_front()?;
        self.free_at = now + PER_PACKET;
        let sojourn = now.since(arrived);
        Some(Departure::Forward(Packet {
            handle,
            len: m.len,
            ecn: m.ecn,
            service: Service::Classic,
            sojourn,
        }))
    }

    fn poll_timeout(&self) -> Option<Instant> {
        (!self.queue.is_empty()).then_some(self.free_at)
    }

    fn sending_time(&self, _: u16) -> Span {
        PER_PACKET
    }
}

/// Delays of the queue, in milliseconds.
#[derive(Default)]
struct Sojourns(Vec<f64>);

impl Probe for Sojourns {
    fn forwarded(&mut self, _: Service, sojourn: Span, _: Instant) {
        self.0.push(sojourn.as_millis_f64());
    }
}

/// Share of the link that is used, mean and greatest delay in round trips, and what is dropped, from the `from`th to
/// the `to`th millisecond.
fn on_a_line(control: Control, rtt_ms: u64, most: usize, from: u64, to: u64) -> (f64, f64, f64, u64) {
    let mut sim = Sim::new(Line::new(most), vec![flow(control, Span::from_millis(rtt_ms))], 1);
    sim.run_until(Instant::ZERO + Span::from_millis(from), &mut ());
    let (delivered, dropped) = (sim.stats(0).delivered, sim.bottleneck().dropped);
    let mut seen = Sojourns::default();
    sim.run_until(Instant::ZERO + Span::from_millis(to), &mut seen);
    let used = (sim.stats(0).delivered - delivered) as f64 / (to - from) as f64;
    let mean = seen.0.iter().sum::<f64>() / seen.0.len() as f64;
    let greatest = seen.0.iter().copied().fold(0.0, f64::max);
    let round_trips = |ms: f64| ms / rtt_ms as f64;
    (used, round_trips(mean), round_trips(greatest), sim.bottleneck().dropped - dropped)
}

/// Two windows' worth of the path's capacity are the most that it puts under way: a queue of one, and the three packets
/// of draft §4.2.3.3.
#[test]
fn bbr_fills_a_link_with_a_queue_of_about_a_round_trip_at_most() {
    for rtt_ms in [10, 20, 50, 100] {
        for seed in 1..=3 {
            let (used, mean, greatest, dropped) =
                on_a_line(Bbr::new(seed).into(), rtt_ms, 100_000, 5_000, 65_000);
            eprintln!(
                "bbr {rtt_ms} ms: {used:.3} used, delay {mean:.2} and at most {greatest:.2} round trips"
            );
            let most = 1.0 + 4.0 / rtt_ms as f64;
            assert!(used >= 0.95 && mean <= 0.5 && greatest <= most, "{used} {mean} {greatest}");
            assert_eq!(dropped, 0);
        }
        // A buffer of half of the path's capacity costs no more than a tenth of the rate.
        let (used, ..) = on_a_line(Bbr::new(1).into(), rtt_ms, rtt_ms as usize / 2, 5_000, 65_000);
        eprintln!("bbr {rtt_ms} ms, a buffer of half of that: {used:.3} used");
        assert!(used >= 0.90, "{rtt_ms} ms: {used}");
    }
}

/// Ten round trips' worth of buffer: slow start fills it. HyStart++ sees a rise in the first round that begins with a
/// queue, and five rounds of a quarter each add a factor of 1.25^5 = 3.05 at most.
#[test]
fn hystart_leaves_slow_start_before_the_buffer_is_full() {
    for rtt_ms in [20, 50, 100] {
        let buffer = 10 * rtt_ms as usize;
        let greatest = |control: Control| {
            let (used, _, greatest, dropped) = on_a_line(control, rtt_ms, buffer, 0, 30 * rtt_ms);
            (used, greatest, dropped)
        };
        for (name, with, without) in [
            ("cubic", Cubic::default().into(), Cubic::default().without_hystart().into()),
            ("reno", Reno::default().with_hystart().into(), Control::from(Reno::default())),
        ] {
            let (with, without) = (greatest(with), greatest(without));
            eprintln!(
                "{name} {rtt_ms} ms, used, greatest delay in round trips, dropped: {with:?}, {without:?}"
            );
            assert!(with.2 == 0 && with.1 < 8.0 && with.0 > 0.85, "{name} {rtt_ms} ms: {with:?}");
            assert!(without.2 > 0 && without.1 > 9.0, "{name} {rtt_ms} ms: {without:?}");
        }
    }
}

fn scenario(link: &str, flows: &str) -> Scenario {
    let text =
        format!("name = \"law\"\nduration = \"40s\"\nwarmup = \"10s\"\nseed = 7\n[link]\n{link}\n{flows}");
    Scenario::parse(&text, "law.toml").expect("the scenario is valid")
}

/// p' -> sqrt(1 - c/r), and the delay of the driven queue to the target.
#[test]
fn unresponsive_overload_settles_where_drops_make_up_for_it() {
    for codepoint in ["not_ect", "ect0", "ect1"] {
        for (rate, capacity) in [(62.0f64, 39.0f64), (50.0, 40.0), (80.0, 40.0)] {
            let s = scenario(
                &format!("rate = \"{capacity}Mbit\""),
                &format!("[[flow]]\nkind = \"cbr\"\nrate = \"{rate}Mbit\"\ncodepoint = \"{codepoint}\"\n"),
            );
            let report = l4sd::sim::run(&s, &Policy::DualPi2, 1).unwrap();
            let settled: Vec<f64> = report.bins.iter().filter(|b| b.t_s >= 20.0).map(|b| b.p.base).collect();
            let p = settled.iter().sum::<f64>() / settled.len() as f64;
            // ECN-capable packets are only dropped in overload, from p' = 1/2 on: below it the queue grows until then.
            let law = (1.0 - capacity / rate).sqrt();
            if codepoint == "not_ect" || law > 0.5 {
                assert!((p / law - 1.0).abs() < 0.03, "{codepoint} {rate} on {capacity}: {p} is not {law}");
                let delay = report.result.queues.all.delay_ms.mean.unwrap();
                assert!((delay - 15.0).abs() < 1.5, "{codepoint} {rate} on {capacity}: {delay} ms");
            } else {
                assert!(p >= 0.45, "{codepoint} {rate} on {capacity}: {p} is short of overload");
            }
        }
    }
}

#[test]
fn what_arrives_leaves_or_waits_and_the_same_seed_gives_the_same_bytes() {
    let s = scenario(
        "rate = \"12Mbit\"\nsteps = [{ at = \"15s\", rate = \"5Mbit\" }]",
        "[[flow]]\ncc = \"prague\"\nrtt = \"20ms\"\ncount = 2\n[[flow]]\ncc = \"cubic\"\nrtt = \"30ms\"\ncount = 2\n\
         [[flow]]\ncc = \"reno\"\necn = \"ect0\"\nrtt = \"15ms\"\n\
         [[flow]]\nkind = \"cbr\"\nrate = \"8Mbit\"\ncodepoint = \"ect1\"\nstart = \"20s\"\nstop = \"25s\"\n",
    );
    for policy in ["dualpi2", "dualpi2-linux", "pi2", "codel", "taildrop"] {
        let policy: Policy = policy.parse().unwrap();
        let once = |seed| l4sd::sim::run(&s, &policy, seed).unwrap();
        let report = once(7);
        assert_eq!(report.conservation_error, None);
        let totals = report.result.totals.all;
        assert_eq!(totals.arrived, totals.accounted());
        assert!(totals.packets > 20_000, "{policy}: {totals:?}");
        let json = |r: l4sd::report::DirectionReport| ResultFile::new(vec![r.result]).to_json();
        let bytes = json(report);
        assert_eq!(bytes, json(once(7)), "{policy}");
        assert_ne!(
            bytes,
            json(once(8)).replace("\"seed\": 8", "\"seed\": 7"),
            "{policy}: the seed does something"
        );
    }
}
