//! Who owns which slot of a ring. Makes no system call.
//!
//! A slot's status word is the only synchronisation with the kernel: it is loaded with Acquire before the slot is
//! read and stored with Release after the slot was written.

use core::sync::atomic::Ordering::{Acquire, Release};

use crate::abi::{Header, SLOT_BYTES, TX_CAPACITY, TX_DATA_OFFSET, VIRTIO_BYTES};
use crate::sys::Region;

/// Where the kernel puts the destination address in a receive slot: the network header is at
/// `ALIGN16(tp_hdrlen + 16)` and the 14 bytes of Ethernet end there.
const RX_DATA_OFFSET: usize = (libc::TPACKET2_HDRLEN + 16).next_multiple_of(16) - 14;
/// Longest frame that fits a receive slot.
pub(crate) const RX_CAPACITY: usize = SLOT_BYTES - RX_DATA_OFFSET;

const _: () = assert!(RX_CAPACITY == 1982);
const _: () = assert!(TX_CAPACITY == 2006);

/// Status bits of a transmit slot that is not free.
const BUSY: u32 = libc::TP_STATUS_SEND_REQUEST | libc::TP_STATUS_SENDING | libc::TP_STATUS_WRONG_FORMAT;

/// A VLAN tag that the kernel took out of a received frame.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct VlanTag {
    /// The tag protocol identifier, 0x8100 or 0x88a8.
    pub tpid: u16,
    /// Priority, drop eligibility and VLAN identifier.
    pub tci: u16,
}

/// The receive ring: slots are handed out strictly in order, one at a time.
#[derive(Debug)]
pub(crate) struct RxRing {
    region: Region,
    slots: usize,
    at: usize,
}

impl RxRing {
    pub(crate) fn new(region: Region, slots: usize) -> Self {
        Self { region, slots, at: 0 }
    }

    /// The oldest frame, or nothing if the kernel owns the next slot.
    pub(crate) fn next(&mut self) -> Option<RxFrame<'_>> {
        let offset = self.at * SLOT_BYTES;
        if self.region.status(offset).load(Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        let header = self.region.header(offset);
        Some(RxFrame { ring: self, header })
    }

    fn release(&mut self) {
        self.region.status(self.at * SLOT_BYTES).store(libc::TP_STATUS_KERNEL, Release);
        self.at = if self.at + 1 == self.slots { 0 } else { self.at + 1 };
    }
}

/// A received frame in its slot. Dropping it gives the slot back to the kernel.
#[derive(Debug)]
pub struct RxFrame<'r> {
    ring: &'r mut RxRing,
    header: Header,
}

impl RxFrame<'_> {
    /// The frame from the destination address, without FCS and without the tag of [`RxFrame::vlan`]; shorter than
    /// [`RxFrame::wire_len`] if it did not fit the slot.
    pub fn bytes(&self) -> &[u8] {
        let start = usize::from(self.header.tp_mac).min(SLOT_BYTES);
        let len = (self.header.tp_snaplen as usize).min(SLOT_BYTES - start);
        self.ring.region.bytes(self.ring.at * SLOT_BYTES + start, len)
    }

    /// Bytes that the frame had before it was cut to the slot, without the tag of [`RxFrame::vlan`].
    pub fn wire_len(&self) -> usize {
        self.header.tp_len as usize
    }

    /// The outermost VLAN tag, which the kernel or the NIC took out of the frame. Inner tags are still in the bytes.
    pub fn vlan(&self) -> Option<VlanTag> {
        let status = self.header.tp_status;
        if status & libc::TP_STATUS_VLAN_VALID == 0 {
            return None;
        }
        let named = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
        let tpid = if named { self.header.tp_vlan_tpid } else { libc::ETH_P_8021Q as u16 };
        Some(VlanTag { tpid, tci: self.header.tp_vlan_tci })
    }
}

impl Drop for RxFrame<'_> {
    fn drop(&mut self) {
        self.ring.release();
    }
}

/// The transmit ring.
///
/// `tail <= sent <= head`, counted in frames: the kernel has taken what lies before `sent` and may still be sending
/// it, and stands at `sent`; what lies between `sent` and `head` waits for a kick.
#[derive(Debug)]
pub(crate) struct TxRing {
    region: Region,
    slots: usize,
    tail: usize,
    sent: usize,
    head: usize,
    lens: Box<[u16]>,
    pending_bytes: u64,
    rejected: u64,
}

impl TxRing {
    /// `slots` is a power of two.
    pub(crate) fn new(region: Region, slots: usize) -> Self {
        assert!(slots.is_power_of_two(), "a transmit ring has a power of two of slots, not {slots}");
        let lens = vec![0; slots].into_boxed_slice();
        Self { region, slots, tail: 0, sent: 0, head: 0, lens, pending_bytes: 0, rejected: 0 }
    }

    fn index(&self, position: usize) -> usize {
        position & (self.slots - 1)
    }

    fn status(&self, position: usize) -> u32 {
        self.region.status(self.index(position) * SLOT_BYTES).load(Acquire)
    }

    fn set_status(&self, position: usize, status: u32) {
        self.region.status(self.index(position) * SLOT_BYTES).store(status, Release);
    }

    /// Slots that `push` can fill.
    pub(crate) fn room(&self) -> usize {
        self.slots - (self.head - self.tail)
    }

    /// Frames that wait for a kick.
    pub(crate) fn unsent(&self) -> usize {
        self.head - self.sent
    }

    /// Bytes in slots that the kernel has not given back.
    pub(crate) fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    /// Frames that the kernel found malformed.
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Copies a frame into the next slot; false if there is none, or if the frame is longer than [`TX_CAPACITY`].
    pub(crate) fn push(&mut self, frame: &[u8]) -> bool {
        if self.room() == 0 || frame.len() > TX_CAPACITY {
            return false;
        }
        self.fill(self.head, frame.len(), |data| data.copy_from_slice(frame));
        self.pending_bytes += frame.len() as u64;
        self.head += 1;
        true
    }

    /// Writes slot `position` and hands it to the kernel.
    fn fill(&mut self, position: usize, len: usize, write: impl FnOnce(&mut [u8])) {
        let index = self.index(position);
        self.lens[index] = len as u16;
        let slot = self.region.bytes_mut(index * SLOT_BYTES, SLOT_BYTES);
        slot[4..8].copy_from_slice(&((len + VIRTIO_BYTES) as u32).to_ne_bytes());
        let (virtio, data) = slot[TX_DATA_OFFSET..].split_at_mut(VIRTIO_BYTES);
        virtio.fill(0);
        virtio[2..4].copy_from_slice(&(len as u16).to_ne_bytes());
        write(&mut data[..len]);
        self.set_status(position, libc::TP_STATUS_SEND_REQUEST);
    }

    /// Reads what the kernel did since the last call: advances over frames that it took, takes back slots that it is
    /// done with, and closes the gap of a frame that it refused. True if a frame was refused: the kernel stopped there
    /// and needs another kick.
    pub(crate) fn settle(&mut self) -> bool {
        let mut refused = false;
        while self.sent != self.head {
            let status = self.status(self.sent);
            if status & libc::TP_STATUS_WRONG_FORMAT != 0 {
                self.remove_at_sent();
                self.rejected += 1;
                refused = true;
            } else if status & libc::TP_STATUS_SEND_REQUEST != 0 {
                break;
            } else {
                self.sent += 1;
            }
        }
        while self.tail != self.sent && self.status(self.tail) & BUSY == 0 {
            self.pending_bytes -= u64::from(self.lens[self.index(self.tail)]);
            self.tail += 1;
        }
        refused
    }

    /// Takes the refused frame at `sent` out. The kernel does not move past it, so everything behind moves up by one.
    fn remove_at_sent(&mut self) {
        self.pending_bytes -= u64::from(self.lens[self.index(self.sent)]);
        for position in self.sent..self.head - 1 {
            let next = self.index(position + 1);
            let len = usize::from(self.lens[next]);
            let mut frame = [0; TX_CAPACITY];
            let data = next * SLOT_BYTES + TX_DATA_OFFSET + VIRTIO_BYTES;
            frame[..len].copy_from_slice(self.region.bytes(data, len));
            self.fill(position, len, |data| data.copy_from_slice(&frame[..len]));
        }
        self.head -= 1;
        self.set_status(self.head, libc::TP_STATUS_AVAILABLE);
    }

    /// Withdraws the frames that the kernel has not taken; how many there were.
    pub(crate) fn discard_unsent(&mut self) -> usize {
        let count = self.unsent();
        for position in self.sent..self.head {
            self.set_status(position, libc::TP_STATUS_AVAILABLE);
            self.pending_bytes -= u64::from(self.lens[self.index(position)]);
        }
        self.head = self.sent;
        count
    }
}

#[cfg(test)]
mod tests;
