//! What the operating system is asked about, and made to do, around the data path: interfaces and their offloads,
//! scheduling, memory locks, a kernel stack that stays out of the way, and privileges that are given up.
//!
//! Safe functions over `libc`. Nothing here moves a frame, reads configuration or decides what a finding means. Parts
//! that only one system has are compiled only there.

mod driver;
mod error;
mod folder;
mod link;
mod process;
mod sleep;
mod user;

#[cfg(target_os = "freebsd")]
pub mod capsicum;

#[cfg(target_os = "linux")]
mod blind;
#[cfg(target_os = "linux")]
mod ethtool;
#[cfg(target_os = "linux")]
mod interface;
#[cfg(target_os = "linux")]
mod netlink;
#[cfg(target_os = "linux")]
mod xdp;

pub use driver::driver_has_netmap;
pub use error::{Error, Result};
pub use folder::Folder;
#[cfg(not(target_os = "linux"))]
pub use link::harmful_offloads;
pub use link::{Link, LinkState};
pub use process::{hang_up, lift_memlock_limit, lock_memory, memlock_limit, set_fifo};
pub use sleep::sleep;
pub use user::{User, is_root};

#[cfg(target_os = "linux")]
pub use blind::Blind;
#[cfg(target_os = "linux")]
pub use ethtool::{Features, Offload, features, rx_queues};
#[cfg(target_os = "linux")]
pub use interface::{Interface, addresses, carries_default_route, interface};
#[cfg(target_os = "linux")]
pub use process::{Capability, has_capability, rt_runtime_us, set_precise_timers};
#[cfg(target_os = "linux")]
pub use user::forbid_new_privileges;
#[cfg(target_os = "linux")]
pub use xdp::{XdpSupport, xdp_support};
