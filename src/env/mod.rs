//! A simulated link as an environment for learning: a step is a control interval, an action sets the knobs, the reward
//! compares with DualPI2 on the same link and seed.
//!
//! | module | what it is |
//! |---|---|
//! | [`options`] | what an environment is made of, and what can be wrong with it |
//! | [`link`] | one simulated bottleneck with its flows, advanced from window to window |
//! | [`trail`] | trailing means of what a link did |
//! | [`reward`] | the reward: ratios of delay against the twin, less what breaks a constraint |
//! | [`episode`] | [`LinkEnv`]: a link, its twin, the guard, and one episode after the other |
//! | [`many`] | [`VecLinkEnv`]: thousands of them, in parallel |
//!
//! An observation is the feature vector of `telemetry::features`, whole and alone.
//!
//! It drives `sim` and `control` and has no packet logic of its own. Actions pass the same guard as live decisions.
//! What happens depends on scenario, seed and actions only: not on threads, and not on snapshots taken.

pub mod episode;
pub mod link;
pub mod many;
pub mod options;
pub mod reward;
pub mod trail;

pub use episode::LinkEnv;
pub use many::{Autoreset, VecLinkEnv};
pub use options::{EnvError, EnvOptions, Plan};
