//! Floods an interface with UDP frames of one size: `gen_frames send|live IFACE SIZE SECONDS [ECN...]`, where each ECN
//! is a codepoint 0 to 3 and they alternate (default: 0 and 1). Prints frames per second.
//!
//! `send` goes through `sendmmsg` past the queueing discipline, and every receiver can take it. `live` makes the kernel
//! inject XDP frames, several times as fast, which reach only a far end that runs XDP or NAPI.

use std::error::Error;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use l4sd_afxdp::{NetDevice, Program};

const BATCH: usize = 64;

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// A UDP datagram over IPv4 with a correct header checksum; `size` counts from the destination address, without FCS.
fn frame(size: usize, ecn: u8) -> Vec<u8> {
    let mut f = vec![0; size.max(42)];
    f[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    f[12..14].copy_from_slice(&0x0800_u16.to_be_bytes());
    let ip_len = (f.len() - 14) as u16;
    f[14..26].copy_from_slice(&[0x45, ecn & 3, 0, 0, 0, 1, 0x40, 0, 64, 17, 0, 0]);
    f[16..18].copy_from_slice(&ip_len.to_be_bytes());
    f[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    f[34..42].copy_from_slice(&[0x13, 0x88, 0x13, 0x89, 0, 0, 0, 0]);
    f[38..40].copy_from_slice(&(ip_len - 20).to_be_bytes());
    let sum = f[14..34].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    f[24..26].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    f
}

fn socket(ifindex: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just returned by the kernel and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let on = 1_i32;
    let ptr = (&raw const on).cast();
    // SAFETY: `ptr` is valid for reads of 4 bytes.
    unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, ptr, 4) };
    // SAFETY: all-zero bytes are a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { core::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = ifindex.cast_signed();
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is valid for reads of `len` bytes.
    let rc = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

/// Sends batches past the queueing discipline until `end`; returns how many frames.
fn send(ifindex: u32, frames: &mut [Vec<u8>], end: Instant) -> io::Result<u64> {
    let fd = socket(ifindex)?;
    let count = frames.len() as u32;
    let mut iovs: Vec<libc::iovec> = frames
        .iter_mut()
        .map(|f| libc::iovec { iov_base: f.as_mut_ptr().cast(), iov_len: f.len() })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = iovs
        .iter_mut()
        .map(|iov| {
            // SAFETY: all-zero bytes are a valid `mmsghdr`.
            let mut m: libc::mmsghdr = unsafe { core::mem::zeroed() };
            m.msg_hdr.msg_iov = iov;
            m.msg_hdr.msg_iovlen = 1;
            m
        })
        .collect();
    let mut sent = 0;
    while now() < end {
        // SAFETY: the messages point to `iovs`, those to `frames`, and all outlive the call.
        let n = unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        sent += u64::try_from(n).unwrap_or(0);
    }
    Ok(sent)
}

/// Has the kernel inject frames until `end`; returns how many.
fn live(ifindex: u32, frames: &[Vec<u8>], end: Instant) -> io::Result<u64> {
    /// Each run ends with a grace period of tens of milliseconds, so it is long.
    const RUN: u32 = 1 << 19;
    let program = Program::leave_through(ifindex)?;
    let mut sent = 0;
    for frame in frames.iter().cycle() {
        if now() >= end {
            break;
        }
        program.flood(frame, RUN)?;
        sent += u64::from(RUN);
    }
    Ok(sent)
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [how, name, size, seconds, ecn @ ..] = args.as_slice() else {
        return Err("usage: gen_frames send|live IFACE SIZE SECONDS [ECN...]".into());
    };
    let mut codepoints = ecn.iter().map(|e| e.parse()).collect::<Result<Vec<u8>, _>>()?;
    if codepoints.is_empty() {
        codepoints = vec![0, 1];
    }
    let ifindex = NetDevice::open(name)?.index();
    let size = size.parse()?;
    let mut frames: Vec<Vec<u8>> =
        (0..BATCH).map(|i| frame(size, codepoints[i % codepoints.len()])).collect();
    let start = now();
    let end = start + Duration::from_secs_f64(seconds.parse()?);
    let sent = match how.as_str() {
        "send" => send(ifindex, &mut frames, end)?,
        "live" => live(ifindex, &frames, end)?,
        other => return Err(format!("'{other}' is neither send nor live").into()),
    };
    println!("{:.0}", sent as f64 / start.elapsed().as_secs_f64());
    Ok(())
}
