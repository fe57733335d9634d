//! Opening a pair: what is asked for, what is refused and why, and the words for netmap's errors.

use core::fmt;
use std::thread;
use std::time::Duration;

use l4sd_host::Link;
use l4sd_netmap::{
    AdapterMode, Buffer, Error, KILLED, Netmap, Options, Port, PortName, Rings, RxRing, TxRing,
};

use super::{BREATH, adapter};
use crate::port::PortError;

/// Ethernet header and two VLAN tags.
const L2_HEADER: u32 = 14 + 2 * 4;
/// Buffers beyond what the queues hold: a batch in the caller's hands on each side, and the keeper's note.
const BATCHES: u32 = 2 * BREATH as u32 + 1;
/// Slots in a ring of a port that opening it makes (VALE, pipes): enough for two breaths, and not a second queue. With
/// fewer, what a sync gives back is all that could have been received, and every other breath finds nothing.
const SLOTS: u32 = 2 * BREATH as u32;
/// With fewer extra buffers than this a pair is not worth opening.
const LEAST: u32 = 64;
/// Many NICs reset when they enter netmap mode; the link is given this long to come back.
const LINK_LOOKS: u32 = 200;
const LINK_LOOK: Duration = Duration::from_millis(50);
/// A link that has just been reset may still look up: it has to be seen up so often in a row.
const LINK_SURE: u32 = 4;

/// How to open a pair.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct NetmapOptions {
    /// Frames that the caller may hold at a time, both directions together: the queues behind the port.
    pub held: u32,
    /// Take ports that netmap emulates, too.
    pub emulated: bool,
}

impl Default for NetmapOptions {
    /// 16,384 held frames, native ports only.
    fn default() -> Self {
        Self { held: 16_384, emulated: false }
    }
}

/// How a pair is driven.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PairMode {
    /// Buffers are exchanged between the ports, else frames are copied.
    pub zero_copy: bool,
    /// Bound receive and transmit rings of each port, and slots in one of each.
    pub rings: [[(usize, u32); 2]; 2],
    /// Extra buffers: granted, and asked for. Fewer means that less fits into the queues.
    pub extra: (u32, u32),
    /// What the system does with drivers without netmap support, if it says.
    pub adapters: Option<AdapterMode>,
}

impl fmt::Display for PairMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.zero_copy { "zero-copy" } else { "copying between two memories" })?;
        for ([(rx, rx_slots), (tx, tx_slots)], side) in self.rings.iter().zip(["left", "right"]) {
            write!(f, ", {side} {rx}x{rx_slots} rx and {tx}x{tx_slots} tx slots")?;
        }
        write!(f, ", {} of {} extra buffers", self.extra.0, self.extra.1)?;
        match self.adapters {
            Some(AdapterMode::Native) => f.write_str(", native drivers"),
            Some(AdapterMode::Emulated) => f.write_str(", emulated adapters"),
            Some(AdapterMode::Best) => f.write_str(", native where the driver can (dev.netmap.admode = 0)"),
            None => Ok(()),
        }
    }
}

/// Two open ports and all that is known of them.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) ports: [Port; 2],
    pub(super) specs: [String; 2],
    pub(super) links: [Option<Link>; 2],
    /// The interface was made promiscuous here, and is to be set back.
    pub(super) promiscuous: [bool; 2],
    pub(super) shared: bool,
    /// Extra buffers by memory; of shared memory all are in the first.
    pub(super) extra: [Vec<Buffer>; 2],
    pub(super) asked: u32,
    pub(super) adapters: Option<AdapterMode>,
}

impl Opened {
    pub(super) fn mode(&self) -> PairMode {
        let granted = self.extra.iter().map(Vec::len).sum::<usize>() as u32;
        PairMode {
            zero_copy: self.shared,
            rings: self.ports.each_ref().map(|port| {
                let (rx, tx) = port.rings();
                [
                    (rx.len(), rx.first().map_or(0, RxRing::slots)),
                    (tx.len(), tx.first().map_or(0, TxRing::slots)),
                ]
            }),
            extra: (granted, self.asked),
            adapters: self.adapters,
        }
    }
}

/// Opens both ports, in one memory if they can share it.
pub(super) fn open(netmap: &Netmap, names: [&str; 2], options: NetmapOptions) -> Result<Opened, PortError> {
    let parsed = [parse(names[0])?, parse(names[1])?];
    for (name, spec) in parsed.iter().zip(names) {
        adapter::refuse(spec, &adapter::service(netmap, name), options.emulated)?;
    }
    let asked = options.held + BATCHES;
    let wish = Options { extra_buffers: asked, exclusive: true, slots: SLOTS, mem_id: None };
    let open = |at: usize, options: &Options| netmap.open(&parsed[at], options);
    // Of a memory that is nearly used up netmap grants whatever is left: the rings of both ports come before the extra
    // buffers of either.
    let mut left = open(0, &Options { extra_buffers: 0, ..wish }).map_err(|e| port_error(names[0], e))?;
    let sharing = Options { mem_id: Some(left.registered().mem_id), ..wish };
    let mut right = match open(1, &sharing) {
        // Not every port can live in any memory; then it has its own.
        Err(Error::Refused { .. }) => open(1, &wish),
        other => other,
    }
    .map_err(|e| port_error(names[1], e))?;
    if !left.shares_memory_with(&right) {
        drop(left);
        left = open(0, &wish).map_err(|e| port_error(names[0], e))?;
    }
    let shared = left.shares_memory_with(&right);
    let mut first = left.take_extra().map_err(|e| port_error(names[0], e))?;
    let mut second = right.take_extra().map_err(|e| port_error(names[1], e))?;
    if shared {
        first.append(&mut second);
    }
    let mut opened = Opened {
        ports: [left, right],
        specs: names.map(str::to_owned),
        links: [None, None],
        promiscuous: [false; 2],
        shared,
        extra: [first, second],
        asked: if shared { asked } else { 2 * asked },
        adapters: netmap.adapter_mode(),
    };
    match prepare(&mut opened, options) {
        Ok(()) => Ok(opened),
        Err(e) => {
            // What is left of the ports goes back; the first error is the one to tell.
            set_back(&opened.links, opened.promiscuous);
            let ([left, right], [first, second]) = (opened.ports, opened.extra);
            let _ = left.close(first);
            let _ = right.close(second);
            Err(e)
        }
    }
}

/// What must hold before frames may be expected.
fn prepare(opened: &mut Opened, options: NetmapOptions) -> Result<(), PortError> {
    for (at, port) in opened.ports.iter().enumerate() {
        let spec = &opened.specs[at];
        if let Rings::OneNic(_) | Rings::OneHost(_) = port.name().rings() {
            let r = port.registered();
            let rings =
                if matches!(port.name().rings(), Rings::OneNic(_)) { r.rx_rings } else { r.host_rx_rings };
            if rings > 1 {
                let reason = format!(
                    "is one of {rings} rings, and the frames of the others would be lost: leave out the number"
                );
                return Err(PortError::Spec { port: spec.clone(), reason });
            }
        }
        if (at == 0 || !opened.shared) && (opened.extra[at].len() as u32) < LEAST {
            return Err(no_memory(spec, opened.extra[at].len(), options));
        }
    }
    opened.links = links(&opened.ports, &opened.specs)?;
    for (at, spec) in opened.specs.iter().enumerate() {
        if let Some(link) = &opened.links[at] {
            opened.promiscuous[at] = link.set_promiscuous(true).map_err(|e| host_error(spec, &e))?;
        }
    }
    for (link, spec) in opened.links.iter().zip(&opened.specs) {
        if let Some(link) = link {
            wait_link(link, spec)?;
        }
    }
    Ok(())
}

pub(super) fn no_memory(spec: &str, granted: usize, options: NetmapOptions) -> PortError {
    let reason = format!(
        "netmap granted {granted} of {} extra buffers: raise dev.netmap.buf_num (`sysctl dev.netmap.buf_num=...`; \
         Linux: /sys/module/netmap/parameters/buf_num) while no netmap port is open; {KILLED}",
        options.held + BATCHES
    );
    PortError::Interface { port: spec.to_owned(), reason }
}

fn parse(spec: &str) -> Result<PortName, PortError> {
    let bad = |reason: &str| PortError::Spec { port: spec.to_owned(), reason: reason.to_owned() };
    let name: PortName = spec.parse().map_err(|e| port_error(spec, Error::Name(e)))?;
    if name.rings() == Rings::NicAndHost {
        return Err(bad(
            "a NIC and its host rings are two ports: name the NIC on one side and NAME^ on the other",
        ));
    }
    if !name.receive() || !name.transmit() {
        return Err(bad("a bridge needs both directions of a port: leave out /R or /T"));
    }
    Ok(name)
}

/// The links of those ports that are NIC rings, which must be up and have an MTU that fits the buffers.
pub(super) fn links(ports: &[Port; 2], specs: &[String; 2]) -> Result<[Option<Link>; 2], PortError> {
    let mut links = [None, None];
    for (at, port) in ports.iter().enumerate() {
        let (spec, name) = (&specs[at], port.name());
        let Some(interface) =
            name.interface().filter(|_| matches!(name.rings(), Rings::Nic | Rings::OneNic(_)))
        else {
            continue;
        };
        // netmap also has ports that only it knows, such as those of the model: they have no link to look at.
        let link = match Link::open(interface) {
            Err(l4sd_host::Error::NoInterface { .. }) => continue,
            other => other.map_err(|e| host_error(spec, &e))?,
        };
        let state = link.state().map_err(|e| host_error(spec, &e))?;
        if !state.up {
            let reason = format!("is down: `ifconfig {interface} up` (Linux: `ip link set {interface} up`)");
            return Err(PortError::Interface { port: spec.clone(), reason });
        }
        let smallest = ports.iter().map(|p| p.region().buffer_size()).min().unwrap_or(0);
        check_mtu(spec, interface, state.mtu, smallest)?;
        links[at] = Some(link);
    }
    Ok(links)
}

fn check_mtu(spec: &str, interface: &str, mtu: u32, buffer: u32) -> Result<(), PortError> {
    let fits = buffer.saturating_sub(L2_HEADER);
    if mtu <= fits {
        return Ok(());
    }
    let needed = (mtu + L2_HEADER).next_multiple_of(1024);
    let reason = format!(
        "a MTU of {mtu} does not fit netmap's buffers of {buffer} bytes: `sysctl dev.netmap.buf_size={needed}` (Linux: \
         /sys/module/netmap/parameters/buf_size) while no netmap port is open, or `ifconfig {interface} mtu {fits}`"
    );
    Err(PortError::Interface { port: spec.to_owned(), reason })
}

/// Clears the promiscuous flags that were set here. One that cannot be cleared does no harm.
pub(super) fn set_back(links: &[Option<Link>; 2], promiscuous: [bool; 2]) {
    for link in links.iter().zip(promiscuous).filter_map(|(link, ours)| link.as_ref().filter(|_| ours)) {
        let _ = link.set_promiscuous(false);
    }
}

/// Slots in all bound rings, each of which holds one buffer.
pub(super) fn slot_count(port: &Port) -> usize {
    let (rx, tx) = port.rings();
    rx.iter().map(RxRing::slots).chain(tx.iter().map(TxRing::slots)).map(|n| n as usize).sum()
}

/// Waits for the link after a reset.
fn wait_link(link: &Link, spec: &str) -> Result<(), PortError> {
    let mut sure = 0;
    for _ in 0..LINK_LOOKS {
        let state = link.state().map_err(|e| host_error(spec, &e))?;
        sure = if state.carrier { sure + 1 } else { 0 };
        if sure >= LINK_SURE {
            return Ok(());
        }
        thread::sleep(LINK_LOOK);
    }
    let reason = format!(
        "has no link {} s after entering netmap mode: look at the cable and at the other end",
        LINK_LOOKS * LINK_LOOK.as_millis() as u32 / 1000
    );
    Err(PortError::Interface { port: spec.to_owned(), reason })
}

fn host_error(spec: &str, error: &l4sd_host::Error) -> PortError {
    let port = spec.to_owned();
    match error {
        l4sd_host::Error::Os { source, .. }
            if matches!(source.kind(), std::io::ErrorKind::PermissionDenied) =>
        {
            PortError::Privilege { port, reason: format!("{error}; run as root") }
        }
        _ => PortError::Interface { port, reason: error.to_string() },
    }
}

/// netmap's error, in the words of this layer.
pub(super) fn port_error(spec: &str, error: Error) -> PortError {
    let port = spec.to_owned();
    match error {
        Error::Name(e) => {
            let text = e.to_string();
            let reason = text.split_once("port: ").map_or(&*text, |(_, why)| why).to_owned();
            PortError::Spec { port, reason }
        }
        Error::Privilege { .. } => {
            let reason = format!(
                "{error} (FreeBSD: `add path netmap mode 0660 group netmap` among the devfs rules of devfs.rules(5))"
            );
            PortError::Privilege { port, reason }
        }
        Error::Os { call, source, .. } => PortError::Os { port, call, source },
        other => {
            // The port is named once.
            let text = other.to_string();
            let named = ["'", spec, "'"].concat();
            let rest = text.strip_prefix(&named).map(|rest| rest.trim_start_matches([':', ' ']).to_owned());
            PortError::Interface { port, reason: rest.unwrap_or(text) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mtu_that_fits_no_buffer_is_refused_with_both_fixes() {
        assert!(check_mtu("netmap:em0", "em0", 2026, 2048).is_ok());
        let message = check_mtu("netmap:em0", "em0", 9000, 2048).unwrap_err().to_string();
        assert_eq!(
            message,
            "netmap:em0: a MTU of 9000 does not fit netmap's buffers of 2048 bytes: `sysctl dev.netmap.buf_size=9216` \
             (Linux: /sys/module/netmap/parameters/buf_size) while no netmap port is open, or `ifconfig em0 mtu 2026`"
        );
    }
}
