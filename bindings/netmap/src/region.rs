//! A memory region of netmap and the buffers in it. Must not know of rings.
//!
//! [`Region::held`] remembers which buffers are out as tokens, so that an index that the shared memory names twice
//! never becomes two tokens of one process.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use l4sd_netmap_sys::FIRST_BUFFER;

use crate::mapping::Mapping;

/// An owned buffer of a [`Region`]: 8 bytes, neither `Clone` nor `Copy`. Ends in a slot, or in [`crate::Port::close`];
/// a dropped one is lost until its last port closes.
#[must_use = "a dropped buffer is lost"]
#[derive(Eq, PartialEq)]
pub struct Buffer {
    index: u32,
    region: u32,
}

impl Buffer {
    /// The index that slots carry, at least 2.
    #[inline]
    pub fn index(&self) -> u32 {
        self.index
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({})", self.index)
    }
}

/// What is wrong with an index in a slot.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SlotFault {
    /// Below 2 or behind the last buffer.
    #[error("there is no buffer {0}")]
    OutOfRange(u32),
    /// This process holds the buffer already.
    #[error("buffer {0} is in a slot and elsewhere")]
    Duplicate(u32),
}

/// Mapped memory that one or more ports share. Buffers move between ports of the same region without a copy.
pub struct Region {
    map: Mapping,
    mem_id: u16,
    /// Tells tokens of different regions apart.
    tag: u32,
    buffers_at: usize,
    buffer_size: u32,
    held: Box<[AtomicBool]>,
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region {{ mem_id: {}, buffers: {} x {} }}", self.mem_id, self.held.len(), self.buffer_size)
    }
}

impl Region {
    /// `buffers_at`: offset of buffer 0. None if not one buffer fits.
    pub(crate) fn new(map: Mapping, mem_id: u16, buffers_at: usize, buffer_size: u32) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let count = map.len().checked_sub(buffers_at)?.checked_div(buffer_size as usize)?;
        let count = u32::try_from(count).ok().filter(|count| *count > FIRST_BUFFER)?;
        let tag = NEXT.fetch_add(1, Ordering::Relaxed);
        let held = (0..count).map(|_| AtomicBool::new(false)).collect();
        Some(Self { map, mem_id, tag, buffers_at, buffer_size, held })
    }

    /// netmap's number of the region; 1 is the one that NICs and their host rings share.
    pub fn mem_id(&self) -> u16 {
        self.mem_id
    }

    /// Bytes in a buffer.
    #[inline]
    pub fn buffer_size(&self) -> u32 {
        self.buffer_size
    }

    /// One more than the largest index; most of the buffers belong to others.
    pub fn index_end(&self) -> u32 {
        self.held.len() as u32
    }

    /// How many tokens are out. Walks over all indices: for tests and reports.
    pub fn tokens(&self) -> usize {
        self.held.iter().filter(|held| held.load(Ordering::Relaxed)).count()
    }

    /// The first `len` bytes of a buffer; fewer if the buffer is shorter.
    ///
    /// # Panics
    /// If the buffer is of another region.
    #[inline]
    pub fn bytes<'a>(&'a self, buffer: &'a Buffer, len: usize) -> &'a [u8] {
        let (start, len) = self.range(buffer, len);
        // SAFETY: `range` is inside the mapping, which lives as long as `self`. The token is the only one of this
        // process for this buffer and is borrowed; a buffer outside of all rings is nobody else's.
        unsafe { core::slice::from_raw_parts(self.map.start().add(start).as_ptr(), len) }
    }

    /// The first `len` bytes of a buffer, to change; fewer if the buffer is shorter.
    ///
    /// # Panics
    /// If the buffer is of another region.
    #[inline]
    pub fn bytes_mut<'a>(&'a self, buffer: &'a mut Buffer, len: usize) -> &'a mut [u8] {
        let (start, len) = self.range(buffer, len);
        // SAFETY: as in `bytes`; the exclusive borrow of the only token makes the slice exclusive.
        unsafe { core::slice::from_raw_parts_mut(self.map.start().add(start).as_ptr(), len) }
    }

    /// The token for an index that was in a slot or in the chain of extra buffers and is there no longer.
    #[inline]
    pub(crate) fn mint(&self, index: u32) -> Result<Buffer, SlotFault> {
        let out_of_range = SlotFault::OutOfRange(index);
        if index < FIRST_BUFFER {
            return Err(out_of_range);
        }
        let held = self.held.get(index as usize).ok_or(out_of_range)?;
        // Not one atomic operation, which would cost as much as the rest of a receive: a kernel that gives one index
        // to two threads in the same instant is not caught.
        if held.load(Ordering::Relaxed) {
            return Err(SlotFault::Duplicate(index));
        }
        held.store(true, Ordering::Relaxed);
        Ok(Buffer { index, region: self.tag })
    }

    /// Takes a token whose index goes into a slot or into the chain.
    #[inline]
    pub(crate) fn surrender(&self, buffer: Buffer) -> u32 {
        self.check(&buffer);
        self.release(buffer)
    }

    /// The same for a buffer that was checked.
    #[inline]
    #[expect(clippy::needless_pass_by_value, reason = "taking the token is the point")]
    pub(crate) fn release(&self, buffer: Buffer) -> u32 {
        self.held[buffer.index() as usize].store(false, Ordering::Relaxed);
        buffer.index()
    }

    #[inline]
    pub(crate) fn check(&self, buffer: &Buffer) {
        assert!(buffer.region == self.tag, "a buffer of another region");
    }

    pub(crate) fn map(&self) -> &Mapping {
        &self.map
    }

    /// Offset in the mapping of a buffer that a slot names, if there is one of that index and no token of it is out.
    pub(crate) fn buffer_offset(&self, index: u32) -> Option<usize> {
        let free = index >= FIRST_BUFFER && !self.held.get(index as usize)?.load(Ordering::Relaxed);
        free.then(|| self.buffers_at + index as usize * self.buffer_size as usize)
    }

    pub(crate) fn buffers_at(&self) -> usize {
        self.buffers_at
    }

    #[inline]
    fn range(&self, buffer: &Buffer, len: usize) -> (usize, usize) {
        self.check(buffer);
        // Inside the mapping, which `new` saw: `mint` makes no token of an index that is not.
        let start =
            self.buffers_at.wrapping_add((buffer.index() as usize).wrapping_mul(self.buffer_size as usize));
        (start, len.min(self.buffer_size as usize))
    }
}
