//! Running on a real host: the clock, the forwarder's loop, its thread, and what must be true of the host. The only
//! layer that may read a clock or ask the operating system.

pub mod bridge;
pub mod change;
pub mod clock;
pub mod forwarder;
pub mod keeper;
pub mod lane;
pub mod netmap_check;
#[cfg(target_os = "linux")]
pub mod preflight;
pub mod privileges;
pub mod severity;
pub mod thread;
