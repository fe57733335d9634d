//! AF_XDP on `libc` alone: sockets on all receive queues of one or two interfaces over one shared memory.
//!
//! Levels, each using only those above it: `abi` (the kernel's structures), `sys`, `mmap`, `bpf` (its calls), `umem`
//! and `ring` (memory and the rings over it), `socket`, `interface`. `netdev` asks an interface how it is set. Frames
//! are owned tokens ([`Frame`]): a frame is with the program, in exactly one ring, or nowhere.
//!
//! It sees what the driver delivers. A VLAN tag that the NIC stripped, a checksum that the far end of a veth pair left
//! to hardware and a super-frame of a segmentation offload are invisible or broken here; [`NetDevice::check_offloads`]
//! refuses what can be asked.

#![cfg(target_os = "linux")]

mod abi;
mod bpf;
mod error;
mod interface;
mod mmap;
mod netdev;
mod ring;
mod socket;
mod sys;
mod umem;

pub use abi::Statistics;
pub use bpf::{AttachMode, Link, Program};
pub use error::Error;
pub use interface::Interface;
pub use netdev::{NetDevice, Promiscuous};
pub use socket::{CopyMode, RingSizes, Socket, Waiter};
pub use umem::{Frame, Umem};
