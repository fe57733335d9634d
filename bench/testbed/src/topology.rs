//! Sender, bridge and receiver: two named network namespaces around the sandbox's own one, which is the bridge's.
//!
//! Needs a prepared [`sandbox`](crate::sandbox); must not be built anywhere else.

use std::io;
use std::process::Command;

use crate::cpus;
use crate::tools::{CHRT, ETHTOOL, IP, NSENTER, TASKSET, Tool, Tools};

/// The bridge's interface towards the sender.
pub const LEFT: &str = "b0";
/// The bridge's interface towards the receiver.
pub const RIGHT: &str = "b1";
/// The sender's IPv4 address (benchmark range, RFC 2544).
pub const SENDER_V4: &str = "198.18.0.1";
/// The receiver's IPv4 address.
pub const RECEIVER_V4: &str = "198.18.0.2";
/// The sender's IPv6 address (documentation range, RFC 3849).
pub const SENDER_V6: &str = "2001:db8:12::1";
/// The receiver's IPv6 address.
pub const RECEIVER_V6: &str = "2001:db8:12::2";

const HOSTS: [Host; 2] = [
    Host {
        ns: "sender",
        dev: "s0",
        peer: LEFT,
        mac: "02:00:00:00:00:01",
        v4: SENDER_V4,
        v6: SENDER_V6,
        other: 1,
    },
    Host {
        ns: "receiver",
        dev: "r0",
        peer: RIGHT,
        mac: "02:00:00:00:00:02",
        v4: RECEIVER_V4,
        v6: RECEIVER_V6,
        other: 0,
    },
];
/// SCHED_RR 10; `l4sd` itself runs at SCHED_FIFO 40.
const TRAFFIC_PRIORITY: [&str; 2] = ["-r", "10"];
/// What the two ends of a link may not do behind l4sd's back: merged or unfinished frames, tags beside the frame.
const OFFLOADS: &[&str] = &[
    "tso",
    "gso",
    "gro",
    "tx",
    "rx",
    "txvlan",
    "rxvlan",
    "tx-vlan-stag-hw-insert",
    "rx-vlan-stag-hw-parse",
    "tx-udp-segmentation",
];

/// Where a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Behind [`LEFT`].
    Sender,
    /// Between the two; the namespace that the testbed itself lives in.
    Bridge,
    /// Behind [`RIGHT`].
    Receiver,
}

/// Why the topology cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// A command could not be started.
    #[error("cannot start {command}: {source}")]
    Start {
        /// The command line.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// A command failed.
    #[error("{command}: {said}")]
    Failed {
        /// The command line.
        command: String,
        /// Its standard error.
        said: String,
    },
}

/// The built topology.
#[derive(Debug)]
pub struct Topology {
    tools: Tools,
    real_time: bool,
    cpus: String,
}

struct Host {
    ns: &'static str,
    dev: &'static str,
    peer: &'static str,
    mac: &'static str,
    v4: &'static str,
    v6: &'static str,
    other: usize,
}

impl Topology {
    /// Builds it: links up, offloads off, neighbours fixed, IPv6 without autoconfiguration.
    pub fn build(tools: &Tools) -> Result<Self, TopologyError> {
        let topology = Self { tools: tools.clone(), real_time: false, cpus: String::new() };
        topology.ip("link set lo up")?;
        for host in &HOSTS {
            topology.add(host)?;
        }
        Ok(topology)
    }

    /// A command for `tool` that will run in `place`.
    pub fn command(&self, place: Place, tool: Tool) -> Command {
        let plain = self.tools.command(tool);
        let ns = match place {
            Place::Sender => HOSTS[0].ns,
            Place::Bridge => return plain,
            Place::Receiver => HOSTS[1].ns,
        };
        let mut command = self.tools.command(NSENTER);
        command.arg(format!("--net=/run/netns/{ns}"));
        if !self.cpus.is_empty() {
            command.arg(self.tools.command(TASKSET).get_program()).args(["-c", &self.cpus]);
        }
        if self.real_time {
            command.arg(self.tools.command(CHRT).get_program()).args(TRAFFIC_PRIORITY);
        }
        command.arg(plain.get_program());
        self.tools.environment(tool, &mut command);
        command
    }

    /// From now on, programs of the sender and the receiver start under real-time scheduling, below the bridge: other
    /// work on the host would otherwise tear gaps and bursts into the traffic. Needs root's rights.
    pub fn set_real_time(&mut self, on: bool) {
        self.real_time = on;
    }

    /// From now on, programs of the sender and the receiver start on these CPUs alone; none = on any.
    pub fn set_cpus(&mut self, allowed: &[usize]) {
        self.cpus = cpus::list(allowed);
    }

    /// The programs it was built with.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Whether the sender's TCP asks for ECN (RFC 3168) on new connections.
    pub fn set_sender_ecn(&self, on: bool) -> Result<(), TopologyError> {
        self.sysctl(Place::Sender, "net/ipv4/tcp_ecn", if on { "1" } else { "0" })
    }

    fn add(&self, host: &Host) -> Result<(), TopologyError> {
        let Host { ns, dev, peer, mac, v4, v6, other } = host;
        let other = &HOSTS[*other];
        self.ip(&format!("netns add {ns}"))?;
        self.ip(&format!(
            "link add {peer} txqueuelen 1000 type veth peer name {dev} netns {ns} address {mac} txqueuelen 1000"
        ))?;
        self.ip(&format!("-n {ns} link set lo up"))?;
        let offloads: Vec<&str> = OFFLOADS.iter().flat_map(|o| [*o, "off"]).collect();
        run(self.tools.command(ETHTOOL).args(["-K", peer]).args(&offloads))?;
        let place = if *ns == HOSTS[0].ns { Place::Sender } else { Place::Receiver };
        run(self.command(place, ETHTOOL).args(["-K", dev]).args(&offloads))?;
        self.ip(&format!("-n {ns} link set {dev} addrgenmode none"))?;
        self.ip(&format!("link set {peer} addrgenmode none"))?;
        self.ip(&format!("-n {ns} link set {dev} up"))?;
        self.ip(&format!("link set {peer} up"))?;
        self.ip(&format!("-n {ns} addr add {v4}/24 dev {dev}"))?;
        self.ip(&format!("-n {ns} neigh replace {} lladdr {} dev {dev} nud permanent", other.v4, other.mac))?;
        let with_v6 = self
            .ip(&format!("-n {ns} addr add {v6}/64 dev {dev} nodad"))
            .and_then(|()| {
                self.ip(&format!(
                    "-n {ns} neigh replace {} lladdr {} dev {dev} nud permanent",
                    other.v6, other.mac
                ))
            })
            .and_then(|()| self.sysctl(place, "net/ipv6/conf/all/accept_ra", "0"));
        if let Err(e) = with_v6 {
            eprintln!("note: no IPv6 in {ns}: {e}");
        }
        Ok(())
    }

    fn sysctl(&self, place: Place, key: &str, value: &str) -> Result<(), TopologyError> {
        let shell = Tool { name: "sh", hint: "" };
        let script = format!("echo {value} >/proc/sys/{key}");
        run(self.command(place, shell).args(["-c", &script]))
    }

    fn ip(&self, line: &str) -> Result<(), TopologyError> {
        run(self.tools.command(IP).args(line.split_whitespace()))
    }
}

fn run(command: &mut Command) -> Result<(), TopologyError> {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|w| w.to_string_lossy())
        .collect();
    let line = words.join(" ");
    let output = command.output().map_err(|source| TopologyError::Start { command: line.clone(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(TopologyError::Failed { command: line, said })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Senders and receivers keep to the CPUs of a lane, under their class too; the bridge is placed by its configuration.
    #[test]
    fn traffic_keeps_to_its_cpus() {
        let mut topology = Topology { tools: Tools::discover(), real_time: false, cpus: String::new() };
        let words = |topology: &Topology, place| -> Vec<String> {
            let command = topology.command(place, IP);
            let words = command.get_args().map(|w| w.to_string_lossy().into_owned());
            words.map(|w| w.rsplit('/').next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(words(&topology, Place::Sender), [HOSTS[0].ns, "ip"]);
        topology.set_cpus(&[4, 5, 9]);
        for (place, ns) in [(Place::Sender, HOSTS[0].ns), (Place::Receiver, HOSTS[1].ns)] {
            assert_eq!(words(&topology, place), [ns, "taskset", "-c", "4-5,9", "ip"]);
        }
        assert!(words(&topology, Place::Bridge).is_empty());
        topology.set_real_time(true);
        let both =
            [HOSTS[0].ns, "taskset", "-c", "4-5,9", "chrt", TRAFFIC_PRIORITY[0], TRAFFIC_PRIORITY[1], "ip"];
        assert_eq!(words(&topology, Place::Sender), both);
    }
}
