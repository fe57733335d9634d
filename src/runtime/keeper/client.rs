//! The data plane's end: borrow the ports, and hold the connection for as long as they are used.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Ending, Farewell, KeeperError, PROTOCOL, Reply, Request, wire};

/// The keeper answers at once or is not one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Borrowed ports. Dropped without [`Lease::end`], the next data plane is told that this one ended abruptly.
#[derive(Debug)]
pub struct Lease {
    stream: UnixStream,
    path: PathBuf,
    /// What the descriptors are, in the keeper's words.
    pub record: serde_json::Value,
    /// How the data plane before this one ended, if there was one.
    pub before: Option<Ending>,
}

/// Borrows the ports called `ports` from the keeper that listens at `path`. The descriptors belong to the caller.
pub fn borrow(path: &Path, ports: [String; 2]) -> Result<(Lease, Vec<OwnedFd>), KeeperError> {
    let mut stream = UnixStream::connect(path).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => KeeperError::Forbidden { path: path.to_owned() },
        _ => KeeperError::NoKeeper { path: path.to_owned(), source },
    })?;
    let talk = |e| KeeperError::talk(path, e);
    stream.set_read_timeout(Some(PATIENCE)).map_err(talk)?;
    let request = Request { protocol: PROTOCOL, ports, pid: std::process::id() };
    wire::send(&mut stream, &request, &[]).map_err(talk)?;
    let gone = || io::Error::new(io::ErrorKind::UnexpectedEof, "hung up without an answer");
    match wire::receive(&mut stream).map_err(talk)?.ok_or_else(|| talk(gone()))? {
        (Reply::Granted { record, before }, fds) => {
            Ok((Lease { stream, path: path.to_owned(), record, before }, fds))
        }
        (Reply::Refused { reason }, _) => Err(KeeperError::Refused { path: path.to_owned(), reason }),
    }
}

impl Lease {
    /// Where the keeper listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the ports back in good order.
    pub fn end(mut self) -> Result<(), KeeperError> {
        wire::send(&mut self.stream, &Farewell::Done, &[]).map_err(|e| KeeperError::talk(&self.path, e))
    }
}
