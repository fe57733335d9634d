//! A kernel stack that is deaf on some interfaces.
//!
//! Frames that arrive on a port are forwarded by this program. Left alone, the kernel would also answer them (ARP,
//! ICMP, TCP resets) and, with `ip_forward` set, forward them a second time. [`Blind`] installs, for each interface, an
//! nftables chain on the device's ingress hook with policy drop and no rules. Packet sockets see frames before that
//! hook and AF_XDP sockets before any; nothing that is sent passes it.
//!
//! The kernel can still speak on such an interface unasked: IPv6 router solicitations and multicast reports when it
//! comes up, neighbour requests if it has an address. The egress hook would stop that, but frames of packet sockets
//! pass it too, even with PACKET_QDISC_BYPASS, and a rule that lets them through by their mark costs some 400 ns a
//! frame, half as much as the rest of the path. Not worth it: a port needs no address, and `ip link set IF addrgenmode
//! none` ends the rest.
//!
//! The tables are *owned* (NFT_TABLE_F_OWNER): the kernel deletes them when the socket that made them is closed, however the
//! process ends. Each is named after its interface, so that a second bridge on the same one is refused: both would forward
//! every frame.

use crate::error::{Error, Result};
use crate::interface::interface;
use crate::netlink::{Request, Socket};

const FAMILY_NETDEV: u8 = 5;
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_F_OWNER: u32 = 2;

const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVICE: u16 = 3;
const POLICY_DROP: u32 = 0;

const INGRESS: u32 = 0;
/// Before every chain that an administrator is likely to have on the device.
const PRIORITY: i32 = -500;

const WHAT: &str = "keeping the kernel's stack off the ports (an owned nftables table on the ingress hook)";

/// Keeps the kernel's stack deaf on some interfaces until it is dropped or the process ends.
#[derive(Debug)]
pub struct Blind {
    _owner: Socket,
}

impl Blind {
    /// Blinds the kernel on the interfaces called `names`. All or none: an error leaves nothing behind.
    ///
    /// Needs CAP_NET_ADMIN in the user namespace that owns the network namespace, and Linux 5.12 with
    /// CONFIG_NF_TABLES_NETDEV.
    pub fn new(names: &[&str]) -> Result<Self> {
        // Kernels from 6.16 take a chain on a device that does not exist yet.
        let index = |name: &str| -> Result<u32> {
            Ok(interface(name)?.ok_or_else(|| Error::NoInterface { name: name.to_owned() })?.index)
        };
        let tables =
            names.iter().map(|name| Ok(format!("l4sd_{}\0", index(name)?))).collect::<Result<Vec<_>>>()?;
        match Self::install(names, &tables) {
            // A table of another owner is denied as is a missing privilege. Tables that nobody else has tell which it was.
            Err(e) if matches!(e.errno(), Some(libc::EPERM | libc::EEXIST)) => {
                let own = Socket::open(libc::NETLINK_NETFILTER, "nftables")?.port_id()?;
                let unique: Vec<_> = (0..names.len()).map(|i| format!("l4sd_try_{own}_{i}\0")).collect();
                Self::install(names, &unique).map_err(explain)?;
                Err(Error::Taken { names: names.join(" or ") })
            }
            other => other.map_err(explain),
        }
    }

    fn install(names: &[&str], tables: &[String]) -> Result<Self> {
        let owner = Socket::open(libc::NETLINK_NETFILTER, "nftables")?;
        let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ACK;
        let mut batch = Request::default().message(BATCH_BEGIN, 0, |r| header(r, 0, SUBSYSTEM));
        for (name, table) in names.iter().zip(tables) {
            batch = batch.message(NEW_TABLE, create, |r| {
                header(r, FAMILY_NETDEV, 0);
                r.attribute(TABLE_NAME, table.as_bytes());
                r.attribute(TABLE_FLAGS, &TABLE_F_OWNER.to_be_bytes());
            });
            batch = batch.message(NEW_CHAIN, create, |r| {
                header(r, FAMILY_NETDEV, 0);
                r.attribute(CHAIN_TABLE, table.as_bytes());
                r.attribute(CHAIN_NAME, b"port\0");
                r.attribute(CHAIN_TYPE, b"filter\0");
                r.attribute(CHAIN_POLICY, &POLICY_DROP.to_be_bytes());
                r.nest(CHAIN_HOOK, |r| {
                    r.attribute(HOOK_NUMBER, &INGRESS.to_be_bytes());
                    r.attribute(HOOK_PRIORITY, &PRIORITY.to_be_bytes());
                    r.attribute(HOOK_DEVICE, format!("{name}\0").as_bytes());
                });
            });
        }
        let batch = batch.message(BATCH_END, 0, |r| header(r, 0, SUBSYSTEM));
        owner.transact(&batch, 2 * names.len())?;
        Ok(Self { _owner: owner })
    }
}

/// Appends a `struct nfgenmsg`.
fn header(request: &mut Request, family: u8, resource: u16) {
    let [high, low] = resource.to_be_bytes();
    request.fixed(&[family, 0, high, low]);
}

fn explain(e: Error) -> Error {
    match e.errno() {
        Some(libc::EPERM | libc::EACCES) => Error::Privilege { what: WHAT, privilege: "CAP_NET_ADMIN" },
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => {
            Error::Unsupported {
                what: WHAT,
                fix: "use Linux 5.12 or newer with CONFIG_NF_TABLES and CONFIG_NF_TABLES_NETDEV (`modprobe nf_tables`)",
            }
        }
        _ => e,
    }
}
