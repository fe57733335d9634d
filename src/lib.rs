//! l4sd: a userspace L4S packet forwarder.
//!
//! The crate is one program and the library under it, in levels; each level imports only what stands below it here
//! (`tests/layers.rs` holds it to that):
//!
//! | level | what it is |
//! |---|---|
//! | [`cli`] | verbs; the only place for `anyhow` |
//! | [`load`] | a load generator, and the sink that counts what became of it |
//! | [`runtime`] | the forwarder's loop on a real host, and the only clock |
//! | [`eval`] | many simulated cells, scored and compared |
//! | [`env`](mod@env) | a simulated link as an environment for learning |
//! | [`sim`] | the same egress in virtual time, between models of senders |
//! | [`metrics`], [`report`] | what an operator scrapes; what a run leaves behind |
//! | [`config`] | TOML and flags to validated types |
//! | [`control`] | policies, the guard, and the seam between them |
//! | [`port`] | where frames come from and go to |
//! | [`egress`] | shaper and discipline: the bottleneck of one direction, sans I/O |
//! | [`telemetry`] | what an egress tells, as plain data |
//! | [`aqm`] | RFC 9332 over opaque handles |
//! | [`wire`] | bytes down to the ECN field |
//! | [`units`], [`time`] | quantities with their unit in the type |
//!
//! Time and randomness are passed in. A packet costs no allocation, lock, log line or float.
#![forbid(unsafe_code)]

pub mod aqm;
pub mod cli;
pub mod config;
pub mod control;
pub mod egress;
pub mod env;
pub mod eval;
pub mod load;
pub mod metrics;
pub mod port;
pub mod report;
pub mod runtime;
pub mod sim;
pub mod telemetry;
pub mod time;
pub mod units;
pub mod wire;
