//! A load generator and its sink: frames made at a rate on one port, and what became of them on the other.
//!
//! [`Mix`] says what the frames are, [`Offer`] how many a second; [`Generator`] sends and counts them through any
//! [`Originate`](crate::port::Originate) pair, [`trial`] does so for a while, and [`search`] looks for the highest rate
//! without loss. Each frame carries a [`stamp`] (sequence number, codepoint, time), so that the sink knows what was
//! marked, lost and late without asking the sender.
//!
//! It must not know what stands between the two ports, nor a port's kind. The loop does not allocate.
//!
//! Frame sizes count the FCS, as benchmarks of networks do (RFC 2544 §9): 64 to 1518. Rates in bit/s count what the
//! shaper of l4sd counts: the frame without FCS and preamble.

pub mod capture;
mod generator;
mod loopback;
mod mix;
mod offer;
pub mod search;
mod sink;
mod source;
pub mod stamp;
pub mod trial;

pub use generator::Generator;
pub use loopback::Loopback;
pub use mix::{Mix, MixError, SIZES, Weighted, name, parse_sizes};
pub use offer::Offer;
pub use sink::{Seen, Tally};
pub use source::Source;

/// Bytes of the frame check sequence, which a frame's size counts and its buffer does not hold.
pub const FCS: usize = 4;
/// Bytes that a frame occupies on a wire beside itself and its FCS: preamble, start delimiter and gap (IEEE 802.3).
pub const GAP: usize = 20;
