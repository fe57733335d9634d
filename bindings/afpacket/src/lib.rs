//! Rings of Linux packet sockets (AF_PACKET, TPACKET_V2) behind a safe interface.
//!
//! Layers, each importing only the ones before it: `abi` (numbers and layouts), `sys` (system calls and the mapping),
//! `ring` (who owns which slot), `socket` ([`Receiver`], [`Transmitter`]). This crate moves bytes between frames and
//! slots; it does not parse them, re-insert VLAN tags or keep buffers.
//!
//! # Geometry
//! Slots are 2048 bytes, so that a slot and half a page coincide and 32 slots fill a block. A receive slot has room
//! for 1982 bytes of frame: the 1522 of a full Ethernet frame with two tags and a MTU of up to 1964. A transmit slot
//! takes 2006 bytes.
//!
//! # Why not version 3
//! TPACKET_V3 hands over whole blocks: about a fifth faster, but a lone frame waits for the block's timeout, half a
//! millisecond at the median with the shortest timeout there is. Version 2 shows a frame after some 8 microseconds.
//!
//! # Why frames are copied on transmission
//! By default the kernel copies only the link header out of a transmit slot and lets the socket buffer refer to the
//! slot's pages for the rest. On veth pairs and other paths inside a host it must then copy the rest after all, page by
//! page (before Linux 4.20 it did not, and a reused slot changed what a slow reader saw). [`Transmitter`] asks, by a
//! virtio header in front of each frame, for one copy of all of it at once: about a quarter faster over veth. On a NIC
//! it costs that copy, which for frames of at most 2 KiB is small beside the rest of the path.
#![cfg(target_os = "linux")]

mod abi;
mod error;
mod ring;
mod socket;
mod sys;

pub use error::{Error, Result};
pub use ring::{RxFrame, VlanTag};
pub use socket::{Receiver, Transmitter, wait};

/// Longest frame that fits a receive slot, in bytes without FCS and without a tag that the kernel stripped.
pub const RX_CAPACITY: usize = ring::RX_CAPACITY;
/// Longest frame that fits a transmit slot, in bytes without FCS.
pub const TX_CAPACITY: usize = abi::TX_CAPACITY;
