//! Giving up root: the user that the process becomes once everything that needs a privilege is open.

use core::mem::zeroed;
use core::ptr;
use std::ffi::{CStr, CString};
use std::io;

use crate::error::{Error, Result};

/// A user of the system and its own group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its own group.
    pub gid: u32,
}

impl User {
    /// The user called `name`, or nothing if there is none.
    pub fn look_up(name: &str) -> Result<Option<Self>> {
        const CALL: &str = "getpwnam_r";
        let Ok(wanted) = CString::new(name) else { return Ok(None) };
        let mut room = vec![0; 1024];
        loop {
            // SAFETY: all-zero is a valid `passwd`: null pointers and numbers.
            let mut entry: libc::passwd = unsafe { zeroed() };
            let mut found: *mut libc::passwd = ptr::null_mut();
            // SAFETY: the name ends in NUL; `entry`, `room` and `found` live through the call and `room` is as long
            // as it is told.
            let status = unsafe {
                libc::getpwnam_r(
                    wanted.as_ptr(),
                    &raw mut entry,
                    room.as_mut_ptr(),
                    room.len(),
                    &raw mut found,
                )
            };
            match status {
                0 if found.is_null() => return Ok(None),
                0 => {
                    // SAFETY: the call succeeded, so `pw_name` points to a string in `room`.
                    let name = unsafe { CStr::from_ptr(entry.pw_name) }.to_string_lossy().into_owned();
                    return Ok(Some(Self { name, uid: entry.pw_uid, gid: entry.pw_gid }));
                }
                libc::ERANGE if room.len() < 1 << 20 => room.resize(room.len() * 2, 0),
                // What some systems answer for a name that is in no database.
                libc::ENOENT | libc::ESRCH => return Ok(None),
                errno => return Err(Error::Os { call: CALL, source: io::Error::from_raw_os_error(errno) }),
            }
        }
    }

    /// Whether the process already runs as this user and could not become another.
    pub fn is_current(&self) -> bool {
        let mut ids = [0; 3];
        let [real, effective, saved] = &mut ids;
        // SAFETY: three numbers that live through the call, which fills them.
        let rc = unsafe { libc::getresuid(real, effective, saved) };
        rc == 0 && self.uid != 0 && ids == [self.uid; 3]
    }

    /// Makes every thread of the process this user for good: real, effective and saved user and group, no further
    /// groups. On Linux that also empties the sets of capabilities. Does nothing if the process is that user already.
    ///
    /// An error may leave the process half-way: end it then.
    pub fn assume(&self) -> Result<()> {
        if self.is_current() {
            return Ok(());
        }
        // The groups first: with the user goes the right to change them. One entry and not none, because in a FreeBSD
        // process the first is the effective group.
        // SAFETY: one group, read during the call.
        if unsafe { libc::setgroups(1, &raw const self.gid) } != 0 {
            return Err(Error::last("setgroups"));
        }
        // SAFETY: no pointers. The C library does it for all threads of the process.
        if unsafe { libc::setresgid(self.gid, self.gid, self.gid) } != 0 {
            return Err(Error::last("setresgid"));
        }
        // SAFETY: as above.
        if unsafe { libc::setresuid(self.uid, self.uid, self.uid) } != 0 {
            return Err(Error::last("setresuid"));
        }
        // SAFETY: no pointers.
        if unsafe { libc::setuid(0) } == 0 {
            return Err(Error::Garbled { call: "setuid(0), which must fail now," });
        }
        Ok(())
    }
}

/// Whether the process may become any user.
pub fn is_root() -> bool {
    // SAFETY: no arguments; cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Forbids the process, and all that it starts, to gain privileges by executing a program. Holds for the calling
/// thread and those that it makes later, so it comes before any. Linux; on FreeBSD capability mode forbids paths, and
/// thereby programs, altogether.
#[cfg(target_os = "linux")]
pub fn forbid_new_privileges() -> Result<()> {
    // SAFETY: the option takes integers and no pointers.
    let rc = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as libc::c_ulong, 0, 0, 0) };
    if rc == 0 { Ok(()) } else { Err(Error::last("prctl(PR_SET_NO_NEW_PRIVS)")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_nobody_are_found_and_an_invented_user_is_not() {
        let root = User::look_up("root").unwrap().unwrap();
        assert_eq!((root.name.as_str(), root.uid, root.gid), ("root", 0, 0));
        assert!(User::look_up("nobody").unwrap().unwrap().uid > 0);
        assert_eq!(User::look_up("l4sd-no-such-user").unwrap(), None);
        assert_eq!(User::look_up("a\0b").unwrap(), None);
    }

    #[test]
    fn root_is_never_the_user_that_privileges_are_given_up_for() {
        assert!(!User::look_up("root").unwrap().unwrap().is_current());
    }
}
