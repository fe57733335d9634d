//! From telemetry windows to what a policy sees: numbers of a stated layout and scale, from which the hidden state of a
//! link (round trips, flows, kinds of sender) can be inferred.
//!
//! | module | what it is |
//! |---|---|
//! | [`schema`] | `models/schema.toml`: names, order, normalisation, what may be set; its hash |
//! | [`signals`] | each signal of the schema, measured between two windows |
//! | [`trackers`] | what needs a memory of its own: averages, sawtooth, bursts, response to marks |
//! | [`extract`] | the feature vector of a link |
//! | [`dataset`] | feature vectors with actions and outcomes in a file |
//!
//! It runs off the packet path, once a window. It must not decide anything, and knows no policy.

pub mod dataset;
pub mod extract;
pub mod schema;
pub mod signals;
pub mod trackers;

pub use extract::Extractor;
pub use schema::{Schema, SchemaError};
