//! Turning a probability into yes or no, in 63-bit fixed point: [`ONE`] is certainty.
//!
//! The default is RFC 9332 Appendix A figure 4 (`recur`), an accumulator that spreads the marks evenly. It fires on
//! `acc + p >= 1`, so probability 1 fires every time and probability 0 never; the RFC's text says `>`, which would let
//! the first packet at probability 1 pass.

use super::params::ChanceParams;

/// A probability in fixed point: `0..=ONE`.
pub type Fixed = u64;

/// Certainty.
pub const ONE: Fixed = 1 << 63;

/// Converts a probability, clamping it into 0..=1. Rounds up, so that ten draws at 0.1 fire once and not just short of
/// it. Not for the packet path: it is called when p' changes.
pub fn to_fixed(p: f64) -> Fixed {
    ((p * ONE as f64).ceil() as u64).min(ONE)
}

/// One stream of decisions. Each kind of signal of each queue has its own.
#[derive(Clone, Debug)]
pub enum Chance {
    /// `recur()` of RFC 9332.
    Accumulator(Fixed),
    /// Seeded draws.
    Random(fastrand::Rng),
}

impl Chance {
    /// A stream; `stream` tells several streams of one seed apart.
    pub fn new(params: ChanceParams, stream: u64) -> Self {
        match params {
            ChanceParams::Accumulator => Self::Accumulator(0),
            ChanceParams::Random { seed } => Self::Random(fastrand::Rng::with_seed(
                seed ^ stream.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            )),
        }
    }

    /// Whether an event of probability `p` happens now. `p` is at most [`ONE`].
    #[inline]
    pub fn fires(&mut self, p: Fixed) -> bool {
        match self {
            Self::Accumulator(acc) => {
                *acc += p;
                if *acc >= ONE {
                    *acc -= ONE;
                    true
                } else {
                    false
                }
            }
            Self::Random(rng) => p != 0 && rng.u64(0..ONE) < p,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(chance: &mut Chance, p: f64, n: u32) -> u32 {
        let p = to_fixed(p);
        (0..n).map(|_| u32::from(chance.fires(p))).sum()
    }

    /// contract.md: p = 1 marks every packet, p = 0 none, p = 0.1 exactly 1 in 10 over 10^6.
    #[test]
    fn the_accumulator_is_exact() {
        let mut acc = Chance::new(ChanceParams::Accumulator, 0);
        assert_eq!(count(&mut acc, 0.0, 1_000_000), 0);
        assert_eq!(count(&mut acc, 1.0, 1_000_000), 1_000_000);
        assert_eq!(count(&mut acc, 0.1, 1_000_000), 100_000);
        let mut acc = Chance::new(ChanceParams::Accumulator, 0);
        assert!(acc.fires(ONE), "the very first packet at probability 1");
    }

    /// RFC 9332 Appendix A: no randomisation delay, that is marks at even distances.
    #[test]
    fn the_accumulator_spaces_marks_evenly() {
        let mut acc = Chance::new(ChanceParams::Accumulator, 0);
        let p = to_fixed(0.1);
        let at: Vec<u32> = (1..=50).filter(|_| acc.fires(p)).collect();
        assert_eq!(at, [10, 20, 30, 40, 50]);
    }

    #[test]
    fn the_accumulator_takes_any_share_to_within_one() {
        for p in [1e-6, 0.0123, 1.0 / 3.0, 0.5, 0.75, 0.999] {
            let mut acc = Chance::new(ChanceParams::Accumulator, 0);
            let fired = f64::from(count(&mut acc, p, 100_000));
            assert!((fired - p * 1e5).abs() <= 1.0, "{p}: {fired}");
        }
    }

    #[test]
    fn random_draws_follow_the_probability_and_the_seed() {
        let draw = |seed| count(&mut Chance::new(ChanceParams::Random { seed }, 3), 0.1, 100_000);
        let n = draw(7);
        assert!((9_700..10_300).contains(&n), "4 sigma is 380: {n}");
        assert_eq!(n, draw(7));
        assert_ne!(n, draw(8));
        let mut r = Chance::new(ChanceParams::Random { seed: 1 }, 0);
        assert_eq!(count(&mut r, 0.0, 10_000), 0);
        assert_eq!(count(&mut r, 1.0, 10_000), 10_000);
    }

    #[test]
    fn out_of_range_probabilities_are_clamped() {
        assert_eq!((to_fixed(-0.5), to_fixed(2.0), to_fixed(f64::NAN)), (0, ONE, 0));
    }
}
