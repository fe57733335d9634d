//! `l4sd bench`: the whole packet path in memory. Frames come from a generator that always has one ready and go to a
//! sink; what is measured is receive, parse, queue, AQM, mark and transmit on one core, with the real loop.

use clap::Args;
use serde::Serialize;

use super::exit::{Exit, Failure};
use crate::aqm::params::{Discipline, DualQParams, Law, Limit, PiParams, SingleParams};
use crate::egress::{Egress, EgressConfig, LimitRule};
use crate::port::mem::{MemConfig, MemPort};
use crate::port::{PortPair, Side};
use crate::runtime::clock::{Clock, Monotonic};
use crate::runtime::forwarder::{Forwarder, LoopOptions};
use crate::runtime::lane::Lane;
use crate::telemetry::Direction;
use crate::time::Span;
use crate::units::{self, BitRate};
use crate::wire::Ecn;

/// Arguments of `l4sd bench`.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// How long to measure each row
    #[arg(long, value_name = "TIME", value_parser = units::parse_span, default_value = "1s")]
    duration: Span,
    /// Buffers in the pool: 256 stays in the first cache, 65536 in none
    #[arg(long, value_name = "N", default_value_t = 4096)]
    buffers: u32,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Equal shares of L and C.
pub(super) const HALF_AND_HALF: [Ecn; 2] = [Ecn::Ect1, Ecn::NotEct];

#[derive(Debug, Serialize)]
struct Row {
    discipline: &'static str,
    frame_bytes: usize,
    mpps: f64,
    ns_per_packet: f64,
    gbit_per_s: f64,
}

/// IPv4 frames of `len` bytes, one per codepoint.
pub(super) fn frames(len: usize, codepoints: &[Ecn]) -> Vec<Vec<u8>> {
    codepoints
        .iter()
        .enumerate()
        .map(|(i, ecn)| {
            let mut f = vec![0u8; len];
            f[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
            f[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
            f[12] = 0x08;
            f[14] = 0x45;
            f[15] = *ecn as u8;
            f[16..18].copy_from_slice(&((len - 14) as u16).to_be_bytes());
            f[22] = 64;
            f[23] = 17;
            f[26..30].copy_from_slice(&[198, 18, 0, 1]);
            f[30..34].copy_from_slice(&[198, 18, 1, 1 + i as u8]);
            let sum: u32 = f[14..34].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
            let folded = (sum & 0xffff) + (sum >> 16);
            f[24..26].copy_from_slice(&(!(folded as u16)).to_be_bytes());
            f
        })
        .collect()
}

/// Runs the verb.
pub(super) fn bench(args: &BenchArgs) -> Result<(), Failure> {
    let limit = Limit { bytes: 1 << 30, packets: args.buffers };
    let single = |law| Discipline::Single(SingleParams { law, limit });
    let disciplines = [
        ("dualpi2", Discipline::DualQ(DualQParams::rfc9332(limit))),
        ("pi2", single(Law::Pi2(PiParams::default()))),
        ("codel", single(Law::Codel { target: Span::from_millis(5), interval: Span::from_millis(100) })),
        ("taildrop", single(Law::TailDrop)),
    ];
    let mut rows = Vec::new();
    for (name, discipline) in &disciplines {
        for frame_bytes in [60, 1514] {
            rows.push(measure(name, discipline, frame_bytes, args)?);
        }
    }
    if args.json {
        let json = serde_json::to_string_pretty(&rows).map_err(|e| Failure::new(Exit::Internal, e))?;
        println!("{json}");
    } else {
        println!("one core, in memory, {} buffers, half ECT(1) half Not-ECT", args.buffers);
        println!("{:<10} {:>6} {:>8} {:>10} {:>9}", "discipline", "bytes", "Mpps", "ns/packet", "Gbit/s");
        for r in &rows {
            println!(
                "{:<10} {:>6} {:>8.2} {:>10.1} {:>9.1}",
                r.discipline, r.frame_bytes, r.mpps, r.ns_per_packet, r.gbit_per_s
            );
        }
    }
    Ok(())
}

fn measure(
    name: &'static str,
    discipline: &Discipline,
    frame_bytes: usize,
    args: &BenchArgs,
) -> Result<Row, Failure> {
    let clock = Monotonic::start();
    let start = clock.now();
    let config = MemConfig { buffers: args.buffers.max(256), ..MemConfig::default() };
    let port = MemPort::generator(config, &frames(frame_bytes, &HALF_AND_HALF), &[Side::Left])?;
    let egress = EgressConfig {
        rate: BitRate::MAX,
        overhead: 0,
        mpu: 0,
        limit: LimitRule::Bytes(1 << 30),
        discipline: discipline.clone(),
    };
    let lanes = Direction::BOTH.map(|d| Lane::new(d, Egress::new(&egress, start), true).0);
    let options = LoopOptions {
        warmup: Span::ZERO,
        duration: None,
        window: Span::from_millis(16),
        spin: Span::ZERO,
        busy_poll: true,
        nap: None,
    };
    let mut forwarder = Forwarder::new(port, clock, lanes, options, start);
    let end = start + args.duration;
    let mut now = start;
    while now < end {
        now = clock.now();
        forwarder.breath(now)?;
    }
    let sent = forwarder.port().counters(Side::Right).tx_frames;
    let mpps = sent as f64 / now.since(start).as_secs_f64() / 1e6;
    Ok(Row {
        discipline: name,
        frame_bytes,
        mpps,
        ns_per_packet: 1e3 / mpps,
        gbit_per_s: mpps * frame_bytes as f64 * 8.0 / 1e3,
    })
}
