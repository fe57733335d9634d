//! The kernel's ABI: the structures of `linux/if_xdp.h`, `linux/bpf.h` and `linux/ethtool.h` that this crate passes,
//! with their layouts asserted. Must not call anything.

use core::mem::{offset_of, size_of};

pub(crate) const XDP_SHARED_UMEM: u16 = 1 << 0;
pub(crate) const XDP_COPY: u16 = 1 << 1;
pub(crate) const XDP_ZEROCOPY: u16 = 1 << 2;
pub(crate) const XDP_USE_NEED_WAKEUP: u16 = 1 << 3;
pub(crate) const XDP_RING_NEED_WAKEUP: u32 = 1 << 0;

pub(crate) const XDP_MMAP_OFFSETS: i32 = 1;
pub(crate) const XDP_RX_RING: i32 = 2;
pub(crate) const XDP_TX_RING: i32 = 3;
pub(crate) const XDP_UMEM_REG: i32 = 4;
pub(crate) const XDP_UMEM_FILL_RING: i32 = 5;
pub(crate) const XDP_UMEM_COMPLETION_RING: i32 = 6;
pub(crate) const XDP_STATISTICS: i32 = 7;
pub(crate) const XDP_MAX_TX_SKB_BUDGET: i32 = 9;

pub(crate) const XDP_PGOFF_RX_RING: i64 = 0;
pub(crate) const XDP_PGOFF_TX_RING: i64 = 0x8000_0000;
pub(crate) const XDP_UMEM_PGOFF_FILL_RING: i64 = 0x1_0000_0000;
pub(crate) const XDP_UMEM_PGOFF_COMPLETION_RING: i64 = 0x1_8000_0000;

/// Bytes that the kernel keeps free in front of a received frame (`XDP_PACKET_HEADROOM`).
pub(crate) const XDP_PACKET_HEADROOM: u32 = 256;

/// `struct sockaddr_xdp`.
#[repr(C)]
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct SockaddrXdp {
    pub(crate) family: u16,
    pub(crate) flags: u16,
    pub(crate) ifindex: u32,
    pub(crate) queue_id: u32,
    pub(crate) shared_umem_fd: u32,
}
const _: () = assert!(size_of::<SockaddrXdp>() == 16 && offset_of!(SockaddrXdp, shared_umem_fd) == 12);

/// `struct xdp_ring_offset`.
#[repr(C)]
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct RingOffset {
    pub(crate) producer: u64,
    pub(crate) consumer: u64,
    pub(crate) desc: u64,
    pub(crate) flags: u64,
}
const _: () = assert!(size_of::<RingOffset>() == 32 && offset_of!(RingOffset, flags) == 24);

/// `struct xdp_mmap_offsets`.
#[repr(C)]
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct MmapOffsets {
    pub(crate) rx: RingOffset,
    pub(crate) tx: RingOffset,
    pub(crate) fill: RingOffset,
    pub(crate) completion: RingOffset,
}
const _: () = assert!(size_of::<MmapOffsets>() == 128 && offset_of!(MmapOffsets, completion) == 96);

/// `struct xdp_umem_reg` without its later `tx_metadata_len`, which the kernel takes as absent.
#[repr(C)]
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct UmemReg {
    pub(crate) addr: u64,
    pub(crate) len: u64,
    pub(crate) chunk_size: u32,
    pub(crate) headroom: u32,
    pub(crate) flags: u32,
    pub(crate) pad: u32,
}
const _: () = assert!(size_of::<UmemReg>() == 32 && offset_of!(UmemReg, flags) == 24);

/// `struct xdp_statistics`: what the kernel counted for one socket.
#[repr(C)]
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Statistics {
    /// Frames dropped because they were too large or, in copy mode, because the fill ring was empty.
    pub rx_dropped: u64,
    /// Fill-ring entries that named no frame of the UMEM.
    pub rx_invalid_descs: u64,
    /// Transmit descriptors that named no frame of the UMEM; such a frame never completes.
    pub tx_invalid_descs: u64,
    /// Frames dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Times the kernel found the fill ring empty.
    pub rx_fill_ring_empty_descs: u64,
    /// Times the kernel found the transmit ring empty.
    pub tx_ring_empty_descs: u64,
}
const _: () = assert!(size_of::<Statistics>() == 48 && offset_of!(Statistics, tx_ring_empty_descs) == 40);

/// `struct xdp_desc`.
#[repr(C)]
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Desc {
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) options: u32,
}
const _: () = assert!(size_of::<Desc>() == 16 && offset_of!(Desc, options) == 12);

pub(crate) const BPF_MAP_CREATE: i64 = 0;
pub(crate) const BPF_MAP_UPDATE_ELEM: i64 = 2;
pub(crate) const BPF_PROG_LOAD: i64 = 5;
pub(crate) const BPF_PROG_TEST_RUN: i64 = 10;
pub(crate) const BPF_LINK_CREATE: i64 = 28;
pub(crate) const BPF_MAP_TYPE_XSKMAP: u32 = 17;
pub(crate) const BPF_PROG_TYPE_XDP: u32 = 6;
pub(crate) const BPF_XDP: u32 = 37;
pub(crate) const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
pub(crate) const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
pub(crate) const XDP_DROP: i32 = 1;
pub(crate) const XDP_PASS: i32 = 2;
/// Offset of `rx_queue_index` in `struct xdp_md`.
pub(crate) const XDP_MD_RX_QUEUE_INDEX: i16 = 16;

/// `struct bpf_insn`; the two register nibbles are in `regs`, destination low.
#[repr(C)]
#[derive(Copy, Clone, Debug)]
pub(crate) struct Insn {
    pub(crate) code: u8,
    pub(crate) regs: u8,
    pub(crate) off: i16,
    pub(crate) imm: i32,
}
const _: () = assert!(size_of::<Insn>() == 8 && offset_of!(Insn, imm) == 4);

/// The head of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct MapCreate {
    pub(crate) map_type: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
}
const _: () = assert!(size_of::<MapCreate>() == 16);

/// The head of `union bpf_attr` for `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct MapUpdate {
    pub(crate) map_fd: u32,
    pub(crate) pad: u32,
    pub(crate) key: u64,
    pub(crate) value: u64,
    pub(crate) flags: u64,
}
const _: () = assert!(size_of::<MapUpdate>() == 32 && offset_of!(MapUpdate, key) == 8);

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct ProgLoad {
    pub(crate) prog_type: u32,
    pub(crate) insn_cnt: u32,
    pub(crate) insns: u64,
    pub(crate) license: u64,
    pub(crate) log_level: u32,
    pub(crate) log_size: u32,
    pub(crate) log_buf: u64,
    pub(crate) kern_version: u32,
    pub(crate) prog_flags: u32,
    pub(crate) prog_name: [u8; 16],
}
const _: () = assert!(size_of::<ProgLoad>() == 64 && offset_of!(ProgLoad, prog_name) == 48);

/// The head of `union bpf_attr` for `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct TestRun {
    pub(crate) prog_fd: u32,
    pub(crate) retval: u32,
    pub(crate) data_size_in: u32,
    pub(crate) data_size_out: u32,
    pub(crate) data_in: u64,
    pub(crate) data_out: u64,
    pub(crate) repeat: u32,
    pub(crate) duration: u32,
    pub(crate) ctx_size_in: u32,
    pub(crate) ctx_size_out: u32,
    pub(crate) ctx_in: u64,
    pub(crate) ctx_out: u64,
    pub(crate) flags: u32,
    pub(crate) cpu: u32,
    pub(crate) batch_size: u32,
    pub(crate) pad: u32,
}
const _: () = assert!(size_of::<TestRun>() == 80 && offset_of!(TestRun, flags) == 64);
pub(crate) const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

/// The head of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct LinkCreate {
    pub(crate) prog_fd: u32,
    pub(crate) target_ifindex: u32,
    pub(crate) attach_type: u32,
    pub(crate) flags: u32,
}
const _: () = assert!(size_of::<LinkCreate>() == 16);

pub(crate) const ETHTOOL_GDRVINFO: u32 = 0x03;
pub(crate) const ETHTOOL_GSTRINGS: u32 = 0x1b;
pub(crate) const ETHTOOL_GSTATS: u32 = 0x1d;
pub(crate) const ETHTOOL_GSSET_INFO: u32 = 0x37;
pub(crate) const ETHTOOL_GFEATURES: u32 = 0x3a;
pub(crate) const ETHTOOL_GCHANNELS: u32 = 0x3c;
pub(crate) const ETH_SS_STATS: u32 = 1;
pub(crate) const ETH_SS_FEATURES: u32 = 4;
pub(crate) const ETH_GSTRING_LEN: usize = 32;

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct EthtoolChannels {
    pub(crate) cmd: u32,
    pub(crate) max_rx: u32,
    pub(crate) max_tx: u32,
    pub(crate) max_other: u32,
    pub(crate) max_combined: u32,
    pub(crate) rx_count: u32,
    pub(crate) tx_count: u32,
    pub(crate) other_count: u32,
    pub(crate) combined_count: u32,
}
const _: () = assert!(size_of::<EthtoolChannels>() == 36);

/// `struct ifreq`: a name and 24 bytes of union.
#[repr(C)]
#[derive(Copy, Clone, Debug)]
pub(crate) struct Ifreq {
    pub(crate) name: [u8; 16],
    pub(crate) data: IfreqData,
}

/// The union of `struct ifreq` as raw words.
#[repr(C, align(8))]
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct IfreqData(pub(crate) [u8; 24]);
const _: () = assert!(size_of::<Ifreq>() == 40 && offset_of!(Ifreq, data) == 16);

/// `struct packet_mreq`.
#[repr(C)]
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct PacketMreq {
    pub(crate) ifindex: i32,
    pub(crate) kind: u16,
    pub(crate) alen: u16,
    pub(crate) address: [u8; 8],
}
const _: () = assert!(size_of::<PacketMreq>() == 16);
