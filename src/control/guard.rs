//! The guard between a policy and the running controller: bounds, slew, freshness, finiteness. Pure, on the
//! forwarder's side, and in charge when there is nothing to admit.
//!
//! Its promise: whatever a policy says or fails to say, the parameters in force are inside the bounds, move by at most
//! one bin per 64 ms, and return to RFC 9332's defaults when decisions stop. p' is never touched by a fallback.
//!
//! One bin per 64 ms means: two moves are never less than that apart and a move is never more than one bin, so that any
//! interval of length t sees at most floor(t / 64 ms) + 1 bins. Time is not saved up, neither while there was nothing to
//! move to nor while nobody called: who calls less often slews slower.

use super::Decision;
use crate::aqm::params::Knobs;
use crate::time::{Instant, Span};

/// Bounds and pace.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct GuardParams {
    /// Classic target, least and most.
    pub target: (Span, Span),
    /// Gain scale: the values between which it moves, rising. The first and the last are the bounds.
    pub gain: [f64; 7],
    /// L ramp start, least and most.
    pub ramp_min: (Span, Span),
    /// Log-spaced bins between least and most target (and ramp start).
    pub bins: u32,
    /// A knob moves at most one bin in this time; the gain at most as far as from one of its values to the next.
    pub bin_time: Span,
    /// Least time between two feed-forwards.
    pub feed_forward_gap: Span,
    /// A decision is stale when its window closed longer ago than this.
    pub expires: Span,
    /// Decide and count, but keep the defaults in force.
    pub shadow: bool,
}

impl Default for GuardParams {
    fn default() -> Self {
        Self {
            target: (Span::from_millis(1), Span::from_millis(25)),
            gain: [0.5, 0.7, 1.0, 1.4, 2.0, 4.0, 8.0],
            ramp_min: (Span::from_micros(200), Span::from_millis(8)),
            bins: 12,
            bin_time: Span::from_millis(64),
            feed_forward_gap: Span::from_millis(250),
            expires: Span::from_millis(32),
            shadow: false,
        }
    }
}

/// The one-shot factors on p' that a policy may ask for.
pub const FEED_FORWARD: [f64; 5] = [1.0, 0.25, 0.5, 2.0, 4.0];

/// Who sets the parameters.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// A fresh decision.
    Model,
    /// Nobody: RFC 9332's defaults are in force or being returned to.
    Fallback,
}

/// What became of the decisions.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct GuardCounters {
    /// Admitted as they were.
    pub admitted: u64,
    /// Admitted after clamping into the bounds.
    pub clamped: u64,
    /// Rejected: not finite, a feed-forward that is not on the list, or made from a window that has not closed yet.
    pub rejected: u64,
    /// Those of them that are not finite.
    pub not_finite: u64,
    /// Rejected: made from a window that closed too long ago.
    pub stale: u64,
    /// Times that a fallback began.
    pub fallbacks: u64,
}

/// The guard of one direction.
#[derive(Clone, Debug)]
pub struct Guard {
    params: GuardParams,
    defaults: Knobs,
    goal: Knobs,
    in_force: Knobs,
    state: State,
    goal_from: Instant,
    moved_at: Instant,
    last_feed_forward: Option<Instant>,
    counters: GuardCounters,
}

impl Guard {
    /// A guard with `defaults` in force at `now`.
    pub fn new(params: GuardParams, defaults: Knobs, now: Instant) -> Self {
        Self {
            params,
            defaults,
            goal: defaults,
            in_force: defaults,
            state: State::Fallback,
            goal_from: now,
            moved_at: now,
            last_feed_forward: None,
            counters: GuardCounters::default(),
        }
    }

    /// Considers a decision, if one came, and returns the parameters to put in force if they changed. Call at least
    /// once a window, with or without a decision.
    pub fn step(&mut self, decision: Option<&Decision>, now: Instant) -> Option<Knobs> {
        let mut feed_forward = 1.0;
        if let Some(d) = decision {
            feed_forward = self.admit(d, now);
        }
        if self.state == State::Model && now.since(self.goal_from) > self.params.expires {
            self.state = State::Fallback;
            self.goal = self.defaults;
            self.counters.fallbacks += 1;
        }
        if self.params.shadow {
            return None;
        }
        let before = self.in_force;
        self.slew(now);
        self.in_force.feed_forward = feed_forward;
        let changed = Knobs { feed_forward: 1.0, ..before } != self.in_force;
        let knobs = self.in_force;
        self.in_force.feed_forward = 1.0;
        changed.then_some(knobs)
    }

    /// Takes a decision as the goal, or counts why not. Returns the feed-forward to apply now.
    fn admit(&mut self, d: &Decision, now: Instant) -> f64 {
        if now.since(d.window_end) > self.params.expires {
            self.counters.stale += 1;
            return 1.0;
        }
        // Who says so is not on this clock; to wait until it is true would be to follow it longer than it is fresh.
        if d.window_end > now {
            self.counters.rejected += 1;
            return 1.0;
        }
        let k = d.knobs;
        if !k.gain.is_finite() || !FEED_FORWARD.contains(&k.feed_forward) {
            self.counters.rejected += 1;
            self.counters.not_finite += u64::from(!k.gain.is_finite() || !k.feed_forward.is_finite());
            return 1.0;
        }
        let p = &self.params;
        let bounded = Knobs {
            target: k.target.clamp(p.target.0, p.target.1),
            gain: k.gain.clamp(p.gain[0], p.gain[p.gain.len() - 1]),
            ramp_min: k.ramp_min.clamp(p.ramp_min.0, p.ramp_min.1),
            feed_forward: 1.0,
        };
        if (Knobs { feed_forward: 1.0, ..k }) == bounded {
            self.counters.admitted += 1;
        } else {
            self.counters.clamped += 1;
        }
        self.goal = bounded;
        self.goal_from = d.window_end;
        self.state = State::Model;
        let due = self.last_feed_forward.is_none_or(|at| now.since(at) >= self.params.feed_forward_gap);
        if k.feed_forward != 1.0 && due {
            self.last_feed_forward = Some(now);
            k.feed_forward
        } else {
            1.0
        }
    }

    /// Other defaults: what a fallback returns to, and what it is on its way to if it is in charge.
    pub fn set_defaults(&mut self, defaults: Knobs) {
        self.defaults = defaults;
        if self.state == State::Fallback {
            self.goal = defaults;
        }
        if self.params.shadow {
            self.in_force = defaults;
        }
    }

    /// Moves what is in force towards the goal by one bin, if the time has come. While there is nothing to move, that time
    /// goes on in whole steps from the last move.
    fn slew(&mut self, now: Instant) {
        let bin_times = now.since(self.moved_at).as_nanos() / self.params.bin_time.as_nanos().max(1);
        if bin_times == 0 {
            return;
        }
        if self.in_force == self.goal {
            self.moved_at += Span::from_nanos(bin_times * self.params.bin_time.as_nanos());
            return;
        }
        self.moved_at = now;
        let span = |from: Span, to: Span, (least, most): (Span, Span)| {
            let ns = |s: Span| s.as_nanos() as f64;
            if from == to {
                return to;
            }
            let bin = (ns(most) / ns(least)).powf(1.0 / f64::from(self.params.bins.max(2) - 1));
            Span::from_nanos(ns(to).clamp(ns(from) / bin, ns(from) * bin).round() as u64)
        };
        self.in_force.target = span(self.in_force.target, self.goal.target, self.params.target);
        self.in_force.ramp_min = span(self.in_force.ramp_min, self.goal.ramp_min, self.params.ramp_min);
        let (least, most) = beside(&self.params.gain, self.in_force.gain);
        self.in_force.gain = self.goal.gain.clamp(least, most);
    }

    /// The parameters in force.
    pub const fn in_force(&self) -> Knobs {
        self.in_force
    }

    /// How long ago the window closed that the last admitted decision was made from; `None` in fallback.
    pub fn decision_age(&self, now: Instant) -> Option<Span> {
        (self.state == State::Model).then(|| now.since(self.goal_from))
    }

    /// Who sets them.
    pub const fn state(&self) -> State {
        self.state
    }

    /// What became of the decisions.
    pub const fn counters(&self) -> GuardCounters {
        self.counters
    }
}

/// What is one step below and above `x`, in the logarithm, where a step is from one of `values` to the next; a step down
/// is that between the values around `x`, and so is a step up.
fn beside(values: &[f64; 7], x: f64) -> (f64, f64) {
    let last = values.len() - 1;
    let up = values[..last].iter().rposition(|v| *v <= x).unwrap_or(0);
    let down = values[1..].iter().position(|v| *v >= x).map_or(last, |i| i + 1);
    // In this order a value of the list comes to the next one exactly.
    (values[down - 1] * (x / values[down]), values[up + 1] * (x / values[up]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decision(target_ms: f64, at: Instant) -> Decision {
        Decision {
            based_on: 0,
            window_end: at,
            knobs: Knobs { target: Span::from_secs_f64(target_ms / 1e3), ..Knobs::default() },
        }
    }

    fn ms(n: u64) -> Instant {
        Instant::from_millis(n)
    }

    /// 12 bins over 1..25 ms: a bin is a factor of 25^(1/11) = 1.33995.
    #[test]
    fn one_bin_per_64_ms() {
        let mut g = Guard::new(GuardParams::default(), Knobs::default(), ms(0));
        let mut at = 0;
        let mut seen = Vec::new();
        while seen.len() < 4 {
            at += 16;
            if let Some(k) = g.step(Some(&decision(5.0, ms(at))), ms(at)) {
                seen.push((at, (k.target.as_millis_f64() * 1e3).round() / 1e3));
            }
        }
        assert_eq!(seen, [(64, 11.195), (128, 8.354), (192, 6.235), (256, 5.0)]);
    }

    /// The target at each of these times, when 5 ms are asked for at each from the first on.
    fn targets_ms(at_ms: &[u64]) -> Vec<f64> {
        let mut g = Guard::new(GuardParams::default(), Knobs::default(), ms(0));
        let mut at = |n| {
            g.step(Some(&decision(5.0, ms(n))), ms(n));
            (g.in_force().target.as_millis_f64() * 1e3).round() / 1e3
        };
        at_ms.iter().map(|&n| at(n)).collect()
    }

    /// From the move at 127 ms on, 64 ms pass before the next.
    #[test]
    fn a_late_move_puts_off_the_next() {
        assert_eq!(
            targets_ms(&[1, 127, 128, 190, 191, 192, 255]),
            [15.0, 11.195, 11.195, 11.195, 8.354, 8.354, 6.235]
        );
    }

    /// 64 ms from move to move in a call each ms: 15 in a second.
    #[test]
    fn the_cadence_of_calls_does_not_hasten_moves() {
        let mut g = Guard::new(GuardParams::default(), Knobs::default(), ms(0));
        let moved = (1..=1000).filter(|&n| {
            let wanted = if n / 64 % 2 == 0 { 1.0 } else { 25.0 };
            g.step(Some(&decision(wanted, ms(n))), ms(n)).is_some()
        });
        assert_eq!(moved.collect::<Vec<_>>(), (1..=15).map(|n| n * 64).collect::<Vec<_>>());
    }

    /// A bin a call, however long nobody called; and after a second without anything to do it is a bin, too.
    #[test]
    fn time_is_not_saved_up() {
        assert_eq!(targets_ms(&[200, 400, 463, 464, 600]), [11.195, 8.354, 8.354, 6.235, 5.0]);
        let mut g = Guard::new(GuardParams::default(), Knobs::default(), ms(0));
        g.step(Some(&decision(15.0, ms(1000))), ms(1000));
        let mut at = |n| g.step(Some(&decision(5.0, ms(n))), ms(n)).is_some();
        assert_eq!((1001..=1152).filter(|&n| at(n)).collect::<Vec<_>>(), [1024, 1088, 1152]);
    }

    /// .5, .7, 1, 1.4, 2, 4, 8 in 64 ms each, exactly; 1.2 is between 1 and 1.4, a step of 1.4 up and down.
    #[test]
    fn the_gain_moves_by_its_own_steps() {
        let mut g = Guard::new(GuardParams::default(), Knobs::default(), ms(0));
        let mut at = 0;
        let mut gains = |wanted| {
            let mut seen = Vec::new();
            for _ in 0..5 {
                at += 64;
                let k = Knobs { gain: wanted, ..Knobs::default() };
                g.step(Some(&Decision { knobs: k, ..decision(15.0, ms(at)) }), ms(at));
                seen.push((g.in_force().gain * 1e12).round() / 1e12);
            }
            seen
        };
        assert_eq!(gains(9.0), [1.4, 2.0, 4.0, 8.0, 8.0]);
        assert_eq!(gains(1.0), [4.0, 2.0, 1.4, 1.0, 1.0]);
        assert_eq!(gains(0.5), [0.7, 0.5, 0.5, 0.5, 0.5]);
        assert_eq!(gains(1.2), [0.7, 1.0, 1.2, 1.2, 1.2]);
        assert_eq!(gains(2.0), [1.68, 2.0, 2.0, 2.0, 2.0]);
        assert_eq!(gains(1.2), [1.4, 1.2, 1.2, 1.2, 1.2]);
        assert_eq!(gains(0.5), [0.857_142_857_143, 0.6, 0.5, 0.5, 0.5]);
        let values = GuardParams::default().gain;
        assert_eq!((beside(&values, 0.5).1, beside(&values, 8.0).0), (0.7, 4.0));
        assert_eq!(beside(&values, 1.0), (0.7, 1.4));
    }

    /// Decisions stop: the state falls back within the expiry, the target slews home, p' is never touched.
    #[test]
    fn silence_returns_to_the_defaults() {
        let mut g = Guard::new(GuardParams::default(), Knobs::default(), ms(0));
        for at in (16..=1600).step_by(16) {
            g.step(Some(&decision(5.0, ms(at))), ms(at));
        }
        assert_eq!(g.state(), State::Model);
        assert_eq!(g.in_force().target, Span::from_millis(5));
        let mut home_at = None;
        for at in (1616..=3200).step_by(16) {
            if let Some(k) = g.step(None, ms(at)) {
                assert_eq!(k.feed_forward, 1.0);
                home_at = Some(at);
            }
            assert_eq!(g.state() == State::Fallback, at > 1632, "{at}");
        }
        assert_eq!(g.in_force(), Knobs::default());
        assert!(home_at.is_some_and(|at| at <= 1600 + 64 * 6), "{home_at:?}: four bins and the expiry");
        assert_eq!(g.counters().fallbacks, 1);
    }

    /// Other defaults do not disturb a decision in force; a fallback goes to them, and shadow mode is there at once.
    #[test]
    fn other_defaults_are_what_a_fallback_returns_to() {
        let new = Knobs { target: Span::from_millis(10), ..Knobs::default() };
        let mut g = Guard::new(GuardParams::default(), Knobs::default(), ms(0));
        for at in (16..=640).step_by(16) {
            g.step(Some(&decision(5.0, ms(at))), ms(at));
        }
        g.set_defaults(new);
        g.step(None, ms(656));
        assert_eq!((g.state(), g.in_force().target), (State::Model, Span::from_millis(5)));
        for at in (672..=1600).step_by(16) {
            g.step(None, ms(at));
        }
        assert_eq!(g.in_force(), new);
        g.set_defaults(Knobs::default());
        assert_eq!(g.in_force(), new, "one bin at a time");
        for at in (1616..=2400).step_by(16) {
            g.step(None, ms(at));
        }
        assert_eq!(g.in_force(), Knobs::default());
        let shadow = GuardParams { shadow: true, ..GuardParams::default() };
        let mut g = Guard::new(shadow, Knobs::default(), ms(0));
        g.set_defaults(new);
        assert_eq!((g.step(Some(&decision(5.0, ms(16))), ms(16)), g.in_force()), (None, new));
    }

    #[test]
    fn stale_and_mad_decisions_are_counted_and_ignored() {
        let mut g = Guard::new(GuardParams::default(), Knobs::default(), ms(0));
        g.step(Some(&decision(5.0, ms(0))), ms(100));
        let nan = Decision { knobs: Knobs { gain: f64::NAN, ..Knobs::default() }, ..decision(5.0, ms(100)) };
        g.step(Some(&nan), ms(100));
        let odd =
            Decision { knobs: Knobs { feed_forward: 3.0, ..Knobs::default() }, ..decision(5.0, ms(100)) };
        g.step(Some(&odd), ms(100));
        assert_eq!((g.counters().stale, g.counters().rejected, g.state()), (1, 2, State::Fallback));
    }

    /// A decision from the future is refused as out of range is, and does not keep the last good one alive.
    #[test]
    fn a_decision_from_the_future_is_rejected() {
        let mut g = Guard::new(GuardParams::default(), Knobs::default(), ms(0));
        g.step(Some(&decision(5.0, ms(16))), ms(16));
        for at in (32..=64).step_by(16) {
            g.step(Some(&decision(5.0, ms(10_000))), ms(at));
        }
        let c = g.counters();
        assert_eq!((c.admitted, c.rejected, c.not_finite, c.stale, c.fallbacks), (1, 3, 0, 0, 1));
        assert_eq!((g.state(), g.in_force()), (State::Fallback, Knobs::default()));
        g.step(Some(&decision(5.0, Instant::from_nanos(80_000_001))), ms(80));
        assert_eq!(g.counters().rejected, 4, "by a nanosecond");
    }

    #[test]
    fn feed_forward_acts_at_once_and_at_most_four_times_a_second() {
        let mut g = Guard::new(GuardParams::default(), Knobs::default(), ms(0));
        let mut fired = Vec::new();
        for at in (16..=1000).step_by(16) {
            let d =
                Decision { knobs: Knobs { feed_forward: 2.0, ..Knobs::default() }, ..decision(15.0, ms(at)) };
            if let Some(k) = g.step(Some(&d), ms(at)) {
                assert_eq!(k.feed_forward, 2.0);
                fired.push(at);
            }
        }
        assert_eq!(fired, [16, 272, 528, 784]);
    }

    #[test]
    fn shadow_decides_and_changes_nothing() {
        let mut g =
            Guard::new(GuardParams { shadow: true, ..GuardParams::default() }, Knobs::default(), ms(0));
        for at in (16..=1600).step_by(16) {
            assert_eq!(g.step(Some(&decision(5.0, ms(at))), ms(at)), None);
        }
        assert_eq!((g.in_force(), g.counters().admitted), (Knobs::default(), 100));
    }

    proptest! {
        /// Hostile outputs: always in range, never more than a bin per 64 ms, p' only by the listed factors.
        #[test]
        fn hostile_decisions_cannot_leave_the_envelope(
            outputs in prop::collection::vec(
                (any::<u64>(), any::<f64>(), any::<u64>(), prop_oneof![any::<f64>(), Just(4.0), Just(0.25)]),
                1..400,
            ),
            gap in 1u64..200,
        ) {
            let p = GuardParams::default();
            let mut g = Guard::new(p, Knobs::default(), ms(0));
            let bin = 25f64.powf(1.0 / 11.0) * (1.0 + 1e-6);
            let mut now = 0;
            let mut last = Knobs::default();
            for (target, gain, ramp, ff) in outputs {
                now += gap;
                let knobs = Knobs {
                    target: Span::from_nanos(target),
                    gain,
                    ramp_min: Span::from_nanos(ramp),
                    feed_forward: ff,
                };
                let d = Decision { based_on: 0, window_end: ms(now), knobs };
                if let Some(k) = g.step(Some(&d), ms(now)) {
                    prop_assert!(FEED_FORWARD.contains(&k.feed_forward));
                }
                let k = g.in_force();
                prop_assert!(k.target >= p.target.0 && k.target <= p.target.1);
                prop_assert!(k.ramp_min >= p.ramp_min.0 && k.ramp_min <= p.ramp_min.1);
                prop_assert!(k.gain >= p.gain[0] && k.gain <= p.gain[6]);
                let ratio = k.target.as_millis_f64() / last.target.as_millis_f64();
                prop_assert!(ratio <= bin && ratio >= 1.0 / bin, "{ratio}");
                last = k;
            }
        }
    }
}
