//! FreeBSD's Capsicum: in capability mode the process reaches nothing but the descriptors that it holds, and each of
//! those only for what it was limited to (capsicum(4), rights(4)).
//!
//! The rights and the layout are the libc crate's; the assertions below hold them to numbers that
//! `freebsd/cross/capsicum.c` holds to FreeBSD's own headers. Linked for FreeBSD 14, not run there.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::error::{Error, Result};

const _: () = assert!(libc::CAP_READ == 0x0200_0000_0000_0001);
const _: () = assert!(libc::CAP_WRITE == 0x0200_0000_0000_0002);
const _: () = assert!(libc::CAP_SEEK == 0x0200_0000_0000_000c);
const _: () = assert!(libc::CAP_MMAP_RW == 0x0200_0000_0000_001f);
const _: () = assert!(libc::CAP_CREATE == 0x0200_0000_0000_0040);
const _: () = assert!(libc::CAP_FTRUNCATE == 0x0200_0000_0000_0200);
const _: () = assert!(libc::CAP_LOOKUP == 0x0200_0000_0000_0400);
const _: () = assert!(libc::CAP_RENAMEAT_SOURCE == 0x0200_0000_0400_0400);
const _: () = assert!(libc::CAP_RENAMEAT_TARGET == 0x0200_0400_0000_0400);
const _: () = assert!(libc::CAP_UNLINKAT == 0x0200_0000_1000_0400);
const _: () = assert!(libc::CAP_FCNTL == 0x0200_0000_0000_8000);
const _: () = assert!(libc::CAP_FSTAT == 0x0200_0000_0008_0000);
const _: () = assert!(libc::CAP_ACCEPT == 0x0200_0000_2000_0000);
const _: () = assert!(libc::CAP_GETPEERNAME == 0x0200_0001_0000_0000);
const _: () = assert!(libc::CAP_GETSOCKNAME == 0x0200_0002_0000_0000);
const _: () = assert!(libc::CAP_GETSOCKOPT == 0x0200_0004_0000_0000);
const _: () = assert!(libc::CAP_SETSOCKOPT == 0x0200_0020_0000_0000);
const _: () = assert!(libc::CAP_SHUTDOWN == 0x0200_0040_0000_0000);
const _: () = assert!(libc::CAP_EVENT == 0x0400_0000_0000_0020);
const _: () = assert!(libc::CAP_IOCTL == 0x0400_0000_0000_0080);
const _: () = assert!(size_of::<libc::cap_rights_t>() == 16);

/// What `netmap(4)` calls NIOCTXSYNC and NIOCRXSYNC; FreeBSD's numbers.
const SYNC: [libc::c_ulong; 2] = [0x2000_6994, 0x2000_6995];

/// What a descriptor is still good for.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Use {
    /// The rings of a netmap port: waited for, synchronised by the two ioctls, memory mapped.
    Netmap,
    /// A listening socket, and by inheritance what it accepts.
    Listener,
    /// A connected socket or one end of a pipe, to be read and written.
    Stream,
    /// A standard stream that log lines and results are written to.
    Output,
    /// A folder whose files are made, written anew, renamed and removed.
    WriteFolder,
    /// A folder whose files are read.
    ReadFolder,
    /// Nothing.
    Nothing,
}

impl Use {
    /// Rights of the first and of the second word.
    const fn rights(self) -> [u64; 2] {
        use libc::{
            CAP_ACCEPT, CAP_CREATE, CAP_EVENT, CAP_FCNTL, CAP_FSTAT, CAP_FTRUNCATE, CAP_GETPEERNAME,
            CAP_GETSOCKNAME, CAP_GETSOCKOPT, CAP_IOCTL, CAP_LOOKUP, CAP_MMAP_RW, CAP_READ,
            CAP_RENAMEAT_SOURCE, CAP_RENAMEAT_TARGET, CAP_SEEK, CAP_SETSOCKOPT, CAP_SHUTDOWN, CAP_UNLINKAT,
            CAP_WRITE,
        };
        const NAMES: u64 = CAP_GETPEERNAME | CAP_GETSOCKNAME | CAP_GETSOCKOPT | CAP_SETSOCKOPT;
        match self {
            Self::Netmap => [CAP_MMAP_RW, CAP_EVENT | CAP_IOCTL],
            Self::Listener => {
                let accepted = CAP_READ | CAP_WRITE | CAP_SHUTDOWN | CAP_FCNTL | NAMES;
                [CAP_ACCEPT | accepted, CAP_EVENT]
            }
            Self::Stream => [CAP_READ | CAP_WRITE | CAP_SHUTDOWN | CAP_FCNTL | NAMES, CAP_EVENT],
            Self::Output => [CAP_WRITE | CAP_FSTAT, CAP_EVENT],
            Self::WriteFolder => {
                let names =
                    CAP_LOOKUP | CAP_CREATE | CAP_RENAMEAT_SOURCE | CAP_RENAMEAT_TARGET | CAP_UNLINKAT;
                [names | CAP_WRITE | CAP_SEEK | CAP_FTRUNCATE | CAP_FSTAT | CAP_FCNTL, 0]
            }
            Self::ReadFolder => [CAP_LOOKUP | CAP_READ | CAP_SEEK | CAP_FSTAT | CAP_FCNTL, 0],
            Self::Nothing => [0, 0],
        }
    }

    /// The ioctls that CAP_IOCTL is narrowed to.
    const fn ioctls(self) -> &'static [libc::c_ulong] {
        match self {
            Self::Netmap => &SYNC,
            _ => &[],
        }
    }
}

/// Leaves the descriptor `fd` with the rights of `what` only. Rights can be taken away, never given back.
pub fn limit(fd: BorrowedFd<'_>, what: Use) -> Result<()> {
    let [first, second] = what.rights();
    // SAFETY: all-zero is a valid `cap_rights_t`, and the call below initialises it.
    let mut rights: libc::cap_rights_t = unsafe { core::mem::zeroed() };
    // A right of no bits but its word's would be refused, and a zero ends the list: so the words that are empty last.
    let (a, b) = if first == 0 { (second, 0) } else { (first, second) };
    // SAFETY: `rights` lives through the call; the list of 64-bit rights ends with a zero.
    unsafe { libc::__cap_rights_init(libc::CAP_RIGHTS_VERSION, &raw mut rights, a, b, 0_u64) };
    // SAFETY: an open descriptor and rights that live through the call.
    if unsafe { libc::cap_rights_limit(fd.as_raw_fd(), &raw const rights) } != 0 {
        return Err(Error::last("cap_rights_limit"));
    }
    let ioctls = what.ioctls();
    if ioctls.is_empty() {
        return Ok(());
    }
    // SAFETY: as many commands as are told, read during the call.
    match unsafe { libc::cap_ioctls_limit(fd.as_raw_fd(), ioctls.as_ptr(), ioctls.len()) } {
        0 => Ok(()),
        _ => Err(Error::last("cap_ioctls_limit")),
    }
}

/// Puts the process, every thread of it, into capability mode for good.
pub fn enter() -> Result<()> {
    // SAFETY: no arguments.
    if unsafe { libc::cap_enter() } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        e if e.raw_os_error() == Some(libc::ENOSYS) => Err(Error::Unsupported {
            what: "capability mode",
            fix: "use a kernel with options CAPABILITY_MODE and CAPABILITIES, as GENERIC has",
        }),
        source => Err(Error::Os { call: "cap_enter", source }),
    }
}
