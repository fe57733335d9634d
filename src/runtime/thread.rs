//! What a packet thread asks of the scheduler: a core of its own, a real-time class, memory that stays. Every wish that
//! the host refuses is returned as a sentence for the log; none of them stops the thread.

use crate::time::Span;

/// Pins the calling thread to a core. Returns what went wrong.
pub fn pin(core: usize) -> Option<String> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    let Some(id) = ids.iter().find(|id| id.id == core) else {
        let known: Vec<String> = ids.iter().map(|id| id.id.to_string()).collect();
        return Some(format!(
            "core {core} is not available to this process (available: {})",
            known.join(", ")
        ));
    };
    (!core_affinity::set_for_current(*id))
        .then(|| format!("the host refused to pin the thread to core {core}"))
}

/// The shortest sleep that is worth it for a packet thread.
pub const SPIN: Span = Span::from_micros(5);

/// Gives the calling thread precise timers and, if `fifo` is a priority, the real-time class and memory that stays.
/// Returns what the host refused. `leaving_root` = the process will give root up, after which all memory that it takes
/// counts against a limit.
pub fn schedule(fifo: Option<u8>, leaving_root: bool) -> Vec<String> {
    let mut refused = Vec::new();
    #[cfg(target_os = "linux")]
    if let Err(e) = l4sd_host::set_precise_timers() {
        refused.push(e.to_string());
    }
    if let Some(priority) = fifo {
        if let Err(e) = l4sd_host::set_fifo(i32::from(priority)) {
            let grant = if cfg!(target_os = "linux") { ", or grant CAP_SYS_NICE" } else { "" };
            refused.push(format!("{e}; the forwarder runs in the ordinary class (run as root{grant})"));
        }
        let lifted = if leaving_root { l4sd_host::lift_memlock_limit() } else { Ok(()) };
        if let Err(e) = lifted.and_then(|()| l4sd_host::lock_memory()) {
            refused.push(format!("{e}; pages may be swapped (run as root, or raise the memlock limit)"));
        }
    }
    refused
}
