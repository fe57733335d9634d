//! How fast a path delivers, seen from the sender: draft-cheng-iccrg-delivery-rate-estimation. One sample for each
//! acknowledgement, over the time from when its newest packet was sent.

use std::collections::VecDeque;

use super::AckSample;
use crate::time::{Instant, Span};

/// What was known when a packet was sent (draft §3.2, P.*).
#[derive(Clone, Debug)]
struct Stamp {
    sent_at: Instant,
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    app_limited: bool,
}

/// A delivery-rate sample.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct RateSample {
    /// Packets a second.
    pub rate: f64,
    /// Packets delivered in all when the newest acknowledged packet was sent.
    pub prior_delivered: u64,
    /// The sender had nothing to send meanwhile: the path may be faster than this.
    pub app_limited: bool,
}

/// The state of the estimator.
#[derive(Clone, Debug, Default)]
pub struct DeliveryRate {
    stamps: VecDeque<Stamp>,
    /// Transmission of the stamp at the front.
    first: u64,
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    /// Samples are application-limited until so many packets have been delivered.
    app_limited_until: u64,
}

impl DeliveryRate {
    /// Packets delivered in all.
    pub const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Whether what is sent now will give application-limited samples.
    pub const fn app_limited(&self) -> bool {
        self.app_limited_until > 0
    }

    /// Nothing was there to send, with so many packets under way.
    pub fn set_app_limited(&mut self, under_way: u32) {
        self.app_limited_until = (self.delivered + u64::from(under_way)).max(1);
    }

    /// Transmission `number` goes, with so many packets under way before it.
    pub fn on_send(&mut self, number: u64, under_way: u32, now: Instant) {
        if under_way == 0 {
            (self.first_sent_at, self.delivered_at) = (now, now);
        }
        if self.stamps.is_empty() {
            self.first = number;
        }
        self.stamps.push_back(Stamp {
            sent_at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            app_limited: self.app_limited(),
        });
    }

    /// Takes an acknowledgement. No sample from one that covers nothing, or in no time, or sooner than the path allows
    /// (draft §3.3).
    pub fn on_ack(&mut self, ack: &AckSample) -> Option<RateSample> {
        self.delivered += u64::from(ack.acked);
        if ack.acked > 0 {
            self.delivered_at = ack.now;
        }
        if self.app_limited_until > 0 && self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        let mut newest = None;
        while self.first <= ack.newest
            && let Some(stamp) = self.stamps.pop_front()
        {
            newest = Some(stamp);
            self.first += 1;
        }
        let stamp = newest?;
        if ack.acked == 0 {
            return None;
        }
        self.first_sent_at = stamp.sent_at;
        let sending = stamp.sent_at.since(stamp.first_sent_at);
        let acknowledging = self.delivered_at.since(stamp.delivered_at);
        let interval = sending.max(acknowledging);
        if interval == Span::ZERO || interval < ack.min_rtt {
            return None;
        }
        Some(RateSample {
            rate: (self.delivered - stamp.delivered) as f64 * 1e9 / interval.as_nanos() as f64,
            prior_delivered: stamp.delivered,
            app_limited: stamp.app_limited,
        })
    }

    /// Everything under way is given up.
    pub fn on_timeout(&mut self) {
        self.stamps.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(newest: u64, ms: u64) -> AckSample {
        let rtt = Span::from_millis(10);
        AckSample {
            now: Instant::from_millis(ms),
            newest,
            acked: 1,
            min_rtt: rtt,
            rtt,
            ..AckSample::default()
        }
    }

    /// Ten packets at once over a path of one packet a millisecond, and then one for each acknowledgement. Of the first
    /// window the tenth comes after 19 ms; of the second, which was sent within 19 ms of the first, it also gives 10 in
    /// 19 ms; of the third it was sent 10 ms after, and comes 10 ms after.
    #[test]
    fn a_sample_is_the_lesser_of_the_sending_and_the_acknowledged_rate() {
        let mut d = DeliveryRate::default();
        for n in 0..10 {
            d.on_send(n, n as u32, Instant::ZERO);
        }
        for (window, ms) in [(0, 19.0), (1, 19.0), (2, 10.0)] {
            let mut last = None;
            for n in 10 * window..10 * window + 10 {
                last = d.on_ack(&ack(n, 10 + n));
                d.on_send(10 + n, 9, Instant::from_millis(10 + n));
            }
            let sample = last.unwrap();
            assert!((sample.rate - 10.0 / (ms / 1e3)).abs() < 1e-6, "{window}: {sample:?}");
            assert_eq!(sample.prior_delivered, 10 * window);
        }
    }

    #[test]
    fn samples_are_application_limited_until_what_was_under_way_is_delivered() {
        let mut d = DeliveryRate::default();
        d.on_send(0, 0, Instant::ZERO);
        d.set_app_limited(1);
        d.on_send(1, 1, Instant::ZERO);
        assert!(!d.on_ack(&ack(0, 10)).unwrap().app_limited && d.app_limited());
        d.on_send(2, 1, Instant::from_millis(10));
        assert!(d.on_ack(&ack(1, 20)).unwrap().app_limited && !d.app_limited());
        d.on_send(3, 1, Instant::from_millis(20));
        assert!(d.on_ack(&ack(2, 30)).unwrap().app_limited);
        assert!(!d.on_ack(&ack(3, 40)).unwrap().app_limited);
    }

    #[test]
    fn no_sample_in_less_than_the_least_round_trip_or_after_giving_up() {
        let mut d = DeliveryRate::default();
        d.on_send(0, 0, Instant::ZERO);
        assert_eq!(d.on_ack(&ack(0, 9)), None);
        d.on_send(1, 0, Instant::from_millis(20));
        d.on_timeout();
        assert_eq!(d.on_ack(&ack(1, 60)), None);
        d.on_send(2, 0, Instant::from_millis(60));
        assert_eq!(d.on_ack(&ack(2, 70)).map(|s| s.rate), Some(100.0));
    }
}
