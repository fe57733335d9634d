//! How one base probability drives both queues (RFC 9332 §2.4, Appendix A eq. (1)-(4)), kept in fixed point between
//! updates so that a packet costs no float.

use super::chance::{Fixed, to_fixed};
use super::stats::Probabilities;

/// p_C, p_CL and whether the coupling is saturated.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Coupling {
    k: f64,
    p: Probabilities,
    /// p_C in fixed point.
    pub p_c: Fixed,
    /// p_CL in fixed point, at most certainty.
    pub p_cl: Fixed,
    /// k p' >= 1: the L queue cannot signal more by marking, so both ECN types are dropped (RFC 9332 §2.5.1.1, §4.2.3;
    /// the same moment as p_C >= p_Cmax = 1/k^2).
    pub saturated: bool,
}

impl Coupling {
    /// No congestion, coupling factor `k`.
    pub fn new(k: u32) -> Self {
        Self { k: f64::from(k), p: Probabilities::default(), p_c: 0, p_cl: 0, saturated: false }
    }

    /// Derives everything from a new p'.
    pub fn set(&mut self, base: f64) {
        let scaled = self.k * base;
        self.p = Probabilities { base, coupled: scaled.min(1.0), classic: base * base };
        self.p_c = to_fixed(self.p.classic);
        self.p_cl = to_fixed(self.p.coupled);
        self.saturated = scaled >= 1.0;
    }

    /// The same as plain numbers.
    pub const fn probabilities(&self) -> Probabilities {
        self.p
    }
}

#[cfg(test)]
mod tests {
    use super::super::chance::ONE;
    use super::*;

    /// p', p_C, p_CL of the vector table (reference §1.7): squaring and coupling with k = 2.
    #[test]
    fn squaring_and_coupling_vectors() {
        for (base, classic, coupled) in [
            (0.0, 0.0, 0.0),
            (0.0144, 2.0736e-4, 0.0288),
            (0.0632, 3.99424e-3, 0.1264),
            (0.1144, 1.308_736e-2, 0.2288),
            (0.1008, 1.016_064e-2, 0.2016),
            (0.0032, 1.024e-5, 0.0064),
            (0.0008, 6.4e-7, 0.0016),
        ] {
            let mut c = Coupling::new(2);
            c.set(base);
            let p = c.probabilities();
            assert!((p.classic - classic).abs() < 1e-9, "p_C at {base}");
            assert!((p.coupled - coupled).abs() < 1e-9, "p_CL at {base}");
            assert!((c.p_c as f64 / ONE as f64 - classic).abs() < 1e-9);
            assert!((c.p_cl as f64 / ONE as f64 - coupled).abs() < 1e-9);
            assert!(!c.saturated);
        }
    }

    /// RFC 9332 Appendix A: p_Cmax = 1/k^2 = 0.25 and p_Lmax = 1 are the same p' = 0.5.
    #[test]
    fn saturation_begins_at_one_over_k() {
        let mut c = Coupling::new(2);
        c.set(0.499_999_999);
        assert!(!c.saturated);
        c.set(0.5);
        assert!(c.saturated);
        assert_eq!((c.p_cl, c.probabilities().classic), (ONE, 0.25));
        c.set(1.0);
        assert_eq!((c.p_cl, c.p_c, c.probabilities().coupled), (ONE, ONE, 1.0));
    }
}
