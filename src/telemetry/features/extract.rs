//! The feature vector of one link: windows in, numbers of the [`Schema`] out.

use std::sync::Arc;

use super::schema::{Schema, Signal};
use super::signals::{self, Known, Reader, Readings};
use super::trackers::{Average, Response, Sawtooth, Spacing, weight};
use crate::aqm::params::Knobs;
use crate::aqm::stats::Snapshot;
use crate::telemetry::arrivals::ArrivalStats;
use crate::telemetry::{TelemetryWindow, sketch};
use crate::time::Span;

/// g_C and g_L are of rates over this many seconds.
const LAW_TAU: f64 = 4.0;
/// A feed-forward fades with this time constant in seconds.
const FEED_FORWARD_TAU: f64 = 0.25;
/// The constant of Reno's law, RFC 9332 Appendix A and Mathis et al., CCR 27(3), 1997: X = 1.22 / (R sqrt(p)).
const RENO: f64 = 1.22;
/// The constant of scalable senders' law, RFC 9332 Appendix A: X = 2 / (R p).
const SCALABLE: f64 = 2.0;

/// Extracts the features of one link. A link that begins anew is noticed by its window 0, or by a time or counters that
/// went back, and everything that was remembered is forgotten. Clones share what they know of the schema.
#[derive(Clone, Debug)]
pub struct Extractor {
    signals: Arc<[(Signal, Reader)]>,
    horizons: Arc<[f64]>,
    step: Span,
    raw_windows: usize,
    names: Arc<[String]>,
    state: State,
}

/// What is remembered of a link.
#[derive(Clone, Debug)]
struct State {
    last: Option<TelemetryWindow>,
    /// The window that the step under way began at.
    step_from: Option<TelemetryWindow>,
    /// Longest delays of the step under way.
    step_max: [Span; 2],
    /// Seconds since the link began, or was first seen.
    elapsed: f64,
    readings: Readings,
    known: Known,
    laws: Laws,
    sawtooth: Sawtooth,
    spacing: Spacing,
    response: Response,
    /// By signal, then by horizon of the signal.
    averages: Vec<Vec<Average>>,
    /// By signal with raw values, the oldest first.
    raw: Vec<Vec<f64>>,
}

/// Means over [`LAW_TAU`] of what the laws of senders are made of.
#[derive(Clone, Debug, Default)]
struct Laws {
    x_c: Average,
    p_classic: Average,
    x_l: Average,
    forwarded_l: Average,
    marked_l: Average,
}

impl Extractor {
    /// For a link that has not begun.
    pub fn new(schema: &Schema) -> Self {
        let named = |s: &Signal| {
            let reader = signals::find(&s.name).expect("a schema has no signal that is not measured");
            (s.clone(), reader)
        };
        let signals: Arc<[_]> = schema.signals.iter().map(named).collect();
        let state = State::new(&signals, schema.raw_windows);
        Self {
            signals,
            horizons: schema.horizons.iter().map(|h| h.as_secs_f64()).collect(),
            step: schema.step,
            raw_windows: schema.raw_windows,
            names: schema.names().into(),
            state,
        }
    }

    /// Length of the feature vector.
    pub fn width(&self) -> usize {
        self.names.len()
    }

    /// Names of the features, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Takes in a window. `in_force` is what was in force at its end; a feed-forward that was applied since the last
    /// window is in it.
    pub fn push(&mut self, window: &TelemetryWindow, in_force: &Knobs) {
        let s = &mut self.state;
        let anew = window.id == 0 || s.last.as_ref().is_some_and(|last| went_back(last, window));
        if anew {
            *s = State::new(&self.signals, self.raw_windows);
        }
        let Some(last) = s.last.take().or_else(|| origin(window)) else {
            // Seen for the first time in the middle of its life: all that it counted is of no known time.
            s.last = Some(*window);
            return;
        };
        let dt = window.end.since(last.end).as_secs_f64();
        s.elapsed += dt;
        s.note(&last, window, in_force, dt);
        let from = *s.step_from.get_or_insert(last);
        s.step_max = [0, 1].map(|n| s.step_max[n].max(window.egress.queues[n].delay_max));
        let stepped = window.end.since(from.end) >= self.step;
        if stepped {
            s.learn(&from, window);
        }
        s.readings = Readings::between(&last, window, &s.known);
        if stepped {
            let mut whole = *window;
            for n in [0, 1] {
                whole.egress.queues[n].delay_max = s.step_max[n];
            }
            let of_step = Readings::between(&from, &whole, &s.known);
            s.step(&self.signals, &self.horizons, &of_step, window.end.since(from.end).as_secs_f64());
            (s.step_from, s.step_max) = (Some(*window), [Span::ZERO; 2]);
        }
        s.last = Some(*window);
    }

    /// Writes the features: each finite, whatever the windows were.
    ///
    /// # Panics
    /// If `out` is not [`Extractor::width`] long.
    pub fn write(&self, out: &mut [f32]) {
        assert_eq!(out.len(), self.width(), "the vector must have the width of the schema");
        let s = &self.state;
        let mut out = out.iter_mut();
        let mut put = |x: f32| {
            if let Some(place) = out.next() {
                *place = x;
            }
        };
        for ((signal, read), averages) in self.signals.iter().zip(&s.averages) {
            put(signal.normalise(read(&s.readings)));
            for average in averages {
                put(signal.normalise(average.mean()));
                put(signal.normalise(average.std()));
            }
        }
        let raw = self.signals.iter().filter(|(signal, _)| signal.raw);
        for ((signal, _), values) in raw.zip(&s.raw) {
            for x in values {
                put(signal.normalise(*x));
            }
        }
    }

    /// A signal of the last window in its unit, before normalisation; `None` if the schema has none of this name.
    pub fn signal(&self, name: &str) -> Option<f64> {
        let (_, read) = self.signals.iter().find(|(s, _)| s.name == name)?;
        Some(read(&self.state.readings))
    }
}

/// A window from before the first.
fn origin(first: &TelemetryWindow) -> Option<TelemetryWindow> {
    (first.id == 0).then(|| TelemetryWindow {
        end: first.end - first.span,
        span: Span::ZERO,
        capacity_bits: 0,
        egress: Snapshot::default(),
        arrivals: ArrivalStats::default(),
        ..*first
    })
}

/// `next` cannot follow `last` on the same link.
fn went_back(last: &TelemetryWindow, next: &TelemetryWindow) -> bool {
    let counted =
        |w: &TelemetryWindow| w.egress.queues.iter().fold(0u64, |n, q| n.saturating_add(q.arrived.packets));
    next.id <= last.id || next.end <= last.end || counted(next) < counted(last)
}

impl State {
    fn new(signals: &[(Signal, Reader)], raw_windows: usize) -> Self {
        Self {
            last: None,
            step_from: None,
            step_max: [Span::ZERO; 2],
            elapsed: 0.0,
            readings: Readings::default(),
            known: Known::default(),
            laws: Laws::default(),
            sawtooth: Sawtooth::default(),
            spacing: Spacing::default(),
            response: Response::default(),
            averages: signals.iter().map(|(s, _)| vec![Average::default(); s.horizons.len()]).collect(),
            raw: signals.iter().filter(|(s, _)| s.raw).map(|_| vec![0.0; raw_windows]).collect(),
        }
    }

    /// What every window changes.
    fn note(&mut self, last: &TelemetryWindow, window: &TelemetryWindow, in_force: &Knobs, dt: f64) {
        let known = &mut self.known;
        if window.rate == last.rate {
            known.rate_age += dt;
        } else {
            known.rate_change = (window.rate.as_bps() as f64 / last.rate.as_bps() as f64).ln();
            known.rate_age = 0.0;
        }
        known.flows = window.arrivals.flows.map(|f| sketch::estimate(f.active));
        known.flows_steady = window.arrivals.flows.map(|f| sketch::estimate(f.steady));
        known.knobs = *in_force;
        let factor = in_force.feed_forward.ln();
        known.feed_forward = if factor != 0.0 && factor.is_finite() {
            factor
        } else {
            known.feed_forward * (-dt / FEED_FORWARD_TAU).exp()
        };
        self.response.push(&window.arrivals);
    }

    /// What a step changes, before its readings are taken.
    fn learn(&mut self, from: &TelemetryWindow, to: &TelemetryWindow) {
        let dt = to.end.since(from.end).as_secs_f64();
        let plain = Readings::between(from, to, &Known::default());
        let grown = |of: fn(&TelemetryWindow) -> u64| of(to).saturating_sub(of(from)) as f64;
        let arrived_l = grown(|w| w.egress.queues[0].arrived.packets);
        let laws = [
            (&mut self.laws.x_c, grown(|w| w.egress.queues[1].arrived.packets) / dt),
            (&mut self.laws.p_classic, to.egress.p.classic),
            (&mut self.laws.x_l, arrived_l / dt),
            (&mut self.laws.forwarded_l, grown(|w| w.egress.queues[0].forwarded.packets) / dt),
            (&mut self.laws.marked_l, grown(|w| w.egress.queues[0].marked_total()) / dt),
        ];
        let w = weight(dt, self.elapsed, LAW_TAU);
        for (average, x) in laws {
            average.push(bounded(x), w);
        }
        let laws = &self.laws;
        let forwarded = laws.forwarded_l.mean();
        let p_l = if forwarded > 0.0 { laws.marked_l.mean() / forwarded } else { 0.0 };
        self.sawtooth.push(plain.backlog_c(), dt);
        self.spacing.push(&from.arrivals, &to.arrivals, arrived_l, dt);
        let known = &mut self.known;
        let root_p_c = laws.p_classic.mean().max(0.0).sqrt();
        known.g = [laws.x_l.mean() * p_l / SCALABLE, laws.x_c.mean() * root_p_c / RENO];
        known.saw = (self.sawtooth.period(), self.sawtooth.height());
        (known.burst_p90, known.gap_cv) = (self.spacing.burst_p90(), self.spacing.gap_cv());
        known.response = self.response.strongest();
    }

    /// Averages and raw values take in a step.
    fn step(&mut self, signals: &[(Signal, Reader)], horizons: &[f64], readings: &Readings, dt: f64) {
        let weights: Vec<f64> = horizons.iter().map(|tau| weight(dt, self.elapsed, *tau)).collect();
        let mut raw = self.raw.iter_mut();
        for ((signal, read), averages) in signals.iter().zip(&mut self.averages) {
            let x = bounded(read(readings));
            for (average, horizon) in averages.iter_mut().zip(&signal.horizons) {
                average.push(x, weights[*horizon]);
            }
            if signal.raw
                && let Some(values) = raw.next()
            {
                values.rotate_left(1);
                if let Some(newest) = values.last_mut() {
                    *newest = x;
                }
            }
        }
    }
}

/// A value whose square is finite.
fn bounded(x: f64) -> f64 {
    if x.is_finite() { x.clamp(-1e18, 1e18) } else { 0.0 }
}
