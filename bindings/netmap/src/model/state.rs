//! Everything the model's kernel knows: regions, adapters, descriptors.

use core::ops::Range;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use l4sd_netmap_sys as sys;
use sys::{nmreq_port_info_get, nmreq_register};

use super::adapter::{Adapter, Kind, RX, TX};
use super::kring::{Damaged, Kring};
use super::memory::{Memory, interface_bytes};
use super::{Audit, Faults, Line, NicConfig, System, wire};
use crate::kernel::{AdapterMode, Body, Interest, Ready, Request};
use crate::mapping::Mapping;

const BUFFER_BYTES: u32 = 2048;
const DEFAULT_SLOTS: u32 = 16;

#[derive(Debug)]
pub(super) struct State {
    pub(super) system: System,
    pub(super) damaged: u64,
    buffers: u32,
    memories: Vec<Memory>,
    adapters: Vec<Adapter>,
    opens: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    alive: OwnedFd,
    bound: Option<Bound>,
}

#[derive(Clone, Debug)]
struct Bound {
    adapter: usize,
    nifp: usize,
    nifp_bytes: usize,
    ranges: [Range<usize>; 2],
    exclusive: bool,
    tx_poll: bool,
}

impl State {
    pub(super) fn new(buffers: u32) -> Self {
        let mut state = Self {
            system: System::default(),
            damaged: 0,
            buffers,
            memories: Vec::new(),
            adapters: Vec::new(),
            opens: BTreeMap::new(),
        };
        state.memory(1, false);
        state
    }

    fn memory(&mut self, id: u16, private: bool) -> usize {
        self.memories.iter().position(|memory| memory.id == id).unwrap_or_else(|| {
            let memory = Memory::new(id, private, self.buffers, BUFFER_BYTES).expect("memory for the model");
            self.memories.push(memory);
            self.memories.len() - 1
        })
    }

    fn private_memory(&mut self) -> usize {
        let id = 65 + self.memories.len() as u16;
        self.memory(id, true)
    }

    fn add(&mut self, name: &str, kind: Kind, memory: usize, counts: [u16; 4], slots: [u32; 2]) -> usize {
        let [tx, rx, host_tx, host_rx] = counts;
        let rings =
            |transmit: bool, count: u16, slots| (0..count).map(|_| Kring::new(transmit, slots)).collect();
        self.adapters.push(Adapter {
            name: name.to_owned(),
            kind,
            memory,
            rings: [rings(true, tx + host_tx, slots[TX]), rings(false, rx + host_rx, slots[RX])],
            own: [tx.into(), rx.into()],
            opens: 0,
            learned: Vec::new(),
            faults: Faults::default(),
        });
        self.adapters.len() - 1
    }

    pub(super) fn add_nic(&mut self, name: &str, config: NicConfig) {
        assert!(self.find(name).is_none(), "there is a NIC '{name}'");
        assert!(config.slots >= 2 && config.host_tx_rings > 0 && config.host_rx_rings > 0);
        assert!((1..=64).contains(&config.mem_id));
        let memory = self.memory(config.mem_id, false);
        let counts = [config.tx_rings, config.rx_rings, config.host_tx_rings, config.host_rx_rings];
        self.add(name, Kind::Nic { native: config.native }, memory, counts, [config.slots; 2]);
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.adapters.iter().position(|adapter| adapter.name == name)
    }

    pub(super) fn driver_has_netmap(&self, name: &str) -> Option<bool> {
        match self.adapters[self.find(name)?].kind {
            Kind::Nic { native } => Some(native),
            _ => None,
        }
    }

    pub(super) fn audit(&self, mem_id: u16) -> Audit {
        let memory = self.memories.iter().find(|memory| memory.id == mem_id).expect("no such region");
        Audit {
            total: (memory.buffers - sys::FIRST_BUFFER) as usize,
            free: memory.free_buffers(),
            freed_twice: memory.freed_twice.clone(),
        }
    }

    // --- the far end of the cables

    fn cable(&mut self, name: &str, line: Line, dir: usize) -> (&mut Kring, &Memory, &Faults) {
        let at = self.find(name).expect("no such NIC");
        let adapter = &mut self.adapters[at];
        let ring = match line {
            Line::Nic(ring) => usize::from(ring),
            Line::Host(ring) => adapter.own[dir] as usize + usize::from(ring),
        };
        (&mut adapter.rings[dir][ring], &self.memories[adapter.memory], &adapter.faults)
    }

    pub(super) fn inject(&mut self, name: &str, line: Line, frame: &[u8]) -> bool {
        let (ring, memory, faults) = self.cable(name, line, RX);
        wire::arrive(ring, memory, faults, frame)
    }

    pub(super) fn collect(&mut self, name: &str, line: Line) -> Vec<Vec<u8>> {
        core::mem::take(&mut self.cable(name, line, TX).0.wire.out)
    }

    pub(super) fn complete(&mut self, name: &str, line: Line, count: u32) {
        let (ring, memory, _) = self.cable(name, line, TX);
        wire::transmit(ring, memory, count);
    }

    pub(super) fn missed(&mut self, name: &str, line: Line) -> u64 {
        self.cable(name, line, RX).0.wire.missed
    }

    pub(super) fn faults(&mut self, name: &str) -> &mut Faults {
        let at = self.find(name).expect("no such NIC");
        &mut self.adapters[at].faults
    }

    // --- descriptors

    pub(super) fn opened(&mut self, identity: u64, alive: OwnedFd) {
        self.opens.insert(identity, Open { alive, bound: None });
    }

    /// Ends the registrations whose descriptors are all closed.
    pub(super) fn reap(&mut self) {
        let dead: Vec<u64> =
            self.opens.iter().filter(|(_, open)| hung_up(&open.alive)).map(|(id, _)| *id).collect();
        for identity in dead {
            if let Some(bound) = self.opens.remove(&identity).and_then(|open| open.bound) {
                self.unregister(&bound);
            }
        }
    }

    pub(super) fn map(&mut self, identity: u64, len: usize) -> io::Result<Mapping> {
        if let Some(code) = self.system.map_error {
            return Err(super::errno(code));
        }
        let bound = self.opens.get(&identity).and_then(|open| open.bound.as_ref());
        let bound = bound.ok_or_else(|| super::errno(libc::EINVAL))?;
        let memory = &self.memories[self.adapters[bound.adapter].memory];
        if len > memory.bytes() {
            return Err(super::errno(libc::EINVAL));
        }
        Mapping::shared(memory.fd(), len)
    }

    pub(super) fn control(&mut self, identity: u64, request: Request<'_>) -> Result<(), i32> {
        let (lowest, highest) = self.system.api;
        if !(lowest..=highest).contains(&request.version) {
            return Err(libc::EINVAL);
        }
        match request.body {
            Body::Register(body) => self.register(identity, request.name, body),
            Body::PortInfo(body) => self.port_info(request.name, body),
        }
    }

    fn port_info(&mut self, name: &str, body: &mut nmreq_port_info_get) -> Result<(), i32> {
        let memory = if name.is_empty() {
            let id = if body.nr_mem_id == 0 { 1 } else { body.nr_mem_id };
            self.memories.iter().position(|memory| memory.id == id).ok_or(libc::EINVAL)?
        } else {
            let adapter = &self.adapters[self.find(name).ok_or(libc::ENXIO)?];
            [body.nr_tx_rings, body.nr_rx_rings] = adapter.own.map(|n| n as u16);
            [body.nr_host_tx_rings, body.nr_host_rx_rings] = adapter.host().map(|n| n as u16);
            [body.nr_tx_slots, body.nr_rx_slots] = adapter.slots();
            adapter.memory
        };
        body.nr_memsize = self.memories[memory].bytes() as u64;
        body.nr_mem_id = self.memories[memory].id;
        Ok(())
    }

    // --- registering

    fn register(&mut self, identity: u64, name: &str, body: &mut nmreq_register) -> Result<(), i32> {
        let open = self.opens.get(&identity).ok_or(libc::EBADF)?;
        if open.bound.is_some() {
            return Err(libc::EBUSY);
        }
        let wanted = match body.nr_mem_id {
            0 => None,
            id => Some(self.memories.iter().position(|memory| memory.id == id).ok_or(libc::EINVAL)?),
        };
        let at = self.adapter(name, wanted, body)?;
        let ranges = self.adapters[at].ranges(body)?;
        let exclusive = body.nr_flags & u64::from(sys::NR_EXCLUSIVE) != 0;
        let adapter = &self.adapters[at];
        let taken = |ring: &Kring| ring.exclusive || ring.users > 0 && exclusive;
        if [TX, RX].iter().any(|dir| adapter.rings[*dir][ranges[*dir].clone()].iter().any(taken)) {
            return Err(libc::EBUSY);
        }
        let created = self.create_rings(at, &ranges);
        let interface = created.and_then(|()| self.create_interface(at, &ranges).ok_or(libc::ENOMEM));
        let (nifp, nifp_bytes) = interface.inspect_err(|_| self.delete_unused(at))?;
        let adapter = &mut self.adapters[at];
        adapter.opens += 1;
        for dir in [TX, RX] {
            for ring in &mut adapter.rings[dir][ranges[dir].clone()] {
                ring.users += 1;
                ring.exclusive |= exclusive;
            }
        }
        let memory = &mut self.memories[adapter.memory];
        body.nr_extra_bufs = memory.extra_alloc(nifp, body.nr_extra_bufs.min(self.system.extra_at_most));
        [body.nr_tx_rings, body.nr_rx_rings] = adapter.own.map(|n| n as u16);
        [body.nr_host_tx_rings, body.nr_host_rx_rings] = adapter.host().map(|n| n as u16);
        [body.nr_tx_slots, body.nr_rx_slots] = adapter.slots();
        (body.nr_offset, body.nr_memsize, body.nr_mem_id) = (nifp as u64, memory.bytes() as u64, memory.id);
        let tx_poll = body.nr_flags & u64::from(sys::NR_NO_TX_POLL) == 0;
        let bound = Bound { adapter: at, nifp, nifp_bytes, ranges, exclusive, tx_poll };
        self.opens.entry(identity).and_modify(|open| open.bound = Some(bound));
        Ok(())
    }

    /// The adapter of that name: a NIC that exists, or a VALE port or pipe that is made.
    fn adapter(&mut self, name: &str, wanted: Option<usize>, body: &nmreq_register) -> Result<usize, i32> {
        if let Some(at) = self.find(name) {
            let adapter = &mut self.adapters[at];
            if adapter.kind == (Kind::Nic { native: false })
                && self.system.adapter_mode == AdapterMode::Native
            {
                return Err(libc::EOPNOTSUPP);
            }
            if let (0, Some(memory), Kind::Nic { .. }) = (adapter.opens, wanted, &adapter.kind) {
                adapter.memory = memory;
            }
            return Ok(at);
        }
        let slots = [body.nr_tx_slots, body.nr_rx_slots].map(|n| if n < 2 { DEFAULT_SLOTS } else { n });
        if let Some(brace) = name.find(['{', '}']) {
            let (parent, id) = (&name[..brace], &name[brace + 1..]);
            let memory = match self.find(parent) {
                _ if parent.is_empty() => wanted.unwrap_or_else(|| self.private_memory()),
                Some(parent) => self.adapters[parent].memory,
                None => return Err(libc::ENXIO),
            };
            let master = self.adapters.len();
            let kind = |peer| Kind::Pipe { peer };
            self.add(&format!("{parent}{{{id}"), kind(master + 1), memory, [1, 1, 0, 0], slots);
            self.add(&format!("{parent}}}{id}"), kind(master), memory, [1, 1, 0, 0], [slots[RX], slots[TX]]);
            return self.find(name).ok_or(libc::ENXIO);
        }
        let Some((switch, _)) = name.split_once(':').filter(|_| name.starts_with("vale")) else {
            return Err(libc::ENXIO);
        };
        let memory = wanted.unwrap_or_else(|| self.private_memory());
        Ok(self.add(name, Kind::Vale { switch: switch.to_owned() }, memory, [1, 1, 0, 0], slots))
    }

    /// After a registration that failed half way.
    fn delete_unused(&mut self, at: usize) {
        let adapter = &mut self.adapters[at];
        if !matches!(adapter.kind, Kind::Pipe { .. }) {
            for ring in adapter.rings.iter_mut().flatten().filter(|ring| ring.users == 0) {
                let all: Vec<u32> = (0..ring.slots).collect();
                ring.delete(&mut self.memories[adapter.memory], &all);
            }
        }
    }

    fn create_rings(&mut self, at: usize, ranges: &[Range<usize>; 2]) -> Result<(), i32> {
        let memory = self.adapters[at].memory;
        for dir in [TX, RX] {
            for i in ranges[dir].clone() {
                let ring = &mut self.adapters[at].rings[dir][i];
                if ring.at.is_none() {
                    ring.create(&mut self.memories[memory], i as u16, false).ok_or(libc::ENOMEM)?;
                }
                if let Kind::Pipe { peer } = self.adapters[at].kind {
                    self.create_peer(at, peer, dir, i).ok_or(libc::ENOMEM)?;
                }
            }
        }
        Ok(())
    }

    /// A pipe's rings exist at both ends with the same buffers, slot by slot.
    fn create_peer(&mut self, at: usize, peer: usize, dir: usize, i: usize) -> Option<()> {
        let memory = &mut self.memories[self.adapters[at].memory];
        if self.adapters[peer].rings[1 - dir][i].at.is_some() {
            return Some(());
        }
        let own = self.adapters[at].rings[dir][i].at?;
        let other = &mut self.adapters[peer].rings[1 - dir][i];
        other.create(memory, i as u16, true)?;
        let there = other.at?;
        for k in 0..other.slots {
            memory.set_slot(there, k, memory.slot(own, k));
        }
        Some(())
    }

    fn create_interface(&mut self, at: usize, ranges: &[Range<usize>; 2]) -> Option<(usize, usize)> {
        let adapter = &self.adapters[at];
        let host = adapter.host().map(|n| n.max(1));
        let counts = [adapter.own[TX], host[TX], adapter.own[RX], host[RX]];
        let mut offsets = Vec::new();
        for dir in [TX, RX] {
            for i in 0..(adapter.own[dir] + host[dir]) as usize {
                let bound = ranges[dir].contains(&i).then(|| adapter.rings[dir][i].at).flatten();
                offsets.push(bound.unwrap_or(0));
            }
        }
        let nifp = self.memories[adapter.memory].interface(&adapter.name, counts, &offsets)?;
        Some((nifp, interface_bytes(offsets.len())))
    }

    fn unregister(&mut self, bound: &Bound) {
        let at = bound.adapter;
        let adapter = &mut self.adapters[at];
        let memory = &mut self.memories[adapter.memory];
        adapter.opens -= 1;
        for dir in [TX, RX] {
            for ring in &mut adapter.rings[dir][bound.ranges[dir].clone()] {
                ring.users -= 1;
                ring.exclusive &= !bound.exclusive;
                if ring.users == 0 && !matches!(adapter.kind, Kind::Pipe { .. }) {
                    let all: Vec<u32> = (0..ring.slots).collect();
                    ring.delete(memory, &all);
                }
            }
        }
        memory.extra_free(bound.nifp);
        memory.object_free(bound.nifp, bound.nifp_bytes);
        let idle = adapter.opens == 0;
        if let Kind::Pipe { peer } = adapter.kind
            && idle
            && self.adapters[peer].opens == 0
        {
            self.delete_pipe([at, peer]);
        }
    }

    /// Both ends are gone: each buffer is in exactly one slot of the program's part of some ring.
    fn delete_pipe(&mut self, ends: [usize; 2]) {
        for at in ends {
            let memory = &mut self.memories[self.adapters[at].memory];
            for ring in self.adapters[at].rings.iter_mut().flatten() {
                // What is the kernel's here is in the program's part at the other end; the slot that a transmit ring
                // never uses is in no such part.
                let (from, to) = if ring.transmit {
                    (ring.hwcur, ring.next(ring.pipe_tail))
                } else {
                    (ring.hwcur, ring.pipe_tail)
                };
                let mut slots = ring.range(from, to);
                if ring.transmit && from == to {
                    slots = (0..ring.slots).collect();
                }
                ring.delete(memory, &slots);
            }
        }
    }

    // --- syncing

    pub(super) fn sync(&mut self, identity: u64, transmit: bool) -> Result<(), i32> {
        let bound = self.opens.get(&identity).ok_or(libc::EBADF)?.bound.clone().ok_or(libc::ENXIO)?;
        if self.adapters[bound.adapter].faults.stopped {
            return Err(libc::EIO);
        }
        let dir = if transmit { TX } else { RX };
        for i in bound.ranges[dir].clone() {
            let _ = self.sync_ring(bound.adapter, dir, i);
        }
        Ok(())
    }

    fn sync_ring(&mut self, at: usize, dir: usize, i: usize) -> Result<(), Damaged> {
        let adapter = &mut self.adapters[at];
        let memory = &self.memories[adapter.memory];
        let ring = &mut adapter.rings[dir][i];
        let mut outcome = ring.prologue(memory);
        if outcome.is_err() {
            self.damaged += 1;
            ring.reinit(memory);
            // A receive ring is synced all the same.
            if dir == TX {
                return outcome;
            }
        }
        let synced = match adapter.kind.clone() {
            Kind::Nic { .. } if dir == TX => wire::nic_tx(ring, memory, &adapter.faults),
            Kind::Nic { .. } => wire::nic_rx(ring, memory, &mut adapter.faults),
            Kind::Vale { .. } if dir == RX => wire::vale_rx(ring, memory),
            Kind::Vale { switch } => {
                let frames = wire::vale_tx(ring, memory);
                self.switch(at, &switch, &frames);
                Ok(())
            }
            Kind::Pipe { peer } => {
                self.pipe(at, peer, dir, i);
                Ok(())
            }
        };
        if synced.is_err() {
            self.damaged += 1;
            outcome = synced;
        } else {
            let adapter = &mut self.adapters[at];
            adapter.rings[dir][i].finalize(&self.memories[adapter.memory]);
        }
        outcome
    }

    fn pipe(&mut self, at: usize, peer: usize, dir: usize, i: usize) {
        let memory = &self.memories[self.adapters[at].memory];
        let Ok([own, other]) = self.adapters.get_disjoint_mut([at, peer]) else { return };
        let (own, other) = (&mut own.rings[dir][i], &mut other.rings[1 - dir][i]);
        if dir == TX { wire::pipe_tx(own, other, memory) } else { wire::pipe_rx(own, other, memory) }
    }

    /// A learning switch: to the port that sent from the destination address, else to all others.
    fn switch(&mut self, from: usize, switch: &str, frames: &[Vec<u8>]) {
        let address =
            |frame: &[u8], at: usize| frame.get(at..at + 6).and_then(|a| <[u8; 6]>::try_from(a).ok());
        let on_it = |adapter: &Adapter| matches!(&adapter.kind, Kind::Vale { switch: s } if s == switch);
        for frame in frames {
            if let Some(source) = address(frame, 6) {
                for adapter in &mut self.adapters {
                    adapter.learned.retain(|a| *a != source);
                }
                self.adapters[from].learned.push(source);
            }
            let known = address(frame, 0)
                .and_then(|to| self.adapters.iter().position(|a| on_it(a) && a.learned.contains(&to)));
            for (at, adapter) in self.adapters.iter_mut().enumerate() {
                if at != from && on_it(adapter) && known.is_none_or(|known| known == at) {
                    wire::vale_deliver(&mut adapter.rings[RX][0], &self.memories[adapter.memory], frame);
                }
            }
        }
    }

    /// One round of `netmap_poll`.
    pub(super) fn poll(&mut self, identity: u64, interest: Interest) -> Ready {
        let mut ready = Ready::default();
        let Some(bound) = self.opens.get(&identity).and_then(|open| open.bound.clone()) else {
            return Ready { error: true, ..ready };
        };
        let at = bound.adapter;
        if self.adapters[at].faults.stopped {
            return Ready { error: true, ..ready };
        }
        for (dir, wanted) in [(TX, interest.write), (RX, interest.read)] {
            let flushes = dir == TX && bound.tx_poll;
            if !(wanted || flushes) {
                continue;
            }
            let mut found = false;
            for i in bound.ranges[dir].clone() {
                let ring = &self.adapters[at].rings[dir][i];
                let memory = &self.memories[self.adapters[at].memory];
                let unsent = ring.at.is_some_and(|offset| memory.pointers(offset)[0] != ring.hwcur);
                if dir == TX && !unsent && (!wanted || found) {
                    continue;
                }
                ready.error |= self.sync_ring(at, dir, i).is_err();
                let ring = &self.adapters[at].rings[dir][i];
                found |= ring.rcur != ring.rtail;
            }
            let side = if dir == TX { &mut ready.write } else { &mut ready.read };
            *side = wanted && found;
        }
        ready
    }
}

/// Whether all writing ends of the pipe are closed.
fn hung_up(read: &OwnedFd) -> bool {
    let mut fd = libc::pollfd { fd: read.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one entry, valid for reading and writing; no waiting.
    let rc = unsafe { libc::poll(&raw mut fd, 1, 0) };
    rc > 0 && fd.revents & libc::POLLHUP != 0
}
