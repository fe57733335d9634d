//! How netmap serves a port: through the driver's own rings, or emulated over an ordinary driver; and which of it is
//! refused. Asks the kernel for settings only, opens nothing.

use core::fmt;

use l4sd_netmap::{AdapterMode, Netmap, PortName};

use crate::port::PortError;

/// How netmap serves a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Service {
    /// By itself, without a driver: a port of a VALE switch, an end of a pipe.
    Own,
    /// Through rings of the driver.
    Native,
    /// Emulated over an ordinary driver; why, and what to do.
    Emulated(String),
    /// Not at all: the driver would have to be emulated, and the system forbids that.
    Refused,
    /// It cannot be told before the port is open.
    Unknown,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("a port of netmap's own, no driver is involved"),
            Self::Native => f.write_str("native: its driver has netmap support"),
            Self::Emulated(why) => write!(f, "would be emulated by netmap, far slower than a native port: {why}"),
            Self::Refused => f.write_str(
                "has no native netmap support, and dev.netmap.admode is 1 (native only): use a NIC whose driver has it, or set \
                 it to 0 (Linux: /sys/module/netmap/parameters/admode)",
            ),
            Self::Unknown => f.write_str(
                "it cannot be told here whether its driver has netmap support or netmap emulates it (netmap(4) lists drivers)",
            ),
        }
    }
}

/// How `netmap` serves the port called `name`, as the system is now.
pub fn service(netmap: &Netmap, name: &PortName) -> Service {
    let Some(interface) = name.interface() else { return Service::Own };
    judge(netmap.adapter_mode(), pseudo(interface).as_deref(), netmap.driver_has_netmap(interface))
}

fn judge(adapters: Option<AdapterMode>, pseudo: Option<&str>, driver: Option<bool>) -> Service {
    let native = if pseudo.is_some() { Some(false) } else { driver };
    match (adapters, native, pseudo) {
        (Some(AdapterMode::Emulated), ..) => Service::Emulated(
            "dev.netmap.admode is 2; set it to 0 for native drivers (Linux: /sys/module/netmap/parameters/admode)"
                .to_owned(),
        ),
        (_, Some(true), _) => Service::Native,
        (_, None, _) => Service::Unknown,
        (Some(AdapterMode::Native), Some(false), _) => Service::Refused,
        (_, Some(false), Some(kind)) => {
            Service::Emulated(format!("it is a {kind}; name the interface below it"))
        }
        (_, Some(false), None) => Service::Emulated(
            "its driver has no netmap support; use a NIC whose driver has it (netmap(4) lists them), on Linux load the driver \
             that was built with netmap"
                .to_owned(),
        ),
    }
}

/// Emulation works on any interface, at a fraction of the speed, and has crashed kernels: nobody gets it unasked.
///
/// # Errors
/// The port is not opened, and what to do.
pub fn refuse(spec: &str, service: &Service, allowed: bool) -> Result<(), PortError> {
    let fix = match service {
        Service::Emulated(_) if !allowed => ", or put `netmap_emulated = true` under [runtime]",
        Service::Refused if !allowed => " and put `netmap_emulated = true` under [runtime]",
        Service::Refused => "",
        _ => return Ok(()),
    };
    Err(PortError::Interface { port: spec.to_owned(), reason: format!("{service}{fix}") })
}

/// Whether netmap, asked for the NIC `interface` now, would emulate. False where that cannot be told.
pub fn emulates(interface: &str) -> bool {
    let name = format!("netmap:{interface}").parse::<PortName>();
    name.is_ok_and(|name| matches!(service(&Netmap::real(), &name), Service::Emulated(_)))
}

/// What kind of pseudo-interface it is, if it is one that no driver of netmap serves.
#[cfg(target_os = "linux")]
fn pseudo(interface: &str) -> Option<String> {
    const KINDS: [&str; 8] = ["vlan", "bridge", "bond", "team", "macvlan", "ipvlan", "tun", "dummy"];
    let kind = l4sd_host::interface(interface).ok()??.kind?;
    KINDS.contains(&&*kind).then_some(kind)
}

/// As above, by the names that FreeBSD gives.
#[cfg(not(target_os = "linux"))]
fn pseudo(interface: &str) -> Option<String> {
    bsd_pseudo(interface).map(str::to_owned)
}

#[cfg(any(test, not(target_os = "linux")))]
fn bsd_pseudo(interface: &str) -> Option<&'static str> {
    const STEMS: [&str; 9] = ["lagg", "vlan", "bridge", "tap", "tun", "epair", "vxlan", "gif", "wlan"];
    if interface.contains('.') {
        return Some("vlan");
    }
    let stem = interface.trim_end_matches(|c: char| c.is_ascii_digit());
    STEMS.into_iter().find(|kind| stem == *kind || (*kind == "epair" && interface.starts_with("epair")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudo_interfaces_of_freebsd_are_known_by_name() {
        for (name, kind) in [
            ("lagg0", Some("lagg")),
            ("vlan100", Some("vlan")),
            ("em0.100", Some("vlan")),
            ("epair0a", Some("epair")),
            ("bridge0", Some("bridge")),
            ("em0", None),
            ("vtnet1", None),
            ("ix0", None),
        ] {
            assert_eq!(bsd_pseudo(name), kind, "{name}");
        }
    }

    #[test]
    fn emulation_is_refused_unless_it_is_allowed() {
        use AdapterMode::{Best, Emulated, Native};
        let refused = |adapters, native, allowed| {
            let service = judge(Some(adapters), None, native);
            refuse("netmap:em0", &service, allowed).err().map(|e| e.to_string())
        };
        let message = refused(Emulated, Some(true), false).unwrap();
        assert!(message.contains("netmap_emulated = true") && message.contains("admode is 2"), "{message}");
        let message = refused(Best, Some(false), false).unwrap();
        assert!(message.contains("netmap_emulated = true") && message.contains("driver"), "{message}");
        for native in [Some(false), Some(true), None] {
            assert_eq!(refused(Emulated, native, true), None);
            assert_eq!(refused(Best, native, true), None);
        }
        // Allowed or not, the kernel refuses.
        for (allowed, both) in [(false, true), (true, false)] {
            let message = refused(Native, Some(false), allowed).unwrap();
            assert!(message.contains("admode is 1") && message.contains("set it to 0"), "{message}");
            assert_eq!(message.contains("netmap_emulated = true"), both, "{message}");
        }
        for adapters in [Native, Best] {
            assert_eq!(refused(adapters, Some(true), false), None);
            assert_eq!(refused(adapters, None, false), None);
        }
    }

    #[test]
    fn pseudo_interfaces_are_emulated_whatever_their_driver_says() {
        use AdapterMode::{Best, Native};
        let Service::Emulated(why) = judge(Some(Best), Some("vlan"), None) else { panic!("a vlan") };
        assert!(why.contains("name the interface below it"), "{why}");
        assert_eq!(judge(Some(Native), Some("vlan"), None), Service::Refused);
        assert_eq!(judge(None, None, None), Service::Unknown);
    }
}
