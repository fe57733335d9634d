//! netmap API 14 as the kernel defines it: structures, ioctl numbers, and the header's inline helpers in Rust.
//!
//! [`freebsd`] is generated from FreeBSD 14's `net/netmap.h` (`gen.sh`) and holds on Linux too: same structures, same
//! `NIOCCTRL`. The numbers of the two sync ioctls differ, because FreeBSD's `_IO` sets a bit; they are chosen here.
//! Only the requests of `nmreq_header` are bound, not the older `nmreq` nor `nm_open`. This crate makes no call and
//! keeps no rule: what may be touched when is for `l4sd-netmap`.

pub mod freebsd;
mod inline;

pub use freebsd::{
    NETMAP_API, NETMAP_REQ_POOLS_INFO_GET, NETMAP_REQ_PORT_INFO_GET, NETMAP_REQ_REGISTER, NI_PRIV_MEM,
    NIOCCTRL, NR_EXCLUSIVE, NR_MONITOR_RX, NR_MONITOR_TX, NR_NO_TX_POLL, NR_REG_ALL_NIC, NR_REG_NIC_SW,
    NR_REG_NULL, NR_REG_ONE_NIC, NR_REG_ONE_SW, NR_REG_SW, NR_RX_RINGS_ONLY, NR_TX_RINGS_ONLY, NR_ZCOPY_MON,
    NS_BUF_CHANGED, NS_MOREFRAG, NS_REPORT, netmap_if, netmap_ring, netmap_slot, nmreq_header,
    nmreq_pools_info, nmreq_port_info_get, nmreq_register,
};
pub use inline::{
    buf_idx, buf_offset, if_at, ring_empty, ring_next, ring_space, rxring, slot, tx_pending, txring,
};

/// The control device.
pub const DEVICE: &core::ffi::CStr = c"/dev/netmap";

/// The lowest index of a buffer that may be put into a slot: 0 means "none" and 1 is the allocator's own.
pub const FIRST_BUFFER: u32 = 2;

#[cfg(target_os = "freebsd")]
mod number {
    pub(super) const TX: u32 = crate::freebsd::NIOCTXSYNC;
    pub(super) const RX: u32 = crate::freebsd::NIOCRXSYNC;
}
#[cfg(not(target_os = "freebsd"))]
mod number {
    // `_IO('i', 148)` and `_IO('i', 149)` without FreeBSD's IOC_VOID.
    pub(super) const TX: u32 = crate::freebsd::NIOCTXSYNC & 0xffff;
    pub(super) const RX: u32 = crate::freebsd::NIOCRXSYNC & 0xffff;
}

/// Synchronises the transmit rings of a descriptor; takes no argument.
pub const NIOCTXSYNC: u32 = number::TX;

/// Synchronises the receive rings of a descriptor; takes no argument.
pub const NIOCRXSYNC: u32 = number::RX;

#[cfg(test)]
mod tests {
    use core::mem::{align_of, offset_of, size_of};

    use super::*;

    #[test]
    fn sizes_and_offsets_are_those_of_api_14() {
        assert_eq!(NETMAP_API, 14);
        assert_eq!(
            (size_of::<netmap_slot>(), size_of::<netmap_ring>(), size_of::<netmap_if>()),
            (16, 256, 56)
        );
        assert_eq!((size_of::<nmreq_header>(), size_of::<nmreq_register>()), (88, 56));
        assert_eq!((size_of::<nmreq_port_info_get>(), size_of::<freebsd::nmreq_option>()), (32, 24));
        assert_eq!(size_of::<nmreq_pools_info>(), 64);
        assert_eq!((align_of::<netmap_slot>(), align_of::<netmap_if>()), (8, 8));
        assert_eq!(offset_of!(netmap_slot, len), 4);
        assert_eq!(offset_of!(netmap_slot, flags), 6);
        assert_eq!(offset_of!(netmap_slot, ptr), 8);
        assert_eq!(offset_of!(netmap_ring, head), 20);
        assert_eq!(offset_of!(netmap_ring, cur), 24);
        assert_eq!(offset_of!(netmap_ring, tail), 28);
        assert_eq!(offset_of!(netmap_ring, ts), 40);
        assert_eq!(offset_of!(netmap_ring, sem), 128);
        assert_eq!(offset_of!(netmap_ring, slot), 256);
        assert_eq!(offset_of!(netmap_if, ni_bufs_head), 32);
        assert_eq!(offset_of!(netmap_if, ni_host_tx_rings), 36);
        assert_eq!(offset_of!(netmap_if, ring_ofs), 56);
        assert_eq!(offset_of!(nmreq_header, nr_name), 8);
        assert_eq!(offset_of!(nmreq_header, nr_body), 80);
        assert_eq!(offset_of!(nmreq_register, nr_mem_id), 32);
        assert_eq!(offset_of!(nmreq_register, nr_extra_bufs), 40);
    }

    /// `_IOWR`/`_IO` by hand: direction bits, size << 16, group << 8, number.
    #[test]
    fn ioctl_numbers_are_those_of_both_systems() {
        let group = u32::from(b'i') << 8;
        assert_eq!(NIOCCTRL, 0xc000_0000 + (88 << 16) + group + 151);
        assert_eq!(freebsd::NIOCTXSYNC, 0x2000_0000 + group + 148);
        assert_eq!(freebsd::NIOCRXSYNC, 0x2000_0000 + group + 149);
        let void = if cfg!(target_os = "freebsd") { 0x2000_0000 } else { 0 };
        assert_eq!((NIOCTXSYNC, NIOCRXSYNC), (void | 0x6994, void | 0x6995));
    }
}
