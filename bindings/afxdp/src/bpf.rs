//! The XDP program and the map it redirects through, loaded with `bpf(2)` and attached by a link that the kernel
//! undoes when the process ends, however it ends. Must not know of rings or memory.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::abi::{self, Insn, LinkCreate, MapCreate, MapUpdate, ProgLoad, TestRun};
use crate::sys;

/// How the XDP program runs.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum AttachMode {
    /// In the driver, before an skb exists.
    Native,
    /// In the generic hook of the stack, after the skb was made: slower, works with any driver.
    Skb,
}

/// A map from receive queue to AF_XDP socket.
#[derive(Debug)]
pub(crate) struct XskMap(OwnedFd);

impl XskMap {
    pub(crate) fn new(queues: u32) -> io::Result<Self> {
        let attr = MapCreate {
            map_type: abi::BPF_MAP_TYPE_XSKMAP,
            key_size: 4,
            value_size: 4,
            max_entries: queues.max(1),
        };
        // SAFETY: the structure holds no addresses.
        unsafe { sys::bpf_fd(abi::BPF_MAP_CREATE, &attr) }.map(Self)
    }

    pub(crate) fn set(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let value = socket.as_raw_fd();
        let attr = MapUpdate {
            map_fd: self.0.as_raw_fd() as u32,
            key: address(&queue),
            value: address(&value),
            ..MapUpdate::default()
        };
        // SAFETY: `key` and `value` point to 4 bytes each, as the map was made, which outlive the call.
        unsafe { sys::bpf(abi::BPF_MAP_UPDATE_ELEM, &attr) }.map(|_| ())
    }
}

/// A loaded XDP program.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// A frame goes to the socket that the map has for its receive queue, else to the stack.
    pub(crate) fn redirect(map: &XskMap) -> io::Result<Self> {
        const LDX_W: u8 = 0x61;
        const LD_IMM64: u8 = 0x18;
        const MOV64_IMM: u8 = 0xb7;
        const CALL: u8 = 0x85;
        const EXIT: u8 = 0x95;
        const PSEUDO_MAP_FD: u8 = 1 << 4;
        const REDIRECT_MAP: i32 = 51;
        let insn = |code, regs, off, imm| Insn { code, regs, off, imm };
        Self::load(&[
            insn(LDX_W, 0x12, abi::XDP_MD_RX_QUEUE_INDEX, 0),
            insn(LD_IMM64, 1 | PSEUDO_MAP_FD, 0, map.0.as_raw_fd()),
            insn(0, 0, 0, 0),
            insn(MOV64_IMM, 3, 0, abi::XDP_PASS),
            insn(CALL, 0, 0, REDIRECT_MAP),
            insn(EXIT, 0, 0, 0),
        ])
    }

    /// Every frame is dropped, and counted by the driver as received: the cheapest sink for a measurement.
    pub fn drop_all() -> io::Result<Self> {
        Self::load(&[
            Insn { code: 0xb7, regs: 0, off: 0, imm: abi::XDP_DROP },
            Insn { code: 0x95, regs: 0, off: 0, imm: 0 },
        ])
    }

    /// Every frame leaves through another interface of the namespace: what [`Self::flood`] needs.
    pub fn leave_through(ifindex: u32) -> io::Result<Self> {
        const REDIRECT: i32 = 23;
        let insn = |code, regs, imm| Insn { code, regs, off: 0, imm };
        Self::load(&[
            insn(0xb7, 1, ifindex.cast_signed()),
            insn(0xb7, 2, 0),
            insn(0x85, 0, REDIRECT),
            insn(0x95, 0, 0),
        ])
    }

    /// Makes the kernel run the program on `count` copies of `frame` as if they had just been received, without any
    /// skb: the fastest generator for a measurement. Returns when they have left.
    pub fn flood(&self, frame: &[u8], count: u32) -> io::Result<()> {
        let attr = TestRun {
            prog_fd: self.0.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as usize as u64,
            repeat: count,
            flags: abi::BPF_F_TEST_XDP_LIVE_FRAMES,
            batch_size: 64,
            ..TestRun::default()
        };
        // SAFETY: `data_in` points to `data_size_in` readable bytes that outlive the call; nothing is asked back.
        unsafe { sys::bpf(abi::BPF_PROG_TEST_RUN, &attr) }.map(|_| ())
    }

    fn load(insns: &[Insn]) -> io::Result<Self> {
        let license = *b"BSD\0";
        let mut prog_name = [0; 16];
        prog_name[..4].copy_from_slice(b"l4sd");
        let attr = ProgLoad {
            prog_type: abi::BPF_PROG_TYPE_XDP,
            insn_cnt: insns.len() as u32,
            insns: insns.as_ptr() as usize as u64,
            license: address(&license),
            prog_name,
            ..ProgLoad::default()
        };
        // SAFETY: `insns` and the NUL-terminated `license` outlive the call; there is no log buffer.
        unsafe { sys::bpf_fd(abi::BPF_PROG_LOAD, &attr) }.map(Self)
    }

    /// Attaches the program to an interface. `EBUSY` or `EEXIST` mean that another program is there.
    pub fn attach(&self, ifindex: u32, mode: AttachMode) -> io::Result<Link> {
        let flags = match mode {
            AttachMode::Native => abi::XDP_FLAGS_DRV_MODE,
            AttachMode::Skb => abi::XDP_FLAGS_SKB_MODE,
        };
        let attr = LinkCreate {
            prog_fd: self.0.as_raw_fd() as u32,
            target_ifindex: ifindex,
            attach_type: abi::BPF_XDP,
            flags,
        };
        // SAFETY: the structure holds no addresses.
        unsafe { sys::bpf_fd(abi::BPF_LINK_CREATE, &attr) }.map(|fd| Link { _fd: fd })
    }
}

/// The attachment of a program to an interface. Ends with this value, or with the process.
#[derive(Debug)]
pub struct Link {
    _fd: OwnedFd,
}

fn address<T>(value: &T) -> u64 {
    core::ptr::from_ref(value) as usize as u64
}
