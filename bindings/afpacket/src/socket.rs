//! Packet sockets with one ring each: [`Receiver`] and [`Transmitter`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::abi::{BLOCK_BYTES, SLOT_BYTES, SLOTS_PER_BLOCK, TPACKET_V2};
use crate::error::{Error, Result};
use crate::ring::{RxFrame, RxRing, TxRing};
use crate::sys::{self, Region};

fn map_ring(fd: &OwnedFd, option: libc::c_int, slots: u32, call: &'static str) -> Result<(Region, usize)> {
    let slots = (slots as usize).max(1).next_multiple_of(SLOTS_PER_BLOCK);
    let request = libc::tpacket_req {
        tp_block_size: BLOCK_BYTES as u32,
        tp_block_nr: (slots / SLOTS_PER_BLOCK) as u32,
        tp_frame_size: SLOT_BYTES as u32,
        tp_frame_nr: slots as u32,
    };
    sys::set(fd.as_fd(), option, request, call)?;
    Ok((Region::of_socket(fd.as_fd(), slots * SLOT_BYTES)?, slots))
}

/// Receives every frame that reaches an interface from outside, whatever its destination address.
///
/// The interface is promiscuous for as long as this lives; the kernel ends that with the socket, also when the process
/// is killed. Frames that this host sends through the interface are not seen.
#[derive(Debug)]
pub struct Receiver {
    ring: RxRing,
    fd: OwnedFd,
}

impl Receiver {
    /// Opens a ring of `slots` (rounded up to a multiple of 32) frames on the interface with index `if_index`.
    ///
    /// Needs CAP_NET_RAW in the user namespace that owns the network namespace.
    pub fn open(if_index: u32, slots: u32) -> Result<Self> {
        let fd = sys::socket()?;
        sys::set(fd.as_fd(), libc::PACKET_VERSION, TPACKET_V2, "setsockopt(PACKET_VERSION)")?;
        sys::set(fd.as_fd(), libc::PACKET_IGNORE_OUTGOING, 1, "setsockopt(PACKET_IGNORE_OUTGOING)")?;
        let (region, slots) = map_ring(&fd, libc::PACKET_RX_RING, slots, "setsockopt(PACKET_RX_RING)")?;
        let membership = libc::packet_mreq {
            mr_ifindex: if_index.cast_signed(),
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        sys::set(fd.as_fd(), libc::PACKET_ADD_MEMBERSHIP, membership, "setsockopt(PACKET_MR_PROMISC)")?;
        sys::bind(fd.as_fd(), if_index, libc::ETH_P_ALL as u16)?;
        Ok(Self { ring: RxRing::new(region, slots), fd })
    }

    /// The oldest frame in the ring. Its slot goes back to the kernel when the frame is dropped.
    pub fn next_frame(&mut self) -> Option<RxFrame<'_>> {
        self.ring.next()
    }

    /// How many frames the kernel dropped since the last call because the ring was full.
    pub fn take_drops(&self) -> Result<u32> {
        sys::take_drops(self.fd.as_fd())
    }

    /// What happened to the interface since the last call: `ENETDOWN` if it went down or away.
    pub fn take_error(&self) -> Result<Option<io::Error>> {
        sys::take_error(self.fd.as_fd())
    }
}

/// Sends frames through an interface's driver directly: no queueing discipline, no taps; of the hooks, only the
/// nftables egress hook of the device, if a chain is there.
#[derive(Debug)]
pub struct Transmitter {
    ring: TxRing,
    fd: OwnedFd,
}

impl Transmitter {
    /// Opens a ring of `slots` (rounded up to a power of two of at least 32) frames on the interface with index
    /// `if_index`.
    ///
    /// Needs CAP_NET_RAW in the user namespace that owns the network namespace.
    pub fn open(if_index: u32, slots: u32) -> Result<Self> {
        let fd = sys::socket()?;
        sys::set(fd.as_fd(), libc::PACKET_VERSION, TPACKET_V2, "setsockopt(PACKET_VERSION)")?;
        sys::set(fd.as_fd(), libc::PACKET_QDISC_BYPASS, 1, "setsockopt(PACKET_QDISC_BYPASS)")?;
        sys::set(fd.as_fd(), libc::PACKET_VNET_HDR, 1, "setsockopt(PACKET_VNET_HDR)")?;
        let slots = slots.max(SLOTS_PER_BLOCK as u32).next_power_of_two();
        let (region, slots) = map_ring(&fd, libc::PACKET_TX_RING, slots, "setsockopt(PACKET_TX_RING)")?;
        sys::bind(fd.as_fd(), if_index, 0)?;
        Ok(Self { ring: TxRing::new(region, slots), fd })
    }

    /// How many frames `push` takes now.
    pub fn room(&self) -> usize {
        self.ring.room()
    }

    /// Bytes of frames whose slots the kernel has not given back: waiting for a kick, or on their way.
    pub fn pending_bytes(&self) -> u64 {
        self.ring.pending_bytes()
    }

    /// Frames that the kernel refused as malformed.
    pub fn rejected(&self) -> u64 {
        self.ring.rejected()
    }

    /// Frames that wait for a kick.
    pub fn unsent(&self) -> usize {
        self.ring.unsent()
    }

    /// Copies a frame (from the destination address, without FCS) into the ring; false if there is no room or the
    /// frame is longer than [`crate::TX_CAPACITY`]. It leaves at the next [`Transmitter::kick`].
    pub fn push(&mut self, frame: &[u8]) -> bool {
        self.ring.push(frame)
    }

    /// Makes the kernel send what it has room for and takes completed slots back. One system call, or none if nothing
    /// waits. Frames that the driver or the socket has no room for stay and are tried again by the next kick; a frame
    /// that the kernel refuses is counted in [`Transmitter::rejected`] and does not hold up the ones behind it.
    pub fn kick(&mut self) -> Result<()> {
        loop {
            let outcome = if self.ring.unsent() == 0 { Ok(()) } else { sys::send_ring(self.fd.as_fd()) };
            if self.ring.settle() {
                continue;
            }
            return match outcome {
                Ok(()) => Ok(()),
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR)) => {
                    Ok(())
                }
                Err(source) => Err(Error { call: "sendto of the transmit ring", source }),
            };
        }
    }

    /// Withdraws the frames that the kernel has not taken yet, when the interface has stopped taking any; how many.
    pub fn discard_unsent(&mut self) -> usize {
        self.ring.discard_unsent()
    }
}

/// Sleeps until a frame may be received by either, an interface failed, a signal came, or `timeout_ns` has passed.
/// True if one of the receivers has something to say.
pub fn wait(receivers: [&Receiver; 2], timeout_ns: u64) -> Result<bool> {
    sys::poll_pair(receivers.map(|r| r.fd.as_fd()), timeout_ns)
}
