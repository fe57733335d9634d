//! A process that keeps netmap ports open while the data plane is restarted, and how the two talk.
//!
//! Registering a port takes the interface away from the host's stack and, with many drivers, resets the NIC: the link
//! is down for seconds. So a keeper registers once and lends the descriptors over a Unix socket, to one data plane at a
//! time. The connection is the lease: it is held for as long as the data plane lives, and its end, however it comes,
//! frees the ports for the next one. What the buffers hold is sorted out by who takes over (`port::netmap::ledger`).
//!
//! Messages are JSON behind a length of four bytes; the descriptors travel with the first byte of a grant. Nothing here
//! knows netmap: what is lent is a description and some descriptors. Whoever may open the socket (mode 0600: its owner)
//! may take the traffic.

mod client;
mod server;
mod wire;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use client::{Lease, borrow};
pub use server::{Event, Offer, Server};

/// Changed with every change of a message.
const PROTOCOL: u32 = 1;

/// What a data plane asks for.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
struct Request {
    protocol: u32,
    ports: [String; 2],
    pid: u32,
}

/// What the keeper answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Reply {
    /// The descriptors come with this message.
    Granted {
        /// What the descriptors are.
        record: serde_json::Value,
        /// How the data plane before this one ended; nothing if this is the first.
        before: Option<Ending>,
    },
    /// In words, with what to do.
    Refused { reason: String },
}

/// How a data plane ended.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Ending {
    /// It said that it was done.
    Clean,
    /// It went away: killed, crashed, or out of touch.
    Abrupt,
}

/// A data plane's last word.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
enum Farewell {
    Done,
}

/// Why ports could not be lent or borrowed.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// No keeper answers there.
    #[error("no keeper at {}: {source}; start one with `l4sd keeper --socket {}`", .path.display(), .path.display())]
    NoKeeper {
        /// The socket.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The socket belongs to somebody else.
    #[error("the socket {} is not ours to open: run as its owner", .path.display())]
    Forbidden {
        /// The socket.
        path: PathBuf,
    },
    /// The keeper said no.
    #[error("the keeper at {} refused: {reason}", .path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// In the keeper's words.
        reason: String,
    },
    /// The conversation broke off or made no sense.
    #[error("the keeper at {}: {source}; restart it with this version of l4sd", .path.display())]
    Talk {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error("cannot listen at {}: {source}; give a path in a folder that exists and is ours, with --socket", .path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Somebody listens there already.
    #[error("another keeper listens at {}: stop it, or give this one another --socket", .path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
}

impl KeeperError {
    fn talk(path: &Path, source: io::Error) -> Self {
        Self::Talk { path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests;
