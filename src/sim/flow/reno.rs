//! Reno: RFC 5681, with RFC 3168 §6.1.2 for CE.

use super::hystart::HyStart;
use super::{AckSample, INITIAL_WINDOW};

/// The state of Reno, in packets.
#[derive(Clone, Debug)]
pub struct Reno {
    cwnd: f64,
    ssthresh: f64,
    /// Until the first slow start is over.
    hystart: Option<HyStart>,
}

impl Default for Reno {
    fn default() -> Self {
        Self { cwnd: INITIAL_WINDOW, ssthresh: f64::INFINITY, hystart: None }
    }
}

impl Reno {
    /// Reno with the slow start of RFC 9406.
    #[must_use]
    pub fn with_hystart(self) -> Self {
        Self { hystart: Some(HyStart::default()), ..self }
    }

    pub(super) const fn window(&self) -> f64 {
        self.cwnd
    }

    pub(super) const fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    pub(super) fn on_ack(&mut self, ack: &AckSample) {
        if ack.ce > 0 {
            // RFC 3168 §6.1.2: no growth with an ECN-Echo.
            return;
        }
        if let Some(hystart) = &mut self.hystart {
            match hystart.on_ack(ack) {
                Some(packets) if ack.window_used => self.cwnd += packets,
                Some(_) => {}
                None => self.reduce_to(self.cwnd),
            }
        } else if ack.window_used {
            self.grow(f64::from(ack.acked), 1.0);
        }
    }

    /// Growth by `acked` packets: `per_round` a round trip past slow start.
    pub(super) fn grow(&mut self, acked: f64, per_round: f64) {
        if self.in_slow_start() {
            // RFC 5681 §3.1 (2), counting bytes as RFC 3465 does.
            self.cwnd = (self.cwnd + acked).min(self.ssthresh);
        } else {
            // RFC 5681 §3.1 (3).
            self.cwnd += per_round * acked / self.cwnd;
        }
    }

    pub(super) fn on_congestion(&mut self) {
        // RFC 5681 §3.1 (4), §3.2 step 2.
        self.reduce_to(self.cwnd / 2.0);
    }

    /// Leaves slow start for good with a window of `cwnd`, at least two packets.
    pub(super) fn reduce_to(&mut self, cwnd: f64) {
        self.hystart = None;
        self.ssthresh = cwnd.max(2.0);
        self.cwnd = self.ssthresh;
    }

    pub(super) fn on_timeout(&mut self) {
        self.hystart = None;
        self.ssthresh = (self.cwnd / 2.0).max(2.0);
        // RFC 5681 §3.1: the loss window is one segment.
        self.cwnd = 1.0;
    }
}
