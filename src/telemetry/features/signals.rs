//! Each signal of the schema: what two windows say together, and what is known besides. Counters are cumulative, so the
//! two need not be neighbours.

use crate::aqm::params::Knobs;
use crate::aqm::stats::{DropCause, MarkCause};
use crate::telemetry::TelemetryWindow;

/// What is known besides two windows.
#[derive(Copy, Clone, Debug, Default)]
pub struct Known {
    /// ln of the rate over what it was before its last change.
    pub rate_change: f64,
    /// Seconds since then.
    pub rate_age: f64,
    /// N_L and N_C.
    pub flows: [f64; 2],
    /// Those that are steady.
    pub flows_steady: [f64; 2],
    /// g_L and g_C: N/R by the laws of their senders, packets a second.
    pub g: [f64; 2],
    /// Period and height of the sawtooth of C in seconds.
    pub saw: (f64, f64),
    /// Bytes of a burst of L.
    pub burst_p90: f64,
    /// Coefficient of variation of gaps in L.
    pub gap_cv: f64,
    /// Lag in seconds and strength of the response of L to marks.
    pub response: (f64, f64),
    /// Parameters in force.
    pub knobs: Knobs,
    /// ln of the last factor on p', fading.
    pub feed_forward: f64,
}

/// What both queues have.
#[derive(Copy, Clone, Debug, Default)]
struct Queue {
    head_delay: f64,
    delay_mean: f64,
    delay_max: f64,
    backlog: f64,
    backlog_trend: f64,
    arrival: f64,
    departure: f64,
    packets: f64,
    packet_size: f64,
    dropped: f64,
    /// By [`MarkCause`], as shares of what was presented.
    marked: [f64; 3],
    flows: f64,
    flows_steady: f64,
    g: f64,
    rtt: f64,
}

/// All signals of one moment, in their units.
#[derive(Copy, Clone, Debug, Default)]
pub struct Readings {
    dt: f64,
    rate: f64,
    idle: f64,
    p: [f64; 3],
    p_trend: f64,
    drop_tail: f64,
    overload: f64,
    share_l: f64,
    queues: [Queue; 2],
    known: Known,
}

/// `a / b`, 0 if there is no b.
fn share(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

/// How far a cumulative counter came.
fn grown(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64
}

/// Longer round trips than this are no estimate.
const LONGEST_RTT: f64 = 2.0;

impl Queue {
    fn between(from: &TelemetryWindow, to: &TelemetryWindow, n: usize, known: &Known) -> Self {
        let (old, new) = (&from.egress.queues[n], &to.egress.queues[n]);
        let dt = to.end.since(from.end).as_secs_f64();
        let rate = to.rate.as_bps() as f64;
        let capacity = grown(from.capacity_bits, to.capacity_bits);
        let sending_time = |w: &TelemetryWindow| w.egress.backlog[n].bytes as f64 * 8.0 / rate;
        let head_delay = to.egress.head_delay[n].as_secs_f64();
        let forwarded = grown(old.forwarded.packets, new.forwarded.packets);
        let presented = grown(old.presented.packets, new.presented.packets);
        let arrived = grown(old.arrived.packets, new.arrived.packets);
        let arrived_bytes = grown(old.arrived.bytes, new.arrived.bytes);
        let dropped = [DropCause::Aqm, DropCause::Overload]
            .map(|cause| grown(old.dropped_for(cause).packets, new.dropped_for(cause).packets));
        let delay_mean = if forwarded > 0.0 {
            grown(old.delay_sum_ns, new.delay_sum_ns) / forwarded / 1e9
        } else {
            head_delay
        };
        let rtt = share(known.flows[n], known.g[n]);
        Self {
            head_delay,
            delay_mean,
            delay_max: new.delay_max.as_secs_f64(),
            backlog: sending_time(to),
            backlog_trend: share(
                (to.egress.backlog[n].bytes as f64 - from.egress.backlog[n].bytes as f64) * 8.0,
                capacity,
            ),
            arrival: share(arrived_bytes * 8.0, capacity),
            departure: share(grown(old.forwarded.bytes, new.forwarded.bytes) * 8.0, capacity),
            packets: share(arrived, dt),
            packet_size: share(arrived_bytes, arrived),
            dropped: share(dropped.iter().sum(), presented),
            marked: core::array::from_fn(|cause| {
                share(grown(old.marked[cause], new.marked[cause]), presented)
            }),
            flows: known.flows[n],
            flows_steady: known.flows_steady[n],
            g: known.g[n],
            rtt: if rtt <= LONGEST_RTT { rtt } else { 0.0 },
        }
    }
}

impl Readings {
    /// Everything that happened from the end of `from` to the end of `to`. Maxima are those that `to` says.
    pub fn between(from: &TelemetryWindow, to: &TelemetryWindow, known: &Known) -> Self {
        let dt = to.end.since(from.end).as_secs_f64();
        let queues = [0, 1].map(|n| Queue::between(from, to, n, known));
        let sum = |of: fn(&crate::aqm::stats::QueueStats) -> u64| {
            let total = |w: &TelemetryWindow| w.egress.queues.iter().map(of).fold(0, u64::saturating_add);
            grown(total(from), total(to))
        };
        let p = &to.egress.p;
        let [l, c] =
            [0, 1].map(|n| grown(from.egress.queues[n].arrived.bytes, to.egress.queues[n].arrived.bytes));
        let sent_bits = sum(|q| q.forwarded.bytes) * 8.0;
        let capacity = grown(from.capacity_bits, to.capacity_bits);
        let overload = to.egress.overload.total.as_secs_f64() - from.egress.overload.total.as_secs_f64();
        Self {
            dt,
            rate: to.rate.as_bps() as f64,
            // Not cut off at 0: packets are not cut at the edges of windows, and a mean must not see one side only.
            idle: if capacity > 0.0 { 1.0 - sent_bits / capacity } else { 0.0 },
            p: [p.base, p.classic, p.coupled],
            p_trend: share(p.base - from.egress.p.base, dt),
            drop_tail: share(sum(|q| q.dropped_for(DropCause::Tail).packets), sum(|q| q.arrived.packets)),
            overload: share(overload, dt),
            share_l: share(l, l + c),
            queues,
            known: *known,
        }
    }

    /// Sending time of what waits in C.
    pub(super) const fn backlog_c(&self) -> f64 {
        self.queues[1].backlog
    }
}

/// How a signal is read.
pub type Reader = fn(&Readings) -> f64;

/// A signal of the schema by its name.
pub fn find(name: &str) -> Option<Reader> {
    ALL.iter().find(|(n, _)| *n == name).map(|(_, reader)| *reader)
}

const L: usize = 0;
const C: usize = 1;

/// Every signal that is measured. The schema says what they are.
pub const ALL: &[(&str, Reader)] = &[
    ("dt", |r| r.dt),
    ("link_rate", |r| r.rate),
    ("rate_change", |r| r.known.rate_change),
    ("rate_age", |r| r.known.rate_age),
    ("idle", |r| r.idle),
    ("head_delay_l", |r| r.queues[L].head_delay),
    ("head_delay_c", |r| r.queues[C].head_delay),
    ("delay_mean_l", |r| r.queues[L].delay_mean),
    ("delay_mean_c", |r| r.queues[C].delay_mean),
    ("delay_max_l", |r| r.queues[L].delay_max),
    ("delay_max_c", |r| r.queues[C].delay_max),
    ("backlog_l", |r| r.queues[L].backlog),
    ("backlog_c", |r| r.queues[C].backlog),
    ("backlog_trend_l", |r| r.queues[L].backlog_trend),
    ("backlog_trend_c", |r| r.queues[C].backlog_trend),
    ("p_base", |r| r.p[0]),
    ("p_trend", |r| r.p_trend),
    ("p_classic", |r| r.p[1]),
    ("p_coupled", |r| r.p[2]),
    ("mark_native_l", |r| r.queues[L].marked[MarkCause::Native as usize]),
    ("mark_coupled_l", |r| r.queues[L].marked[MarkCause::Coupled as usize]),
    ("mark_classic_c", |r| r.queues[C].marked[MarkCause::Classic as usize]),
    ("drop_l", |r| r.queues[L].dropped),
    ("drop_c", |r| r.queues[C].dropped),
    ("drop_tail", |r| r.drop_tail),
    ("overload", |r| r.overload),
    ("arrival_l", |r| r.queues[L].arrival),
    ("arrival_c", |r| r.queues[C].arrival),
    ("departure_l", |r| r.queues[L].departure),
    ("departure_c", |r| r.queues[C].departure),
    ("packets_l", |r| r.queues[L].packets),
    ("packets_c", |r| r.queues[C].packets),
    ("packet_size_l", |r| r.queues[L].packet_size),
    ("packet_size_c", |r| r.queues[C].packet_size),
    ("share_l", |r| r.share_l),
    ("flows_l", |r| r.queues[L].flows),
    ("flows_c", |r| r.queues[C].flows),
    ("flows_steady_l", |r| r.queues[L].flows_steady),
    ("flows_steady_c", |r| r.queues[C].flows_steady),
    ("g_c", |r| r.queues[C].g),
    ("g_l", |r| r.queues[L].g),
    ("rtt_c", |r| r.queues[C].rtt),
    ("rtt_l", |r| r.queues[L].rtt),
    ("saw_period_c", |r| r.known.saw.0),
    ("saw_amplitude_c", |r| r.known.saw.1),
    ("burst_p90_l", |r| r.known.burst_p90),
    ("burst_time_l", |r| share(r.known.burst_p90 * 8.0, r.rate)),
    ("gap_cv_l", |r| r.known.gap_cv),
    ("response_lag_l", |r| r.known.response.0),
    ("response_l", |r| r.known.response.1),
    ("knob_target", |r| r.known.knobs.target.as_secs_f64()),
    ("knob_gain", |r| r.known.knobs.gain),
    ("knob_ramp_min", |r| r.known.knobs.ramp_min.as_secs_f64()),
    ("knob_feed_forward", |r| r.known.feed_forward),
];
