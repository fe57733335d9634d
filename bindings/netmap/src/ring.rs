//! One ring: the program's part of it is the slots [head, tail). Must not make calls; the port syncs.
//!
//! Order of stores, so that a process killed between any two of them leaves every buffer in at most one slot and no
//! slot that claims a frame which is not there: NS_BUF_CHANGED before the index (a flag too many costs a map reload, one too
//! few makes the NIC use the old buffer), the length before the index on receive (0: nothing here) and before `head`
//! on transmit, `cur` before `head` (the kernel refuses a `cur` behind `head`).

mod rx;
mod shared;
mod tx;

pub use rx::{NotTaken, Received, RxRing, Waiting};
pub(crate) use shared::{RingHeader, Shared};
pub use tx::TxRing;

use core::fmt;

use l4sd_netmap_sys::{NS_BUF_CHANGED, NS_MOREFRAG, NS_REPORT};

/// Which ring of a port.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct RingId {
    /// A transmit ring (else a receive ring).
    pub transmit: bool,
    /// A ring of the host stack (else of the NIC, the VALE port or the pipe).
    pub host: bool,
    /// Its number among those of its kind.
    pub index: u16,
}

impl fmt::Display for RingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host { "host " } else { "" };
        write!(f, "{host}{} ring {}", if self.transmit { "tx" } else { "rx" }, self.index)
    }
}

/// The flags of a slot.
#[derive(Copy, Clone, Default, Eq, PartialEq)]
pub struct SlotFlags(u16);

impl SlotFlags {
    /// No flag: a whole frame.
    pub const NONE: Self = Self(0);
    /// NS_MOREFRAG: the frame goes on in the next slot.
    pub const MORE_FRAGMENTS: Self = Self(NS_MOREFRAG as u16);
    pub(crate) const CHANGED: Self = Self(NS_BUF_CHANGED as u16);
    pub(crate) const REPORT: Self = Self(NS_REPORT as u16);

    /// As the kernel has them.
    #[inline]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    #[inline]
    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// As the kernel has them.
    #[inline]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether the frame goes on in the next slot.
    #[inline]
    pub const fn more_fragments(self) -> bool {
        self.0 & NS_MOREFRAG as u16 != 0
    }

    /// Whether the NIC is asked to say when it has sent the slot.
    pub const fn report(self) -> bool {
        self.0 & NS_REPORT as u16 != 0
    }

    /// Whether the kernel has yet to notice that the slot's buffer is another one.
    pub const fn buffer_changed(self) -> bool {
        self.0 & NS_BUF_CHANGED as u16 != 0
    }
}

impl fmt::Debug for SlotFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotFlags({:#06x})", self.0)
    }
}

/// What a slot says.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct SlotInfo {
    /// Its buffer.
    pub index: u32,
    /// Bytes of the frame (or fragment) in it.
    pub len: u16,
    /// Its flags.
    pub flags: SlotFlags,
}
