//! Prague: draft-briscoe-iccrg-prague-congestion-control. Always paced. The window is never below two packets, as in
//! Linux and in udp_prague; the latter makes its packets smaller instead, which is not modelled, and neither is its faster
//! increase after many round trips without a mark.

use super::AckSample;
use super::classic_aqm::Detector;
use super::reno::Reno;
use crate::time::{Instant, Span};

/// Gain of the moving average of the marking share (draft, "Moving Average of ECN Feedback").
const GAIN: f64 = 1.0 / 16.0;
/// Least round-trip time that the flow behaves as if it had (draft: reduced RTT dependence).
pub const VIRTUAL_RTT_FLOOR: Span = Span::from_millis(25);
const PER_FLOOR: f64 = 1.0 / VIRTUAL_RTT_FLOOR.as_nanos() as f64;

/// The state of Prague.
#[derive(Clone, Debug)]
pub struct Prague {
    reno: Reno,
    alpha: f64,
    measured: Share,
    /// When the last reduction was; a round trip and a virtual round trip must pass before the next one.
    reduced: Option<Instant>,
    round_since_reduction: bool,
    detector: Option<Box<Detector>>,
}

/// Packets of the current measurement of the marking share.
#[derive(Clone, Debug, Default)]
struct Share {
    since: Instant,
    round_ended: bool,
    acked: u32,
    ce: u32,
}

impl Default for Prague {
    fn default() -> Self {
        Self {
            reno: Reno::default(),
            // Pessimistic, so that the first mark halves the window.
            alpha: 1.0,
            measured: Share::default(),
            reduced: None,
            round_since_reduction: false,
            detector: None,
        }
    }
}

impl Prague {
    /// Prague that reduces its window as a classic control does where the AQM looks like a classic one. Off by default,
    /// as in Linux.
    #[must_use]
    pub fn with_fallback(self) -> Self {
        Self { detector: Some(Box::default()), ..self }
    }

    /// The bottleneck is suspected of a classic ECN AQM.
    pub fn suspects_classic_aqm(&self) -> bool {
        self.detector.as_ref().is_some_and(|d| d.suspects())
    }

    pub(super) const fn window(&self) -> f64 {
        self.reno.window()
    }

    pub(super) const fn pacing_gain(&self) -> f64 {
        if self.reno.in_slow_start() { 2.0 } else { 1.0 }
    }

    pub(super) fn on_ack(&mut self, ack: &AckSample) {
        let virtual_rtt = ack.srtt.max(VIRTUAL_RTT_FLOOR);
        if let Some(detector) = &mut self.detector {
            detector.sample(ack);
        }
        self.measure(ack, virtual_rtt);
        if ack.window_used {
            // Additive increase by what was not marked only, and by the square of how much shorter the round trip is
            // than the virtual one, so that it is one packet a virtual round trip per virtual round trip.
            let shorter = (ack.srtt.as_nanos() as f64 * PER_FLOOR).min(1.0);
            self.reno.grow(f64::from(ack.acked - ack.ce), shorter * shorter);
        }
        self.round_since_reduction |= ack.round_ended;
        if ack.ce > 0 && self.may_reduce(ack.now, virtual_rtt) {
            // Multiplicative decrease by half the marking share.
            let least = self.detector.as_ref().map_or(0.0, |d| d.least_alpha());
            self.reduce(ack.now, 1.0 - self.alpha.max(least) / 2.0);
        }
    }

    fn may_reduce(&self, now: Instant, virtual_rtt: Span) -> bool {
        self.reduced.is_none_or(|at| self.round_since_reduction && now.since(at) >= virtual_rtt)
    }

    fn measure(&mut self, ack: &AckSample, virtual_rtt: Span) {
        let m = &mut self.measured;
        m.acked += ack.acked;
        m.ce += ack.ce;
        m.round_ended |= ack.round_ended;
        if m.round_ended && ack.now.since(m.since) >= virtual_rtt {
            let share = f64::from(m.ce) / f64::from(m.acked.max(1));
            // The average begins to move with the first mark.
            if self.reduced.is_some() || m.ce > 0 {
                self.alpha += GAIN * (share - self.alpha);
                if let Some(detector) = &mut self.detector {
                    detector.judge();
                }
            }
            *m = Share { since: ack.now, ..Share::default() };
        }
    }

    fn reduce(&mut self, now: Instant, factor: f64) {
        self.reno.reduce_to(self.reno.window() * factor);
        self.reduced = Some(now);
        self.round_since_reduction = false;
        self.window_fell();
    }

    pub(super) fn on_loss(&mut self) {
        // A loss halves the window, as in Reno.
        self.reno.on_congestion();
        self.window_fell();
    }

    pub(super) fn on_timeout(&mut self) {
        self.reno.on_timeout();
    }

    fn window_fell(&mut self) {
        if let Some(detector) = &mut self.detector {
            detector.reduced(self.reno.window());
        }
    }
}
