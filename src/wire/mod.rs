//! Bytes of a frame down to the ECN field, and nothing further.
pub mod ecn;
pub use ecn::Ecn;
