//! Port names as netmap's programs and Suricata write them.
//!
//! ```text
//! [netmap:]NAME[PIPE][RINGS][/FLAGS][@MEM]      NAME: an interface. `netmap:` may be left out
//! valeSWITCH:NAME[PIPE][/FLAGS][@MEM]           a port of a VALE switch
//! PIPE   {ID  }ID       the master or slave end of a pipe; NAME may then be empty
//! RINGS  ^  ^N  *  +  -N   host rings, one of them, NIC and host rings (two spellings), one NIC ring
//! FLAGS  x R T          exclusive, receive rings only, transmit rings only
//! MEM    a number       the memory region to use
//! ```
//! Without RINGS all NIC rings. `-` and digits at the end of NAME are RINGS: an interface of Linux that is named so
//! cannot be meant.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest interface name that Linux and FreeBSD accept, in bytes.
const IFNAME_MAX: usize = 15;
/// Longest name in a request, in bytes.
const NAME_MAX: usize = 63;
/// Ring numbers are below this (NETMAP_RING_MASK).
const RING_MAX: u16 = 0x0fff;

/// Which rings of a port.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
pub enum Rings {
    /// All of the NIC.
    Nic,
    /// All of the host stack.
    Host,
    /// Both.
    NicAndHost,
    /// One pair of the NIC.
    OneNic(u16),
    /// One pair of the host stack.
    OneHost(u16),
}

/// A port, its rings and how to bind them.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortName {
    kernel: String,
    rings: Rings,
    exclusive: bool,
    receive: bool,
    transmit: bool,
    mem_id: Option<u16>,
}

/// Why a text is no port name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("'{text}' is not a netmap port: {why}")]
pub struct NameError {
    text: String,
    why: String,
}

impl PortName {
    /// The name that requests carry: `em0`, `em0{1`, `vale0:1`.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// The network interface behind the port, if it is one and not a VALE port or a pipe.
    pub fn interface(&self) -> Option<&str> {
        (!self.is_vale() && !self.is_pipe()).then_some(&*self.kernel)
    }

    /// Which rings.
    pub fn rings(&self) -> Rings {
        self.rings
    }

    /// Whether nobody else may have the rings.
    pub fn exclusive(&self) -> bool {
        self.exclusive
    }

    /// Whether receive rings are bound.
    pub fn receive(&self) -> bool {
        self.receive
    }

    /// Whether transmit rings are bound.
    pub fn transmit(&self) -> bool {
        self.transmit
    }

    /// The memory region that is asked for.
    pub fn mem_id(&self) -> Option<u16> {
        self.mem_id
    }

    /// Whether this is an end of a pipe. A pipe moves buffers between two processes: those that one put in come out
    /// at the other.
    pub fn is_pipe(&self) -> bool {
        self.kernel.contains(['{', '}'])
    }

    /// Whether this is a port of a VALE switch.
    pub fn is_vale(&self) -> bool {
        self.kernel.starts_with("vale") && self.kernel.contains(':')
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_vale() {
            f.write_str("netmap:")?;
        }
        f.write_str(&self.kernel)?;
        match self.rings {
            Rings::Nic => (),
            Rings::Host => f.write_str("^")?,
            Rings::NicAndHost => f.write_str("*")?,
            Rings::OneNic(n) => write!(f, "-{n}")?,
            Rings::OneHost(n) => write!(f, "^{n}")?,
        }
        if self.exclusive || !self.receive || !self.transmit {
            f.write_str("/")?;
            for (set, flag) in [(self.exclusive, "x"), (!self.transmit, "R"), (!self.receive, "T")] {
                f.write_str(if set { flag } else { "" })?;
            }
        }
        self.mem_id.map_or(Ok(()), |id| write!(f, "@{id}"))
    }
}

impl From<PortName> for String {
    fn from(name: PortName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for PortName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl FromStr for PortName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        parse(text).map_err(|why| NameError { text: text.to_owned(), why })
    }
}

fn parse(text: &str) -> Result<PortName, String> {
    let body = text.strip_prefix("netmap:").unwrap_or(text);
    let vale = body.starts_with("vale") && body.contains(':');
    let (base, suffix) = body.split_at(body.find(['^', '*', '+', '/', '@']).unwrap_or(body.len()));
    let (base, ring) = split_ring(base)?;
    let mut name = PortName {
        kernel: base.to_owned(),
        rings: ring.map_or(Rings::Nic, Rings::OneNic),
        exclusive: false,
        receive: true,
        transmit: true,
        mem_id: None,
    };
    check_base(base, vale)?;
    let rest = match suffix.chars().next() {
        Some('^' | '*' | '+') if ring.is_some() => {
            return Err("'-N' picks one NIC ring, so no '^', '*' or '+' follows".to_owned());
        }
        Some('*' | '+') => {
            name.rings = Rings::NicAndHost;
            &suffix[1..]
        }
        Some('^') => {
            let (digits, rest) = digits(&suffix[1..]);
            name.rings =
                if digits.is_empty() { Rings::Host } else { Rings::OneHost(number(digits, "ring")?) };
            rest
        }
        _ => suffix,
    };
    if name.rings != Rings::Nic && (vale || name.is_pipe()) {
        return Err("VALE ports and pipes have no host rings, and all their rings are opened".to_owned());
    }
    options(rest, &mut name)?;
    Ok(name)
}

/// `em0-2` is ring 2 of em0; `br-lan` is a name.
fn split_ring(base: &str) -> Result<(&str, Option<u16>), String> {
    match base.rsplit_once('-') {
        Some((_, "")) => Err("a ring number follows '-', as in em0-0".to_owned()),
        Some((name, ring)) if ring.bytes().all(|b| b.is_ascii_digit()) => {
            Ok((name, Some(number(ring, "ring")?)))
        }
        _ => Ok((base, None)),
    }
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn number(digits: &str, what: &str) -> Result<u16, String> {
    digits
        .parse::<u16>()
        .ok()
        .filter(|n| *n < RING_MAX)
        .ok_or_else(|| format!("{what} {digits} is not below {RING_MAX}"))
}

fn identifier(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn check_base(base: &str, vale: bool) -> Result<(), String> {
    if base.len() > NAME_MAX {
        return Err(format!("the name is longer than {NAME_MAX} bytes"));
    }
    let (parent, pipe) = match base.find(['{', '}']) {
        Some(at) => (&base[..at], Some(&base[at + 1..])),
        None => (base, None),
    };
    if pipe.is_some_and(|id| id.is_empty() || !identifier(id)) {
        return Err("letters and digits follow '{' or '}', as in em0{1".to_owned());
    }
    let interface = if vale {
        let (switch, port) = parent.split_once(':').unwrap_or((parent, ""));
        if !identifier(switch) {
            return Err("a VALE switch is named with letters, digits and '_', as in vale0:1".to_owned());
        }
        if port.is_empty() {
            return Err("the port's name after the colon is missing, as in vale0:1".to_owned());
        }
        port
    } else {
        parent
    };
    if interface.is_empty() && pipe.is_none() {
        return Err("the interface's name is missing, as in netmap:em0".to_owned());
    }
    if interface.len() > IFNAME_MAX {
        return Err(format!("an interface name has at most {IFNAME_MAX} characters"));
    }
    let bad = |c: char| c == ':' || c.is_whitespace() || c.is_control() || !c.is_ascii();
    if interface == "." || interface == ".." || interface.contains(bad) {
        return Err("no interface can have that name".to_owned());
    }
    Ok(())
}

fn options(mut rest: &str, name: &mut PortName) -> Result<(), String> {
    while let Some(kind) = rest.chars().next() {
        rest = match kind {
            '/' => {
                let flags = &rest[1..];
                let (flags, after) = flags.split_at(flags.find(['/', '@']).unwrap_or(flags.len()));
                if flags.is_empty() {
                    return Err("flags follow '/': x (exclusive), R or T (only one direction)".to_owned());
                }
                flags.chars().try_for_each(|flag| set_flag(flag, name))?;
                after
            }
            '@' => {
                let (id, after) = digits(&rest[1..]);
                let id = id.parse::<u16>().ok().filter(|id| *id > 0);
                let id =
                    id.ok_or("a memory id from 1 to 65535 follows '@'; other options are not supported")?;
                if name.mem_id.replace(id).is_some_and(|old| old != id) {
                    return Err("two different memory ids".to_owned());
                }
                after
            }
            other => return Err(format!("'{other}' has no meaning there")),
        };
    }
    if !name.receive && !name.transmit {
        return Err("R and T exclude each other".to_owned());
    }
    Ok(())
}

fn set_flag(flag: char, name: &mut PortName) -> Result<(), String> {
    match flag {
        'x' => name.exclusive = true,
        'R' => name.transmit = false,
        'T' => name.receive = false,
        'z' | 't' | 'r' => return Err(format!("'{flag}' opens a monitor, which cannot forward")),
        other => return Err(format!("'{other}' is no flag; there are x, R and T")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PortName {
        text.parse().unwrap()
    }

    #[test]
    fn spellings_of_suricata_and_pkt_gen_name_ports_and_rings() {
        for (text, kernel, rings) in [
            ("netmap:em0", "em0", Rings::Nic),
            ("em0", "em0", Rings::Nic),
            ("em0^", "em0", Rings::Host),
            ("netmap:em0^3", "em0", Rings::OneHost(3)),
            ("em0*", "em0", Rings::NicAndHost),
            ("netmap:em0+", "em0", Rings::NicAndHost),
            ("netmap:em0-2", "em0", Rings::OneNic(2)),
            ("netmap:enp1s0f0.100", "enp1s0f0.100", Rings::Nic),
            ("netmap:br-lan", "br-lan", Rings::Nic),
            ("vale0:1", "vale0:1", Rings::Nic),
            ("vale:a", "vale:a", Rings::Nic),
            ("netmap:{1", "{1", Rings::Nic),
            ("netmap:em0{1", "em0{1", Rings::Nic),
            ("em0}1", "em0}1", Rings::Nic),
            ("vale0:x{p", "vale0:x{p", Rings::Nic),
            ("valerie0", "valerie0", Rings::Nic),
        ] {
            let n = name(text);
            assert_eq!((n.kernel(), n.rings()), (kernel, rings), "{text}");
            assert_eq!(n.to_string().parse::<PortName>().unwrap(), n, "{text}");
        }
        assert!(name("netmap:{1").is_pipe() && name("em0}1").is_pipe() && !name("em0").is_pipe());
        assert!(name("vale0:1").is_vale() && !name("valerie0").is_vale());
        assert_eq!((name("em0^").interface(), name("vale0:1").interface()), (Some("em0"), None));
    }

    #[test]
    fn flags_and_memory_ids() {
        let n = name("netmap:em0-1/xR@7");
        assert_eq!((n.exclusive(), n.receive(), n.transmit(), n.mem_id()), (true, true, false, Some(7)));
        let n = name("em0@7/T");
        assert_eq!((n.exclusive(), n.receive(), n.transmit(), n.mem_id()), (false, false, true, Some(7)));
        assert_eq!(name("netmap:em0-1/xR@7").to_string(), "netmap:em0-1/xR@7");
        assert_eq!(name("vale0:1/x").to_string(), "vale0:1/x");
    }

    #[test]
    fn what_is_no_name_says_what_was_expected() {
        for (text, part) in [
            ("", "missing"),
            ("netmap:", "missing"),
            ("netmap:^", "missing"),
            ("netmap:em0-", "ring number follows"),
            ("netmap:em0-99999", "not below 4095"),
            ("netmap:em0^4095", "not below 4095"),
            ("netmap:em0-1^", "no '^'"),
            ("netmap:em0{", "letters and digits"),
            ("netmap:em0{a b", "letters and digits"),
            ("netmap:em0{1^", "no host rings"),
            ("vale0:1*", "no host rings"),
            ("vale0:", "after the colon"),
            ("vale/:1", "missing"),
            ("netmap:em0/", "flags follow"),
            ("netmap:em0/q", "no flag"),
            ("netmap:em0/z", "monitor"),
            ("netmap:em0/RT", "exclude"),
            ("netmap:em0@", "memory id"),
            ("netmap:em0@0", "memory id"),
            ("netmap:em0@conf:rings=2", "other options"),
            ("netmap:em0@1@2", "two different"),
            ("netmap:em0^x", "no meaning"),
            ("netmap:an-interface-too-long", "15 characters"),
            ("netmap:a b", "no interface"),
            ("netmap:em0:1", "no interface"),
            ("netmap:..", "no interface"),
        ] {
            let message = text.parse::<PortName>().map_err(|e| e.to_string()).unwrap_err();
            assert!(message.contains(part) && message.contains("not a netmap port"), "{text}: {message}");
        }
    }
}
