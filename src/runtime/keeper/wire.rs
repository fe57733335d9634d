//! One message on a Unix stream: a length, JSON, and descriptors with its first byte.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Most descriptors in one message.
pub(super) const MAX_FDS: usize = 4;
/// A record of a million scattered buffers stays below this.
const MAX_BYTES: usize = 32 << 20;

fn garbled(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Sends a message and copies of at most [`MAX_FDS`] descriptors.
pub(super) fn send<T: Serialize>(
    stream: &mut UnixStream,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let json = serde_json::to_vec(message).map_err(io::Error::other)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?.to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(garbled("too many descriptors for one message"));
    }
    // The length is so short that a stream takes all of it or nothing; a partial send would be an error below.
    let sent = retry(|| sendmsg(&stream, &[IoSlice::new(&length)], &mut ancillary, NO_SIGNAL))?;
    if sent != length.len() {
        return Err(garbled("the length was cut"));
    }
    stream.write_all(&json)
}

/// Receives a message and its descriptors; nothing at the end of the stream.
pub(super) fn receive<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = retry(|| {
        let flags = RecvFlags::CMSG_CLOEXEC;
        recvmsg(&stream, &mut [IoSliceMut::new(&mut length)], &mut ancillary, flags)
    })?
    .bytes;
    if got == 0 {
        return Ok(None);
    }
    let fds: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|m| if let RecvAncillaryMessage::ScmRights(fds) = m { Some(fds) } else { None })
        .flatten()
        .collect();
    stream.read_exact(&mut length[got..])?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_BYTES {
        return Err(garbled("a message is far too long"));
    }
    let mut json = vec![0; length];
    stream.read_exact(&mut json)?;
    let message = serde_json::from_slice(&json).map_err(|_| garbled("a message makes no sense"))?;
    Ok(Some((message, fds)))
}

/// A peer that is gone is an error, not a signal.
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}
