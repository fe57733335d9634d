//! Distributions of queue delay: what percentiles and the delay histograms of the metrics are made of.
//!
//! The forwarder fills one of these and swaps it for an empty one about once a second. Recording neither allocates nor
//! fails.

use hdrhistogram::Histogram;

use crate::aqm::Service;
use crate::time::Span;

/// Shortest delay that is told apart from zero, in nanoseconds.
pub const DELAY_LOW_NS: u64 = 100;
/// Longest delay that is told apart from longer ones, in nanoseconds.
pub const DELAY_HIGH_NS: u64 = 60_000_000_000;

/// Queue delays of forwarded packets, arrival at the egress to start of transmission, in nanoseconds to three
/// significant digits.
#[derive(Clone, Debug)]
pub struct DelayHistograms {
    /// One histogram per queue, by [`Service::index`].
    pub queues: [Histogram<u64>; 2],
    /// The delays belong to the measured window; `false` while warming up.
    pub measured: bool,
}

impl DelayHistograms {
    /// Empty histograms with all the memory that they will ever need (about 170 kB each).
    pub fn new(measured: bool) -> Self {
        let empty = Histogram::new_with_bounds(DELAY_LOW_NS, DELAY_HIGH_NS, 3)
            .expect("100 ns to 60 s at three digits are valid bounds");
        Self { queues: [empty.clone(), empty], measured }
    }

    /// Counts one forwarded packet. A delay past [`DELAY_HIGH_NS`] counts as that.
    pub fn record(&mut self, service: Service, delay: Span) {
        self.record_run(service, delay, 1);
    }

    /// Counts `packets` forwarded packets of the same delay.
    pub fn record_run(&mut self, service: Service, delay: Span, packets: u64) {
        // Of no packets the histogram would still remember the extremes.
        if packets > 0 {
            self.queues[service.index()].saturating_record_n(delay.as_nanos().min(DELAY_HIGH_NS), packets);
        }
    }

    /// Forgets all delays and keeps the memory.
    pub fn clear(&mut self) {
        for queue in &mut self.queues {
            queue.reset();
        }
    }

    /// Adds the delays of `other`. `measured` stays as it is.
    pub fn merge(&mut self, other: &Self) {
        for (queue, more) in self.queues.iter_mut().zip(&other.queues) {
            queue.add(more).expect("all delay histograms have the same bounds");
        }
    }

    /// Whether no delay was recorded since construction or [`DelayHistograms::clear`].
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(Histogram::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p50(h: &DelayHistograms, service: Service) -> u64 {
        h.queues[service.index()].value_at_quantile(0.5)
    }

    #[test]
    fn delays_keep_three_digits_over_the_range_that_matters() {
        for ns in [20_000_000u64, 1_234_000, 987_654_321, 59_999_000_000] {
            let mut h = DelayHistograms::new(true);
            h.record(Service::Classic, Span::from_nanos(ns));
            let error = p50(&h, Service::Classic).abs_diff(ns) as f64 / ns as f64;
            assert!(error <= 1e-3, "{ns}: {error}");
        }
    }

    #[test]
    fn a_run_counts_for_all_of_its_packets() {
        let mut h = DelayHistograms::new(true);
        h.record_run(Service::L4s, Span::from_millis(1), 3);
        h.record_run(Service::L4s, Span::from_millis(2), 0);
        assert_eq!((h.queues[0].len(), h.queues[0].max() / 1_010_000), (3, 0));
    }

    #[test]
    fn queues_are_apart_and_what_is_too_long_counts_as_the_longest() {
        let mut h = DelayHistograms::new(false);
        h.record(Service::L4s, Span::ZERO);
        h.record(Service::L4s, Span::from_millis(1));
        h.record(Service::Classic, Span::MAX);
        assert_eq!((h.queues[0].len(), h.queues[1].len()), (2, 1));
        let longest = h.queues[1].max();
        assert!(longest.abs_diff(DELAY_HIGH_NS) <= DELAY_HIGH_NS / 1000, "{longest}");
    }

    #[test]
    fn merging_adds_and_clearing_forgets() {
        let (mut a, mut b) = (DelayHistograms::new(true), DelayHistograms::new(false));
        a.record(Service::L4s, Span::from_millis(1));
        b.record(Service::L4s, Span::from_millis(3));
        b.record(Service::L4s, Span::from_millis(3));
        a.merge(&b);
        assert_eq!((a.queues[0].len(), a.measured), (3, true));
        assert!(p50(&a, Service::L4s).abs_diff(3_000_000) <= 3000);
        a.clear();
        assert!(a.is_empty() && !b.is_empty());
        a.record(Service::L4s, Span::from_millis(5));
        assert!(p50(&a, Service::L4s).abs_diff(5_000_000) <= 5000);
    }
}
