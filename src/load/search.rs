//! The non-drop rate: the highest load that a device passes with no more than a given loss (RFC 1242 §3.17, RFC 2544
//! §26.1), by bisection.
//!
//! The first trial is as fast as the generator goes, which bounds the search from above; the second offers what came
//! through then. A trial at which the generator could not keep up shows nothing and counts as failed.

use serde::Serialize;

use super::Offer;
use super::trial::TrialResult;

/// Below this share of what was asked for, a trial does not show what it was meant to.
const KEPT_UP: f64 = 0.98;
/// Trials after which the search ends in any case.
const MOST_STEPS: usize = 40;

/// What counts as found.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Limits {
    /// Largest share of frames lost, 0..=1.
    pub loss: f64,
    /// The search ends when the bounds are this close, as a share of the upper one.
    pub resolution: f64,
}

/// A trial of a search.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Frames a second that were asked for; absent: as fast as it goes.
    pub target_pps: Option<f64>,
    /// Whether the loss was small enough, and the generator fast enough.
    pub passed: bool,
    /// What happened.
    pub trial: TrialResult,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// The highest rate that passed, frames a second as they were sent; absent if none did.
    pub ndr_pps: Option<f64>,
    /// The same in Mbit/s without FCS.
    pub ndr_mbps: Option<f64>,
    /// The generator, not the device, was the limit: the rate is a lower bound.
    pub generator_limited: bool,
    /// All trials in order.
    pub steps: Vec<Step>,
}

/// Searches with trials made by `trial`.
pub fn ndr<E>(limits: Limits, mut trial: impl FnMut(Offer) -> Result<TrialResult, E>) -> Result<Found, E> {
    let mut found = Found { ndr_pps: None, ndr_mbps: None, generator_limited: false, steps: Vec::new() };
    let full = trial(Offer::Line)?;
    let (mut low, mut high) = (0.0, full.sent_pps);
    let mut next = full.received_pps.min(high * 0.99);
    let passed = full.sent > 0 && full.loss <= limits.loss;
    found.take(None, passed, full);
    if passed {
        found.generator_limited = true;
        return Ok(found);
    }
    while high - low > limits.resolution * high && high >= 2.0 && found.steps.len() < MOST_STEPS {
        let target = next.max(1.0);
        let result = trial(Offer::Frames(target))?;
        let passed = result.sent > 0 && result.loss <= limits.loss && result.sent_pps >= KEPT_UP * target;
        if passed {
            low = target;
        } else {
            high = target;
        }
        next = low + (high - low) / 2.0;
        found.take(Some(target), passed, result);
    }
    Ok(found)
}

impl Found {
    fn take(&mut self, target_pps: Option<f64>, passed: bool, trial: TrialResult) {
        if passed && self.ndr_pps.is_none_or(|best| trial.sent_pps > best) {
            self.ndr_pps = Some(trial.sent_pps);
            self.ndr_mbps = Some(trial.sent_mbps);
        }
        self.steps.push(Step { target_pps, passed, trial });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const LIMITS: Limits = Limits { loss: 0.0, resolution: 0.01 };

    /// A generator that makes up to `fastest`, and a device that passes `capacity`.
    fn trial(fastest: f64, capacity: f64) -> impl FnMut(Offer) -> Result<TrialResult, Infallible> {
        move |offer| {
            let sent = match offer {
                Offer::Frames(rate) => rate.min(fastest),
                _ => fastest,
            };
            let received = sent.min(capacity);
            Ok(TrialResult {
                sent: sent as u64,
                sent_pps: sent,
                sent_mbps: sent * 480.0 / 1e6,
                received: received as u64,
                received_pps: received,
                loss: 1.0 - received / sent,
                ..TrialResult::empty()
            })
        }
    }

    #[test]
    fn the_capacity_is_found_from_below_within_the_resolution() {
        for (fastest, capacity) in [(1e6, 333_333.0), (1e6, 999_999.0), (14.88e6, 7.0), (5000.0, 4999.0)] {
            let found = ndr(LIMITS, trial(fastest, capacity)).unwrap();
            let rate = found.ndr_pps.unwrap();
            assert!(rate <= capacity && rate >= 0.99 * capacity - 1.0, "{capacity}: {rate}");
            assert_eq!(found.ndr_mbps, Some(rate * 480.0 / 1e6));
            assert!(!found.generator_limited && found.steps.len() < MOST_STEPS, "{}", found.steps.len());
            let last = found.steps.last().unwrap().target_pps.unwrap();
            assert!((last - capacity).abs() <= 0.01 * capacity + 1.0, "{last}");
        }
    }

    #[test]
    fn a_device_faster_than_the_generator_is_said_to_be_so() {
        let found = ndr(LIMITS, trial(1e6, 2e6)).unwrap();
        assert_eq!((found.ndr_pps, found.generator_limited, found.steps.len()), (Some(1e6), true, 1));
    }

    #[test]
    fn a_dead_device_has_no_rate_and_the_search_ends() {
        let found = ndr(LIMITS, trial(1e6, 0.0)).unwrap();
        assert_eq!((found.ndr_pps, found.ndr_mbps), (None, None));
        assert!(found.steps.len() <= MOST_STEPS && found.steps.iter().all(|step| !step.passed));
    }

    /// Half of the frames may be lost: 1 Mpps through 600 kpps loses 40 %.
    #[test]
    fn loss_up_to_the_limit_passes() {
        let found = ndr(Limits { loss: 0.5, ..LIMITS }, trial(1e6, 6e5)).unwrap();
        assert_eq!(found.ndr_pps, Some(1e6));
    }

    /// The generator sends 100 kpps at most of what it is asked for, except when it is asked for all: those trials show
    /// nothing.
    #[test]
    fn a_trial_that_fell_short_does_not_pass() {
        let mut first = true;
        let found = ndr(LIMITS, |offer| {
            let fastest = if std::mem::take(&mut first) { 1e6 } else { 1e5 };
            trial(fastest, 5e5)(offer)
        })
        .unwrap();
        let rate = found.ndr_pps.unwrap();
        assert!((0.97e5..=1e5).contains(&rate), "{rate}");
        assert!(
            found
                .steps
                .iter()
                .all(|step| step.target_pps.is_none_or(|target| step.passed == (target < 1.021e5)))
        );
    }
}
