//! The frames of a mix as a pcap file, for generators that replay one.

use std::io::Write;
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};

use super::offer::Pacer;
use super::{Mix, Offer, Source};
use crate::time::Instant;

/// Writes one cycle of `mix`, at the times at which `offer` would send it (all at once if that is [`Offer::Line`]), in
/// the old format with microseconds, which every reader knows. Returns how many frames that is.
pub fn write(mix: &Mix, seed: u64, offer: Offer, out: impl Write) -> Result<usize, PcapError> {
    let header = PcapHeader {
        datalink: DataLink::ETHERNET,
        ts_resolution: TsResolution::MicroSecond,
        endianness: Endianness::native(),
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(out, header)?;
    let mut source = Source::new(mix, seed);
    let mut pacer = Pacer::new(offer, Instant::ZERO);
    for _ in 0..source.cycle() {
        let (len, now) = (source.next_len(), pacer.next());
        let mut frame = vec![0; len];
        source.write(&mut frame, now);
        source.deal();
        pacer.sent(len);
        writer.write_packet(&PcapPacket::new(Duration::from_nanos(now.as_nanos()), len as u32, &frame))?;
    }
    writer.into_writer().flush().map_err(PcapError::IoError)?;
    Ok(source.cycle())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::parse_sizes;
    use crate::wire::{Ecn, parse};
    use pcap_file::pcap::PcapReader;

    /// 1000 frames a second of ECT(1)=3, Not-ECT=1: four frames, a millisecond apart.
    #[test]
    fn a_capture_holds_one_exact_cycle_at_its_times() {
        let mix = Mix::new(
            parse_sizes("128").unwrap(),
            "ect1=3,not_ect=1".parse().unwrap(),
            "4".parse().unwrap(),
            1,
        )
        .unwrap();
        let mut file = Vec::new();
        assert_eq!(write(&mix, 1, Offer::Frames(1000.0), &mut file).unwrap(), 4);
        let mut reader = PcapReader::new(&file[..]).unwrap();
        assert_eq!(reader.header().ts_resolution, TsResolution::MicroSecond);
        let (mut times, mut ect1) = (Vec::new(), 0);
        while let Some(packet) = reader.next_packet() {
            let packet = packet.unwrap();
            assert_eq!((packet.data.len(), packet.orig_len), (124, 124));
            times.push(packet.timestamp.as_micros());
            ect1 += u32::from(parse(&packet.data).ecn == Ecn::Ect1);
        }
        assert_eq!((times, ect1), (vec![0, 1000, 2000, 3000], 3));
    }
}
