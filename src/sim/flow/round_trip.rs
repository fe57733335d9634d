//! The round trip as a sender measures it, and its retransmission timeout: RFC 6298 §2. Must not know what is under way.

use crate::time::Span;

/// The timer waits at least this much longer than the smoothed round trip, as in Linux; RFC 6298 §2.4 has a floor of
/// one second for the whole.
const MIN_MARGIN: Span = Span::from_millis(200);
/// RFC 6298 §2.1.
const FIRST_RTO: Span = Span::from_secs(1);

/// RFC 6298 §2.
#[derive(Clone, Debug)]
pub(super) struct RoundTrip {
    pub(super) smoothed: Span,
    pub(super) variation: Span,
    pub(super) least: Span,
}

impl RoundTrip {
    pub(super) const fn measured(&self) -> bool {
        self.least.as_nanos() != Span::MAX.as_nanos()
    }

    pub(super) fn sample(&mut self, rtt: Span) {
        if !self.measured() {
            *self = Self { smoothed: rtt, variation: Span::from_nanos(rtt.as_nanos() / 2), least: rtt };
            return;
        }
        let off = rtt.as_nanos().abs_diff(self.smoothed.as_nanos());
        self.variation = Span::from_nanos((3 * self.variation.as_nanos() + off) / 4);
        self.smoothed = Span::from_nanos((7 * self.smoothed.as_nanos() + rtt.as_nanos()) / 8);
        self.least = self.least.min(rtt);
    }

    pub(super) fn timeout(&self) -> Span {
        if !self.measured() {
            return FIRST_RTO;
        }
        self.smoothed + Span::from_nanos(4 * self.variation.as_nanos()).max(MIN_MARGIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6298 §2.2 and §2.3 by hand: 100 ms, then 200 ms. Half of the first is 50; (3 * 50 + 100) / 4 = 62.5; (7 * 100 + 200) / 8 = 112.5.
    #[test]
    fn the_timeout_is_that_of_the_rfc() {
        let ms = |tenths: u64| Span::from_micros(100 * tenths);
        let mut rtt = RoundTrip { smoothed: Span::ZERO, variation: Span::ZERO, least: Span::MAX };
        assert!(!rtt.measured());
        assert_eq!(rtt.timeout(), Span::from_secs(1));
        rtt.sample(ms(1000));
        assert_eq!((rtt.smoothed, rtt.variation, rtt.timeout()), (ms(1000), ms(500), ms(3000)));
        rtt.sample(ms(2000));
        assert_eq!((rtt.smoothed, rtt.variation, rtt.least), (ms(1125), ms(625), ms(1000)));
        assert_eq!(rtt.timeout(), ms(1125 + 2500));
        for _ in 0..100 {
            rtt.sample(ms(2000));
        }
        assert_eq!(rtt.timeout(), rtt.smoothed + ms(2000), "at least 200 ms more");
    }
}
