//! CoDel (RFC 8289), one verdict a call. ECN-capable packets are marked where others are dropped (§4.6 leaves that to
//! the implementation; Linux does so).

use crate::time::{Instant, Span};

/// The state of RFC 8289 §5.
#[derive(Clone, Debug)]
pub struct Codel {
    target: Span,
    interval: Span,
    first_above: Option<Instant>,
    dropping: Option<Dropping>,
    /// Count of the drop state that ended last, and when its next drop would have been.
    last: (u32, Instant),
}

#[derive(Copy, Clone, Debug)]
struct Dropping {
    count: u32,
    /// `count` when this drop state was entered.
    entry_count: u32,
    next: Instant,
}

impl Codel {
    /// Not dropping.
    pub fn new(target: Span, interval: Span) -> Self {
        Self { target, interval, first_above: None, dropping: None, last: (0, Instant::ZERO) }
    }

    /// Another acceptable delay, from the next packet on.
    pub fn set_target(&mut self, target: Span) {
        self.target = target;
    }

    /// interval / sqrt(count) after `from` (RFC 8289 §5.2).
    fn control_law(&self, from: Instant, count: u32) -> Instant {
        let span = self.interval.as_secs_f64() / f64::from(count).sqrt();
        from + Span::from_secs_f64(span)
    }

    /// Whether to signal congestion on a packet that leaves at `now` after `sojourn`, with `bytes_behind` waiting
    /// behind it and `mtu` the largest packet. RFC 8289 §5.5 and §5.6.
    pub fn signals(&mut self, now: Instant, sojourn: Span, bytes_behind: u64, mtu: u32) -> bool {
        let above = if sojourn < self.target || bytes_behind <= u64::from(mtu) {
            self.first_above = None;
            false
        } else {
            match self.first_above {
                None => {
                    self.first_above = Some(now + self.interval);
                    false
                }
                Some(first) => now >= first,
            }
        };
        match self.dropping {
            Some(_) if !above => {
                self.leave();
                false
            }
            Some(d) if now >= d.next => {
                let count = d.count + 1;
                self.dropping = Some(Dropping { count, next: self.control_law(d.next, count), ..d });
                true
            }
            None if above => {
                // Soon after the last drop state, resume near the rate that controlled the queue then.
                let (last_count, last_next) = self.last;
                let recent = now.since(last_next) < Span::from_nanos(16 * self.interval.as_nanos());
                let count = if recent && last_count > 1 { last_count } else { 1 };
                self.dropping =
                    Some(Dropping { count, entry_count: count, next: self.control_law(now, count) });
                true
            }
            Some(_) | None => false,
        }
    }

    fn leave(&mut self) {
        if let Some(d) = self.dropping.take() {
            self.last = (d.count - d.entry_count.min(d.count), d.next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codel() -> Codel {
        Codel::new(Span::from_millis(5), Span::from_millis(100))
    }

    fn signals_at(c: &mut Codel, sojourn_ms: u64, from_ms: u64, to_ms: u64) -> Vec<u64> {
        (from_ms..to_ms)
            .filter(|&ms| c.signals(Instant::from_millis(ms), Span::from_millis(sojourn_ms), 100_000, 1514))
            .collect()
    }

    /// RFC 8289 §4.4: nothing below the target, and nothing for the first interval above it.
    #[test]
    fn waits_an_interval_above_target() {
        assert!(signals_at(&mut codel(), 4, 0, 1000).is_empty());
        let mut c = codel();
        assert!(signals_at(&mut c, 20, 0, 100).is_empty());
        assert_eq!(signals_at(&mut c, 20, 100, 101), [100]);
    }

    /// RFC 8289 §5.2: the n-th gap is interval / sqrt(n): 100, 70.7, 57.7, 50 ms...
    #[test]
    fn gaps_shrink_with_the_square_root() {
        let at = signals_at(&mut codel(), 20, 0, 430);
        assert_eq!(at, [100, 200, 271, 329, 379, 424]);
    }

    /// Less than an MTU behind is never congestion, and leaving the state stops signals.
    #[test]
    fn leaves_at_once() {
        let mut c = codel();
        signals_at(&mut c, 20, 0, 300);
        assert!(!c.signals(Instant::from_millis(300), Span::from_millis(4), 100_000, 1514));
        assert!(signals_at(&mut c, 20, 301, 401).is_empty(), "a new interval must pass");
        let mut c = codel();
        assert!((0..500).all(|ms| !c.signals(Instant::from_millis(ms), Span::from_millis(50), 1514, 1514)));
    }
}
