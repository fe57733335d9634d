//! What the driver of an interface can do for XDP, as the kernel's generic netlink family `netdev` tells (Linux 6.3 and
//! later). Attaches nothing.

use crate::error::{Error, Result};
use crate::netlink::{Request, Socket, attributes};

const CALL: &str = "genetlink NETDEV_CMD_DEV_GET";
/// `struct genlmsghdr`: command, version, two reserved bytes.
const HEADER: usize = 4;
const CTRL_VERSION: u8 = 2;
const NETDEV_VERSION: u8 = 1;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_BASIC: u64 = 1;
const NETDEV_XDP_ACT_REDIRECT: u64 = 2;
const NETDEV_XDP_ACT_XSK_ZEROCOPY: u64 = 8;

/// What a driver can do.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct XdpSupport {
    /// It runs programs that redirect; else they run in the stack, on copies.
    pub native: bool,
    /// It receives into and sends from the memory of AF_XDP sockets.
    pub zero_copy: bool,
}

impl XdpSupport {
    fn of(features: u64) -> Self {
        let all = |bits| features & bits == bits;
        Self {
            native: all(NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_REDIRECT),
            zero_copy: all(NETDEV_XDP_ACT_XSK_ZEROCOPY),
        }
    }
}

/// What the driver of the interface with index `index` can do; `None` if this kernel does not tell.
pub fn xdp_support(index: u32) -> Result<Option<XdpSupport>> {
    let socket = Socket::open(libc::NETLINK_GENERIC, CALL)?;
    let control = (libc::GENL_ID_CTRL as u16, libc::CTRL_CMD_GETFAMILY as u8, CTRL_VERSION);
    let name = (libc::CTRL_ATTR_FAMILY_NAME as u16, &b"netdev\0"[..]);
    let id = match ask(&socket, control, name, libc::CTRL_ATTR_FAMILY_ID as u16) {
        Err(e) if e.errno() == Some(libc::ENOENT) => return Ok(None),
        other => other?.and_then(|id| id.first_chunk().map(|id| u16::from_ne_bytes(*id))),
    };
    let id = id.ok_or(Error::Garbled { call: CALL })?;
    let request = (id, NETDEV_CMD_DEV_GET, NETDEV_VERSION);
    let index = (NETDEV_A_DEV_IFINDEX, &index.to_ne_bytes()[..]);
    let features = ask(&socket, request, index, NETDEV_A_DEV_XDP_FEATURES)?;
    let bits = features.and_then(|value| value.first_chunk().map(|bits| u64::from_ne_bytes(*bits)));
    Ok(bits.map(XdpSupport::of))
}

/// Sends one attribute with a command of a family, and returns the attribute `wanted` of the answer.
fn ask(
    socket: &Socket,
    (family, command, version): (u16, u8, u8),
    (attribute, value): (u16, &[u8]),
    wanted: u16,
) -> Result<Option<Vec<u8>>> {
    let request = Request::default().message(family, libc::NLM_F_ACK, |r| {
        r.fixed(&[command, version, 0, 0]);
        r.attribute(attribute, value);
    });
    let replies = socket.transact(&request, 1)?;
    let body = replies.iter().find(|r| r.kind == family).and_then(|r| r.body.get(HEADER..));
    let found = body.and_then(|body| attributes(body).find(|(kind, _)| *kind == wanted));
    Ok(found.map(|(_, value)| value.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits of include/uapi/linux/netdev.h: 0x07 is a driver that redirects, 0x0f one with zero-copy, 0x05 one that cannot
    /// redirect.
    #[test]
    fn features_are_read_by_their_bits() {
        let of = |bits| XdpSupport::of(bits);
        assert_eq!(of(0), XdpSupport { native: false, zero_copy: false });
        assert_eq!(of(0x05), XdpSupport { native: false, zero_copy: false });
        assert_eq!(of(0x07), XdpSupport { native: true, zero_copy: false });
        assert_eq!(of(0x0f), XdpSupport { native: true, zero_copy: true });
    }

    /// The loopback interface is number 1 in every network namespace, and its driver has no XDP.
    #[test]
    fn the_loopback_interface_has_none() {
        assert!(matches!(xdp_support(1).unwrap(), None | Some(XdpSupport { native: false, .. })));
    }
}
