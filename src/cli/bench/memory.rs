//! The whole packet path in memory. Frames come from a generator that always has one ready and go to a
//! sink; what is measured is receive, parse, queue, AQM, mark and transmit on one core, with the real loop.

use core::fmt::Write as _;

use serde::Serialize;

use super::BenchArgs;
use crate::aqm::params::{Discipline, DualQParams, Law, Limit, PiParams, SingleParams};
use crate::cli::exit::{Exit, Failure};
use crate::cli::print;
use crate::egress::{Egress, EgressConfig, LimitRule};
use crate::port::mem::{MemConfig, MemPort};
use crate::port::{PortPair, Side};
use crate::runtime::clock::{Clock, Monotonic};
use crate::runtime::forwarder::{Forwarder, LoopOptions};
use crate::runtime::lane::Lane;
use crate::telemetry::Direction;
use crate::time::Span;
use crate::units::BitRate;
use crate::wire::Ecn;
use crate::wire::build::{IpVersion, UdpFrame};

/// Equal shares of L and C.
pub(in crate::cli) const HALF_AND_HALF: [Ecn; 2] = [Ecn::Ect1, Ecn::NotEct];

#[derive(Debug, Serialize)]
struct Row {
    discipline: &'static str,
    frame_bytes: usize,
    mpps: f64,
    ns_per_packet: f64,
    gbit_per_s: f64,
}

/// IPv4 frames of `len` bytes without FCS, one per codepoint.
pub(in crate::cli) fn frames(len: usize, codepoints: &[Ecn]) -> Vec<Vec<u8>> {
    let flows = codepoints.iter().zip(0..);
    flows.map(|(&ecn, flow)| UdpFrame { version: IpVersion::V4, ecn, len, flow }.bytes()).collect()
}

/// Measures every discipline at two sizes and prints.
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
        print::line(&json)
    } else {
        let mut out = format!("one core, in memory, {} buffers, half ECT(1) half Not-ECT\n", args.buffers);
        let heads = ["discipline", "bytes", "Mpps", "ns/packet", "Gbit/s"];
        let _ = writeln!(
            out,
            "{:<10} {:>6} {:>8} {:>10} {:>9}",
            heads[0], heads[1], heads[2], heads[3], heads[4]
        );
        for r in &rows {
            let _ = writeln!(
                out,
                "{:<10} {:>6} {:>8.2} {:>10.1} {:>9.1}",
                r.discipline, r.frame_bytes, r.mpps, r.ns_per_packet, r.gbit_per_s
            );
        }
        print::text(&out)
    }
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
