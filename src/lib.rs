//! l4sd.
#![forbid(unsafe_code)]
pub mod aqm;
pub mod port;
pub mod telemetry;
pub mod time;
pub mod units;
pub mod wire;
