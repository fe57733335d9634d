//! Ports that outlive the process which moves the frames: a keeper registers them and lends the descriptors together
//! with a [`Record`]; who borrows them finds out which buffers are free, repairs what the last one left half done, and
//! goes on. Registering takes a NIC's link down; borrowing does not touch it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use l4sd_host::Link;
use l4sd_netmap::{Buffer, Netmap, Port, Region, Registered, recover};
use serde::{Deserialize, Serialize};

use super::open::{self, NetmapOptions, Opened, PairMode, port_error};
use super::record::Indices;
use super::{NetmapPort, PortError};

/// What goes with the descriptors of a pair.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The ports as the user wrote them.
    pub specs: [String; 2],
    /// The registrations.
    pub registered: [Registered; 2],
    /// Both ports use the same memory.
    pub shared: bool,
    /// Every buffer of the registrations, in slots or not, by memory.
    pub pools: [Indices; 2],
    /// The buffer of the first memory on which the borrower notes how many frames it holds.
    pub board: u32,
}

/// What a restart found.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Restart {
    /// Frames that the data plane before held, in queues and on its way, when it last looked: they are lost.
    pub lost: u64,
    /// Slots that named a buffer which is elsewhere, or none.
    pub repaired: usize,
    /// Buffers free to use.
    pub free: usize,
}

/// The noticeboard: 8 bytes of magic and 8 of count at the start of a buffer that is in no slot.
#[derive(Debug)]
pub(super) struct Board(Buffer);

const MAGIC: [u8; 8] = *b"l4sdheld";

impl Board {
    /// Notes that `held` frames are in the caller's hands.
    pub(super) fn write(&mut self, region: &Region, held: u64) {
        let bytes = region.bytes_mut(&mut self.0, 16);
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..].copy_from_slice(&held.to_ne_bytes());
    }

    fn read(&self, region: &Region) -> u64 {
        match region.bytes(&self.0, 16).split_first_chunk::<8>() {
            Some((&MAGIC, rest)) => rest.first_chunk().map_or(0, |b| u64::from_ne_bytes(*b)),
            _ => 0,
        }
    }

    /// The buffer, with nothing noted on it.
    pub(super) fn retire(mut self, region: &Region) -> Buffer {
        self.write(region, 0);
        self.0
    }
}

/// Registered ports with nobody to serve them.
#[derive(Debug)]
pub struct Kept {
    netmap: Netmap,
    fds: [OwnedFd; 2],
    record: Record,
    links: [Option<Link>; 2],
    promiscuous: [bool; 2],
}

impl Kept {
    /// Registers `left` and `right` with buffers for a data plane that holds `options.held` frames.
    ///
    /// # Errors
    /// As for [`NetmapPort::open`]; and pipes, whose other end puts its own buffers into the rings, so that nobody could
    /// say after a crash which are ours.
    pub fn open(
        netmap: &Netmap,
        names: [&str; 2],
        options: NetmapOptions,
    ) -> Result<(Self, PairMode), PortError> {
        let opened = open::open(netmap, names, options)?;
        for (port, spec) in opened.ports.iter().zip(&opened.specs) {
            if port.name().is_pipe() {
                let reason =
                    "a pipe trades buffers with its other end, so a keeper cannot vouch for them: open it \
                              without one"
                        .to_owned();
                return Err(PortError::Spec { port: spec.clone(), reason });
            }
        }
        let mode = opened.mode();
        let Opened { mut ports, specs, links, promiscuous, shared, extra: [mut first, second], .. } = opened;
        let fail = |spec: usize| move |e| port_error(names[spec], e);
        let mut pools = [slots(&ports[0]).collect::<Vec<_>>(), slots(&ports[1]).collect()];
        pools[0].extend(first.iter().map(Buffer::index));
        pools[1].extend(second.iter().map(Buffer::index));
        if shared {
            let other = core::mem::take(&mut pools[1]);
            pools[0].extend(other);
        }
        let mut board = first.pop().map(Board).ok_or_else(|| open::no_memory(names[0], 0, options))?;
        board.write(ports[0].region(), 0);
        let record = Record {
            specs,
            registered: ports.each_ref().map(|port| port.registered().clone()),
            shared,
            pools: pools.map(Indices::pack),
            board: board.0.index(),
        };
        // In their chains the buffers are safe even if the keeper is killed; the board alone is not.
        ports[0].give_extra(first).map_err(fail(0))?;
        ports[1].give_extra(second).map_err(fail(1))?;
        let copy = |at: usize| {
            let port: &Port = &ports[at];
            port.fd().try_clone_to_owned().map_err(|source| PortError::Os {
                port: names[at].to_owned(),
                call: "dup",
                source,
            })
        };
        let fds = [copy(0)?, copy(1)?];
        Ok((Self { netmap: netmap.clone(), fds, record, links, promiscuous }, mode))
    }

    /// What to lend.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What to lend with it.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        self.fds.each_ref().map(AsFd::as_fd)
    }

    /// Copies of the descriptors, for a borrower in this process.
    pub fn lend(&self) -> std::io::Result<[OwnedFd; 2]> {
        Ok([self.fds[0].try_clone()?, self.fds[1].try_clone()?])
    }

    /// After a borrower has died: puts what it held back into the chains, from where the kernel frees it if the keeper
    /// is killed, too. The note on the board stays for the next borrower.
    ///
    /// # Errors
    /// [`PortError::Interface`] if the buffers cannot be accounted for: only opening the ports anew helps.
    pub fn tidy(&self) -> Result<Restart, PortError> {
        self.gather(false)
    }

    /// Closes the ports in good order: every buffer that is in no slot is chained up for the kernel. Nobody may be
    /// borrowing.
    ///
    /// # Errors
    /// As for [`Kept::tidy`]; the ports are closed all the same.
    pub fn close(self) -> Result<Restart, PortError> {
        open::set_back(&self.links, self.promiscuous);
        self.gather(true)
    }

    fn gather(&self, board_too: bool) -> Result<Restart, PortError> {
        let lent = self.lend().map_err(|source| PortError::Os {
            port: self.record.specs[0].clone(),
            call: "dup",
            source,
        })?;
        let (mut ports, extra, restart) = attach(&self.netmap, &self.record, lent)?;
        for (at, spares) in extra.into_iter().enumerate() {
            let (board, spares): (Vec<_>, Vec<_>) =
                spares.into_iter().partition(|b| at == 0 && b.index() == self.record.board);
            let all = spares.into_iter().chain(board.into_iter().filter(|_| board_too));
            ports[at].give_extra(all).map_err(|e| port_error(&self.record.specs[at], e))?;
        }
        Ok(restart)
    }
}

/// Both ports, the free buffers of each memory (the board among them), and what was found.
type Attached = ([Port; 2], [Vec<Buffer>; 2], Restart);

/// Attaches and accounts for every buffer of the record.
fn attach(netmap: &Netmap, record: &Record, fds: [OwnedFd; 2]) -> Result<Attached, PortError> {
    let [first, second] = &record.specs;
    let [left_fd, right_fd] = fds;
    let [left, right] = record.registered.clone();
    let mut left = netmap.attach(left_fd, left).map_err(|e| port_error(first, e))?;
    let mut right = netmap.attach(right_fd, right).map_err(|e| port_error(second, e))?;
    let pools = record.pools.each_ref().map(|pool| pool.iter().collect::<Vec<u32>>());
    let found = if record.shared {
        let all = recover(&mut [&mut left, &mut right], &pools[0]).map_err(|e| port_error(first, e))?;
        [Some(all), None]
    } else {
        [
            Some(recover(&mut [&mut left], &pools[0]).map_err(|e| port_error(first, e))?),
            Some(recover(&mut [&mut right], &pools[1]).map_err(|e| port_error(second, e))?),
        ]
    };
    let ports = [left, right];
    let mut restart = Restart::default();
    let mut extra = [Vec::new(), Vec::new()];
    for (pool, recovered) in found.into_iter().enumerate() {
        let Some(recovered) = recovered else { continue };
        let sharing = if record.shared { &ports[..] } else { &ports[pool..=pool] };
        let in_slots: usize = sharing.iter().map(open::slot_count).sum();
        let accounted = in_slots - recovered.foreign + recovered.spares.len();
        if recovered.foreign > 0 || accounted != pools[pool].len() {
            let reason = format!(
                "{} of its {} buffers are accounted for and {} slots hold buffers of somebody else: restart the keeper",
                accounted,
                pools[pool].len(),
                recovered.foreign
            );
            return Err(PortError::Interface { port: record.specs[pool].clone(), reason });
        }
        restart.repaired += recovered.repaired;
        restart.free += recovered.spares.len();
        extra[pool] = recovered.spares;
    }
    restart.lost = extra[0].iter().position(|buffer| buffer.index() == record.board).map_or(0, |at| {
        let board = Board(extra[0].swap_remove(at));
        let lost = board.read(ports[0].region());
        extra[0].push(board.0);
        lost
    });
    Ok((ports, extra, restart))
}

impl NetmapPort {
    /// Goes on with ports that a keeper lent.
    ///
    /// # Errors
    /// [`PortError::Interface`]: the buffers cannot be accounted for, or an interface is down; [`PortError::Os`].
    pub fn borrow(netmap: &Netmap, record: &Record, fds: [OwnedFd; 2]) -> Result<(Self, Restart), PortError> {
        let (ports, mut extra, restart) = attach(netmap, record, fds)?;
        let at = extra[0].iter().position(|buffer| buffer.index() == record.board);
        let mut board = at.map(|at| Board(extra[0].swap_remove(at)));
        if let Some(board) = &mut board {
            board.write(ports[0].region(), 0);
        }
        let links = open::links(&ports, &record.specs)?;
        let (specs, shared) = (record.specs.clone(), record.shared);
        let asked = restart.free as u32;
        let opened =
            Opened { ports, specs, links, promiscuous: [false; 2], shared, extra, asked, adapters: None };
        Ok((Self::new(opened, board, restart.lost), restart))
    }
}

/// The indices in all slots of a port.
pub(super) fn slots(port: &Port) -> impl Iterator<Item = u32> + '_ {
    port.slots_census().map(|slot| slot.index)
}
