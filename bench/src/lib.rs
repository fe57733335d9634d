//! What the benchmarks of l4sd share: frames, disciplines, and a forwarder over memory whose time is made, not read, so
//! that two runs do the same work to the instruction.
//!
//! It must not measure anything itself; that is for criterion, callgrind and the counting allocator.
#![forbid(unsafe_code)]

pub mod sim;

use l4sd::aqm::params::{Discipline, DualQParams, Law, Limit, PiParams, SingleParams};
use l4sd::egress::{Egress, EgressConfig, LimitRule};
use l4sd::port::mem::{MemConfig, MemPort};
use l4sd::port::{PortError, PortPair, Side};
use l4sd::runtime::clock::Clock;
use l4sd::runtime::forwarder::{Forwarder, LoopOptions};
use l4sd::runtime::lane::{Lane, LaneReader};
use l4sd::telemetry::Direction;
use l4sd::time::{Instant, Span};
use l4sd::units::BitRate;
use l4sd::wire::Ecn;
use l4sd::wire::build::{IpVersion, UdpFrame};

/// The disciplines that are compared.
pub const DISCIPLINES: [&str; 4] = ["dualpi2", "pi2", "codel", "taildrop"];

/// A discipline by its name in [`DISCIPLINES`], with room for `packets`.
pub fn discipline(name: &str, packets: u32) -> Option<Discipline> {
    let limit = Limit { bytes: 1 << 30, packets };
    let single = |law| Discipline::Single(SingleParams { law, limit });
    Some(match name {
        "dualpi2" => Discipline::DualQ(DualQParams::rfc9332(limit)),
        "pi2" => single(Law::Pi2(PiParams::default())),
        "codel" => single(Law::Codel { target: Span::from_millis(5), interval: Span::from_millis(100) }),
        "taildrop" => single(Law::TailDrop),
        _ => return None,
    })
}

/// An Ethernet frame of `len` bytes (42 at least) with IPv4 and UDP in it, its checksums valid.
pub fn ipv4_frame(len: usize, ecn: Ecn, flow: u16) -> Vec<u8> {
    UdpFrame { version: IpVersion::V4, ecn, len, flow }.bytes()
}

/// Half ECT(1), half Not-ECT.
pub fn half_and_half(len: usize) -> Vec<Vec<u8>> {
    [Ecn::Ect1, Ecn::NotEct].into_iter().zip(1..).map(|(ecn, flow)| ipv4_frame(len, ecn, flow)).collect()
}

/// A clock that stands still; the benchmarks pass the time to each breath.
#[derive(Copy, Clone, Debug)]
pub struct Still;

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::ZERO
    }

    fn sleep(&self, _span: Span) {}
}

/// A forwarder over `port`, with the same rate and discipline in both directions, and where its lanes tell what they do. Its
/// queues are bounded in packets alone.
pub fn forwarder<P: PortPair>(
    port: P,
    rate: BitRate,
    discipline: Discipline,
) -> (Forwarder<P, Still>, [LaneReader; 2]) {
    let egress = EgressConfig { rate, overhead: 0, mpu: 0, limit: LimitRule::Bytes(1 << 30), discipline };
    let lanes = Direction::BOTH.map(|d| Lane::new(d, Egress::new(&egress, Instant::ZERO), true));
    let [(left, left_reader), (right, right_reader)] = lanes;
    let options = LoopOptions {
        warmup: Span::ZERO,
        duration: None,
        window: Span::from_millis(16),
        spin: Span::ZERO,
        busy_poll: true,
        nap: None,
    };
    (Forwarder::new(port, Still, [left, right], options, Instant::ZERO), [left_reader, right_reader])
}

/// What a [`Rig`] forwards.
#[derive(Clone, Debug)]
pub struct Load {
    /// Name of the discipline.
    pub discipline: &'static str,
    /// Bytes of a frame.
    pub frame_bytes: usize,
    /// Buffers that exist. All but a breath's worth wait in the queues, so this is the working set.
    pub buffers: u32,
    /// The shaper's rate. Together with the standing queue it fixes the delay that the AQM sees.
    pub rate: BitRate,
}

/// Frames a breath.
const BREATH: u64 = 64;

/// A forwarder in steady state: each breath takes 64 frames in on the left and sends 64 out on the right, through a
/// standing queue.
#[derive(Debug)]
pub struct Rig {
    forwarder: Forwarder<MemPort, Still>,
    readers: [LaneReader; 2],
    now: Instant,
    step: Span,
    left_over: u64,
    rate: BitRate,
    breath_bit_ns: u64,
}

impl Rig {
    /// Builds the forwarder and fills its queues.
    ///
    /// # Panics
    /// If the name of the discipline is not in [`DISCIPLINES`].
    pub fn new(load: &Load) -> Result<Self, PortError> {
        let config = MemConfig { buffers: load.buffers, ..MemConfig::default() };
        let port = MemPort::generator(config, &half_and_half(load.frame_bytes), &[Side::Left])?;
        let discipline = discipline(load.discipline, load.buffers)
            .unwrap_or_else(|| panic!("{} is not in DISCIPLINES", load.discipline));
        let (forwarder, readers) = forwarder(port, load.rate, discipline);
        let breath_bit_ns = BREATH * load.frame_bytes as u64 * 8 * 1_000_000_000;
        let mut rig = Self {
            forwarder,
            readers,
            now: Instant::ZERO,
            step: Span::from_nanos(breath_bit_ns / load.rate.as_bps()),
            left_over: 0,
            rate: load.rate,
            breath_bit_ns,
        };
        while rig.forwarder.port().census().spare > 0 {
            rig.forwarder.breath(rig.now)?;
        }
        Ok(rig)
    }

    /// One breath, after as much time as its 64 frames take on the link. Returns how many frames came or went.
    pub fn breath(&mut self) -> Result<usize, PortError> {
        self.left_over += self.breath_bit_ns % self.rate.as_bps();
        let carry = self.left_over / self.rate.as_bps();
        self.left_over %= self.rate.as_bps();
        self.now += self.step + Span::from_nanos(carry);
        self.forwarder.breath(self.now)
    }

    /// Breathes until another `packets` have been sent.
    pub fn send(&mut self, packets: u64) -> Result<(), PortError> {
        let goal = self.sent() + packets;
        while self.sent() < goal {
            self.breath()?;
        }
        Ok(())
    }

    /// Frames sent so far.
    pub fn sent(&self) -> u64 {
        self.forwarder.port().counters(Side::Right).tx_frames
    }

    /// Takes what the lanes have told, as the managing thread of a real run does.
    pub fn read(&mut self) {
        for reader in &mut self.readers {
            while reader.reports.pop().is_ok() {}
            reader.drain_delays(|_| {});
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The standing queue stands, and every breath moves 64 in and 64 out: 128 of what it counts.
    #[test]
    fn a_rig_is_in_steady_state() {
        for discipline in DISCIPLINES {
            for (buffers, frame_bytes) in [(256, 60), (4096, 1514)] {
                let load = Load { discipline, frame_bytes, buffers, rate: BitRate::MAX };
                let mut rig = Rig::new(&load).unwrap();
                for _ in 0..10 {
                    rig.breath().unwrap();
                }
                let before = rig.sent();
                for _ in 0..1000 {
                    rig.breath().unwrap();
                    let held = rig.forwarder.port().census();
                    assert!(held.spare <= 65, "{load:?}: {held:?}");
                }
                let sent = rig.sent() - before;
                assert!(sent.abs_diff(64_000) <= 64, "{load:?}: {sent}");
            }
        }
    }
}
