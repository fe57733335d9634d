//! Time per packet: the parser, the queues alone, and the whole path over memory by discipline and working set. Figures
//! are per breath of 64 packets, so that criterion's throughput is packets a second.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up is not run")]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use l4sd::aqm::{Aqm, PacketMeta};
use l4sd::time::{Instant, Span};
use l4sd::units::BitRate;
use l4sd::wire::{self, Ecn};
use l4sd_bench::sim::SimRig;
use l4sd_bench::{DISCIPLINES, Load, Rig, discipline, ipv4_frame};

const BREATH: u64 = 64;

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(BREATH));
    let frames: Vec<Vec<u8>> = (0..BREATH as u16).map(|i| ipv4_frame(60, Ecn::Ect1, i)).collect();
    group.bench_function("ipv4", |b| b.iter(|| frames.iter().map(|f| wire::parse(black_box(f)).flow).max()));
    group.bench_function("set_ce", |b| {
        b.iter_batched_ref(
            || frames.clone(),
            |frames| frames.iter_mut().filter_map(|f| wire::set_ce(f).then_some(())).count(),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn queue(c: &mut Criterion) {
    let mut group = c.benchmark_group("queue");
    group.throughput(Throughput::Elements(BREATH));
    let metas =
        [Ecn::Ect1, Ecn::NotEct].map(|ecn| PacketMeta { len: 60, ecn, nqb: false, ip: true, flow: 1 });
    for name in DISCIPLINES {
        let mut aqm: Aqm<u32> = Aqm::new(&discipline(name, 4096).unwrap());
        let mut now = Instant::ZERO;
        group.bench_function(name, |b| {
            b.iter(|| {
                now += Span::from_micros(1);
                for i in 0..BREATH as u32 {
                    let _ = black_box(aqm.enqueue(i, metas[i as usize % 2], now));
                }
                while let Some(departure) = aqm.dequeue(now) {
                    let _ = black_box(departure);
                }
            });
        });
    }
    group.finish();
}

fn path(c: &mut Criterion) {
    let mut group = c.benchmark_group("path");
    group.throughput(Throughput::Elements(BREATH));
    for discipline in DISCIPLINES {
        for (buffers, frame_bytes) in [(128, 60), (4096, 60), (65_536, 60), (4096, 1514)] {
            let load = Load { discipline, frame_bytes, buffers, rate: BitRate::MAX };
            let mut rig = Rig::new(&load).unwrap();
            let id = BenchmarkId::new(discipline, format!("{buffers}x{frame_bytes}"));
            group.bench_function(id, |b| b.iter(|| rig.breath().unwrap()));
        }
    }
    group.finish();
}

/// Packet departures a second of the simulator on one core: ten flows, the senders and windows included.
fn simulator(c: &mut Criterion) {
    const PACKETS: u64 = 10_000;
    let mut group = c.benchmark_group("sim");
    group.throughput(Throughput::Elements(PACKETS));
    let mut rig = SimRig::ten_flows();
    group.bench_function("ten-flows", |b| b.iter(|| rig.send(black_box(PACKETS))));
    group.finish();
}

criterion_group!(benches, parse, queue, path, simulator);
criterion_main!(benches);
