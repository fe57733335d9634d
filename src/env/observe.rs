//! Telemetry windows to the numbers that a learner sees.

use crate::aqm::params::Knobs;
use crate::telemetry::TelemetryWindow;

/// Turns windows into observations; has a memory of its own, which starts with an episode.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    last: Option<TelemetryWindow>,
    values: [f32; WIDTH],
}

/// Numbers in an observation.
pub const WIDTH: usize = 12;

impl Observer {
    /// Takes a window and the parameters that were in force in it.
    pub fn push(&mut self, window: &TelemetryWindow, knobs: &Knobs) {
        let before = self.last.map(|w| (w.egress.queues, w.capacity_bits)).unwrap_or_default();
        let q = &window.egress.queues;
        let mean = |i: usize| {
            let packets = q[i].forwarded.packets - before.0[i].forwarded.packets;
            (q[i].delay_sum_ns - before.0[i].delay_sum_ns) as f64 / 1e6 / packets.max(1) as f64
        };
        let bits = |i: usize| 8.0 * (q[i].forwarded.bytes - before.0[i].forwarded.bytes) as f64;
        let capacity = (window.capacity_bits - before.1).max(1) as f64;
        let log_ms = |ms: f64| (ms + 0.1).ln() as f32;
        self.values = [
            log_ms(mean(0)),
            log_ms(mean(1)),
            log_ms(window.egress.head_delay[1].as_millis_f64()),
            (bits(0) / capacity) as f32,
            (bits(1) / capacity) as f32,
            window.egress.p.base as f32,
            window.egress.p.classic.sqrt() as f32,
            (window.rate.as_mbps_f64() / 40.0).ln() as f32,
            log_ms(knobs.target.as_millis_f64()),
            knobs.gain as f32,
            log_ms(knobs.ramp_min.as_millis_f64()),
            window.span.as_secs_f64() as f32,
        ];
        self.last = Some(*window);
    }

    /// Writes the observation; `out` is [`WIDTH`] long.
    pub fn write(&self, out: &mut [f32]) {
        out.copy_from_slice(&self.values);
    }
}
