//! The non-drop rate: the highest load that a device passes with no more than a given loss (RFC 1242 §3.17, RFC 2544
//! §26.1), by bisection.
//!
//! The first trial is as fast as the generator goes, which bounds the search from above; the second offers what came
//! through then. What counts is the rate that was sent, not the one that was asked for: a generator that loses time to
//! other programs is asked for more, and one that cannot send more ends the search as its limit.

use serde::Serialize;

use super::Offer;
use super::trial::TrialResult;

/// Below this share of what was asked for, the generator fell short.
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
    /// Whether the loss was small enough.
    pub passed: bool,
    /// The generator sent less than it was asked for.
    pub fell_short: bool,
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
    /// The generator, not the device, was the limit: the rate is a lower bound of the device's.
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
    if found.take(limits, None, full) {
        found.generator_limited = true;
        return Ok(found);
    }
    // What the generator makes of a rate that it is asked for.
    let mut kept_up = 1.0;
    while high - low > limits.resolution * high && high >= 2.0 && found.steps.len() < MOST_STEPS {
        let target = f64::max(next / kept_up, 1.0);
        let result = trial(Offer::Frames(target))?;
        let sent = result.sent_pps;
        kept_up = (sent / target).clamp(0.5, 1.0);
        if !found.take(limits, Some(target), result) {
            (high, found.generator_limited) = (sent.min(next), false);
        } else if sent > low {
            low = sent;
        } else {
            (high, found.generator_limited) = (next, true);
        }
        next = low + (high - low) / 2.0;
    }
    Ok(found)
}

impl Found {
    /// Keeps a trial; whether it passed.
    fn take(&mut self, limits: Limits, target_pps: Option<f64>, trial: TrialResult) -> bool {
        let passed = trial.sent > 0 && trial.loss <= limits.loss;
        if passed && self.ndr_pps.is_none_or(|best| trial.sent_pps > best) {
            self.ndr_pps = Some(trial.sent_pps);
            self.ndr_mbps = Some(trial.sent_mbps);
        }
        let fell_short = target_pps.is_some_and(|target| trial.sent_pps < KEPT_UP * target);
        self.steps.push(Step { target_pps, passed, fell_short, trial });
        passed
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

    /// The generator sends 100 kpps at most of what it is asked for, except when it is asked for all: the device passes
    /// more, but nobody can say how much.
    #[test]
    fn a_generator_that_falls_short_limits_the_search() {
        let mut first = true;
        let found = ndr(LIMITS, |offer| {
            let fastest = if std::mem::take(&mut first) { 1e6 } else { 1e5 };
            trial(fastest, 5e5)(offer)
        })
        .unwrap();
        assert_eq!((found.ndr_pps, found.generator_limited), (Some(1e5), true));
        let short = found.steps.iter().filter(|step| step.fell_short).count();
        assert!(short > 3 && found.steps[1..].iter().all(|step| step.passed), "{:#?}", found.steps);
    }

    /// Interrupted now and then, it sends nine tenths of what it is asked for: the capacity is found all the same.
    #[test]
    fn a_generator_that_loses_time_still_finds_the_capacity() {
        let found = ndr(LIMITS, |offer| {
            let offer = if let Offer::Frames(rate) = offer { Offer::Frames(0.9 * rate) } else { offer };
            trial(1e6, 5e5)(offer)
        })
        .unwrap();
        let rate = found.ndr_pps.unwrap();
        assert!((4.9e5..=5e5).contains(&rate), "{rate}");
        assert!(!found.generator_limited, "it was asked for more until it sent enough");
    }
}
