//! Policies: what a controller can be.

pub mod asked;
pub mod cadence;
pub mod held;
pub mod learned;
pub mod lookahead;
pub mod replay;
pub mod rules;

use crate::aqm::params::Knobs;
use crate::telemetry::TelemetryWindow;
use crate::time::Instant;

/// Why a policy wants nothing after a window.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
pub enum Abstention {
    /// It has no opinion.
    Silent,
    /// What it worked out is not finite.
    NotFinite,
    /// The link is unlike those that it was made for.
    Unfamiliar,
    /// It could not be run.
    Failed,
}

impl Abstention {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Silent, Self::NotFinite, Self::Unfamiliar, Self::Failed];

    /// The label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::NotFinite => "nan",
            Self::Unfamiliar => "drift",
            Self::Failed => "crash",
        }
    }

    /// Its place in [`Abstention::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A source of decisions.
pub trait Policy: Send {
    /// The parameters that it wants after this window. `in_force` is what was in force at the window's end, with the
    /// feed-forward that was applied in it.
    ///
    /// # Errors
    /// It wants none, and why.
    fn decide(&mut self, window: &TelemetryWindow, in_force: &Knobs) -> Result<Knobs, Abstention>;

    /// Goes through what a decision on the window that ends at about `next` needs, so that the caches have it when that
    /// window comes. Changes no decision. False = there is nothing to gain from it.
    fn rehearse(&mut self, _next: Instant) -> bool {
        false
    }

    /// What looking ahead came to; `None` from a policy that does not.
    fn look_ahead(&self) -> Option<lookahead::Counts> {
        None
    }
}
