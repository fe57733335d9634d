//! What an interface is and how it is set: index, MTU, queues, offloads, promiscuity. Reads settings and refuses;
//! changes nothing that outlives the process.

use core::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::abi::{self, Ifreq, IfreqData, PacketMreq};
use crate::error::Error;
use crate::sys::{self, EthtoolBuffer};

const SIOCGIFNAME: libc::c_ulong = 0x8910;
const SIOCGIFFLAGS: libc::c_ulong = 0x8913;
const SIOCGIFMTU: libc::c_ulong = 0x8921;
const SIOCGIFINDEX: libc::c_ulong = 0x8933;

/// Receive features that change what an XDP program sees, with the short name that `ethtool -K` takes.
const HIDING_FEATURES: [(&str, &str); 4] = [
    ("rx-vlan-hw-parse", "rxvlan"),
    ("rx-vlan-stag-hw-parse", "rx-vlan-stag-hw-parse"),
    ("rx-lro", "lro"),
    ("rx-gro-hw", "rx-gro-hw"),
];

/// Transmit features of the far end of a veth pair that reach the near end unfinished: a tag beside the frame, a
/// checksum not filled in, a super-frame.
const FAR_END_FEATURES: [(&str, &str); 6] = [
    ("tx-vlan-hw-insert", "txvlan"),
    ("tx-vlan-stag-hw-insert", "tx-vlan-stag-hw-insert"),
    ("tx-checksum-ip-generic", "tx"),
    ("tx-tcp-segmentation", "tso"),
    ("tx-generic-segmentation", "gso"),
    ("tx-udp-segmentation", "tx-udp-segmentation"),
];

/// One network interface of the namespace in which it was opened.
pub struct NetDevice {
    name: String,
    index: u32,
    control: OwnedFd,
}

impl fmt::Debug for NetDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name, self.index)
    }
}

impl NetDevice {
    /// Finds the interface called `name`.
    pub fn open(name: &str) -> Result<Self, Error> {
        let missing = || Error::NoInterface { name: name.to_owned() };
        let mut req = named(name).ok_or_else(missing)?;
        let control =
            sys::socket(libc::AF_INET, libc::SOCK_DGRAM).map_err(|e| Error::os(name, "socket", e))?;
        sys::ioctl_ifreq(control.as_fd(), SIOCGIFINDEX, &mut req)
            .map_err(|e| Error::os(name, "SIOCGIFINDEX", e))?;
        Ok(Self { name: name.to_owned(), index: word(&req), control })
    }

    /// The name it was opened under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its index in this network namespace.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Whether it still exists and is up, whatever it is called by now.
    pub fn check_up(&self) -> Result<(), Error> {
        let mut req = self.current()?;
        self.ioctl(SIOCGIFFLAGS, "SIOCGIFFLAGS", &mut req)?;
        if word(&req) as u16 & libc::IFF_UP as u16 == 0 {
            return Err(Error::Down { name: self.name.clone() });
        }
        Ok(())
    }

    /// The MTU in bytes, without the Ethernet header.
    pub fn mtu(&self) -> Result<u32, Error> {
        let mut req = self.current()?;
        self.ioctl(SIOCGIFMTU, "SIOCGIFMTU", &mut req)?;
        Ok(word(&req))
    }

    /// How many receive queues it uses. A driver that does not say has one.
    pub fn rx_queues(&self) -> Result<u32, Error> {
        let c = self.channels()?;
        Ok((c.combined_count + c.rx_count).max(1))
    }

    /// The command that leaves `n` receive queues, in the words that this driver understands.
    pub fn queues_fix(&self, n: u32) -> String {
        match self.channels() {
            Ok(c) if c.max_combined == 0 => format!("ethtool -L {} rx {n} tx {n}", self.name),
            _ => format!("ethtool -L {} combined {n}", self.name),
        }
    }

    /// Refuses receive offloads that change what an XDP program sees and, if this is one end of a veth pair whose
    /// other end is in the same namespace, that end's transmit offloads. An end in another namespace cannot be asked:
    /// whoever made it turns them off (`ethtool -K PEER tx off tso off gso off txvlan off`).
    pub fn check_offloads(&self) -> Result<(), Error> {
        self.refuse(&HIDING_FEATURES)?;
        self.check_far_end()
    }

    /// The second half of [`NetDevice::check_offloads`].
    pub fn check_far_end(&self) -> Result<(), Error> {
        match self.veth_peer()? {
            Some(peer) => peer.refuse(&FAR_END_FEATURES),
            None => Ok(()),
        }
    }

    /// Keeps the interface promiscuous until the returned value is dropped or the process ends.
    pub fn promiscuous(&self) -> Result<Promiscuous, Error> {
        let os = |call| move |e| Error::os(&self.name, call, e);
        let fd = sys::socket(libc::AF_PACKET, libc::SOCK_RAW).map_err(os("socket(AF_PACKET)"))?;
        let mreq = PacketMreq {
            ifindex: self.index.cast_signed(),
            kind: libc::PACKET_MR_PROMISC as u16,
            ..PacketMreq::default()
        };
        sys::setsockopt(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &mreq)
            .map_err(os("PACKET_ADD_MEMBERSHIP"))?;
        Ok(Promiscuous { _fd: fd })
    }

    fn refuse(&self, features: &[(&str, &str)]) -> Result<(), Error> {
        let on = self.features_on()?;
        let found = features.iter().filter(|(kernel, _)| on.iter().any(|f| f == kernel));
        let (found, flags): (Vec<&str>, Vec<&str>) = found.copied().unzip();
        if found.is_empty() {
            return Ok(());
        }
        let fix = format!("ethtool -K {} {} off", self.name, flags.join(" off "));
        Err(Error::Offload { name: self.name.clone(), features: found.join(", "), fix })
    }

    /// The kernel's names of the features that are active.
    fn features_on(&self) -> Result<Vec<String>, Error> {
        let names = self.strings(abi::ETH_SS_FEATURES)?;
        let blocks = (names.len() as u32).div_ceil(32);
        let mut buffer = EthtoolBuffer::table(abi::ETHTOOL_GFEATURES, blocks, 16);
        buffer.set_u32(4, blocks);
        self.ethtool(&mut buffer).map_err(|e| Error::os(&self.name, "ETHTOOL_GFEATURES", e))?;
        let bytes = buffer.bytes();
        let active = |bit: usize| read_u32(&bytes, 8 + bit / 32 * 16 + 8) >> (bit % 32) & 1 == 1;
        Ok(names.into_iter().enumerate().filter(|(bit, _)| active(*bit)).map(|(_, name)| name).collect())
    }

    /// The other end of a veth pair, if it is in this namespace.
    fn veth_peer(&self) -> Result<Option<Self>, Error> {
        let mut info = EthtoolBuffer::fixed(abi::ETHTOOL_GDRVINFO);
        if self.ethtool(&mut info).is_err() || c_string(&info.bytes()[4..36]) != "veth" {
            return Ok(None);
        }
        let names = self.strings(abi::ETH_SS_STATS)?;
        let Some(at) = names.iter().position(|n| n == "peer_ifindex") else { return Ok(None) };
        let mut stats = EthtoolBuffer::table(abi::ETHTOOL_GSTATS, names.len() as u32, 8);
        stats.set_u32(4, names.len() as u32);
        self.ethtool(&mut stats).map_err(|e| Error::os(&self.name, "ETHTOOL_GSTATS", e))?;
        let index = read_u32(&stats.bytes(), 8 + at * 8);
        let Ok(name) = self.name_of(index) else { return Ok(None) };
        let peer = Self::open(&name)?;
        Ok(peer.points_back_to(self.index).then_some(peer))
    }

    /// An index found in another namespace's numbering may name an unrelated interface here; a pair points both ways.
    fn points_back_to(&self, index: u32) -> bool {
        let Ok(names) = self.strings(abi::ETH_SS_STATS) else { return false };
        let Some(at) = names.iter().position(|n| n == "peer_ifindex") else { return false };
        let mut stats = EthtoolBuffer::table(abi::ETHTOOL_GSTATS, names.len() as u32, 8);
        stats.set_u32(4, names.len() as u32);
        self.ethtool(&mut stats).is_ok() && read_u32(&stats.bytes(), 8 + at * 8) == index
    }

    /// The names of a string set.
    fn strings(&self, set: u32) -> Result<Vec<String>, Error> {
        let mut info = EthtoolBuffer::fixed(abi::ETHTOOL_GSSET_INFO);
        info.set_u32(8, 1 << set);
        self.ethtool(&mut info).map_err(|e| Error::os(&self.name, "ETHTOOL_GSSET_INFO", e))?;
        let count = read_u32(&info.bytes(), 16);
        let mut table = EthtoolBuffer::table(abi::ETHTOOL_GSTRINGS, count, abi::ETH_GSTRING_LEN);
        table.set_u32(4, set);
        table.set_u32(8, count);
        self.ethtool(&mut table).map_err(|e| Error::os(&self.name, "ETHTOOL_GSTRINGS", e))?;
        let bytes = table.bytes();
        Ok(bytes[12..].chunks(abi::ETH_GSTRING_LEN).take(count as usize).map(c_string).collect())
    }

    fn channels(&self) -> Result<abi::EthtoolChannels, Error> {
        let mut buffer = EthtoolBuffer::fixed(abi::ETHTOOL_GCHANNELS);
        match self.ethtool(&mut buffer) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                return Ok(abi::EthtoolChannels::default());
            }
            Err(e) => return Err(Error::os(&self.name, "ETHTOOL_GCHANNELS", e)),
        }
        let b = buffer.bytes();
        let field = |i: usize| read_u32(&b, i * 4);
        Ok(abi::EthtoolChannels {
            cmd: field(0),
            max_rx: field(1),
            max_tx: field(2),
            max_other: field(3),
            max_combined: field(4),
            rx_count: field(5),
            tx_count: field(6),
            other_count: field(7),
            combined_count: field(8),
        })
    }

    fn ethtool(&self, buffer: &mut EthtoolBuffer) -> io::Result<()> {
        let mut req = named(&self.name).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
        sys::ioctl_ethtool(self.control.as_fd(), &mut req, buffer)
    }

    /// A request that carries the name that the interface has now.
    fn current(&self) -> Result<Ifreq, Error> {
        let name = self.name_of(self.index).map_err(|_| Error::NoInterface { name: self.name.clone() })?;
        named(&name).ok_or_else(|| Error::NoInterface { name: self.name.clone() })
    }

    fn name_of(&self, index: u32) -> io::Result<String> {
        let mut req = Ifreq { name: [0; 16], data: IfreqData::default() };
        req.data.0[..4].copy_from_slice(&index.to_ne_bytes());
        sys::ioctl_ifreq(self.control.as_fd(), SIOCGIFNAME, &mut req)?;
        Ok(c_string(&req.name))
    }

    fn ioctl(&self, request: libc::c_ulong, call: &'static str, req: &mut Ifreq) -> Result<(), Error> {
        sys::ioctl_ifreq(self.control.as_fd(), request, req).map_err(|e| Error::os(&self.name, call, e))
    }
}

/// Keeps an interface promiscuous.
#[derive(Debug)]
pub struct Promiscuous {
    _fd: OwnedFd,
}

fn named(name: &str) -> Option<Ifreq> {
    let mut req = Ifreq { name: [0; 16], data: IfreqData::default() };
    if name.is_empty() || name.len() >= req.name.len() || name.contains('\0') {
        return None;
    }
    req.name[..name.len()].copy_from_slice(name.as_bytes());
    Some(req)
}

fn word(req: &Ifreq) -> u32 {
    read_u32(&req.data.0, 0)
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn c_string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_cannot_be_an_interface_is_refused_before_the_kernel_is_asked() {
        for name in ["", "a-name-of-sixteen", "a\0b"] {
            assert!(matches!(NetDevice::open(name), Err(Error::NoInterface { .. })), "{name:?}");
        }
    }

    #[test]
    fn loopback_is_index_one_and_knows_its_features() {
        let lo = NetDevice::open("lo").unwrap();
        assert_eq!(lo.index(), 1);
        assert!(lo.features_on().unwrap().iter().any(|f| f == "loopback"), "{:?}", lo.features_on());
        assert_eq!(lo.rx_queues().unwrap(), 1);
    }
}
