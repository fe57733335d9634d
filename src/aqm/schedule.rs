//! Conditional priority between L and C (RFC 9332 §2.2, §4.1): L goes first, C is never starved.

use super::Service;
use super::params::{MTU_BYTES, ScheduleParams};
use crate::time::{Instant, Span};

/// The scheduler.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Scheduler {
    /// Weighted round robin by credit, in bytes x percent: negative while L is owed nothing, positive while C is owed
    /// service. It moves only while both queues wait, so an unopposed L flow never pays.
    Wrr {
        /// Percent of C.
        classic: i64,
        /// Who is owed.
        credit: i64,
    },
    /// Time-shifted FIFO.
    TimeShiftedFifo {
        /// How much older C's head must be to go first.
        shift: Span,
    },
}

impl Scheduler {
    /// A scheduler at rest.
    pub fn new(params: ScheduleParams) -> Self {
        match params {
            ScheduleParams::Wrr { classic_percent } => {
                let classic = i64::from(classic_percent.clamp(1, 50));
                Self::Wrr { classic, credit: Self::initial_credit(classic) }
            }
            ScheduleParams::TimeShiftedFifo { shift } => Self::TimeShiftedFifo { shift },
        }
    }

    /// L may be ahead by one MTU's worth before C gets its first turn (Linux `dualpi2_reset_c_protection`).
    fn initial_credit(classic: i64) -> i64 {
        i64::from(MTU_BYTES) * (classic - (100 - classic))
    }

    /// The queue to serve next, by whether packets wait in L and in C, and when the oldest of each arrived, which is only
    /// asked for if both do. `None` if both are empty, which also puts the scheduler to rest.
    #[inline]
    pub fn pick(&mut self, waiting: [bool; 2], arrivals: impl FnOnce() -> [Instant; 2]) -> Option<Service> {
        match waiting {
            [false, false] => {
                if let Self::Wrr { classic, credit } = self {
                    *credit = Self::initial_credit(*classic);
                }
                None
            }
            [true, false] => Some(Service::L4s),
            [false, true] => Some(Service::Classic),
            [true, true] => {
                let l_first = match self {
                    Self::Wrr { credit, .. } => *credit <= 0,
                    Self::TimeShiftedFifo { shift } => {
                        let [l, c] = arrivals();
                        l <= c + *shift
                    }
                };
                Some(if l_first { Service::L4s } else { Service::Classic })
            }
        }
    }

    /// Accounts for `bytes` really sent from `service`. `contended` = the other queue was waiting when it was picked.
    #[inline]
    pub fn sent(&mut self, service: Service, bytes: u16, contended: bool) {
        if let (Self::Wrr { classic, credit }, true) = (self, contended) {
            // A packet moves it by less than 2^23, and towards 0 whenever it is further off than that.
            let owed = match service {
                Service::L4s => classic.wrapping_mul(i64::from(bytes)),
                Service::Classic => classic.wrapping_sub(100).wrapping_mul(i64::from(bytes)),
            };
            *credit = credit.wrapping_add(owed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: Option<Instant> = Some(Instant::ZERO);
    const IDLE: Option<Instant> = None;

    fn wrr() -> Scheduler {
        Scheduler::new(ScheduleParams::Wrr { classic_percent: 10 })
    }

    fn pick(s: &mut Scheduler, l: Option<Instant>, c: Option<Instant>) -> Option<Service> {
        s.pick([l.is_some(), c.is_some()], || [l, c].map(Option::unwrap))
    }

    fn serve(s: &mut Scheduler, l_bytes: u16, c_bytes: u16, n: usize) -> Vec<Service> {
        (0..n)
            .map(|_| {
                let q = pick(s, BUSY, BUSY).unwrap();
                s.sent(q, if q == Service::L4s { l_bytes } else { c_bytes }, true);
                q
            })
            .collect()
    }

    /// Both always backlogged with equal packets: 9 L, 1 C, 9 L, 1 C... (reference §1.5).
    #[test]
    fn nine_l_then_one_c() {
        let served = serve(&mut wrr(), 1514, 1514, 200);
        let c_at: Vec<usize> =
            served.iter().enumerate().filter(|(_, q)| **q == Service::Classic).map(|(i, _)| i).collect();
        let gaps: Vec<usize> = c_at.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(gaps.iter().all(|&g| g == 10), "{c_at:?}");
        assert_eq!(c_at[0], 9, "L may go first for nine packets");
    }

    /// In bytes it is 90:10 whatever the packet sizes.
    #[test]
    fn shares_are_of_bytes() {
        let served = serve(&mut wrr(), 200, 1514, 100_000);
        let c = served.iter().filter(|q| **q == Service::Classic).count();
        let (l_bytes, c_bytes) = ((served.len() - c) * 200, c * 1514);
        let share = c_bytes as f64 / (l_bytes + c_bytes) as f64;
        assert!((share - 0.1).abs() < 1e-3, "{share}");
    }

    /// An unopposed L flow never pays, and silence resets.
    #[test]
    fn credit_moves_only_under_contention() {
        let mut s = wrr();
        let start = s;
        for _ in 0..50 {
            assert_eq!(pick(&mut s, BUSY, IDLE), Some(Service::L4s));
            s.sent(Service::L4s, 1514, false);
        }
        assert_eq!(s, start);
        serve(&mut s, 1514, 1514, 4);
        assert_ne!(s, start);
        assert_eq!(pick(&mut s, IDLE, IDLE), None);
        assert_eq!(s, start);
    }

    /// RFC 9332 §4.1.1: L wins until C's head is older by more than the shift.
    #[test]
    fn time_shifted_fifo() {
        let mut s = Scheduler::new(ScheduleParams::TimeShiftedFifo { shift: Span::from_millis(50) });
        let at = |age_ms: u64| Some(Instant::from_millis(1_000 - age_ms));
        assert_eq!(pick(&mut s, at(0), at(50)), Some(Service::L4s));
        assert_eq!(pick(&mut s, at(0), at(51)), Some(Service::Classic));
        assert_eq!(pick(&mut s, at(2), at(51)), Some(Service::L4s));
        assert_eq!(pick(&mut s, IDLE, at(1)), Some(Service::Classic));
    }
}
