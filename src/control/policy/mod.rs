//! Who decides. A policy sees windows and wants parameters; it knows nothing of packets, threads or the guard.

pub mod replay;

use crate::aqm::params::Knobs;
use crate::telemetry::TelemetryWindow;

/// A source of decisions.
pub trait Policy: Send {
    /// The parameters that it wants after this window; `None` if it has no opinion.
    fn decide(&mut self, window: &TelemetryWindow) -> Option<Knobs>;
}
