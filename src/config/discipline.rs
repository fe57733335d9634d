//! From a policy's name and constants to the discipline that carries it out. The bridge and the simulator both come
//! here, so that a name means the same in both.

use super::{AqmConfig, Constants, Limit, Policy};
use crate::aqm::params::{self, Discipline, DualQParams, Law, MTU_BYTES, PiParams, SingleParams};
use crate::egress::LimitRule;
use crate::time::Span;

impl AqmConfig {
    /// A policy with its own constants.
    pub fn of(policy: Policy) -> Self {
        Self { policy, target: None, t_update: PiParams::default().t_update, nqb: false }
    }

    /// How many bytes may wait: what the user wants, or what the policy is defined with.
    pub fn limit_rule(&self, wanted: Option<Limit>) -> LimitRule {
        match (wanted, &self.policy) {
            (Some(Limit::Bytes(b)), _) => LimitRule::Bytes(b),
            (Some(Limit::Time(t)), _) => LimitRule::Time(t),
            (None, Policy::DualPi2Linux) => LimitRule::Bytes(10_000 * u64::from(MTU_BYTES)),
            (None, _) => LimitRule::DEFAULT,
        }
    }

    /// The discipline, with a buffer of at most `limit`. `seed` is that of random marking.
    pub fn discipline(&self, limit: params::Limit, seed: u64) -> Discipline {
        let tuned = |pi: PiParams| PiParams {
            target: self.target.unwrap_or(pi.target),
            t_update: self.t_update,
            ..pi
        };
        let dual = |p: DualQParams, limit| {
            Discipline::DualQ(DualQParams { pi: tuned(p.pi), nqb: self.nqb, limit, ..p })
        };
        let single = |law| Discipline::Single(SingleParams { law, limit });
        match &self.policy {
            Policy::DualPi2
            | Policy::DualPi2Rules(_)
            | Policy::Replay(_)
            | Policy::Model(_)
            | Policy::LookAhead(_) => dual(DualQParams::rfc9332(limit), limit),
            Policy::DualPi2With(constants) => dual(constants.over(&DualQParams::rfc9332(limit)), limit),
            Policy::DualPi2Tuned => dual(Constants::tuned().over(&DualQParams::rfc9332(limit)), limit),
            Policy::DualPi2Ff => {
                dual(DualQParams { rate_feed_forward: true, ..DualQParams::rfc9332(limit) }, limit)
            }
            Policy::DualPi2Linux => {
                let linux = DualQParams::linux(seed);
                let packets = limit.packets.min(linux.limit.packets);
                dual(linux, params::Limit { packets, ..limit })
            }
            Policy::Pi2 => single(Law::Pi2(tuned(PiParams::default()))),
            Policy::Codel => single(Law::Codel {
                target: self.target.unwrap_or(Span::from_millis(5)),
                interval: Span::from_millis(100),
            }),
            Policy::Taildrop => single(Law::TailDrop),
        }
    }
}
