//! The forwarder over two netmap ports of the model kernel: `netmap_path PACKETS`. The model is not fast, so only a tool
//! that counts instructions outside of it has a use for this (see `callgrind.sh`).

use std::process::ExitCode;

use l4sd::port::netmap::{NetmapOptions, NetmapPort};
use l4sd::time::{Instant, Span};
use l4sd::units::BitRate;
use l4sd_bench::{discipline, forwarder, half_and_half};
use l4sd_netmap::model::{Line, Model, NicConfig};

/// Frames a breath: what the rings hold less than two of.
const BATCH: usize = 60;
/// More than wait at a time.
const HELD: u32 = 128;

/// Sends `packets` from one NIC to the other, at the rate at which they come.
fn forward(packets: u64) -> Result<(), Box<dyn std::error::Error>> {
    let model = Model::default();
    let nic = |name| model.nic(name, NicConfig { slots: 128, ..NicConfig::default() });
    let (from, to) = (nic("em0"), nic("em1"));
    let options = NetmapOptions { held: HELD, emulated: false };
    let (port, _) = NetmapPort::open(&model.netmap(), ["em0", "em1"], options)?;
    let discipline = discipline("dualpi2", HELD).ok_or("dualpi2 is in DISCIPLINES")?;
    let (mut forwarder, mut readers) = forwarder(port, BitRate::MAX, discipline);
    let frames = half_and_half(60);
    let (mut now, mut sent) = (Instant::ZERO, 0);
    while sent < packets {
        for frame in frames.iter().cycle().take(BATCH) {
            if !from.inject(Line::Nic(0), frame) {
                return Err("the receive ring is full".into());
            }
        }
        now += Span::from_micros(20);
        forwarder.breath(now)?;
        sent += to.collect(Line::Nic(0)).len() as u64;
        for reader in &mut readers {
            while reader.reports.pop().is_ok() {}
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let packets = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let Some(packets) = packets else {
        eprintln!("usage: netmap_path PACKETS");
        return ExitCode::from(64);
    };
    match forward(packets) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
