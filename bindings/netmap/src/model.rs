//! netmap's kernel side in this process, for tests: the memory is a memfd with the true layout, and the rules of
//! registering, syncing and polling are those of the module (read in netmap.c of 2026). No byte of it is fast.
//!
//! NICs are added with [`Model::nic`] and have a cable whose far end the test holds ([`Outside`]). VALE ports and pipes
//! come into being when they are opened. A descriptor of the model is the writing end of a pipe: it can be duplicated
//! and passed on within the process, and the model notices when the last duplicate is closed. Not modelled: monitors,
//! CSB mode, packet offsets, indirect buffers, MTU checks, half-ring interrupts of transmit completion.
//!
//! [`Wrong`] makes the model break a rule on purpose, so that a test can be seen to fail.

mod adapter;
mod kring;
mod memory;
mod state;
mod wire;

use core::time::Duration;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::kernel::{AdapterMode, Kernel, MAX_POLL, PollEntry, Ready, Request};
use crate::mapping::Mapping;
use state::State;

/// A NIC of the model.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct NicConfig {
    /// Transmit rings.
    pub tx_rings: u16,
    /// Receive rings.
    pub rx_rings: u16,
    /// Host transmit rings, at least 1.
    pub host_tx_rings: u16,
    /// Host receive rings, at least 1.
    pub host_rx_rings: u16,
    /// Slots in each ring, at least 2.
    pub slots: u32,
    /// Whether the driver knows netmap; else the port is emulated, or refused in [`AdapterMode::Native`].
    pub native: bool,
    /// Its memory region, 1 to 64; 1 is the one that NICs share. Another one is made if it is not there (an IOMMU group).
    pub mem_id: u16,
}

impl Default for NicConfig {
    /// One ring each way, 16 slots, one host ring pair, native, region 1.
    fn default() -> Self {
        Self {
            tx_rings: 1,
            rx_rings: 1,
            host_tx_rings: 1,
            host_rx_rings: 1,
            slots: 16,
            native: true,
            mem_id: 1,
        }
    }
}

/// Which ring's cable.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Line {
    /// NIC ring of this number: the wire.
    Nic(u16),
    /// Host ring of this number: the host's network stack.
    Host(u16),
}

/// When a NIC sends what it was given.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum TxMode {
    /// In the sync that hands it over.
    #[default]
    Immediate,
    /// When [`Outside::complete`] says so: a stuck or slow transmit ring.
    Manual,
}

/// Rules that the model breaks on purpose.
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Wrong {
    /// NS_BUF_CHANGED is not looked at: the NIC goes on with the old buffer.
    pub ignore_buf_changed: bool,
    /// The first slot of every rxsync names the buffer of the slot before it.
    pub duplicate_index: bool,
    /// The first slot of every rxsync names no buffer.
    pub zero_index: bool,
    /// Every rxsync shows one slot too many.
    pub overrun_tail: bool,
    /// Frames count as sent that are still to be read by the NIC.
    pub early_completion: bool,
}

/// Faults of one NIC.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Faults {
    /// When frames leave.
    pub tx: TxMode,
    /// The carrier. Without it nothing arrives, and the transmit ring stands still.
    pub link: bool,
    /// The interface was stopped or is gone: syncs say EIO, poll says POLLERR.
    pub stopped: bool,
    /// The next so many received slots have length 0, as iflib reports errors.
    pub zero_length: u32,
    /// Frames longer than a buffer arrive in several slots (NS_MOREFRAG); else they are lost.
    pub fragments: bool,
    /// Rules broken on purpose.
    pub wrong: Wrong,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            tx: TxMode::Immediate,
            link: true,
            stopped: false,
            zero_length: 0,
            fragments: false,
            wrong: Wrong::default(),
        }
    }
}

/// Faults and settings of the system.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct System {
    /// What opening the device says instead of opening it: ENOENT or ENXIO for a missing module, EACCES.
    pub open_error: Option<i32>,
    /// Lowest and highest API version that requests may have.
    pub api: (u16, u16),
    /// `dev.netmap.admode`.
    pub adapter_mode: AdapterMode,
    /// At most so many extra buffers are granted to one registration.
    pub extra_at_most: u32,
    /// What mapping says instead of mapping.
    pub map_error: Option<i32>,
}

impl Default for System {
    /// A module of API 14 and 15, admode 0, no limit on extra buffers but the pool.
    fn default() -> Self {
        Self {
            open_error: None,
            api: (14, 15),
            adapter_mode: AdapterMode::Best,
            extra_at_most: u32::MAX,
            map_error: None,
        }
    }
}

/// The state of a region's allocator.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Audit {
    /// Buffers that exist, 0 and 1 not counted.
    pub total: usize,
    /// Buffers that are free. With no port open, less than `total` means a leak.
    pub free: usize,
    /// Buffers that were freed while they were free: they had been in two places.
    pub freed_twice: Vec<u32>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    bell: Condvar,
}

/// The model. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Model(Arc<Inner>);

impl Default for Model {
    fn default() -> Self {
        Self::new(4096)
    }
}

impl Model {
    /// A system whose regions have `buffers` buffers of 2048 bytes each (two of them reserved), without any NIC.
    pub fn new(buffers: u32) -> Self {
        Self(Arc::new(Inner { state: Mutex::new(State::new(buffers)), bell: Condvar::new() }))
    }

    /// The kernel, for [`crate::Netmap::new`].
    pub fn kernel(&self) -> Arc<dyn Kernel> {
        Arc::new(self.clone())
    }

    /// A `Netmap` on this model.
    pub fn netmap(&self) -> crate::Netmap {
        crate::Netmap::new(self.kernel())
    }

    /// Adds a NIC and returns the far end of its cables.
    ///
    /// # Panics
    /// If there is one of that name, or its region cannot be made.
    pub fn nic(&self, name: &str, config: NicConfig) -> Outside {
        self.lock().add_nic(name, config);
        Outside { model: self.clone(), name: name.to_owned() }
    }

    /// Changes the system.
    pub fn system(&self, change: impl FnOnce(&mut System)) {
        change(&mut self.lock().system);
    }

    /// The allocator of a region; descriptors that were closed are reaped first.
    ///
    /// # Panics
    /// If there is no such region.
    pub fn audit(&self, mem_id: u16) -> Audit {
        let mut state = self.lock();
        state.reap();
        state.audit(mem_id)
    }

    /// How often a sync found `head` or `cur` damaged.
    pub fn damaged(&self) -> u64 {
        self.lock().damaged
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The far end of a NIC's cables, and the switch for its faults. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Outside {
    model: Model,
    name: String,
}

impl Outside {
    /// Sends a frame towards the NIC. False if it is lost: no free descriptor, no link, not in netmap mode.
    ///
    /// # Panics
    /// If there is no such ring.
    pub fn inject(&self, line: Line, frame: &[u8]) -> bool {
        let taken = self.model.lock().inject(&self.name, line, frame);
        self.model.0.bell.notify_all();
        taken
    }

    /// Takes what the NIC has sent, oldest first.
    ///
    /// # Panics
    /// If there is no such ring.
    pub fn collect(&self, line: Line) -> Vec<Vec<u8>> {
        self.model.lock().collect(&self.name, line)
    }

    /// With [`TxMode::Manual`]: the NIC sends up to `count` slots of what it was given. The program sees it at its
    /// next sync.
    ///
    /// # Panics
    /// If there is no such ring.
    pub fn complete(&self, line: Line, count: u32) {
        self.model.lock().complete(&self.name, line, count);
        self.model.0.bell.notify_all();
    }

    /// Frames that were lost for want of a free descriptor or a link.
    ///
    /// # Panics
    /// If there is no such ring.
    pub fn missed(&self, line: Line) -> u64 {
        self.model.lock().missed(&self.name, line)
    }

    /// Changes the faults.
    ///
    /// # Panics
    /// If the NIC is gone, which cannot be.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(self.model.lock().faults(&self.name));
        self.model.0.bell.notify_all();
    }
}

fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

/// What stays the same over all duplicates of a descriptor.
fn identity(fd: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: integers only; zero is a value.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: `stat` is valid for writing.
    let rc = unsafe { libc::fstat(fd.as_raw_fd(), &raw mut stat) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(stat.st_ino) }
}

impl Kernel for Model {
    fn open(&self) -> io::Result<OwnedFd> {
        let mut state = self.lock();
        if let Some(code) = state.system.open_error {
            return Err(errno(code));
        }
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both were just returned by the kernel and nobody else owns them.
        let [read, write] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        let identity = identity(std::os::fd::AsFd::as_fd(&write))?;
        state.reap();
        state.opened(identity, read);
        Ok(write)
    }

    fn control(&self, fd: BorrowedFd<'_>, request: Request<'_>) -> io::Result<()> {
        let mut state = self.lock();
        state.reap();
        state.control(identity(fd)?, request).map_err(errno)
    }

    fn map(&self, fd: BorrowedFd<'_>, len: usize) -> io::Result<Mapping> {
        self.lock().map(identity(fd)?, len)
    }

    fn tx_sync(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let outcome = self.lock().sync(identity(fd)?, true).map_err(errno);
        self.0.bell.notify_all();
        outcome
    }

    fn rx_sync(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let outcome = self.lock().sync(identity(fd)?, false).map_err(errno);
        self.0.bell.notify_all();
        outcome
    }

    fn poll(&self, entries: &mut [PollEntry<'_>], timeout: Duration) -> io::Result<usize> {
        if entries.len() > MAX_POLL {
            return Err(errno(libc::EINVAL));
        }
        let ids = entries.iter().map(|entry| identity(entry.fd)).collect::<io::Result<Vec<_>>>()?;
        let mut round = |state: &mut State| {
            let mut count = 0;
            for (entry, id) in entries.iter_mut().zip(&ids) {
                entry.ready = state.poll(*id, entry.interest);
                count += usize::from(entry.ready != Ready::default());
            }
            count
        };
        let mut count = 0;
        let guard = self.lock();
        let quiet = |state: &mut State| {
            count = round(state);
            count == 0
        };
        let waited = self.0.bell.wait_timeout_while(guard, timeout, quiet);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.0.bell.notify_all();
        Ok(count)
    }

    fn adapter_mode(&self) -> Option<AdapterMode> {
        Some(self.lock().system.adapter_mode)
    }

    fn driver_has_netmap(&self, interface: &str) -> Option<bool> {
        self.lock().driver_has_netmap(interface)
    }
}
