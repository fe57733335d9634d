//! One AF_XDP socket on one receive queue: its fill, receive, transmit and completion rings, in terms of frames that
//! are owned. Must not know of programs, interfaces' settings or other sockets.

use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::abi::{self, Desc, MmapOffsets, SockaddrXdp, Statistics};
use crate::ring::{Consumer, Producer};
use crate::sys;
use crate::umem::{Frame, Umem};

/// Ring sizes of a socket, in entries, powers of two. `tx` 0 makes a socket that only receives.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct RingSizes {
    /// The fill ring and the receive ring.
    pub rx: u32,
    /// The transmit ring and the completion ring.
    pub tx: u32,
}

/// How the memory is used by the driver.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum CopyMode {
    /// The NIC reads and writes the frames themselves.
    ZeroCopy,
    /// The kernel copies between frames and its own buffers.
    Copy,
}

/// Whose registration of the memory a socket uses.
#[derive(Debug)]
pub(crate) enum Registration<'a> {
    /// Its own, in this mode.
    Own(CopyMode),
    /// That of a socket bound before, whose mode is inherited.
    Of(BorrowedFd<'a>),
}

/// A bound AF_XDP socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    umem: Arc<Umem>,
    fill: Producer<u64>,
    rx: Consumer<Desc>,
    tx: Option<Producer<Desc>>,
    completion: Consumer<u64>,
    filled: usize,
    fill_limit: usize,
    transmitting: usize,
    tx_limit: usize,
    strays: u64,
}

impl Socket {
    pub(crate) fn bind(
        ifindex: u32,
        queue: u32,
        umem: &Arc<Umem>,
        registration: &Registration<'_>,
        sizes: RingSizes,
    ) -> Result<Self, (&'static str, io::Error)> {
        let named = |call| move |e| (call, e);
        let fd = sys::socket(libc::AF_XDP, libc::SOCK_RAW).map_err(named("socket(AF_XDP)"))?;
        let f = fd.as_fd();
        if let Registration::Own(_) = registration {
            umem.register(f).map_err(named("XDP_UMEM_REG"))?;
        }
        let completions = sizes.tx.max(64);
        let ring =
            |name, size: u32, call| sys::setsockopt(f, libc::SOL_XDP, name, &size).map_err(named(call));
        ring(abi::XDP_UMEM_FILL_RING, sizes.rx, "XDP_UMEM_FILL_RING")?;
        ring(abi::XDP_UMEM_COMPLETION_RING, completions, "XDP_UMEM_COMPLETION_RING")?;
        ring(abi::XDP_RX_RING, sizes.rx, "XDP_RX_RING")?;
        if sizes.tx > 0 {
            ring(abi::XDP_TX_RING, sizes.tx, "XDP_TX_RING")?;
        }
        let mut at = MmapOffsets::default();
        sys::getsockopt(f, libc::SOL_XDP, abi::XDP_MMAP_OFFSETS, &mut at)
            .map_err(named("XDP_MMAP_OFFSETS"))?;

        let mapped = |e| ("mmap of a ring", e);
        let fill = Producer::map(f, at.fill, sizes.rx, abi::XDP_UMEM_PGOFF_FILL_RING).map_err(mapped)?;
        let rx = Consumer::map(f, at.rx, sizes.rx, abi::XDP_PGOFF_RX_RING).map_err(mapped)?;
        let tx = match sizes.tx {
            0 => None,
            n => Some(Producer::map(f, at.tx, n, abi::XDP_PGOFF_TX_RING).map_err(mapped)?),
        };
        let completion = Consumer::map(f, at.completion, completions, abi::XDP_UMEM_PGOFF_COMPLETION_RING)
            .map_err(mapped)?;

        // Copy-mode transmission charges skbs to the socket's send buffer and stops at 32 a call unless told
        // otherwise; older kernels know neither and are merely slower.
        let _ = sys::setsockopt(f, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &(64_i32 << 20));
        let _ = sys::setsockopt(f, libc::SOL_XDP, abi::XDP_MAX_TX_SKB_BUDGET, &sizes.tx.clamp(32, 256));

        let (flags, shared_umem_fd) = match registration {
            Registration::Own(CopyMode::ZeroCopy) => (abi::XDP_ZEROCOPY | abi::XDP_USE_NEED_WAKEUP, 0),
            Registration::Own(CopyMode::Copy) => (abi::XDP_COPY | abi::XDP_USE_NEED_WAKEUP, 0),
            Registration::Of(fd) => (abi::XDP_SHARED_UMEM, fd.as_raw_fd() as u32),
        };
        let address =
            SockaddrXdp { family: libc::AF_XDP as u16, flags, ifindex, queue_id: queue, shared_umem_fd };
        sys::bind_xdp(f, &address).map_err(named("bind(AF_XDP)"))?;
        Ok(Self {
            fd,
            umem: Arc::clone(umem),
            fill,
            rx,
            tx,
            completion,
            filled: 0,
            fill_limit: sizes.rx as usize,
            transmitting: 0,
            tx_limit: sizes.tx as usize,
            strays: 0,
        })
    }

    /// Gives frames for reception to the kernel, newest first, as many as fit. The kernel never holds more than the
    /// ring's size of them.
    pub fn fill_from(&mut self, spares: &mut Vec<Frame>) {
        let missing = self.fill_limit - self.filled;
        if missing == 0 {
            return;
        }
        let room = if self.fill.room() < missing { self.fill.refresh() } else { self.fill.room() };
        for _ in 0..missing.min(room) {
            let Some(frame) = spares.pop() else { break };
            self.fill.push(self.umem.surrender(frame));
            self.filled += 1;
        }
        self.fill.publish();
    }

    /// Appends at most `budget` received frames to `batch`, oldest first. Returns how many frames had to be passed
    /// over because they were parts of a packet larger than one frame; their buffers are appended to `spares`.
    pub fn receive(&mut self, budget: usize, batch: &mut Vec<Frame>, spares: &mut Vec<Frame>) -> usize {
        let mut oversize = 0;
        for _ in 0..budget {
            let Some(desc) = self.rx.pop() else { break };
            match self.umem.reclaim(desc.addr, desc.len) {
                Some(frame) if desc.options == 0 => batch.push(frame),
                Some(frame) => {
                    oversize += 1;
                    spares.push(frame);
                }
                None => {
                    self.strays += 1;
                    continue;
                }
            }
            self.filled -= 1;
        }
        self.rx.release();
        oversize
    }

    /// Wakes the driver if it sleeps until frames for reception arrive.
    pub fn wake_rx(&self) -> io::Result<()> {
        if self.fill.needs_wakeup() { sys::wake_rx(self.fd.as_fd()) } else { Ok(()) }
    }

    /// How many frames [`Self::transmit`] will take.
    pub fn tx_room(&self) -> usize {
        self.tx.as_ref().map_or(0, Producer::room).min(self.tx_limit - self.transmitting)
    }

    /// Puts a frame into the transmit ring, or gives it back if there is no room. An empty frame is not taken: the
    /// kernel would never return it.
    pub fn transmit(&mut self, frame: Frame) -> Result<(), Frame> {
        let room = self.tx_room();
        let Some(tx) = self.tx.as_mut().filter(|_| room > 0 && frame.len() > 0) else { return Err(frame) };
        let len = frame.len() as u32;
        tx.push(Desc { addr: self.umem.surrender(frame), len, options: 0 });
        self.transmitting += 1;
        Ok(())
    }

    /// Shows the kernel the frames to transmit and, if it sleeps, drives it until it has taken all it can now.
    /// `Ok(n)`: `n` frames were refused for good (`EBUSY`: the device took none of them).
    pub fn submit(&mut self) -> io::Result<u64> {
        let Some(tx) = self.tx.as_mut() else { return Ok(0) };
        tx.publish();
        let mut refused = 0;
        let mut left = tx.untaken();
        while left > 0 && tx.needs_wakeup() {
            match sys::wake_tx(self.fd.as_fd()).map_err(|e| (e.raw_os_error(), e)) {
                Ok(()) | Err((Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR), _)) => {}
                Err((Some(libc::EBUSY), _)) => refused += 1,
                Err((_, e)) => return Err(e),
            }
            let before = core::mem::replace(&mut left, tx.untaken());
            if left == before {
                break;
            }
        }
        Ok(refused)
    }

    /// Tells the kernel that there is something to transmit, whether or not it asks to be told. For a transmission
    /// that does not get ahead.
    pub fn kick_tx(&self) -> io::Result<()> {
        sys::wake_tx(self.fd.as_fd())
    }

    /// Appends the frames whose transmission is over to `spares`, telling `done` about each.
    pub fn complete(&mut self, spares: &mut Vec<Frame>, mut done: impl FnMut(&Frame)) {
        while let Some(addr) = self.completion.pop() {
            if let Some(frame) = self.umem.reclaim(addr, 0) {
                self.transmitting -= 1;
                done(&frame);
                spares.push(frame);
            } else {
                self.strays += 1;
            }
        }
        self.completion.release();
        if let Some(tx) = self.tx.as_mut() {
            tx.refresh();
        }
    }

    /// Frames in the kernel's hands: for reception and for transmission.
    pub fn in_rings(&self) -> usize {
        self.filled + self.transmitting
    }

    /// Frames submitted for transmission and not returned.
    pub fn transmitting(&self) -> usize {
        self.transmitting
    }

    /// Times the kernel returned a frame that it did not have. Anything but 0 is a kernel bug.
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// What the kernel counted for this socket.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let mut s = Statistics::default();
        sys::getsockopt(self.fd.as_fd(), libc::SOL_XDP, abi::XDP_STATISTICS, &mut s)?;
        Ok(s)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sleeps on a set of sockets.
#[derive(Debug)]
pub struct Waiter {
    fds: Vec<libc::pollfd>,
}

impl Waiter {
    /// For these sockets; it must not outlive them.
    pub fn new<'a>(sockets: impl IntoIterator<Item = &'a Socket>) -> Self {
        let entry = |s: &Socket| libc::pollfd { fd: s.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        Self { fds: sockets.into_iter().map(entry).collect() }
    }

    /// Waits until a frame may be received on one of them, or `timeout` has passed, or a signal came. False if none is
    /// ready; that is also what a vanished interface looks like. Drives pending copy-mode transmission as well.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        Ok(sys::poll(&mut self.fds, timeout)? > 0)
    }
}
