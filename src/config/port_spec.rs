//! The text form of a port: `packet:eth0`, `xdp:eth0`, `mem:`, and the spellings that netmap users know.

use std::fmt;
use std::str::FromStr;

use l4sd_netmap::PortName;

use super::ValueError;

/// Longest interface name that Linux and FreeBSD accept, in bytes.
const IFNAME_MAX: usize = 15;

/// A port as the user names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PortSpec {
    /// AF_PACKET rings on this interface.
    Packet(String),
    /// AF_XDP on this interface.
    Xdp(String),
    /// Rings in memory, without an interface.
    Mem,
    /// A netmap port in netmap's own spelling.
    Netmap(String),
}

/// Which back end serves a port.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum PortKind {
    /// AF_PACKET.
    Packet,
    /// AF_XDP.
    Xdp,
    /// Memory.
    Mem,
    /// netmap.
    Netmap,
}

impl PortSpec {
    /// The back end.
    pub const fn kind(&self) -> PortKind {
        match self {
            Self::Packet(_) => PortKind::Packet,
            Self::Xdp(_) => PortKind::Xdp,
            Self::Mem => PortKind::Mem,
            Self::Netmap(_) => PortKind::Netmap,
        }
    }

    /// Whether both name the same rings, however they are spelled. Memory is never the same.
    pub fn is_same_port(&self, other: &Self) -> bool {
        let rings = |text: &str| text.parse::<PortName>().ok().map(|n| (n.kernel().to_owned(), n.rings()));
        match (self, other) {
            (Self::Mem, Self::Mem) => false,
            (Self::Netmap(a), Self::Netmap(b)) => rings(a) == rings(b),
            _ => self == other,
        }
    }

    /// The name of the interface, where there is one.
    pub fn interface(&self) -> Option<&str> {
        match self {
            Self::Packet(name) | Self::Xdp(name) => Some(name),
            Self::Mem | Self::Netmap(_) => None,
        }
    }
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packet(name) => write!(f, "packet:{name}"),
            Self::Xdp(name) => write!(f, "xdp:{name}"),
            Self::Mem => f.write_str("mem:"),
            Self::Netmap(text) => f.write_str(text),
        }
    }
}

/// netmap's spellings: `netmap:NAME` with its suffixes, a VALE port `valeX:NAME`, or a bare name with one of the
/// suffixes `^` (host rings), `*` (both), `{` and `}` (pipe ends).
fn is_netmap(text: &str) -> bool {
    text.starts_with("netmap:")
        || (text.starts_with("vale") && text.contains(':'))
        || (!text.contains(':') && text.contains(['^', '*', '{', '}']))
}

fn interface(name: &str, text: &str) -> Result<String, ValueError> {
    let bad = |why| Err(ValueError(format!("'{text}' is not a port: {why}")));
    if name.is_empty() {
        return bad("the interface name after the colon is missing");
    }
    if name.len() > IFNAME_MAX {
        return bad("an interface name has at most 15 characters");
    }
    if name == "." || name == ".." || name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control())
    {
        return bad("no interface can have that name");
    }
    Ok(name.to_owned())
}

impl FromStr for PortSpec {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if is_netmap(text) {
            text.parse::<PortName>().map_err(|e| ValueError(e.to_string()))?;
            return Ok(Self::Netmap(text.to_owned()));
        }
        match text.split_once(':') {
            Some(("packet", name)) => Ok(Self::Packet(interface(name, text)?)),
            Some(("xdp", name)) => Ok(Self::Xdp(interface(name, text)?)),
            Some(("mem", "")) => Ok(Self::Mem),
            Some(("mem", _)) => Err(ValueError(format!("'{text}' is not a port: nothing follows 'mem:'"))),
            _ => Err(ValueError(format!(
                "'{text}' is not a port: it starts with packet:, xdp:, mem: or netmap:, as in packet:eth0"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_the_contract_is_known() {
        for (text, spec) in [
            ("packet:eth0", PortSpec::Packet("eth0".into())),
            ("xdp:enp1s0f0.100", PortSpec::Xdp("enp1s0f0.100".into())),
            ("mem:", PortSpec::Mem),
            ("netmap:em0", PortSpec::Netmap("netmap:em0".into())),
            ("netmap:{1", PortSpec::Netmap("netmap:{1".into())),
            ("em0^", PortSpec::Netmap("em0^".into())),
            ("vale0:1", PortSpec::Netmap("vale0:1".into())),
        ] {
            assert_eq!(text.parse::<PortSpec>().unwrap(), spec, "{text}");
            assert_eq!(spec.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_port_says_how_to_write_one() {
        for (text, part) in [
            ("eth0", "packet:eth0"),
            ("", "packet:eth0"),
            ("packet:", "missing"),
            ("packet:a-name-that-is-too-long", "15 characters"),
            ("xdp:a/b", "no interface"),
            ("mem:3", "nothing follows"),
            ("dpdk:0", "starts with"),
            ("netmap:", "missing"),
            ("netmap:em0/R/T", "exclude"),
        ] {
            let message = text.parse::<PortSpec>().unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
