//! What every congestion control needs around it: which packets are under way, which are lost, when to send.
//!
//! Transmissions are numbered, and a repeat has a number of its own, as in RFC 9002 §4.2: what is acknowledged is never
//! ambiguous. Within a flow the path does not reorder.

use std::collections::VecDeque;

use super::receiver::Ack;
use super::{AckSample, Control, FlowStats};
use crate::time::{Instant, Span};

/// Later transmissions that must be acknowledged before one counts as lost: RFC 9002 §6.1.1, RFC 5681 §3.2.
const REORDER_THRESHOLD: u64 = 3;
/// The timer waits at least this much longer than the smoothed round trip, as in Linux; RFC 6298 §2.4 has a floor of
/// one second for the whole.
const MIN_MARGIN: Span = Span::from_millis(200);
/// RFC 6298 §2.1.
const FIRST_RTO: Span = Span::from_secs(1);
/// RFC 6298 §2.5.
const MAX_RTO: Span = Span::from_secs(60);

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum State {
    UnderWay,
    /// It reached the receiver, which has not said so yet.
    Received,
    /// Acknowledged or given up.
    Settled,
}

#[derive(Clone, Debug)]
struct Transmission {
    sent_at: Instant,
    state: State,
}

/// RFC 6298 §2.
#[derive(Clone, Debug, Default)]
struct RoundTrip {
    smoothed: Span,
    variation: Span,
    measured: bool,
}

impl RoundTrip {
    fn sample(&mut self, rtt: Span) {
        if !self.measured {
            *self = Self { smoothed: rtt, variation: Span::from_nanos(rtt.as_nanos() / 2), measured: true };
            return;
        }
        let off = rtt.as_nanos().abs_diff(self.smoothed.as_nanos());
        self.variation = Span::from_nanos((3 * self.variation.as_nanos() + off) / 4);
        self.smoothed = Span::from_nanos((7 * self.smoothed.as_nanos() + rtt.as_nanos()) / 8);
    }

    fn timeout(&self) -> Span {
        if !self.measured {
            return FIRST_RTO;
        }
        self.smoothed + Span::from_nanos(4 * self.variation.as_nanos()).max(MIN_MARGIN)
    }
}

/// When a sender may send.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Permission {
    /// Now.
    Now,
    /// Not before then.
    At(Instant),
    /// When something has been acknowledged.
    Blocked,
}

/// How much there is to send.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Supply {
    /// No end.
    Endless,
    /// So many packets.
    Packets(u64),
}

/// A sender of endless data.
#[derive(Clone, Debug)]
pub struct Sender {
    control: Control,
    flights: VecDeque<Transmission>,
    /// Number of the transmission at the front of `flights`.
    first: u64,
    under_way: u32,
    to_repeat: u64,
    rtt: RoundTrip,
    round_end: u64,
    /// Losses of transmissions before this one belong to a reduction that has been made.
    reduced_until: u64,
    /// Losses are being repaired until this one is acknowledged.
    repairing_until: u64,
    backoff: u32,
    timer_from: Instant,
    next_paced: Instant,
    stats: FlowStats,
    supply: Supply,
}

impl Sender {
    /// A sender that has sent nothing.
    pub fn new(control: Control) -> Self {
        Self {
            control,
            flights: VecDeque::new(),
            first: 0,
            under_way: 0,
            to_repeat: 0,
            rtt: RoundTrip::default(),
            round_end: 0,
            reduced_until: 0,
            repairing_until: 0,
            backoff: 0,
            timer_from: Instant::ZERO,
            next_paced: Instant::ZERO,
            stats: FlowStats::default(),
            supply: Supply::Endless,
        }
    }

    /// shim
    pub fn with_supply(control: Control, supply: Supply) -> Self {
        Self { supply, ..Self::new(control) }
    }

    /// shim
    pub fn is_finished(&self) -> bool {
        matches!(self.supply, Supply::Packets(n) if self.stats.delivered >= n)
    }

    /// The congestion window in packets.
    pub fn window(&self) -> f64 {
        self.control.window()
    }

    /// Counters.
    pub const fn stats(&self) -> FlowStats {
        self.stats
    }

    /// When the next packet may go.
    pub fn permission(&self, now: Instant) -> Permission {
        let window = self.control.window();
        let paced = self.control.pacing_gain().is_some();
        // A pacer keeps the mean to the fraction of the window; without one, only whole packets fit into it.
        let whole = if paced { window.ceil() + 1.0 } else { window.floor().max(1.0) };
        if matches!(self.supply, Supply::Packets(n) if self.to_repeat == 0 && self.stats.sent - self.stats.retransmits >= n)
            || f64::from(self.under_way) >= whole
        {
            Permission::Blocked
        } else if paced && self.next_paced > now {
            Permission::At(self.next_paced)
        } else {
            Permission::Now
        }
    }

    /// Sends a packet at `now`; returns the number of the transmission.
    pub fn send(&mut self, now: Instant) -> u64 {
        if self.under_way == 0 {
            self.timer_from = now;
        }
        if let Some(gain) = self.control.pacing_gain().filter(|_| self.rtt.measured) {
            let rate = gain * self.control.window() / self.rtt.smoothed.as_secs_f64();
            self.next_paced = self.next_paced.max(now) + Span::from_secs_f64(1.0 / rate);
        }
        self.flights.push_back(Transmission { sent_at: now, state: State::UnderWay });
        self.under_way += 1;
        self.stats.sent += 1;
        if self.to_repeat > 0 {
            self.to_repeat -= 1;
            self.stats.retransmits += 1;
        }
        self.next() - 1
    }

    fn next(&self) -> u64 {
        self.first + self.flights.len() as u64
    }

    /// A transmission has reached the receiver.
    pub fn received(&mut self, transmission: u64) {
        if let Some(t) = self.index(transmission).and_then(|i| self.flights.get_mut(i)) {
            t.state = State::Received;
        }
    }

    fn index(&self, transmission: u64) -> Option<usize> {
        transmission.checked_sub(self.first).map(|i| i as usize)
    }

    /// Takes an acknowledgement.
    pub fn on_ack(&mut self, ack: Ack, now: Instant) {
        let Some(newest) = self.index(ack.newest).filter(|&i| i < self.flights.len()) else {
            // It answers what the retransmission timer has given up.
            return;
        };
        self.rtt.sample(now.since(self.flights[newest].sent_at));
        let (mut acked, mut lost, mut newest_lost) = (0, 0, 0);
        for (i, t) in self.flights.iter_mut().enumerate().take(newest + 1) {
            match t.state {
                State::Received => acked += 1,
                State::UnderWay if i as u64 + REORDER_THRESHOLD <= newest as u64 => {
                    lost += 1;
                    newest_lost = self.first + i as u64;
                }
                State::UnderWay | State::Settled => continue,
            }
            t.state = State::Settled;
        }
        self.under_way -= acked + lost;
        self.to_repeat += u64::from(lost);
        self.stats.delivered += u64::from(acked);
        while self.flights.front().is_some_and(|t| t.state == State::Settled) {
            self.flights.pop_front();
            self.first += 1;
        }
        if acked > 0 {
            self.backoff = 0;
            self.timer_from = now;
        }
        let round_ended = ack.newest >= self.round_end;
        if round_ended {
            self.round_end = self.next();
        }
        if ack.newest >= self.repairing_until {
            self.control.on_ack(&AckSample {
                now,
                acked,
                ce: ack.ce.min(acked),
                srtt: self.rtt.smoothed,
                round_ended,
            });
        }
        if lost > 0 && newest_lost >= self.reduced_until {
            self.repairing_until = self.next();
            self.reduce();
        } else if ack.ce > 0 && self.control.classic_ecn() && ack.newest >= self.reduced_until {
            self.reduce();
        }
    }

    /// One reduction a round trip: RFC 5681 §3.2, RFC 3168 §6.1.2.
    fn reduce(&mut self) {
        self.reduced_until = self.next();
        self.control.on_congestion();
    }

    /// When the retransmission timer expires; `None` while nothing is under way.
    pub fn timeout(&self) -> Option<Instant> {
        let backed_off = self.rtt.timeout().as_nanos() << self.backoff.min(10);
        (self.under_way > 0).then(|| self.timer_from + Span::from_nanos(backed_off).min(MAX_RTO))
    }

    /// The retransmission timer has expired: everything under way is lost (RFC 6298 §5.4 to §5.6).
    pub fn on_timeout(&mut self, now: Instant) {
        self.to_repeat += u64::from(self.under_way);
        self.under_way = 0;
        self.first = self.next();
        self.flights.clear();
        (self.reduced_until, self.repairing_until, self.round_end) = (self.first, self.first, self.first);
        self.backoff += 1;
        self.timer_from = now;
        self.next_paced = now;
        self.control.on_timeout();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::flow::reno::Reno;

    fn sender() -> Sender {
        Sender::new(Control::Reno(Reno::default()))
    }

    fn fill(s: &mut Sender, now: Instant) -> u32 {
        let mut n = 0;
        while s.permission(now) == Permission::Now {
            s.send(now);
            n += 1;
        }
        n
    }

    #[test]
    fn a_gap_of_three_is_a_loss_and_a_window_of_losses_is_one_reduction() {
        let mut s = sender();
        let at = Instant::from_millis;
        assert_eq!(fill(&mut s, at(0)), 10, "RFC 6928");
        for t in 2..10 {
            s.received(t);
        }
        // 0 and 1 are lost; 2 and 3 bring no proof of 1.
        s.on_ack(Ack { newest: 2, ce: 0 }, at(20));
        assert_eq!((s.window(), s.to_repeat), (11.0, 0));
        s.on_ack(Ack { newest: 3, ce: 0 }, at(20));
        assert_eq!((s.window(), s.to_repeat), (6.0, 1), "twelve, halved");
        s.on_ack(Ack { newest: 9, ce: 0 }, at(20));
        assert_eq!((s.window(), s.to_repeat, s.under_way), (6.0, 2, 0));
        assert_eq!(s.stats(), FlowStats { sent: 10, retransmits: 0, delivered: 8 });
        assert_eq!(fill(&mut s, at(20)), 6);
        assert_eq!(s.stats(), FlowStats { sent: 16, retransmits: 2, delivered: 8 });
        for t in 10..16 {
            s.received(t);
        }
        s.on_ack(Ack { newest: 15, ce: 0 }, at(40));
        assert_eq!(s.stats().delivered, 14);
        assert_eq!(s.stats().sent, s.stats().delivered + s.stats().retransmits + u64::from(s.under_way));
    }

    /// RFC 6298: the first sample R gives SRTT = R, RTTVAR = R/2, RTO = 3R, here more than the floor.
    #[test]
    fn the_timer_backs_off_and_gives_up_what_is_under_way() {
        let mut s = sender();
        let at = Instant::from_millis;
        assert_eq!(s.timeout(), None);
        fill(&mut s, at(0));
        assert_eq!(s.timeout(), Some(at(1000)));
        s.received(0);
        s.on_ack(Ack { newest: 0, ce: 0 }, at(100));
        assert_eq!(s.timeout(), Some(at(400)));
        s.on_timeout(at(400));
        assert_eq!((s.window(), s.to_repeat, s.timeout()), (1.0, 9, None));
        assert_eq!(fill(&mut s, at(400)), 1);
        assert_eq!(s.timeout(), Some(at(1000)), "twice as long");
        s.on_ack(Ack { newest: 5, ce: 0 }, at(410));
        assert_eq!(s.stats().delivered, 1, "what was given up does not count twice");
    }

    #[test]
    fn classic_ce_reduces_once_a_round_trip() {
        let mut s = sender();
        fill(&mut s, Instant::ZERO);
        for t in 0..10 {
            s.received(t);
            s.on_ack(Ack { newest: t, ce: 1 }, Instant::from_millis(20));
        }
        // 11 halved once, then 9 acknowledgements of congestion avoidance: at most 9/5.5 more.
        assert!((5.5..7.2).contains(&s.window()), "{}", s.window());
    }
}
