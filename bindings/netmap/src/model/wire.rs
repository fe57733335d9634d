//! What drivers do in a sync: NIC and host rings with a cable to the test, VALE ports, pipes.

use super::kring::{Damaged, Kring};
use super::memory::Memory;
use super::{Faults, TxMode};
use crate::ring::{SlotFlags, SlotInfo};

/// A frame comes down the cable: written into the buffers of the next descriptors at once, shown by the next rxsync.
/// False if there is no free descriptor (the NIC then counts a miss) or the link is down.
pub(super) fn arrive(ring: &mut Kring, memory: &Memory, faults: &Faults, frame: &[u8]) -> bool {
    if ring.at.is_none() || !faults.link || faults.stopped {
        ring.wire.missed += 1;
        return false;
    }
    let size = memory.buffer_size as usize;
    let parts: Vec<&[u8]> = if frame.is_empty() { vec![frame] } else { frame.chunks(size).collect() };
    let full = ring.slots - 1;
    let used = l4sd_netmap_sys::ring_space(ring.slots, ring.hwcur, ring.wire.next);
    if parts.len() > (full - used) as usize || (parts.len() > 1 && !faults.fragments) {
        ring.wire.missed += 1;
        return false;
    }
    for (i, part) in parts.iter().enumerate() {
        let k = ring.wire.next as usize;
        if memory.valid(ring.wire.dma[k]) {
            memory.write(memory.buffer_offset(ring.wire.dma[k]), part);
        }
        ring.wire.desc[k] = (part.len() as u16, i + 1 < parts.len());
        ring.wire.next = ring.next(ring.wire.next);
    }
    true
}

/// NIC and host receive rings: shows what arrived, then takes released slots back and points descriptors at them.
pub(super) fn nic_rx(ring: &mut Kring, memory: &Memory, faults: &mut Faults) -> Result<(), Damaged> {
    let Some(at) = ring.at else { return Ok(()) };
    if ring.rhead >= ring.slots {
        ring.reinit(memory);
        return Err(Damaged);
    }
    let mut first = true;
    for k in ring.range(ring.hwtail, ring.wire.next) {
        let (mut len, more) = ring.wire.desc[k as usize];
        if faults.zero_length > 0 {
            faults.zero_length -= 1;
            len = 0;
        }
        let mut slot = memory.slot(at, k);
        slot.len = len;
        slot.flags = if more { SlotFlags::MORE_FRAGMENTS } else { SlotFlags::NONE };
        if first && faults.wrong.duplicate_index {
            slot.index = memory.slot(at, ring.prev(k)).index;
        }
        if first && faults.wrong.zero_index {
            slot.index = 0;
        }
        first = false;
        memory.set_slot(at, k, slot);
    }
    ring.hwtail = ring.wire.next;
    if faults.wrong.overrun_tail && ring.next(ring.hwtail) != ring.hwcur {
        ring.hwtail = ring.next(ring.hwtail);
        ring.wire.next = ring.hwtail;
    }
    for k in ring.range(ring.hwcur, ring.rhead) {
        let slot = memory.slot(at, k);
        if !memory.valid(slot.index) {
            ring.reinit(memory);
            return Err(Damaged);
        }
        reload(ring, memory, at, k, slot, faults);
    }
    ring.hwcur = ring.rhead;
    Ok(())
}

/// NS_BUF_CHANGED: the descriptor gets the buffer that is in the slot now; without the flag it keeps the old one.
fn reload(ring: &mut Kring, memory: &Memory, at: usize, k: u32, slot: SlotInfo, faults: &Faults) {
    if slot.flags.buffer_changed() && !faults.wrong.ignore_buf_changed {
        ring.wire.dma[k as usize] = slot.index;
        let flags = SlotFlags::from_bits(slot.flags.bits() & !SlotFlags::CHANGED.bits());
        memory.set_slot(at, k, SlotInfo { flags, ..slot });
    }
}

/// NIC and host transmit rings: takes what was handed over, sends it unless told to wait, reclaims what is known to have
/// been sent. As in FreeBSD's iflib, a NIC reports slots with NS_REPORT and two more in each round.
pub(super) fn nic_tx(ring: &mut Kring, memory: &Memory, faults: &Faults) -> Result<(), Damaged> {
    let Some(at) = ring.at else { return Ok(()) };
    if !faults.link {
        // No carrier: hwcur and hwtail stay where they are.
        return Ok(());
    }
    for k in ring.range(ring.hwcur, ring.rhead) {
        let slot = memory.slot(at, k);
        if !memory.valid(slot.index) || u32::from(slot.len) > memory.buffer_size {
            ring.reinit(memory);
            return Err(Damaged);
        }
        ring.wire.desc[k as usize] = (slot.len, slot.flags.more_fragments());
        ring.wire.report[k as usize] = slot.flags.report() || k == 0 || k == ring.slots / 2;
        let flags = SlotFlags::from_bits(slot.flags.bits() & !SlotFlags::REPORT.bits());
        memory.set_slot(at, k, SlotInfo { flags, ..slot });
        reload(ring, memory, at, k, SlotInfo { flags, ..slot }, faults);
    }
    ring.hwcur = ring.rhead;
    if faults.tx == TxMode::Immediate {
        transmit(ring, memory, u32::MAX);
    }
    ring.hwtail = ring.prev(ring.wire.reported);
    if faults.wrong.early_completion {
        ring.hwtail = ring.prev(ring.hwcur);
    }
    Ok(())
}

/// The NIC sends up to `count` of the descriptors that it has. It reads the buffer now, so a frame that was overwritten
/// too early leaves as it is now.
pub(super) fn transmit(ring: &mut Kring, memory: &Memory, count: u32) {
    for k in ring.range(ring.wire.next, ring.hwcur).into_iter().take(count as usize) {
        let (len, more) = ring.wire.desc[k as usize];
        let part = memory.read(memory.buffer_offset(ring.wire.dma[k as usize]), usize::from(len));
        ring.wire.partial.extend(part);
        if !more {
            let frame = core::mem::take(&mut ring.wire.partial);
            ring.wire.out.push(frame);
        }
        ring.wire.next = ring.next(k);
        if ring.wire.report[k as usize] {
            ring.wire.reported = ring.wire.next;
        }
    }
}

/// VALE receive: frames were put into the ring by the sender; released slots go back.
pub(super) fn vale_rx(ring: &mut Kring, memory: &Memory) -> Result<(), Damaged> {
    let Some(at) = ring.at else { return Ok(()) };
    if ring.rhead >= ring.slots {
        ring.reinit(memory);
        return Err(Damaged);
    }
    for k in ring.range(ring.hwcur, ring.rhead) {
        let slot = memory.slot(at, k);
        let flags = SlotFlags::from_bits(slot.flags.bits() & !SlotFlags::CHANGED.bits());
        memory.set_slot(at, k, SlotInfo { flags, ..slot });
    }
    ring.hwcur = ring.rhead;
    Ok(())
}

/// VALE transmit: the frames that were handed over, by fragments; all slots are free again at once.
pub(super) fn vale_tx(ring: &mut Kring, memory: &Memory) -> Vec<Vec<u8>> {
    let Some(at) = ring.at else { return Vec::new() };
    let (mut frames, mut partial) = (Vec::new(), Vec::new());
    for k in ring.range(ring.hwcur, ring.rhead) {
        let slot = memory.slot(at, k);
        if memory.valid(slot.index) {
            let len = usize::from(slot.len).min(memory.buffer_size as usize);
            partial.extend(memory.read(memory.buffer_offset(slot.index), len));
        }
        if !slot.flags.more_fragments() {
            frames.push(core::mem::take(&mut partial));
        }
        let flags = SlotFlags::from_bits(slot.flags.bits() & !SlotFlags::CHANGED.bits());
        memory.set_slot(at, k, SlotInfo { flags, ..slot });
    }
    ring.hwcur = ring.rhead;
    ring.hwtail = ring.prev(ring.hwcur);
    frames
}

/// VALE: a frame is copied into the receive ring of another port. False if it is full.
pub(super) fn vale_deliver(ring: &mut Kring, memory: &Memory, frame: &[u8]) -> bool {
    let Some(at) = ring.at else { return false };
    let k = ring.hwtail;
    let slot = memory.slot(at, k);
    if ring.next(k) == ring.hwcur || frame.len() > memory.buffer_size as usize || !memory.valid(slot.index) {
        ring.wire.missed += 1;
        return false;
    }
    memory.write(memory.buffer_offset(slot.index), frame);
    memory.set_slot(at, k, SlotInfo { len: frame.len() as u16, flags: SlotFlags::NONE, ..slot });
    ring.hwtail = ring.next(k);
    true
}

/// `netmap_pipe_txsync`: slots, and with them buffers, go over to the same place of the other end's receive ring.
pub(super) fn pipe_tx(tx: &mut Kring, rx: &mut Kring, memory: &Memory) {
    let (Some(from), Some(to)) = (tx.at, rx.at) else { return };
    tx.hwtail = tx.pipe_tail;
    let mut publish = None;
    for k in tx.range(tx.hwcur, tx.rhead) {
        let slot = memory.slot(from, k);
        memory.set_slot(to, k, slot);
        let flags = SlotFlags::from_bits(slot.flags.bits() & !SlotFlags::CHANGED.bits());
        memory.set_slot(from, k, SlotInfo { flags, ..slot });
        if !slot.flags.more_fragments() {
            publish = Some(tx.next(k));
        }
    }
    tx.hwcur = tx.rhead;
    rx.pipe_tail = publish.unwrap_or(rx.pipe_tail);
}

/// `netmap_pipe_rxsync`: released slots go back the same way.
pub(super) fn pipe_rx(rx: &mut Kring, tx: &mut Kring, memory: &Memory) {
    let (Some(from), Some(to)) = (rx.at, tx.at) else { return };
    rx.hwtail = rx.pipe_tail;
    let released = rx.range(rx.hwcur, rx.rhead);
    for k in &released {
        let slot = memory.slot(from, *k);
        memory.set_slot(to, *k, slot);
        let flags = SlotFlags::from_bits(slot.flags.bits() & !SlotFlags::CHANGED.bits());
        memory.set_slot(from, *k, SlotInfo { flags, ..slot });
    }
    if !released.is_empty() {
        tx.pipe_tail = rx.prev(rx.rhead);
        rx.hwcur = rx.rhead;
    }
}
