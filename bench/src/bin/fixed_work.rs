//! A fixed amount of work, for a tool that counts instructions: `fixed_work WHAT PACKETS`. Two runs with different
//! counts differ by the cost of the packets and nothing else (see `callgrind.sh`).

use std::hint::black_box;
use std::process::ExitCode;

use l4sd::aqm::{Aqm, PacketMeta};
use l4sd::port::mem::{MemConfig, MemPort};
use l4sd::port::{PortPair, Side};
use l4sd::time::Instant;
use l4sd::units::BitRate;
use l4sd::wire::{self, Ecn};
use l4sd_bench::sim::SimRig;
use l4sd_bench::{DISCIPLINES, Load, Rig, discipline, half_and_half};

const USAGE: &str = "usage: fixed_work parse|port|queue:DISCIPLINE|path:DISCIPLINE|sim PACKETS";

fn parse(packets: u64) {
    let frames = half_and_half(60);
    for i in 0..packets {
        black_box(wire::parse(black_box(&frames[i as usize % 2])));
    }
}

/// The port alone: receive, send, flush.
fn port(packets: u64) -> Result<(), l4sd::port::PortError> {
    let config = MemConfig { buffers: 4096, ..MemConfig::default() };
    let mut port = MemPort::generator(config, &half_and_half(60), &[Side::Left])?;
    let mut batch = Vec::with_capacity(64);
    for _ in 0..packets / 64 {
        port.recv(Side::Left, 64, &mut batch)?;
        for frame in batch.drain(..) {
            if let Err(frame) = port.send(Side::Right, frame, Instant::ZERO) {
                port.recycle(frame);
            }
        }
        port.flush(Instant::ZERO)?;
    }
    Ok(())
}

/// Enqueue and dequeue behind 64 packets, without port, parser or shaper.
fn queue(name: &str, packets: u64) -> Option<()> {
    let mut aqm: Aqm<u32> = Aqm::new(&discipline(name, 128)?);
    let metas =
        [Ecn::Ect1, Ecn::NotEct].map(|ecn| PacketMeta { len: 60, ecn, nqb: false, ip: true, flow: 1 });
    for i in 0..packets + 64 {
        let now = Instant::from_nanos(i);
        // There is room for twice as many as ever wait.
        let _ = aqm.enqueue(i as u32, metas[i as usize % 2], now);
        if i >= 64 {
            let _ = black_box(aqm.dequeue(now));
        }
    }
    Some(())
}

/// The forwarder over memory.
fn path(load: &Load, packets: u64) -> Result<(), l4sd::port::PortError> {
    Rig::new(load)?.send(packets)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, packets] = args.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    let Ok(packets) = packets.parse::<u64>() else {
        eprintln!("'{packets}' is not a number of packets\n{USAGE}");
        return ExitCode::from(64);
    };
    let small = |discipline| Load { discipline, frame_bytes: 60, buffers: 4096, rate: BitRate::MAX };
    let known = |name: &str| DISCIPLINES.into_iter().find(|d| *d == name);
    let done = match what.split_once(':').unwrap_or((what, "")) {
        ("parse", "") => {
            parse(packets);
            Some(Ok(()))
        }
        ("port", "") => Some(port(packets)),
        ("sim", "") => {
            SimRig::ten_flows().send(packets);
            Some(Ok(()))
        }
        ("queue", name) => queue(name, packets).map(Ok),
        ("path", name) => known(name).map(|d| path(&small(d), packets)),
        _ => None,
    };
    match done {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("'{what}' is not known\n{USAGE}");
            ExitCode::from(64)
        }
    }
}
