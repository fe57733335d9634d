//! The base probability p' (RFC 9332 §2.4 and Appendix A figure 8): a PI controller in velocity form, on the p' that is
//! applied. There is no second copy of p' to wind up: whoever changes the target or the gains continues from where
//! the queue is.

use super::params::{PiArithmetic, PiParams};
use crate::time::{Instant, Span};

/// The controller.
#[derive(Clone, Debug)]
pub struct Pi2 {
    params: PiParams,
    gain: f64,
    p: State,
    previous: Span,
    next_update: Instant,
}

#[derive(Copy, Clone, Debug)]
enum State {
    Float(f64),
    /// p' = value / (2^32 - 1), moved by `alpha` and `beta` per nanosecond, 1/64 units.
    LinuxU32 {
        p: u32,
        alpha: i64,
        beta: i64,
    },
}

/// Linux keeps gains as integers per 256 and scales them to 2^32 - 1 per nanosecond with 6 bits to spare.
fn linux_gain(hz: f64) -> i64 {
    let per_256 = (hz * 256.0).round() as i64;
    per_256 * i64::from(u32::MAX) / 4 / 1_000_000_000
}

impl Pi2 {
    /// p' = 0; the first update is due at the first grid point after the origin of time.
    pub fn new(params: PiParams) -> Self {
        let p = match params.arithmetic {
            PiArithmetic::Float => State::Float(0.0),
            PiArithmetic::LinuxU32 => {
                State::LinuxU32 { p: 0, alpha: linux_gain(params.alpha), beta: linux_gain(params.beta) }
            }
        };
        Self { params, gain: 1.0, p, previous: Span::ZERO, next_update: Instant::ZERO + params.t_update }
    }

    /// p' in 0..=1.
    pub fn p(&self) -> f64 {
        match self.p {
            State::Float(p) => p,
            State::LinuxU32 { p, .. } => f64::from(p) / f64::from(u32::MAX),
        }
    }

    /// p' as Linux holds it, in 1/(2^32 - 1); `None` under float arithmetic.
    pub const fn p_u32(&self) -> Option<u32> {
        match self.p {
            State::Float(_) => None,
            State::LinuxU32 { p, .. } => Some(p),
        }
    }

    /// When the next update is due.
    pub const fn next_update(&self) -> Instant {
        self.next_update
    }

    /// Target and gain scale for the updates to come. p' stays.
    pub fn retune(&mut self, target: Span, gain: f64) {
        self.params.target = target;
        self.gain = gain;
    }

    /// Other constants for the updates to come: target and gains. Gain scale, p' and the update interval stay.
    pub fn set_constants(&mut self, to: &PiParams) {
        self.params = PiParams { t_update: self.params.t_update, arithmetic: self.params.arithmetic, ..*to };
        if let State::LinuxU32 { alpha, beta, .. } = &mut self.p {
            (*alpha, *beta) = (linux_gain(to.alpha), linux_gain(to.beta));
        }
    }

    /// Multiplies p' once, within 0..=1.
    pub fn feed_forward(&mut self, factor: f64) {
        match &mut self.p {
            State::Float(p) => *p = (*p * factor).clamp(0.0, 1.0),
            State::LinuxU32 { p, .. } => *p = (f64::from(*p) * factor).clamp(0.0, f64::from(u32::MAX)) as u32,
        }
    }

    /// Makes every update that is due at `now`, on the absolute grid, each with the delay that the queues had at its
    /// time. `delay` is asked for the head delay at a grid point; it must not change between calls, which holds
    /// because drivers call this before they touch a queue. Returns whether p' may have changed.
    #[inline]
    pub fn advance(&mut self, now: Instant, delay: impl Fn(Instant) -> Span) -> bool {
        let due = self.next_update <= now;
        if due {
            self.catch_up(now, delay);
        }
        due
    }

    #[cold]
    #[inline(never)]
    fn catch_up(&mut self, now: Instant, delay: impl Fn(Instant) -> Span) {
        while self.next_update <= now {
            let at = self.next_update;
            let d = delay(at);
            if d == Span::ZERO && self.previous == Span::ZERO && self.p() == 0.0 {
                // Idle and at rest: nothing changes until a packet waits, so skip to the last grid point.
                let step = self.params.t_update.as_nanos();
                let skipped = now.since(at).as_nanos() / step;
                let last = at + Span::from_nanos(skipped * step);
                if delay(last) == Span::ZERO {
                    self.next_update = last + self.params.t_update;
                    break;
                }
            }
            self.update(d);
            self.next_update = at + self.params.t_update;
        }
    }

    /// One step: p' += alpha (d - target) + beta (d - d_previous), clamped into 0..=1.
    fn update(&mut self, d: Span) {
        match &mut self.p {
            State::Float(p) => {
                let d_s = d.as_secs_f64();
                let delta = self.params.alpha * (d_s - self.params.target.as_secs_f64())
                    + self.params.beta * (d_s - self.previous.as_secs_f64());
                *p = (*p + self.gain * delta).clamp(0.0, 1.0);
            }
            State::LinuxU32 { p, alpha, beta } => {
                let ns = |s: Span| i64::try_from(s.as_nanos()).unwrap_or(i64::MAX).min(10_000_000_000);
                let delta = (ns(d) - ns(self.params.target)) * *alpha + (ns(d) - ns(self.previous)) * *beta;
                let moved = i64::from(*p) + delta / 64;
                *p = moved.clamp(0, i64::from(u32::MAX)) as u32;
            }
        }
        self.previous = d;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// d in ms, p', p_C, p_CL, Linux u32: the vector table of the project's reference page §1.7, from RFC 9332
    /// Appendix A figure 8 and Linux `calculate_probability`.
    const VECTORS: [(u64, f64, u32); 10] = [
        (0, 0.0, 0),
        (5, 0.014400, 61_796_875),
        (20, 0.063200, 271_250_000),
        (35, 0.114400, 491_015_625),
        (30, 0.100800, 432_656_250),
        (25, 0.086400, 370_859_375),
        (15, 0.054400, 233_515_625),
        (10, 0.037600, 161_406_250),
        (0, 0.003200, 13_750_000),
        (0, 0.000800, 3_437_500),
    ];

    fn grid(i: usize) -> Instant {
        Instant::from_millis(16 * (i as u64 + 1))
    }

    #[test]
    fn rfc9332_figure_8_vectors() {
        let mut pi = Pi2::new(PiParams::default());
        for (i, &(ms, p, _)) in VECTORS.iter().enumerate() {
            pi.advance(grid(i), |_| Span::from_millis(ms));
            assert!((pi.p() - p).abs() < 1e-9, "sample {i}: {} != {p}", pi.p());
        }
    }

    #[test]
    fn linux_fixed_point_vectors() {
        let mut pi = Pi2::new(PiParams { arithmetic: PiArithmetic::LinuxU32, ..PiParams::default() });
        assert!(matches!(pi.p, State::LinuxU32 { alpha: 44, beta: 879, .. }), "{:?}", pi.p);
        for (i, &(ms, _, u)) in VECTORS.iter().enumerate() {
            pi.advance(grid(i), |_| Span::from_millis(ms));
            assert_eq!(pi.p_u32(), Some(u), "sample {i}");
        }
    }

    /// Reference §1.7: constant 100 ms: 0.3336, then +0.0136 a sample; p' >= 0.5 at the 14th.
    #[test]
    fn constant_100_ms_reaches_half_at_the_14th_sample() {
        let mut pi = Pi2::new(PiParams::default());
        let p: Vec<f64> = (0..14)
            .map(|i| {
                pi.advance(grid(i), |_| Span::from_millis(100));
                pi.p()
            })
            .collect();
        assert!((p[0] - 0.3336).abs() < 1e-9);
        assert!((p[1] - p[0] - 0.0136).abs() < 1e-9);
        assert!(p[12] < 0.5 && p[13] >= 0.5, "{p:?}");
    }

    #[test]
    fn constant_200_ms_is_overload_at_once() {
        let mut pi = Pi2::new(PiParams::default());
        pi.advance(grid(0), |_| Span::from_millis(200));
        assert!((pi.p() - 0.6696).abs() < 1e-9, "{}", pi.p());
    }

    /// Late calls make the same updates as punctual ones.
    #[test]
    fn a_late_call_catches_up_on_the_grid() {
        let delay = |at: Instant| at.since(Instant::from_millis(20));
        let mut punctual = Pi2::new(PiParams::default());
        for i in 0..20 {
            punctual.advance(grid(i), delay);
        }
        let mut late = Pi2::new(PiParams::default());
        late.advance(Instant::from_millis(16 * 20 + 3), delay);
        assert_eq!(punctual.p(), late.p());
        assert_eq!(late.next_update(), Instant::from_millis(16 * 21));
    }

    /// An hour of silence costs no hour of updates, and keeps the grid.
    #[test]
    fn idle_time_is_skipped_on_the_grid() {
        let mut pi = Pi2::new(PiParams::default());
        let asked = std::cell::Cell::new(0);
        pi.advance(Instant::from_millis(3_600_000 + 5), |_| {
            asked.set(asked.get() + 1);
            Span::ZERO
        });
        assert!(asked.get() <= 4, "{}", asked.get());
        assert_eq!(pi.next_update(), Instant::from_millis(3_600_016));
    }

    /// p' falls by alpha x target = 0.0024 an update while idle.
    #[test]
    fn idle_decay_is_alpha_times_target() {
        let mut pi = Pi2::new(PiParams::default());
        pi.advance(grid(0), |_| Span::from_millis(200));
        let start = pi.p();
        pi.advance(grid(1), |_| Span::ZERO);
        let after_drop = pi.p();
        assert!((start - after_drop - (0.0024 + 3.2 * 0.2)).abs() < 1e-9);
        let mut pi = Pi2::new(PiParams::default());
        pi.feed_forward(1.0);
        pi.p = State::Float(0.6);
        for i in 0..10 {
            pi.advance(grid(i), |_| Span::ZERO);
        }
        assert!((pi.p() - (0.6 - 0.024)).abs() < 1e-9);
    }

    #[test]
    fn retuning_moves_the_next_step_only() {
        let mut pi = Pi2::new(PiParams::default());
        pi.advance(grid(0), |_| Span::from_millis(50));
        let p = pi.p();
        pi.retune(Span::from_millis(5), 2.0);
        assert_eq!(pi.p(), p);
        pi.advance(grid(1), |_| Span::from_millis(50));
        assert!((pi.p() - (p + 2.0 * 0.16 * 0.045)).abs() < 1e-12);
        pi.feed_forward(0.25);
        assert!((pi.p() - (p + 2.0 * 0.16 * 0.045) / 4.0).abs() < 1e-12);
    }
}
