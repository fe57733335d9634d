//! Parameters with the defaults of RFC 9332 Appendix A, and the few that a controller may move while running.

use crate::time::Span;
use crate::units::BitRate;

/// Bytes of a full-size Ethernet frame without FCS, the "MTU" of RFC 9332's pseudo-code.
pub const MTU_BYTES: u32 = 1514;

/// Most packets that wait in one egress unless told otherwise; fixes the memory that queues take.
pub const DEFAULT_LIMIT_PACKETS: u32 = 32_768;

/// Which discipline an egress runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Discipline {
    /// RFC 9332.
    DualQ(DualQParams),
    /// One queue under one law.
    Single(SingleParams),
}

/// Limits of the shared buffer.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Limit {
    /// Bytes; a packet is refused if what waits plus one MTU would exceed it (RFC 9332 Appendix A figure 3).
    pub bytes: u64,
    /// Packets; queues are allocated for this many.
    pub packets: u32,
}

impl Limit {
    /// 250 ms at `rate`, but never under 30 MTU.
    pub fn for_rate(rate: BitRate) -> Self {
        Self {
            bytes: rate.bytes_in(Span::from_millis(250)).max(30 * u64::from(MTU_BYTES)),
            packets: DEFAULT_LIMIT_PACKETS,
        }
    }
}

/// The PI controller behind p'.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct PiParams {
    /// Integral gain in Hz: change of p' per update and second of delay error. 0.16.
    pub alpha: f64,
    /// Proportional gain in Hz: change of p' per update and second of delay change. 3.2.
    pub beta: f64,
    /// Classic queue delay target. 15 ms.
    pub target: Span,
    /// Update interval, on a grid whose origin is the origin of time. 16 ms.
    pub t_update: Span,
    /// Which arithmetic.
    pub arithmetic: PiArithmetic,
}

/// How the PI controller computes.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum PiArithmetic {
    /// Double precision, as RFC 9332 Appendix A writes it.
    Float,
    /// 32-bit fixed point, step for step as Linux `sch_dualpi2` does it.
    LinuxU32,
}

impl Default for PiParams {
    fn default() -> Self {
        Self {
            alpha: 0.16,
            beta: 3.2,
            target: Span::from_millis(15),
            t_update: Span::from_millis(16),
            arithmetic: PiArithmetic::Float,
        }
    }
}

/// The native L4S AQM.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum LAqmParams {
    /// Probability rises from 0 at `min` to 1 at `min + width` of sojourn (RFC 9332 Appendix A figure 5).
    Ramp {
        /// Sojourn at which marking begins. 800 us.
        min: Span,
        /// Length of the ramp, not zero. 400 us.
        width: Span,
    },
    /// Marks everything that waited longer than `threshold` (strictly).
    Step {
        /// The threshold. 1 ms in Linux.
        threshold: Span,
    },
}

/// How a probability becomes a decision.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum ChanceParams {
    /// RFC 9332's `recur()`: deterministic, marks evenly spaced.
    Accumulator,
    /// Seeded random draws, as Linux does.
    Random {
        /// The seed.
        seed: u64,
    },
}

/// Conditional priority.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum ScheduleParams {
    /// Weighted round robin by credit (Linux `sch_dualpi2`).
    Wrr {
        /// Percent of the link that C is sure of while both queues wait, 1..=50. 10.
        classic_percent: u8,
    },
    /// Time-shifted FIFO (RFC 9332 §4.1.1): L goes first unless C's head is older by more than `shift`.
    TimeShiftedFifo {
        /// The shift. 50 ms.
        shift: Span,
    },
}

/// Parameters of a DualQ.
#[derive(Clone, Debug, PartialEq)]
pub struct DualQParams {
    /// The PI controller.
    pub pi: PiParams,
    /// k, the coupling factor. 2.
    pub coupling: u32,
    /// The native L4S AQM.
    pub l_aqm: LAqmParams,
    /// TH_LEN: the native AQM leaves a packet alone that found fewer than this many packets in L. 1 in the RFC.
    pub min_l_packets: u32,
    /// How probabilities become decisions.
    pub chance: ChanceParams,
    /// Conditional priority.
    pub schedule: ScheduleParams,
    /// Not-ECT packets with the NQB code point go into L.
    pub nqb: bool,
    /// When the link is told to be slower, p' grows as the rate falls, at once: a window of rate times round trip goes
    /// with 1 / p'. No part of the RFC.
    pub rate_feed_forward: bool,
    /// The shared buffer.
    pub limit: Limit,
}

impl DualQParams {
    /// `dualpi2` of the contract: RFC 9332 Appendix A with the update interval and C weight of published runs.
    pub fn rfc9332(limit: Limit) -> Self {
        Self {
            pi: PiParams::default(),
            coupling: 2,
            l_aqm: LAqmParams::Ramp { min: Span::from_micros(800), width: Span::from_micros(400) },
            min_l_packets: 1,
            chance: ChanceParams::Accumulator,
            schedule: ScheduleParams::Wrr { classic_percent: 10 },
            nqb: false,
            rate_feed_forward: false,
            limit,
        }
    }

    /// `dualpi2-linux` of the contract: the defaults of Linux `sch_dualpi2`, 10,000 packets of buffer.
    pub fn linux(seed: u64) -> Self {
        Self {
            pi: PiParams { arithmetic: PiArithmetic::LinuxU32, ..PiParams::default() },
            l_aqm: LAqmParams::Step { threshold: Span::from_millis(1) },
            min_l_packets: 0,
            chance: ChanceParams::Random { seed },
            ..Self::rfc9332(Limit { bytes: 10_000 * u64::from(MTU_BYTES), packets: 10_000 })
        }
    }
}

/// Parameters of a single-queue discipline.
#[derive(Clone, Debug, PartialEq)]
pub struct SingleParams {
    /// The law.
    pub law: Law,
    /// The buffer.
    pub limit: Limit,
}

/// What a single queue does with the packets in it.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Law {
    /// Nothing until it is full.
    TailDrop,
    /// RFC 8289.
    Codel {
        /// Acceptable standing delay. 5 ms.
        target: Span,
        /// A worst-case round-trip time. 100 ms.
        interval: Span,
    },
    /// PI2: the Classic half of the DualQ alone. ECT(1) is marked with p_CL, the rest with p_C.
    Pi2(PiParams),
}

/// What a controller may set on a running `dualpi2`; everything else is fixed when the egress is built.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Knobs {
    /// Classic queue delay target, 1..=25 ms.
    pub target: Span,
    /// Multiplies alpha and beta, 0.5..=8.
    pub gain: f64,
    /// Sojourn at which the L ramp begins, 0.2..=8 ms; its width is half of that.
    pub ramp_min: Span,
    /// Multiplies p' once, on the integrator itself.
    pub feed_forward: f64,
}

impl Default for Knobs {
    /// RFC 9332 Appendix A.
    fn default() -> Self {
        Self { target: Span::from_millis(15), gain: 1.0, ramp_min: Span::from_micros(800), feed_forward: 1.0 }
    }
}
