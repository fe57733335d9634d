//! The native L4S AQM: a probability from the sojourn of the packet at hand (RFC 9332 Appendix A figure 5).

use super::chance::{Fixed, ONE};
use super::params::LAqmParams;
use crate::time::Span;

/// A ramp or a step, ready for integer evaluation per packet.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct LAqm {
    /// Nothing at or below this sojourn.
    floor_ns: u64,
    /// Certainty from this sojourn on.
    certain_ns: u64,
    /// Probability per nanosecond above the floor.
    slope: Fixed,
}

impl LAqm {
    /// Prepares the law.
    pub fn new(params: LAqmParams) -> Self {
        match params {
            LAqmParams::Ramp { min, width } => {
                let width_ns = width.as_nanos().max(1);
                Self {
                    floor_ns: min.as_nanos(),
                    certain_ns: min.as_nanos() + width_ns,
                    slope: ONE.div_ceil(width_ns),
                }
            }
            LAqmParams::Step { threshold } => {
                Self { floor_ns: threshold.as_nanos(), certain_ns: threshold.as_nanos() + 1, slope: ONE }
            }
        }
    }

    /// The native probability p'_L at a sojourn.
    #[inline]
    pub fn probability(&self, sojourn: Span) -> Fixed {
        let ns = sojourn.as_nanos();
        if ns >= self.certain_ns {
            ONE
        } else if ns <= self.floor_ns {
            0
        } else {
            (self.slope * (ns - self.floor_ns)).min(ONE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(law: &LAqm, us: f64) -> f64 {
        law.probability(Span::from_nanos((us * 1e3) as u64)) as f64 / ONE as f64
    }

    /// RFC 9332 Appendix A: minTh 800 us, range 400 us.
    #[test]
    fn the_rfc_ramp() {
        let law = LAqm::new(LAqmParams::Ramp { min: Span::from_micros(800), width: Span::from_micros(400) });
        for (us, want) in
            [(0.0, 0.0), (800.0, 0.0), (801.0, 0.0025), (900.0, 0.25), (1000.0, 0.5), (1199.0, 0.9975)]
        {
            assert!((p(&law, us) - want).abs() < 1e-9, "{us} us: {}", p(&law, us));
        }
        assert_eq!((p(&law, 1200.0), p(&law, 1e9)), (1.0, 1.0));
    }

    /// Linux: strictly above the threshold.
    #[test]
    fn the_linux_step() {
        let law = LAqm::new(LAqmParams::Step { threshold: Span::from_millis(1) });
        assert_eq!((p(&law, 1000.0), p(&law, 1000.001)), (0.0, 1.0));
    }
}
