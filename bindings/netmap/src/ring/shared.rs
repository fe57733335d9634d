//! Access to one ring in shared memory. All of it is atomic; every store first passes the crash hook.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, AtomicU32, Ordering, fence};
use std::sync::Arc;

use l4sd_netmap_sys as sys;
use sys::{netmap_ring, netmap_slot};

use super::{RingId, SlotFlags, SlotInfo};
use crate::region::Region;

/// Where a ring is, checked against the mapping once.
#[derive(Debug)]
pub(crate) struct Shared {
    region: Arc<Region>,
    ring: NonNull<netmap_ring>,
    slots: u32,
    id: RingId,
}

// SAFETY: the pointer leads into the mapping that `region` keeps alive; all access is atomic.
unsafe impl Send for Shared {}

#[inline(always)]
fn before_store() {
    #[cfg(any(test, feature = "crash"))]
    crate::crash::before_store();
}

macro_rules! word {
    ($name:ident) => {
        fn $name(&self) -> &AtomicU32 {
            // SAFETY: the header is inside the mapping and aligned (checked in `new`); both sides access the word as
            // a whole.
            unsafe { AtomicU32::from_ptr(&raw mut (*self.ring.as_ptr()).$name) }
        }
    };
}

impl Shared {
    /// The ring at `offset` of the region's mapping. What does not fit is said.
    pub(crate) fn new(region: Arc<Region>, offset: usize, id: RingId) -> Result<Self, String> {
        let header = RingHeader::read(region.map(), offset).ok_or_else(|| format!("{id} is outside it"))?;
        let bytes = size_of::<netmap_ring>() + header.slots as usize * size_of::<netmap_slot>();
        let start = region.map().at(offset, bytes, align_of::<netmap_slot>());
        let start = start.ok_or_else(|| format!("{id} with {} slots is outside it", header.slots))?;
        if header.buffers_at(offset) != Some(region.buffers_at())
            || header.buffer_size != region.buffer_size()
        {
            return Err(format!("{id} has its buffers elsewhere than the other rings"));
        }
        if header.offset_mask != 0 {
            return Err(format!(
                "{id} was opened with packet offsets (NETMAP_REQ_OPT_OFFSETS) by another program"
            ));
        }
        if header.slots < 2 {
            return Err(format!("{id} has {} slots", header.slots));
        }
        let shared = Self { region, ring: start.cast(), slots: header.slots, id };
        let (head, cur, tail) = (shared.read_head(), shared.read_cur(), shared.read_tail());
        if head >= shared.slots || cur >= shared.slots || tail >= shared.slots {
            return Err(format!("{id}: head {head}, cur {cur}, tail {tail} in {} slots", shared.slots));
        }
        Ok(shared)
    }

    word!(head);
    word!(cur);
    word!(tail);

    #[inline]
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    pub(crate) fn id(&self) -> RingId {
        self.id
    }

    #[inline]
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    #[inline]
    pub(crate) fn next(&self, index: u32) -> u32 {
        sys::ring_next(self.slots, index)
    }

    pub(crate) const fn prev(&self, index: u32) -> u32 {
        if index == 0 { self.slots - 1 } else { index - 1 }
    }

    /// `index` moved on by `by` slots, at most once round.
    pub(crate) fn ahead(&self, index: u32, by: u32) -> u32 {
        (index + by) % self.slots
    }

    #[inline]
    pub(crate) fn space(&self, head: u32, tail: u32) -> u32 {
        sys::ring_space(self.slots, head, tail)
    }

    pub(crate) fn read_head(&self) -> u32 {
        self.head().load(Ordering::Relaxed)
    }

    pub(crate) fn read_cur(&self) -> u32 {
        self.cur().load(Ordering::Relaxed)
    }

    /// The kernel's end. What it wrote into the slots before is seen after this. Clamped to the ring: a kernel that
    /// writes nonsense gets no access outside it.
    pub(crate) fn read_tail(&self) -> u32 {
        let tail = self.tail().load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        if tail < self.slots { tail } else { self.read_head().min(self.slots - 1) }
    }

    /// Shows the kernel how far the program has come; slots written before are seen before.
    pub(crate) fn publish(&self, head: u32, cur: u32) {
        fence(Ordering::Release);
        before_store();
        self.cur().store(cur, Ordering::Relaxed);
        fence(Ordering::Release);
        before_store();
        self.head().store(head, Ordering::Relaxed);
    }

    #[inline]
    fn slot(&self, at: u32) -> *mut netmap_slot {
        debug_assert!(at < self.slots);
        // SAFETY: callers pass an index below `slots`, and so many slots are inside the mapping.
        unsafe { sys::slot(self.ring.as_ptr(), at) }
    }

    #[inline]
    fn slot_index(&self, at: u32) -> &AtomicU32 {
        // SAFETY: an aligned word of a slot inside the mapping.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.slot(at)).buf_idx) }
    }

    #[inline]
    fn slot_len(&self, at: u32) -> &AtomicU16 {
        // SAFETY: an aligned half word of a slot inside the mapping.
        unsafe { AtomicU16::from_ptr(&raw mut (*self.slot(at)).len) }
    }

    #[inline]
    fn slot_flags(&self, at: u32) -> &AtomicU16 {
        // SAFETY: as above.
        unsafe { AtomicU16::from_ptr(&raw mut (*self.slot(at)).flags) }
    }

    #[inline]
    pub(crate) fn read_flags(&self, at: u32) -> SlotFlags {
        SlotFlags::from_bits(self.slot_flags(at).load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn read_index(&self, at: u32) -> u32 {
        self.slot_index(at).load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn read_slot(&self, at: u32) -> SlotInfo {
        SlotInfo {
            index: self.read_index(at),
            len: self.slot_len(at).load(Ordering::Relaxed),
            flags: self.read_flags(at),
        }
    }

    #[inline]
    pub(crate) fn store_index(&self, at: u32, index: u32) {
        before_store();
        // Release: the flags were written before, and a process that takes over must not see the index without them.
        self.slot_index(at).store(index, Ordering::Release);
    }

    #[inline]
    pub(crate) fn store_len(&self, at: u32, len: u16) {
        before_store();
        self.slot_len(at).store(len, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn store_flags(&self, at: u32, flags: SlotFlags) {
        before_store();
        self.slot_flags(at).store(flags.bits(), Ordering::Relaxed);
    }

    /// Where the bytes of a slot's buffer are, if its index is one.
    pub(crate) fn slot_buffer(&self, at: u32) -> Option<NonNull<u8>> {
        let index = self.slot_index(at).load(Ordering::Relaxed);
        let offset = self.region.buffer_offset(index)?;
        self.region.map().at(offset, self.region.buffer_size() as usize, 1)
    }
}

/// What a ring's header says about the layout.
#[derive(Copy, Clone, Debug)]
pub(crate) struct RingHeader {
    pub(crate) slots: u32,
    pub(crate) buffer_size: u32,
    buf_ofs: i64,
    offset_mask: u64,
}

impl RingHeader {
    pub(crate) fn read(map: &crate::mapping::Mapping, offset: usize) -> Option<Self> {
        let ring: NonNull<netmap_ring> =
            map.at(offset, size_of::<netmap_ring>(), align_of::<netmap_slot>())?.cast();
        let ring = ring.as_ptr();
        // SAFETY: a whole header inside the mapping, aligned for its integers (its own larger alignment is for cache
        // lines and not assumed: only raw fields are read); the kernel does not change these after registering.
        unsafe {
            Some(Self {
                slots: (&raw const (*ring).num_slots).read(),
                buffer_size: (&raw const (*ring).nr_buf_size).read(),
                buf_ofs: (&raw const (*ring).buf_ofs).read(),
                offset_mask: (&raw const (*ring).offset_mask).read(),
            })
        }
    }

    /// Offset of buffer 0 in the mapping, for the ring at `offset`.
    pub(crate) fn buffers_at(&self, offset: usize) -> Option<usize> {
        usize::try_from(i64::try_from(offset).ok()?.checked_add(self.buf_ofs)?).ok()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use core::sync::atomic::Ordering;

    use crate::model::{Model, NicConfig, TxMode};
    use crate::{Options, SlotFlags};

    /// 60, 70 and 80 bytes on their way: what is pending when the kernel gives back one, two, and more than it had,
    /// after which nothing comes back to be pending.
    #[test]
    fn what_is_pending_follows_the_tail_and_is_never_less_than_nothing() {
        let model = Model::default();
        let outside = model.nic("em0", NicConfig::default());
        outside.faults(|faults| faults.tx = TxMode::Manual);
        let mut port = model.netmap().open(&"em0".parse().unwrap(), &Options::default()).unwrap();
        for len in [60, 70, 80] {
            assert!(port.tx(0).put_copy(&vec![0; len], SlotFlags::NONE));
        }
        port.tx_sync().unwrap();
        let ring = port.tx(0);
        let (_, tail) = ring.head_and_tail();
        let mut given_back = |slots| {
            ring.shared().tail().store((tail + slots) % 16, Ordering::Relaxed);
            ring.refresh();
            ring.pending_bytes()
        };
        assert_eq!([0, 1, 1, 2, 5, 5].map(&mut given_back), [210, 150, 150, 80, 0, 0]);
    }
}
