//! Links that are drawn by a rule. Each rule gives rates on a fixed time grid, so that one run's link is a short list.

use fastrand::Rng;

use super::{Step, rate_of};
use crate::time::Span;
use crate::units::BitRate;

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Generator {
    /// Between two rates in equal parts of a period: RFC 7928 §8.2.6. The shaper is told.
    Square {
        /// First half.
        high: BitRate,
        /// Second half.
        low: BitRate,
        /// Both halves.
        period: Span,
    },
    /// A random walk of the logarithm, reflected at the bounds.
    Walk {
        /// Least rate.
        min: BitRate,
        /// Most.
        max: BitRate,
        /// Time between moves.
        every: Span,
        /// Standard deviation of a move of ln(rate).
        sigma: f64,
    },
    /// Two states with exponentially distributed stays: Gilbert (1960), Elliott (1963), of capacity in place of loss.
    Gilbert {
        /// Rate of the good state, which it begins in.
        good: BitRate,
        /// Rate of the bad state.
        bad: BitRate,
        /// Mean stay in the good state.
        good_for: Span,
        /// Mean stay in the bad state.
        bad_for: Span,
    },
    /// Like a moving terminal: ln(rate) is the sum of two Ornstein-Uhlenbeck processes, shadowing (2 s) and fading
    /// (60 ms), every 20 ms. The time mean is near `mean`; clipped to 1/20 and 4 times of it.
    Cellular {
        /// Mean rate.
        mean: BitRate,
        /// Standard deviation of ln(rate) from shadowing; fading has half of it.
        sigma: f64,
    },
    /// Like a low-orbit satellite link: every 15 s a new rate, which sinks by a third until the next, after a tenth of
    /// a second at a twentieth.
    Starlink {
        /// Mean rate.
        mean: BitRate,
        /// Standard deviation of ln(rate) between slots.
        sigma: f64,
    },
}

/// The interval between reconfigurations of a satellite link.
const SLOT: Span = Span::from_secs(15);
/// How long a reconfiguration takes.
const HANDOVER: Span = Span::from_millis(100);
const FADING: Span = Span::from_millis(20);
const SHADOWING_S: f64 = 2.0;
const FADING_S: f64 = 0.06;
const SAW: Span = Span::from_millis(100);

/// A draw from the standard normal distribution (Box and Muller).
pub(crate) fn normal(rng: &mut Rng) -> f64 {
    let u = 1.0 - rng.f64();
    (-2.0 * u.ln()).sqrt() * (core::f64::consts::TAU * rng.f64()).cos()
}

/// A draw from the exponential distribution of this mean.
pub(crate) fn exponential(mean: f64, rng: &mut Rng) -> f64 {
    -mean * (1.0 - rng.f64()).ln()
}

impl Generator {
    /// The shaper is not told of the changes.
    pub const fn is_hidden(&self) -> bool {
        !matches!(self, Self::Square { .. })
    }

    /// The mean, roughly.
    pub fn nominal(&self) -> BitRate {
        let mid = |a: &BitRate, b: &BitRate, share: f64| {
            rate_of(a.as_bps() as f64 * share + b.as_bps() as f64 * (1.0 - share))
        };
        match self {
            Self::Square { high, low, .. } => mid(high, low, 0.5),
            Self::Walk { min, max, .. } => mid(min, max, 0.5),
            Self::Gilbert { good, bad, good_for, bad_for } => {
                mid(good, bad, good_for.as_secs_f64() / (*good_for + *bad_for).as_secs_f64())
            }
            Self::Cellular { mean, .. } | Self::Starlink { mean, .. } => *mean,
        }
    }

    /// Rates from 0 to `duration`, each times `scale`.
    pub fn steps(&self, duration: Span, scale: f64, rng: &mut Rng) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut push = |at: Span, bps: f64| steps.push(Step { at, rate: rate_of(bps * scale) });
        let bps = |rate: &BitRate| rate.as_bps() as f64;
        match self {
            Self::Square { high, low, period } => {
                let half = period.as_nanos() / 2;
                for (i, at) in (0..duration.as_nanos()).step_by(half.max(1) as usize).enumerate() {
                    push(Span::from_nanos(at), bps(if i % 2 == 0 { high } else { low }));
                }
            }
            Self::Walk { min, max, every, sigma } => {
                let (low, high) = (bps(min).ln(), bps(max).ln());
                let mut x = f64::midpoint(low, high);
                for at in (0..duration.as_nanos()).step_by(every.as_nanos().max(1) as usize) {
                    push(Span::from_nanos(at), x.exp());
                    x += sigma * normal(rng);
                    x = if x > high { 2.0 * high - x } else { x };
                    x = if x < low { 2.0 * low - x } else { x };
                    x = x.clamp(low, high);
                }
            }
            Self::Gilbert { good, bad, good_for, bad_for } => {
                let (mut at, mut is_good) = (Span::ZERO, true);
                while at < duration {
                    let (rate, stay) = if is_good { (good, good_for) } else { (bad, bad_for) };
                    push(at, bps(rate));
                    at = at + Span::from_secs_f64(exponential(stay.as_secs_f64(), rng).max(0.001));
                    is_good = !is_good;
                }
            }
            Self::Cellular { mean, sigma } => {
                // The mean of exp(x) is exp(variance / 2), of a variance of 1 + 1/4 sigma squared.
                let centre = bps(mean).ln() - 0.625 * sigma * sigma;
                let mut shadowing = Ornstein::new(SHADOWING_S, *sigma, rng);
                let mut fading = Ornstein::new(FADING_S, sigma / 2.0, rng);
                for at in (0..duration.as_nanos()).step_by(FADING.as_nanos() as usize) {
                    let x = (centre + shadowing.x + fading.x).exp();
                    push(Span::from_nanos(at), x.clamp(bps(mean) / 20.0, bps(mean) * 4.0));
                    shadowing.advance(FADING.as_secs_f64(), rng);
                    fading.advance(FADING.as_secs_f64(), rng);
                }
            }
            Self::Starlink { mean, sigma } => {
                let shift = Span::from_nanos(rng.u64(0..SLOT.as_nanos()));
                let level = |rng: &mut Rng| bps(mean) * (sigma * normal(rng) - sigma * sigma / 2.0).exp();
                let mut slot_level = level(rng);
                let mut slot = 0;
                for at in (0..duration.as_nanos()).step_by(SAW.as_nanos() as usize) {
                    let into = at + shift.as_nanos();
                    if into / SLOT.as_nanos() != slot {
                        slot = into / SLOT.as_nanos();
                        slot_level = level(rng);
                    }
                    let in_slot = into % SLOT.as_nanos();
                    let sunk = in_slot as f64 / SLOT.as_nanos() as f64 / 3.0;
                    let factor =
                        if in_slot < HANDOVER.as_nanos() && at > 0 { 0.05 } else { 7.0 / 6.0 - sunk };
                    push(Span::from_nanos(at), slot_level * factor);
                }
            }
        }
        steps
    }
}

/// An Ornstein-Uhlenbeck process in its stationary state, advanced exactly.
struct Ornstein {
    x: f64,
    time_s: f64,
    sigma: f64,
}

impl Ornstein {
    fn new(time_s: f64, sigma: f64, rng: &mut Rng) -> Self {
        Self { x: sigma * normal(rng), time_s, sigma }
    }

    fn advance(&mut self, dt_s: f64, rng: &mut Rng) {
        let kept = (-dt_s / self.time_s).exp();
        self.x = self.x * kept + self.sigma * (1.0 - kept * kept).sqrt() * normal(rng);
    }
}

#[cfg(test)]
mod tests {
    use super::super::mean as time_mean;
    use super::*;

    const LONG: Span = Span::from_secs(2000);

    fn mbps(steps: &[Step]) -> f64 {
        time_mean(steps, LONG).as_mbps_f64()
    }

    #[test]
    fn a_square_wave_is_told_and_exact() {
        let g = Generator::Square {
            high: BitRate::from_mbps(100),
            low: BitRate::from_mbps(10),
            period: Span::from_secs(40),
        };
        let steps = g.steps(Span::from_secs(50), 1.0, &mut Rng::with_seed(1));
        let seen: Vec<_> =
            steps.iter().map(|s| (s.at.as_nanos() / 1_000_000_000, s.rate.as_mbps_f64())).collect();
        assert_eq!(seen, [(0, 100.0), (20, 10.0), (40, 100.0)]);
        assert!(!g.is_hidden());
    }

    /// Means over a long time, bounds, and that a seed is a link.
    #[test]
    fn drawn_links_have_the_means_and_bounds_of_their_rules() {
        let mean = BitRate::from_mbps(20);
        let gilbert = Generator::Gilbert {
            good: BitRate::from_mbps(30),
            bad: BitRate::from_mbps(5),
            good_for: Span::from_secs(3),
            bad_for: Span::from_secs(2),
        };
        let walk = Generator::Walk {
            min: BitRate::from_mbps(5),
            max: BitRate::from_mbps(50),
            every: Span::from_millis(100),
            sigma: 0.1,
        };
        let cellular = Generator::Cellular { mean, sigma: 0.5 };
        let starlink = Generator::Starlink { mean, sigma: 0.3 };
        // 30 x 3/5 + 5 x 2/5 = 20; ln-uniform on 5..50 has the mean 45/ln 10 = 19.5.
        for (g, want, share) in
            [(&gilbert, 20.0, 0.05), (&walk, 19.5, 0.1), (&cellular, 20.0, 0.07), (&starlink, 20.0, 0.1)]
        {
            let draw = |seed| g.steps(LONG, 1.0, &mut Rng::with_seed(seed));
            let steps = draw(7);
            assert!((mbps(&steps) / want - 1.0).abs() < share, "{g:?}: {}", mbps(&steps));
            assert_eq!(steps, draw(7));
            assert_ne!(steps, draw(8));
            assert!(steps.windows(2).all(|w| w[0].at < w[1].at) && steps[0].at == Span::ZERO);
        }
        let rates: Vec<_> =
            walk.steps(LONG, 1.0, &mut Rng::with_seed(3)).iter().map(|s| s.rate.as_mbps_f64()).collect();
        assert!(rates.iter().all(|r| (5.0..=50.0).contains(r)));
        assert!(
            rates.iter().any(|&r| r < 6.0) && rates.iter().any(|&r| r > 45.0),
            "the walk sees all of its range"
        );
    }
}
