//! A transmit ring.

use super::{RingId, Shared, SlotFlags};
use crate::region::Buffer;

/// A transmit ring. The program's slots are [head, tail): free, each with a buffer whose frame has left. Behind `tail`
/// are frames that were handed over and are not known to have left: a FIFO that no AQM sees.
#[derive(Debug)]
pub struct TxRing {
    shared: Shared,
    head: u32,
    tail: u32,
    published: u32,
    wake_after: u32,
    resets: u64,
    invalid: u64,
    /// By slot: bytes put until the last frame in it, that frame included; what is pending is the difference of two of them.
    until: Box<[u64]>,
    put_bytes: u64,
    left_bytes: u64,
}

impl TxRing {
    pub(crate) fn new(shared: Shared) -> Self {
        let (head, tail) = (shared.read_head(), shared.read_tail());
        let until = vec![0; shared.slots() as usize].into_boxed_slice();
        let mut ring = Self {
            shared,
            head,
            tail,
            published: head,
            wake_after: 0,
            resets: 0,
            invalid: 0,
            until,
            put_bytes: 0,
            left_bytes: 0,
        };
        ring.restart(head, tail);
        ring
    }

    /// Which ring this is.
    pub fn id(&self) -> RingId {
        self.shared.id()
    }

    /// Slots in the ring; one of them always stays free.
    pub fn slots(&self) -> u32 {
        self.shared.slots()
    }

    /// The first slot of the program, and the first of the kernel, as of the last sync.
    pub fn head_and_tail(&self) -> (u32, u32) {
        (self.head, self.tail)
    }

    /// How many frames [`TxRing::put`] will take, as of the last sync.
    #[inline]
    pub fn space(&self) -> u32 {
        self.shared.space(self.head, self.tail)
    }

    /// Whether [`TxRing::put`] would take none.
    #[inline]
    pub const fn is_full(&self) -> bool {
        l4sd_netmap_sys::ring_empty(self.head, self.tail)
    }

    /// Slots put and not known to have left, as of the last sync ([`crate::Port::tx_sync`] forces a look at the NIC).
    #[inline]
    pub fn pending_slots(&self) -> u32 {
        l4sd_netmap_sys::tx_pending(self.shared.slots(), self.head, self.tail)
    }

    /// Bytes of these slots.
    #[inline]
    pub fn pending_bytes(&self) -> u64 {
        self.put_bytes.wrapping_sub(self.left_bytes)
    }

    /// Puts a frame of `len` bytes into the next slot; the next sync hands it over. Returns the buffer that was in the
    /// slot, whose frame has left. None if the slot held no usable index ([`TxRing::invalid_slots`]).
    ///
    /// `flags`: only [`SlotFlags::more_fragments`] is passed on.
    ///
    /// # Errors
    /// Gives the buffer back if there is no room.
    ///
    /// # Panics
    /// If the buffer is of another region.
    #[inline(always)]
    pub fn put(&mut self, buffer: Buffer, len: u16, flags: SlotFlags) -> Result<Option<Buffer>, Buffer> {
        if self.head == self.tail {
            return Err(buffer);
        }
        let region = self.shared.region();
        region.check(&buffer);
        let at = self.head;
        if let Ok(completed) = region.mint(self.shared.read_index(at)) {
            self.fill(buffer, len, flags);
            Ok(Some(completed))
        } else {
            self.repair(buffer, len, flags);
            Ok(None)
        }
    }

    /// Puts a buffer, which was checked, into the next slot.
    #[inline]
    fn fill(&mut self, buffer: Buffer, len: u16, flags: SlotFlags) {
        let at = self.head;
        let flags = SlotFlags::from_bits(SlotFlags::CHANGED.bits() | fragment(flags).bits());
        self.shared.store_flags(at, flags);
        self.shared.store_index(at, self.shared.region().release(buffer));
        self.hand_over(len);
    }

    #[cold]
    #[inline(never)]
    fn repair(&mut self, buffer: Buffer, len: u16, flags: SlotFlags) {
        self.fill(buffer, len, flags);
        self.invalid += 1;
    }

    /// Copies a frame into the buffer of the next slot: the way between two regions. False, and nothing done, if there
    /// is no room, the slot has no usable buffer, or the frame is longer than a buffer.
    pub fn put_copy(&mut self, frame: &[u8], flags: SlotFlags) -> bool {
        if self.head == self.tail || frame.len() > self.shared.region().buffer_size() as usize {
            return false;
        }
        let Some(start) = self.shared.slot_buffer(self.head) else { return false };
        // SAFETY: a whole buffer inside the mapping, as long as the frame or longer; its slot is the program's, so
        // nobody else touches it. A kernel that names one buffer in two slots could make them overlap: hence a move.
        unsafe { core::ptr::copy(frame.as_ptr(), start.as_ptr(), frame.len()) };
        // The kernel may not have seen yet that the buffer was exchanged.
        let changed = self.shared.read_slot(self.head).flags.bits() & SlotFlags::CHANGED.bits();
        self.shared.store_flags(self.head, SlotFlags::from_bits(changed | fragment(flags).bits()));
        self.hand_over(frame.len() as u16);
        true
    }

    /// How often [`TxRing::put`] found a slot without a usable index. Each costs a buffer.
    pub fn invalid_slots(&self) -> u64 {
        self.invalid
    }

    /// Has poll(2) wake only when more than `slots` slots are free; 0, the default: when any is.
    pub fn set_wakeup(&mut self, slots: u32) {
        self.wake_after = slots;
    }

    /// How often the kernel set the ring back because `head` or `cur` made no sense to it. Never in a correct program.
    pub fn resets(&self) -> u64 {
        self.resets
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    #[inline]
    fn hand_over(&mut self, len: u16) {
        let at = self.head;
        self.shared.store_len(at, len);
        self.count(at, len);
        self.head = self.shared.next(at);
    }

    #[inline]
    fn count(&mut self, at: u32, len: u16) {
        self.put_bytes = self.put_bytes.wrapping_add(u64::from(len));
        self.until[at as usize] = self.put_bytes;
    }

    /// Shows the kernel what was put, and asks to be told when the last of it has left: drivers otherwise report a slot
    /// or two in a round of the ring (FreeBSD's iflib does), and what has left would count as pending until then.
    pub(crate) fn publish(&mut self) {
        if self.head != self.published {
            let last = self.shared.prev(self.head);
            self.shared.store_flags(last, self.shared.read_flags(last).with(SlotFlags::REPORT));
        }
        let cur = self.shared.ahead(self.head, self.wake_after.min(self.space()));
        if self.head != self.published || cur != self.shared.read_cur() {
            self.shared.publish(self.head, cur);
            self.published = self.head;
        }
    }

    /// Goes on from the kernel's state, with what it still holds as pending.
    fn restart(&mut self, head: u32, tail: u32) {
        (self.head, self.tail, self.published) = (head, tail, head);
        self.left_bytes = self.put_bytes;
        self.until.fill(self.put_bytes);
        let mut at = self.shared.next(tail);
        while at != head {
            self.count(at, self.shared.read_slot(at).len);
            at = self.shared.next(at);
        }
    }

    /// Looks what the kernel did.
    pub(crate) fn refresh(&mut self) {
        let tail = self.shared.read_tail();
        let head = self.shared.read_head();
        if head != self.published && head < self.shared.slots() {
            self.resets += 1;
            self.restart(head, tail);
            return;
        }
        // The slots that the kernel gave back are those behind the old tail, up to the new one, the last of which tells. A
        // kernel that gives back more than it had has nothing any more.
        let given_back = self.shared.space(self.tail, tail);
        if given_back == 0 {
            return;
        }
        let all = given_back >= self.pending_slots();
        self.left_bytes = if all { self.put_bytes } else { self.until[tail as usize] };
        self.tail = tail;
    }
}

#[inline]
const fn fragment(flags: SlotFlags) -> SlotFlags {
    SlotFlags::from_bits(flags.bits() & SlotFlags::MORE_FRAGMENTS.bits())
}
