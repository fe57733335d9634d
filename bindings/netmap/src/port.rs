//! A registered port: descriptor, rings, extra buffers.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use l4sd_netmap_sys as sys;
use serde::{Deserialize, Serialize};
use sys::{netmap_if, nmreq_port_info_get, nmreq_register};

use crate::error::Error;
use crate::kernel::{AdapterMode, Body, Interest, Kernel, PollEntry, Ready, RealKernel, Request};
use crate::mapping::Mapping;
use crate::name::{PortName, Rings};
use crate::region::{Buffer, Region};
use crate::ring::{RingHeader, RingId, RxRing, Shared, TxRing};

/// How to open a port, beside what its name says.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// Buffers wanted beside those in the rings; fewer may be granted ([`Registered::extra_buffers`]).
    pub extra_buffers: u32,
    /// Nobody else may have the rings (as `/x` in the name).
    pub exclusive: bool,
    /// The memory region to use, if the name says none. Only a wish for NICs.
    pub mem_id: Option<u16>,
    /// Slots per ring wanted, for ports that are made by opening them (VALE, pipes); 0: netmap's default.
    pub slots: u32,
}

/// A registration as numbers: with the descriptor, all that another process needs to go on.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Registered {
    /// The API version of the layout.
    pub api: u16,
    /// The port.
    pub port: PortName,
    /// Offset of the interface structure in the region, bytes.
    pub offset: u64,
    /// Size of the region, bytes.
    pub memory_bytes: u64,
    /// Number of the region.
    pub mem_id: u16,
    /// Slots in a transmit ring.
    pub tx_slots: u32,
    /// Slots in a receive ring.
    pub rx_slots: u32,
    /// Transmit rings of the NIC, bound or not.
    pub tx_rings: u16,
    /// Receive rings of the NIC, bound or not.
    pub rx_rings: u16,
    /// Transmit rings of the host stack.
    pub host_tx_rings: u16,
    /// Receive rings of the host stack.
    pub host_rx_rings: u16,
    /// Extra buffers that were granted.
    pub extra_buffers: u32,
}

/// Opens ports and keeps track of which share memory.
#[derive(Clone, Debug)]
pub struct Netmap {
    kernel: Arc<dyn Kernel>,
    regions: Arc<Mutex<HashMap<u16, Weak<Region>>>>,
}

impl Netmap {
    /// The operating system's.
    pub fn real() -> Self {
        Self::new(Arc::new(RealKernel))
    }

    /// Any other: the model's.
    pub fn new(kernel: Arc<dyn Kernel>) -> Self {
        Self { kernel, regions: Arc::default() }
    }

    /// How drivers without netmap support are treated, if the system says.
    pub fn adapter_mode(&self) -> Option<AdapterMode> {
        self.kernel.adapter_mode()
    }

    /// Whether the driver of `interface` has netmap's support built in; `None` if it cannot be told. One that has it is
    /// emulated all the same under [`AdapterMode::Emulated`].
    pub fn driver_has_netmap(&self, interface: &str) -> Option<bool> {
        self.kernel.driver_has_netmap(interface)
    }

    /// Opens, registers and maps a port.
    ///
    /// # Errors
    /// All of [`Error`] but `Gone` and `Beyond`.
    pub fn open(&self, name: &PortName, options: &Options) -> Result<Port, Error> {
        let fd = self.kernel.open().map_err(Error::open)?;
        let mut body = request(name, options);
        let request = |body| Request { version: sys::NETMAP_API as u16, name: name.kernel(), body };
        if let Err(e) = self.kernel.control(fd.as_fd(), request(Body::Register(&mut body))) {
            return Err(self.refusal(fd.as_fd(), name, e));
        }
        let registered = Registered {
            api: sys::NETMAP_API as u16,
            port: name.clone(),
            offset: body.nr_offset,
            memory_bytes: body.nr_memsize,
            mem_id: body.nr_mem_id,
            tx_slots: body.nr_tx_slots,
            rx_slots: body.nr_rx_slots,
            tx_rings: body.nr_tx_rings,
            rx_rings: body.nr_rx_rings,
            host_tx_rings: body.nr_host_tx_rings,
            host_rx_rings: body.nr_host_rx_rings,
            extra_buffers: body.nr_extra_bufs,
        };
        self.attach(fd, registered)
    }

    /// Goes on with a descriptor that is registered already: one that another process opened and handed over with its
    /// [`Registered`]. Changes nothing in the shared memory. One port at a time may use a registration: the other
    /// process is dead, or has let go of it.
    ///
    /// # Errors
    /// [`Error::Layout`] if the numbers do not fit the memory, [`Error::Os`] if it cannot be mapped, [`Error::Api`].
    pub fn attach(&self, fd: OwnedFd, registered: Registered) -> Result<Port, Error> {
        if u32::from(registered.api) != sys::NETMAP_API {
            return Err(Error::Api { api: registered.api });
        }
        let layout = |what: String| Error::Layout { port: registered.port.to_string(), what };
        let (region, nifp) = {
            let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
            let known = regions.get(&registered.mem_id).and_then(Weak::upgrade);
            if let Some(region) = known {
                let nifp = interface(region.map(), &registered).map_err(&layout)?;
                (region, nifp)
            } else {
                let (region, nifp) = self.map(fd.as_fd(), &registered)?;
                let region = Arc::new(region);
                regions.insert(registered.mem_id, Arc::downgrade(&region));
                (region, nifp)
            }
        };
        let (mut rx, mut tx) = (Vec::new(), Vec::new());
        for (id, offset) in nifp.rings(registered.offset as usize) {
            let shared = Shared::new(Arc::clone(&region), offset, id).map_err(&layout)?;
            if id.transmit { tx.push(TxRing::new(shared)) } else { rx.push(RxRing::new(shared)) }
        }
        if rx.is_empty() && registered.port.receive() || tx.is_empty() && registered.port.transmit() {
            return Err(layout("rings that were asked for are not there".to_owned()));
        }
        Ok(Port { kernel: Arc::clone(&self.kernel), fd, registered, region, nifp, rx, tx })
    }

    fn map(&self, fd: BorrowedFd<'_>, registered: &Registered) -> Result<(Region, Interface), Error> {
        let port = || registered.port.to_string();
        let len = usize::try_from(registered.memory_bytes).unwrap_or(usize::MAX);
        let map =
            self.kernel.map(fd, len).map_err(|source| Error::Os { port: port(), call: "mmap", source })?;
        let layout = |what: &str| Error::Layout { port: port(), what: what.to_owned() };
        let nifp = interface(&map, registered).map_err(|what| layout(&what))?;
        let (_, first) =
            nifp.rings(registered.offset as usize).next().ok_or_else(|| layout("no ring is bound"))?;
        let header = RingHeader::read(&map, first).ok_or_else(|| layout("a ring is outside it"))?;
        let at = header.buffers_at(first).ok_or_else(|| layout("its buffers are outside it"))?;
        let region = Region::new(map, registered.mem_id, at, header.buffer_size)
            .ok_or_else(|| layout("it has no buffers"))?;
        Ok((region, nifp))
    }

    /// Tells a wrong API version from other reasons for EINVAL: a request that only names the global memory is refused
    /// for no other.
    fn refusal(&self, fd: BorrowedFd<'_>, name: &PortName, source: io::Error) -> Error {
        let invalid = |e: &io::Error| e.raw_os_error() == Some(libc::EINVAL);
        if invalid(&source) {
            // SAFETY: integers only; zero is a value.
            let mut info: nmreq_port_info_get = unsafe { core::mem::zeroed() };
            let version = sys::NETMAP_API as u16;
            let probe = Request { version, name: "", body: Body::PortInfo(&mut info) };
            if self.kernel.control(fd, probe).is_err_and(|e| invalid(&e)) {
                return Error::Api { api: version };
            }
        }
        Error::register(name.to_string(), source)
    }
}

fn request(name: &PortName, options: &Options) -> nmreq_register {
    // SAFETY: integers only; zero is a value.
    let mut body: nmreq_register = unsafe { core::mem::zeroed() };
    (body.nr_mode, body.nr_ringid) = match name.rings() {
        Rings::Nic => (sys::NR_REG_ALL_NIC, 0),
        Rings::Host => (sys::NR_REG_SW, 0),
        Rings::NicAndHost => (sys::NR_REG_NIC_SW, 0),
        Rings::OneNic(n) => (sys::NR_REG_ONE_NIC, n),
        Rings::OneHost(n) => (sys::NR_REG_ONE_SW, n),
    };
    body.nr_mem_id = name.mem_id().or(options.mem_id).unwrap_or(0);
    body.nr_extra_bufs = options.extra_buffers;
    (body.nr_tx_slots, body.nr_rx_slots) = (options.slots, options.slots);
    for (set, flag) in [
        (name.exclusive() || options.exclusive, sys::NR_EXCLUSIVE),
        (!name.transmit(), sys::NR_RX_RINGS_ONLY),
        (!name.receive(), sys::NR_TX_RINGS_ONLY),
    ] {
        body.nr_flags |= if set { u64::from(flag) } else { 0 };
    }
    body
}

/// The interface structure of a registration, checked to be inside the mapping with all its offsets.
#[derive(Copy, Clone, Debug)]
struct Interface {
    nifp: NonNull<netmap_if>,
    tx: [u32; 2],
    rx: [u32; 2],
}

// SAFETY: the pointer leads into a mapping that the port keeps alive through its region; it is only read, but for
// `ni_bufs_head`, which is accessed atomically by the owner of the port.
unsafe impl Send for Interface {}

fn interface(map: &Mapping, registered: &Registered) -> Result<Interface, String> {
    let outside = || "the interface structure is outside it".to_owned();
    let offset = usize::try_from(registered.offset).map_err(|_| outside())?;
    let head = map.at(offset, size_of::<netmap_if>(), align_of::<netmap_if>()).ok_or_else(outside)?;
    let nifp: NonNull<netmap_if> = head.cast();
    let p = nifp.as_ptr();
    // SAFETY: a whole structure inside the mapping, aligned; the kernel does not change these after registering.
    let (tx, rx) =
        unsafe { ([(*p).ni_tx_rings, (*p).ni_host_tx_rings], [(*p).ni_rx_rings, (*p).ni_host_rx_rings]) };
    let says = [registered.tx_rings, registered.rx_rings].map(u32::from);
    if [tx[0], rx[0]] != says {
        return Err(format!(
            "it has {}+{} rings where {}+{} were registered",
            tx[0], rx[0], says[0], says[1]
        ));
    }
    if tx[1] > 0xffff || rx[1] > 0xffff {
        return Err(format!("{} and {} host rings", tx[1], rx[1]));
    }
    let rings = (tx[0] + tx[1] + rx[0] + rx[1]) as usize;
    let bytes = size_of::<netmap_if>() + rings * size_of::<isize>();
    map.at(offset, bytes, align_of::<netmap_if>()).ok_or_else(outside)?;
    Ok(Interface { nifp, tx, rx })
}

impl Interface {
    /// The bound rings with their offsets in the mapping; `base` is where the structure is.
    fn rings(self, base: usize) -> impl Iterator<Item = (RingId, usize)> {
        let of = move |transmit: bool| {
            let counts = if transmit { self.tx } else { self.rx };
            (0..counts[0] + counts[1]).filter_map(move |i| {
                // SAFETY: the structure and its whole array are inside the mapping (checked in `interface`), and `i`
                // is below the number of rings. The result is only compared, and followed after a check.
                let ring = unsafe {
                    if transmit {
                        sys::txring(self.nifp.as_ptr(), i)
                    } else {
                        sys::rxring(self.nifp.as_ptr(), i)
                    }
                }?;
                let offset = (ring as usize).wrapping_sub(self.nifp.as_ptr() as usize).wrapping_add(base);
                let host = i >= counts[0];
                let index = if host { i - counts[0] } else { i } as u16;
                Some((RingId { transmit, host, index }, offset))
            })
        };
        of(true).chain(of(false))
    }

    fn extra_head(&self) -> &AtomicU32 {
        // SAFETY: an aligned word inside the mapping.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.nifp.as_ptr()).ni_bufs_head) }
    }
}

/// A port: its descriptor and its rings. Dropping it closes the descriptor and writes nothing; buffers that are out
/// are then lost unless another descriptor of the same registration (a keeper's) is open. [`Port::close`] is the
/// orderly end.
#[derive(Debug)]
pub struct Port {
    kernel: Arc<dyn Kernel>,
    fd: OwnedFd,
    registered: Registered,
    region: Arc<Region>,
    nifp: Interface,
    rx: Vec<RxRing>,
    tx: Vec<TxRing>,
}

impl Port {
    /// What registering said.
    pub fn registered(&self) -> &Registered {
        &self.registered
    }

    /// The port's name.
    pub fn name(&self) -> &PortName {
        &self.registered.port
    }

    /// The memory it uses.
    #[inline]
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Whether buffers can move between the two ports. Otherwise [`RxRing::bytes`], [`TxRing::put_copy`].
    pub fn shares_memory_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.region, &other.region)
    }

    /// Whether the memory is a private region (a VALE port's, a pipe of one).
    pub fn has_private_memory(&self) -> bool {
        // SAFETY: a whole structure inside the mapping; the kernel does not change the word after registering.
        unsafe { (*self.nifp.nifp.as_ptr()).ni_flags & sys::NI_PRIV_MEM != 0 }
    }

    /// The descriptor, to poll or to hand over.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Bound receive rings, NIC rings before host rings.
    pub fn rx_rings(&self) -> usize {
        self.rx.len()
    }

    /// Bound transmit rings, NIC rings before host rings.
    pub fn tx_rings(&self) -> usize {
        self.tx.len()
    }

    /// A bound receive ring.
    ///
    /// # Panics
    /// If there is no such ring.
    #[inline]
    pub fn rx(&mut self, ring: usize) -> &mut RxRing {
        &mut self.rx[ring]
    }

    /// A bound transmit ring.
    ///
    /// # Panics
    /// If there is no such ring.
    #[inline]
    pub fn tx(&mut self, ring: usize) -> &mut TxRing {
        &mut self.tx[ring]
    }

    /// All bound rings.
    #[inline]
    pub fn rings(&self) -> (&[RxRing], &[TxRing]) {
        (&self.rx, &self.tx)
    }

    /// All bound rings, to change: for moving frames between rings of one port.
    pub fn rings_mut(&mut self) -> (&mut [RxRing], &mut [TxRing]) {
        (&mut self.rx, &mut self.tx)
    }

    /// NIOCRXSYNC: gives taken slots back and looks for received ones.
    ///
    /// # Errors
    /// [`Error::Gone`] if the port left netmap mode.
    pub fn rx_sync(&mut self) -> Result<(), Error> {
        self.rx.iter_mut().for_each(RxRing::publish);
        let outcome = self.kernel.rx_sync(self.fd.as_fd());
        self.rx.iter_mut().for_each(RxRing::refresh);
        outcome.map_err(|e| Error::sync(self.name().to_string(), "NIOCRXSYNC", e))
    }

    /// NIOCTXSYNC: hands put slots over and takes completed ones back, looking at the NIC even if it sent no interrupt.
    ///
    /// # Errors
    /// [`Error::Gone`] if the port left netmap mode.
    pub fn tx_sync(&mut self) -> Result<(), Error> {
        self.tx.iter_mut().for_each(TxRing::publish);
        let outcome = self.kernel.tx_sync(self.fd.as_fd());
        self.tx.iter_mut().for_each(TxRing::refresh);
        outcome.map_err(|e| Error::sync(self.name().to_string(), "NIOCTXSYNC", e))
    }

    /// Sleeps until one of the ports has what it waits for, or `timeout` has passed. Transmits what was put, on every
    /// port; receives only where reading is waited for. At most [`crate::MAX_POLL`] ports of one kernel.
    ///
    /// # Errors
    /// [`Error::Os`]. A port that left netmap mode is [`Ready::error`], and the next sync says why.
    pub fn wait<const N: usize>(
        ports: [(&mut Self, Interest); N],
        timeout: Duration,
    ) -> Result<[Ready; N], Error> {
        let mut ports = ports;
        for (port, _) in &mut ports {
            port.rx.iter_mut().for_each(RxRing::publish);
            port.tx.iter_mut().for_each(TxRing::publish);
        }
        let Some((first, _)) = ports.first() else { return Ok([Ready::default(); N]) };
        let kernel = Arc::clone(&first.kernel);
        let mut entries = ports.each_ref().map(|(port, interest)| PollEntry {
            fd: port.fd.as_fd(),
            interest: *interest,
            ready: Ready::default(),
        });
        let outcome = kernel.poll(&mut entries, timeout);
        let ready = entries.map(|entry| entry.ready);
        outcome.map_err(|source| Error::Os { port: ports[0].0.name().to_string(), call: "poll", source })?;
        for (port, _) in &mut ports {
            port.rx.iter_mut().for_each(RxRing::refresh);
            port.tx.iter_mut().for_each(TxRing::refresh);
        }
        Ok(ready)
    }

    /// Takes the chain of extra buffers that registering granted. The kernel then no longer knows where they are:
    /// they go back with [`Port::close`]. A second call finds none.
    ///
    /// # Errors
    /// [`Error::Layout`] if the chain is damaged: an index out of range, or a circle.
    pub fn take_extra(&mut self) -> Result<Vec<Buffer>, Error> {
        let chain = self.extra_chain()?;
        let mut buffers = Vec::with_capacity(chain.len());
        for index in chain {
            buffers.push(
                self.region.mint(index).map_err(|fault| self.layout(format!("extra buffers: {fault}")))?,
            );
        }
        self.store_extra_head(0);
        Ok(buffers)
    }

    /// The indices in the chain of extra buffers, in order, without taking them.
    ///
    /// # Errors
    /// As for [`Port::take_extra`].
    pub fn extra_chain(&self) -> Result<Vec<u32>, Error> {
        let mut chain = Vec::new();
        let mut next = self.nifp.extra_head().load(Ordering::Acquire);
        while next != 0 {
            if chain.len() >= self.region.index_end() as usize {
                return Err(self.layout("the chain of extra buffers is a circle".to_owned()));
            }
            let link = self
                .link(next)
                .ok_or_else(|| self.layout(format!("the chain of extra buffers names buffer {next}")))?;
            chain.push(next);
            next = link.load(Ordering::Relaxed);
        }
        Ok(chain)
    }

    /// Ends the port: chains `buffers` (all that this process holds of the region, spares and queued frames alike) for
    /// the kernel to free, and closes the descriptor. Between two ports of one region it does not matter which takes
    /// which. Frames in a transmit ring that have not left yet may be lost.
    ///
    /// # Errors
    /// [`Error::Layout`] if a chain is already there that cannot be read; the descriptor is closed all the same.
    ///
    /// # Panics
    /// If a buffer is of another region.
    pub fn close(mut self, buffers: impl IntoIterator<Item = Buffer>) -> Result<(), Error> {
        self.rx.iter_mut().for_each(RxRing::publish);
        self.tx.iter_mut().for_each(TxRing::publish);
        self.give_extra(buffers)
    }

    /// Puts buffers in front of the chain of extra buffers without ending the port: the kernel frees them when the last
    /// descriptor closes, unless [`Port::take_extra`] takes them again.
    ///
    /// # Errors
    /// As for [`Port::close`].
    ///
    /// # Panics
    /// If a buffer is of another region.
    pub fn give_extra(&mut self, buffers: impl IntoIterator<Item = Buffer>) -> Result<(), Error> {
        let mut head = self.nifp.extra_head().load(Ordering::Acquire);
        for buffer in buffers {
            let index = self.region.surrender(buffer);
            let link = self.link(index).ok_or_else(|| self.layout(format!("there is no buffer {index}")))?;
            before_store();
            link.store(head, Ordering::Relaxed);
            head = index;
        }
        self.store_extra_head(head);
        Ok(())
    }

    /// Leaves the chain of extra buffers to whoever knows the pool.
    pub(crate) fn forget_extra(&mut self) {
        if self.nifp.extra_head().load(Ordering::Relaxed) != 0 {
            self.store_extra_head(0);
        }
    }

    /// The first word of a buffer that is in no slot and no token: its link in the chain of extra buffers.
    fn link(&self, index: u32) -> Option<&AtomicU32> {
        let offset = self.region.buffer_offset(index)?;
        let word = self.region.map().at(offset, 4, 4)?.cast::<u32>();
        // SAFETY: an aligned word inside the mapping, of a buffer that nobody else uses.
        Some(unsafe { AtomicU32::from_ptr(word.as_ptr()) })
    }

    fn store_extra_head(&self, index: u32) {
        before_store();
        self.nifp.extra_head().store(index, Ordering::Release);
    }

    fn layout(&self, what: String) -> Error {
        Error::Layout { port: self.name().to_string(), what }
    }
}

fn before_store() {
    #[cfg(any(test, feature = "crash"))]
    crate::crash::before_store();
}
