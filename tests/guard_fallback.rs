//! The law of bumpless fallback: when a policy dies, p' goes on from where it was, one step of RFC 9332 at a time, and the C
//! queue is soon that of RFC 9332's target.

use l4sd::aqm::Service;
use l4sd::aqm::params::Knobs;
use l4sd::config::Policy;
use l4sd::control::Decision;
use l4sd::control::guard::{Guard, GuardParams, State};
use l4sd::sim::Scenario;
use l4sd::sim::engine::Probe;
use l4sd::sim::run::simulation;
use l4sd::time::{Instant, Span};

const UPDATE_MS: u64 = 16;
const BIN_MS: u64 = 100;
/// From a window's end to the arrival of the decision made of it, before the next ends.
const LATENCY: Span = Span::from_millis(5);
/// A multiple of the update interval.
const DEATH_MS: u64 = 60_000;

/// Sum and number of C delays per bin.
struct Bins(Vec<(f64, f64)>);

impl Probe for Bins {
    fn forwarded(&mut self, service: Service, sojourn: Span, now: Instant) {
        let bin = &mut self.0[(now.as_nanos() / 1_000_000 / BIN_MS) as usize];
        if service == Service::Classic {
            *bin = (bin.0 + sojourn.as_millis_f64(), bin.1 + 1.0);
        }
    }
}

/// An update of p'.
struct Update {
    at_ms: u64,
    /// After it.
    p: f64,
    /// The longer of both head delays, in s.
    q: f64,
    /// In force at the update.
    knobs: Knobs,
    /// After it.
    state: State,
}

/// A policy that wants `knobs` until it dies, in front of a link, for 12 s more: updates, and mean C delays per bin in ms.
fn run(flows: &str, knobs: Knobs, seed: u64) -> (Vec<Update>, Vec<f64>) {
    let end_ms = DEATH_MS + 12_000;
    let text = format!("name = \"f\"\nduration = \"{end_ms}ms\"\n[link]\nrate = \"40Mbit\"\n{flows}");
    let scenario = Scenario::parse(&text, "f.toml").expect("the scenario is valid");
    let mut sim = simulation(&scenario, &Policy::DualPi2, seed);
    let mut guard = Guard::new(GuardParams::default(), Knobs::default(), Instant::ZERO);
    let mut bins = Bins(vec![(0.0, 0.0); (end_ms / BIN_MS) as usize + 1]);
    let mut under_way: Option<Decision> = None;
    let mut updates = Vec::new();
    for id in 1..=end_ms / UPDATE_MS {
        let now = Instant::from_millis(id * UPDATE_MS);
        if let Some(decision) = under_way.take() {
            let at = decision.window_end + LATENCY;
            sim.run_until(at, &mut bins);
            if let Some(knobs) = guard.step(Some(&decision), at) {
                sim.bottleneck().apply(&knobs, at);
            }
        }
        sim.run_until(now, &mut bins);
        let window = sim.bottleneck().take_window(now);
        let [l, c] = window.egress.head_delay;
        let in_force = guard.in_force();
        if let Some(knobs) = guard.step(None, now) {
            sim.bottleneck().apply(&knobs, now);
        }
        updates.push(Update {
            at_ms: id * UPDATE_MS,
            p: window.egress.p.base,
            q: l.max(c).as_secs_f64(),
            knobs: in_force,
            state: guard.state(),
        });
        if id * UPDATE_MS < DEATH_MS {
            under_way = Some(Decision { based_on: id, window_end: now, knobs });
        }
    }
    (updates, bins.0.iter().map(|(sum, n)| sum / n.max(1.0)).collect())
}

/// RFC 9332 Appendix A figure 8, by hand: alpha = .16 Hz, beta = 3.2 Hz, both times the gain.
fn one_step(before: &Update, after: &Update) -> f64 {
    let k = &after.knobs;
    let delta = 0.16 * (after.q - k.target.as_secs_f64()) + 3.2 * (after.q - before.q);
    (before.p + k.gain * delta).clamp(0.0, 1.0)
}

#[test]
fn a_policy_that_dies_leaves_no_bump() {
    let cubic = "[[flow]]\ncc = \"cubic\"\nrtt = \"20ms\"\n";
    let both = format!("{cubic}[[flow]]\ncc = \"prague\"\nrtt = \"20ms\"\n");
    // 40 ms are more than the guard admits: 25 ms are in force then.
    for (flows, asked_ms, held_ms, gain) in
        [(&both[..], 5, 5, 1.0), (&both, 40, 25, 1.0), (cubic, 5, 5, 0.5), (cubic, 40, 25, 1.4)]
    {
        for seed in 1..=2 {
            let knobs = Knobs { target: Span::from_millis(asked_ms), gain, ..Knobs::default() };
            let (updates, bins) = run(flows, knobs, seed);
            let died = updates.iter().position(|u| u.at_ms == DEATH_MS).expect("it is an update's time");
            let fell = updates.iter().rposition(|u| u.state == State::Model).expect("it was followed") + 1;
            let home =
                fell + updates[fell..].iter().position(|u| u.knobs == Knobs::default()).expect("in 12 s");
            let name = format!("{asked_ms} ms, gain {gain}, seed {seed}");
            assert_eq!(updates[died].knobs.target, Span::from_millis(held_ms), "{name}");
            assert_eq!((updates[died].knobs.gain, updates[died].state), (gain, State::Model), "{name}");
            // The last window that it saw ended at 59.984 s; 32 ms later that is as old as it may be.
            assert_eq!(updates[fell].at_ms, DEATH_MS + 32, "{name}");
            assert!(updates[died].p > 0.0, "{name}: p' is 0 and no bump would show");
            for n in died..=home + 60 {
                let (before, after) = (&updates[n - 1], &updates[n]);
                let want = one_step(before, after);
                assert!(
                    (after.p - want).abs() <= 1e-12,
                    "{name}: p' at {} ms: {} is not {want}",
                    after.at_ms,
                    after.p
                );
            }
            let bin = |ms: u64| (ms / BIN_MS) as usize;
            let mean = |from, to| bins[bin(from)..bin(to)].iter().sum::<f64>() / (bin(to) - bin(from)) as f64;
            let (held, home_ms) = (mean(DEATH_MS - 40_000, DEATH_MS), updates[home].at_ms);
            let late = bins[bin(DEATH_MS + 1000)..bin(DEATH_MS + 12_000)].iter().copied().fold(0.0, f64::max);
            let after = mean(DEATH_MS + 2000, DEATH_MS + 12_000);
            eprintln!(
                "{name}: {held:.1} ms before, defaults at {home_ms} ms, then {after:.1} ms, {late:.1} at most"
            );
            assert!((home_ms - DEATH_MS) < 600, "{name}");
            assert!(late <= 30.0, "{name}: {late} ms 1 s after its death");
            assert!((held / held_ms as f64 - 1.0).abs() < 0.25, "{name}: {held} ms while it lived");
            assert!((after / 15.0 - 1.0).abs() < 0.15, "{name}: {after} ms after its death");
        }
    }
}
