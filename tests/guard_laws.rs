//! The guard under hostile decisions.

use l4sd::aqm::params::Knobs;
use l4sd::control::Decision;
use l4sd::control::guard::{FEED_FORWARD, Guard, GuardParams};
use l4sd::time::{Instant, Span};

/// Knobs that are no numbers, out of range, in range.
fn hostile(r: &mut fastrand::Rng) -> Knobs {
    const ODD: [f64; 12] =
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1e300, 0.5, 0.66, 1.0, 1.3, 2.0, 4.0];
    let time = |r: &mut fastrand::Rng| Span::from_nanos([0, 1, u64::MAX, 5_000_000][r.usize(0..4)]);
    Knobs {
        target: time(r),
        gain: ODD[r.usize(0..12)],
        ramp_min: time(r),
        feed_forward: [ODD[r.usize(0..12)], FEED_FORWARD[r.usize(0..5)]][r.usize(0..2)],
    }
}

/// From one end of everything to the other.
fn oscillating(r: &mut fastrand::Rng, high: bool) -> Knobs {
    let time = |most| Span::from_millis(if high { most } else { 0 });
    let feed_forward = FEED_FORWARD[r.usize(0..5)];
    Knobs { target: time(99), gain: if high { 9.0 } else { 0.0 }, ramp_min: time(99), feed_forward }
}

/// What the guard promises, checked after each call.
struct Witness {
    p: GuardParams,
    before: Knobs,
    moved_at: Option<u64>,
    fired_at: Option<u64>,
    moves: u64,
}

impl Witness {
    fn see(&mut self, now_ms: u64, in_force: Knobs, put: Option<Knobs>) {
        let (p, k, was) = (&self.p, in_force, self.before);
        assert!(k.target >= p.target.0 && k.target <= p.target.1);
        assert!(k.ramp_min >= p.ramp_min.0 && k.ramp_min <= p.ramp_min.1);
        assert!(k.gain >= 0.5 && k.gain <= 8.0);
        if let Some(k) = put.filter(|k| k.feed_forward != 1.0) {
            assert!(FEED_FORWARD.contains(&k.feed_forward));
            assert!(self.fired_at.is_none_or(|at| now_ms - at >= 250));
            self.fired_at = Some(now_ms);
        }
        if k == was {
            return;
        }
        // At most a bin a move and 64 ms between moves: no interval of length t sees more than floor(t / 64 ms) + 1 bins.
        assert!(self.moved_at.is_none_or(|at| now_ms - at >= 64), "{now_ms} after {:?}", self.moved_at);
        let within = |now: f64, then: f64, bin: f64| (now / then).ln().abs() <= bin.ln() + 1e-5;
        let bin = |ratio: f64| ratio.powf(1.0 / 11.0);
        assert!(within(k.target.as_secs_f64(), was.target.as_secs_f64(), bin(25.0)));
        assert!(within(k.ramp_min.as_secs_f64(), was.ramp_min.as_secs_f64(), bin(40.0)));
        // 2 to 4 and 4 to 8 are its longest steps.
        assert!(within(k.gain, was.gain, 2.0), "{} to {}", was.gain, k.gain);
        (self.before, self.moved_at) = (k, Some(now_ms));
        self.moves += 1;
    }
}

/// Calls each 16 ms, each ms, each 7 ms, at random, some without a decision, some with one that is late or from the future:
/// always within bounds, a bin per 64 ms, a feed-forward per 250 ms.
#[test]
fn a_million_hostile_decisions() {
    type Cadence = fn(&mut fastrand::Rng) -> u64;
    type Wish = fn(&mut fastrand::Rng, u64) -> Knobs;
    let cadences: [(Cadence, u64, u64); 4] =
        [(|_| 16, 4, 400_000), (|_| 1, 64, 400_000), (|_| 7, 10, 300_000), (|r| r.u64(1..=200), 1, 300_000)];
    let wishes: [Wish; 3] =
        [|r, _| hostile(r), |r, i| oscillating(r, i % 2 == 0), |r, i| oscillating(r, i / 50 % 2 == 0)];
    let (p, mut rng) = (GuardParams::default(), fastrand::Rng::with_seed(1));
    let mut decisions = 0;
    for (gap, calls_a_bin, calls) in cadences {
        for wish in wishes {
            let mut g = Guard::new(p, Knobs::default(), Instant::ZERO);
            let mut w = Witness { p, before: Knobs::default(), moved_at: None, fired_at: None, moves: 0 };
            let (mut now, calls) = (0, calls / 3);
            for i in 1..=calls {
                now += gap(&mut rng);
                let window_end = Instant::from_millis((now + 4).saturating_sub(rng.u64(0..64)));
                let d = Decision { based_on: rng.u64(..), window_end, knobs: wish(&mut rng, i) };
                let comes = rng.u8(0..4) > 0;
                decisions += u64::from(comes);
                let put = g.step(comes.then_some(&d), Instant::from_millis(now));
                w.see(now, g.in_force(), put);
            }
            let c = g.counters();
            assert!(c.stale > 0 && c.rejected > 0 && c.admitted + c.clamped > calls / 8, "{c:?}");
            assert!(w.moves > calls / calls_a_bin / 4, "{} moves in {calls} calls: it hardly moves", w.moves);
        }
    }
    assert!(decisions > 1_000_000, "{decisions}");
}
