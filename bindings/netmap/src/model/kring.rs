//! The kernel's side of one ring, and the checks that netmap makes on what the program says.

use l4sd_netmap_sys as sys;

use super::memory::Memory;
use crate::ring::SlotInfo;

/// What the kernel knows of a ring. `slots` - 1 at most are in use.
#[derive(Debug)]
pub(super) struct Kring {
    /// Offset of the ring in the memory; none while nobody needs it.
    pub(super) at: Option<usize>,
    pub(super) transmit: bool,
    pub(super) slots: u32,
    pub(super) hwcur: u32,
    pub(super) hwtail: u32,
    pub(super) rhead: u32,
    pub(super) rcur: u32,
    pub(super) rtail: u32,
    pub(super) pipe_tail: u32,
    pub(super) users: u32,
    pub(super) exclusive: bool,
    pub(super) wire: Wire,
}

/// The NIC behind a ring: where its descriptors point, and what waits.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// The buffer that descriptor k reads or writes: reloaded only for slots with NS_BUF_CHANGED.
    pub(super) dma: Vec<u32>,
    /// Length of descriptor k, and whether the frame goes on.
    pub(super) desc: Vec<(u16, bool)>,
    /// Receive: the next descriptor to fill. Transmit: the next to send.
    pub(super) next: u32,
    /// Whether the NIC says that it has sent descriptor k.
    pub(super) report: Vec<bool>,
    /// Transmit: the next descriptor of which it is not known that it was sent.
    pub(super) reported: u32,
    pub(super) out: Vec<Vec<u8>>,
    pub(super) partial: Vec<u8>,
    pub(super) missed: u64,
}

/// The program's `head` or `cur` made no sense.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) struct Damaged;

impl Kring {
    pub(super) fn new(transmit: bool, slots: u32) -> Self {
        let tail = if transmit { slots - 1 } else { 0 };
        Self {
            at: None,
            transmit,
            slots,
            hwcur: 0,
            hwtail: tail,
            rhead: 0,
            rcur: 0,
            rtail: tail,
            pipe_tail: tail,
            users: 0,
            exclusive: false,
            wire: Wire::default(),
        }
    }

    pub(super) fn next(&self, k: u32) -> u32 {
        sys::ring_next(self.slots, k)
    }

    pub(super) fn prev(&self, k: u32) -> u32 {
        if k == 0 { self.slots - 1 } else { k - 1 }
    }

    /// Puts the ring into memory, with its buffers unless `fake`.
    pub(super) fn create(&mut self, memory: &mut Memory, id: u16, fake: bool) -> Option<()> {
        let at = memory.ring(self.slots, id, !self.transmit, fake)?;
        *self = Self { users: self.users, exclusive: self.exclusive, ..Self::new(self.transmit, self.slots) };
        memory.set_pointers(at, [self.rhead, self.rcur, self.rtail]);
        self.at = Some(at);
        self.wire.dma = (0..self.slots).map(|k| memory.slot(at, k).index).collect();
        self.wire.desc = vec![(0, false); self.slots as usize];
        self.wire.report = vec![false; self.slots as usize];
        Some(())
    }

    /// `nm_txsync_prologue`, `nm_rxsync_prologue`.
    pub(super) fn prologue(&mut self, memory: &Memory) -> Result<(), Damaged> {
        let Some(at) = self.at else { return Ok(()) };
        let [head, cur, tail] = memory.pointers(at);
        let (first, last) = if self.transmit { (self.rhead, self.rtail) } else { (self.hwcur, self.hwtail) };
        if !self.transmit {
            (self.rcur, self.rhead) = (cur, head);
        }
        // first <= head <= cur <= last, round the ring.
        let inside = |x: u32| x < self.slots;
        let way = |to: u32| sys::ring_space(self.slots, first, to);
        if !inside(head)
            || !inside(cur)
            || way(head) > way(last)
            || way(cur) > way(last)
            || way(cur) < way(head)
        {
            return Err(Damaged);
        }
        if tail != self.rtail {
            memory.set_tail(at, self.rtail);
        }
        (self.rcur, self.rhead) = (cur, head);
        Ok(())
    }

    /// `netmap_ring_reinit`: takes over what the program said, mends slots, and goes back to the kernel's own state only if
    /// a pointer is outside the ring.
    pub(super) fn reinit(&mut self, memory: &Memory) {
        let Some(at) = self.at else { return };
        let pointers = memory.pointers(at);
        [self.rhead, self.rcur, self.rtail] = pointers;
        for k in 0..self.slots {
            let slot = memory.slot(at, k);
            if !memory.valid(slot.index) {
                memory.set_slot(at, k, SlotInfo { index: 0, len: 0, ..slot });
            } else if u32::from(slot.len) > memory.buffer_size {
                memory.set_slot(at, k, SlotInfo { len: 0, ..slot });
            }
        }
        if pointers.iter().any(|p| *p >= self.slots) {
            (self.rhead, self.rcur, self.rtail) = (self.hwcur, self.hwcur, self.hwtail);
            memory.set_pointers(at, [self.hwcur, self.hwcur, self.hwtail]);
        }
    }

    /// `nm_sync_finalize`.
    pub(super) fn finalize(&mut self, memory: &Memory) {
        self.rtail = self.hwtail;
        if let Some(at) = self.at {
            memory.set_tail(at, self.rtail);
        }
    }

    /// Slots in [from, to).
    pub(super) fn range(&self, from: u32, to: u32) -> Vec<u32> {
        let count = sys::ring_space(self.slots, from, to);
        (0..count).map(|i| (from + i) % self.slots).collect()
    }

    /// Frees the ring with the buffers in `slots`.
    pub(super) fn delete(&mut self, memory: &mut Memory, slots: &[u32]) {
        let Some(at) = self.at.take() else { return };
        for k in slots {
            memory.buffer_free(memory.slot(at, *k).index);
        }
        memory.object_free(at, super::memory::ring_bytes(self.slots));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The conditions of netmap's two prologues, case by case.
    fn accepted(first: u32, last: u32, head: u32, cur: u32) -> bool {
        if last >= first {
            first <= head && head <= last && head <= cur && cur <= last
        } else if head > last && head < first {
            false
        } else if head <= last {
            head <= cur && cur <= last
        } else {
            !(cur > last && cur < head)
        }
    }

    #[test]
    fn head_and_cur_are_taken_exactly_where_netmap_takes_them() {
        const N: u32 = 5;
        let mut memory = Memory::new(9, false, 64, 2048).unwrap();
        for transmit in [true, false] {
            let mut ring = Kring::new(transmit, N);
            ring.create(&mut memory, 0, false).unwrap();
            let at = ring.at.unwrap();
            for case in 0..N.pow(4) {
                let [first, last, head, cur] = [case % N, case / N % N, case / N.pow(2) % N, case / N.pow(3)];
                (ring.rhead, ring.rtail, ring.hwcur, ring.hwtail) = (first, last, first, last);
                memory.set_pointers(at, [head, cur, last]);
                let taken = ring.prologue(&memory).is_ok();
                assert_eq!(taken, accepted(first, last, head, cur), "{first} {last} {head} {cur}");
            }
            (ring.rhead, ring.rtail, ring.hwcur, ring.hwtail) = (1, 3, 1, 3);
            for [head, cur] in [[N, 3], [1, N], [u32::MAX, u32::MAX]] {
                memory.set_pointers(at, [head, cur, 3]);
                assert_eq!(ring.prologue(&memory), Err(Damaged));
            }
        }
    }
}
