//! A link as every BSD-like system tells of it, through the interface ioctls: cheap enough to be asked ten times a
//! second. The socket is kept, so it is true of the network namespace in which it was made.

use core::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::error::{Error, Result};

/// The kernel's `struct ifreq` with the union's first members: two halves of the flags, or one integer.
#[repr(C)]
#[derive(Copy, Clone)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    low: u16,
    high: u16,
    rest: [u32; REST],
}

#[cfg(target_os = "linux")]
mod abi {
    pub(super) const REST: usize = 5;
    pub(super) const GET_FLAGS: u64 = libc::SIOCGIFFLAGS;
    pub(super) const SET_FLAGS: u64 = libc::SIOCSIFFLAGS;
    pub(super) const GET_MTU: u64 = libc::SIOCGIFMTU;
    /// As the user set it, in the low half.
    pub(super) const PROMISCUOUS: (u16, u16) = (libc::IFF_PROMISC as u16, 0);
}

#[cfg(not(target_os = "linux"))]
mod abi {
    pub(super) const REST: usize = 3;
    // `_IOWR('i', 17, struct ifreq)`, `_IOW('i', 16, struct ifreq)`, `_IOWR('i', 51, struct ifreq)`.
    pub(super) const GET_FLAGS: u64 = 0xc020_6911;
    pub(super) const SET_FLAGS: u64 = 0x8020_6910;
    pub(super) const GET_MTU: u64 = 0xc020_6933;
    /// FreeBSD's IFF_PPROMISC, as the user set it, in the high half.
    pub(super) const PROMISCUOUS: (u16, u16) = (0, 0x0002);
}

/// Where an interface was looked for, and what lists those that are there.
#[cfg(target_os = "linux")]
pub(crate) const WHERE: &str = "in this network namespace: `ip link` lists them";
/// As above.
#[cfg(not(target_os = "linux"))]
pub(crate) const WHERE: &str = "in this jail: `ifconfig -l` lists them";

use abi::{GET_FLAGS, GET_MTU, PROMISCUOUS, REST, SET_FLAGS};

#[cfg(target_os = "linux")]
const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());
#[cfg(not(target_os = "linux"))]
const _: () = assert!(size_of::<Request>() == 32);

/// What a link is like now.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct LinkState {
    /// Administratively up.
    pub up: bool,
    /// The other end is there. True where the driver does not tell.
    pub carrier: bool,
    /// Takes frames for other stations because somebody set it so by hand.
    pub promiscuous: bool,
    /// Largest payload in bytes, without the Ethernet header.
    pub mtu: u32,
}

/// One interface, to be asked again and again.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    name: String,
}

impl Link {
    /// The interface called `name`, which must exist.
    pub fn open(name: &str) -> Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(Error::last("socket(AF_INET)"));
        }
        // SAFETY: a descriptor that was just opened and belongs to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let link = Self { socket, name: name.to_owned() };
        link.state()?;
        Ok(link)
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is like now; [`Error::NoInterface`] if it is gone.
    pub fn state(&self) -> Result<LinkState> {
        let flags = self.ask(GET_FLAGS, "ioctl(SIOCGIFFLAGS)", (0, 0))?;
        let mtu = self.ask(GET_MTU, "ioctl(SIOCGIFMTU)", (0, 0))?;
        let up = flags.low & libc::IFF_UP as u16 != 0;
        Ok(LinkState {
            up,
            carrier: up && self.carrier(&flags),
            promiscuous: (flags.low & PROMISCUOUS.0, flags.high & PROMISCUOUS.1) == PROMISCUOUS,
            mtu: u32::from_ne_bytes(join(mtu.low, mtu.high)),
        })
    }

    /// Sets or clears the promiscuous flag. False if it was as wished.
    pub fn set_promiscuous(&self, on: bool) -> Result<bool> {
        let flags = self.ask(GET_FLAGS, "ioctl(SIOCGIFFLAGS)", (0, 0))?;
        let wished = if on {
            (flags.low | PROMISCUOUS.0, flags.high | PROMISCUOUS.1)
        } else {
            (flags.low & !PROMISCUOUS.0, flags.high & !PROMISCUOUS.1)
        };
        if wished == (flags.low, flags.high) {
            return Ok(false);
        }
        self.ask(SET_FLAGS, "ioctl(SIOCSIFFLAGS)", wished).map(|_| true)
    }

    fn ask(&self, number: u64, call: &'static str, (low, high): (u16, u16)) -> Result<Request> {
        let mut request = Request { name: [0; libc::IFNAMSIZ], low, high, rest: [0; REST] };
        if self.name.len() >= request.name.len() {
            return Err(Error::NoInterface { name: self.name.clone() });
        }
        request.name[..self.name.len()].copy_from_slice(self.name.as_bytes());
        // SAFETY: `request` has the layout and size of the kernel's `ifreq` (asserted above) and lives through the
        // call.
        let rc = unsafe { libc::ioctl(self.socket.as_raw_fd(), number as _, &raw mut request) };
        match rc {
            0.. => Ok(request),
            _ => match Error::last(call) {
                e if matches!(e.errno(), Some(libc::ENODEV | libc::ENXIO)) => {
                    Err(Error::NoInterface { name: self.name.clone() })
                }
                e => Err(e),
            },
        }
    }

    /// What the driver says (ETHTOOL_GLINK). The flag of the interface lags behind it by up to a second, because the
    /// kernel's link watch is throttled; it serves where the driver does not say.
    #[cfg(target_os = "linux")]
    fn carrier(&self, flags: &Request) -> bool {
        const GET_LINK: u32 = 0x0a;
        const SIOCETHTOOL: u64 = 0x8946;
        const _: () = assert!(size_of::<Ethtool>() == size_of::<libc::ifreq>());
        /// The kernel's `struct ifreq` with the union's pointer.
        #[repr(C)]
        struct Ethtool {
            name: [u8; libc::IFNAMSIZ],
            value: *mut [u32; 2],
            rest: [u64; 2],
        }
        let mut value = [GET_LINK, 0];
        let mut request = Ethtool { name: flags.name, value: &raw mut value, rest: [0; 2] };
        // SAFETY: `request` has the layout and size of the kernel's `ifreq`; it and `value`, which has the size of this
        // command's `ethtool_value`, live through the call.
        let rc = unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
        if rc < 0 { flags.low & libc::IFF_RUNNING as u16 != 0 } else { value[1] != 0 }
    }

    /// The media status; an interface without media (a pseudo-device) is always connected.
    #[cfg(not(target_os = "linux"))]
    fn carrier(&self, _flags: &Request) -> bool {
        const VALID: i32 = 1;
        const ACTIVE: i32 = 2;
        // `_IOWR('i', 56, struct ifmediareq)`.
        const GET_MEDIA: u64 = 0xc030_6938;
        const _: () = assert!(size_of::<Media>() == 48);
        /// FreeBSD's `struct ifmediareq`.
        #[repr(C)]
        struct Media {
            name: [u8; libc::IFNAMSIZ],
            current: i32,
            mask: i32,
            status: i32,
            active: i32,
            count: i32,
            list: *mut i32,
        }
        let mut media = Media {
            name: [0; libc::IFNAMSIZ],
            current: 0,
            mask: 0,
            status: 0,
            active: 0,
            count: 0,
            list: core::ptr::null_mut(),
        };
        media.name[..self.name.len()].copy_from_slice(self.name.as_bytes());
        // SAFETY: `media` has the layout and size of the kernel's `ifmediareq` and lives through the call; with a count
        // of zero the kernel does not follow `list`.
        let rc = unsafe { libc::ioctl(self.socket.as_raw_fd(), GET_MEDIA as _, &raw mut media) };
        rc < 0 || media.status & VALID == 0 || media.status & ACTIVE != 0
    }
}

const fn join(low: u16, high: u16) -> [u8; 4] {
    let (a, b) = (low.to_ne_bytes(), high.to_ne_bytes());
    [a[0], a[1], b[0], b[1]]
}

/// Offloads that are switched on and spoil frames for a program that takes them from the NIC's rings, as words for
/// `ifconfig IF -WORD`; empty on systems that tell them another way.
#[cfg(not(target_os = "linux"))]
pub fn harmful_offloads(name: &str) -> Result<Vec<&'static str>> {
    capabilities(name).map(|(_, enabled)| words(enabled))
}

/// `if_capabilities` and `if_capenable`: what an interface can do, and what of it is switched on.
#[cfg(not(target_os = "linux"))]
pub(crate) fn capabilities(name: &str) -> Result<(u32, u32)> {
    // `_IOWR('i', 31, struct ifreq)`.
    const GET_CAPABILITIES: u64 = 0xc020_691f;
    let link = Link::open(name)?;
    let answer = link.ask(GET_CAPABILITIES, "ioctl(SIOCGIFCAP)", (0, 0))?;
    Ok((u32::from_ne_bytes(join(answer.low, answer.high)), answer.rest[0]))
}

/// What the bits of `if_capenable` (FreeBSD's net/if.h) are called, for those that spoil frames.
#[cfg(any(test, not(target_os = "linux")))]
fn words(enabled: u32) -> Vec<&'static str> {
    const NAMES: [(u32, &str); 8] = [
        (0x1, "rxcsum"),
        (0x2, "txcsum"),
        (0x10, "vlanhwtag"),
        (0x100 | 0x200, "tso"),
        (0x400, "lro"),
        (0x4_0000, "vlanhwtso"),
        (0x20_0000, "rxcsum6"),
        (0x40_0000, "txcsum6"),
    ];
    NAMES.iter().filter(|(bit, _)| enabled & bit != 0).map(|&(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_up_and_a_missing_interface_is_named() {
        let state = Link::open("lo").unwrap().state().unwrap();
        assert!(state.mtu >= 1280 && state.up && state.carrier, "{state:?}");
        assert!(!state.promiscuous, "{state:?}");
        for missing in ["nosuch0", "a-name-that-is-too-long"] {
            let message = Link::open(missing).unwrap_err().to_string();
            assert!(message.starts_with(&format!("{missing}: no such interface")), "{message}");
        }
    }

    #[test]
    fn the_words_of_the_capability_bits() {
        assert_eq!(words(0), [""; 0]);
        // RXCSUM, VLAN_MTU (harmless), TSO4, LRO.
        assert_eq!(words(0x1 | 0x8 | 0x100 | 0x400), ["rxcsum", "tso", "lro"]);
        assert_eq!(words(0x200), words(0x100));
    }
}
