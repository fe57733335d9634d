//! A policy that decides while a simulation runs, behind the guard of the live path, with a delay between the close of
//! a window and the moment that the decision made of it is in force.

use std::collections::VecDeque;

use super::Scenario;
use super::models;
use super::run::SimError;
use crate::aqm::params::Knobs;
use crate::config::Policy as PolicyName;
use crate::control::Decision;
use crate::control::guard::{Guard, GuardCounters, GuardParams, State};
use crate::control::policy::Policy;
use crate::control::policy::replay::Replay;
use crate::control::policy::rules::{Ruled, Rules};
use crate::egress::Egress;
use crate::report::result::{LookAheadResult, RunResult};
use crate::telemetry::TelemetryWindow;
use crate::telemetry::features::schema::Schema;
use crate::time::{Instant, Span};

/// The controller of one run.
pub(super) struct Controller {
    policy: Box<dyn Policy>,
    guard: Guard,
    latency: Span,
    /// Decisions on their way, oldest first, with the time that they arrive.
    under_way: VecDeque<(Instant, Decision)>,
    /// The factor that p' was multiplied with in the window that is open.
    feed_forward: f64,
    decisions: u64,
    windows: u64,
    windows_in_fallback: u64,
}

impl Controller {
    /// The controller that a policy's name stands for; `None` for constants.
    pub(super) fn of(name: &PolicyName, scenario: &Scenario) -> Result<Option<Self>, SimError> {
        let policy: Box<dyn Policy> = match name {
            PolicyName::Replay(file) => Box::new(Replay::open(file, Instant::ZERO)?),
            PolicyName::DualPi2Rules(file) => {
                let schema = Schema::embedded();
                Box::new(Ruled::new(Rules::open(file.as_deref(), &schema)?, &schema))
            }
            PolicyName::Model(which) => Box::new(models::policy(which, &[])?),
            PolicyName::LookAhead(setup) => Box::new(models::look_ahead(setup)?),
            _ => return Ok(None),
        };
        Ok(Some(Self::new(policy, scenario)))
    }

    /// The controller that asks `policy`.
    pub(super) fn new(policy: Box<dyn Policy>, scenario: &Scenario) -> Self {
        let params = GuardParams { expires: scenario.t_expire, ..GuardParams::default() };
        Self {
            policy,
            guard: Guard::new(params, Knobs::default(), Instant::ZERO),
            latency: scenario.decision_latency,
            under_way: VecDeque::new(),
            feed_forward: 1.0,
            decisions: 0,
            windows: 0,
            windows_in_fallback: 0,
        }
    }

    /// The parameters in force, with the feed-forward of the window that is open.
    pub(super) const fn in_force(&self) -> Knobs {
        Knobs { feed_forward: self.feed_forward, ..self.guard.in_force() }
    }

    /// When the next decision arrives.
    pub(super) fn due(&self) -> Option<Instant> {
        self.under_way.front().map(|(at, _)| *at)
    }

    /// Takes the decision that arrives at `now`.
    pub(super) fn apply_due(&mut self, egress: &mut Egress<u32>, now: Instant) {
        if let Some((_, decision)) = self.under_way.pop_front()
            && let Some(knobs) = self.guard.step(Some(&decision), now)
        {
            self.feed_forward *= knobs.feed_forward;
            egress.apply(&knobs, now);
        }
    }

    /// A window has closed, inside the `measured` time or before.
    pub(super) fn window(&mut self, window: &TelemetryWindow, egress: &mut Egress<u32>, measured: bool) {
        let now = window.end;
        let seen = self.in_force();
        self.feed_forward = 1.0;
        if let Some(knobs) = self.guard.step(None, now) {
            egress.apply(&knobs, now);
        }
        if let Ok(knobs) = self.policy.decide(window, &seen) {
            let decision = Decision { based_on: window.id, window_end: now, knobs };
            self.decisions += 1;
            self.under_way.push_back((now + self.latency, decision));
        }
        if measured {
            self.windows += 1;
            self.windows_in_fallback += u64::from(self.guard.state() == State::Fallback);
        }
    }

    /// What the guard made of the decisions.
    pub(super) const fn counters(&self) -> GuardCounters {
        self.guard.counters()
    }

    /// Writes what became of the decisions.
    pub(super) fn report(&self, result: &mut RunResult) {
        let counters = self.guard.counters();
        result.fallback_share = Some(self.windows_in_fallback as f64 / self.windows.max(1) as f64);
        result.controller.decisions = Some(self.decisions);
        result.controller.late = Some(counters.stale);
        result.controller.rejected = Some(counters.rejected);
        if let Some(counts) = self.policy.look_ahead() {
            result.controller.look_ahead = LookAheadResult::of(&counts, result.duration_s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::policy::Abstention;
    use crate::sim::run::simulation;

    struct Always(Knobs);

    impl Policy for Always {
        fn decide(&mut self, _: &TelemetryWindow, _: &Knobs) -> Result<Knobs, Abstention> {
            Ok(self.0)
        }
    }

    /// The first window closes at 16 ms; a decision takes 10 ms; the guard then moves a bin per 64 ms.
    #[test]
    fn a_decision_is_in_force_after_its_latency_and_not_before() {
        let text = "name = \"x\"\nduration = \"1s\"\n[link]\nrate = \"10Mbit\"\n[[flow]]\ncc = \"reno\"\nrtt = \"20ms\"\n";
        let scenario =
            Scenario { decision_latency: Span::from_millis(10), ..Scenario::parse(text, "x").unwrap() };
        let mut sim = simulation(&scenario, &PolicyName::DualPi2, 1);
        let wanted = Knobs { target: Span::from_millis(5), ..Knobs::default() };
        let mut c = Controller::new(Box::new(Always(wanted)), &scenario);
        let mut changed = Vec::new();
        for ms in (16..=160).step_by(16) {
            let end = Instant::from_millis(ms);
            while let Some(at) = c.due().filter(|&at| at <= end) {
                sim.run_until(at, &mut ());
                let before = c.in_force().target;
                c.apply_due(sim.bottleneck(), at);
                if c.in_force().target != before {
                    changed.push(at.as_nanos() / 1_000_000);
                }
            }
            sim.run_until(end, &mut ());
            let window = sim.bottleneck().take_window(end);
            let before = c.in_force().target;
            c.window(&window, sim.bottleneck(), true);
            if c.in_force().target != before {
                changed.push(ms);
            }
        }
        assert_eq!(changed, [64, 128], "the goal is known from 26 ms on, and a bin is free at each 64 ms");
        let mut result = RunResult::default();
        c.report(&mut result);
        assert_eq!((result.controller.decisions, result.controller.late), (Some(10), Some(0)));
        assert_eq!(result.fallback_share, Some(0.1), "until the first decision came");
    }
}
