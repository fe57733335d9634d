//! The seam to a controller: a policy on a core of its own reads telemetry windows and decides; a guard on the
//! forwarder's side admits what is sane and fresh, slews, and falls back.
//!
//! A policy sets parameters of the one running PI2 and never p' itself, so that falling back is bumpless: p' stays
//! where it is and the parameters return to RFC 9332's. The forwarder never waits for any of this: both directions of
//! a [`link::ControlLink`] are wait-free for it.

pub mod action;
pub mod context;
pub mod guard;
pub mod link;
pub mod model;
pub mod policy;
pub mod worker;

use crate::aqm::params::Knobs;
use crate::time::Instant;

/// What a policy wants.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Decision {
    /// The window that it was made from.
    pub based_on: u64,
    /// When that window closed.
    pub window_end: Instant,
    /// The parameters.
    pub knobs: Knobs,
}
