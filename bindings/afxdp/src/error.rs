//! What can go wrong, said with the name of the thing and the fix.

use std::io;

/// Why an AF_XDP socket, its memory or its program could not be had, or stopped working.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such interface, or it is gone.
    #[error("no interface '{name}' in this network namespace; `ip link` lists them")]
    NoInterface {
        /// The interface.
        name: String,
    },
    /// The interface is down.
    #[error("'{name}' is down; run `ip link set dev {name} up`")]
    Down {
        /// The interface.
        name: String,
    },
    /// The process lacks a privilege.
    #[error(
        "{call}: {source}; AF_XDP needs CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_IPC_LOCK of the initial user \
         namespace (root, not a user namespace); without them use packet: instead"
    )]
    Privilege {
        /// The call that was refused.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody else's XDP program or AF_XDP socket is there.
    #[error("'{name}' already has {what}; {fix}")]
    Busy {
        /// The interface.
        name: String,
        /// What is attached or bound.
        what: String,
        /// How to free it.
        fix: String,
    },
    /// The interface's frames do not fit a UMEM frame.
    #[error("'{name}' has MTU {mtu}, the frames hold at most {max}; run `ip link set dev {name} mtu {max}`")]
    Mtu {
        /// The interface.
        name: String,
        /// Its MTU in bytes.
        mtu: u32,
        /// The largest MTU that fits.
        max: u32,
    },
    /// An offload is on that makes frames arrive in another shape than on the wire.
    #[error(
        "'{name}' has {features} on, so an XDP program would not see frames as they are on the wire; run `{fix}`"
    )]
    Offload {
        /// The interface whose flags are meant.
        name: String,
        /// The kernel's names of the features that are on.
        features: String,
        /// The command that turns them off.
        fix: String,
    },
    /// More receive queues than the UMEM serves.
    #[error("'{name}' has {queues} receive queues, at most {max} are served; run `{fix}`")]
    Queues {
        /// The interface.
        name: String,
        /// How many receive queues it has.
        queues: u32,
        /// How many are served.
        max: u32,
        /// The command that reduces them.
        fix: String,
    },
    /// The kernel has no AF_XDP.
    #[error("this kernel has no AF_XDP (CONFIG_XDP_SOCKETS); use packet: instead")]
    Unsupported,
    /// Any other failing call.
    #[error("'{name}': {call}: {source}")]
    Os {
        /// The interface, or what else was worked on.
        name: String,
        /// The call.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// Sorts a failed call: missing privileges and missing kernel support have their own variants.
    pub(crate) fn os(name: &str, call: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Privilege { call, source },
            Some(libc::EAFNOSUPPORT) => Self::Unsupported,
            Some(libc::ENODEV) => Self::NoInterface { name: name.to_owned() },
            Some(libc::ENETDOWN) => Self::Down { name: name.to_owned() },
            _ => Self::Os { name: name.to_owned(), call, source },
        }
    }
}
