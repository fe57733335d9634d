//! The forwarder's own [`Egress`](crate::egress::Egress) in virtual time, with models of real senders around it.
//!
//! | module | what it is |
//! |---|---|
//! | [`events`] | what happens next, in an order that never depends on chance |
//! | [`engine`] | senders, propagation, one bottleneck, receivers |
//! | [`link`] | how a capacity goes over time: steps, generators, traces |
//! | [`traffic`] | what flows are made of |
//! | [`flow`] | congestion controls, loss recovery |
//! | [`scenario`] | the scenario file |
//! | [`grid`] | grids of drawn scenarios, by name |
//! | [`mod@run`] | a scenario under a policy and a seed, to a result object |
//!
//! No AQM formula stands here: the discipline under test is the one that forwards packets. Nothing here opens a port,
//! builds a packet's bytes, or reads a clock; the same scenario, policy and seed give the same bytes.

mod connection;
mod controller;
pub mod engine;
pub mod events;
pub mod flow;
pub mod grid;
pub mod link;
mod models;
mod phases;
pub mod run;
pub mod scenario;
pub mod traffic;

pub use engine::{Bottleneck, Sim};
pub use grid::{Cell, Grid, Split};
pub use run::run;
pub use scenario::Scenario;
