//! What needs a memory of its own. All of it counts in seconds, not in windows.

use crate::telemetry::arrivals::{ArrivalStats, BIN, BINS, BURST_BUCKETS, Bin, burst_bucket_bytes};

/// An exponentially weighted mean and variance, corrected for the time since it began: the first value counts whole.
#[derive(Copy, Clone, Debug, Default)]
pub struct Average {
    mean: f64,
    variance: f64,
}

/// The weight that a value of `dt` gets in an average with time constant `tau` that began `elapsed` before its end:
/// (1 - e^(-dt/tau)) / (1 - e^(-elapsed/tau)).
pub fn weight(dt: f64, elapsed: f64, tau: f64) -> f64 {
    let share = |t: f64| -(-t / tau).exp_m1();
    let (new, all) = (share(dt), share(elapsed.max(dt)));
    if all > 0.0 { new / all } else { 1.0 }
}

impl Average {
    /// Takes in a value with the [`weight`] that it has.
    pub fn push(&mut self, x: f64, weight: f64) {
        let off = x - self.mean;
        self.mean += weight * off;
        self.variance = (1.0 - weight) * (self.variance + weight * off * off);
    }

    /// The mean.
    pub const fn mean(&self) -> f64 {
        self.mean
    }

    /// The standard deviation.
    pub fn std(&self) -> f64 {
        self.variance.max(0.0).sqrt()
    }
}

/// Period and height of a sawtooth: the distance from peak to peak and from trough to peak. A turn counts when the value
/// has gone back by as much as its standard deviation over 4 s.
#[derive(Clone, Debug, Default)]
pub struct Sawtooth {
    level: Average,
    now: f64,
    falling: bool,
    extreme: f64,
    extreme_at: f64,
    trough: Option<f64>,
    peak_at: Option<f64>,
    period: Option<f64>,
    height: Option<f64>,
}

impl Sawtooth {
    const TAU: f64 = 4.0;
    /// A new cycle counts a quarter.
    const GAIN: f64 = 0.25;
    /// Less than this is no turn.
    const LEAST: f64 = 1e-4;

    /// A value in seconds, `dt` after the last.
    pub fn push(&mut self, x: f64, dt: f64) {
        self.now += dt;
        self.level.push(x, weight(dt, self.now, Self::TAU));
        let turn = self.level.std().max(Self::LEAST);
        let forward = if self.falling { x < self.extreme } else { x > self.extreme };
        if forward {
            (self.extreme, self.extreme_at) = (x, self.now);
        } else if (x - self.extreme).abs() > turn {
            if self.falling {
                self.trough = Some(self.extreme);
            } else {
                self.peak();
            }
            self.falling = !self.falling;
            (self.extreme, self.extreme_at) = (x, self.now);
        }
        // Without a peak for that long there is no sawtooth (any more).
        let patience = 4.0 * self.period.unwrap_or(0.0) + Self::TAU;
        if self.peak_at.is_some_and(|at| self.now - at > patience) {
            (self.peak_at, self.period, self.height) = (None, None, None);
        }
    }

    fn peak(&mut self) {
        let smooth = |old: Option<f64>, new: f64| Some(old.map_or(new, |old| old + Self::GAIN * (new - old)));
        if let Some(last) = self.peak_at {
            self.period = smooth(self.period, self.extreme_at - last);
        }
        if let Some(trough) = self.trough {
            self.height = smooth(self.height, self.extreme - trough);
        }
        self.peak_at = Some(self.extreme_at);
    }

    /// Peak to peak in seconds; 0 if there is none.
    pub fn period(&self) -> f64 {
        self.period.unwrap_or(0.0)
    }

    /// Trough to peak, in the unit of the values; 0 if there is none.
    pub fn height(&self) -> f64 {
        if self.period.is_some() { self.height.unwrap_or(0.0) } else { 0.0 }
    }
}

/// Sizes of bursts and gaps of L, fading with a time constant of a second.
#[derive(Clone, Debug)]
pub struct Spacing {
    bursts: [f64; BURST_BUCKETS],
    gaps: [f64; 3],
}

impl Default for Spacing {
    fn default() -> Self {
        Self { bursts: [0.0; BURST_BUCKETS], gaps: [0.0; 3] }
    }
}

impl Spacing {
    const TAU: f64 = 1.0;
    /// With fewer packets than this in memory nothing is said.
    const LEAST: f64 = 4.0;

    /// What was noted between two windows `dt` apart, in which `arrived` packets came.
    pub fn push(&mut self, from: &ArrivalStats, to: &ArrivalStats, arrived: f64, dt: f64) {
        let keep = (-dt / Self::TAU).exp();
        for (have, (old, new)) in self.bursts.iter_mut().zip(from.bursts.iter().zip(&to.bursts)) {
            *have = *have * keep + f64::from(new.wrapping_sub(*old));
        }
        let sum = to.gap_sum.wrapping_sub(from.gap_sum) as f64;
        let squares = to.gap_square_sum.wrapping_sub(from.gap_square_sum) as f64;
        for (have, new) in self.gaps.iter_mut().zip([arrived, sum, squares]) {
            *have = *have * keep + new;
        }
    }

    /// The bytes that nine tenths of the packets' bursts do not exceed, to a quarter of an octave.
    pub fn burst_p90(&self) -> f64 {
        let all: f64 = self.bursts.iter().sum();
        if all < Self::LEAST {
            return 0.0;
        }
        let mut below = 0.0;
        for (bucket, packets) in self.bursts.iter().enumerate() {
            if below + packets >= 0.9 * all {
                let (from, to) = burst_bucket_bytes(bucket);
                return f64::midpoint(from, to);
            }
            below += packets;
        }
        burst_bucket_bytes(BURST_BUCKETS - 1).0
    }

    /// Standard deviation of the gaps over their mean: 0 for even spacing, 1 for Poisson arrivals.
    pub fn gap_cv(&self) -> f64 {
        let [n, sum, squares] = self.gaps;
        if n < Self::LEAST || sum <= 0.0 {
            return 0.0;
        }
        (squares * n / (sum * sum) - 1.0).max(0.0).sqrt()
    }
}

/// Lags in bins: 8 to 256 ms.
const LAGS: core::ops::RangeInclusive<usize> = 2..=64;
const HISTORY: usize = 65;

/// How arrivals in L go with marks of L some time before, over 8 s: the correlation at each lag.
#[derive(Clone, Debug)]
pub struct Response {
    next: Option<u64>,
    seen: u64,
    /// Marks of the last bins, by number modulo their count.
    marks: [f64; HISTORY],
    mark: Average,
    arrival: Average,
    products: [f64; HISTORY],
}

impl Default for Response {
    fn default() -> Self {
        Self {
            next: None,
            seen: 0,
            marks: [0.0; HISTORY],
            mark: Average::default(),
            arrival: Average::default(),
            products: [0.0; HISTORY],
        }
    }
}

impl Response {
    const TAU: f64 = 8.0;
    /// Bins without which a correlation is chance: 2 s.
    const LEAST: u64 = 500;

    /// Takes in the bins that are new. Of bins that were lost with their windows nothing is made up: the history begins
    /// again behind them, and the correlations stay.
    pub fn push(&mut self, stats: &ArrivalStats) {
        let oldest = stats.bins_end.saturating_sub(BINS as u64);
        let first = match self.next {
            Some(next) if (oldest..=stats.bins_end).contains(&next) => next,
            _ => {
                self.seen = 0;
                oldest
            }
        };
        for n in first..stats.bins_end {
            self.bin(n, stats.bins[(n % BINS as u64) as usize]);
        }
        self.next = Some(stats.bins_end);
    }

    fn bin(&mut self, n: u64, bin: Bin) {
        self.seen += 1;
        let bin_s = BIN.as_secs_f64();
        let w = weight(bin_s, self.seen as f64 * bin_s, Self::TAU);
        let (marked, arrived) = (f64::from(bin.marked), f64::from(bin.arrived));
        self.mark.push(marked, w);
        self.arrival.push(arrived, w);
        self.marks[(n % HISTORY as u64) as usize] = marked;
        let off = arrived - self.arrival.mean();
        let lags = LAGS.filter(|lag| (*lag as u64) < self.seen);
        for lag in lags {
            let then = self.marks[(n.wrapping_sub(lag as u64) % HISTORY as u64) as usize];
            let product = &mut self.products[lag];
            *product += w * ((then - self.mark.mean()) * off - *product);
        }
    }

    /// The lag in seconds at which the correlation is the most negative, and that correlation with its sign changed;
    /// zeros if it is nowhere negative, or not enough was seen.
    pub fn strongest(&self) -> (f64, f64) {
        let scale = self.mark.std() * self.arrival.std();
        if self.seen < Self::LEAST || scale <= 1e-9 {
            return (0.0, 0.0);
        }
        let lag = LAGS.min_by(|a, b| self.products[*a].total_cmp(&self.products[*b])).unwrap_or(0);
        let strength = (-self.products[lag] / scale).clamp(0.0, 1.0);
        if strength > 0.0 { (lag as f64 * BIN.as_secs_f64(), strength) } else { (0.0, 0.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step from 0 to 1 with time constant 1 s: 1 - 1/e after a second, whatever the steps are; from the beginning,
    /// the mean of what there was.
    #[test]
    fn averages_count_in_seconds() {
        for dt in [0.004, 0.016, 0.1] {
            let mut a = Average::default();
            let n = (1.0 / dt) as usize;
            let mut t = 1000.0;
            for _ in 0..n {
                t += dt;
                a.push(1.0, weight(dt, t, 1.0));
            }
            let after = 1.0 - (-(n as f64) * dt).exp();
            assert!((a.mean() - after).abs() < 1e-9, "{dt}: {}", a.mean());
            assert!((a.std() - (after * (1.0 - after)).sqrt()).abs() < 1e-9, "{dt}: {}", a.std());
        }
        let mut a = Average::default();
        a.push(7.0, weight(0.016, 0.016, 16.0));
        assert_eq!((a.mean(), a.std()), (7.0, 0.0));
        a.push(9.0, weight(0.016, 0.032, 16.0));
        assert!((a.mean() - 8.0).abs() < 1e-3 && (a.std() - 1.0).abs() < 1e-3);
    }

    /// Rises for .8 s, falls for .2 s, by 6 ms; with a ripple of half a millisecond.
    #[test]
    fn a_sawtooth_has_its_period_and_height() {
        for dt in [0.004, 0.016] {
            let mut s = Sawtooth::default();
            for i in 0..(20.0 / dt) as usize {
                let t = i as f64 * dt;
                let phase = t % 1.0;
                let tooth = if phase < 0.8 { phase / 0.8 } else { (1.0 - phase) / 0.2 };
                s.push(0.01 + 0.006 * tooth + 0.000_25 * (40.0 * t).sin(), dt);
            }
            assert!((s.period() - 1.0).abs() < 0.05, "{dt}: {}", s.period());
            assert!((s.height() - 0.006).abs() < 0.000_6, "{dt}: {}", s.height());
            for _ in 0..(9.0 / dt) as usize {
                s.push(0.01, dt);
            }
            assert_eq!((s.period(), s.height()), (0.0, 0.0), "it ended");
        }
    }

    #[test]
    fn spacing_tells_poisson_from_even_and_finds_the_burst_among_smooth_packets() {
        let mut s = Spacing::default();
        assert_eq!((s.burst_p90(), s.gap_cv()), (0.0, 0.0));
        // Even gaps of 1000 units; Poisson has twice the square of the mean as its mean square.
        let mut to =
            ArrivalStats { gap_sum: 100_000, gap_square_sum: 100_000_000, ..ArrivalStats::default() };
        s.push(&ArrivalStats::default(), &to, 100.0, 0.016);
        assert_eq!(s.gap_cv(), 0.0);
        to.gap_square_sum *= 2;
        let mut s = Spacing::default();
        // 88 packets alone and 12 in one burst of bucket 20: the ninetieth percentile is among the latter.
        (to.bursts[7], to.bursts[20]) = (88, 12);
        s.push(&ArrivalStats::default(), &to, 100.0, 0.016);
        assert!((s.gap_cv() - 1.0).abs() < 1e-9);
        let (from, until) = burst_bucket_bytes(20);
        assert_eq!(s.burst_p90(), f64::midpoint(from, until));
    }

    /// Arrivals that fall by half of the marks of 60 ms before, with noise on both.
    #[test]
    fn the_response_has_the_lag_of_the_sender() {
        for lag in [2usize, 15, 60] {
            let mut rng = fastrand::Rng::with_seed(5);
            let mut r = Response::default();
            let mut stats = ArrivalStats::default();
            let mut marks = vec![0u32; 100];
            for n in 0..4000u64 {
                let marked = rng.u32(0..10);
                marks.push(marked);
                let then = marks[marks.len() - 1 - lag];
                stats.bins[(n % BINS as u64) as usize] =
                    Bin { arrived: 20 + rng.u32(0..6) - then / 2, marked };
                stats.bins_end = n + 1;
                if n % 4 == 3 {
                    r.push(&stats);
                }
            }
            let (got, strength) = r.strongest();
            assert!((got - lag as f64 * 0.004).abs() < 1e-9, "{lag}: {got}");
            assert!((0.5..=1.0).contains(&strength), "{strength}");
        }
    }

    #[test]
    fn bins_lost_for_longer_than_a_window_carries_are_not_made_up() {
        let mut r = Response::default();
        let stats = |end| ArrivalStats { bins_end: end, ..ArrivalStats::default() };
        r.push(&stats(100));
        assert_eq!(r.seen, BINS as u64);
        r.push(&stats(120));
        assert_eq!(r.seen, BINS as u64 + 20);
        r.push(&stats(400));
        assert_eq!(r.seen, BINS as u64);
        assert_eq!(r.strongest(), (0.0, 0.0));
    }
}
