//! `l4sd check`: what on this host would make forwarding wrong or slow, each with the command that mends it.
//!
//! Offloads are read back from the driver, not remembered from configuration. [`judge`] is a function of [`Facts`]
//! alone; only [`Facts::probe`] asks the host. Nothing here changes anything.

use core::fmt;
use std::net::IpAddr;
use std::thread;

use l4sd_host::{Capability, Features, Interface, Offload, XdpSupport};
use serde::Serialize;

pub use super::severity::Severity;
use crate::port::{netmap, packet, xdp};

/// Kinds of interface that stand for others; frames are better taken from the interface below.
const PSEUDO: [&str; 8] = ["vlan", "bridge", "bond", "team", "macvlan", "macvtap", "ipvlan", "ipvtap"];

/// How a port will use its interface.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum PortKind {
    /// Through packet sockets.
    Packet,
    /// Through AF_XDP sockets.
    Xdp,
    /// Through netmap rings.
    Netmap,
}

/// One port of the bridge that is to be started.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PortUnderTest {
    /// The interface's name.
    pub interface: String,
    /// How the port will use it.
    pub kind: PortKind,
    /// Largest MTU whose frames fit the port's buffers.
    pub max_mtu: u32,
    /// Bytes of memory that the port will lock.
    pub locked_bytes: u64,
}

impl PortUnderTest {
    /// A `netmap:` port on the NIC rings of `interface`. What fits its buffers is known once it is open.
    pub fn netmap(interface: &str) -> Self {
        let interface = interface.to_owned();
        Self { interface, kind: PortKind::Netmap, max_mtu: u32::MAX, locked_bytes: 0 }
    }

    /// A `packet:` port on `interface`.
    pub fn packet(interface: &str) -> Self {
        let interface = interface.to_owned();
        Self { interface, kind: PortKind::Packet, max_mtu: packet::MAX_MTU, locked_bytes: 0 }
    }

    /// An `xdp:` port on `interface`, whose buffers hold frames of `max_mtu` and take `locked_bytes` of locked memory.
    pub fn xdp(interface: &str, max_mtu: u32, locked_bytes: u64) -> Self {
        Self { interface: interface.to_owned(), kind: PortKind::Xdp, max_mtu, locked_bytes }
    }
}

/// How the data path's thread is to be scheduled.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Scheduling {
    /// In the real-time class SCHED_FIFO.
    pub fifo: bool,
    /// Spinning instead of sleeping.
    pub busy_poll: bool,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The interface, or "host".
    pub subject: String,
    /// What was found and, unless it is as it should be, the command that mends it.
    pub message: String,
    /// It is a privilege that is missing.
    pub privilege: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:4} {}: {}", self.severity, self.subject, self.message)
    }
}

/// What is known about one port's interface.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct InterfaceFacts {
    /// The interface, if it exists.
    pub interface: Option<Interface>,
    /// Its active features, if the driver tells.
    pub features: Option<Features>,
    /// Its IP addresses, without IPv6 link-local ones.
    pub addresses: Vec<IpAddr>,
    /// Whether a default route leaves through it.
    pub default_route: bool,
    /// Whether netmap, if it is asked for the interface, emulates.
    pub netmap_emulates: bool,
    /// What its driver can do for XDP, if the kernel tells.
    pub xdp: Option<XdpSupport>,
    /// Why XDP cannot work with the other end of a veth pair, with what mends it. Nothing is known of one that is in
    /// another network namespace.
    pub far_end: Option<String>,
}

/// What is known about the host and the process.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// One entry for each port, in their order.
    pub interfaces: Vec<InterfaceFacts>,
    /// The capabilities that the process has, of those that matter.
    pub capabilities: Vec<Capability>,
    /// Whether a thread of the process may enter the real-time class.
    pub fifo_allowed: bool,
    /// Microseconds of each second after which real-time threads are stopped; nothing if they are not.
    pub rt_runtime_us: Option<u64>,
    /// Bytes that the process may lock; nothing if there is no limit.
    pub memlock_limit: Option<u64>,
}

impl Facts {
    /// Asks the host. What cannot be found out is reported by [`judge`] as missing.
    pub fn probe(ports: &[PortUnderTest]) -> Self {
        const MATTER: [Capability; 5] = [
            Capability::NetRaw,
            Capability::NetAdmin,
            Capability::Bpf,
            Capability::SysAdmin,
            Capability::IpcLock,
        ];
        let fifo = thread::spawn(|| l4sd_host::set_fifo(1).is_ok());
        Self {
            interfaces: ports.iter().map(|port| InterfaceFacts::probe(&port.interface)).collect(),
            capabilities: MATTER
                .into_iter()
                .filter(|c| l4sd_host::has_capability(*c).unwrap_or(false))
                .collect(),
            fifo_allowed: fifo.join().unwrap_or(false),
            rt_runtime_us: l4sd_host::rt_runtime_us().unwrap_or(None),
            memlock_limit: l4sd_host::memlock_limit().unwrap_or(Some(0)),
        }
    }
}

impl InterfaceFacts {
    fn probe(name: &str) -> Self {
        let Ok(Some(interface)) = l4sd_host::interface(name) else { return Self::default() };
        Self {
            features: l4sd_host::features(name).ok(),
            addresses: l4sd_host::addresses(interface.index).unwrap_or_default(),
            default_route: l4sd_host::carries_default_route(interface.index).unwrap_or(false),
            netmap_emulates: netmap::emulates(name),
            xdp: l4sd_host::xdp_support(interface.index).unwrap_or(None),
            far_end: xdp::unfit_far_end(name),
            interface: Some(interface),
        }
    }
}

/// Looks at the host as it is now.
pub fn check(ports: &[PortUnderTest], scheduling: Scheduling) -> Vec<Finding> {
    judge(ports, scheduling, &Facts::probe(ports))
}

/// What `facts` mean for `ports`: at least one finding for each port and one for the host, in that order.
pub fn judge(ports: &[PortUnderTest], scheduling: Scheduling, facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    for (port, about) in ports.iter().zip(&facts.interfaces) {
        let mut found = Findings::about(&port.interface);
        judge_interface(port, about, &mut found);
        all.extend(found.or_ok(|| describe(port, about)));
    }
    let mut host = Findings::about("host");
    judge_pair(ports, facts, &mut host);
    judge_process(ports, scheduling, facts, &mut host);
    all.extend(host.or_ok(|| "privileges and limits suffice".to_owned()));
    all
}

/// Collects findings about one subject.
struct Findings {
    subject: String,
    list: Vec<Finding>,
}

impl Findings {
    fn about(subject: &str) -> Self {
        Self { subject: subject.to_owned(), list: Vec::new() }
    }

    fn add(&mut self, severity: Severity, message: String) {
        self.list.push(Finding { severity, subject: self.subject.clone(), message, privilege: false });
    }

    fn warn(&mut self, message: String) {
        self.add(Severity::Warn, message);
    }

    fn fail(&mut self, message: String) {
        self.add(Severity::Fail, message);
    }

    fn lacks(&mut self, message: String) {
        self.list.push(Finding {
            severity: Severity::Fail,
            subject: self.subject.clone(),
            message,
            privilege: true,
        });
    }

    fn or_ok(mut self, message: impl FnOnce() -> String) -> Vec<Finding> {
        if self.list.is_empty() {
            self.add(Severity::Ok, message());
        }
        self.list
    }
}

fn describe(port: &PortUnderTest, about: &InterfaceFacts) -> String {
    let mtu = about.interface.as_ref().map_or(0, |i| i.mtu);
    let mode = match about.xdp.filter(|_| port.kind == PortKind::Xdp) {
        Some(XdpSupport { zero_copy: true, .. }) => ", native XDP with zero-copy",
        Some(_) => ", native XDP, frames are copied (its driver has no zero-copy)",
        None => "",
    };
    format!("up, Ethernet, MTU {mtu}, no harmful offload is on{mode}")
}

fn judge_interface(port: &PortUnderTest, about: &InterfaceFacts, found: &mut Findings) {
    let name = &port.interface;
    let Some(interface) = &about.interface else {
        return found.fail("no such interface in this network namespace: `ip link` lists them".to_owned());
    };
    if !interface.ethernet {
        return found.fail("not an Ethernet interface; only Ethernet frames can be bridged".to_owned());
    }
    if !interface.up {
        found.fail(format!("is down: `ip link set {name} up`"));
    } else if !interface.carrier {
        found.warn("has no carrier: plug the cable in, or bring the other end up".to_owned());
    }
    if interface.mtu > port.max_mtu {
        found.fail(format!(
            "a MTU of {} does not fit the port's buffers: `ip link set {name} mtu {}`",
            interface.mtu, port.max_mtu
        ));
    }
    if let Some(master) = interface.master {
        found.fail(format!(
            "is a member of interface number {master} (a bridge or bond), which forwards its frames too: `ip link set {name} nomaster`"
        ));
    }
    if let Some(kind) = interface.kind.as_deref().filter(|kind| PSEUDO.contains(kind)) {
        found.fail(format!(
            "is a {kind}, not a link of its own: name the interface below it (`ip -d link show {name}`)"
        ));
    }
    judge_offloads(port, interface, about, found);
    if let Some(unfit) = about.far_end.as_ref().filter(|_| port.kind == PortKind::Xdp) {
        found.fail(format!("the other end of this veth pair: {unfit}"));
    }
    if port.kind == PortKind::Xdp && about.xdp.is_some_and(|xdp| !xdp.native) {
        found.warn(
            "its driver has no XDP of its own, so the kernel's generic mode copies every frame once more: use a NIC whose \
             driver has it, or a packet: port"
                .to_owned(),
        );
    }
    if about.default_route {
        found.warn(format!(
            "carries the default route, and the host's own traffic stops while l4sd has the interface: use another one, or first `ip route delete default dev {name}`"
        ));
    }
    if !about.addresses.is_empty() {
        let list: Vec<_> = about.addresses.iter().map(IpAddr::to_string).collect();
        found.warn(format!(
            "has {}, which cannot be reached while l4sd has the interface: `ip address flush dev {name}` if that is meant",
            list.join(", ")
        ));
    }
}

fn judge_offloads(port: &PortUnderTest, interface: &Interface, about: &InterfaceFacts, found: &mut Findings) {
    let name = &port.interface;
    let Some(features) = &about.features else {
        return found.warn(format!("the driver does not tell its offloads: look at `ethtool -k {name}`"));
    };
    let fix = |offloads: &[Offload]| {
        let words: Vec<_> = offloads.iter().flat_map(|o| features.words(*o)).collect();
        (!words.is_empty()).then(|| format!("`ethtool -K {name} {} off`", words.join(" off ")))
    };
    // Native netmap rings come before the kernel's merging, not before the NIC's.
    let native = port.kind == PortKind::Netmap && !about.netmap_emulates;
    let merging: &[Offload] = if native { &[Offload::Lro] } else { &[Offload::Gro, Offload::Lro] };
    if let Some(fix) = fix(merging) {
        found.fail(format!("received frames are merged into ones that fit no buffer and no link: {fix}"));
    }
    if port.kind != PortKind::Packet
        && let Some(fix) = fix(&[Offload::RxVlan])
    {
        let kind = if port.kind == PortKind::Xdp { "xdp" } else { "netmap" };
        found
            .fail(format!("VLAN tags are taken out of received frames, where {kind} cannot see them: {fix}"));
    }
    if interface.kind.as_deref() == Some("veth")
        && let Some(fix) = fix(&[Offload::Tso, Offload::Gso, Offload::TxChecksum, Offload::RxChecksum])
    {
        found.warn(format!(
            "a veth passes on super-frames and unfinished checksums: {fix}, and the same for its other end"
        ));
    }
}

fn judge_pair(ports: &[PortUnderTest], facts: &Facts, found: &mut Findings) {
    let [left, right] = ports else { return };
    if left.interface == right.interface {
        found.fail(format!("both ports are {}: a bridge needs two different interfaces", left.interface));
    }
    let mtu = |i: usize| facts.interfaces.get(i)?.interface.as_ref().map(|interface| interface.mtu);
    if let (Some(a), Some(b)) = (mtu(0), mtu(1))
        && a != b
    {
        let (larger, smaller) = if a > b { (left, b) } else { (right, a) };
        found.fail(format!(
                "{} has a MTU of {a} and {} of {b}, so long frames get lost one way: `ip link set {} mtu {smaller}`",
                left.interface, right.interface, larger.interface
            ));
    }
}

fn judge_process(ports: &[PortUnderTest], scheduling: Scheduling, facts: &Facts, found: &mut Findings) {
    let has = |capability| facts.capabilities.contains(&capability);
    let only_netmap = ports.iter().all(|port| port.kind == PortKind::Netmap);
    let missing: Vec<_> = [(Capability::NetRaw, "CAP_NET_RAW"), (Capability::NetAdmin, "CAP_NET_ADMIN")]
        .into_iter()
        // A generator, or ports of netmap's own: no interface is touched.
        .filter(|_| !ports.is_empty())
        .filter(|(capability, _)| *capability != Capability::NetRaw || !only_netmap)
        .filter_map(|(capability, name)| (!has(capability)).then_some(name))
        .collect();
    if !missing.is_empty() {
        found.lacks(format!(
            "{} is missing: run as root, or inside `unshare -Urnm` (packet: ports only)",
            missing.join(" and ")
        ));
    }
    if ports.iter().any(|port| port.kind == PortKind::Xdp) {
        if !has(Capability::Bpf) && !has(Capability::SysAdmin) {
            found.lacks("CAP_BPF is missing for xdp: ports: run as root, or use packet: ports".to_owned());
        }
        let needed: u64 = ports.iter().map(|port| port.locked_bytes).sum();
        if let Some(limit) = facts.memlock_limit.filter(|limit| *limit < needed && !has(Capability::IpcLock))
        {
            found.fail(format!(
                "xdp: ports lock {needed} bytes of memory and {limit} are allowed: `ulimit -l unlimited`, or LimitMEMLOCK=infinity in the unit file"
            ));
        }
    }
    if scheduling.fifo && !facts.fifo_allowed {
        found.warn(
            "SCHED_FIFO is not allowed, so other programs will delay frames: run as root, or `setcap cap_sys_nice+ep` on the program"
                .to_owned(),
        );
    }
    if let (true, true, Some(us)) = (scheduling.fifo, scheduling.busy_poll, facts.rt_runtime_us) {
        found.warn(format!(
            "a spinning SCHED_FIFO thread is stopped for {} ms in every second: `sysctl -w kernel.sched_rt_runtime_us=-1`, or busy_poll = false",
            (1_000_000 - us.min(1_000_000)) / 1000
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good_interface(name: &str, index: u32) -> InterfaceFacts {
        InterfaceFacts {
            interface: Some(Interface {
                name: name.to_owned(),
                index,
                ethernet: true,
                up: true,
                carrier: true,
                mtu: 1500,
                mac: [2, 0, 0, 0, 0, 1],
                kind: None,
                master: None,
            }),
            features: Some(Features::from_names(["tx-scatter-gather", "highdma"])),
            addresses: Vec::new(),
            default_route: false,
            netmap_emulates: false,
            xdp: Some(XdpSupport { native: true, zero_copy: false }),
            far_end: None,
        }
    }

    fn good() -> Facts {
        Facts {
            interfaces: vec![good_interface("eth0", 2), good_interface("eth1", 3)],
            capabilities: vec![Capability::NetRaw, Capability::NetAdmin, Capability::Bpf],
            fifo_allowed: true,
            rt_runtime_us: Some(950_000),
            memlock_limit: None,
        }
    }

    const FIFO: Scheduling = Scheduling { fifo: true, busy_poll: false };

    fn packet_ports() -> [PortUnderTest; 2] {
        [PortUnderTest::packet("eth0"), PortUnderTest::packet("eth1")]
    }

    fn netmap_ports() -> [PortUnderTest; 2] {
        ["eth0", "eth1"].map(PortUnderTest::netmap)
    }

    fn xdp_ports() -> [PortUnderTest; 2] {
        ["eth0", "eth1"].map(|name| PortUnderTest::xdp(name, 1500, 1 << 25))
    }

    /// The one finding that is not good after `spoil`, with the right severity and subject, and `fix` in its message.
    fn expect(
        ports: &[PortUnderTest],
        spoil: impl FnOnce(&mut Facts),
        severity: Severity,
        subject: &str,
        fix: &str,
    ) {
        let mut facts = good();
        spoil(&mut facts);
        let bad: Vec<_> =
            judge(ports, FIFO, &facts).into_iter().filter(|f| f.severity != Severity::Ok).collect();
        let [finding] = &bad[..] else { panic!("expected one finding about {fix}, got {bad:#?}") };
        assert_eq!((finding.severity, finding.subject.as_str()), (severity, subject), "{finding}");
        assert!(finding.message.contains(fix), "{finding} does not say {fix}");
    }

    fn left(facts: &mut Facts) -> &mut Interface {
        facts.interfaces[0].interface.as_mut().unwrap()
    }

    #[test]
    fn a_good_host_gets_one_ok_for_each_port_and_one_for_itself() {
        for ports in [packet_ports(), xdp_ports(), netmap_ports()] {
            let findings = judge(&ports, FIFO, &good());
            assert!(findings.iter().all(|f| f.severity == Severity::Ok), "{findings:#?}");
            let subjects: Vec<_> = findings.iter().map(|f| f.subject.as_str()).collect();
            assert_eq!(subjects, ["eth0", "eth1", "host"]);
        }
    }

    #[test]
    fn an_xdp_port_says_in_which_mode_it_will_run() {
        let generic = |f: &mut Facts| f.interfaces[0].xdp = Some(XdpSupport::default());
        expect(&xdp_ports(), generic, Severity::Warn, "eth0", "generic mode");
        let far = |f: &mut Facts| f.interfaces[0].far_end = Some("'eth9': `ethtool`".to_owned());
        expect(&xdp_ports(), far, Severity::Fail, "eth0", "other end of this veth pair: 'eth9'");
        let said = |ports: [PortUnderTest; 2], xdp| {
            let mut facts = good();
            facts.interfaces[1].xdp = xdp;
            judge(&ports, FIFO, &facts).remove(1).message
        };
        let zero_copy = Some(XdpSupport { native: true, zero_copy: true });
        assert!(said(xdp_ports(), zero_copy).ends_with("native XDP with zero-copy"));
        assert!(
            said(xdp_ports(), Some(XdpSupport { native: true, zero_copy: false }))
                .contains("frames are copied")
        );
        assert!(!said(xdp_ports(), None).contains("XDP"), "an older kernel does not tell");
        assert!(!said(packet_ports(), zero_copy).contains("XDP"));
    }

    #[test]
    fn every_bad_state_of_an_interface_has_its_finding_and_fix() {
        use Severity::{Fail, Warn};
        let ports = packet_ports();
        expect(&ports, |f| f.interfaces[0].interface = None, Fail, "eth0", "`ip link`");
        expect(&ports, |f| left(f).ethernet = false, Fail, "eth0", "not an Ethernet");
        expect(
            &ports,
            |f| (left(f).up, left(f).carrier) = (false, false),
            Fail,
            "eth0",
            "`ip link set eth0 up`",
        );
        expect(&ports, |f| left(f).carrier = false, Warn, "eth0", "no carrier");
        expect(&ports, |f| left(f).master = Some(7), Fail, "eth0", "`ip link set eth0 nomaster`");
        for kind in ["vlan", "bridge", "bond"] {
            expect(&ports, |f| left(f).kind = Some(kind.to_owned()), Fail, "eth0", "`ip -d link show eth0`");
        }
        expect(
            &ports,
            |f| f.interfaces[0].default_route = true,
            Warn,
            "eth0",
            "`ip route delete default dev eth0`",
        );
        let address = |f: &mut Facts| f.interfaces[0].addresses = vec![IpAddr::from([192, 0, 2, 1])];
        expect(&ports, address, Warn, "eth0", "192.0.2.1");
        expect(&ports, |f| f.interfaces[0].features = None, Warn, "eth0", "`ethtool -k eth0`");
        let both_large = |f: &mut Facts| {
            left(f).mtu = 1964;
            f.interfaces[1].interface.as_mut().unwrap().mtu = 1964;
        };
        assert!(
            judge(&ports, FIFO, &{
                let mut f = good();
                both_large(&mut f);
                f
            })
            .iter()
            .all(|f| f.severity == Severity::Ok)
        );
        let mut facts = good();
        left(&mut facts).mtu = 9000;
        let findings = judge(&ports, FIFO, &facts);
        assert!(
            findings.iter().any(|f| f.subject == "eth0" && f.message.contains("`ip link set eth0 mtu 1964`"))
        );
    }

    #[test]
    fn offloads_are_findings_where_they_do_harm() {
        use Severity::{Fail, Warn};
        let on = |names: &'static [&'static str]| {
            move |f: &mut Facts| f.interfaces[1].features = Some(Features::from_names(names.iter().copied()))
        };
        let packet = packet_ports();
        expect(&packet, on(&["rx-gro"]), Fail, "eth1", "`ethtool -K eth1 gro off`");
        expect(
            &packet,
            on(&["rx-lro", "rx-gro-hw"]),
            Fail,
            "eth1",
            "`ethtool -K eth1 lro off rx-gro-hw off`",
        );
        let netmap = netmap_ports();
        expect(
            &netmap,
            on(&["rx-gro", "rx-gro-hw"]),
            Fail,
            "eth1",
            "no link: `ethtool -K eth1 rx-gro-hw off`",
        );
        let emulated = |f: &mut Facts| {
            on(&["rx-gro"])(f);
            f.interfaces[1].netmap_emulates = true;
        };
        expect(&netmap, emulated, Fail, "eth1", "`ethtool -K eth1 gro off`");
        let mut native = good();
        on(&["rx-gro"])(&mut native);
        assert!(judge(&netmap, FIFO, &native).iter().all(|f| f.severity == Severity::Ok), "native rings");
        let veth = |names: &'static [&'static str]| {
            move |f: &mut Facts| {
                on(names)(f);
                f.interfaces[1].interface.as_mut().unwrap().kind = Some("veth".to_owned());
            }
        };
        expect(
            &packet,
            veth(&["tx-tcp-segmentation", "tx-tcp6-segmentation"]),
            Warn,
            "eth1",
            "`ethtool -K eth1 tso off`",
        );
        expect(&packet, veth(&["tx-generic-segmentation"]), Warn, "eth1", "`ethtool -K eth1 gso off`");
        expect(&packet, veth(&["tx-checksum-ip-generic"]), Warn, "eth1", "`ethtool -K eth1 tx off`");
        expect(&packet, veth(&["rx-checksum"]), Warn, "eth1", "`ethtool -K eth1 rx off`");
        let tags = on(&["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"]);
        for ports in [xdp_ports(), netmap_ports()] {
            expect(&ports, tags, Fail, "eth1", "`ethtool -K eth1 rxvlan off rx-vlan-stag-hw-parse off`");
        }
        for harmless in [on(&["rx-vlan-hw-parse"]), on(&["tx-tcp-segmentation"]), on(&["rx-checksum"])] {
            let mut facts = good();
            harmless(&mut facts);
            assert!(judge(&packet, FIFO, &facts).iter().all(|f| f.severity == Severity::Ok), "on hardware");
        }
    }

    #[test]
    fn every_bad_state_of_the_pair_and_the_process_has_its_finding_and_fix() {
        use Severity::{Fail, Warn};
        let packet = packet_ports();
        expect(&packet, |f| left(f).mtu = 1400, Fail, "host", "`ip link set eth1 mtu 1400`");
        let without = |capability| move |f: &mut Facts| f.capabilities.retain(|c| *c != capability);
        let twice = [PortUnderTest::packet("eth0"), PortUnderTest::packet("eth0")];
        expect(&twice, |_| (), Fail, "host", "two different interfaces");
        expect(&packet, without(Capability::NetRaw), Fail, "host", "CAP_NET_RAW is missing: run as root");
        expect(&packet, without(Capability::NetAdmin), Fail, "host", "CAP_NET_ADMIN is missing");
        expect(&packet, |f| f.fifo_allowed = false, Warn, "host", "cap_sys_nice");

        let mut plain = good();
        without(Capability::NetRaw)(&mut plain);
        assert!(
            judge(&netmap_ports(), FIFO, &plain).iter().all(|f| f.severity == Severity::Ok),
            "no packet socket"
        );

        let xdp = xdp_ports();
        expect(&xdp, without(Capability::Bpf), Fail, "host", "CAP_BPF");
        expect(&xdp, |f| f.memlock_limit = Some((1 << 26) - 1), Fail, "host", "`ulimit -l unlimited`");
        let mut allowed = good();
        allowed.memlock_limit = Some(1 << 26);
        assert_eq!(judge(&xdp, FIFO, &allowed).len(), 3);
        (allowed.memlock_limit, allowed.capabilities) =
            (Some(0), [good().capabilities, vec![Capability::IpcLock]].concat());
        assert!(judge(&xdp, FIFO, &allowed).iter().all(|f| f.severity == Severity::Ok));
    }

    #[test]
    fn only_a_spinning_fifo_thread_is_throttled() {
        let throttled = |scheduling| {
            let findings = judge(&packet_ports(), scheduling, &good());
            findings.iter().any(|f| {
                f.severity == Severity::Warn
                    && f.message.contains("50 ms")
                    && f.message.contains("sched_rt_runtime_us=-1")
            })
        };
        assert!(throttled(Scheduling { fifo: true, busy_poll: true }));
        assert!(!throttled(Scheduling { fifo: true, busy_poll: false }));
        assert!(!throttled(Scheduling { fifo: false, busy_poll: true }));
    }

    #[test]
    fn loopback_and_a_missing_interface_are_probed_as_such() {
        let ports = [PortUnderTest::packet("lo"), PortUnderTest::packet("nosuch0")];
        let findings = check(&ports, Scheduling::default());
        assert!(findings[0].message.starts_with("not an Ethernet"), "{findings:#?}");
        assert!(findings[1].message.starts_with("no such interface"), "{findings:#?}");
    }
}
