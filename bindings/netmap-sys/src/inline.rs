//! The inline functions of `netmap.h` and `netmap_user.h` that the rings need. Arithmetic on indices is safe; what
//! follows an offset in shared memory is not.

use crate::freebsd::{netmap_if, netmap_ring, netmap_slot};

/// The slot after `index` in a ring of `num_slots`.
#[inline]
pub const fn ring_next(num_slots: u32, index: u32) -> u32 {
    let next = index.wrapping_add(1);
    if next >= num_slots { 0 } else { next }
}

/// Slots from `head` up to `tail`, both below `num_slots`: those that belong to the program.
#[inline]
pub const fn ring_space(num_slots: u32, head: u32, tail: u32) -> u32 {
    let ahead = tail.wrapping_sub(head);
    if tail >= head { ahead } else { ahead.wrapping_add(num_slots) }
}

/// Whether no slot belongs to the program.
#[inline]
pub const fn ring_empty(head: u32, tail: u32) -> bool {
    head == tail
}

/// Slots of a transmit ring that were handed over and are not known to be done: one slot always stays free.
#[inline]
pub const fn tx_pending(num_slots: u32, head: u32, tail: u32) -> u32 {
    num_slots.wrapping_sub(1).wrapping_sub(ring_space(num_slots, head, tail))
}

/// Where buffer `index` starts, in bytes from the ring that says `buf_ofs`.
pub const fn buf_offset(buf_ofs: i64, index: u32, buf_size: u32) -> i64 {
    buf_ofs + index as i64 * buf_size as i64
}

/// The index of the buffer that starts `offset` bytes from the ring: the reverse of [`buf_offset`].
pub const fn buf_idx(buf_ofs: i64, offset: i64, buf_size: u32) -> u32 {
    ((offset - buf_ofs) / buf_size as i64) as u32
}

/// The interface structure at `offset` of a mapped region.
///
/// # Safety
/// `offset` is what registering returned for the region mapped at `base`.
pub unsafe fn if_at(base: *mut u8, offset: usize) -> *mut netmap_if {
    // SAFETY: the caller says that the structure lies there, inside the mapping; the kernel aligns it.
    unsafe { base.add(offset) }.cast()
}

/// Entry `index` of `ring_ofs`.
///
/// # Safety
/// `nifp` is a whole interface structure whose array has more than `index` entries.
unsafe fn ring_at(nifp: *mut netmap_if, index: usize) -> Option<*mut netmap_ring> {
    // SAFETY: the array begins where the structure ends and has that entry, says the caller.
    let offset = unsafe { (&raw const (*nifp).ring_ofs).cast::<isize>().add(index).read_volatile() };
    // SAFETY: the kernel made the offset: it leads to a ring inside the same mapping.
    (offset != 0).then(|| unsafe { nifp.cast::<u8>().offset(offset) }.cast())
}

/// Transmit ring `index`: NIC rings first, then host rings. None if it is not bound to the descriptor (offset 0).
///
/// # Safety
/// `nifp` is an interface structure in a mapped region, and `index < ni_tx_rings + ni_host_tx_rings`.
pub unsafe fn txring(nifp: *mut netmap_if, index: u32) -> Option<*mut netmap_ring> {
    // SAFETY: forwarded.
    unsafe { ring_at(nifp, index as usize) }
}

/// Receive ring `index`: NIC rings first, then host rings. They stand behind all transmit rings, those of the host
/// included. None if it is not bound to the descriptor.
///
/// # Safety
/// `nifp` is an interface structure in a mapped region, and `index < ni_rx_rings + ni_host_rx_rings`.
pub unsafe fn rxring(nifp: *mut netmap_if, index: u32) -> Option<*mut netmap_ring> {
    // SAFETY: the structure is whole; these fields do not change after registering.
    let before = unsafe { (*nifp).ni_tx_rings + (*nifp).ni_host_tx_rings };
    // SAFETY: forwarded.
    unsafe { ring_at(nifp, (before + index) as usize) }
}

/// Slot `index` of a ring.
///
/// # Safety
/// `ring` is a ring in a mapped region and `index < num_slots`.
#[inline]
pub unsafe fn slot(ring: *mut netmap_ring, index: u32) -> *mut netmap_slot {
    // SAFETY: the slots follow the ring's header, and the caller says that there are more than `index`.
    unsafe { (&raw mut (*ring).slot).cast::<netmap_slot>().add(index as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_comes_round_after_num_slots_steps_and_space_counts_the_steps() {
        for n in [1, 2, 3, 8, 512] {
            for head in 0..n {
                let (mut tail, mut steps) = (head, 0);
                loop {
                    assert_eq!(ring_space(n, head, tail), steps);
                    assert_eq!(ring_empty(head, tail), steps == 0);
                    assert_eq!(tx_pending(n, head, tail), n - 1 - steps);
                    tail = ring_next(n, tail);
                    steps += 1;
                    if tail == head {
                        break;
                    }
                }
                assert_eq!(steps, n);
            }
        }
    }

    #[test]
    fn buffers_stand_behind_each_other() {
        assert_eq!(buf_offset(1 << 20, 3, 2048), (1 << 20) + 3 * 2048);
        for index in [0, 2, 163_839] {
            assert_eq!(buf_idx(-4096, buf_offset(-4096, index, 2048), 2048), index);
        }
    }

    /// Two NIC and two host transmit rings before the receive rings, and an unbound ring.
    #[test]
    fn receive_rings_follow_all_transmit_rings() {
        #[repr(C)]
        struct Memory {
            nifp: netmap_if,
            offsets: [isize; 6],
            slots: [u8; 64],
        }
        // SAFETY: integers only; zero is a value.
        let mut memory: Box<Memory> = Box::new(unsafe { core::mem::zeroed() });
        memory.nifp.ni_tx_rings = 2;
        memory.nifp.ni_host_tx_rings = 2;
        memory.nifp.ni_rx_rings = 1;
        memory.nifp.ni_host_rx_rings = 1;
        memory.offsets = [512, 0, 1024, 1536, 2048, 2560];
        let nifp = (&raw mut *memory).cast::<netmap_if>();
        let at = |p: Option<*mut netmap_ring>| p.map(|p| p as usize - nifp as usize);
        // SAFETY: the structure and its array of six are in `memory`; the results are compared, not followed.
        unsafe {
            assert_eq!(at(txring(nifp, 0)), Some(512));
            assert_eq!(at(txring(nifp, 1)), None);
            assert_eq!(at(txring(nifp, 3)), Some(1536));
            assert_eq!(at(rxring(nifp, 0)), Some(2048));
            assert_eq!(at(rxring(nifp, 1)), Some(2560));
        }
    }
}
