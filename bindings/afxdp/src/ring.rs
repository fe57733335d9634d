//! One single-producer, single-consumer ring shared with the kernel. Must not know what its entries mean.
//!
//! The producer's index is published with release and read with acquire, the consumer's likewise, so an entry is
//! written before it is seen and read before it is overwritten. Each end keeps a copy of the other's index and looks
//! again only when the copy says full or empty.

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use std::io;
use std::os::fd::BorrowedFd;

use crate::abi::{Desc, RingOffset, XDP_RING_NEED_WAKEUP};
use crate::mmap::Mmap;

/// What a ring may hold: plain integers, any bytes of which are a value.
pub(crate) trait Entry: Copy {}
impl Entry for u64 {}
impl Entry for Desc {}

/// The memory of a ring and where things are in it.
#[derive(Debug)]
struct Shared<T> {
    _map: Mmap,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    mask: u32,
}

// SAFETY: the pointers point into the mapping that travels with them; the entries are plain integers.
unsafe impl<T: Entry> Send for Shared<T> {}

impl<T: Entry> Shared<T> {
    /// A ring of `size` entries (a power of two) in `map`, laid out as `at` says.
    fn new(map: Mmap, at: RingOffset, size: u32) -> io::Result<Self> {
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        let end = at.desc as usize + size as usize * size_of::<T>();
        let words = [at.producer, at.consumer, at.flags];
        let fits = words.iter().all(|o| *o as usize + 4 <= map.len() && o % 4 == 0) && end <= map.len();
        if !fits || !size.is_power_of_two() || !(at.desc as usize).is_multiple_of(align_of::<T>()) {
            return Err(bad());
        }
        let pointer = |offset: u64| {
            // SAFETY: `offset` was just checked to be inside the mapping.
            unsafe { map.start().add(offset as usize) }
        };
        let (producer, consumer) = (pointer(at.producer).cast(), pointer(at.consumer).cast());
        let (flags, entries) = (pointer(at.flags).cast(), pointer(at.desc).cast());
        Ok(Self { _map: map, producer, consumer, flags, entries, mask: size - 1 })
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: an aligned word inside the mapping; both sides only access it atomically.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as for `producer`.
        unsafe { self.consumer.as_ref() }
    }

    fn needs_wakeup(&self) -> bool {
        // SAFETY: as for `producer`.
        unsafe { self.flags.as_ref() }.load(Ordering::Relaxed) & XDP_RING_NEED_WAKEUP != 0
    }

    fn slot(&self, index: u32) -> NonNull<T> {
        // SAFETY: `index & mask` is below the size that was checked to fit the mapping.
        unsafe { self.entries.add((index & self.mask) as usize) }
    }
}

fn map<T>(fd: BorrowedFd<'_>, at: RingOffset, size: u32, offset: i64) -> io::Result<Mmap> {
    Mmap::shared(fd, at.desc as usize + size as usize * size_of::<T>(), offset)
}

/// The end of a ring that this process fills: the fill ring and the transmit ring.
#[derive(Debug)]
pub(crate) struct Producer<T> {
    shared: Shared<T>,
    next: u32,
    published: u32,
    consumed: u32,
    entry: PhantomData<T>,
}

impl<T: Entry> Producer<T> {
    pub(crate) fn map(fd: BorrowedFd<'_>, at: RingOffset, size: u32, offset: i64) -> io::Result<Self> {
        Self::over(map::<T>(fd, at, size, offset)?, at, size)
    }

    fn over(memory: Mmap, at: RingOffset, size: u32) -> io::Result<Self> {
        let shared = Shared::new(memory, at, size)?;
        let next = shared.producer().load(Ordering::Relaxed);
        let consumed = shared.consumer().load(Ordering::Acquire);
        Ok(Self { shared, next, published: next, consumed, entry: PhantomData })
    }

    /// Free slots, as last seen.
    pub(crate) fn room(&self) -> usize {
        (self.shared.mask + 1 - self.next.wrapping_sub(self.consumed)) as usize
    }

    /// Looks how far the kernel has come; returns [`Self::room`].
    pub(crate) fn refresh(&mut self) -> usize {
        self.consumed = self.shared.consumer().load(Ordering::Acquire);
        self.room()
    }

    /// Entries that the kernel has not taken yet, looking now.
    pub(crate) fn untaken(&mut self) -> u32 {
        self.refresh();
        self.published.wrapping_sub(self.consumed)
    }

    /// Puts an entry into the next slot; it is seen after [`Self::publish`]. There must be room.
    pub(crate) fn push(&mut self, entry: T) {
        assert!(self.room() > 0, "the ring is full");
        // SAFETY: the slot is inside the mapping and, there being room, not in the kernel's hands.
        unsafe { self.shared.slot(self.next).write(entry) };
        self.next = self.next.wrapping_add(1);
    }

    /// Shows the kernel what was pushed. True if there was anything.
    pub(crate) fn publish(&mut self) -> bool {
        if self.next == self.published {
            return false;
        }
        self.shared.producer().store(self.next, Ordering::Release);
        self.published = self.next;
        true
    }

    /// Whether the kernel sleeps on this ring until told.
    pub(crate) fn needs_wakeup(&self) -> bool {
        self.shared.needs_wakeup()
    }
}

/// The end of a ring that this process empties: the receive ring and the completion ring.
#[derive(Debug)]
pub(crate) struct Consumer<T> {
    shared: Shared<T>,
    next: u32,
    released: u32,
    produced: u32,
    entry: PhantomData<T>,
}

impl<T: Entry> Consumer<T> {
    pub(crate) fn map(fd: BorrowedFd<'_>, at: RingOffset, size: u32, offset: i64) -> io::Result<Self> {
        Self::over(map::<T>(fd, at, size, offset)?, at, size)
    }

    fn over(memory: Mmap, at: RingOffset, size: u32) -> io::Result<Self> {
        let shared = Shared::new(memory, at, size)?;
        let next = shared.consumer().load(Ordering::Relaxed);
        Ok(Self { shared, next, released: next, produced: next, entry: PhantomData })
    }

    /// The oldest entry, if there is one. Its slot goes back with [`Self::release`].
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.next == self.produced {
            self.produced = self.shared.producer().load(Ordering::Acquire);
            if self.next == self.produced {
                return None;
            }
        }
        // SAFETY: the slot is inside the mapping and the kernel wrote it before it published its index.
        let entry = unsafe { self.shared.slot(self.next).read() };
        self.next = self.next.wrapping_add(1);
        Some(entry)
    }

    /// Gives the slots of popped entries back to the kernel.
    pub(crate) fn release(&mut self) {
        if self.next != self.released {
            self.shared.consumer().store(self.next, Ordering::Release);
            self.released = self.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const AT: RingOffset = RingOffset { producer: 0, consumer: 64, desc: 192, flags: 128 };

    /// Both ends over one piece of ordinary memory; the second mapping's destructor is skipped.
    fn pair(size: u32, start: u32) -> (Producer<u64>, core::mem::ManuallyDrop<Consumer<u64>>) {
        let memory = Mmap::anonymous(192 + size as usize * 8).unwrap();
        // SAFETY: a bitwise copy that is never dropped, while the original outlives the test's use of it.
        let alias = unsafe { core::ptr::read(&raw const memory) };
        let shared = Shared::<u64>::new(memory, AT, size).unwrap();
        shared.producer().store(start, Ordering::Relaxed);
        shared.consumer().store(start, Ordering::Relaxed);
        let Shared { _map: memory, .. } = shared;
        (
            Producer::over(memory, AT, size).unwrap(),
            core::mem::ManuallyDrop::new(Consumer::over(alias, AT, size).unwrap()),
        )
    }

    #[test]
    fn behaves_as_a_bounded_queue_across_the_wrap_of_its_indices() {
        let (mut p, mut c) = pair(8, u32::MAX - 20);
        let (mut oracle, mut value, mut state) = (VecDeque::new(), 0, 1_u32);
        for _ in 0..10_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            for _ in 0..state >> 29 {
                if p.refresh() > 0 {
                    p.push(value);
                    oracle.push_back(value);
                    value += 1;
                }
                assert!(p.room() + oracle.len() <= 8);
            }
            p.publish();
            for _ in 0..state >> 26 & 7 {
                assert_eq!(c.pop(), oracle.pop_front());
            }
            c.release();
            assert_eq!(p.refresh(), 8 - oracle.len());
        }
        assert!(value > 5_000);
    }

    #[test]
    fn nothing_is_seen_before_it_is_published_nor_overwritten_before_it_is_released() {
        let (mut p, mut c) = pair(2, 0);
        p.push(1);
        p.push(2);
        assert_eq!(c.pop(), None);
        assert!(p.publish() && !p.publish());
        assert_eq!((c.pop(), c.pop()), (Some(1), Some(2)));
        assert_eq!(p.refresh(), 0);
        c.release();
        assert_eq!((p.refresh(), p.untaken()), (2, 0));
    }

    #[test]
    fn a_layout_that_leaves_the_mapping_is_refused() {
        let memory = Mmap::anonymous(4096).unwrap();
        assert!(Producer::<u64>::over(memory, RingOffset { desc: 4096 - 8, ..AT }, 2).is_err());
    }
}
