//! The calls into netmap, behind a trait, so that the same rings run on the model. Each does one call; none retries.
//!
//! The trait is object-safe. The hot calls (`tx_sync`, `rx_sync`) are one indirect call and one ioctl: 1-2 ns beside
//! some 100 ns of system call.

use core::fmt;
use core::time::Duration;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use l4sd_netmap_sys as sys;
use sys::{nmreq_header, nmreq_port_info_get, nmreq_register};

use crate::mapping::Mapping;

/// A request through `NIOCCTRL`.
#[derive(Debug)]
pub struct Request<'a> {
    /// The API version that the caller speaks.
    pub version: u16,
    /// The port in the kernel's spelling (`em0`, `vale0:1`, `em0{1`), at most 63 bytes. Empty where allowed.
    pub name: &'a str,
    /// What is asked; the kernel answers in it.
    pub body: Body<'a>,
}

/// What a [`Request`] asks.
#[derive(Debug)]
pub enum Body<'a> {
    /// `NETMAP_REQ_REGISTER`: bind the descriptor to a port.
    Register(&'a mut nmreq_register),
    /// `NETMAP_REQ_PORT_INFO_GET`: numbers of a port; with an empty name of the memory region only.
    PortInfo(&'a mut nmreq_port_info_get),
}

/// How drivers without netmap support are treated: `dev.netmap.admode`, for the whole system. Whether one given port
/// is emulated is not part of the API; a port opened under [`AdapterMode::Native`] is not.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum AdapterMode {
    /// 0: native where there is support, else emulated.
    Best,
    /// 1: native, or the port is refused.
    Native,
    /// 2: always emulated.
    Emulated,
}

/// What to wait for.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Interest {
    /// Frames to receive (POLLIN): slots behind `cur` of a receive ring.
    pub read: bool,
    /// Room to transmit (POLLOUT): slots behind `cur` of a transmit ring.
    pub write: bool,
}

/// What came.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Ready {
    /// There are frames.
    pub read: bool,
    /// There is room.
    pub write: bool,
    /// POLLERR, POLLHUP or POLLNVAL: the port left netmap mode, or a ring had been damaged and was set back.
    pub error: bool,
}

/// One descriptor to wait on.
#[derive(Debug)]
pub struct PollEntry<'a> {
    /// A registered descriptor.
    pub fd: BorrowedFd<'a>,
    /// What to wait for.
    pub interest: Interest,
    /// What came; set by the call.
    pub ready: Ready,
}

/// At most so many descriptors in one [`Kernel::poll`].
pub const MAX_POLL: usize = 8;

/// The calls.
pub trait Kernel: fmt::Debug + Send + Sync {
    /// Opens the control device.
    ///
    /// # Errors
    /// ENOENT, ENXIO: no module. EACCES, EPERM: no right.
    fn open(&self) -> io::Result<OwnedFd>;

    /// One request through `NIOCCTRL`.
    ///
    /// # Errors
    /// EINVAL: other API version, no such ring, unknown memory id. ENXIO: no such port. EBUSY: ring taken.
    /// EOPNOTSUPP: not native. ENOMEM.
    fn control(&self, fd: BorrowedFd<'_>, request: Request<'_>) -> io::Result<()>;

    /// Maps `len` bytes of the region that the registered descriptor uses.
    fn map(&self, fd: BorrowedFd<'_>, len: usize) -> io::Result<Mapping>;

    /// `NIOCTXSYNC`: hands slots over, takes completed ones back (forced).
    ///
    /// # Errors
    /// ENXIO: not registered. EIO: the port was stopped.
    fn tx_sync(&self, fd: BorrowedFd<'_>) -> io::Result<()>;

    /// `NIOCRXSYNC`: gives slots back, takes received ones (without waiting for an interrupt).
    ///
    /// # Errors
    /// As for [`Kernel::tx_sync`].
    fn rx_sync(&self, fd: BorrowedFd<'_>) -> io::Result<()>;

    /// Waits until an entry has what it is interested in, or `timeout` has passed. Syncs on the way as poll(2) on a
    /// netmap descriptor does. Returns how many have something; a signal counts as none.
    ///
    /// # Errors
    /// EINVAL for more than [`MAX_POLL`] entries.
    fn poll(&self, entries: &mut [PollEntry<'_>], timeout: Duration) -> io::Result<usize>;

    /// The system's adapter mode, if it can be asked.
    fn adapter_mode(&self) -> Option<AdapterMode>;

    /// Whether the driver of `interface` has netmap's support built in; `None` if it cannot be told.
    fn driver_has_netmap(&self, interface: &str) -> Option<bool>;
}

/// The operating system's netmap.
#[derive(Copy, Clone, Debug, Default)]
pub struct RealKernel;

fn check(rc: libc::c_int) -> io::Result<libc::c_int> {
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

fn sync(fd: BorrowedFd<'_>, number: u32) -> io::Result<()> {
    // SAFETY: the request takes no argument.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), number as _, 0) })?;
    Ok(())
}

impl Kernel for RealKernel {
    fn open(&self) -> io::Result<OwnedFd> {
        // SAFETY: a constant C string.
        let fd = check(unsafe { libc::open(sys::DEVICE.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) })?;
        // SAFETY: `fd` was just returned by the kernel and nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    fn control(&self, fd: BorrowedFd<'_>, request: Request<'_>) -> io::Result<()> {
        let (kind, body) = match request.body {
            Body::Register(body) => (sys::NETMAP_REQ_REGISTER, core::ptr::from_mut(body) as u64),
            Body::PortInfo(body) => (sys::NETMAP_REQ_PORT_INFO_GET, core::ptr::from_mut(body) as u64),
        };
        let mut header = nmreq_header {
            nr_version: request.version,
            nr_reqtype: kind as u16,
            nr_reserved: 0,
            nr_name: [0; 64],
            nr_options: 0,
            nr_body: body,
        };
        if request.name.len() >= header.nr_name.len() {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        for (to, from) in header.nr_name.iter_mut().zip(request.name.bytes()) {
            *to = from.cast_signed() as core::ffi::c_char;
        }
        // SAFETY: a whole header whose body points at the structure of its request type, borrowed exclusively through
        // the call; no options.
        check(unsafe { libc::ioctl(fd.as_raw_fd(), sys::NIOCCTRL as _, &raw mut header) })?;
        Ok(())
    }

    fn map(&self, fd: BorrowedFd<'_>, len: usize) -> io::Result<Mapping> {
        Mapping::shared(fd, len)
    }

    fn tx_sync(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        sync(fd, sys::NIOCTXSYNC)
    }

    fn rx_sync(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        sync(fd, sys::NIOCRXSYNC)
    }

    fn poll(&self, entries: &mut [PollEntry<'_>], timeout: Duration) -> io::Result<usize> {
        let mut fds = [libc::pollfd { fd: -1, events: 0, revents: 0 }; MAX_POLL];
        let fds = fds.get_mut(..entries.len()).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        for (fd, entry) in fds.iter_mut().zip(&*entries) {
            fd.fd = entry.fd.as_raw_fd();
            fd.events = if entry.interest.read { libc::POLLIN } else { 0 }
                | if entry.interest.write { libc::POLLOUT } else { 0 };
        }
        let ts = libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let count = fds.len() as libc::nfds_t;
        // SAFETY: `fds` has `count` entries for reading and writing, `ts` lives through the call, no signal mask.
        let rc = unsafe { libc::ppoll(fds.as_mut_ptr(), count, &raw const ts, core::ptr::null()) };
        match check(rc) {
            Ok(n) => {
                for (fd, entry) in fds.iter().zip(entries) {
                    let has = |bits| fd.revents & bits != 0;
                    entry.ready = Ready {
                        read: has(libc::POLLIN),
                        write: has(libc::POLLOUT),
                        error: has(libc::POLLERR | libc::POLLHUP | libc::POLLNVAL),
                    };
                }
                Ok(n as usize)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                for entry in entries {
                    entry.ready = Ready::default();
                }
                Ok(0)
            }
            Err(e) => Err(e),
        }
    }

    fn adapter_mode(&self) -> Option<AdapterMode> {
        match system_adapter_mode()? {
            0 => Some(AdapterMode::Best),
            1 => Some(AdapterMode::Native),
            2 => Some(AdapterMode::Emulated),
            _ => None,
        }
    }

    fn driver_has_netmap(&self, interface: &str) -> Option<bool> {
        l4sd_host::driver_has_netmap(interface)
    }
}

#[cfg(target_os = "freebsd")]
fn system_adapter_mode() -> Option<i32> {
    let mut value: libc::c_int = 0;
    let mut len = size_of_val(&value);
    // SAFETY: a constant name; `value` and `len` are valid for writing, `len` says how long `value` is.
    let rc = unsafe {
        libc::sysctlbyname(
            c"dev.netmap.admode".as_ptr(),
            (&raw mut value).cast(),
            &raw mut len,
            core::ptr::null(),
            0,
        )
    };
    (rc == 0).then_some(value)
}

#[cfg(not(target_os = "freebsd"))]
fn system_adapter_mode() -> Option<i32> {
    std::fs::read_to_string("/sys/module/netmap/parameters/admode").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_module_opening_says_so() {
        if std::path::Path::new("/dev/netmap").exists() {
            return;
        }
        let error = RealKernel.open().map_err(crate::Error::open).unwrap_err();
        assert!(matches!(error, crate::Error::NoModule { .. }), "{error}");
        assert!(error.to_string().contains("modprobe netmap"), "{error}");
    }
}
