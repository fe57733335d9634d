//! netmap as safe types: a port owns its descriptor and rings, a buffer is an owned index.
//!
//! Levels, each using only those above it: `l4sd-netmap-sys` (the kernel's structures), `mapping`, `kernel` (its calls
//! behind a trait), `region` (memory and buffers), `ring` (one ring), `port` (a registration with its rings), `census`
//! (which buffer is where, and recovery after a process died). `name` reads port names. `model`, for tests, is a kernel
//! in this process with the same memory layout and the same rules.
//!
//! A [`Buffer`] is neither `Clone` nor `Copy`: a buffer is in exactly one slot, in exactly one token, or nowhere. The
//! crate moves buffers; it does not look into frames and counts no queue.
//!
//! ```no_run
//! # use l4sd_netmap::{Netmap, Options, NotTaken};
//! let netmap = Netmap::real();
//! let mut left = netmap.open(&"netmap:em0".parse()?, &Options { extra_buffers: 1024, ..Options::default() })?;
//! let mut right = netmap.open(&"netmap:em1".parse()?, &Options::default())?;
//! assert!(left.shares_memory_with(&right), "otherwise copy");
//! let mut spares = left.take_extra()?;
//! left.rx_sync()?;
//! while let Some(spare) = spares.pop() {
//!     match left.rx(0).take(spare) {
//!         Ok(received) => match right.tx(0).put(received.buffer, received.len, received.flags) {
//!             Ok(completed) => spares.extend(completed),
//!             Err(no_room) => spares.push(no_room),
//!         },
//!         Err(NotTaken::Empty(spare)) => {
//!             spares.push(spare);
//!             break;
//!         }
//!         Err(NotTaken::Repaired(_)) => (),
//!     }
//! }
//! right.tx_sync()?;
//! left.close(spares)?;
//! # Ok::<(), l4sd_netmap::Error>(())
//! ```

mod census;
#[cfg(any(test, feature = "crash"))]
pub mod crash;
mod error;
mod kernel;
mod mapping;
#[cfg(all(any(test, feature = "model"), target_os = "linux"))]
pub mod model;
mod name;
mod port;
mod region;
mod ring;

pub use census::{Recovered, SlotRef, recover};
pub use error::{Error, KILLED};
pub use kernel::{AdapterMode, Body, Interest, Kernel, MAX_POLL, PollEntry, Ready, RealKernel, Request};
pub use mapping::Mapping;
pub use name::{NameError, PortName, Rings};
pub use port::{Netmap, Options, Port, Registered};
pub use region::{Buffer, Region, SlotFault};
pub use ring::{NotTaken, Received, RingId, RxRing, SlotFlags, SlotInfo, TxRing, Waiting};
