//! The guard under hostile decisions.

use l4sd::aqm::params::Knobs;
use l4sd::control::Decision;
use l4sd::control::guard::{FEED_FORWARD, Guard, GuardParams};
use l4sd::time::{Instant, Span};

/// A call each 16 ms: within bounds, at most a bin per 64 ms, a feed-forward at most each 250 ms.
#[test]
fn a_million_hostile_decisions() {
    const ODD: [f64; 9] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1e300, 0.5, 2.0, 4.0];
    let (p, mut rng) = (GuardParams::default(), fastrand::Rng::with_seed(1));
    let mut g = Guard::new(p, Knobs::default(), Instant::ZERO);
    let (mut anchor, mut fired) = (Knobs::default(), None::<u64>);
    let within = |now: f64, then: f64, ratio: f64| {
        let bin = ratio.powf(1.0 / 11.0) * (1.0 + 1e-5);
        now.is_finite() && now <= then * bin && now >= then / bin
    };
    for i in 1..=1_000_000_u64 {
        let now = Instant::from_millis(16 * i);
        let time = |r: &mut fastrand::Rng| Span::from_nanos([0, 1, u64::MAX, 5_000_000][r.usize(0..4)]);
        let knobs = Knobs {
            target: time(&mut rng),
            gain: ODD[rng.usize(0..9)],
            ramp_min: time(&mut rng),
            feed_forward: ODD[rng.usize(0..9)],
        };
        let window_end = Instant::from_millis((16 * i).saturating_sub(rng.u64(0..64)));
        let d = Decision { based_on: rng.u64(..), window_end, knobs };
        let out = g.step((rng.u8(0..4) > 0).then_some(&d), now);
        if let Some(k) = out.filter(|k| k.feed_forward != 1.0) {
            assert!(FEED_FORWARD.contains(&k.feed_forward));
            assert!(fired.is_none_or(|at| 16 * i - at >= 250));
            fired = Some(16 * i);
        }
        let k = g.in_force();
        assert!(k.target >= p.target.0 && k.target <= p.target.1);
        assert!(k.ramp_min >= p.ramp_min.0 && k.ramp_min <= p.ramp_min.1);
        assert!(k.gain >= p.gain.0 && k.gain <= p.gain.1);
        assert!(within(k.target.as_secs_f64(), anchor.target.as_secs_f64(), 25.0));
        assert!(within(k.ramp_min.as_secs_f64(), anchor.ramp_min.as_secs_f64(), 40.0));
        assert!(within(k.gain, anchor.gain, 4.0));
        if i % 4 == 0 {
            anchor = k;
        }
    }
}
