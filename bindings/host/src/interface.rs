//! What rtnetlink knows about an interface. Read through sockets, so that it is true of the network namespace that the
//! calling thread is in, whatever is mounted at `/sys`.

use core::mem::size_of;
use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::netlink::{Request, Socket, attributes, u32_of};

const IFINFOMSG: usize = size_of::<libc::ifinfomsg>();
const IFADDRMSG: usize = 8;
const RTMSG: usize = 12;

const _: () = assert!(IFINFOMSG == 16);

/// An interface of this network namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Whether its frames are Ethernet frames. The loopback interface's are not.
    pub ethernet: bool,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it has a carrier; never without being up.
    pub carrier: bool,
    /// Largest payload in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Its address; zero if it is not Ethernet.
    pub mac: [u8; 6],
    /// What kind of virtual interface it is, as `ip -d link` prints it ("veth", "vlan", "bridge", "bond"); nothing for
    /// hardware.
    pub kind: Option<String>,
    /// The index of the bridge, bond or team that it is a member of.
    pub master: Option<u32>,
}

/// The interface called `name`, or nothing if this network namespace has none.
pub fn interface(name: &str) -> Result<Option<Interface>> {
    const CALL: &str = "rtnetlink RTM_GETLINK";
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
        return Ok(None);
    }
    let request = Request::default().message(libc::RTM_GETLINK, libc::NLM_F_ACK, |r| {
        r.fixed(&[0; IFINFOMSG]);
        r.attribute(libc::IFLA_IFNAME, format!("{name}\0").as_bytes());
    });
    let replies = match Socket::open(libc::NETLINK_ROUTE, CALL)?.transact(&request, 1) {
        Err(e) if e.errno() == Some(libc::ENODEV) => return Ok(None),
        other => other?,
    };
    let link = replies.iter().find(|r| r.kind == libc::RTM_NEWLINK).ok_or(Error::Garbled { call: CALL })?;
    parse(name, &link.body).map(Some).ok_or(Error::Garbled { call: CALL })
}

fn parse(name: &str, body: &[u8]) -> Option<Interface> {
    let hardware = u16::from_ne_bytes(*body.get(2..)?.first_chunk()?);
    let index = u32_of(body.get(4..)?)?;
    let flags = u32_of(body.get(8..)?)?.cast_signed();
    let mut found = Interface {
        name: name.to_owned(),
        index,
        ethernet: hardware == libc::ARPHRD_ETHER,
        up: flags & libc::IFF_UP != 0,
        carrier: flags & libc::IFF_UP != 0 && flags & libc::IFF_RUNNING != 0,
        mtu: 0,
        mac: [0; 6],
        kind: None,
        master: None,
    };
    for (attribute, value) in attributes(body.get(IFINFOMSG..)?) {
        match attribute {
            libc::IFLA_MTU => found.mtu = u32_of(value)?,
            libc::IFLA_MASTER => found.master = u32_of(value),
            libc::IFLA_ADDRESS if found.ethernet => found.mac = value.try_into().ok()?,
            libc::IFLA_LINKINFO => found.kind = kind(value),
            _ => {}
        }
    }
    Some(found)
}

fn kind(link_info: &[u8]) -> Option<String> {
    let (_, name) = attributes(link_info).find(|(attribute, _)| *attribute == libc::IFLA_INFO_KIND)?;
    let text = name.split(|b| *b == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// The IP addresses of the interface with index `index`, except IPv6 link-local ones, which every interface that is
/// up has.
pub fn addresses(index: u32) -> Result<Vec<IpAddr>> {
    let request =
        Request::default().message(libc::RTM_GETADDR, libc::NLM_F_DUMP, |r| r.fixed(&[0; IFADDRMSG]));
    let replies = Socket::open(libc::NETLINK_ROUTE, "rtnetlink RTM_GETADDR")?.transact(&request, 1)?;
    let mine = replies.iter().filter(|r| r.body.get(4..).and_then(u32_of) == Some(index));
    Ok(mine.filter_map(|r| address(r.body.get(IFADDRMSG..)?)).collect())
}

fn address(payload: &[u8]) -> Option<IpAddr> {
    let found = |wanted| attributes(payload).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let value = found(libc::IFA_LOCAL).or_else(|| found(libc::IFA_ADDRESS))?;
    let ip = match value.len() {
        4 => IpAddr::from(*value.first_chunk::<4>()?),
        _ => IpAddr::from(*value.first_chunk::<16>()?),
    };
    let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    (!link_local).then_some(ip)
}

/// Whether a default route of the main table, IPv4 or IPv6, leaves through the interface with index `index`.
pub fn carries_default_route(index: u32) -> Result<bool> {
    let request = Request::default().message(libc::RTM_GETROUTE, libc::NLM_F_DUMP, |r| r.fixed(&[0; RTMSG]));
    let replies = Socket::open(libc::NETLINK_ROUTE, "rtnetlink RTM_GETROUTE")?.transact(&request, 1)?;
    Ok(replies.iter().any(|r| is_default_through(index, &r.body)))
}

fn is_default_through(index: u32, body: &[u8]) -> bool {
    let (Some(&[_, dst_len, _, _, table, _, _, kind]), Some(rest)) =
        (body.first_chunk::<8>(), body.get(RTMSG..))
    else {
        return false;
    };
    dst_len == 0
        && table == libc::RT_TABLE_MAIN
        && kind == libc::RTN_UNICAST
        && attributes(rest).any(|(a, value)| a == libc::RTA_OIF && u32_of(value) == Some(index))
}
