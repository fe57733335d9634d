//! Two interfaces over AF_XDP: every receive queue of both, one UMEM, frames that never move.
//!
//! A received descriptor's frame is held by the caller, goes into the transmit ring of the other interface, comes back
//! by its completion ring to the spares (last in, first out, so the hot ones go round) and from there into a fill
//! ring. Must not look into frames. What the interface's settings hide from XDP (stripped VLAN tags, unfinished
//! checksums, super-frames) is refused at open where it can be asked; of a veth pair whose far end is in another
//! namespace it cannot, so there `ethtool -K PEER tx off tso off gso off txvlan off` is the user's part.

use std::fmt;
use std::io;
use std::sync::Arc;

use l4sd_afxdp::{AttachMode, CopyMode, Error, Frame, Interface, NetDevice, RingSizes, Socket, Umem, Waiter};

use super::{Census, Originate, PortCounters, PortError, PortPair, Side};
use crate::time::{Instant, Span};

/// Ethernet header and two VLAN tags.
const L2_HEADER: u32 = 14 + 2 * 4;
/// Receive queues that one thread can reasonably serve.
const MAX_QUEUES: u32 = 64;
/// Frames beyond rings and queue: a batch in the caller's hands on each side.
const BATCHES: u32 = 2 * 256;
/// How often a running interface is looked at.
const LINK_CHECK: Span = Span::from_millis(100);
/// Transmission without a completion for so long gets an extra kick.
const TX_STALL: Span = Span::from_millis(10);

/// Largest MTU whose frames fit the largest frame of a UMEM.
pub const MAX_MTU: u32 = Umem::packet_capacity(4096) - L2_HEADER;

/// Least memory in bytes that a pair locks whose caller holds up to `held` frames: what it takes with one receive queue
/// an interface and frames of 2048 bytes.
pub const fn locked_bytes(held: u32) -> u64 {
    let rings = 2 * (2_048 + 2_048);
    (held + BATCHES + rings) as u64 * 2048
}

/// Sizes of an [`XdpPort`].
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct XdpOptions {
    /// Frames that the caller may hold at a time, both directions together: the queues behind the port.
    pub held: u32,
    /// Slots of the transmit ring of each interface, a power of two.
    pub tx_ring: u32,
    /// Slots of the fill and receive rings of each interface, a power of two; divided among its queues.
    pub rx_ring: u32,
}

impl Default for XdpOptions {
    /// 16,384 held frames, rings of 2,048.
    fn default() -> Self {
        Self { held: 16_384, tx_ring: 2_048, rx_ring: 2_048 }
    }
}

/// How an interface is driven.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct XdpMode {
    /// The program runs in the driver, else in the stack.
    pub native: bool,
    /// Why not in the driver.
    pub why_not_native: Option<String>,
    /// The NIC uses the frames themselves, else the kernel copies.
    pub zero_copy: bool,
    /// Receive queues bound: all there are.
    pub queues: usize,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hook, copy) =
            (if self.native { "native" } else { "skb" }, if self.zero_copy { "zero-copy" } else { "copy" });
        write!(f, "{hook} mode, {copy}, {} queue(s)", self.queues)?;
        self.why_not_native.as_ref().map_or(Ok(()), |why| write!(f, " (driver mode refused: {why})"))
    }
}

/// One interface and what its transmission owes.
#[derive(Debug)]
struct Half {
    port: String,
    interface: Interface,
    first_queue: usize,
    rx_frames: u64,
    rx_oversize: u64,
    tx_frames: u64,
    tx_refused: u64,
    tx_pending_bytes: u64,
    tx_progress: Instant,
}

/// Two interfaces bound through AF_XDP.
#[derive(Debug)]
pub struct XdpPort {
    halves: [Half; 2],
    umem: Arc<Umem>,
    spares: Vec<Frame>,
    /// Bytes of each frame that is in a transmit ring, by frame index.
    tx_len: Vec<u32>,
    waiter: Waiter,
    zero_copy: bool,
    next_check: Instant,
}

impl XdpPort {
    /// Opens interfaces `left` and `right` of this network namespace and takes all their traffic from the stack until
    /// dropped, or until the process ends in any way.
    ///
    /// # Errors
    /// [`PortError::Spec`]: twice the same interface, or sizes that are no powers of two.
    /// [`PortError::Interface`]: it is missing or down, has an offload on that hides something, an MTU above 3,818
    /// bytes, more than 64 receive queues, or an XDP program or AF_XDP socket of somebody else; the message has the
    /// command that mends it. [`PortError::Privilege`]: not root of the initial user namespace.
    pub fn open(left: &str, right: &str, options: &XdpOptions) -> Result<Self, PortError> {
        let names = [left, right];
        if !options.tx_ring.is_power_of_two() || !options.rx_ring.is_power_of_two() {
            let reason = "the rings' sizes are powers of two".to_owned();
            return Err(PortError::Spec { port: spec(left), reason });
        }
        let mut plan = Plan { frame_size: 2048, rx: [0; 2], frames: options.held + BATCHES };
        let mut indices = [0; 2];
        for (i, name) in names.into_iter().enumerate() {
            let device = NetDevice::open(name).map_err(|e| port_error(name, e))?;
            indices[i] = device.index();
            plan.add(i, &device, options).map_err(|e| port_error(name, e))?;
        }
        if indices[0] == indices[1] {
            let reason = format!("the left port is the same interface, '{left}'; a bridge needs two");
            return Err(PortError::Spec { port: spec(right), reason });
        }
        match Self::open_as(CopyMode::ZeroCopy, names, &plan, options) {
            Err((_, Error::Os { call: "bind(AF_XDP)", .. })) => {
                Self::open_as(CopyMode::Copy, names, &plan, options)
            }
            other => other,
        }
        .map_err(|(i, e)| port_error(names[i], e))
    }

    fn open_as(
        copy: CopyMode,
        names: [&str; 2],
        plan: &Plan,
        options: &XdpOptions,
    ) -> Result<Self, (usize, Error)> {
        let out_of_memory = |source| (0, Error::Os { name: "UMEM".to_owned(), call: "mmap", source });
        let (umem, mut spares) = Umem::new(plan.frames, plan.frame_size).map_err(out_of_memory)?;
        let umem = Arc::new(umem);
        let mut open = |i: usize, registrar: Option<&Socket>| {
            let sizes = RingSizes { rx: plan.rx[i], tx: options.tx_ring };
            NetDevice::open(names[i])
                .and_then(|device| Interface::open(device, &umem, registrar, copy, sizes, &mut spares))
                .map(|interface| Half::new(spec(names[i]), interface))
                .map_err(|e| (i, e))
        };
        let left = open(0, None)?;
        let right = open(1, left.interface.sockets().first())?;
        let waiter = Waiter::new(left.interface.sockets().iter().chain(right.interface.sockets()));
        let tx_len = vec![0; umem.frames()];
        let zero_copy = copy == CopyMode::ZeroCopy;
        Ok(Self { halves: [left, right], umem, spares, tx_len, waiter, zero_copy, next_check: Instant::ZERO })
    }

    /// How the interface of `side` is driven.
    pub fn mode(&self, side: Side) -> XdpMode {
        let interface = &self.halves[side.index()].interface;
        let (mode, refusal) = interface.mode();
        XdpMode {
            native: mode == AttachMode::Native,
            why_not_native: refusal.map(ToString::to_string),
            zero_copy: self.zero_copy,
            queues: interface.sockets().len(),
        }
    }

    /// Fails if an interface went down or away.
    fn check_links(&self) -> Result<(), PortError> {
        self.halves.iter().try_for_each(Half::check_link)
    }
}

impl PortPair for XdpPort {
    type Frame = Frame;

    fn recv(&mut self, from: Side, budget: usize, batch: &mut Vec<Frame>) -> Result<(), PortError> {
        let half = &mut self.halves[from.index()];
        let (start, end) = (batch.len(), batch.len() + budget);
        let queues = half.interface.sockets().len();
        for turn in 0..queues {
            let socket = &mut half.interface.sockets_mut()[(half.first_queue + turn) % queues];
            socket.fill_from(&mut self.spares);
            let woken = socket.wake_rx();
            half.rx_oversize += socket.receive(end - batch.len(), batch, &mut self.spares) as u64;
            half.settle("recvfrom", woken)?;
        }
        half.first_queue = (half.first_queue + 1) % queues;
        half.rx_frames += (batch.len() - start) as u64;
        Ok(())
    }

    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        self.umem.bytes(frame)
    }

    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        self.umem.bytes_mut(frame)
    }

    fn tx_room(&self, to: Side) -> usize {
        self.halves[to.index()].interface.sockets()[0].tx_room()
    }

    fn tx_pending_bytes(&self, to: Side) -> u64 {
        self.halves[to.index()].tx_pending_bytes
    }

    fn send(&mut self, to: Side, frame: Frame, now: Instant) -> Result<(), Frame> {
        let half = &mut self.halves[to.index()];
        let (index, len) = (frame.index(), frame.len());
        if len == 0 {
            half.tx_frames += 1;
            half.tx_refused += 1;
            self.spares.push(frame);
            return Ok(());
        }
        let socket = &mut half.interface.sockets_mut()[0];
        if socket.transmitting() == 0 {
            half.tx_progress = now;
        }
        socket.transmit(frame)?;
        self.tx_len[index] = len as u32;
        half.tx_pending_bytes += len as u64;
        half.tx_frames += 1;
        Ok(())
    }

    fn recycle(&mut self, frame: Frame) {
        self.spares.push(frame);
    }

    fn flush(&mut self, now: Instant) -> Result<(), PortError> {
        let (spares, tx_len) = (&mut self.spares, &self.tx_len);
        for half in &mut self.halves {
            half.flush(now, spares, tx_len)?;
        }
        if now >= self.next_check {
            self.next_check = now + LINK_CHECK;
            self.check_links()?;
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let stuck = self.halves.iter().filter(|h| h.interface.sockets()[0].transmitting() > 0);
        stuck.map(|h| h.tx_progress + TX_STALL).min()
    }

    fn wait(&mut self, timeout: Span) -> Result<(), PortError> {
        for socket in self.halves.iter_mut().flat_map(|h| h.interface.sockets_mut()) {
            socket.fill_from(&mut self.spares);
        }
        match self.waiter.wait(timeout.to_std()) {
            Ok(true) => Ok(()),
            Ok(false) => self.check_links(),
            Err(source) => Err(PortError::Os { port: self.halves[0].port.clone(), call: "ppoll", source }),
        }
    }

    fn counters(&self, side: Side) -> PortCounters {
        let half = &self.halves[side.index()];
        let mut counters = PortCounters {
            rx_frames: half.rx_frames,
            rx_oversize: half.rx_oversize,
            tx_frames: half.tx_frames,
            tx_errors: half.tx_refused,
            ..PortCounters::default()
        };
        for s in half.interface.sockets().iter().filter_map(|s| s.statistics().ok()) {
            // In copy mode a frame that finds the fill ring empty is counted under both; with zero-copy an empty fill
            // ring is not yet a loss, and the loss is the NIC's to count.
            let starved = s.rx_fill_ring_empty_descs.min(s.rx_dropped);
            counters.rx_no_buffer += starved;
            counters.rx_kernel_drops += s.rx_dropped - starved + s.rx_ring_full;
            counters.tx_errors += s.tx_invalid_descs;
        }
        counters
    }

    fn census(&self) -> Census {
        let in_rings = self.halves.iter().flat_map(|h| h.interface.sockets()).map(Socket::in_rings).sum();
        Census { total: self.umem.frames(), spare: self.spares.len(), in_rings }
    }
}

impl Originate for XdpPort {
    fn begin(&mut self, len: usize) -> Option<Frame> {
        if len > Umem::packet_capacity(self.umem.frame_size()) as usize {
            return None;
        }
        let mut frame = self.spares.pop()?;
        self.umem.resize(&mut frame, len);
        Some(frame)
    }
}

impl Half {
    fn new(port: String, interface: Interface) -> Self {
        Self {
            port,
            interface,
            first_queue: 0,
            rx_frames: 0,
            rx_oversize: 0,
            tx_frames: 0,
            tx_refused: 0,
            tx_pending_bytes: 0,
            tx_progress: Instant::ZERO,
        }
    }

    fn flush(&mut self, now: Instant, spares: &mut Vec<Frame>, tx_len: &[u32]) -> Result<(), PortError> {
        let socket = &mut self.interface.sockets_mut()[0];
        if socket.transmitting() == 0 {
            return Ok(());
        }
        let submitted = socket.submit();
        let (mut pending, had) = (self.tx_pending_bytes, spares.len());
        socket.complete(spares, |frame| pending -= u64::from(tx_len[frame.index()]));
        self.tx_pending_bytes = pending;
        let mut kicked = Ok(());
        if spares.len() > had {
            self.tx_progress = now;
        } else if now.since(self.tx_progress) >= TX_STALL {
            self.tx_progress = now;
            kicked = socket.kick_tx();
        }
        self.tx_refused += submitted.as_ref().copied().unwrap_or(0);
        self.settle("sendto", submitted.map(|_| ()))?;
        self.settle("sendto", kicked)
    }

    /// A failed wake-up is nothing if the kernel was only busy, else the interface's fault or the system's.
    fn settle(&self, call: &'static str, result: io::Result<()>) -> Result<(), PortError> {
        let Err(source) = result else { return Ok(()) };
        if matches!(
            source.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ResourceBusy
        ) {
            return Ok(());
        }
        self.check_link()?;
        Err(PortError::Os { port: self.port.clone(), call, source })
    }

    fn check_link(&self) -> Result<(), PortError> {
        let device = self.interface.device();
        device.check_up().map_err(|e| port_error(device.name(), e))
    }
}

/// What the pair needs, from how the interfaces are set.
#[derive(Debug)]
struct Plan {
    frame_size: u32,
    rx: [u32; 2],
    frames: u32,
}

impl Plan {
    fn add(&mut self, i: usize, device: &NetDevice, options: &XdpOptions) -> Result<(), Error> {
        device.check_up()?;
        device.check_offloads()?;
        let (mtu, queues, name) = (device.mtu()?, device.rx_queues()?, || device.name().to_owned());
        if mtu > MAX_MTU {
            return Err(Error::Mtu { name: name(), mtu, max: MAX_MTU });
        }
        if queues > MAX_QUEUES {
            return Err(Error::Queues { name: name(), queues, max: MAX_QUEUES, fix: device.queues_fix(8) });
        }
        if mtu > Umem::packet_capacity(2048) - L2_HEADER {
            self.frame_size = 4096;
        }
        self.rx[i] = (options.rx_ring / queues.next_power_of_two()).max(256);
        self.frames += self.rx[i] * queues + options.tx_ring;
        Ok(())
    }
}

fn spec(name: &str) -> String {
    format!("xdp:{name}")
}

fn port_error(name: &str, error: Error) -> PortError {
    let port = spec(name);
    match error {
        Error::Privilege { .. } => PortError::Privilege { port, reason: error.to_string() },
        Error::Os { call, source, .. } => PortError::Os { port, call, source },
        _ => PortError::Interface { port, reason: error.to_string() },
    }
}

/// Why ports cannot be opened on the interface, one end of a veth pair, because of the other end in this network namespace,
/// with the command that mends it.
pub fn unfit_far_end(interface: &str) -> Option<String> {
    let unfit = NetDevice::open(interface).ok()?.check_far_end().err()?;
    matches!(unfit, Error::Offload { .. }).then(|| unfit.to_string())
}
