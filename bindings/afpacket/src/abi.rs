//! The numbers and layouts of `linux/if_packet.h` that the rings rely on. No code, no calls.

use core::mem::{offset_of, size_of};

pub(crate) use libc::tpacket2_hdr as Header;
use libc::{sockaddr_ll, tpacket_req, tpacket_stats};

/// Bytes of one ring slot, header included; a divisor of [`BLOCK_BYTES`], so that slot `i` lies at `i * SLOT_BYTES`.
pub(crate) const SLOT_BYTES: usize = 2048;
/// Bytes of one physically contiguous block of a ring.
pub(crate) const BLOCK_BYTES: usize = 64 * 1024;
/// Slots in one block; the length of a ring is a multiple of it.
pub(crate) const SLOTS_PER_BLOCK: usize = BLOCK_BYTES / SLOT_BYTES;

/// Where the kernel looks for the data of a transmit slot: after the header, without the address that receive slots
/// carry (`tp_hdrlen - sizeof(struct sockaddr_ll)`).
pub(crate) const TX_DATA_OFFSET: usize = libc::TPACKET2_HDRLEN - size_of::<sockaddr_ll>();

/// `PACKET_VERSION` value of TPACKET_V2 rings.
pub(crate) const TPACKET_V2: libc::c_int = 1;

/// The per-frame header of `PACKET_VNET_HDR` in the version that has no buffer count. `hdr_len` bytes of a frame are
/// copied into the linear part of the socket buffer; the rest is referenced in place.
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct VirtioHeader {
    pub(crate) flags: u8,
    pub(crate) gso_type: u8,
    pub(crate) hdr_len: u16,
    pub(crate) gso_size: u16,
    pub(crate) csum_start: u16,
    pub(crate) csum_offset: u16,
}

/// Bytes of [`VirtioHeader`].
pub(crate) const VIRTIO_BYTES: usize = size_of::<VirtioHeader>();

/// Longest frame that a transmit slot takes.
pub(crate) const TX_CAPACITY: usize = SLOT_BYTES - TX_DATA_OFFSET - VIRTIO_BYTES;

const _: () = assert!(size_of::<Header>() == 32);
const _: () = assert!(offset_of!(Header, tp_status) == 0);
const _: () = assert!(offset_of!(Header, tp_len) == 4);
const _: () = assert!(offset_of!(Header, tp_snaplen) == 8);
const _: () = assert!(offset_of!(Header, tp_mac) == 12);
const _: () = assert!(offset_of!(Header, tp_vlan_tci) == 24);
const _: () = assert!(offset_of!(Header, tp_vlan_tpid) == 26);
const _: () = assert!(size_of::<sockaddr_ll>() == 20);
const _: () = assert!(size_of::<tpacket_req>() == 16);
const _: () = assert!(size_of::<tpacket_stats>() == 8);
const _: () = assert!(VIRTIO_BYTES == 10);
const _: () = assert!(TX_DATA_OFFSET == 32);
const _: () = assert!(BLOCK_BYTES.is_multiple_of(SLOT_BYTES));
const _: () = assert!(SLOT_BYTES.is_multiple_of(libc::TPACKET_ALIGNMENT));
