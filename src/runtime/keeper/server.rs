//! The keeper's end: one thread that waits for a data plane to come or to go.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use rustix::process::umask;

use super::{Ending, Farewell, KeeperError, PROTOCOL, Reply, Request, wire};

/// How soon a request to stop is seen.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Whoever connects says at once what it wants, or loses its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// What there is to borrow.
#[derive(Debug)]
pub struct Offer<'a> {
    /// The ports' names, left and right, as a data plane must ask for them.
    pub ports: [String; 2],
    /// What the descriptors are.
    pub record: serde_json::Value,
    /// Copies of these are lent.
    pub fds: Vec<BorrowedFd<'a>>,
}

/// What a keeper has to tell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A data plane has the ports.
    Lent {
        /// Its process, as it says.
        pid: u32,
    },
    /// Somebody was turned away.
    Refused {
        /// Its process, as it says; 0 if it said nothing.
        pid: u32,
        /// Why.
        reason: String,
    },
    /// The data plane is gone, and the ports are free.
    Returned {
        /// Its process.
        pid: u32,
        /// How it ended.
        ending: Ending,
    },
}

/// A listening keeper. The socket is removed when it is dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

struct Tenant {
    stream: UnixStream,
    pid: u32,
}

impl Server {
    /// Listens at `path`, which only the user of this process may open. A socket that a dead keeper has left there is
    /// removed. Call it before there are other threads: it changes the process's umask for a moment.
    pub fn listen(path: &Path) -> Result<Self, KeeperError> {
        let failed = |source| KeeperError::Listen { path: path.to_owned(), source };
        if let Ok(meta) = fs::symlink_metadata(path) {
            if !meta.file_type().is_socket() {
                return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, "the file is not a socket")));
            }
            if UnixStream::connect(path).is_ok() {
                return Err(KeeperError::Taken { path: path.to_owned() });
            }
            fs::remove_file(path).map_err(failed)?;
        }
        let before = umask(rustix::fs::Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        umask(before);
        let listener = bound.map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Lends `offer`, to one data plane at a time, until `stop`. Returns the process of the data plane that has the
    /// ports then, if one has.
    pub fn serve(
        &self,
        offer: &Offer<'_>,
        stop: &AtomicBool,
        mut tell: impl FnMut(Event),
    ) -> Result<Option<u32>, KeeperError> {
        let mut tenant: Option<Tenant> = None;
        let mut before = None;
        while !stop.load(Ordering::Relaxed) {
            let (arrival, news) = self.wait(tenant.as_ref()).map_err(|e| KeeperError::talk(&self.path, e))?;
            if let (Some(t), true) = (&mut tenant, news) {
                let ending = t.ending();
                tell(Event::Returned { pid: t.pid, ending });
                before = Some(ending);
                tenant = None;
            }
            if !arrival {
                continue;
            }
            // Whoever has hung up again is nobody's loss.
            let Ok((stream, _)) = self.listener.accept() else { continue };
            match admit(stream, offer, tenant.as_ref(), before) {
                Ok(new) => {
                    tell(Event::Lent { pid: new.pid });
                    tenant = Some(new);
                }
                Err((pid, reason)) => tell(Event::Refused { pid, reason }),
            }
        }
        Ok(tenant.map(|t| t.pid))
    }

    /// Whether somebody knocks, and whether the tenant has something to say.
    fn wait(&self, tenant: Option<&Tenant>) -> io::Result<(bool, bool)> {
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        fds.extend(tenant.map(|t| PollFd::from_borrowed_fd(t.stream.as_fd(), PollFlags::IN)));
        match poll(&mut fds, Some(&LOOK)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        Ok((ready(0), ready(1)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The next keeper removes what is left.
        let _ = fs::remove_file(&self.path);
    }
}

impl Tenant {
    /// How the data plane ended, which has sent its last word or has hung up.
    fn ending(&mut self) -> Ending {
        match wire::receive::<Farewell>(&mut self.stream) {
            Ok(Some((Farewell::Done, _))) => Ending::Clean,
            Ok(None) | Err(_) => Ending::Abrupt,
        }
    }
}

/// Answers one request.
fn admit(
    mut stream: UnixStream,
    offer: &Offer<'_>,
    tenant: Option<&Tenant>,
    before: Option<Ending>,
) -> Result<Tenant, (u32, String)> {
    let patient = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    let request: Request = match patient.and_then(|()| wire::receive(&mut stream)) {
        Ok(Some((request, _))) => request,
        Ok(None) => return Err((0, "it hung up without a request".to_owned())),
        Err(e) => return Err((0, e.to_string())),
    };
    let pid = request.pid;
    let refusal = if request.protocol != PROTOCOL {
        Some(format!(
            "it speaks version {} and the data plane version {}: restart the keeper from the same l4sd",
            PROTOCOL, request.protocol
        ))
    } else if let Some(t) = tenant {
        Some(format!("process {} has the ports: stop it first", t.pid))
    } else if request.ports != offer.ports {
        let ([left, right], [l, r]) = (&offer.ports, &request.ports);
        Some(format!("it keeps {left} and {right}, not {l} and {r}: give both the same --left and --right"))
    } else {
        None
    };
    if let Some(reason) = refusal {
        // Whether the other end hears it or not, it is refused.
        let _ = wire::send(&mut stream, &Reply::Refused { reason: reason.clone() }, &[]);
        return Err((pid, reason));
    }
    let grant = Reply::Granted { record: offer.record.clone(), before };
    wire::send(&mut stream, &grant, &offer.fds).map_err(|e| (pid, e.to_string()))?;
    Ok(Tenant { stream, pid })
}
