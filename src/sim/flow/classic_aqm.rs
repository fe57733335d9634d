//! Suspicion of a classic ECN AQM: Briscoe and Ahmed, "TCP Prague Fall-back on Detection of a Classic ECN AQM", arXiv
//! 1911.00710, version 2 of the algorithm with the constants of Linux's tcp_prague.c. Passive: the queue of an L4S AQM
//! is short and steady, that of a classic one deep and varying. Its term for senders that limit themselves is left out,
//! as in Linux.

use super::AckSample;

/// Queue variation and depth in seconds that are on the border (V0, D0).
const VARIATION: f64 = 750e-6;
const DEPTH: f64 = 2e-3;
/// Points per doubling of each (V, D).
const WEIGHT: f64 = 0.5;
/// Up to this many points the AQM counts as L4S.
const L4S: f64 = 8.0;
/// From this many it counts as classic.
const CLASSIC: f64 = L4S + 1.0;
/// More points are not kept, so that as many against it are needed as for it.
const MOST: f64 = CLASSIC + L4S;
/// Least marking share that the window is reduced by for a classic AQM: half of it is about what CUBIC reduces by.
const CLASSIC_ALPHA: f64 = 0.625;

/// The state of the detector.
#[derive(Clone, Debug)]
pub struct Detector {
    /// Slow averages, in seconds.
    mean: f64,
    deviation: f64,
    gain: f64,
    min_rtt: f64,
    points: f64,
}

impl Default for Detector {
    fn default() -> Self {
        Self { mean: 0.0, deviation: 1e-6, gain: gain(10.0), min_rtt: 0.0, points: 0.0 }
    }
}

/// Gain of the mean with a window of `packets`: its time constant is about the period of a sawtooth of Reno.
fn gain(packets: f64) -> f64 {
    let log = f64::from((packets as u32).max(1).ilog2());
    0.5f64.powi((1.5 * log) as i32 + 1)
}

impl Detector {
    pub(super) fn sample(&mut self, ack: &AckSample) {
        let rtt = ack.rtt.as_nanos() as f64 * 1e-9;
        self.min_rtt = ack.min_rtt.as_nanos() as f64 * 1e-9;
        if self.mean == 0.0 {
            self.mean = rtt;
        }
        let off = rtt - self.mean;
        self.mean += self.gain * off;
        self.deviation += self.gain / 2.0 * (off.abs() - self.deviation);
    }

    /// The window has been reduced to so many packets.
    pub(super) fn reduced(&mut self, packets: f64) {
        self.gain = gain(packets);
    }

    /// A round trip in which marks have been seen, or after one of them, is over.
    pub(super) fn judge(&mut self) {
        let variation = self.deviation.max(1e-6);
        let depth = self.mean - self.min_rtt;
        // A queue may well be deep for an L4S AQM's too, but never makes an AQM less classic.
        let points = WEIGHT * (variation / VARIATION).log2() + WEIGHT * (depth / DEPTH).max(1.0).log2();
        self.points = (self.points + points).clamp(0.0, MOST);
    }

    /// The marking share that a reduction is made by at least.
    pub(super) fn least_alpha(&self) -> f64 {
        CLASSIC_ALPHA * (self.points - L4S).clamp(0.0, CLASSIC - L4S)
    }

    /// A classic AQM is suspected.
    pub const fn suspects(&self) -> bool {
        self.points > L4S
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    /// Rounds of 50 samples whose queue is a sawtooth between two delays, one judgement after each.
    fn after(rounds: u32, low_ms: f64, high_ms: f64) -> Detector {
        let mut d = Detector::default();
        d.reduced(50.0);
        let base = 20.0;
        for round in 0..rounds {
            for i in 0..50 {
                let queue = low_ms + (high_ms - low_ms) * f64::from((round * 50 + i) % 500) / 500.0;
                let span = |ms: f64| Span::from_secs_f64(ms / 1e3);
                let ack = AckSample { rtt: span(base + queue), min_rtt: span(base), ..AckSample::default() };
                d.sample(&ack);
            }
            d.judge();
        }
        d
    }

    #[test]
    fn a_deep_and_varying_queue_is_classic_and_a_shallow_one_is_not() {
        let classic = after(100, 5.0, 25.0);
        assert!(classic.suspects(), "{classic:?}");
        assert_eq!(classic.least_alpha(), 0.625);
        let l4s = after(100, 0.0, 1.0);
        assert_eq!((l4s.points, l4s.least_alpha()), (0.0, 0.0));
    }

    /// A deviation of 3 ms and a depth of 4 ms: 0.5 lg 4 + 0.5 lg 2 = 1.5 points a round, between 8 and 9 after six.
    #[test]
    fn points_are_logarithms_of_variation_and_depth() {
        let mut d = Detector { mean: 0.024, min_rtt: 0.020, deviation: 0.003, ..Detector::default() };
        for _ in 0..5 {
            d.judge();
        }
        assert!((d.points - 7.5).abs() < 1e-9 && !d.suspects());
        d.points = 7.0;
        d.judge();
        assert!((d.least_alpha() - 0.625 * 0.5).abs() < 1e-9);
        for _ in 0..100 {
            d.judge();
        }
        assert_eq!(d.points, 17.0);
    }

    #[test]
    fn the_gain_follows_the_window() {
        assert_eq!((gain(1.0), gain(64.0), gain(100.0)), (0.5, 1.0 / 1024.0, 1.0 / 1024.0));
    }
}
