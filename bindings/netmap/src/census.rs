//! Which buffer is in which slot, and going on after the process that held the others died.
//!
//! A NIC never changes an index in a slot, so the buffers of a registration stay the same set for its whole life: those
//! that were in the slots at the start and the extra ones ([`Port::pool`], to be kept with [`crate::Registered`]). What is
//! in no slot is free. This does not hold for a pipe, whose other end puts its own buffers in: there, copy.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::Error;
use crate::port::Port;
use crate::region::Buffer;
use crate::ring::{RingId, RxRing, Shared, SlotFlags, TxRing};

/// A slot and what is in it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct SlotRef {
    /// The ring.
    pub ring: RingId,
    /// The slot.
    pub slot: u32,
    /// The index in it.
    pub index: u32,
    /// Whether the slot is the program's, in [head, tail) of the shared memory. The others are the kernel's.
    pub owned: bool,
}

/// What [`recover`] found.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Recovered {
    /// Buffers of the pool that were in no slot.
    pub spares: Vec<Buffer>,
    /// Slots that held a duplicate, or no buffer at all, and got a free buffer instead.
    pub repaired: usize,
    /// Slots that hold a buffer which is not in the pool. They were left alone.
    pub foreign: usize,
}

impl Port {
    /// Every slot of every bound ring.
    pub fn slots_census(&self) -> impl Iterator<Item = SlotRef> + '_ {
        let (rx, tx) = self.rings();
        let rings = rx.iter().map(RxRing::shared).chain(tx.iter().map(TxRing::shared));
        rings.flat_map(|ring| {
            let (head, tail) = (ring.read_head(), ring.read_tail());
            let owned = ring.space(head, tail);
            (0..ring.slots()).map(move |slot| SlotRef {
                ring: ring.id(),
                slot,
                index: ring.read_slot(slot).index,
                owned: ring.space(head, slot) < owned,
            })
        })
    }

    /// All buffers of the registration: those in slots and those in the chain of extra buffers. Complete only before
    /// [`Port::take_extra`] and the first [`crate::RxRing::take`]: the keeper notes it then.
    ///
    /// # Errors
    /// [`Error::Layout`] if the chain is damaged.
    pub fn pool(&self) -> Result<Vec<u32>, Error> {
        let mut pool: Vec<u32> = self.slots_census().map(|slot| slot.index).collect();
        pool.extend(self.extra_chain()?);
        Ok(pool)
    }

    fn ring_of(&self, id: RingId) -> Option<&Shared> {
        let (rx, tx) = self.rings();
        let mut all = rx.iter().map(RxRing::shared).chain(tx.iter().map(TxRing::shared));
        all.find(|ring| ring.id() == id)
    }
}

/// Takes over after a process that died with buffers in its hands: finds the free ones of `pool` (the union of the
/// pools of `ports`) and mends slots that do not name a buffer of their own. All ports that use the pool must be given, they must be
/// freshly attached, and no buffer of theirs may be out in this process.
///
/// # Errors
/// [`Error::Beyond`] if two slots that the kernel holds name the same buffer. [`Error::Layout`] if the ports do not
/// share a region, or no free buffer is left to mend with.
pub fn recover(ports: &mut [&mut Port], pool: &[u32]) -> Result<Recovered, Error> {
    let Some(first) = ports.first() else { return Ok(Recovered::default()) };
    let (region, name) = (Arc::clone(first.region()), first.name().to_string());
    let layout = |what: String| Error::Layout { port: name.clone(), what };
    if ports.iter().any(|port| !Arc::ptr_eq(port.region(), &region)) {
        return Err(layout("the ports to recover have different regions".to_owned()));
    }
    let mut unseen: HashMap<u32, bool> = pool.iter().map(|index| (*index, true)).collect();
    let (mut bad, mut recovered) = (Vec::new(), Recovered::default());
    // The kernel's slots first: of two that name one buffer, the program's is the one that can be mended.
    for owned in [false, true] {
        for (at, port) in ports.iter().enumerate() {
            for slot in port.slots_census().filter(|slot| slot.owned == owned) {
                match unseen.get_mut(&slot.index) {
                    Some(free) if *free => *free = false,
                    None if region.buffer_offset(slot.index).is_some() => recovered.foreign += 1,
                    _ if owned => bad.push((at, slot)),
                    _ => return Err(Error::Beyond { port: port.name().to_string(), index: slot.index }),
                }
            }
        }
    }
    for port in ports.iter_mut() {
        port.forget_extra();
    }
    let mut free: Vec<u32> = pool.iter().copied().filter(|index| unseen[index]).collect();
    free.sort_unstable_by(|a, b| b.cmp(a));
    free.dedup();
    for (at, slot) in bad {
        let spare =
            free.pop().ok_or_else(|| layout("no free buffer is left to mend a slot with".to_owned()))?;
        let ring = ports[at].ring_of(slot.ring).ok_or_else(|| layout(format!("{} vanished", slot.ring)))?;
        ring.store_flags(slot.slot, SlotFlags::CHANGED);
        ring.store_len(slot.slot, 0);
        ring.store_index(slot.slot, spare);
        recovered.repaired += 1;
    }
    for index in free {
        recovered.spares.push(region.mint(index).map_err(|fault| layout(fault.to_string()))?);
    }
    Ok(recovered)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::model::{Line, Model, NicConfig, TxMode};
    use crate::{Options, SlotFlags};

    fn pair(model: &Model) -> [Port; 2] {
        let netmap = model.netmap();
        ["em0", "em1"].map(|name| {
            let options = Options { extra_buffers: 3, ..Options::default() };
            let name = name.parse().expect("a name");
            netmap.open(&name, &options).expect("the model has it")
        })
    }

    fn sorted(ports: &[Port; 2], spares: &[Buffer]) -> Vec<u32> {
        let mut all: Vec<u32> =
            ports.iter().flat_map(|port| port.slots_census().map(|slot| slot.index)).collect();
        all.extend(spares.iter().map(Buffer::index));
        all.sort_unstable();
        all
    }

    #[test]
    fn duplicates_in_slots_of_the_program_are_mended_and_those_of_the_kernel_refused() {
        let model = Model::default();
        let outside = ["em0", "em1"].map(|name| model.nic(name, NicConfig::default()));
        let mut ports = pair(&model);
        let mut pool: Vec<u32> = ports.iter().flat_map(|port| port.pool().unwrap()).collect();
        pool.sort_unstable();
        // A free transmit slot names a buffer of a receive slot that the kernel has, another names none.
        let kernels = ports[0].rx(0).shared().read_slot(9).index;
        ports[1].tx(0).shared().store_index(3, kernels);
        ports[1].tx(0).shared().store_index(4, 0);
        let [left, right] = &mut ports;
        let recovered = recover(&mut [left, right], &pool).unwrap();
        assert_eq!((recovered.repaired, recovered.foreign, recovered.spares.len()), (2, 0, 6));
        assert_eq!(sorted(&ports, &recovered.spares), pool);
        assert_eq!(ports[0].rx(0).shared().read_slot(9).index, kernels);
        assert!(ports[1].tx(0).shared().read_slot(3).flags.buffer_changed());
        drop((ports, recovered));

        // Two frames are with the NIC, in the same buffer.
        let mut ports = pair(&model);
        let pool: Vec<u32> = ports.iter().flat_map(|port| port.pool().unwrap()).collect();
        outside[1].faults(|faults| faults.tx = TxMode::Manual);
        for _ in 0..2 {
            assert!(ports[1].tx(0).put_copy(&[1; 60], SlotFlags::NONE));
        }
        ports[1].tx_sync().unwrap();
        let first = ports[1].tx(0).shared().read_slot(0).index;
        ports[1].tx(0).shared().store_index(1, first);
        let [left, right] = &mut ports;
        let refused = recover(&mut [left, right], &pool).map(drop).unwrap_err();
        assert!(matches!(refused, Error::Beyond { index, .. } if index == first), "{refused}");
        outside[1].complete(Line::Nic(0), 2);
    }
}
