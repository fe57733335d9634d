//! Where frames come from and go to: two ports over one region of buffers, owned and polled by one thread.
//!
//! A [`PortPair`] moves buffers, never looks into them and knows nothing of queues or ECN. A frame is an owned handle
//! that is not `Clone`: it is sent, recycled, or still held by whoever received it. So for every pair, at any time,
//! the buffers that are spare, in a ring, or held outside add up to the buffers that exist; `tests/port_contract`
//! holds every implementation to that.

pub mod delay;
pub mod fault;
pub mod mem;
pub mod netmap;
#[cfg(target_os = "linux")]
pub mod packet;
pub mod pcap;

use core::fmt;
use std::os::fd::BorrowedFd;

use crate::time::{Instant, Span};

#[cfg(target_os = "linux")]
pub mod xdp;

/// One of the two ports of a bridge.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
pub enum Side {
    /// The first port.
    Left,
    /// The second port.
    Right,
}

impl Side {
    /// Both sides, left first.
    pub const BOTH: [Self; 2] = [Self::Left, Self::Right];

    /// The other side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    /// 0 for left, 1 for right.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Left => "left",
            Self::Right => "right",
        })
    }
}

/// What a port has counted since it was opened. Frames that appear here under `rx_*` other than `rx_frames` were lost
/// before the egress saw them.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct PortCounters {
    /// Frames handed out by `recv`.
    pub rx_frames: u64,
    /// Frames dropped because no spare buffer was left.
    pub rx_no_buffer: u64,
    /// Frames dropped because they do not fit a buffer (an offload is on, or the MTU is larger than the buffers).
    pub rx_oversize: u64,
    /// Frames that the kernel or the NIC dropped before they reached the ring.
    pub rx_kernel_drops: u64,
    /// Frames accepted by `send`.
    pub tx_frames: u64,
    /// Frames accepted by `send` that the kernel or the NIC then refused.
    pub tx_errors: u64,
    /// Times that transmission came to a halt with frames on their way.
    pub tx_stalls: u64,
    /// Frames that the data plane before this one held when it died.
    pub lost_restart: u64,
}

/// Two ports that share buffers. One thread owns the pair.
pub trait PortPair {
    /// An owned frame. Not `Clone`; ends in [`PortPair::send`] or [`PortPair::recycle`].
    type Frame: fmt::Debug;

    /// Frames that one breath of the forwarder moves a side: more where each breath costs calls into the kernel.
    const BREATH: usize = 64;

    /// Appends at most `budget` frames received on `from` to `batch`, oldest first. Does not wait.
    fn recv(&mut self, from: Side, budget: usize, batch: &mut Vec<Self::Frame>) -> Result<(), PortError>;

    /// The bytes of a frame, from the destination address, without FCS.
    fn bytes<'a>(&'a self, frame: &'a Self::Frame) -> &'a [u8];

    /// The bytes of a frame, to change in place.
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Self::Frame) -> &'a mut [u8];

    /// How many frames `send` will take right now.
    fn tx_room(&self, to: Side) -> usize;

    /// Whether `send` will take a frame right now.
    #[inline]
    fn tx_has_room(&self, to: Side) -> bool {
        self.tx_room(to) > 0
    }

    /// Bytes accepted by `send` towards `to` that are not known to have left the host's rings: the FIFO that hides
    /// behind the AQM.
    fn tx_pending_bytes(&self, to: Side) -> u64;

    /// Queues a frame for transmission, or gives it back if there is no room. `now` is the time of the breath.
    fn send(&mut self, to: Side, frame: Self::Frame, now: Instant) -> Result<(), Self::Frame>;

    /// Returns a frame's buffer to the spares.
    fn recycle(&mut self, frame: Self::Frame);

    /// Makes queued frames leave and takes completed buffers back.
    fn flush(&mut self, now: Instant) -> Result<(), PortError>;

    /// When the pair itself wants `flush` to be called again (a delayed frame is due), if ever.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Sleeps until a frame may be received on either side, or `timeout` has passed; never much longer. Waking early
    /// is allowed.
    fn wait(&mut self, timeout: Span) -> Result<(), PortError>;

    /// What the port of `side` has counted.
    fn counters(&self, side: Side) -> PortCounters;

    /// Where the buffers are.
    fn census(&self) -> Census;

    /// The descriptors that the pair goes on using, for whoever limits what they are good for (FreeBSD's Capsicum).
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }
}

/// A pair whose caller can also begin frames, not only pass on what it received: what a load generator needs.
pub trait Originate: PortPair {
    /// A spare buffer as a frame of `len` bytes, whose contents are whatever was there; `None` if no buffer is spare or
    /// `len` does not fit one. It is held like a received frame.
    fn begin(&mut self, len: usize) -> Option<Self::Frame>;
}

/// Where a pair's buffers are, for the conservation law `total == spare + in_rings + held`, where `held` is what the
/// caller received and has neither sent nor recycled.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Census {
    /// Buffers that exist.
    pub total: usize,
    /// Buffers ready for use.
    pub spare: usize,
    /// Buffers in receive, transmit, fill or completion rings, or in a wrapper's delay line.
    pub in_rings: usize,
}

/// Why a port failed. Messages name the interface and the fix.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The interface does not exist, is down, or vanished while running.
    #[error("{port}: {reason}")]
    Interface {
        /// The port as the user wrote it.
        port: String,
        /// What is wrong and what to do about it.
        reason: String,
    },
    /// The process lacks a privilege.
    #[error("{port}: {reason}")]
    Privilege {
        /// The port as the user wrote it.
        port: String,
        /// Which privilege, and how to get it.
        reason: String,
    },
    /// The port specification makes no sense.
    #[error("'{port}' is not a port: {reason}")]
    Spec {
        /// The port as the user wrote it.
        port: String,
        /// What was expected.
        reason: String,
    },
    /// A call into the operating system failed in a way that is not one of the above.
    #[error("{port}: {call}: {source}")]
    Os {
        /// The port as the user wrote it.
        port: String,
        /// The call that failed.
        call: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
}
