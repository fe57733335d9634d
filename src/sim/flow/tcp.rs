//! What every congestion control needs around it: which packets are under way, which are lost, when to send.
//!
//! Transmissions are numbered, and a repeat has a number of its own, as in RFC 9002 §4.2: what is acknowledged is never
//! ambiguous. Within a flow the path does not reorder. Acknowledgements are never lost.

use std::collections::VecDeque;

use super::receiver::{ACK_DELAY, Ack};
use super::round_trip::RoundTrip;
use super::transmission::{State, Transmission};
use super::{AckSample, Control, FlowStats, Pacing};
use crate::time::{Instant, Span};

/// Later transmissions that must be acknowledged before one counts as lost: RFC 9002 §6.1.1, RFC 5681 §3.2.
const REORDER_THRESHOLD: u64 = 3;
/// The same when nothing is there that could be sent to reach it: RFC 5827 §3.1 for a path that does not reorder.
const TAIL_THRESHOLD: u64 = 1;
/// One that was sent this part of the least round trip before one that is acknowledged is lost as well: RFC 8985 §6.2.
const REORDER_WINDOW_DIVISOR: u64 = 4;
/// RFC 6298 §2.5.
const MAX_RTO: Span = Span::from_secs(60);

/// What a sender has to send.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Supply {
    /// Data without end.
    Endless,
    /// So many packets; [`Sender::supply`] may add to them.
    Packets(u64),
    /// Data without end of which a packet's worth comes up each time after this span, from the first packet on.
    Every(Span),
}

/// When a sender may send.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Permission {
    /// Now.
    Now,
    /// Not before then.
    At(Instant),
    /// When something has been acknowledged, a timer has expired, or there is more to send.
    Blocked,
}

/// A tail loss probe that has been sent: RFC 8985 §7.
#[derive(Copy, Clone, Debug)]
struct Probe {
    number: u64,
    /// What it repeats, without proof that it is lost; `None` if it carries new data.
    repeats: Option<u64>,
    /// Whether that has arrived, once this is known.
    arrived: Option<bool>,
}

/// What an acknowledgement settles.
#[derive(Copy, Clone, Debug, Default)]
struct Settled {
    /// Transmissions that arrived, and those of them whose data had not arrived before.
    arrived: u32,
    acked: u32,
    lost: u32,
    newest_lost: u64,
}

/// A sender.
#[derive(Clone, Debug)]
pub struct Sender {
    control: Control,
    flights: VecDeque<Transmission>,
    /// Number of the transmission at the front of `flights`.
    first: u64,
    under_way: u32,
    /// Most packets under way that the control allows, and half of its window.
    most: u32,
    half: u32,
    /// From one paced packet to the next.
    gap: Span,
    next_paced: Instant,
    /// Packets' worth of data that there has been to send until now.
    supplied: u64,
    /// Between packets' worth of data that come up, and when the next does; zero if they are there at once.
    data_gap: Span,
    next_data: Instant,
    to_repeat: u64,
    rtt: RoundTrip,
    round_end: u64,
    /// Number after the newest acknowledged transmission.
    answered: u64,
    /// Losses of transmissions before this one belong to a reduction that has been made.
    reduced_until: u64,
    /// Losses are being repaired until this one is acknowledged.
    repairing_until: u64,
    /// Transmissions before this one were followed by a moment when the window was full, or the pacer held data back
    /// with half of the window under way; with endless data, all.
    used_until: u64,
    backoff: u32,
    timer_from: Instant,
    last_sent: Instant,
    probe: Option<Probe>,
    /// The next packet is a probe, which no window holds back.
    probing: bool,
    stats: FlowStats,
}

impl Sender {
    /// A sender of endless data that has sent nothing.
    pub fn new(control: Control) -> Self {
        Self::with_supply(control, Supply::Endless)
    }

    /// A sender that has sent nothing.
    pub fn with_supply(control: Control, supply: Supply) -> Self {
        let (supplied, used_until, data_gap) = match supply {
            Supply::Endless => (u64::MAX, u64::MAX, Span::ZERO),
            Supply::Packets(n) => (n, 0, Span::ZERO),
            Supply::Every(gap) => (u64::MAX, 0, gap),
        };
        let mut sender = Self {
            control,
            flights: VecDeque::new(),
            first: 0,
            under_way: 0,
            most: 0,
            half: 0,
            gap: Span::ZERO,
            next_paced: Instant::ZERO,
            supplied,
            data_gap,
            next_data: Instant::ZERO,
            to_repeat: 0,
            rtt: RoundTrip { smoothed: Span::ZERO, variation: Span::ZERO, least: Span::MAX },
            round_end: 0,
            answered: 0,
            reduced_until: 0,
            repairing_until: 0,
            used_until,
            backoff: 0,
            timer_from: Instant::ZERO,
            last_sent: Instant::ZERO,
            probe: None,
            probing: false,
            stats: FlowStats::default(),
        };
        sender.control_changed();
        sender
    }

    /// Adds `more` packets to what there is to send; nothing can be added to endless data.
    pub fn supply(&mut self, more: u64) {
        self.supplied = self.supplied.saturating_add(more);
    }

    /// Everything that was supplied has been delivered and acknowledged.
    pub const fn is_finished(&self) -> bool {
        self.stats.delivered == self.supplied
    }

    /// The congestion window in packets.
    pub fn window(&self) -> f64 {
        self.control.window()
    }

    /// The congestion control.
    pub const fn control(&self) -> &Control {
        &self.control
    }

    /// Packets under way: sent, and neither acknowledged nor given up.
    pub const fn under_way(&self) -> u32 {
        self.under_way
    }

    /// The smoothed round-trip time (RFC 6298), once there has been a sample.
    pub fn srtt(&self) -> Option<Span> {
        self.rtt.measured().then_some(self.rtt.smoothed)
    }

    /// Counters.
    pub const fn stats(&self) -> FlowStats {
        self.stats
    }

    /// Packets' worth of data that have been sent once at least.
    const fn begun(&self) -> u64 {
        self.stats.sent - self.stats.retransmits
    }

    /// There is something to send, new or again.
    fn has_data(&self, now: Instant) -> bool {
        self.to_repeat > 0 || (self.begun() < self.supplied && self.next_data <= now)
    }

    /// When the next packet may go.
    pub fn permission(&self, now: Instant) -> Permission {
        if self.probing {
            Permission::Now
        } else if self.under_way >= self.most {
            Permission::Blocked
        } else if !self.has_data(now) {
            let comes_up = self.begun() < self.supplied;
            if comes_up { Permission::At(self.next_data) } else { Permission::Blocked }
        } else if self.next_paced > now {
            Permission::At(self.next_paced)
        } else {
            Permission::Now
        }
    }

    /// What follows from a change of the control's state.
    fn control_changed(&mut self) {
        let window = self.control.window();
        let whole = window as u32;
        self.half = whole / 2;
        let gap_ns = match self.control.pacing() {
            Pacing::Off => {
                self.most = whole.max(1);
                return;
            }
            Pacing::Windows(gain) => {
                // The pacer keeps the mean to the fraction of the window; without one, only whole packets fit into it.
                self.most = whole + 1 + u32::from(window > f64::from(whole));
                self.rtt.smoothed.as_nanos() as f64 / (gain * window)
            }
            Pacing::Rate(rate) => {
                self.most = whole.max(1);
                1e9 / rate
            }
        };
        self.gap = Span::from_nanos((gap_ns + 0.5) as u64);
    }

    /// Sends a packet at `now`; returns the number of the transmission. Only with [`Permission::Now`].
    pub fn send(&mut self, now: Instant) -> u64 {
        let number = self.next();
        let begun = self.begun();
        if self.under_way == 0 {
            self.timer_from = now;
        }
        self.last_sent = now;
        if self.probing {
            self.start_probe(number, now);
        }
        if self.to_repeat > 0 {
            self.to_repeat -= 1;
            self.stats.retransmits += 1;
        }
        if self.gap > Span::ZERO {
            self.next_paced = self.next_paced.max(now) + self.gap;
        }
        if let Control::Bbr(bbr) = &mut self.control {
            bbr.on_send(number, self.under_way, now);
        }
        self.flights.push_back(Transmission::new(now));
        self.under_way += 1;
        self.stats.sent += 1;
        if self.data_gap > Span::ZERO && self.begun() > begun {
            self.next_data = if begun == 0 { now } else { self.next_data } + self.data_gap;
        }
        let has_data = self.has_data(now);
        let held_back = has_data && self.next_paced > now && self.under_way >= self.half;
        if self.under_way >= self.most || held_back {
            self.used_until = self.used_until.max(number + 1);
        } else if !has_data {
            self.ran_out();
        }
        number
    }

    /// There is room in the window and nothing to fill it.
    fn ran_out(&mut self) {
        if let Control::Bbr(bbr) = &mut self.control {
            bbr.set_app_limited(self.under_way);
        }
    }

    fn next(&self) -> u64 {
        self.first + self.flights.len() as u64
    }

    /// A transmission has reached the receiver.
    pub fn received(&mut self, transmission: u64) {
        if let Some(t) = self.index(transmission).and_then(|i| self.flights.get_mut(i)) {
            t.set(State::Received);
        }
    }

    fn index(&self, transmission: u64) -> Option<usize> {
        transmission.checked_sub(self.first).map(|i| i as usize)
    }

    /// Takes an acknowledgement.
    pub fn on_ack(&mut self, ack: Ack, now: Instant) {
        let Some(&newest) = self.index(ack.newest).and_then(|i| self.flights.get(i)) else {
            // It answers what the retransmission timer has given up.
            return;
        };
        let rtt = now.since(newest.sent_at());
        self.rtt.sample(rtt);
        let settled = self.settle(ack.newest, newest.sent_at(), now);
        self.under_way -= settled.arrived + settled.lost;
        self.stats.delivered += u64::from(settled.acked);
        self.answered = ack.newest + 1;
        if settled.arrived > 0 {
            self.backoff = 0;
            self.timer_from = now;
        }
        let round_ended = ack.newest >= self.round_end;
        if round_ended {
            self.round_end = self.next();
        }
        self.control.on_ack(&AckSample {
            now,
            acked: settled.acked,
            ce: ack.ce.min(settled.acked),
            lost: settled.lost,
            newest: ack.newest,
            under_way: self.under_way,
            rtt,
            min_rtt: self.rtt.least,
            srtt: self.rtt.smoothed,
            round_ended,
            window_used: ack.newest < self.used_until,
            repairing: ack.newest < self.repairing_until,
        });
        if settled.lost > 0 && settled.newest_lost >= self.reduced_until {
            self.repairing_until = self.next();
            self.reduce();
        } else if ack.ce > 0 && self.control.reduces_once_a_window() && ack.newest >= self.reduced_until {
            self.reduced_until = self.next();
            self.control.on_ce();
        }
        self.control_changed();
        if self.begun() == self.supplied {
            self.drained(now);
        }
    }

    /// Settles what an acknowledgement that covers everything up to `newest` proves arrived or lost.
    fn settle(&mut self, newest: u64, newest_sent: Instant, now: Instant) -> Settled {
        let threshold = if self.has_data(now) { REORDER_THRESHOLD } else { TAIL_THRESHOLD };
        let window = Span::from_nanos(self.rtt.least.as_nanos() / REORDER_WINDOW_DIVISOR);
        let is_lost =
            |number: u64, t: Transmission| number + threshold <= newest || t.sent_at() + window < newest_sent;
        let mut settled = Settled::default();
        while self.first <= newest {
            let Some(&t) = self.flights.front() else { break };
            match t.state() {
                State::Received => self.arrived(self.first, &mut settled),
                State::UnderWay if is_lost(self.first, t) => self.lost(self.first, &mut settled),
                State::UnderWay => break,
                State::Settled => {}
            }
            self.flights.pop_front();
            self.first += 1;
        }
        // Behind one that may yet come there are fewer than the threshold.
        for number in self.first..=newest {
            let i = (number - self.first) as usize;
            let t = self.flights[i];
            match t.state() {
                State::Received => self.arrived(number, &mut settled),
                State::UnderWay if is_lost(number, t) => self.lost(number, &mut settled),
                State::UnderWay | State::Settled => continue,
            }
            self.flights[i].set(State::Settled);
        }
        if self.probe.is_some_and(|p| p.number < self.first) {
            self.probe = None;
        }
        settled
    }

    fn arrived(&mut self, number: u64, settled: &mut Settled) {
        settled.arrived += 1;
        settled.acked += u32::from(!self.probe_covers(number, true));
    }

    fn lost(&mut self, number: u64, settled: &mut Settled) {
        settled.lost += 1;
        settled.newest_lost = number;
        self.to_repeat += u64::from(!self.probe_covers(number, false));
    }

    /// Whether the fate of `number` changes nothing about its data: a probe that is under way has taken them over, or
    /// it is the probe, and the data had arrived before.
    fn probe_covers(&mut self, number: u64, arrived: bool) -> bool {
        let Some(Probe { number: probe, repeats: Some(repeated), arrived: before }) = &mut self.probe else {
            return false;
        };
        if number == *repeated {
            *before = Some(arrived);
            return !arrived;
        }
        number == *probe && *before == Some(true)
    }

    /// All data have been sent once.
    fn drained(&mut self, now: Instant) {
        if self.is_finished() && self.under_way > 0 {
            // What a probe repeated had arrived: nobody waits for the answer to it.
            self.give_up();
        } else if !self.has_data(now) && self.under_way < self.most {
            self.ran_out();
        }
    }

    /// One reduction a round trip: RFC 5681 §3.2, RFC 3168 §6.1.2.
    fn reduce(&mut self) {
        self.reduced_until = self.next();
        self.control.on_congestion();
    }

    /// When [`Sender::on_timeout`] is due: the loss probe or the retransmission timer; `None` while nothing is under
    /// way. May become earlier with each acknowledgement.
    pub fn timeout(&self) -> Option<Instant> {
        if self.under_way == 0 {
            return None;
        }
        let retransmission = self.retransmission_timeout();
        Some(self.probe_timeout().map_or(retransmission, |probe| probe.min(retransmission)))
    }

    fn retransmission_timeout(&self) -> Instant {
        let backed_off = self.rtt.timeout().as_nanos() << self.backoff.min(10);
        self.timer_from + Span::from_nanos(backed_off).min(MAX_RTO)
    }

    /// RFC 8985 §7.2: not while losses are repaired, and one probe at a time.
    fn probe_timeout(&self) -> Option<Instant> {
        let repairing = self.answered < self.repairing_until || self.backoff > 0;
        if repairing || self.probe.is_some() || self.probing || !self.rtt.measured() {
            return None;
        }
        // Its receiver may be waiting for a second packet before it answers.
        let allowance = if self.under_way == 1 { ACK_DELAY } else { Span::ZERO };
        Some(self.last_sent.max(self.timer_from) + self.rtt.smoothed + self.rtt.smoothed + allowance)
    }

    /// A timer has expired: a loss probe may go (RFC 8985 §7.3), or everything under way is lost (RFC 6298 §5.4 to
    /// §5.6).
    pub fn on_timeout(&mut self, now: Instant) {
        let probe = self.probe_timeout().is_some_and(|probe| probe < self.retransmission_timeout());
        (self.next_paced, self.timer_from) = (now, now);
        if probe {
            self.probing = true;
            return;
        }
        self.give_up();
        (self.reduced_until, self.repairing_until) = (self.first, self.first);
        self.backoff += 1;
        self.control.on_timeout();
        self.control_changed();
    }

    /// The next packet is a probe: new data if there are any, and else the newest packet again.
    fn start_probe(&mut self, number: u64, now: Instant) {
        self.probing = false;
        let repeats = if self.has_data(now) {
            None
        } else {
            self.stats.retransmits += 1;
            Some(number - 1)
        };
        self.probe = Some(Probe { number, repeats, arrived: None });
    }

    /// Nothing that is under way will be waited for.
    fn give_up(&mut self) {
        self.to_repeat = self.begun() - self.stats.delivered;
        self.under_way = 0;
        self.first = self.next();
        self.flights.clear();
        (self.probe, self.probing) = (None, false);
        self.round_end = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::flow::dctcp::Dctcp;
    use crate::sim::flow::reno::Reno;

    fn sender() -> Sender {
        Sender::new(Reno::default().into())
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
        assert_eq!(s.timeout(), Some(at(300)), "a probe, two round trips later");
        s.on_timeout(at(300));
        assert_eq!((fill(&mut s, at(300)), s.window()), (2, 11.0), "one of them is the probe");
        assert_eq!(s.timeout(), Some(at(600)));
        s.on_timeout(at(600));
        assert_eq!((s.window(), s.to_repeat, s.timeout()), (1.0, 11, None));
        assert_eq!(fill(&mut s, at(600)), 1);
        assert_eq!(s.timeout(), Some(at(1200)), "twice as long");
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
            assert_eq!(s.window(), 5.0, "halved, and no growth with an echo");
        }
    }

    /// A run of marks over the end of a round of the measurement. Alpha is 1, and 15/16 after the first round.
    #[test]
    fn dctcp_reduces_once_for_each_window_of_data() {
        let mut s = Sender::new(Dctcp::default().into());
        let mut answer = |t: u64, ce: u32| {
            fill(&mut s, Instant::from_millis(20));
            s.received(t);
            s.on_ack(Ack { newest: t, ce }, Instant::from_millis(20));
            s.window()
        };
        for t in 0..9 {
            answer(t, 0);
        }
        let reduced = 19.0 * (1.0 - 15.0 / 32.0);
        // A round of the measurement ends with 10; 0 to 27 have been sent when 9 says so.
        for t in 9..28 {
            assert_eq!(answer(t, 1), reduced, "{t}");
        }
        assert!(answer(28, 1) < reduced, "sent after the reduction");
    }
}
