//! Giving privileges up once everything that needs one is open: root for an ordinary user, and on FreeBSD every path
//! for the descriptors that are held (Capsicum).
//!
//! The order is fixed: [`Privileges::prepare`] before anything is opened and before any thread is made; then ports,
//! listener, folders and the packet thread's scheduling class; then [`Privileges::limit`] and [`Privileges::give_up`];
//! then the first frame and the first connection. Nothing here opens anything.

use std::os::fd::BorrowedFd;

use l4sd_host::User;

/// Why privileges cannot be given up. None of them is passed over: who asks for it must not run with more.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The user does not exist.
    #[error("runtime.user: there is no user '{0}' on this host; add it, or name one that `id` knows")]
    NoUser(String),
    /// The user is root.
    #[error(
        "runtime.user: '{0}' is root, who has every privilege; name an ordinary user or leave the key out"
    )]
    Root(String),
    /// The process is neither root nor that user.
    #[error("runtime.user: only root can become '{0}'; start l4sd as root, or leave the key out")]
    NotRoot(String),
    /// The host refused.
    #[error(
        "runtime.user: cannot become '{user}': {source}; a user namespace has one user only: leave the key out there"
    )]
    Refused {
        /// The user.
        user: String,
        /// What the host said.
        source: l4sd_host::Error,
    },
    /// The host could not be asked, or the process could not be confined.
    #[error("runtime.user: {0}")]
    Host(#[from] l4sd_host::Error),
}

/// Descriptors that go on being used.
#[derive(Debug, Default)]
pub struct Held<'a> {
    /// Of the ports.
    pub ports: Vec<BorrowedFd<'a>>,
    /// The socket where metrics are served.
    pub listener: Option<BorrowedFd<'a>>,
    /// The folder that the report goes to.
    pub report: Option<BorrowedFd<'a>>,
    /// The folder that the configuration is reread from.
    pub config: Option<BorrowedFd<'a>>,
    /// The folder of the pidfile, where answers to reloads are written.
    pub answers: Option<BorrowedFd<'a>>,
    /// The pidfile, open for its lock only.
    pub locked: Option<BorrowedFd<'a>>,
}

/// What is to be given up; nothing if no user is configured.
#[derive(Debug)]
pub struct Privileges {
    user: Option<User>,
}

impl Privileges {
    /// Looks the user up, so that a typing error costs nothing, and on Linux forbids to gain privileges by executing
    /// programs.
    pub fn prepare(user: Option<&str>) -> Result<Self, PrivilegeError> {
        let found = Self::look_up(user)?;
        #[cfg(target_os = "linux")]
        if found.user.is_some() {
            l4sd_host::forbid_new_privileges()?;
        }
        Ok(found)
    }

    /// The first half of [`Privileges::prepare`]: whether the process can become the user. Changes nothing.
    pub fn look_up(user: Option<&str>) -> Result<Self, PrivilegeError> {
        let Some(name) = user else { return Ok(Self { user: None }) };
        let user = User::look_up(name)?.ok_or_else(|| PrivilegeError::NoUser(name.to_owned()))?;
        if user.uid == 0 {
            return Err(PrivilegeError::Root(user.name));
        }
        if !l4sd_host::is_root() && !user.is_current() {
            return Err(PrivilegeError::NotRoot(user.name));
        }
        Ok(Self { user: Some(user) })
    }

    /// Who the process will be.
    pub const fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// On FreeBSD, leaves the descriptors and the standard streams with the rights that they need. Elsewhere nothing.
    pub fn limit(&self, held: &Held<'_>) -> Result<(), PrivilegeError> {
        if self.user.is_some() { limit(held) } else { Ok(()) }
    }

    /// Becomes the user, all threads together, and on FreeBSD enters capability mode, from where no path, no other
    /// process and no new address can be reached. Returns what the log should say of it.
    pub fn give_up(&self) -> Result<Option<String>, PrivilegeError> {
        let Some(user) = &self.user else { return Ok(None) };
        user.assume().map_err(|source| PrivilegeError::Refused { user: user.name.clone(), source })?;
        Ok(Some(format!("running as user {} ({}), {}", user.name, user.uid, enter()?)))
    }
}

#[cfg(target_os = "freebsd")]
fn limit(held: &Held<'_>) -> Result<(), PrivilegeError> {
    use l4sd_host::capsicum::{self, Use};
    use std::os::fd::AsFd as _;

    for port in &held.ports {
        capsicum::limit(*port, Use::Netmap)?;
    }
    let uses = [
        (held.listener, Use::Listener),
        (held.report, Use::WriteFolder),
        (held.config, Use::ReadFolder),
        (held.answers, Use::WriteFolder),
        (held.locked, Use::Nothing),
    ];
    for (descriptor, what) in uses {
        if let Some(descriptor) = descriptor {
            capsicum::limit(descriptor, what)?;
        }
    }
    capsicum::limit(std::io::stdin().as_fd(), Use::Nothing)?;
    capsicum::limit(std::io::stdout().as_fd(), Use::Output)?;
    capsicum::limit(std::io::stderr().as_fd(), Use::Output)?;
    Ok(())
}

#[cfg(not(target_os = "freebsd"))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail where there is something to do")]
const fn limit(_: &Held<'_>) -> Result<(), PrivilegeError> {
    Ok(())
}

#[cfg(target_os = "freebsd")]
fn enter() -> Result<&'static str, PrivilegeError> {
    match l4sd_host::capsicum::enter() {
        Ok(()) => Ok("in capability mode"),
        Err(l4sd_host::Error::Unsupported { .. }) => {
            Ok("without capability mode, which this kernel does not have")
        }
        Err(e) => Err(e.into()),
    }
}

#[cfg(not(target_os = "freebsd"))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail where there is something to do")]
const fn enter() -> Result<&'static str, PrivilegeError> {
    Ok("no new privileges")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_user_nothing_is_given_up() {
        let privileges = Privileges::prepare(None).unwrap();
        assert_eq!(privileges.user(), None);
        privileges.limit(&Held::default()).unwrap();
        assert_eq!(privileges.give_up().unwrap(), None);
    }

    #[test]
    fn an_ordinary_user_cannot_become_another() {
        if l4sd_host::is_root() {
            return;
        }
        match Privileges::prepare(Some("nobody")) {
            Err(e @ PrivilegeError::NotRoot(_)) => assert!(e.to_string().contains("as root"), "{e}"),
            Ok(privileges) => assert!(privileges.user().is_some_and(User::is_current), "nobody itself"),
            Err(e) => panic!("{e}"),
        }
    }

    #[test]
    fn a_user_that_cannot_be_is_named_with_the_fix() {
        for (name, fix) in [("l4sd-no-such-user", "add it"), ("root", "name an ordinary user")] {
            let message = Privileges::prepare(Some(name)).unwrap_err().to_string();
            assert!(message.starts_with("runtime.user: "), "{message}");
            assert!(message.contains(&format!("'{name}'")) && message.contains(fix), "{message}");
        }
    }
}
