//! From a validated configuration to the parts of a bridge: which discipline, how large its buffer, how many frames
//! the ports must be able to hold, and how the loop waits.

use crate::aqm::params::{Knobs, Limit};
use crate::config::{Config, Sched};
use crate::control::guard::GuardParams;
use crate::egress::{EgressConfig, LimitRule};
use crate::runtime::forwarder::{FIFO_NAP, LoopOptions};
use crate::runtime::thread::SPIN;
use crate::telemetry::Direction;
use crate::time::Span;
use crate::units::BitRate;

/// How many frames each part of a bridge may hold.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct FramePlan {
    /// In the queues of one direction.
    pub queue: u32,
    /// On the emulated delay line of one direction.
    pub delay: u32,
}

impl FramePlan {
    /// Room for the byte limit filled with packets a sixth of full size (a mix with many acknowledgements), within
    /// memory that a small machine can spare. More and smaller packets are tail-dropped before the byte limit.
    pub fn new(config: &Config) -> Self {
        let frames = |bytes: u64, least: u64| {
            (bytes / 256).clamp(least, 32_768).next_power_of_two().min(32_768) as u32
        };
        let limit = Direction::BOTH.map(|d| limit_rule(config).bytes(rate(config, d))).into_iter().max();
        let line = Direction::BOTH.map(|d| rate(config, d).bytes_in(config.link.delay)).into_iter().max();
        let delay = if config.link.delay == Span::ZERO { 0 } else { frames(2 * line.unwrap_or(0), 1024) };
        Self { queue: frames(limit.unwrap_or(0), 4096), delay }
    }

    /// In both directions together.
    pub const fn total(self) -> u32 {
        2 * (self.queue + self.delay)
    }
}

/// The shaper's rate of a direction.
pub const fn rate(config: &Config, direction: Direction) -> BitRate {
    match direction {
        Direction::LeftToRight => config.link.rate,
        Direction::RightToLeft => config.link.rate_right_to_left,
    }
}

fn limit_rule(config: &Config) -> LimitRule {
    config.aqm.limit_rule(config.link.limit)
}

/// The egress of a direction.
pub fn egress(config: &Config, direction: Direction, plan: FramePlan, seed: u64) -> EgressConfig {
    let rate = rate(config, direction);
    let rule = limit_rule(config);
    let limit = Limit { bytes: rule.bytes(rate), packets: plan.queue };
    let discipline = config.aqm.discipline(limit, seed);
    EgressConfig { rate, overhead: config.link.overhead, mpu: config.link.mpu, limit: rule, discipline }
}

/// What a controller's fallback returns to: the configured constants.
pub fn default_knobs(config: &Config) -> Knobs {
    let knobs = Knobs::default();
    Knobs { target: config.aqm.target.unwrap_or(knobs.target), ..knobs }
}

/// The guard in front of a controller.
pub fn guard(config: &Config) -> GuardParams {
    GuardParams { expires: config.control.t_expire, shadow: config.control.shadow, ..GuardParams::default() }
}

/// How the loop waits. `throttled` = the kernel throttles real-time threads that never rest.
pub fn loop_options(config: &Config, warmup: Span, duration: Option<Span>, throttled: bool) -> LoopOptions {
    let fifo = matches!(config.runtime.sched, Sched::Fifo(_));
    LoopOptions {
        warmup,
        duration,
        window: config.aqm.t_update,
        spin: SPIN,
        busy_poll: config.runtime.busy_poll,
        nap: (fifo && throttled).then_some(FIFO_NAP),
    }
}
