//! `packet:` ports: AF_PACKET rings on any Linux interface, also as an ordinary user inside a user namespace.
//!
//! The pair owns an arena of 2048-byte buffers. A received frame is copied out of its ring slot at once, with the VLAN
//! tag that the kernel took out put back; a sent frame is copied into its ring slot at once. So no slot is ever held,
//! and every buffer is either spare or outside. While the pair lives, both interfaces are promiscuous and the kernel's
//! own stack hears nothing on them ([`l4sd_host::Blind`]); both end with the process, however it
//! ends.
//!
//! It does not check offloads or addresses: `runtime::preflight` does.

use l4sd_afpacket::{Receiver, Transmitter, VlanTag};
use l4sd_host::Blind;

use crate::port::{Census, Originate, PortCounters, PortError, PortPair, Side};
use crate::time::{Instant, Span};

/// Bytes of one buffer.
pub const BUFFER_BYTES: usize = 2048;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Bytes of a VLAN tag.
const TAG: usize = 4;
/// Where a VLAN tag stands in a frame: after the two addresses.
const TAG_AT: usize = 12;
/// Largest MTU of an interface whose frames, with two tags, fit a receive slot and a buffer.
pub const MAX_MTU: u32 = (l4sd_afpacket::RX_CAPACITY - ETHERNET - TAG) as u32;

const _: () = assert!(l4sd_afpacket::RX_CAPACITY + TAG <= BUFFER_BYTES);
const _: () = assert!(l4sd_afpacket::RX_CAPACITY + TAG <= l4sd_afpacket::TX_CAPACITY);

/// How often `flush` asks the kernel for dropped frames and the health of the interfaces.
const HOUSEKEEPING: Span = Span::from_millis(1);
/// How long an interface may take no frame at all before what waits for it is given up.
const STALL: Span = Span::from_millis(200);

/// Sizes of a [`PacketPort`].
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct PacketOptions {
    /// Buffers of 2048 bytes in the arena: what the queues may hold, and a batch. Memory is touched as it is used.
    pub buffers: usize,
    /// Slots of each receive ring (2 KiB each, rounded up to a multiple of 32): how many frames may arrive while the
    /// loop is away.
    pub rx_slots: u32,
    /// Slots of each transmit ring (2 KiB each, rounded up to a power of two).
    pub tx_slots: u32,
    /// Whether the kernel's stack is kept off both interfaces. Without it the kernel answers and forwards on its own.
    pub blind: bool,
}

impl Default for PacketOptions {
    fn default() -> Self {
        Self { buffers: 16_384, rx_slots: 4096, tx_slots: 512, blind: true }
    }
}

/// An owned frame of a [`PacketPort`].
#[derive(Debug)]
pub struct PacketFrame {
    index: u32,
    len: u16,
}

impl PacketFrame {
    fn range(&self) -> core::ops::Range<usize> {
        let start = self.index as usize * BUFFER_BYTES;
        start..start + usize::from(self.len)
    }
}

#[derive(Debug)]
struct End {
    port: String,
    rx: Receiver,
    tx: Transmitter,
    longest: usize,
    counters: PortCounters,
    given_up: u64,
    stalled_since: Option<Instant>,
}

/// Two interfaces, through packet sockets.
#[derive(Debug)]
pub struct PacketPort {
    ends: [End; 2],
    arena: Vec<u8>,
    spare: Vec<u32>,
    last_housekeeping: Instant,
    _blind: Option<Blind>,
}

impl PacketPort {
    /// Opens the interfaces called `left` and `right`.
    ///
    /// Needs CAP_NET_RAW and CAP_NET_ADMIN in the user namespace that owns the network namespace.
    ///
    /// # Errors
    /// [`PortError::Spec`] if both are the same, [`PortError::Interface`] if one is missing, down, not Ethernet or has
    /// a MTU above [`MAX_MTU`], [`PortError::Privilege`] if a capability is missing.
    pub fn open(left: &str, right: &str, options: PacketOptions) -> Result<Self, PortError> {
        let found = [inspect(left)?, inspect(right)?];
        if found[0].index == found[1].index {
            return Err(PortError::Spec {
                port: spec(right),
                reason: format!("{left} is already the left port; a bridge needs two different interfaces"),
            });
        }
        let both = format!("{} and {}", spec(left), spec(right));
        let blind = if options.blind {
            Some(Blind::new(&[left, right]).map_err(|e| host_error(both, e))?)
        } else {
            None
        };
        let [left_end, right_end] = found.map(|interface| End::open(&interface, options));
        let count = u32::try_from(options.buffers).map_err(|_| PortError::Spec {
            port: spec(left),
            reason: format!("{} buffers are more than can be numbered", options.buffers),
        })?;
        Ok(Self {
            ends: [left_end?, right_end?],
            arena: vec![0; options.buffers * BUFFER_BYTES],
            spare: (0..count).rev().collect(),
            last_housekeeping: Instant::ZERO,
            _blind: blind,
        })
    }

    fn end(&self, side: Side) -> &End {
        &self.ends[side.index()]
    }
}

impl End {
    fn open(interface: &l4sd_host::Interface, options: PacketOptions) -> Result<Self, PortError> {
        let port = spec(&interface.name);
        let rx = Receiver::open(interface.index, options.rx_slots).map_err(|e| ring_error(&port, e))?;
        let tx = Transmitter::open(interface.index, options.tx_slots).map_err(|e| ring_error(&port, e))?;
        Ok(Self {
            port,
            rx,
            tx,
            longest: interface.mtu as usize + ETHERNET + 2 * TAG,
            counters: PortCounters::default(),
            given_up: 0,
            stalled_since: None,
        })
    }

    fn check_health(&self) -> Result<(), PortError> {
        match self.rx.take_error().map_err(|e| ring_error(&self.port, e))? {
            Some(error) => Err(ring_error(
                &self.port,
                l4sd_afpacket::Error { call: "receiving from the interface", source: error },
            )),
            None => Ok(()),
        }
    }

    /// Gives up what waits for an interface that has taken nothing for [`STALL`].
    fn watch_for_stall(&mut self, unsent_before: usize, now: Instant) {
        let unsent = self.tx.unsent();
        if unsent == 0 || unsent < unsent_before {
            self.stalled_since = None;
            return;
        }
        let since = *self.stalled_since.get_or_insert(now);
        if now.since(since) >= STALL {
            self.given_up += self.tx.discard_unsent() as u64;
            self.stalled_since = None;
        }
    }
}

impl PortPair for PacketPort {
    type Frame = PacketFrame;

    fn recv(&mut self, from: Side, budget: usize, batch: &mut Vec<PacketFrame>) -> Result<(), PortError> {
        let end = &mut self.ends[from.index()];
        for _ in 0..budget {
            let Some(slot) = end.rx.next_frame() else { break };
            let bytes = slot.bytes();
            if slot.wire_len() > bytes.len() {
                end.counters.rx_oversize += 1;
                continue;
            }
            let Some(index) = self.spare.pop() else {
                end.counters.rx_no_buffer += 1;
                continue;
            };
            let start = index as usize * BUFFER_BYTES;
            let buffer = &mut self.arena[start..start + BUFFER_BYTES];
            let len = restore(bytes, slot.vlan(), buffer);
            end.counters.rx_frames += 1;
            batch.push(PacketFrame { index, len: len as u16 });
        }
        Ok(())
    }

    fn bytes<'a>(&'a self, frame: &'a PacketFrame) -> &'a [u8] {
        &self.arena[frame.range()]
    }

    fn bytes_mut<'a>(&'a mut self, frame: &'a mut PacketFrame) -> &'a mut [u8] {
        &mut self.arena[frame.range()]
    }

    fn tx_room(&self, to: Side) -> usize {
        self.end(to).tx.room()
    }

    fn tx_pending_bytes(&self, to: Side) -> u64 {
        self.end(to).tx.pending_bytes()
    }

    fn send(&mut self, to: Side, frame: PacketFrame, _now: Instant) -> Result<(), PacketFrame> {
        let end = &mut self.ends[to.index()];
        if usize::from(frame.len) > end.longest {
            end.given_up += 1;
        } else if !end.tx.push(&self.arena[frame.range()]) {
            return Err(frame);
        }
        end.counters.tx_frames += 1;
        self.spare.push(frame.index);
        Ok(())
    }

    fn recycle(&mut self, frame: PacketFrame) {
        self.spare.push(frame.index);
    }

    fn flush(&mut self, now: Instant) -> Result<(), PortError> {
        for end in &mut self.ends {
            let unsent = end.tx.unsent();
            end.tx.kick().map_err(|e| ring_error(&end.port, e))?;
            end.watch_for_stall(unsent, now);
        }
        if now.since(self.last_housekeeping) >= HOUSEKEEPING {
            self.last_housekeeping = now;
            for end in &mut self.ends {
                end.check_health()?;
                let drops = end.rx.take_drops().map_err(|e| ring_error(&end.port, e))?;
                end.counters.rx_kernel_drops += u64::from(drops);
            }
        }
        Ok(())
    }

    fn wait(&mut self, timeout: Span) -> Result<(), PortError> {
        let [left, right] = &self.ends;
        let woken = l4sd_afpacket::wait([&left.rx, &right.rx], timeout.as_nanos())
            .map_err(|e| ring_error(&left.port, e))?;
        if woken { self.ends.iter().try_for_each(End::check_health) } else { Ok(()) }
    }

    fn counters(&self, side: Side) -> PortCounters {
        let end = self.end(side);
        PortCounters { tx_errors: end.given_up + end.tx.rejected(), ..end.counters }
    }

    fn census(&self) -> Census {
        Census { total: self.arena.len() / BUFFER_BYTES, spare: self.spare.len(), in_rings: 0 }
    }
}

impl Originate for PacketPort {
    fn begin(&mut self, len: usize) -> Option<PacketFrame> {
        let len = u16::try_from(len).ok().filter(|&len| usize::from(len) <= BUFFER_BYTES)?;
        self.spare.pop().map(|index| PacketFrame { index, len })
    }
}

/// Writes a received frame into a buffer, with the tag that the kernel took out of it; how long it is then.
fn restore(bytes: &[u8], tag: Option<VlanTag>, buffer: &mut [u8]) -> usize {
    let (Some(tag), Some((addresses, rest))) = (tag, bytes.split_at_checked(TAG_AT)) else {
        buffer[..bytes.len()].copy_from_slice(bytes);
        return bytes.len();
    };
    buffer[..TAG_AT].copy_from_slice(addresses);
    buffer[TAG_AT..TAG_AT + 2].copy_from_slice(&tag.tpid.to_be_bytes());
    buffer[TAG_AT + 2..TAG_AT + TAG].copy_from_slice(&tag.tci.to_be_bytes());
    buffer[TAG_AT + TAG..TAG + bytes.len()].copy_from_slice(rest);
    bytes.len() + TAG
}

fn spec(interface: &str) -> String {
    format!("packet:{interface}")
}

fn inspect(name: &str) -> Result<l4sd_host::Interface, PortError> {
    let unusable = |reason: String| PortError::Interface { port: spec(name), reason };
    let interface = l4sd_host::interface(name).map_err(|e| host_error(spec(name), e))?.ok_or_else(|| {
        unusable("no such interface in this network namespace: `ip link` lists them".to_owned())
    })?;
    if !interface.ethernet {
        return Err(unusable("not an Ethernet interface; only Ethernet frames can be bridged".to_owned()));
    }
    if !interface.up {
        return Err(unusable(format!("the interface is down: `ip link set {name} up`")));
    }
    if interface.mtu > MAX_MTU {
        return Err(unusable(format!(
            "a MTU of {} does not fit the {BUFFER_BYTES}-byte buffers: `ip link set {name} mtu {MAX_MTU}`",
            interface.mtu
        )));
    }
    Ok(interface)
}

fn host_error(port: String, e: l4sd_host::Error) -> PortError {
    match e {
        l4sd_host::Error::Os { call, source } => PortError::Os { port, call, source },
        l4sd_host::Error::Privilege { .. } => PortError::Privilege { port, reason: e.to_string() },
        _ => PortError::Interface { port, reason: e.to_string() },
    }
}

fn ring_error(port: &str, e: l4sd_afpacket::Error) -> PortError {
    let port = port.to_owned();
    if e.is_privilege() {
        let reason =
            "packet sockets need CAP_NET_RAW and CAP_NET_ADMIN: run as root or inside `unshare -Urnm`";
        PortError::Privilege { port, reason: reason.to_owned() }
    } else if e.is_interface_lost() {
        let name = port.trim_start_matches("packet:");
        let reason =
            format!("the interface went down or away: `ip link show {name}`, `ip link set {name} up`");
        PortError::Interface { port, reason }
    } else {
        PortError::Os { port, call: e.call, source: e.source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stripped_tag_is_put_back_after_the_addresses_with_its_own_tpid() {
        let bytes: Vec<u8> = (0..60).collect();
        let mut buffer = [0xff; 80];
        assert_eq!(restore(&bytes, Some(VlanTag { tpid: 0x88a8, tci: 0xe12c }), &mut buffer), 64);
        assert_eq!(buffer[..12], bytes[..12]);
        assert_eq!(buffer[12..16], [0x88, 0xa8, 0xe1, 0x2c]);
        assert_eq!(buffer[16..64], bytes[12..]);
        assert_eq!(buffer[64], 0xff);

        assert_eq!(restore(&bytes, None, &mut buffer), 60);
        assert_eq!(buffer[..60], bytes[..]);
    }
}
