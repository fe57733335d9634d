//! System calls and the mapping of a ring, each wrapped once. Knows nothing of slots.

use core::mem::{size_of, zeroed};
use core::ptr::{self, NonNull};
use core::sync::atomic::AtomicU32;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::abi::Header;
use crate::error::{Error, Result};

/// A shared mapping of ring memory; unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to the thread that made it, and `Region` hands out writable memory
// through `&mut self` only.
unsafe impl Send for Region {}

impl Region {
    /// Maps the `len` bytes of the ring that was set up on `socket`.
    pub(crate) fn of_socket(socket: BorrowedFd<'_>, len: usize) -> Result<Self> {
        Self::map(len, libc::MAP_SHARED, socket.as_raw_fd())
    }

    /// Zeroed memory that no kernel writes, to run a ring against a scripted kernel.
    #[cfg(test)]
    pub(crate) fn anonymous(len: usize) -> Result<Self> {
        Self::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    fn map(len: usize, flags: libc::c_int, fd: libc::c_int) -> Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice; no existing memory is affected.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
        if base == libc::MAP_FAILED {
            return Err(Error::last("mmap of the ring"));
        }
        NonNull::new(base.cast())
            .map(|base| Self { base, len })
            .ok_or_else(|| Error::last("mmap of the ring"))
    }

    /// The status word of the slot that starts at `offset`.
    pub(crate) fn status(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(size_of::<u32>()) && offset + size_of::<Header>() <= self.len);
        // SAFETY: in bounds and aligned (asserted; the mapping is page aligned), alive as long as `self`, and the
        // kernel and this process access the word only as a whole.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    /// The header of the slot that starts at `offset`, which this process owns by its status.
    pub(crate) fn header(&self, offset: usize) -> Header {
        assert!(offset + size_of::<Header>() <= self.len);
        // SAFETY: in bounds (asserted); every bit pattern is a valid `Header`; the kernel does not write a slot that
        // it has handed over.
        unsafe { self.base.as_ptr().add(offset).cast::<Header>().read_unaligned() }
    }

    /// Bytes of a slot that this process owns by its status.
    pub(crate) fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        assert!(offset <= self.len && len <= self.len - offset);
        // SAFETY: in bounds (asserted), initialised by the kernel (ring pages are zeroed), not written by the kernel
        // while the slot is ours, and not by us while `self` is borrowed.
        unsafe { core::slice::from_raw_parts(self.base.as_ptr().add(offset), len) }
    }

    /// Bytes of a slot that this process owns by its status, to write.
    pub(crate) fn bytes_mut(&mut self, offset: usize, len: usize) -> &mut [u8] {
        assert!(offset <= self.len && len <= self.len - offset);
        // SAFETY: as in `bytes`, and `&mut self` excludes any other reference of ours.
        unsafe { core::slice::from_raw_parts_mut(self.base.as_ptr().add(offset), len) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `map`; no reference into it outlives `self`. A failure leaves it mapped.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// A raw packet socket that receives nothing until it is bound to a protocol.
pub(crate) fn socket() -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(Error::last("socket(AF_PACKET)"));
    }
    // SAFETY: a descriptor that was just opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Values that `setsockopt` may read byte by byte.
pub(crate) trait Plain: Copy {}
impl Plain for libc::c_int {}
impl Plain for libc::tpacket_req {}
impl Plain for libc::packet_mreq {}

/// Sets an option of level `SOL_PACKET`.
pub(crate) fn set<T: Plain>(
    fd: BorrowedFd<'_>,
    option: libc::c_int,
    value: T,
    call: &'static str,
) -> Result<()> {
    // SAFETY: the pointer and the length describe `value`, which lives through the call.
    let rc = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if rc == 0 { Ok(()) } else { Err(Error::last(call)) }
}

fn get<T: Copy>(fd: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int, mut value: T) -> io::Result<T> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `value`, which lives through the call; the kernel writes integers.
    let rc =
        unsafe { libc::getsockopt(fd.as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut len) };
    if rc == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Frames dropped by the kernel since the last call.
pub(crate) fn take_drops(fd: BorrowedFd<'_>) -> Result<u32> {
    let empty = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    get(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, empty)
        .map(|s| s.tp_drops)
        .map_err(|source| Error { call: "getsockopt(PACKET_STATISTICS)", source })
}

/// The pending asynchronous error of a socket, which is thereby cleared.
pub(crate) fn take_error(fd: BorrowedFd<'_>) -> Result<Option<io::Error>> {
    get(fd, libc::SOL_SOCKET, libc::SO_ERROR, 0)
        .map(|errno: libc::c_int| (errno != 0).then(|| io::Error::from_raw_os_error(errno)))
        .map_err(|source| Error { call: "getsockopt(SO_ERROR)", source })
}

/// Binds to one interface; `protocol` in host order, 0 to receive nothing.
pub(crate) fn bind(fd: BorrowedFd<'_>, if_index: u32, protocol: u16) -> Result<()> {
    // SAFETY: all-zero is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = if_index.cast_signed();
    // SAFETY: the pointer and the length describe `address`, which lives through the call.
    let rc = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if rc == 0 { Ok(()) } else { Err(Error::last("bind(AF_PACKET)")) }
}

/// Makes the kernel transmit what the ring holds, without waiting.
pub(crate) fn send_ring(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: an empty buffer may be null; the frames are in the ring.
    let rc = unsafe { libc::sendto(fd.as_raw_fd(), ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sleeps until one of two sockets is readable or in error, a signal came, or `timeout_ns` has passed; true if one is.
pub(crate) fn poll_pair(fds: [BorrowedFd<'_>; 2], timeout_ns: u64) -> Result<bool> {
    let mut set = fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    let timeout = libc::timespec {
        tv_sec: i64::try_from(timeout_ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: (timeout_ns % 1_000_000_000).cast_signed(),
    };
    // SAFETY: `set` and `timeout` live through the call and their count is right; the signal mask may be null.
    let rc =
        unsafe { libc::ppoll(set.as_mut_ptr(), set.len() as libc::nfds_t, &raw const timeout, ptr::null()) };
    if rc >= 0 {
        return Ok(rc > 0);
    }
    match io::Error::last_os_error() {
        e if e.kind() == io::ErrorKind::Interrupted => Ok(false),
        source => Err(Error { call: "ppoll", source }),
    }
}
