//! Records what a pair receives and sends as pcap files with nanosecond time stamps.
//!
//! There is one writer for each side and direction, each optional, so that "what came in on the left" and "what went
//! out on the right" are two files that can be compared. Time stamps are the breath's: nanoseconds on the driver's
//! axis, not of the day. A received frame is copied at `recv` and written at the next `flush`, which brings the time of
//! the same breath, so it is recorded as it arrived even if it is marked afterwards.
//!
//! A capture must never disturb traffic: a writer that fails is reported once and closed, and the frames go on.

use std::io::Write;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};

use super::{Census, PortCounters, PortError, PortPair, Side};
use crate::time::{Instant, Span};

/// Where frames are recorded, by [`Side::index`]; `None` records nothing.
#[derive(Debug)]
pub struct Taps<W> {
    /// Frames handed out by `recv`.
    pub received: [Option<W>; 2],
    /// Frames accepted by `send`.
    pub sent: [Option<W>; 2],
}

impl<W> Default for Taps<W> {
    fn default() -> Self {
        Self { received: [None, None], sent: [None, None] }
    }
}

/// A pair whose traffic is recorded.
#[derive(Debug)]
pub struct Pcap<P, W: Write> {
    inner: P,
    received: [Tap<W>; 2],
    sent: [Tap<W>; 2],
    unstamped: Vec<(Side, Vec<u8>)>,
}

#[derive(Debug)]
struct Tap<W: Write> {
    name: String,
    writer: Option<PcapWriter<W>>,
}

impl<W: Write> Tap<W> {
    fn new(verb: &str, side: Side, out: Option<W>) -> Self {
        let mut tap = Self { name: format!("frames {verb} on the {side}"), writer: None };
        if let Some(out) = out {
            let header = PcapHeader {
                datalink: DataLink::ETHERNET,
                ts_resolution: TsResolution::NanoSecond,
                endianness: Endianness::native(),
                ..PcapHeader::default()
            };
            match PcapWriter::with_header(out, header) {
                Ok(writer) => tap.writer = Some(writer),
                Err(error) => tap.report(&error),
            }
        }
        tap
    }

    fn record(&mut self, at: Instant, bytes: &[u8]) {
        let Some(writer) = &mut self.writer else { return };
        let stamp = Duration::from_nanos(at.as_nanos());
        if let Err(error) = writer.write_packet(&PcapPacket::new(stamp, bytes.len() as u32, bytes)) {
            self.report(&error);
            self.writer = None;
        }
    }

    fn report(&self, error: &PcapError) {
        let cause: &dyn std::error::Error = match error {
            PcapError::IoError(io) => io,
            other => other,
        };
        tracing::warn!(
            "the capture of {} stopped: {cause}; traffic goes on, free space and restart to capture",
            self.name
        );
    }

    fn finish(self) -> Option<W> {
        self.writer.map(PcapWriter::into_writer)
    }
}

impl<P: PortPair, W: Write> Pcap<P, W> {
    /// Records the traffic of `inner` from now on. Writes the file headers.
    pub fn new(inner: P, taps: Taps<W>) -> Self {
        let [left_in, right_in] = taps.received;
        let [left_out, right_out] = taps.sent;
        Self {
            inner,
            received: [
                Tap::new("received", Side::Left, left_in),
                Tap::new("received", Side::Right, right_in),
            ],
            sent: [Tap::new("sent", Side::Left, left_out), Tap::new("sent", Side::Right, right_out)],
            unstamped: Vec::new(),
        }
    }

    /// The recorded pair.
    pub const fn inner(&self) -> &P {
        &self.inner
    }

    /// Whether a capture of `side` is still being written.
    pub fn is_recording(&self, side: Side) -> bool {
        self.received[side.index()].writer.is_some() || self.sent[side.index()].writer.is_some()
    }

    /// Ends the captures and gives back the pair and the writers, unflushed; a writer that failed is gone. Frames
    /// received after the last `flush` are not recorded.
    pub fn finish(self) -> (P, Taps<W>) {
        (self.inner, Taps { received: self.received.map(Tap::finish), sent: self.sent.map(Tap::finish) })
    }

    fn stamp(&mut self, now: Instant) {
        for (side, bytes) in self.unstamped.drain(..) {
            self.received[side.index()].record(now, &bytes);
        }
    }
}

impl<P: PortPair, W: Write> PortPair for Pcap<P, W> {
    type Frame = P::Frame;

    const BREATH: usize = P::BREATH;

    fn recv(&mut self, from: Side, budget: usize, batch: &mut Vec<P::Frame>) -> Result<(), PortError> {
        let old = batch.len();
        let outcome = self.inner.recv(from, budget, batch);
        if self.received[from.index()].writer.is_some() {
            self.unstamped.extend(batch[old..].iter().map(|frame| (from, self.inner.bytes(frame).to_vec())));
        }
        outcome
    }

    fn bytes<'a>(&'a self, frame: &'a P::Frame) -> &'a [u8] {
        self.inner.bytes(frame)
    }

    fn bytes_mut<'a>(&'a mut self, frame: &'a mut P::Frame) -> &'a mut [u8] {
        self.inner.bytes_mut(frame)
    }

    fn tx_room(&self, to: Side) -> usize {
        self.inner.tx_room(to)
    }

    fn tx_pending_bytes(&self, to: Side) -> u64 {
        self.inner.tx_pending_bytes(to)
    }

    fn send(&mut self, to: Side, frame: P::Frame, now: Instant) -> Result<(), P::Frame> {
        let tap = &mut self.sent[to.index()];
        let copy = tap.writer.is_some().then(|| self.inner.bytes(&frame).to_vec());
        self.inner.send(to, frame, now)?;
        if let Some(bytes) = copy {
            tap.record(now, &bytes);
        }
        Ok(())
    }

    fn recycle(&mut self, frame: P::Frame) {
        self.inner.recycle(frame);
    }

    fn flush(&mut self, now: Instant) -> Result<(), PortError> {
        self.stamp(now);
        self.inner.flush(now)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.inner.next_deadline()
    }

    fn wait(&mut self, timeout: Span) -> Result<(), PortError> {
        self.inner.wait(timeout)
    }

    fn counters(&self, side: Side) -> PortCounters {
        self.inner.counters(side)
    }

    fn census(&self) -> Census {
        self.inner.census()
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.inner.descriptors()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::mem::{MemConfig, MemPort, Outside};
    use pcap_file::pcap::PcapReader;

    /// Takes `room` bytes and then fails like a full disk.
    #[derive(Debug)]
    struct Disk(usize);

    impl Write for Disk {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            if buf.len() > self.0 {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.0 -= buf.len();
            Ok(buf.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn records(file: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut reader = PcapReader::new(file).unwrap();
        assert_eq!(reader.header().ts_resolution, TsResolution::NanoSecond);
        assert_eq!(reader.header().datalink, DataLink::ETHERNET);
        let mut records = Vec::new();
        while let Some(packet) = reader.next_packet() {
            let packet = packet.unwrap();
            assert_eq!(packet.orig_len as usize, packet.data.len());
            records.push((packet.timestamp.as_nanos() as u64, packet.data.into_owned()));
        }
        records
    }

    fn breath<W: Write + std::fmt::Debug>(port: &mut Pcap<MemPort, W>, outside: &Outside, seq: u8, ns: u64) {
        assert!(outside.inject(Side::Left, &[seq; 60]));
        let mut batch = Vec::new();
        port.recv(Side::Left, 8, &mut batch).unwrap();
        let mut frame = batch.pop().unwrap();
        port.bytes_mut(&mut frame)[15] |= 3;
        port.send(Side::Right, frame, Instant::from_nanos(ns)).unwrap();
        port.flush(Instant::from_nanos(ns)).unwrap();
    }

    #[test]
    fn both_directions_of_a_frame_are_recorded_as_they_were_with_the_time_of_the_breath() {
        let (port, outside) = MemPort::new(MemConfig { buffers: 8, ring: 8 });
        let taps = Taps { received: [Some(Vec::new()), None], sent: [None, Some(Vec::new())] };
        let mut port = Pcap::new(port, taps);
        breath(&mut port, &outside, 0x10, 7);
        breath(&mut port, &outside, 0x20, 3_000_000_123);
        let (_, taps) = port.finish();
        let [Some(received), None] = taps.received else { panic!("left only") };
        let [None, Some(sent)] = taps.sent else { panic!("right only") };
        let mut marked = [[0x10; 60], [0x20; 60]];
        assert_eq!(records(&received), [(7, marked[0].to_vec()), (3_000_000_123, marked[1].to_vec())]);
        for frame in &mut marked {
            frame[15] |= 3;
        }
        assert_eq!(records(&sent), [(7, marked[0].to_vec()), (3_000_000_123, marked[1].to_vec())]);
    }

    #[test]
    fn a_refused_frame_is_not_recorded_as_sent() {
        let (port, outside) = MemPort::new(MemConfig { buffers: 8, ring: 1 });
        let mut port = Pcap::new(port, Taps { sent: [None, Some(Vec::new())], ..Taps::default() });
        let mut batch = Vec::new();
        for seq in 0..2 {
            outside.inject(Side::Left, &[seq; 60]);
            port.recv(Side::Left, 8, &mut batch).unwrap();
        }
        let second = batch.pop().unwrap();
        port.send(Side::Right, batch.pop().unwrap(), Instant::ZERO).unwrap();
        port.send(Side::Right, second, Instant::ZERO).unwrap_err();
        let [_, Some(sent)] = port.finish().1.sent else { panic!("right") };
        assert_eq!(records(&sent), [(0, vec![0; 60])]);
    }

    #[test]
    fn a_full_disk_ends_the_capture_and_nothing_else() {
        let (port, outside) = MemPort::new(MemConfig { buffers: 8, ring: 8 });
        let disk = |room| Some(Disk(room));
        // 24 bytes of file header, 16 + 60 for each record.
        let mut port = Pcap::new(port, Taps { received: [disk(24 + 2 * 76), None], sent: [None, disk(10)] });
        assert!(port.is_recording(Side::Left));
        assert!(!port.is_recording(Side::Right), "no room for the header");
        for seq in 0..5 {
            breath(&mut port, &outside, seq, u64::from(seq));
        }
        assert!(!port.is_recording(Side::Left));
        assert_eq!(outside.collect(Side::Right).len(), 5);
        assert_eq!(port.census(), Census { total: 8, spare: 8, in_rings: 0 });
    }
}
