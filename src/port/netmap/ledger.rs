//! Who holds which buffer after a data plane has died: what is in a ring slot is in use, the rest is free.
//!
//! Packets move by exchanging indices between ring slots and the memory of the process, so the indices of all slots
//! and those in its memory together are the same set for as long as the ports are open. A process that dies takes the
//! second part with it; this module finds it again. Must not touch a ring: it is told what the slots say and answers
//! what to write.

use std::collections::HashMap;

/// What stands in one ring slot.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct InSlot<P> {
    /// The buffer's index.
    pub index: u32,
    /// Which slot.
    pub place: P,
    /// The slot lies between head and tail, so that the kernel does not look at it before the next sync.
    pub ours: bool,
}

/// The state to go on from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reconciled<P> {
    /// Indices that are in no slot, each once.
    pub free: Vec<u32>,
    /// Slots that hold an index which is elsewhere or not ours, and what to put there instead.
    pub repairs: Vec<(P, u32)>,
}

/// Why the buffers cannot be accounted for.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LedgerError {
    /// The kernel, and with it perhaps the NIC, uses a buffer that is also in another slot or was never ours.
    #[error("buffer {index} is in a slot of the kernel and {why}")]
    InKernel {
        /// The buffer.
        index: u32,
        /// What is wrong.
        why: &'static str,
    },
    /// There are more slots to mend than free buffers.
    #[error("{repairs} slots need another buffer and {free} are free")]
    Short {
        /// Slots to mend.
        repairs: usize,
        /// Free buffers.
        free: usize,
    },
    /// The set of granted buffers names one twice.
    #[error("buffer {index} was granted twice")]
    GrantedTwice {
        /// The buffer.
        index: u32,
    },
}

/// Finds what is free: all of `granted` that is in no slot. An index in two slots stays where the kernel may be using
/// it, else where it is met first.
///
/// `granted` are the indices that the ports were opened with: those of their ring slots and the extra ones. After
/// success, `free`, less those in `repairs`, and the mended slots hold each of them exactly once.
pub fn reconcile<P: Copy>(granted: &[u32], slots: &[InSlot<P>]) -> Result<Reconciled<P>, LedgerError> {
    let mut taken: HashMap<u32, bool> = HashMap::with_capacity(granted.len());
    for &index in granted {
        if taken.insert(index, false).is_some() {
            return Err(LedgerError::GrantedTwice { index });
        }
    }
    let mut mend = Vec::new();
    for slot in slots.iter().filter(|slot| !slot.ours) {
        let fault = |why| LedgerError::InKernel { index: slot.index, why };
        let state = taken.get_mut(&slot.index).ok_or_else(|| fault("was not granted to us"))?;
        if core::mem::replace(state, true) {
            return Err(fault("in another one"));
        }
    }
    for slot in slots.iter().filter(|slot| slot.ours) {
        match taken.get_mut(&slot.index) {
            Some(state) if !*state => *state = true,
            _ => mend.push(slot.place),
        }
    }
    // In the order of the grant, so that a restart is reproducible.
    let mut free: Vec<u32> = granted.iter().copied().filter(|index| !taken[index]).collect();
    if free.len() < mend.len() {
        return Err(LedgerError::Short { repairs: mend.len(), free: free.len() });
    }
    let kept = free.len() - mend.len();
    let repairs = mend.into_iter().zip(free.drain(kept..)).collect();
    Ok(Reconciled { free, repairs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot(index: u32, place: usize, ours: bool) -> InSlot<usize> {
        InSlot { index, place, ours }
    }

    #[test]
    fn free_is_what_was_granted_and_is_in_no_slot() {
        let found = reconcile(&[2, 3, 4, 5, 9], &[slot(4, 0, true), slot(9, 1, false)]).unwrap();
        assert_eq!(found, Reconciled { free: vec![2, 3, 5], repairs: vec![] });
    }

    #[test]
    fn a_duplicate_stays_with_the_kernel_and_a_stranger_goes() {
        let slots = [slot(4, 0, true), slot(4, 1, false), slot(77, 2, true), slot(5, 3, true)];
        let found = reconcile(&[2, 3, 4, 5, 6, 7], &slots).unwrap();
        assert_eq!(found, Reconciled { free: vec![2, 3], repairs: vec![(0, 6), (2, 7)] });
    }

    #[test]
    fn what_cannot_be_mended_is_refused_by_name() {
        let twice = [slot(4, 0, false), slot(4, 1, false)];
        let message = |e: LedgerError| e.to_string();
        let of = |granted: &[u32], slots: &[InSlot<usize>]| message(reconcile(granted, slots).unwrap_err());
        assert_eq!(of(&[4, 5], &twice), "buffer 4 is in a slot of the kernel and in another one");
        assert_eq!(
            of(&[4], &[slot(9, 0, false)]),
            "buffer 9 is in a slot of the kernel and was not granted to us"
        );
        let dry = [slot(4, 0, true), slot(4, 1, true)];
        assert_eq!(of(&[4], &dry), "1 slots need another buffer and 0 are free");
        assert_eq!(of(&[4, 4], &[]), "buffer 4 was granted twice");
    }

    proptest! {
        /// Whatever is in the slots that are ours, afterwards each granted index is in exactly one place.
        #[test]
        fn each_index_is_once(
            kernel in proptest::sample::subsequence((2_u32..40).collect::<Vec<_>>(), 0..20),
            ours in proptest::collection::vec(0_u32..50, 0..18),
        ) {
            let granted: Vec<u32> = (2..40).collect();
            let all: Vec<_> = kernel.iter().map(|&i| (i, false)).chain(ours.iter().map(|&i| (i, true))).collect();
            let mut slots: Vec<_> =
                all.into_iter().enumerate().map(|(place, (i, ours))| slot(i, place, ours)).collect();
            let found = reconcile(&granted, &slots).unwrap();
            for (place, index) in found.repairs {
                slots[place].index = index;
            }
            let mut seen: Vec<u32> = slots.iter().map(|s| s.index).chain(found.free).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, granted);
        }
    }
}
