//! Sleeping where little is allowed.

use std::time::Duration;

/// Sleeps for `span`, in FreeBSD's capability mode as well: std calls clock_nanosleep(2) there, which that mode does not
/// have, and panics.
#[cfg(target_os = "freebsd")]
pub fn sleep(span: Duration) {
    let mut left = libc::timespec {
        tv_sec: libc::time_t::try_from(span.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: span.subsec_nanos().into(),
    };
    // SAFETY: both pointers are to `left`, which lives through the call; the kernel reads before it writes.
    while unsafe { libc::nanosleep(&raw const left, &raw mut left) } != 0 {
        if std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return;
        }
    }
}

/// Sleeps for `span`.
#[cfg(not(target_os = "freebsd"))]
pub fn sleep(span: Duration) {
    std::thread::sleep(span);
}
