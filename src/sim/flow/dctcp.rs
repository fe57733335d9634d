//! DCTCP: RFC 8257. The window also grows in the round trip after a reduction, except with an ECN-Echo: §3.4 there makes
//! no other exception, and the rate law 2/(R p) rests on it. Linux and ns-3 hold the window for that round trip (CWR
//! state), and send 0.73/(R p) under periodic marks.

use super::AckSample;
use super::reno::Reno;

/// RFC 8257 §4.2.
const GAIN: f64 = 1.0 / 16.0;

/// The state of DCTCP.
#[derive(Clone, Debug)]
pub struct Dctcp {
    reno: Reno,
    alpha: f64,
    acked: u32,
    ce: u32,
}

impl Default for Dctcp {
    fn default() -> Self {
        // RFC 8257 §3.3: alpha begins at 1.
        Self { reno: Reno::default(), alpha: 1.0, acked: 0, ce: 0 }
    }
}

impl Dctcp {
    pub(super) const fn window(&self) -> f64 {
        self.reno.window()
    }

    pub(super) fn on_ack(&mut self, ack: &AckSample) {
        self.acked += ack.acked;
        self.ce += ack.ce;
        if ack.round_ended {
            // RFC 8257 §3.3: M, and the average of it.
            let share = f64::from(self.ce) / f64::from(self.acked.max(1));
            self.alpha += GAIN * (share - self.alpha);
            (self.acked, self.ce) = (0, 0);
        }
        // RFC 8257 §3.4: as in conventional TCP.
        self.reno.on_ack(ack);
    }

    /// The first CE of a window of data: the sender sees to that.
    pub(super) fn on_ce(&mut self) {
        // RFC 8257 §3.3, step 9.
        self.reno.reduce_to(self.reno.window() * (1.0 - self.alpha / 2.0));
    }

    pub(super) fn on_loss(&mut self) {
        // RFC 8257 §3.5.
        self.reno.on_congestion();
    }

    pub(super) fn on_timeout(&mut self) {
        self.reno.on_timeout();
    }
}
