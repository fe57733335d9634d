//! The memory that all sockets share, cut into frames, and the tokens that own them. Must not know of rings.
//!
//! A [`Frame`] is the right to one frame: it is not `Clone`, it is given up when the frame goes to the kernel, and the
//! kernel's returning the frame mints it anew. The memory remembers which frames the kernel has, so a kernel that
//! names a frame twice gets no second token for it.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::io;
use std::os::fd::BorrowedFd;

use crate::abi::{UmemReg, XDP_PACKET_HEADROOM, XDP_UMEM_REG};
use crate::mmap::Mmap;
use crate::sys;

/// The exclusive right to one frame of a [`Umem`] and to the bytes of the packet in it.
pub struct Frame {
    umem: u32,
    index: u32,
    offset: u32,
    len: u32,
}

impl Frame {
    /// Which frame of its memory this is; below [`Umem::frames`].
    pub fn index(&self) -> usize {
        self.index as usize
    }

    /// The length of the packet in bytes.
    #[expect(clippy::len_without_is_empty, reason = "an empty frame has no meaning of its own")]
    pub fn len(&self) -> usize {
        self.len as usize
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({}, {} B)", self.index, self.len)
    }
}

/// Memory for frames, known to the kernel once registered with a socket.
#[derive(Debug)]
pub struct Umem {
    id: u32,
    memory: Mmap,
    frame_size: u32,
    in_kernel: Box<[AtomicBool]>,
}

impl Umem {
    /// The largest packet that fits a frame of `frame_size` bytes.
    pub const fn packet_capacity(frame_size: u32) -> u32 {
        frame_size.saturating_sub(XDP_PACKET_HEADROOM)
    }

    /// Memory for `frames` frames of `frame_size` bytes (2048 or 4096: the kernel takes no other power of two on 4 KiB
    /// pages), and the tokens of all of them.
    pub fn new(frames: u32, frame_size: u32) -> io::Result<(Self, Vec<Frame>)> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !matches!(frame_size, 2048 | 4096) || frames == 0 {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let memory = Mmap::anonymous(frames as usize * frame_size as usize)?;
        let tokens = (0..frames).map(|index| Frame { umem: id, index, offset: 0, len: 0 }).collect();
        let in_kernel = (0..frames).map(|_| AtomicBool::new(false)).collect();
        Ok((Self { id, memory, frame_size, in_kernel }, tokens))
    }

    /// How many frames there are.
    pub fn frames(&self) -> usize {
        self.in_kernel.len()
    }

    /// The size of a frame in bytes.
    pub fn frame_size(&self) -> u32 {
        self.frame_size
    }

    /// The packet in a frame.
    pub fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        let (start, len) = self.range(frame);
        // SAFETY: `range` is inside the mapping, which lives as long as `self`. The token is the only one for this
        // frame and is borrowed, so nobody writes to it: not the kernel, which has not got the frame, nor `bytes_mut`.
        unsafe { core::slice::from_raw_parts(self.memory.start().as_ptr().add(start), len) }
    }

    /// The packet in a frame, to change.
    pub fn bytes_mut<'a>(&'a self, frame: &'a mut Frame) -> &'a mut [u8] {
        let (start, len) = self.range(frame);
        // SAFETY: as in `bytes`; the exclusive borrow of the only token makes the slice exclusive.
        unsafe { core::slice::from_raw_parts_mut(self.memory.start().as_ptr().add(start), len) }
    }

    /// Makes `frame` hold a packet of `len` bytes (clamped to what fits), whose bytes are whatever was there.
    pub fn resize(&self, frame: &mut Frame, len: usize) {
        let _ = self.range(frame);
        frame.offset = XDP_PACKET_HEADROOM;
        frame.len = (len as u32).min(Self::packet_capacity(self.frame_size));
    }

    /// Tells the kernel about the memory. The socket `fd` owns the registration, others share it through `fd`.
    pub(crate) fn register(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let reg = UmemReg {
            addr: self.memory.start().as_ptr() as usize as u64,
            len: self.memory.len() as u64,
            chunk_size: self.frame_size,
            ..UmemReg::default()
        };
        sys::setsockopt(fd, libc::SOL_XDP, XDP_UMEM_REG, &reg)
    }

    /// Takes the token of a frame that goes to the kernel and returns the address of its packet.
    #[expect(clippy::needless_pass_by_value, reason = "taking the token is the point")]
    pub(crate) fn surrender(&self, frame: Frame) -> u64 {
        let Frame { umem, index, offset, .. } = frame;
        assert_eq!(umem, self.id, "a frame of another memory");
        self.in_kernel[index as usize].store(true, Ordering::Relaxed);
        u64::from(index) * u64::from(self.frame_size) + u64::from(offset)
    }

    /// The token for a frame that the kernel returned, or none if the kernel did not have it or the packet is not
    /// inside it.
    pub(crate) fn reclaim(&self, addr: u64, len: u32) -> Option<Frame> {
        let size = u64::from(self.frame_size);
        let (index, offset) = (addr / size, addr % size);
        if offset + u64::from(len) > size || !self.in_kernel.get(index as usize)?.load(Ordering::Relaxed) {
            return None;
        }
        self.in_kernel[index as usize].store(false, Ordering::Relaxed);
        Some(Frame { umem: self.id, index: index as u32, offset: offset as u32, len })
    }

    fn range(&self, frame: &Frame) -> (usize, usize) {
        assert_eq!(frame.umem, self.id, "a frame of another memory");
        (frame.index as usize * self.frame_size as usize + frame.offset as usize, frame.len as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_returned_once_and_only_if_the_kernel_had_it() {
        let (umem, mut frames) = Umem::new(4, 2048).unwrap();
        assert!(umem.reclaim(2048, 60).is_none(), "frame 1 was never given away");
        let frame = frames.remove(1);
        assert_eq!(umem.surrender(frame), 2048);
        let back = umem.reclaim(2048 + 256, 60).unwrap();
        assert_eq!((back.index(), back.len()), (1, 60));
        assert!(umem.reclaim(2048 + 256, 60).is_none(), "the kernel named it twice");
    }

    #[test]
    fn an_address_outside_the_memory_or_a_packet_outside_its_frame_gives_no_token() {
        let (umem, frames) = Umem::new(2, 2048).unwrap();
        for frame in frames {
            umem.surrender(frame);
        }
        assert!(umem.reclaim(2 * 2048, 1).is_none());
        assert!(umem.reclaim(u64::MAX, 1).is_none());
        assert!(umem.reclaim(256, 2048 - 255).is_none());
        assert!(umem.reclaim(256, 2048 - 256).is_some());
    }

    #[test]
    fn packets_keep_to_their_own_frame() {
        let (umem, mut frames) = Umem::new(2, 2048).unwrap();
        for (f, value) in frames.iter_mut().zip([0xaa, 0xbb]) {
            umem.resize(f, 5000);
            assert_eq!(f.len(), 1792);
            umem.bytes_mut(f).fill(value);
        }
        assert!(umem.bytes(&frames[0]).iter().all(|b| *b == 0xaa));
        assert!(umem.bytes(&frames[1]).iter().all(|b| *b == 0xbb));
    }

    #[test]
    #[should_panic(expected = "another memory")]
    fn a_token_of_another_memory_opens_nothing() {
        let (a, _tokens) = Umem::new(1, 2048).unwrap();
        let (_b, tokens) = Umem::new(1, 2048).unwrap();
        let _ = a.bytes(&tokens[0]);
    }
}
