//! When the link is free: by its rate, exact over any length of time, or by what it is granted.
//!
//! It must not know of queues or packets: bytes go in, times come out.

use crate::time::{Instant, Span};
use crate::units::BitRate;

/// How far the shaper may lag behind its schedule and still catch up. A driver that wakes late sends what was due, so
/// that the long-run rate is exact; a driver that was away for longer than this does not burst at line rate for as
/// long as it was away.
pub const CATCH_UP: Span = Span::from_millis(5);

/// Bits in a byte, times nanoseconds in a second: a byte's sending time in 1/rate nanoseconds.
const BIT_NS_A_BYTE: u64 = 8 * 1_000_000_000;

/// When the link is free. Sending time is exact to the nanosecond fraction: the remainder of every division is carried.
#[derive(Clone, Debug)]
pub(super) struct Shaper {
    rate: BitRate,
    per_bit: Divisor,
    free_at: Instant,
    /// Carried remainder of transmission times, in 1/rate nanoseconds.
    remainder: u64,
    capacity: Capacity,
    /// Bytes that may be sent yet, on a link that sends by grants.
    credit: Option<i64>,
}

/// Exact division by the rate without a division: a packet's transmission time is the longest chain of instructions
/// that the next packet waits for.
#[derive(Copy, Clone, Debug)]
struct Divisor {
    value: u64,
    /// 2^64 / value, rounded down.
    reciprocal: u64,
}

impl Divisor {
    /// For a `value` of 2 at least.
    fn new(value: u64) -> Self {
        Self { value, reciprocal: ((1_u128 << 64) / u128::from(value)) as u64 }
    }

    /// Quotient and remainder. The product with the reciprocal is less than the quotient by under
    /// dividend / 2^64 + 1, so by at most one when rounded down.
    #[inline]
    const fn divide(self, dividend: u64) -> (u64, u64) {
        let quotient = ((dividend as u128 * self.reciprocal as u128) >> 64) as u64;
        let remainder = dividend.wrapping_sub(quotient.wrapping_mul(self.value));
        if remainder >= self.value { (quotient + 1, remainder - self.value) } else { (quotient, remainder) }
    }
}

/// The integral of the rate.
#[derive(Clone, Debug)]
struct Capacity {
    since: Instant,
    /// Bits x 10^9 of the stretches at earlier rates.
    settled: u128,
}

impl Shaper {
    pub(super) fn new(rate: BitRate, now: Instant) -> Self {
        let per_bit = Divisor::new(rate.as_bps());
        Self {
            rate,
            per_bit,
            free_at: now,
            remainder: 0,
            capacity: Capacity { since: now, settled: 0 },
            credit: None,
        }
    }

    /// The rate in force.
    pub(super) const fn rate(&self) -> BitRate {
        self.rate
    }

    /// When the next packet may begin.
    pub(super) const fn free_at(&self) -> Instant {
        self.free_at
    }

    pub(super) fn waits_for_grant(&self) -> bool {
        self.credit.is_some_and(|credit| credit <= 0)
    }

    pub(super) fn send_by_grants(&mut self, now: Instant) {
        self.capacity.settled += self.bits_e9_since(now);
        self.credit = Some(0);
        self.free_at = now;
    }

    pub(super) fn grant(&mut self, bytes: u16, idle: bool) {
        self.capacity.settled += u128::from(bytes) * u128::from(BIT_NS_A_BYTE);
        if let Some(credit) = &mut self.credit {
            *credit += i64::from(bytes);
            if idle {
                *credit = (*credit).min(0);
            }
        }
    }

    /// See [`CATCH_UP`]; before [`Shaper::is_free`].
    #[inline]
    pub(super) fn bound_lag(&mut self, now: Instant) {
        if self.credit.is_none() {
            self.free_at = self.free_at.max(now - CATCH_UP);
        }
    }

    #[inline]
    pub(super) fn is_free(&self, now: Instant) -> bool {
        if self.credit.is_some() { !self.waits_for_grant() } else { self.free_at <= now }
    }

    /// For a batch: while less than so many bytes of it were sent, [`Shaper::is_free`] at `now` if [`Shaper::sent`] were
    /// told of each packet. That is: the time of what was sent is less than a nanosecond longer than the lag.
    pub(super) fn allowance(&self, now: Instant) -> u64 {
        if !self.is_free(now) {
            return 0;
        }
        if let Some(credit) = self.credit {
            return credit.unsigned_abs();
        }
        // At most 2^61: [`CATCH_UP`] at the fastest rate.
        let lag = now.since(self.free_at).as_nanos();
        ((lag + 1) * self.rate.as_bps() - self.remainder).div_ceil(BIT_NS_A_BYTE)
    }

    /// A packet meets an idle link: time that passed unused is gone.
    #[inline]
    pub(super) fn wake(&mut self, now: Instant) {
        if let Some(credit) = &mut self.credit {
            *credit = (*credit).min(0);
            return;
        }
        if self.free_at < now {
            self.free_at = now;
            self.remainder = 0;
        }
    }

    /// So many bytes were sent. The remainder is carried, so that it is the same in one call and in many.
    #[inline]
    pub(super) fn sent(&mut self, bytes: u64) {
        if let Some(credit) = &mut self.credit {
            *credit -= bytes.cast_signed();
            return;
        }
        let (ns, remainder) = self.per_bit.divide(bytes * BIT_NS_A_BYTE + self.remainder);
        self.free_at += Span::from_nanos(ns);
        self.remainder = remainder;
    }

    pub(super) fn sending_time(&self, bytes: u16) -> Span {
        match self.credit {
            Some(_) => Span::ZERO,
            None => Span::from_nanos(self.per_bit.divide(u64::from(bytes) * BIT_NS_A_BYTE).0),
        }
    }

    pub(super) fn set_rate(&mut self, rate: BitRate, now: Instant) {
        self.capacity.settled += self.bits_e9_since(now);
        self.capacity.since = now;
        self.rate = rate;
        self.per_bit = Divisor::new(rate.as_bps());
        self.remainder = 0;
    }

    fn bits_e9_since(&self, now: Instant) -> u128 {
        if self.credit.is_some() {
            return 0;
        }
        u128::from(self.rate.as_bps()) * u128::from(now.since(self.capacity.since).as_nanos())
    }

    pub(super) fn capacity_bits(&self, now: Instant) -> u64 {
        ((self.capacity.settled + self.bits_e9_since(now)) / 1_000_000_000) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The quotient is the hardware's for every length, at rates around powers of two and at both ends, and where the
    /// carried remainder is largest.
    #[test]
    fn division_by_reciprocal_is_exact() {
        let powers = (14..=38).map(|n| 1_u64 << n).flat_map(|p| [p - 1, p, p + 1]);
        for rate in powers.chain([10_000, 37_000_000, 399_999_999_999, 400_000_000_000, 2, 3]) {
            let d = Divisor::new(rate);
            for bytes in (0..=65_535_u64).step_by(7).chain([65_535]) {
                for dividend in [bytes * 8_000_000_000, bytes * 8_000_000_000 + rate - 1, bytes * rate, bytes]
                {
                    assert_eq!(d.divide(dividend), (dividend / rate, dividend % rate), "{dividend} / {rate}");
                }
            }
        }
        assert_eq!(Divisor::new(3).divide(u64::MAX), (u64::MAX / 3, 0));
    }
}
