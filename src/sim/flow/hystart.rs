//! HyStart++: RFC 9406. A slow start that ends where the round-trip time begins to rise, before the buffer is full. For
//! the first slow start of a flow only (§4.3); it does not set a window, but says by how much one grows.

use super::AckSample;
use crate::time::Span;

/// RFC 9406 §4.2, as are all constants here.
const MIN_RTT_THRESH: Span = Span::from_millis(4);
const MAX_RTT_THRESH: Span = Span::from_millis(16);
const MIN_RTT_DIVISOR: u64 = 8;
const N_RTT_SAMPLE: u32 = 8;
const CSS_GROWTH_DIVISOR: f64 = 4.0;
const CSS_ROUNDS: u32 = 5;
/// Packets that one acknowledgement adds to an unpaced window at most.
const L: f64 = 8.0;

/// The state of HyStart++.
#[derive(Clone, Debug)]
pub struct HyStart {
    last_round: Span,
    this_round: Span,
    samples: u32,
    conservative: Option<Conservative>,
}

/// Conservative slow start.
#[derive(Clone, Debug)]
struct Conservative {
    /// Least round-trip time of the round that gave rise to it.
    baseline: Span,
    rounds_left: u32,
}

impl Default for HyStart {
    fn default() -> Self {
        Self { last_round: Span::MAX, this_round: Span::MAX, samples: 0, conservative: None }
    }
}

impl HyStart {
    /// By how many packets the window grows; `None` when slow start is over and the window stays as it is.
    pub fn on_ack(&mut self, ack: &AckSample) -> Option<f64> {
        let grown = f64::from(ack.acked).min(L);
        self.this_round = self.this_round.min(ack.rtt);
        self.samples += 1;
        let grown = match &self.conservative {
            None => {
                if self.round_trip_rises() {
                    self.conservative =
                        Some(Conservative { baseline: self.this_round, rounds_left: CSS_ROUNDS });
                }
                grown
            }
            Some(css) => {
                // The rise was not of the queue that this flow makes.
                if self.samples >= N_RTT_SAMPLE && self.this_round < css.baseline {
                    self.conservative = None;
                }
                grown / CSS_GROWTH_DIVISOR
            }
        };
        if ack.round_ended {
            (self.last_round, self.this_round, self.samples) = (self.this_round, Span::MAX, 0);
            if let Some(css) = &mut self.conservative {
                // The round in which it began counts, although only a part of it.
                css.rounds_left -= 1;
                if css.rounds_left == 0 {
                    return None;
                }
            }
        }
        Some(grown)
    }

    fn round_trip_rises(&self) -> bool {
        if self.samples < N_RTT_SAMPLE || self.last_round == Span::MAX {
            return false;
        }
        let part = Span::from_nanos(self.last_round.as_nanos() / MIN_RTT_DIVISOR);
        self.this_round >= self.last_round + part.clamp(MIN_RTT_THRESH, MAX_RTT_THRESH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A round of `n` acknowledgements; the sum of what they add, or `None` from the end of slow start on.
    fn round(h: &mut HyStart, n: u32, rtt_ms: f64) -> Option<f64> {
        let rtt = Span::from_secs_f64(rtt_ms / 1e3);
        (1..=n)
            .map(|i| h.on_ack(&AckSample { acked: 1, rtt, round_ended: i == n, ..AckSample::default() }))
            .sum()
    }

    /// An eighth of 100 ms, within 4 and 16 ms: 112.5 ms are a rise, 112.4 are not.
    #[test]
    fn a_rise_of_an_eighth_is_slow_growth_for_five_rounds_and_then_the_end() {
        let mut h = HyStart::default();
        assert_eq!(round(&mut h, 10, 100.0), Some(10.0));
        assert_eq!(round(&mut h, 10, 112.4), Some(10.0), "no rise");
        let mut h = HyStart::default();
        round(&mut h, 10, 100.0);
        assert_eq!(round(&mut h, 10, 112.5), Some(8.0 + 2.0 / 4.0), "from the eighth sample on");
        for _ in 0..3 {
            assert_eq!(round(&mut h, 20, 112.5), Some(5.0));
        }
        assert_eq!(round(&mut h, 20, 112.5), None);
    }

    #[test]
    fn the_threshold_has_a_floor_and_a_ceiling() {
        for (base, rise, found) in
            [(10.0, 3.9, false), (10.0, 4.0, true), (400.0, 15.9, false), (400.0, 16.0, true)]
        {
            let mut h = HyStart::default();
            round(&mut h, 8, base);
            round(&mut h, 8, base + rise);
            assert_eq!(h.conservative.is_some(), found, "{base} ms and {rise} ms more");
        }
    }

    #[test]
    fn fewer_than_eight_samples_prove_nothing_and_a_fall_takes_it_back() {
        let mut h = HyStart::default();
        round(&mut h, 8, 20.0);
        assert_eq!(round(&mut h, 7, 40.0), Some(7.0));
        let mut h = HyStart::default();
        round(&mut h, 8, 20.0);
        round(&mut h, 8, 40.0);
        assert_eq!(round(&mut h, 10, 39.0), Some(8.0 / 4.0 + 2.0), "fast again from the eighth sample on");
    }

    #[test]
    fn one_acknowledgement_of_many_packets_adds_eight_at_most() {
        let mut h = HyStart::default();
        let ack = AckSample { acked: 20, rtt: Span::from_millis(20), ..AckSample::default() };
        assert_eq!(h.on_ack(&ack), Some(8.0));
    }
}
