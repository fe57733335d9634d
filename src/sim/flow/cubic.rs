//! CUBIC: RFC 9438, with the slow start of RFC 9406 (RFC 9438 §4.10).

use super::hystart::HyStart;
use super::{AckSample, INITIAL_WINDOW};
use crate::time::Instant;

/// RFC 9438 §5.
const C: f64 = 0.4;
/// RFC 9438 §4.6.
const BETA: f64 = 0.7;
/// RFC 9438 §4.3: what makes AIMD with [`BETA`] as fast as Reno.
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// The state of CUBIC, in packets and seconds.
#[derive(Clone, Debug)]
pub struct Cubic {
    cwnd: f64,
    ssthresh: f64,
    w_max: f64,
    cwnd_prior: f64,
    epoch: Option<Epoch>,
    fast_convergence: bool,
    /// Until the first slow start is over.
    hystart: Option<HyStart>,
    last_ack: Instant,
}

/// A stage of congestion avoidance, from its beginning.
#[derive(Clone, Debug)]
struct Epoch {
    start: Instant,
    /// Time from the start until the window is back at the plateau.
    k: f64,
    plateau: f64,
    w_est: f64,
}

impl Default for Cubic {
    fn default() -> Self {
        Self {
            cwnd: INITIAL_WINDOW,
            ssthresh: f64::INFINITY,
            w_max: 0.0,
            cwnd_prior: 0.0,
            epoch: None,
            fast_convergence: true,
            hystart: Some(HyStart::default()),
            last_ack: Instant::ZERO,
        }
    }
}

impl Cubic {
    /// CUBIC that keeps its plateau when it loses ground, which is what the response function of RFC 9438 §5 is of.
    pub fn without_fast_convergence() -> Self {
        Self { fast_convergence: false, ..Self::default() }
    }

    /// CUBIC whose slow start ends with a loss or a mark.
    #[must_use]
    pub fn without_hystart(self) -> Self {
        Self { hystart: None, ..self }
    }

    pub(super) const fn window(&self) -> f64 {
        self.cwnd
    }

    pub(super) fn on_ack(&mut self, ack: &AckSample) {
        let since_last = ack.now.since(self.last_ack);
        self.last_ack = ack.now;
        if ack.ce > 0 {
            // RFC 3168 §6.1.2: no growth with an ECN-Echo.
            return;
        }
        if let Some(hystart) = &mut self.hystart {
            match hystart.on_ack(ack) {
                Some(packets) if ack.window_used => self.cwnd += packets,
                Some(_) => {}
                None => {
                    self.hystart = None;
                    self.ssthresh = self.cwnd;
                }
            }
        } else if !ack.window_used {
            // RFC 9438 §4.2: time without use of the window is no time of the epoch.
            if let Some(epoch) = &mut self.epoch {
                epoch.start += since_last;
            }
        } else if self.cwnd < self.ssthresh {
            self.cwnd = (self.cwnd + f64::from(ack.acked)).min(self.ssthresh);
        } else {
            self.avoid_congestion(ack);
        }
    }

    fn avoid_congestion(&mut self, ack: &AckSample) {
        let (cwnd, w_max) = (self.cwnd, self.w_max);
        let share = f64::from(ack.acked) / cwnd;
        let epoch = self.epoch.get_or_insert_with(|| {
            // RFC 9438 §4.2: K, and §4.8, §4.10 where the window begins above the old plateau.
            let plateau = w_max.max(cwnd);
            Epoch { start: ack.now, k: ((plateau - cwnd) / C).cbrt(), plateau, w_est: cwnd }
        });
        // RFC 9438 §4.3.
        let alpha = if epoch.w_est >= self.cwnd_prior { 1.0 } else { ALPHA };
        epoch.w_est += alpha * share;
        let t = ack.now.since(epoch.start).as_nanos() as f64 * 1e-9;
        // RFC 9438 §4.2 figure 1.
        let w_cubic = |t: f64| C * (t - epoch.k).powi(3) + epoch.plateau;
        if w_cubic(t) < epoch.w_est {
            self.cwnd = epoch.w_est.max(cwnd);
        } else {
            // RFC 9438 §4.2, §4.4, §4.5.
            let target = w_cubic(t + ack.srtt.as_nanos() as f64 * 1e-9).clamp(cwnd, 1.5 * cwnd);
            self.cwnd += share * (target - cwnd);
        }
    }

    pub(super) fn on_congestion(&mut self) {
        self.end_epoch();
        self.cwnd = self.ssthresh;
    }

    pub(super) fn on_timeout(&mut self) {
        // RFC 9438 §4.8.
        self.end_epoch();
        self.cwnd = 1.0;
    }

    fn end_epoch(&mut self) {
        self.epoch = None;
        self.hystart = None;
        self.cwnd_prior = self.cwnd;
        // RFC 9438 §4.7.
        let lost_ground = self.fast_convergence && self.cwnd < self.w_max;
        self.w_max = if lost_ground { self.cwnd * (1.0 + BETA) / 2.0 } else { self.cwnd };
        // RFC 9438 §4.6, of the flight, which is of whole packets.
        self.ssthresh = (self.cwnd.floor() * BETA).max(2.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    fn ack(c: &mut Cubic, now: Instant, srtt: Span) {
        c.on_ack(&AckSample { now, acked: 1, srtt, window_used: true, ..AckSample::default() });
    }

    /// W_max = 1000: K = cbrt(300 / .4) = 9.086 s; RFC 9438 figure 1 is 700 at 0, 1000 at K, and 1300 at 2K.
    #[test]
    fn the_window_follows_the_cubic_function() {
        let mut c = Cubic { cwnd: 1000.0, ssthresh: 500.0, ..Cubic::default() };
        c.on_congestion();
        assert_eq!(c.window(), 700.0);
        let rtt = Span::from_millis(100);
        let mut now = Instant::ZERO;
        let mut at = |c: &mut Cubic, seconds: f64| {
            while now.as_nanos() as f64 / 1e9 < seconds {
                ack(c, now, rtt);
                now += Span::from_nanos((1e8 / c.window()) as u64);
            }
            c.window()
        };
        let half = at(&mut c, 4.543);
        // 0.4 (4.543 - 9.086)^3 + 1000 = 962.5.
        assert!((half - 962.5).abs() < 3.0, "{half}");
        let back = at(&mut c, 9.086);
        assert!((back - 1000.0).abs() < 1.0, "{back}");
        let beyond = at(&mut c, 18.17);
        assert!((beyond - 1300.0).abs() < 10.0, "{beyond}");
    }

    /// A short round trip: growth is ALPHA = 9/17 packets a round trip until the window is back, then one.
    #[test]
    fn a_short_round_trip_grows_like_reno() {
        let mut c = Cubic { cwnd: 20.0, ssthresh: 10.0, ..Cubic::default() };
        c.on_congestion();
        let mut now = Instant::ZERO;
        let rtt = Span::from_millis(5);
        let mut rounds = |c: &mut Cubic, n: u32| {
            for _ in 0..n {
                for _ in 0..c.window() as u32 {
                    ack(c, now, rtt);
                }
                now += rtt;
            }
        };
        rounds(&mut c, 10);
        assert!((c.window() - (14.0 + 10.0 * 9.0 / 17.0)).abs() < 0.4, "{}", c.window());
        let before = {
            rounds(&mut c, 10);
            c.window()
        };
        rounds(&mut c, 5);
        assert!((c.window() - before - 5.0).abs() < 0.4, "{before} {}", c.window());
    }

    #[test]
    fn a_second_reduction_below_the_first_gives_room_to_others() {
        let mut c = Cubic { cwnd: 100.0, ssthresh: 50.0, ..Cubic::default() };
        c.on_congestion();
        assert_eq!((c.window(), c.w_max), (70.0, 100.0));
        c.on_congestion();
        assert_eq!((c.window(), c.w_max), (49.0, 59.5));
        c.on_timeout();
        assert_eq!(c.window(), 1.0);
    }

    /// Ten idle seconds of an epoch would be 400 packets more.
    #[test]
    fn time_without_use_of_the_window_is_left_out() {
        let rtt = Span::from_millis(100);
        let run = |idle: u64| {
            let mut c = Cubic { cwnd: 1000.0, ssthresh: 500.0, ..Cubic::default() };
            c.on_congestion();
            let sample = AckSample { acked: 1, srtt: rtt, window_used: true, rtt, ..AckSample::default() };
            c.on_ack(&AckSample { now: Instant::from_millis(1), ..sample });
            let unused = AckSample { now: Instant::from_millis(1 + idle), window_used: false, ..sample };
            c.on_ack(&unused);
            let before = c.window();
            c.on_ack(&AckSample { now: Instant::from_millis(101 + idle), ..sample });
            (before, c.window())
        };
        assert_eq!(run(0), run(10_000));
    }
}
