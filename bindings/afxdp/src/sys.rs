//! System calls as safe functions over owned descriptors. Each does one call; none retries or interprets.

use core::ffi::c_void;
use core::mem::size_of;
use core::time::Duration;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::abi::{self, Ifreq, SockaddrXdp};

/// A plain `repr(C)` structure of integers: any bytes are a value, and there is no padding to leak.
///
/// # Safety
/// The implementor holds only integers and arrays of them, without padding.
pub(crate) unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($t:ty),*) => { $(
        // SAFETY: integers and integer arrays only; the asserted sizes in abi.rs leave no padding.
        unsafe impl Plain for $t {}
    )* };
}
plain!(
    u32,
    i32,
    crate::abi::MmapOffsets,
    crate::abi::UmemReg,
    crate::abi::Statistics,
    crate::abi::PacketMreq
);
plain!(
    crate::abi::MapCreate,
    crate::abi::MapUpdate,
    crate::abi::ProgLoad,
    crate::abi::LinkCreate,
    crate::abi::TestRun
);

fn check(rc: libc::c_int) -> io::Result<libc::c_int> {
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

pub(crate) fn socket(domain: i32, kind: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: `fd` was just returned by the kernel and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn setsockopt<T: Plain>(fd: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    let ptr = core::ptr::from_ref(value).cast::<c_void>();
    // SAFETY: `ptr` is valid for reads of `size_of::<T>()` bytes for the duration of the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, ptr, size_of::<T>() as libc::socklen_t) })?;
    Ok(())
}

/// Reads a socket option into `value`; a kernel that knows a shorter structure leaves the tail as it was.
pub(crate) fn getsockopt<T: Plain>(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &mut T,
) -> io::Result<()> {
    let mut len = size_of::<T>() as libc::socklen_t;
    let ptr = core::ptr::from_mut(value).cast::<c_void>();
    // SAFETY: `ptr` is valid for writes of `len` bytes, and any bytes are a value of a `Plain` type.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, ptr, &raw mut len) })?;
    Ok(())
}

pub(crate) fn bind_xdp(fd: BorrowedFd<'_>, address: &SockaddrXdp) -> io::Result<()> {
    let ptr = core::ptr::from_ref(address).cast::<libc::sockaddr>();
    // SAFETY: `ptr` is valid for reads of `size_of::<SockaddrXdp>()` bytes, which is what is passed as the length.
    check(unsafe { libc::bind(fd.as_raw_fd(), ptr, size_of::<SockaddrXdp>() as libc::socklen_t) })?;
    Ok(())
}

/// Tells the kernel that the transmit ring has work (`sendto` of nothing).
pub(crate) fn wake_tx(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a null buffer of length zero and no address.
    let rc = unsafe {
        libc::sendto(fd.as_raw_fd(), core::ptr::null(), 0, libc::MSG_DONTWAIT, core::ptr::null(), 0)
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Tells the kernel that the fill ring has frames (`recvfrom` of nothing).
pub(crate) fn wake_rx(fd: BorrowedFd<'_>) -> io::Result<()> {
    let none = core::ptr::null_mut();
    // SAFETY: a null buffer of length zero and no address.
    let rc = unsafe { libc::recvfrom(fd.as_raw_fd(), none, 0, libc::MSG_DONTWAIT, none.cast(), none.cast()) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits until one of `fds` has an event or `timeout` has passed. Returns how many have one; a signal counts as none.
pub(crate) fn poll(fds: &mut [libc::pollfd], timeout: Duration) -> io::Result<usize> {
    let ts = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    let count = fds.len() as libc::nfds_t;
    // SAFETY: `fds` is valid for reads and writes of `count` entries, `ts` lives through the call, no signal mask.
    let rc = unsafe { libc::ppoll(fds.as_mut_ptr(), count, &raw const ts, core::ptr::null()) };
    match check(rc) {
        Ok(n) => Ok(n as usize),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(e) => Err(e),
    }
}

/// An interface ioctl that reads and writes one `struct ifreq` without pointers in its union.
pub(crate) fn ioctl_ifreq(fd: BorrowedFd<'_>, request: libc::c_ulong, req: &mut Ifreq) -> io::Result<()> {
    // SAFETY: `req` is a whole `struct ifreq`, valid for reads and writes; the requests used put integers in it.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, core::ptr::from_mut(req)) })?;
    Ok(())
}

/// `SIOCETHTOOL` with `buffer` as the command structure.
pub(crate) fn ioctl_ethtool(
    fd: BorrowedFd<'_>,
    req: &mut Ifreq,
    buffer: &mut EthtoolBuffer,
) -> io::Result<()> {
    let pointer = buffer.0.as_mut_ptr() as usize as u64;
    req.data.0[..8].copy_from_slice(&pointer.to_ne_bytes());
    // SAFETY: `req` is a whole `struct ifreq` whose pointer names `buffer`, which is valid for reads and writes and
    // which its constructor made as long as the command's result.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), SIOCETHTOOL as _, core::ptr::from_mut(req)) })?;
    Ok(())
}

const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// Words for an ethtool command. Only made by the constructors, each of which sizes it for one family of commands.
#[derive(Debug)]
pub(crate) struct EthtoolBuffer(Vec<u64>);

impl EthtoolBuffer {
    /// For the commands whose result has a fixed size of at most 512 bytes.
    pub(crate) fn fixed(cmd: u32) -> Self {
        assert!(matches!(cmd, abi::ETHTOOL_GDRVINFO | abi::ETHTOOL_GSSET_INFO | abi::ETHTOOL_GCHANNELS));
        Self::sized(cmd, 512)
    }

    /// For commands that return a header of at most 16 bytes and `count` entries of `entry` bytes. The kernel writes
    /// as many entries as it has; a device that gains entries between two calls is allowed for by doubling.
    pub(crate) fn table(cmd: u32, count: u32, entry: usize) -> Self {
        Self::sized(cmd, 512 + 2 * count as usize * entry)
    }

    fn sized(cmd: u32, bytes: usize) -> Self {
        let mut buffer = Self(vec![0; bytes.div_ceil(8)]);
        buffer.set_u32(0, cmd);
        buffer
    }

    pub(crate) fn set_u32(&mut self, at: usize, value: u32) {
        let mut word = self.0[at / 8].to_ne_bytes();
        word[at % 8..at % 8 + 4].copy_from_slice(&value.to_ne_bytes());
        self.0[at / 8] = u64::from_ne_bytes(word);
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|w| w.to_ne_bytes()).collect()
    }
}

/// `bpf(2)` with `attr` as the head of `union bpf_attr`, for the commands that return a descriptor.
///
/// # Safety
/// Every address in `attr` is valid for what `cmd` reads or writes there.
pub(crate) unsafe fn bpf_fd<T: Plain>(cmd: i64, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: forwarded from the caller.
    let fd = unsafe { bpf(cmd, attr) }?;
    // SAFETY: the commands used with this function return a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `bpf(2)` with `attr` as the head of `union bpf_attr`.
///
/// # Safety
/// Every address in `attr` is valid for what `cmd` reads or writes there.
pub(crate) unsafe fn bpf<T: Plain>(cmd: i64, attr: &T) -> io::Result<i32> {
    // SAFETY: `attr` is valid for reads of its size; the kernel takes the rest of the union as zero.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, cmd, core::ptr::from_ref(attr), size_of::<T>()) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc as i32) }
}
