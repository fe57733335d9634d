//! How many flows were there lately, in fixed memory: linear counting (Whang, Vander-Zanden and Taylor, ACM TODS 15(2),
//! 1990) over bitmaps that rotate four times a second.
//!
//! A packet sets one bit. Unkeyed, as the hash of a flow is: who sends the packets can make flows collide or multiply.

use crate::time::{Instant, Span};

/// Bits of a map. Linear counting is within 3 % (one standard error) at as many flows as this.
pub const BITS: u32 = 1024;
const WORDS: usize = BITS as usize / 64;
/// A map is filled for this long.
pub const QUARTER: Span = Span::from_millis(250);
const QUARTERS: usize = 4;

/// More than any hash.
const NO_FLOW: u64 = 1 << 32;

type Map = [u64; WORDS];

/// Flows of one queue.
#[derive(Clone, Debug)]
pub struct FlowSketch {
    current: Map,
    /// Complete quarters, in no order.
    past: [Map; QUARTERS],
    /// Number of the current quarter since the origin of time.
    quarter: u64,
    /// A flow whose bit is set in `current`, or [`NO_FLOW`]: packets of a flow come in trains.
    last: u64,
}

/// Bits that flows have set.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct FlowBits {
    /// In the last second, and in the quarter that is under way.
    pub active: u16,
    /// In each of the last four complete quarters.
    pub steady: u16,
}

impl FlowSketch {
    /// No flows.
    pub const fn new() -> Self {
        Self { current: [0; WORDS], past: [[0; WORDS]; QUARTERS], quarter: 0, last: NO_FLOW }
    }

    /// A packet of the flow with this hash; `counts` is false for what belongs to no flow.
    #[inline]
    pub fn insert(&mut self, flow: u32, counts: bool) {
        if self.last != u64::from(flow) && counts {
            self.set(flow);
        }
    }

    #[inline(never)]
    fn set(&mut self, flow: u32) {
        let bit = bit_of(flow);
        self.current[(bit / 64) as usize % WORDS] |= 1 << (bit % 64);
        self.last = flow.into();
    }

    /// What is set at `now`. Quarters that have passed since the last call are closed: what was collected belongs to
    /// the one in which the last call was.
    pub fn bits(&mut self, now: Instant) -> FlowBits {
        let quarter = now.as_nanos() / QUARTER.as_nanos();
        let passed = quarter.saturating_sub(self.quarter).min(1 + QUARTERS as u64);
        for n in 0..passed {
            let oldest = &mut self.past[((self.quarter + n) % QUARTERS as u64) as usize];
            *oldest = core::mem::replace(&mut self.current, [0; WORDS]);
            self.last = NO_FLOW;
        }
        self.quarter = self.quarter.max(quarter);
        let (mut active, mut steady) = (0, 0);
        for (word, current) in self.current.iter().enumerate() {
            let past = self.past.iter().map(|map| map[word]);
            active += past.clone().fold(*current, |a, b| a | b).count_ones();
            steady += past.fold(u64::MAX, |a, b| a & b).count_ones();
        }
        FlowBits { active: active as u16, steady: steady as u16 }
    }
}

impl Default for FlowSketch {
    fn default() -> Self {
        Self::new()
    }
}

/// Flows that set `bits` of a map: -m ln(1 - bits/m). A full map reads as one that lacks half a bit.
pub fn estimate(bits: u16) -> f64 {
    let m = f64::from(BITS);
    let empty = (m - f64::from(bits)).max(0.5);
    -m * (empty / m).ln()
}

/// Numbers that count upwards, as a simulator gives them, must fall like random ones; a single multiplication would
/// spread them evenly, and linear counting would see too many.
#[inline]
const fn bit_of(flow: u32) -> u64 {
    let mixed = (flow as u64 ^ 0x9e37_79b9).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ mixed >> 29).wrapping_mul(0x94d0_49bb_1331_11eb) >> (64 - BITS.trailing_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    /// -1024 ln(1 - 1/1024) = 1.0005; half of the bits: 1024 ln 2 = 709.8.
    #[test]
    fn the_estimate_is_linear_counting() {
        assert_eq!(estimate(0), 0.0);
        assert!((estimate(1) - 1.0005).abs() < 1e-4);
        assert!((estimate(512) - 709.78).abs() < 0.01);
        assert!(estimate(1024).is_finite() && estimate(1024) > 7000.0);
    }

    /// Flows numbered in order and flows with hashes for numbers.
    #[test]
    fn counts_are_within_a_tenth() {
        for scattered in [false, true] {
            let mut rng = fastrand::Rng::with_seed(3);
            for n in [1u32, 2, 5, 10, 50, 200, 1000, 3000] {
                let mut s = FlowSketch::new();
                for i in 0..n {
                    let flow = if scattered { rng.u32(..) } else { i };
                    s.insert(flow, true);
                    s.insert(flow, true);
                }
                let got = estimate(s.bits(at(1)).active);
                assert!((got / f64::from(n) - 1.0).abs() < 0.1, "{n} flows, {scattered}: {got}");
            }
        }
    }

    /// A flow is there for the second after its last packet and gone a quarter later; what is not a flow never is.
    #[test]
    fn flows_are_forgotten_after_a_second() {
        let mut s = FlowSketch::new();
        s.insert(7, true);
        s.insert(8, false);
        for ms in (16..=1248).step_by(16) {
            assert_eq!(s.bits(at(ms)).active, 1, "{ms}");
        }
        assert_eq!(s.bits(at(1250)), FlowBits::default());
        s.insert(7, true);
        assert_eq!(s.bits(at(60_000)).active, 0, "however long nobody asked");
    }

    /// Steady is who was there in each quarter.
    #[test]
    fn a_flow_that_pauses_is_not_steady() {
        let mut s = FlowSketch::new();
        for quarter in 0..8u64 {
            s.insert(1, true);
            if quarter != 5 {
                s.insert(2, true);
            }
            let bits = s.bits(at(250 * (quarter + 1)));
            let steady = match quarter {
                0..=2 => 0,
                3 | 4 => 2,
                _ => 1,
            };
            assert_eq!((bits.active, bits.steady), (2, steady), "quarter {quarter}");
        }
    }
}
