//! What an environment is made of.

use std::sync::Arc;

use super::reward::RewardParams;
use crate::control::action::{ActionError, ActionTable};
use crate::sim::Scenario;
use crate::telemetry::features::Schema;
use crate::time::{Instant, Span};

/// Why there is no environment, or no step.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// An empty list.
    #[error("there is no scenario; give at least one")]
    NoScenario,
    /// An option outside its range.
    #[error("{name} = {value} is out of range: {range}")]
    Option {
        /// Which.
        name: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        range: &'static str,
    },
    /// Numbers that are not an action. No environment was stepped.
    #[error("action {index}: {source}")]
    Action {
        /// Whose, counted from 0.
        index: usize,
        /// What is wrong.
        source: ActionError,
    },
    /// A buffer of the wrong length.
    #[error("{name} has {found} numbers and needs {needed}")]
    Buffer {
        /// Which.
        name: &'static str,
        /// How many it has.
        found: usize,
        /// How many it must have.
        needed: usize,
    },
    /// A step past the end. No environment was stepped.
    #[error("environment {0}: its episode is over; reset it")]
    Over(usize),
    /// A place that is not there.
    #[error("environment {index}: there are {count}, counted from 0")]
    Index {
        /// The place.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// A snapshot from other scenarios or options.
    #[error("the snapshot was taken from an environment with other scenarios or options")]
    Foreign,
    /// The operating system gives no threads.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// How many.
        threads: usize,
        /// What was said.
        reason: String,
    },
}

/// Options of an environment.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvOptions {
    /// Control interval: a telemetry window, a decision, a call of the guard. 1 ms to 1 s; 16 ms.
    pub interval: Span,
    /// Intervals in a step, 1 to 1000; 1. The action is asked for once and its feed-forward fires once.
    pub hold: u32,
    /// The slow knobs (target, gain, ramp) of an action count in the first interval after a reset and in every such one
    /// from there, and are held in between; the feed-forward of an action counts always. 1 to 1000; 8, which is 128 ms.
    pub slow_every: u32,
    /// Length of an episode instead of the scenario's: at least one interval, which a reset takes, and one step.
    pub duration: Option<Span>,
    /// Simulate DualPI2 beside the candidate. Without it there is no reference: reward and its terms are zero.
    pub twin: bool,
    /// The reward.
    pub reward: RewardParams,
}

impl Default for EnvOptions {
    fn default() -> Self {
        Self {
            interval: Span::from_millis(16),
            hold: 1,
            slow_every: 8,
            duration: None,
            twin: true,
            reward: RewardParams::default(),
        }
    }
}

impl EnvOptions {
    /// How long a step lasts.
    pub fn step(&self) -> Span {
        Span::from_nanos(self.interval.as_nanos() * u64::from(self.hold))
    }

    fn check(&self) -> Result<(), EnvError> {
        let wrong = |name, value, range| Err(EnvError::Option { name, value, range });
        if self.interval < Span::from_millis(1) || self.interval > Span::from_secs(1) {
            return wrong("interval", self.interval.to_string(), "1ms to 1s");
        }
        for (name, value) in [("hold", self.hold), ("slow_every", self.slow_every)] {
            if !(1..=1000).contains(&value) {
                return wrong(name, value.to_string(), "1 to 1000 intervals");
            }
        }
        self.reward.check()
    }
}

/// Scenarios and options: what all environments of a set share.
#[derive(Debug)]
pub struct Plan {
    pub(super) scenarios: Vec<Scenario>,
    pub(super) options: EnvOptions,
    pub(super) actions: ActionTable,
    pub(super) schema: Schema,
}

impl Plan {
    /// Checks them. An episode takes one of `scenarios`, each as likely as the next.
    pub fn new(mut scenarios: Vec<Scenario>, options: EnvOptions) -> Result<Arc<Self>, EnvError> {
        if scenarios.is_empty() {
            return Err(EnvError::NoScenario);
        }
        options.check()?;
        let least = options.interval + options.step();
        for scenario in &mut scenarios {
            // What a generated link does is drawn for the whole of an episode.
            scenario.duration = options.duration.unwrap_or(scenario.duration);
            if scenario.duration < least {
                return Err(EnvError::Option {
                    name: "duration",
                    value: scenario.duration.to_string(),
                    range: "one interval and one step at least",
                });
            }
        }
        let schema = Schema::embedded();
        let actions = ActionTable::new(schema.action.clone());
        Ok(Arc::new(Self { scenarios, options, actions, schema }))
    }

    /// The options.
    pub const fn options(&self) -> &EnvOptions {
        &self.options
    }

    /// The scenarios.
    pub fn scenarios(&self) -> impl ExactSizeIterator<Item = &Scenario> {
        self.scenarios.iter()
    }

    /// What observations are.
    pub const fn schema(&self) -> &Schema {
        &self.schema
    }

    /// What actions mean.
    pub const fn actions(&self) -> &ActionTable {
        &self.actions
    }

    /// When an episode of a scenario ends.
    pub(super) fn end(&self, scenario: usize) -> Instant {
        Instant::ZERO + self.scenarios[scenario].duration
    }
}
