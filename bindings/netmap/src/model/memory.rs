//! One memory region: a memfd laid out as netmap does, interface structures, then rings, then buffers.

use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use l4sd_netmap_sys as sys;
use sys::{netmap_if, netmap_ring, netmap_slot};

use crate::mapping::Mapping;
use crate::ring::SlotInfo;

const OBJECT_ALIGN: usize = 128;

/// A region, in the kernel's own mapping.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) id: u16,
    pub(super) private: bool,
    pub(super) buffer_size: u32,
    pub(super) buffers: u32,
    fd: OwnedFd,
    map: Mapping,
    objects_end: usize,
    returned: HashMap<usize, Vec<usize>>,
    buffers_at: usize,
    free: Vec<u32>,
    is_free: Vec<bool>,
    /// Buffers that were freed while free.
    pub(super) freed_twice: Vec<u32>,
}

fn memfd(bytes: usize) -> io::Result<OwnedFd> {
    // SAFETY: a constant C string.
    let fd = unsafe { libc::memfd_create(c"netmap-model".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just returned by the kernel and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: no pointers.
    let rc = unsafe { libc::ftruncate(fd.as_raw_fd(), bytes.cast_signed() as libc::off_t) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

impl Memory {
    pub(super) fn new(id: u16, private: bool, buffers: u32, buffer_size: u32) -> io::Result<Self> {
        let buffers_at = 2 << 20;
        let bytes = buffers_at + buffers as usize * buffer_size as usize;
        let fd = memfd(bytes)?;
        let map = Mapping::shared(fd.as_fd(), bytes)?;
        let is_free = (0..buffers).map(|i| i >= sys::FIRST_BUFFER).collect();
        let free = (sys::FIRST_BUFFER..buffers).rev().collect();
        Ok(Self {
            id,
            private,
            buffer_size,
            buffers,
            fd,
            map,
            // Nothing at offset 0: it stands for "no ring".
            objects_end: OBJECT_ALIGN,
            returned: HashMap::new(),
            buffers_at,
            free,
            is_free,
            freed_twice: Vec::new(),
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.map.len()
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn free_buffers(&self) -> usize {
        self.free.len()
    }

    fn at(&self, offset: usize, len: usize, align: usize) -> NonNull<u8> {
        self.map.at(offset, len, align).expect("the model stays inside its memory")
    }

    pub(super) fn read32(&self, offset: usize) -> u32 {
        // SAFETY: an aligned word inside the mapping.
        unsafe { AtomicU32::from_ptr(self.at(offset, 4, 4).cast().as_ptr()) }.load(Ordering::Acquire)
    }

    pub(super) fn write32(&self, offset: usize, value: u32) {
        // SAFETY: an aligned word inside the mapping.
        unsafe { AtomicU32::from_ptr(self.at(offset, 4, 4).cast().as_ptr()) }.store(value, Ordering::Release);
    }

    fn half(&self, offset: usize) -> &AtomicU16 {
        // SAFETY: an aligned half word inside the mapping.
        unsafe { AtomicU16::from_ptr(self.at(offset, 2, 2).cast().as_ptr()) }
    }

    pub(super) fn write(&self, offset: usize, bytes: &[u8]) {
        let to = self.at(offset, bytes.len(), 1);
        // SAFETY: inside the mapping; `bytes` is ordinary memory, so they do not overlap.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
    }

    pub(super) fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        // SAFETY: inside the mapping; `bytes` is fresh memory.
        unsafe { core::ptr::copy_nonoverlapping(self.at(offset, len, 1).as_ptr(), bytes.as_mut_ptr(), len) };
        bytes
    }

    /// Room for a structure, zeroed.
    pub(super) fn object(&mut self, bytes: usize) -> Option<usize> {
        let bytes = bytes.next_multiple_of(OBJECT_ALIGN);
        let offset = match self.returned.get_mut(&bytes).and_then(Vec::pop) {
            Some(offset) => offset,
            None if self.objects_end + bytes <= self.buffers_at => {
                self.objects_end += bytes;
                self.objects_end - bytes
            }
            None => return None,
        };
        self.write(offset, &vec![0; bytes]);
        Some(offset)
    }

    pub(super) fn object_free(&mut self, offset: usize, bytes: usize) {
        self.returned.entry(bytes.next_multiple_of(OBJECT_ALIGN)).or_default().push(offset);
    }

    pub(super) fn buffer(&mut self) -> Option<u32> {
        let index = self.free.pop()?;
        self.is_free[index as usize] = false;
        Some(index)
    }

    pub(super) fn buffer_free(&mut self, index: u32) {
        if !self.valid(index) {
            return;
        }
        if self.is_free[index as usize] {
            self.freed_twice.push(index);
        } else {
            self.is_free[index as usize] = true;
            self.free.push(index);
        }
    }

    pub(super) fn valid(&self, index: u32) -> bool {
        (sys::FIRST_BUFFER..self.buffers).contains(&index)
    }

    pub(super) fn buffer_offset(&self, index: u32) -> usize {
        self.buffers_at + index as usize * self.buffer_size as usize
    }

    /// A ring of `slots` slots with buffers from the pool, or without (`fake`).
    pub(super) fn ring(&mut self, slots: u32, id: u16, receive: bool, fake: bool) -> Option<usize> {
        if !fake && self.free.len() < slots as usize {
            return None;
        }
        let offset = self.object(ring_bytes(slots))?;
        let buf_ofs = (self.buffers_at - offset).cast_signed() as i64;
        self.write(offset + offset_of!(netmap_ring, buf_ofs), &buf_ofs.to_ne_bytes());
        self.write32(offset + offset_of!(netmap_ring, num_slots), slots);
        self.write32(offset + offset_of!(netmap_ring, nr_buf_size), self.buffer_size);
        self.half(offset + offset_of!(netmap_ring, ringid)).store(id, Ordering::Relaxed);
        self.half(offset + offset_of!(netmap_ring, dir)).store(u16::from(receive), Ordering::Relaxed);
        for k in 0..slots {
            let index = if fake { 0 } else { self.buffer()? };
            self.set_slot(offset, k, SlotInfo { index, len: 0, flags: crate::SlotFlags::NONE });
        }
        Some(offset)
    }

    fn slot_at(ring: usize, k: u32) -> usize {
        ring + offset_of!(netmap_ring, slot) + k as usize * size_of::<netmap_slot>()
    }

    pub(super) fn slot(&self, ring: usize, k: u32) -> SlotInfo {
        let at = Self::slot_at(ring, k);
        SlotInfo {
            index: self.read32(at),
            len: self.half(at + offset_of!(netmap_slot, len)).load(Ordering::Relaxed),
            flags: crate::SlotFlags::from_bits(
                self.half(at + offset_of!(netmap_slot, flags)).load(Ordering::Relaxed),
            ),
        }
    }

    pub(super) fn set_slot(&self, ring: usize, k: u32, slot: SlotInfo) {
        let at = Self::slot_at(ring, k);
        self.half(at + offset_of!(netmap_slot, len)).store(slot.len, Ordering::Relaxed);
        self.half(at + offset_of!(netmap_slot, flags)).store(slot.flags.bits(), Ordering::Relaxed);
        self.write32(at, slot.index);
    }

    pub(super) fn pointers(&self, ring: usize) -> [u32; 3] {
        [offset_of!(netmap_ring, head), offset_of!(netmap_ring, cur), offset_of!(netmap_ring, tail)]
            .map(|field| self.read32(ring + field))
    }

    pub(super) fn set_pointers(&self, ring: usize, [head, cur, tail]: [u32; 3]) {
        self.write32(ring + offset_of!(netmap_ring, head), head);
        self.write32(ring + offset_of!(netmap_ring, cur), cur);
        self.set_tail(ring, tail);
    }

    pub(super) fn set_tail(&self, ring: usize, tail: u32) {
        self.write32(ring + offset_of!(netmap_ring, tail), tail);
    }

    /// An interface structure; `rings` are the offsets of all rings in the order of `ring_ofs`, 0 for one not bound.
    pub(super) fn interface(&mut self, name: &str, counts: [u32; 4], rings: &[usize]) -> Option<usize> {
        let offset = self.object(interface_bytes(rings.len()))?;
        let short = &name.as_bytes()[..name.len().min(15)];
        self.write(offset, short);
        let [tx, host_tx, rx, host_rx] = counts;
        self.write32(offset + offset_of!(netmap_if, ni_version), sys::NETMAP_API);
        self.write32(
            offset + offset_of!(netmap_if, ni_flags),
            if self.private { sys::NI_PRIV_MEM } else { 0 },
        );
        self.write32(offset + offset_of!(netmap_if, ni_tx_rings), tx);
        self.write32(offset + offset_of!(netmap_if, ni_rx_rings), rx);
        self.write32(offset + offset_of!(netmap_if, ni_host_tx_rings), host_tx);
        self.write32(offset + offset_of!(netmap_if, ni_host_rx_rings), host_rx);
        for (i, ring) in rings.iter().enumerate() {
            let relative = if *ring == 0 { 0 } else { ring.wrapping_sub(offset).cast_signed() };
            self.write(offset + offset_of!(netmap_if, ring_ofs) + 8 * i, &relative.to_ne_bytes());
        }
        Some(offset)
    }

    /// Chains up to `count` buffers at the interface structure; returns how many there were.
    pub(super) fn extra_alloc(&mut self, nifp: usize, count: u32) -> u32 {
        let (mut head, mut granted) = (0, 0);
        while granted < count {
            let Some(index) = self.buffer() else { break };
            self.write32(self.buffer_offset(index), head);
            head = index;
            granted += 1;
        }
        self.write32(nifp + offset_of!(netmap_if, ni_bufs_head), head);
        granted
    }

    pub(super) fn extra_free(&mut self, nifp: usize) {
        let mut head = self.read32(nifp + offset_of!(netmap_if, ni_bufs_head));
        while self.valid(head) {
            let index = head;
            head = self.read32(self.buffer_offset(index));
            self.write32(self.buffer_offset(index), 0);
            let twice = self.freed_twice.len();
            self.buffer_free(index);
            if self.freed_twice.len() > twice {
                break;
            }
        }
    }
}

pub(super) const fn ring_bytes(slots: u32) -> usize {
    size_of::<netmap_ring>() + slots as usize * size_of::<netmap_slot>()
}

pub(super) const fn interface_bytes(rings: usize) -> usize {
    size_of::<netmap_if>() + rings * size_of::<isize>()
}
