//! Offloads and queues as the driver reports them, through the ethtool ioctls: what is active, not what was asked for.

use core::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::error::{Error, Result};

const GSTRINGS: u32 = 0x1b;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
const GCHANNELS: u32 = 0x3c;
const STRING_SET_FEATURES: u32 = 4;
/// Bytes of one name in a string set.
const NAME: usize = 32;
const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// Something that a driver or the kernel does to frames on their way.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Offload {
    /// Generic receive offload: received segments are merged.
    Gro,
    /// Large receive offload: the same, by the NIC.
    Lro,
    /// Generic segmentation offload: sent super-frames are cut late.
    Gso,
    /// TCP segmentation offload: sent super-frames are cut by the NIC.
    Tso,
    /// The NIC checks checksums.
    RxChecksum,
    /// Frames are sent with checksums still to be filled in.
    TxChecksum,
    /// The NIC takes VLAN tags out of received frames.
    RxVlan,
    /// The NIC puts VLAN tags into sent frames.
    TxVlan,
}

impl Offload {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Gro,
        Self::Lro,
        Self::Gso,
        Self::Tso,
        Self::RxChecksum,
        Self::TxChecksum,
        Self::RxVlan,
        Self::TxVlan,
    ];

    /// The word with which `ethtool -K` switches the kernel's feature `name`, if that is part of this offload. One
    /// word does not always cover all parts: `rxvlan` leaves 802.1ad tags alone.
    fn word(self, name: &str) -> Option<&'static str> {
        match (self, name) {
            (Self::Gro, "rx-gro") => Some("gro"),
            (Self::Gro, "rx-gro-list") => Some("rx-gro-list"),
            (Self::Lro, "rx-lro") => Some("lro"),
            (Self::Lro, "rx-gro-hw") => Some("rx-gro-hw"),
            (Self::Gso, "tx-generic-segmentation") => Some("gso"),
            (Self::Tso, _) if name.starts_with("tx-tcp") && name.ends_with("-segmentation") => Some("tso"),
            (Self::RxChecksum, "rx-checksum") => Some("rx"),
            (Self::TxChecksum, _) if name.starts_with("tx-checksum-") => Some("tx"),
            (Self::RxVlan, "rx-vlan-hw-parse") => Some("rxvlan"),
            (Self::RxVlan, "rx-vlan-stag-hw-parse") => Some("rx-vlan-stag-hw-parse"),
            (Self::TxVlan, "tx-vlan-hw-insert") => Some("txvlan"),
            (Self::TxVlan, "tx-vlan-stag-hw-insert") => Some("tx-vlan-stag-hw-insert"),
            _ => None,
        }
    }
}

/// The features that are active on an interface.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Features {
    active: Vec<String>,
}

impl Features {
    /// Features by the kernel's names, for example "rx-gro".
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { active: names.into_iter().map(str::to_owned).collect() }
    }

    /// Whether any part of `offload` is active.
    pub fn is_on(&self, offload: Offload) -> bool {
        self.active.iter().any(|name| offload.word(name).is_some())
    }

    /// The words that switch off what is active of `offload`, each to be followed by `off` on `ethtool -K IF ...`;
    /// empty if it is off.
    pub fn words(&self, offload: Offload) -> Vec<&'static str> {
        let mut words: Vec<_> = self.active.iter().filter_map(|name| offload.word(name)).collect();
        words.dedup();
        words
    }

    /// Names of the active features, as the kernel spells them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.active.iter().map(String::as_str)
    }
}

/// Reads the active features of the interface called `name`.
pub fn features(name: &str) -> Result<Features> {
    let socket = control_socket()?;
    let mut info = [GSSET_INFO, 0, 1 << STRING_SET_FEATURES, 0, 0];
    ioctl(&socket, name, &mut info, "ethtool GSSET_INFO")?;
    let count = info[4] as usize;

    let mut strings = vec![0; 3 + count * NAME / 4];
    strings[..3].copy_from_slice(&[GSTRINGS, STRING_SET_FEATURES, count as u32]);
    ioctl(&socket, name, &mut strings, "ethtool GSTRINGS")?;
    let bytes: Vec<u8> = strings[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();

    let blocks = count.div_ceil(32);
    let mut bits = vec![0; 2 + blocks * 4];
    bits[..2].copy_from_slice(&[GFEATURES, blocks as u32]);
    ioctl(&socket, name, &mut bits, "ethtool GFEATURES")?;

    let is_active = |i: usize| bits[2 + i / 32 * 4 + 2] >> (i % 32) & 1 == 1;
    let names = bytes.chunks_exact(NAME).enumerate().filter(|(i, _)| is_active(*i));
    let text =
        |raw: &[u8]| String::from_utf8_lossy(raw.split(|b| *b == 0).next().unwrap_or(&[])).into_owned();
    Ok(Features { active: names.map(|(_, raw)| text(raw)).collect() })
}

/// How many receive queues the interface called `name` spreads frames over; 1 if its driver does not say.
pub fn rx_queues(name: &str) -> Result<u32> {
    let mut channels = [0; 9];
    channels[0] = GCHANNELS;
    match ioctl(&control_socket()?, name, &mut channels, "ethtool GCHANNELS") {
        Ok(()) => Ok((channels[5] + channels[8]).max(1)),
        Err(e) if e.errno() == Some(libc::EOPNOTSUPP) => Ok(1),
        Err(e) => Err(e),
    }
}

fn control_socket() -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(Error::last("socket(AF_INET)"));
    }
    // SAFETY: a descriptor that was just opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs one ethtool command. `words` starts with the command and is as long as what the kernel writes for the counts
/// given in it.
fn ioctl(socket: &OwnedFd, name: &str, words: &mut [u32], call: &'static str) -> Result<()> {
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(Error::Os { call, source: std::io::Error::from_raw_os_error(libc::ENODEV) });
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: `request` and `words` live through the call; the callers above size `words` for their command (the
    // kernel writes no more strings or feature blocks than the count it is given).
    let rc = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if rc >= 0 { Ok(()) } else { Err(Error::last(call)) }
}
