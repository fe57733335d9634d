//! Active queue management over opaque handles: RFC 9332's DualQ and the disciplines it is compared with.
//!
//! Nothing here reads a clock, touches a packet's bytes, or allocates once built. A driver says when a packet arrived
//! and what its ECN field was, and is told what to do with it.

pub mod stats;

/// Which of the two queues of a DualQ a packet is in (RFC 9332 §2.3).
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
pub enum Service {
    /// The low latency queue.
    L4s,
    /// The Classic queue; the only queue of a single-queue discipline.
    Classic,
}

impl Service {
    /// Both services, L first.
    pub const BOTH: [Self; 2] = [Self::L4s, Self::Classic];

    /// 0 for L, 1 for C.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// `l` or `c`, as metrics and result files spell it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::L4s => "l",
            Self::Classic => "c",
        }
    }
}
