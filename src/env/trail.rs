//! Trailing means of what a link did: delay per queue, utilisation, and how the classes of flows share it.

use std::collections::VecDeque;

/// Cumulative sums since the beginning of an episode.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Sums {
    /// Queue delay of forwarded packets in nanoseconds, by [`Service::index`](crate::aqm::Service::index).
    pub delay_ns: [u64; 2],
    /// Those packets.
    pub packets: [u64; 2],
    /// Bits sent.
    pub sent_bits: u64,
    /// Bits that could have been sent.
    pub capacity_bits: u64,
    /// Data that arrived of long responsive flows, in bytes, by queue.
    pub delivered: [u64; 2],
    /// Nanoseconds that such flows were there, summed over flows, by queue.
    pub presence: [u64; 2],
}

/// Means over the trailing window.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Means {
    /// Queue delay in milliseconds, by [`Service::index`](crate::aqm::Service::index); `None` where nothing passed.
    pub delay_ms: [Option<f64>; 2],
    /// Bits sent over bits that could have been.
    pub utilisation: f64,
    /// log2 of the goodput of a flow in L over that of one in C; `None` unless there were both. What delivered
    /// less than a packet counts as one packet.
    pub log2_ratio: Option<f64>,
}

/// The last sums.
#[derive(Clone, Debug)]
pub struct Trail {
    sums: VecDeque<Sums>,
    intervals: usize,
}

impl Trail {
    /// Means will be over the last `intervals`, or over all there are.
    pub fn new(intervals: usize) -> Self {
        let mut sums = VecDeque::with_capacity(intervals + 1);
        sums.push_back(Sums::default());
        Self { sums, intervals }
    }

    /// Adds the sums at the end of an interval.
    pub fn push(&mut self, sums: Sums) {
        if self.sums.len() > self.intervals {
            self.sums.pop_front();
        }
        self.sums.push_back(sums);
    }

    /// The means.
    pub fn means(&self) -> Means {
        let (Some(a), Some(b)) = (self.sums.front(), self.sums.back()) else { return Means::default() };
        let delay = |q: usize| {
            let packets = b.packets[q] - a.packets[q];
            (packets > 0).then(|| (b.delay_ns[q] - a.delay_ns[q]) as f64 / 1e6 / packets as f64)
        };
        let goodput = |class: usize| {
            let presence = b.presence[class] - a.presence[class];
            let bytes = (b.delivered[class] - a.delivered[class]).max(1500);
            (presence > 0).then(|| bytes as f64 / presence as f64)
        };
        let capacity = b.capacity_bits - a.capacity_bits;
        Means {
            delay_ms: [delay(0), delay(1)],
            utilisation: (b.sent_bits - a.sent_bits) as f64 / capacity.max(1) as f64,
            log2_ratio: goodput(0).zip(goodput(1)).map(|(l, c)| (l / c).log2()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_the_trailing_window_only() {
        let mut t = Trail::new(2);
        assert_eq!(t.means(), Means::default());
        let at = |n: u64| Sums {
            delay_ns: [0, 2_000_000 * n * n],
            packets: [0, n],
            sent_bits: 30 * n,
            capacity_bits: 40 * n,
            delivered: [16_000 * n, 6_000 * n],
            presence: [2 * n, 3 * n],
        };
        for n in 1..=5 {
            t.push(at(n));
        }
        // From n = 3 to 5: 2 x (25 - 9) ms over 2 packets; 16000/2 against 6000/3 is four times.
        let m = t.means();
        assert_eq!((m.delay_ms, m.utilisation, m.log2_ratio), ([None, Some(16.0)], 0.75, Some(2.0)));
    }

    #[test]
    fn a_starved_class_has_a_ratio_and_an_absent_one_none() {
        let mut t = Trail::new(125);
        t.push(Sums { delivered: [150_000, 0], presence: [1, 1], ..Sums::default() });
        assert_eq!(t.means().log2_ratio, Some(100f64.log2()));
        let mut t = Trail::new(125);
        t.push(Sums { delivered: [150_000, 0], presence: [1, 0], ..Sums::default() });
        assert_eq!(t.means().log2_ratio, None);
    }
}
