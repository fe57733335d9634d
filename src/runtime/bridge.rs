//! From a validated configuration to the parts of a bridge: which discipline, how large its buffer, how many frames
//! the ports must be able to hold, and how the loop waits.

use crate::aqm::params::{Knobs, Limit, MTU_BYTES};
use crate::config::{Config, Sched};
use crate::control::guard::GuardParams;
use crate::egress::{EgressConfig, LimitRule};
use crate::runtime::change::Change;
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

/// Most frames of one part of a plan.
const MOST: u32 = 32_768;

impl FramePlan {
    /// Room for the byte limit filled with packets a sixth of full size (a mix with many acknowledgements), within
    /// memory that a small machine can spare. More and smaller packets are tail-dropped before the byte limit.
    pub fn new(config: &Config) -> Self {
        let frames = |bytes: u64, least: u64| {
            (bytes / 256).clamp(least, u64::from(MOST)).next_power_of_two().min(u64::from(MOST)) as u32
        };
        let limit = Direction::BOTH.map(|d| limit_rule(config).bytes(rate(config, d))).into_iter().max();
        let line = Direction::BOTH.map(|d| rate(config, d).bytes_in(config.link.delay)).into_iter().max();
        let delay = if config.link.delay == Span::ZERO { 0 } else { frames(2 * line.unwrap_or(0), 1024) };
        Self { queue: frames(limit.unwrap_or(0), 4096), delay }
    }

    /// Whether a bridge with these frames can go on under `config`: they hold its limit in full-size packets and twice
    /// what is on its delay line, or are as many as any bridge has.
    pub fn carries(&self, config: &Config) -> bool {
        let holds =
            |frames: u32, bytes: u64| frames == MOST || bytes.div_ceil(u64::from(MTU_BYTES)) <= frames.into();
        Direction::BOTH.into_iter().map(|d| rate(config, d)).all(|rate| {
            holds(self.queue, limit_rule(config).bytes(rate))
                && holds(self.delay, 2 * rate.bytes_in(config.link.delay))
        })
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

/// What a running bridge with these frames takes over of `config`.
pub fn change(config: &Config, plan: FramePlan, seed: u64, number: u64) -> Change {
    let egress = Direction::BOTH.map(|d| egress(config, d, plan, seed));
    Change { number, egress, defaults: default_knobs(config) }
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
        window: config.window(),
        spin: SPIN,
        busy_poll: config.runtime.busy_poll,
        nap: (fifo && throttled).then_some(FIFO_NAP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn config(rate: &str, delay: &str) -> Config {
        let text = format!(
            "[left]\nport = \"mem:\"\n[right]\nport = \"mem:\"\n[link]\nrate = \"{rate}\"\ndelay = \"{delay}\"\n"
        );
        Settings::from_toml(&text, "test").unwrap().validate().unwrap()
    }

    /// 250 ms of 40 Mbit/s are 826 packets of 1514 bytes and 4883 of 256: 8192 frames, which hold 250 ms of up to
    /// 396.9 Mbit/s. 1 ms is at least 1024 frames, half of them are 1 ms of 6.2 Gbit/s; 100 ms of 40 Mbit/s are 4096
    /// frames, half of them are 100 ms of 248 Mbit/s.
    #[test]
    fn a_plan_carries_what_fits_into_its_frames() {
        let plan = FramePlan::new(&config("40Mbit", "0ms"));
        assert_eq!((plan.queue, plan.delay), (8192, 0));
        let carries = |plan: FramePlan, rate, delay| plan.carries(&config(rate, delay));
        assert_eq!(["1Mbit", "396Mbit", "398Mbit"].map(|r| carries(plan, r, "0ms")), [true, true, false]);
        let plan = FramePlan::new(&config("40Mbit", "100ms"));
        assert_eq!((plan.queue, plan.delay), (8192, 4096));
        assert_eq!(["247Mbit", "249Mbit"].map(|r| carries(plan, r, "100ms")), [true, false]);
        let most = FramePlan::new(&config("10Gbit", "0ms"));
        assert!(most.queue == MOST && carries(most, "400Gbit", "0ms"), "a restart would not bring more");
    }
}
