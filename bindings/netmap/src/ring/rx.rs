//! A receive ring.

use super::{RingId, Shared, SlotFlags, SlotInfo};
use crate::region::{Buffer, SlotFault};

/// A frame, or a fragment of one, that was taken out of a receive ring.
#[derive(Debug, Eq, PartialEq)]
pub struct Received {
    /// The buffer that holds it.
    pub buffer: Buffer,
    /// Its bytes, from the start of the buffer, at most the buffer's size. 0 is a driver's error: drop it.
    pub len: u16,
    /// The slot's flags ([`SlotFlags::more_fragments`]).
    pub flags: SlotFlags,
}

/// Why no frame was taken.
#[derive(Debug, Eq, PartialEq)]
pub enum NotTaken {
    /// Nothing was received; the spare comes back.
    Empty(Buffer),
    /// The slot held no usable buffer. The spare is in the slot now, the frame (if there was one) is lost.
    Repaired(SlotFault),
}

/// The oldest received slot of a ring: to be taken, to be skipped, or to be left there.
#[derive(Debug)]
pub struct Waiting<'a> {
    ring: &'a mut RxRing,
    slot: SlotInfo,
}

impl Waiting<'_> {
    /// What the slot says.
    #[inline]
    pub const fn slot(&self) -> SlotInfo {
        self.slot
    }

    /// See [`RxRing::take`].
    ///
    /// # Errors
    /// What makes [`NotTaken::Repaired`].
    ///
    /// # Panics
    /// If the spare is of another region.
    #[inline]
    pub fn take(self, spare: Buffer) -> Result<Received, SlotFault> {
        self.ring.exchange(self.slot, spare)
    }

    /// See [`RxRing::skip`].
    #[inline]
    pub fn skip(self) {
        let ring = self.ring;
        ring.shared.store_len(ring.head, 0);
        ring.head = ring.shared.next(ring.head);
    }
}

/// A receive ring. The program's slots are [head, tail): received and not yet given back.
#[derive(Debug)]
pub struct RxRing {
    shared: Shared,
    head: u32,
    tail: u32,
    published: u32,
    wake_after: u32,
    resets: u64,
}

impl RxRing {
    pub(crate) fn new(shared: Shared) -> Self {
        let (head, tail) = (shared.read_head(), shared.read_tail());
        Self { shared, head, tail, published: head, wake_after: 0, resets: 0 }
    }

    /// Which ring this is.
    pub fn id(&self) -> RingId {
        self.shared.id()
    }

    /// Slots in the ring.
    pub fn slots(&self) -> u32 {
        self.shared.slots()
    }

    /// The first slot of the program, and the first of the kernel, as of the last sync.
    pub fn head_and_tail(&self) -> (u32, u32) {
        (self.head, self.tail)
    }

    /// Slots received and not taken yet, as of the last sync.
    pub fn available(&self) -> u32 {
        self.shared.space(self.head, self.tail)
    }

    /// What the oldest received slot says, without taking it.
    #[inline]
    pub fn peek(&self) -> Option<SlotInfo> {
        (self.head != self.tail).then(|| self.shared.read_slot(self.head))
    }

    /// The bytes of the oldest received slot, to copy from. None if there is none or its buffer is not usable.
    pub fn bytes(&self) -> Option<&[u8]> {
        let len = usize::from(self.peek()?.len).min(self.shared.region().buffer_size() as usize);
        let start = self.shared.slot_buffer(self.head)?;
        // SAFETY: a whole buffer inside the mapping that the ring keeps alive; the slot is the program's until `skip`
        // or `take`, which need the ring exclusively.
        Some(unsafe { core::slice::from_raw_parts(start.as_ptr(), len) })
    }

    /// Takes the oldest received buffer out and leaves `spare` in its slot, which goes back to the kernel with the
    /// next sync.
    ///
    /// # Errors
    /// [`NotTaken::Empty`] gives the spare back. [`NotTaken::Repaired`]: the slot's index was out of range or is
    /// already held by this process; the spare is used up.
    ///
    /// # Panics
    /// If the spare is of another region.
    #[inline]
    pub fn take(&mut self, spare: Buffer) -> Result<Received, NotTaken> {
        match self.waiting() {
            Some(waiting) => waiting.take(spare).map_err(NotTaken::Repaired),
            None => Err(NotTaken::Empty(spare)),
        }
    }

    /// The oldest received slot, read once.
    #[inline]
    pub fn waiting(&mut self) -> Option<Waiting<'_>> {
        let slot = self.peek()?;
        Some(Waiting { ring: self, slot })
    }

    #[inline]
    fn exchange(&mut self, slot: SlotInfo, spare: Buffer) -> Result<Received, SlotFault> {
        let region = self.shared.region();
        region.check(&spare);
        let len = u32::from(slot.len).min(region.buffer_size()) as u16;
        match region.mint(slot.index) {
            Ok(buffer) => {
                self.replace(spare);
                Ok(Received { buffer, len, flags: slot.flags })
            }
            Err(fault) => Err(self.repair(spare, fault)),
        }
    }

    /// Leaves `spare`, which was checked, in the oldest slot and goes on to the next.
    #[inline]
    fn replace(&mut self, spare: Buffer) {
        let at = self.head;
        self.shared.store_flags(at, SlotFlags::CHANGED);
        self.shared.store_len(at, 0);
        self.shared.store_index(at, self.shared.region().release(spare));
        self.head = self.shared.next(at);
    }

    #[cold]
    #[inline(never)]
    fn repair(&mut self, spare: Buffer, fault: SlotFault) -> SlotFault {
        self.replace(spare);
        fault
    }

    /// Gives the oldest received slot back with its buffer in it: the frame is dropped, or was copied. False if there
    /// is none.
    #[inline]
    pub fn skip(&mut self) -> bool {
        self.waiting().map(Waiting::skip).is_some()
    }

    /// Has poll(2) wake only when more than `slots` received slots wait; 0, the default: when any does. For a program
    /// that leaves frames in the ring, which an AQM must not.
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

    /// Shows the kernel what was taken.
    pub(crate) fn publish(&mut self) {
        let cur = self.shared.ahead(self.head, self.wake_after.min(self.available()));
        if self.head != self.published || cur != self.shared.read_cur() {
            self.shared.publish(self.head, cur);
            self.published = self.head;
        }
    }

    /// Looks what the kernel did.
    pub(crate) fn refresh(&mut self) {
        self.tail = self.shared.read_tail();
        let head = self.shared.read_head();
        if head != self.published && head < self.shared.slots() {
            self.resets += 1;
            self.head = head;
            self.published = head;
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use crate::model::{Line, Model, NicConfig};
    use crate::{NotTaken, Options, SlotFault};

    #[test]
    fn a_ring_that_the_kernel_set_back_is_noticed_and_goes_on() {
        let model = Model::default();
        let outside = model.nic("em0", NicConfig::default());
        let mut port = model.netmap().open(&"em0".parse().unwrap(), &Options::default()).unwrap();
        let slots = port.rx(0).slots();
        port.rx(0).shared().publish(slots + 7, slots + 7);
        port.rx(0).published = slots + 7;
        model.kernel().rx_sync(port.fd()).unwrap();
        port.rx(0).refresh();
        assert_eq!((model.damaged() > 0, port.rx(0).resets()), (true, 1));
        assert!(outside.inject(Line::Nic(0), &[7; 60]));
        port.rx_sync().unwrap();
        assert_eq!(port.rx(0).bytes(), Some(&[7; 60][..]));
        assert_eq!(port.rx(0).resets(), 1);
    }

    #[test]
    fn an_index_that_this_process_holds_becomes_no_second_token() {
        let model = Model::default();
        let outside = model.nic("em0", NicConfig::default());
        let options = Options { extra_buffers: 4, ..Options::default() };
        let mut port = model.netmap().open(&"em0".parse().unwrap(), &options).unwrap();
        let mut spares = port.take_extra().unwrap();
        let ours = spares[0].index();
        for (index, fault) in [
            (ours, SlotFault::Duplicate(ours)),
            (1, SlotFault::OutOfRange(1)),
            (1 << 30, SlotFault::OutOfRange(1 << 30)),
        ] {
            assert!(outside.inject(Line::Nic(0), &[7; 60]));
            port.rx_sync().unwrap();
            let (head, _) = port.rx(0).head_and_tail();
            port.rx(0).shared().store_index(head, index);
            assert_eq!(port.rx(0).bytes(), None);
            let spare = spares.pop().unwrap();
            let spare_index = spare.index();
            assert_eq!(port.rx(0).take(spare), Err(NotTaken::Repaired(fault)));
            assert_eq!(port.rx(0).shared().read_slot(head).index, spare_index);
        }
    }
}
