//! What can go wrong with a port, said with its name and the fix.

use std::io;

use crate::name::NameError;

/// Where buffers may be that nobody seems to have: what netmap does with those of a program that was killed.
pub const KILLED: &str =
    "buffers of a killed program come back when the last netmap program of that memory ends";

/// Why a port could not be had, or stopped working.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name makes no sense.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no control device: the module is not there (open: ENOENT, ENXIO, ENODEV).
    #[error(
        "no /dev/netmap ({source}); load the module: `kldload netmap` on FreeBSD, `modprobe netmap` on Linux"
    )]
    NoModule {
        /// What the kernel said.
        source: io::Error,
    },
    /// The process may not open the control device.
    #[error("/dev/netmap: {source}; run as root or give this user read and write access to the device")]
    Privilege {
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no such interface (ENXIO, ENODEV, ENOENT).
    #[error("netmap knows no '{port}'; is the interface there and in this network namespace or jail?")]
    NoPort {
        /// The port.
        port: String,
    },
    /// Somebody has the rings (EBUSY).
    #[error(
        "'{port}' is in use by another netmap program, which must end first, or the name must pick other rings"
    )]
    Busy {
        /// The port.
        port: String,
    },
    /// No native driver support where dev.netmap.admode demands it (EOPNOTSUPP).
    #[error(
        "'{port}' has no native netmap support and dev.netmap.admode is 1; set it to 0 to allow emulation"
    )]
    NotNative {
        /// The port.
        port: String,
    },
    /// The allocator has no room for the rings (ENOMEM).
    #[error(
        "netmap has no memory for '{port}'; raise dev.netmap.buf_num, ring_num or if_num, or use fewer ports; {KILLED}"
    )]
    NoMemory {
        /// The port.
        port: String,
    },
    /// The module speaks another API.
    #[error(
        "this netmap module does not speak API {api}, which came in 2018 and is that of FreeBSD 13 and 14: the module \
         is of another time, older or newer than this l4sd knows"
    )]
    Api {
        /// What was asked for.
        api: u16,
    },
    /// The module refused the request (EINVAL).
    #[error(
        "netmap refuses '{port}': no such ring, host rings where there are none, an unknown memory id, or an MTU above \
         the buffers (dev.netmap.buf_size, 2048 bytes unless it was changed)"
    )]
    Refused {
        /// The port.
        port: String,
    },
    /// The interface went away or left netmap mode while the port was open.
    #[error("'{port}' is gone: {call}: {source}")]
    Gone {
        /// The port.
        port: String,
        /// The call that said so.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The shared memory is not laid out as the API says.
    #[error("'{port}': the shared memory is not as API 14 says: {what}")]
    Layout {
        /// The port.
        port: String,
        /// What does not fit.
        what: String,
    },
    /// A duplicated buffer that only the kernel could give back; the port has to be registered anew.
    #[error("'{port}': buffer {index} is in two slots that the kernel holds; the port has to be opened anew")]
    Beyond {
        /// The port.
        port: String,
        /// The buffer.
        index: u32,
    },
    /// Any other failing call.
    #[error("'{port}': {call}: {source}")]
    Os {
        /// The port.
        port: String,
        /// The call.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn open(source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => Self::NoModule { source },
            Some(libc::EACCES | libc::EPERM) => Self::Privilege { source },
            _ => Self::Os { port: "/dev/netmap".to_owned(), call: "open", source },
        }
    }

    pub(crate) fn register(port: String, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENXIO | libc::ENODEV | libc::ENOENT) => Self::NoPort { port },
            Some(libc::EBUSY) => Self::Busy { port },
            Some(libc::EOPNOTSUPP) => Self::NotNative { port },
            Some(libc::ENOMEM) => Self::NoMemory { port },
            Some(libc::EINVAL) => Self::Refused { port },
            Some(libc::EACCES | libc::EPERM) => Self::Privilege { source },
            _ => Self::Os { port, call: "NIOCCTRL(NETMAP_REQ_REGISTER)", source },
        }
    }

    pub(crate) fn sync(port: String, call: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EIO | libc::ENXIO | libc::ENODEV | libc::ENETDOWN) => {
                Self::Gone { port, call, source }
            }
            _ => Self::Os { port, call, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registering_says_leads_to_the_fix() {
        let said = |errno| Error::register("em0".to_owned(), io::Error::from_raw_os_error(errno)).to_string();
        let refused = said(libc::EINVAL);
        assert!(refused.contains("'em0'") && refused.contains("an MTU above the buffers"), "{refused}");
        let full = said(libc::ENOMEM);
        assert!(full.contains("buf_num") && full.ends_with(KILLED), "{full}");
        assert!(!refused.contains('\n') && !refused.contains("  ") && !full.contains("  "));
    }
}
