//! Real traffic for l4sd: a bridge under test between a sender and a receiver, each in a network namespace of its own,
//! with real CUBIC (iperf3) and real Prague (udp_prague) flows.
//!
//! ```text
//!   sender               bridge (l4sd)               receiver
//!   [s0] ------------- [b0]        [b1] ------------- [r0]
//!   198.18.0.1                                  198.18.0.2
//! ```
//!
//! Everything happens inside a [`sandbox`]: private network, mount and process namespaces that the kernel takes away
//! when the outermost process ends, however it ends. Nothing here may touch the host's own network.
//!
//! Layers, importing only downward: `sim_to_real` -> `agreement` -> `demo`, `cells` -> `session` -> `forwarder`, `flows`, `results`, `series` -> `topology`,
//! `process`, `scrape` -> `sandbox`, `tools`, `cpus`, `clock`.

#![forbid(unsafe_code)]

pub mod agreement;
pub mod cells;
pub mod clock;
pub mod cpus;
pub mod demo;
pub mod flows;
pub mod forwarder;
pub mod process;
pub mod results;
pub mod sandbox;
pub mod scrape;
pub mod series;
pub mod session;
pub mod sim_to_real;
pub mod tools;
pub mod topology;
