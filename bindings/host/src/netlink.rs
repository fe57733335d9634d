//! Netlink sockets and the encoding of their messages. Knows nothing of interfaces or nftables.

use core::mem::size_of;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::error::{Error, Result};

const HEADER: usize = size_of::<libc::nlmsghdr>();
const ATTRIBUTE: usize = size_of::<libc::nlattr>();
const ALIGN: usize = 4;

const _: () = assert!(HEADER == 16);
const _: () = assert!(ATTRIBUTE == 4);

/// One message or a batch of them, being built.
#[derive(Debug, Default)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    messages: u32,
}

impl Request {
    /// Appends a message of type `kind`; `body` writes what follows its header.
    pub(crate) fn message(mut self, kind: u16, flags: i32, body: impl FnOnce(&mut Self)) -> Self {
        let start = self.bytes.len();
        self.messages += 1;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&self.messages.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        body(&mut self);
        let len = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
        self
    }

    /// Appends a fixed header of the message's family.
    pub(crate) fn fixed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends an attribute and its padding.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend_from_slice(&((ATTRIBUTE + value.len()) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
    }

    /// Appends an attribute that holds attributes.
    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | libc::NLA_F_NESTED as u16).to_ne_bytes());
        body(self);
        let len = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
    }
}

/// A message from the kernel.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The message's type.
    pub(crate) kind: u16,
    /// What follows its header.
    pub(crate) body: Vec<u8>,
}

/// Splits attributes into (type without flags, value); stops at the first malformed one.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    core::iter::from_fn(move || {
        let (head, _) = bytes.split_first_chunk::<ATTRIBUTE>()?;
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & libc::NLA_TYPE_MASK as u16;
        let value = bytes.get(ATTRIBUTE..len)?;
        bytes = bytes.get(len.next_multiple_of(ALIGN)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// The first four bytes of a value as an integer of this host's byte order.
pub(crate) fn u32_of(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

/// A netlink socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    call: &'static str,
}

impl Socket {
    /// Opens a socket of `protocol` that waits at most two seconds for an answer. Errors name `call`.
    pub(crate) fn open(protocol: libc::c_int, call: &'static str) -> Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        if fd < 0 {
            return Err(Error::last(call));
        }
        // SAFETY: a descriptor that was just opened and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let patience = libc::timeval { tv_sec: 2, tv_usec: 0 };
        // SAFETY: the pointer and the length describe `patience`, which lives through the call.
        let rc = unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const patience).cast(),
                size_of::<libc::timeval>() as libc::socklen_t,
            )
        };
        if rc == 0 { Ok(Self { fd, call }) } else { Err(Error::last(call)) }
    }

    /// The address that the kernel gave this socket, unique in its network namespace while the socket is open.
    pub(crate) fn port_id(&self) -> Result<u32> {
        // SAFETY: all-zero is a valid `sockaddr_nl`.
        let mut address: libc::sockaddr_nl = unsafe { core::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as u16;
        let mut len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: the pointer and the length describe `address`, which lives through the call.
        let bound = unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), len) };
        if bound != 0 {
            return Err(Error::last(self.call));
        }
        // SAFETY: as above; the kernel writes at most `len` bytes.
        let named =
            unsafe { libc::getsockname(self.fd.as_raw_fd(), (&raw mut address).cast(), &raw mut len) };
        if named == 0 { Ok(address.nl_pid) } else { Err(Error::last(self.call)) }
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        // SAFETY: the pointer and the length describe `bytes`, which lives through the call.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent == bytes.len().cast_signed() { Ok(()) } else { Err(Error::last(self.call)) }
    }

    fn receive<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
        // SAFETY: the pointer and the length describe `buffer`, which lives through the call.
        let got = unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let got = usize::try_from(got).map_err(|_| Error::last(self.call))?;
        Ok(&buffer[..got.min(buffer.len())])
    }

    /// Sends a request and gathers the answers until the end of a dump, until `acks` messages were acknowledged, or
    /// until the kernel reports an error.
    pub(crate) fn transact(&self, request: &Request, acks: usize) -> Result<Vec<Reply>> {
        self.send(&request.bytes)?;
        let mut replies = Vec::new();
        let mut missing = acks;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let mut rest = self.receive(&mut buffer)?;
            while let Some((head, _)) = rest.split_first_chunk::<HEADER>() {
                let garbled = Error::Garbled { call: self.call };
                let len = u32_of(head).map_or(0, |len| len as usize);
                let kind = u16::from_ne_bytes([head[4], head[5]]);
                let body = rest.get(HEADER..len).ok_or(garbled)?;
                rest = rest.get(len.next_multiple_of(ALIGN)..).unwrap_or(&[]);
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(replies),
                    libc::NLMSG_ERROR => {
                        let code = u32_of(body).map_or(0, u32::cast_signed);
                        if code != 0 {
                            let source = io::Error::from_raw_os_error(-code);
                            return Err(Error::Os { call: self.call, source });
                        }
                        missing = missing.saturating_sub(1);
                        if missing == 0 {
                            return Ok(replies);
                        }
                    }
                    _ => replies.push(Reply { kind, body: body.to_vec() }),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_written_and_truncation_ends_them() {
        let mut request = Request::default();
        request.attribute(3, b"abcde");
        request.nest(4, |r| r.attribute(1, &7u32.to_be_bytes()));
        let read: Vec<_> = attributes(&request.bytes).collect();
        assert_eq!(read[0], (3, &b"abcde"[..]));
        assert_eq!(read[1].0, 4);
        assert_eq!(attributes(read[1].1).collect::<Vec<_>>(), [(1, &[0, 0, 0, 7][..])]);
        assert_eq!(attributes(&request.bytes[..request.bytes.len() - 1]).count(), 1);
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0, "a length below its own header");
    }

    #[test]
    fn message_lengths_cover_header_and_body() {
        let request = Request::default().message(16, 0, |r| r.fixed(&[1, 2, 3, 4])).message(
            17,
            libc::NLM_F_ACK,
            |_| (),
        );
        assert_eq!(request.bytes.len(), 36);
        assert_eq!(u32_of(&request.bytes), Some(20));
        assert_eq!(u32_of(&request.bytes[20..]), Some(16));
        assert_eq!(&request.bytes[28..32], 2u32.to_ne_bytes(), "sequence numbers differ");
    }
}
