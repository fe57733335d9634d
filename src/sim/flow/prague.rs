//! Prague: draft-briscoe-iccrg-prague-congestion-control. Always paced; the fall-back to classic behaviour where a
//! classic ECN AQM is suspected is not modelled.

use super::AckSample;
use super::reno::Reno;
use crate::time::{Instant, Span};

/// Gain of the moving average of the marking share (draft, "Moving Average of ECN Feedback").
const GAIN: f64 = 1.0 / 16.0;
/// Least round-trip time that the flow behaves as if it had (draft: reduced RTT dependence).
pub const VIRTUAL_RTT_FLOOR: Span = Span::from_millis(25);

/// The state of Prague.
#[derive(Clone, Debug)]
pub struct Prague {
    reno: Reno,
    alpha: f64,
    measured: Share,
    /// When the last reduction was; a round trip and a virtual round trip must pass before the next one.
    reduced: Option<Instant>,
    round_since_reduction: bool,
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
        }
    }
}

impl Prague {
    pub(super) const fn window(&self) -> f64 {
        self.reno.window()
    }

    pub(super) const fn pacing_gain(&self) -> f64 {
        if self.reno.in_slow_start() { 2.0 } else { 1.0 }
    }

    pub(super) fn on_ack(&mut self, ack: &AckSample) {
        let virtual_rtt = ack.srtt.max(VIRTUAL_RTT_FLOOR);
        self.measure(ack, virtual_rtt);
        // Additive increase by what was not marked only, and by the square of how much shorter the round trip is than
        // the virtual one, so that it is one packet a virtual round trip per virtual round trip.
        let shorter = ack.srtt.as_secs_f64() / virtual_rtt.as_secs_f64();
        self.reno.grow(f64::from(ack.acked - ack.ce), shorter * shorter);
        self.round_since_reduction |= ack.round_ended;
        let may_reduce =
            self.reduced.is_none_or(|at| self.round_since_reduction && ack.now.since(at) >= virtual_rtt);
        if ack.ce > 0 && may_reduce {
            // Multiplicative decrease by half the marking share.
            self.reduce(ack.now, 1.0 - self.alpha / 2.0);
        }
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
            }
            *m = Share { since: ack.now, ..Share::default() };
        }
    }

    fn reduce(&mut self, now: Instant, factor: f64) {
        self.reno.reduce_to(self.reno.window() * factor);
        self.reduced = Some(now);
        self.round_since_reduction = false;
    }

    pub(super) fn on_loss(&mut self) {
        // A loss halves the window, as in Reno.
        self.reno.on_congestion();
    }

    pub(super) fn on_timeout(&mut self) {
        self.reno.on_timeout();
    }
}
