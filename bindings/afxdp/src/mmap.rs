//! Owned memory mappings. Must not know what is in them.

use core::ptr::NonNull;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A private or shared mapping that ends with this value.
#[derive(Debug)]
pub(crate) struct Mmap {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory without thread affinity; what is done with it is the owner's business.
unsafe impl Send for Mmap {}
// SAFETY: a shared reference gives out only a pointer and a length.
unsafe impl Sync for Mmap {}

impl Mmap {
    /// Anonymous zeroed memory, already backed by pages, on huge pages if the kernel likes.
    pub(crate) fn anonymous(len: usize) -> io::Result<Self> {
        let map = Self::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)?;
        // SAFETY: the range is exactly the mapping just made; the advice does not change its contents.
        unsafe { libc::madvise(map.start.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
        // SAFETY: the mapping is writable and `len` bytes long; nobody else has a pointer to it yet.
        unsafe { core::ptr::write_bytes(map.start.as_ptr(), 0, len) };
        Ok(map)
    }

    /// `len` bytes of `fd` from `offset`, shared with the kernel.
    pub(crate) fn shared(fd: BorrowedFd<'_>, len: usize, offset: i64) -> io::Result<Self> {
        Self::map(len, libc::MAP_SHARED | libc::MAP_POPULATE, fd.as_raw_fd(), offset)
    }

    fn map(len: usize, flags: i32, fd: i32, offset: i64) -> io::Result<Self> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a null hint without MAP_FIXED cannot touch an existing mapping.
        let start = unsafe { libc::mmap(core::ptr::null_mut(), len, prot, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast())
            .map(|start| Self { start, len })
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mmap {
    fn drop(&mut self) {
        // SAFETY: start and length are those of the mapping, and whoever held pointers into it has borrowed `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
