//! How the capacity of a link goes over time: constant, stepped, generated, or a recorded trace.
//!
//! Everything is worked out before a run begins, from the scenario and the seed: a [`Program`] is data, and the engine
//! carries it out. It must not depend on what the traffic does.

pub mod generator;
pub mod trace;

use std::sync::Arc;

use fastrand::Rng;

pub use generator::Generator;
pub use trace::{Trace, TraceError};

use crate::time::Span;
use crate::units::BitRate;

/// A change of the link's rate.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// When.
    pub at: Span,
    /// To which rate.
    pub rate: BitRate,
}

/// Bytes of frame in one opportunity of a trace: 1500 bytes of IP in a full-size frame.
pub const OPPORTUNITY_BYTES: u16 = 1514;

/// What a scenario says of its link's capacity.
#[derive(Clone, Debug)]
pub enum LinkSpec {
    /// A first rate and changes that the shaper is told of.
    Rates {
        /// At the beginning.
        initial: BitRate,
        /// Later, in the order of time.
        steps: Vec<Step>,
    },
    /// Drawn by a rule.
    Generated(Generator),
    /// Recorded opportunities, in a loop. Nobody is told of the capacity.
    Trace(Arc<Trace>),
}

/// What the link does in one run.
#[derive(Clone, Debug)]
pub struct Program {
    /// The rate that the bottleneck is configured with: the first one, or the mean of what nobody is told of.
    pub configured: BitRate,
    /// The course of the capacity.
    pub course: Course,
}

/// The course of a capacity.
#[derive(Clone, Debug)]
pub enum Course {
    /// Rates, piece by piece.
    Rates {
        /// In the order of time; what is at 0 is in force from the beginning.
        changes: Arc<[Step]>,
        /// The shaper's configuration does not follow.
        hidden: bool,
    },
    /// Opportunities of [`OPPORTUNITY_BYTES`].
    Trace {
        /// The recording.
        trace: Arc<Trace>,
        /// How far into it the run begins.
        offset: Span,
    },
}

impl Program {
    /// A link that never changes.
    pub fn constant(rate: BitRate) -> Self {
        Self { configured: rate, course: Course::Rates { changes: Arc::new([]), hidden: false } }
    }
}

impl LinkSpec {
    /// Works out a run of `duration`. Rates are multiplied by `scale`; a trace, which has no rate to scale, begins at a
    /// drawn place instead if `scale` is drawn at all (not 1).
    pub fn program(&self, duration: Span, scale: f64, rng: &mut Rng) -> Program {
        match self {
            Self::Rates { initial, steps } => {
                let changes = steps.iter().map(|s| Step { rate: scaled(s.rate, scale), ..*s }).collect();
                Program {
                    configured: scaled(*initial, scale),
                    course: Course::Rates { changes, hidden: false },
                }
            }
            Self::Generated(generator) => {
                let changes = generator.steps(duration, scale, rng);
                let hidden = generator.is_hidden();
                let first = changes.first().map_or(BitRate::MIN, |s| s.rate);
                let configured = if hidden { mean(&changes, duration) } else { first };
                Program { configured, course: Course::Rates { changes: changes.into(), hidden } }
            }
            Self::Trace(trace) => {
                let period = trace.period().as_nanos();
                let offset = if scale == 1.0 { 0 } else { rng.u64(0..period) };
                Program {
                    configured: trace.mean_rate(),
                    course: Course::Trace { trace: Arc::clone(trace), offset: Span::from_nanos(offset) },
                }
            }
        }
    }

    /// Steps that a recovery is measured from.
    pub fn steps(&self) -> &[Step] {
        match self {
            Self::Rates { steps, .. } => steps,
            Self::Generated(_) | Self::Trace(_) => &[],
        }
    }

    /// The rate that relative loads are relative to: the first one, or the mean.
    pub fn nominal(&self) -> BitRate {
        match self {
            Self::Rates { initial, .. } => *initial,
            Self::Generated(generator) => generator.nominal(),
            Self::Trace(trace) => trace.mean_rate(),
        }
    }
}

/// A rate times a factor, within what a shaper takes.
pub(super) fn scaled(rate: BitRate, factor: f64) -> BitRate {
    rate_of(rate.as_bps() as f64 * factor)
}

/// The nearest rate that a shaper takes.
pub(super) fn rate_of(bps: f64) -> BitRate {
    let bps = bps.clamp(BitRate::MIN.as_bps() as f64, BitRate::MAX.as_bps() as f64).round();
    BitRate::new(bps as u64).unwrap_or(BitRate::MIN)
}

/// The mean over time of rates that begin at 0.
fn mean(changes: &[Step], duration: Span) -> BitRate {
    let ends = changes.iter().skip(1).map(|s| s.at).chain([duration]);
    let bits: f64 =
        changes.iter().zip(ends).map(|(s, end)| s.rate.as_bps() as f64 * (end - s.at).as_secs_f64()).sum();
    rate_of(bits / duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10 Mbit/s for 1 s, then 30 for 3 s: 25 on average.
    #[test]
    fn the_mean_is_over_time() {
        let steps = [
            Step { at: Span::ZERO, rate: BitRate::from_mbps(10) },
            Step { at: Span::from_secs(1), rate: BitRate::from_mbps(30) },
        ];
        assert_eq!(mean(&steps, Span::from_secs(4)), BitRate::from_mbps(25));
    }

    #[test]
    fn scaling_reaches_every_rate() {
        let spec = LinkSpec::Rates {
            initial: BitRate::from_mbps(40),
            steps: vec![Step { at: Span::from_secs(1), rate: BitRate::from_mbps(10) }],
        };
        let p = spec.program(Span::from_secs(2), 1.1, &mut Rng::with_seed(1));
        assert_eq!(p.configured, BitRate::from_mbps(44));
        let Course::Rates { changes, hidden: false } = p.course else { panic!("{p:?}") };
        assert_eq!(changes[0].rate, BitRate::from_mbps(11));
    }
}
