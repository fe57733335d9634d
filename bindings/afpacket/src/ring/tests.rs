//! The rings against a scripted kernel that plays by the rules of `net/packet/af_packet.c`.

use super::*;

/// The kernel's end of a transmit ring: stands at a slot and does not move past one it refuses.
struct Kernel {
    at: usize,
    delivered: Vec<Vec<u8>>,
    sending: Vec<usize>,
}

impl Kernel {
    fn new() -> Self {
        Self { at: 0, delivered: Vec::new(), sending: Vec::new() }
    }

    /// Takes up to `most` frames; one shorter than an Ethernet header is refused, which ends the call.
    fn send(&mut self, ring: &mut TxRing, most: usize) {
        for _ in 0..most {
            let offset = self.at * SLOT_BYTES;
            if ring.region.status(offset).load(Acquire) != libc::TP_STATUS_SEND_REQUEST {
                return;
            }
            let len = ring.region.header(offset).tp_len as usize - VIRTIO_BYTES;
            if len < 14 {
                ring.region.status(offset).store(libc::TP_STATUS_WRONG_FORMAT, Release);
                return;
            }
            let virtio = ring.region.bytes(offset + 32, VIRTIO_BYTES);
            assert_eq!(
                u16::from_ne_bytes([virtio[2], virtio[3]]) as usize,
                len,
                "all of the frame is copied"
            );
            self.delivered.push(ring.region.bytes(offset + 42, len).to_vec());
            ring.region.status(offset).store(libc::TP_STATUS_SENDING, Release);
            self.sending.push(self.at);
            self.at = (self.at + 1) % ring.slots;
        }
    }

    fn complete(&mut self, ring: &TxRing, count: usize) {
        for at in self.sending.drain(..count) {
            ring.region.status(at * SLOT_BYTES).store(libc::TP_STATUS_AVAILABLE, Release);
        }
    }
}

fn frame(tag: u8, len: usize) -> Vec<u8> {
    vec![tag; len]
}

fn tx_ring(slots: usize) -> TxRing {
    TxRing::new(Region::anonymous(slots * SLOT_BYTES).unwrap(), slots)
}

#[test]
fn a_full_transmit_ring_refuses_and_bytes_are_pending_until_completion() {
    let mut ring = tx_ring(4);
    let mut kernel = Kernel::new();
    for tag in 0..4 {
        assert!(ring.push(&frame(tag, 100)));
    }
    assert!(!ring.push(&frame(9, 100)));
    assert_eq!((ring.room(), ring.pending_bytes(), ring.unsent()), (0, 400, 4));

    kernel.send(&mut ring, 3);
    assert!(!ring.settle());
    assert_eq!((ring.room(), ring.pending_bytes(), ring.unsent()), (0, 400, 1));

    kernel.complete(&ring, 2);
    assert!(!ring.settle());
    assert_eq!((ring.room(), ring.pending_bytes(), ring.unsent()), (2, 200, 1));
}

#[test]
fn a_refused_frame_is_counted_and_those_behind_it_leave_in_order() {
    let mut ring = tx_ring(8);
    let mut kernel = Kernel::new();
    for round in 0..5u8 {
        kernel.delivered.clear();
        for (tag, len) in [(1, 60), (2, 3), (3, 1514), (4, 7), (5, 70)] {
            assert!(ring.push(&frame(round * 10 + tag, len)));
        }
        for expected in [true, true, false] {
            kernel.send(&mut ring, 8);
            assert_eq!(ring.settle(), expected, "round {round}");
        }
        let tags: Vec<_> = kernel.delivered.iter().map(|f| (f[0] - round * 10, f.len())).collect();
        assert_eq!(tags, [(1, 60), (3, 1514), (5, 70)]);
        assert_eq!(ring.rejected(), 2 * (u64::from(round) + 1));
        kernel.complete(&ring, 3);
        ring.settle();
        assert_eq!((ring.room(), ring.pending_bytes()), (8, 0));
    }
}

#[test]
fn withdrawn_frames_are_never_sent_and_the_ring_goes_on() {
    let mut ring = tx_ring(4);
    let mut kernel = Kernel::new();
    for tag in 0..4 {
        ring.push(&frame(tag, 60));
    }
    kernel.send(&mut ring, 1);
    ring.settle();
    assert_eq!(ring.discard_unsent(), 3);
    assert_eq!((ring.room(), ring.pending_bytes()), (3, 60));
    ring.push(&frame(9, 60));
    kernel.send(&mut ring, 8);
    assert_eq!(kernel.delivered.iter().map(|f| f[0]).collect::<Vec<_>>(), [0, 9]);
}

#[test]
fn longest_frame_fits_and_one_more_byte_does_not() {
    let mut ring = tx_ring(1);
    assert!(!ring.push(&frame(1, 2007)));
    assert!(ring.push(&frame(1, 2006)));
    assert_eq!(ring.region.bytes(2047, 1), [1]);
}

fn rx_slot(region: &mut Region, slot: usize, status: u32, frame: &[u8], wire_len: u32, tag: (u16, u16)) {
    let offset = slot * SLOT_BYTES;
    let bytes = region.bytes_mut(offset, SLOT_BYTES);
    bytes[4..8].copy_from_slice(&wire_len.to_ne_bytes());
    bytes[8..12].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
    bytes[12..14].copy_from_slice(&(RX_DATA_OFFSET as u16).to_ne_bytes());
    bytes[24..26].copy_from_slice(&tag.1.to_ne_bytes());
    bytes[26..28].copy_from_slice(&tag.0.to_ne_bytes());
    bytes[RX_DATA_OFFSET..RX_DATA_OFFSET + frame.len()].copy_from_slice(frame);
    region.status(offset).store(status, Release);
}

#[test]
fn received_frames_come_in_order_with_their_tags_and_slots_go_back() {
    use libc::{TP_STATUS_USER as USER, TP_STATUS_VLAN_TPID_VALID as TPID, TP_STATUS_VLAN_VALID as VLAN};
    let mut region = Region::anonymous(2 * SLOT_BYTES).unwrap();
    rx_slot(&mut region, 0, USER | VLAN | TPID, &[7; 60], 60, (0x88a8, 0xe123));
    rx_slot(&mut region, 1, USER | VLAN, &[8; 1982], 4000, (0, 0));
    let mut ring = RxRing::new(region, 2);

    let first = ring.next().unwrap();
    assert_eq!((first.bytes(), first.wire_len()), (&[7; 60][..], 60));
    assert_eq!(first.vlan(), Some(VlanTag { tpid: 0x88a8, tci: 0xe123 }));
    drop(first);
    let second = ring.next().unwrap();
    assert_eq!((second.bytes().len(), second.wire_len()), (1982, 4000));
    assert_eq!(second.vlan(), Some(VlanTag { tpid: 0x8100, tci: 0 }));
    drop(second);

    assert!(ring.next().is_none(), "slot 0 belongs to the kernel again");
    assert_eq!(ring.region.status(SLOT_BYTES).load(Acquire), libc::TP_STATUS_KERNEL);
}

#[test]
fn a_header_that_points_outside_its_slot_is_cut_to_it() {
    let mut region = Region::anonymous(SLOT_BYTES).unwrap();
    rx_slot(&mut region, 0, libc::TP_STATUS_USER, &[1; 60], 60, (0, 0));
    region.bytes_mut(8, 4).copy_from_slice(&u32::MAX.to_ne_bytes());
    let mut ring = RxRing::new(region, 1);
    assert_eq!(ring.next().unwrap().bytes().len(), 1982);
}
