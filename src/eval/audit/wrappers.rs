//! Policies made of a policy: what it did is written down, held at its mean, permuted in time, taken from another link, or
//! comes late.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::aqm::params::Knobs;
use crate::control::policy::{Abstention, Policy};
use crate::telemetry::TelemetryWindow;
use crate::time::{Instant, Span};

/// What a policy said after a window.
pub type Said = Result<Knobs, Abstention>;

/// The same settings after every window.
#[derive(Debug)]
pub struct Frozen(pub Knobs);

impl Policy for Frozen {
    fn decide(&mut self, _: &TelemetryWindow, _: &Knobs) -> Said {
        Ok(self.0)
    }
}

/// Decides as `policy` does and writes it down.
pub struct Recorded {
    /// Who decides.
    pub policy: Box<dyn Policy>,
    /// What was said.
    pub said: Arc<Mutex<Vec<Said>>>,
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded").field("said", &self.said).finish_non_exhaustive()
    }
}

impl Policy for Recorded {
    fn decide(&mut self, window: &TelemetryWindow, in_force: &Knobs) -> Said {
        let said = self.policy.decide(window, in_force);
        self.said.lock().unwrap_or_else(PoisonError::into_inner).push(said);
        said
    }
}

/// Says again what was said before, window by window, and the last of it when there is no more. With what a policy said on
/// another link it is that policy fed with the inputs of that link, since the same inputs give the same decisions.
#[derive(Debug)]
pub struct Replayed {
    said: Arc<Vec<Said>>,
    at: usize,
}

impl Replayed {
    /// From the beginning.
    pub const fn new(said: Arc<Vec<Said>>) -> Self {
        Self { said, at: 0 }
    }
}

impl Policy for Replayed {
    fn decide(&mut self, _: &TelemetryWindow, _: &Knobs) -> Said {
        let said = self.said.get(self.at).or(self.said.last());
        self.at += 1;
        said.copied().unwrap_or(Err(Abstention::Silent))
    }
}

/// The same in another order: blocks of so many windows are permuted, so that the guard's slew has time to follow each.
pub fn shuffled(said: &[Said], block: usize, seed: u64) -> Vec<Said> {
    let mut blocks: Vec<&[Said]> = said.chunks(block.max(1)).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut blocks);
    blocks.concat()
}

/// What `policy` said that much earlier; the guard takes it for fresh.
pub struct Delayed {
    policy: Box<dyn Policy>,
    by: Span,
    under_way: VecDeque<(Instant, Said)>,
    latest: Said,
}

impl Delayed {
    /// With nothing under way.
    pub fn new(policy: Box<dyn Policy>, by: Span) -> Self {
        Self { policy, by, under_way: VecDeque::new(), latest: Ok(Knobs::default()) }
    }
}

impl fmt::Debug for Delayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delayed").field("by", &self.by).finish_non_exhaustive()
    }
}

impl Policy for Delayed {
    fn decide(&mut self, window: &TelemetryWindow, in_force: &Knobs) -> Said {
        let said = self.policy.decide(window, in_force);
        self.under_way.push_back((window.end + self.by, said));
        let mut feed_forward = 1.0;
        while let Some(&(due, said)) = self.under_way.front()
            && due <= window.end
        {
            self.under_way.pop_front();
            self.latest = said.map(|knobs| Knobs { feed_forward: 1.0, ..knobs });
            if let Ok(knobs) = said
                && knobs.feed_forward != 1.0
            {
                feed_forward = knobs.feed_forward;
            }
        }
        self.latest.map(|knobs| Knobs { feed_forward, ..knobs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Knobs {
        Knobs { target: Span::from_millis(ms), ..Knobs::default() }
    }

    fn window(ms: u64) -> TelemetryWindow {
        let text = "name = \"x\"\nduration = \"1s\"\n[link]\nrate = \"10Mbit\"\n[[flow]]\ncc = \"reno\"\nrtt = \"20ms\"\n";
        let scenario = crate::sim::Scenario::parse(text, "x").unwrap();
        let mut sim = crate::sim::run::simulation(&scenario, &crate::config::Policy::DualPi2, 1);
        sim.bottleneck().take_window(Instant::from_millis(ms))
    }

    #[test]
    fn a_shuffle_has_the_same_blocks_in_another_order() {
        let said: Vec<Said> = (0..20).map(|i| Ok(at(i / 2 + 1))).collect();
        let other = shuffled(&said, 2, 1);
        assert_eq!(other, shuffled(&said, 2, 1));
        assert_ne!(other, said);
        let targets = |s: &[Said]| s.iter().map(|k| k.unwrap().target).collect::<Vec<_>>();
        assert!(targets(&other).chunks(2).all(|pair| pair[0] == pair[1]));
        let mut sorted = targets(&other);
        sorted.sort_unstable();
        assert_eq!(sorted, targets(&said));
    }

    #[test]
    fn a_replay_holds_its_last() {
        let mut replay = Replayed::new(Arc::new(vec![Ok(at(3)), Ok(at(4))]));
        let mut next = || replay.decide(&window(0), &Knobs::default()).unwrap().target.as_millis_f64();
        assert_eq!([next(), next(), next()], [3.0, 4.0, 4.0]);
    }

    /// Says how many windows it has seen, in ms.
    struct Counts(u64);

    impl Policy for Counts {
        fn decide(&mut self, _: &TelemetryWindow, _: &Knobs) -> Said {
            self.0 += 1;
            Ok(at(self.0))
        }
    }

    #[test]
    fn a_delay_of_40_ms_is_three_windows_of_16() {
        let mut late = Delayed::new(Box::new(Counts(0)), Span::from_millis(40));
        let said: Vec<f64> = (1..=6)
            .map(|i| late.decide(&window(16 * i), &Knobs::default()).unwrap().target.as_millis_f64())
            .collect();
        assert_eq!(said, [15.0, 15.0, 15.0, 1.0, 2.0, 3.0]);
    }
}
