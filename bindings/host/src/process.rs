//! The calling thread and process: scheduling class, memory locks, timers, capabilities.

use crate::error::{Error, Result};

/// Puts the calling thread into the real-time class SCHED_FIFO at `priority`, 1 (lowest) to 99.
///
/// Needs CAP_SYS_NICE or a sufficient RLIMIT_RTPRIO in the initial user namespace.
pub fn set_fifo(priority: i32) -> Result<()> {
    // SAFETY: all-zero is a valid `sched_param` on every platform.
    let mut param: libc::sched_param = unsafe { core::mem::zeroed() };
    param.sched_priority = priority;
    // SAFETY: `param` lives through the call; 0 is the calling thread (Linux) or process (FreeBSD).
    let rc = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) };
    match rc {
        0.. => Ok(()),
        _ => Err(Error::last("sched_setscheduler(SCHED_FIFO)")),
    }
}

/// Locks the pages that the process has and will have in memory, so that the data path takes no page faults from
/// swapping. Failing is not fatal for anyone: say so and go on.
pub fn lock_memory() -> Result<()> {
    // SAFETY: no pointers.
    let rc = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) };
    if rc == 0 { Ok(()) } else { Err(Error::last("mlockall")) }
}

/// How many bytes the process may lock without privilege; nothing if there is no limit.
pub fn memlock_limit() -> Result<Option<u64>> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives through the call, which fills it.
    let rc = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    if rc != 0 {
        return Err(Error::last("getrlimit(RLIMIT_MEMLOCK)"));
    }
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "rlim_t is signed on FreeBSD")]
    Ok((limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur as u64))
}

/// Sends SIGHUP to the process `pid`, more than 1.
pub fn hang_up(pid: i32) -> Result<()> {
    assert!(pid > 1, "0 and negative numbers are whole groups");
    // SAFETY: no pointers.
    let rc = unsafe { libc::kill(pid, libc::SIGHUP) };
    if rc == 0 { Ok(()) } else { Err(Error::last("kill(SIGHUP)")) }
}

/// Lets the process lock as much memory as it likes, as root may anyway. Before root is given up: with
/// [`lock_memory`] in force, later memory counts against the limit, and there is soon none to be had.
pub fn lift_memlock_limit() -> Result<()> {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` lives through the call, which reads it.
    let rc = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    if rc == 0 { Ok(()) } else { Err(Error::last("setrlimit(RLIMIT_MEMLOCK)")) }
}

#[cfg(target_os = "linux")]
pub use linux::{Capability, has_capability, rt_runtime_us, set_precise_timers};

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    use crate::error::{Error, Result};

    /// A Linux capability that some part of the program needs, by its bit number (capabilities(7)).
    #[derive(Copy, Clone, Debug, Eq, PartialEq)]
    pub enum Capability {
        /// CAP_NET_ADMIN: hooks, interface settings.
        NetAdmin = 12,
        /// CAP_NET_RAW: packet sockets.
        NetRaw = 13,
        /// CAP_IPC_LOCK: locking memory beyond RLIMIT_MEMLOCK.
        IpcLock = 14,
        /// CAP_SYS_ADMIN: the older way to load BPF programs.
        SysAdmin = 21,
        /// CAP_SYS_NICE: real-time scheduling.
        SysNice = 23,
        /// CAP_BPF: loading BPF programs.
        Bpf = 39,
    }

    /// Whether the process has `capability` in its own user namespace, effectively.
    pub fn has_capability(capability: Capability) -> Result<bool> {
        let path = "/proc/self/status";
        let status = fs::read_to_string(path).map_err(|source| Error::Os { call: path, source })?;
        effective(&status).map(|set| set >> capability as u32 & 1 == 1).ok_or(Error::Garbled { call: path })
    }

    pub(super) fn effective(status: &str) -> Option<u64> {
        let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(digits.trim(), 16).ok()
    }

    /// Microseconds of each second that real-time threads may run before the kernel throttles them; nothing if they
    /// are not throttled.
    pub fn rt_runtime_us() -> Result<Option<u64>> {
        let read = |call: &'static str| {
            let text = fs::read_to_string(call).map_err(|source| Error::Os { call, source })?;
            text.trim().parse::<i64>().map_err(|_| Error::Garbled { call })
        };
        let runtime = read("/proc/sys/kernel/sched_rt_runtime_us")?;
        let period = read("/proc/sys/kernel/sched_rt_period_us")?;
        if runtime < 0 || runtime >= period || period <= 0 {
            return Ok(None);
        }
        Ok(u64::try_from(runtime * 1_000_000 / period).ok())
    }

    /// Sets the timer slack of the calling thread to 1 ns, so that sleeps of threads outside the real-time classes end
    /// when they should and not up to 50 microseconds later.
    pub fn set_precise_timers() -> Result<()> {
        // SAFETY: the option takes one integer and no pointers.
        let rc = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong, 0, 0, 0) };
        if rc == 0 { Ok(()) } else { Err(Error::last("prctl(PR_SET_TIMERSLACK)")) }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn effective_set_is_read_from_its_line_only() {
            let status = "Name:\tx\nCapInh:\tffffffffffffffff\nCapEff:\t0000008000002000\nCapBnd:\t0\n";
            let set = effective(status).unwrap();
            assert_eq!(set, 1 << Capability::Bpf as u32 | 1 << Capability::NetRaw as u32);
            assert_eq!(effective("Name:\tx\n"), None);
        }

        #[test]
        fn own_process_answers() {
            has_capability(Capability::NetRaw).unwrap();
            set_precise_timers().unwrap();
            if let Some(us) = rt_runtime_us().unwrap() {
                assert!(us < 1_000_000);
            }
        }
    }
}
