//! A sender on a path of one FIFO link, for tests: what the engine does, without an AQM, and with losses by number.

use std::collections::VecDeque;

use super::receiver::{Ack, Feedback, Receiver};
use super::tcp::{Permission, Sender};
use crate::time::{Instant, Span};

/// The path and what has happened on it.
pub(super) struct Path {
    pub sender: Sender,
    pub now: Instant,
    /// Base round-trip time, all of it behind the link.
    pub rtt: Span,
    /// Time of one packet on the link.
    pub service: Span,
    /// Packets that the link queues.
    pub buffer: u64,
    /// Queuing delay from which packets are marked.
    pub mark_from: Span,
    /// Transmissions that are lost after the link.
    pub losses: Box<dyn FnMut(u64) -> bool>,
    /// Most queuing delay seen, and packets that left the link.
    pub worst: Span,
    pub arrivals: u64,
    receiver: Receiver,
    link_free: Instant,
    packets: VecDeque<(Instant, u64, bool)>,
    acks: VecDeque<(Instant, Ack)>,
}

impl Path {
    /// A link of a packet a millisecond with an endless buffer, and 20 ms behind it.
    pub(super) fn new(sender: Sender) -> Self {
        Self {
            sender,
            now: Instant::ZERO,
            rtt: Span::from_millis(20),
            service: Span::from_millis(1),
            buffer: u64::MAX,
            mark_from: Span::MAX,
            losses: Box::new(|_| false),
            worst: Span::ZERO,
            arrivals: 0,
            receiver: Receiver::new(false, Feedback::Counter),
            link_free: Instant::ZERO,
            packets: VecDeque::new(),
            acks: VecDeque::new(),
        }
    }

    pub(super) fn lose(mut self, numbers: &[u64]) -> Self {
        let numbers = numbers.to_vec();
        self.losses = Box::new(move |n| numbers.contains(&n));
        self
    }

    fn send(&mut self) -> Option<Instant> {
        loop {
            match self.sender.permission(self.now) {
                Permission::Now => {}
                Permission::At(at) => return Some(at),
                Permission::Blocked => return None,
            }
            let number = self.sender.send(self.now);
            let queue = self.link_free.since(self.now);
            if queue.as_nanos() / self.service.as_nanos() >= self.buffer {
                continue;
            }
            self.worst = self.worst.max(queue);
            self.link_free = self.link_free.max(self.now) + self.service;
            if !(self.losses)(number) {
                self.packets.push_back((self.link_free, number, queue >= self.mark_from));
            }
        }
    }

    /// Lets everything happen until `end`; earlier if nothing more can, or the sender has finished.
    pub(super) fn run_until(&mut self, end: Instant) {
        while !self.sender.is_finished() {
            let paced = self.send();
            let next = [
                paced,
                self.packets.front().map(|p| p.0),
                self.acks.front().map(|a| a.0),
                self.sender.timeout(),
                self.receiver.due(),
            ];
            let Some(next) = next.into_iter().flatten().min().filter(|&t| t < end) else { break };
            self.now = next;
            self.happen();
        }
        if self.now < end && !self.sender.is_finished() {
            self.now = end;
        }
    }

    fn happen(&mut self) {
        let now = self.now;
        if let Some((_, number, ce)) = self.packets.pop_front_if(|p| p.0 <= now) {
            self.arrivals += 1;
            self.sender.received(number);
            for ack in self.receiver.receive(number, ce, now) {
                self.acks.push_back((now + self.rtt, ack));
            }
        } else if let Some((_, ack)) = self.acks.pop_front_if(|a| a.0 <= now) {
            self.sender.on_ack(ack, now);
        } else if let Some(ack) = self.receiver.expire(now) {
            self.acks.push_back((now + self.rtt, ack));
        } else if self.sender.timeout().is_some_and(|t| t <= now) {
            self.sender.on_timeout(now);
        }
    }

    /// Runs until the sender has finished; when that was.
    pub(super) fn finish(&mut self) -> Instant {
        self.run_until(self.now + Span::from_secs(600));
        assert!(self.sender.is_finished(), "{:?} at {:?}", self.sender, self.now);
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::flow::tcp::Supply;
    use crate::sim::flow::{Control, FlowStats, Pacing, bbr, cubic, dctcp, prague, reno};

    fn controls() -> [(&'static str, Control); 6] {
        [
            ("reno", reno::Reno::default().into()),
            ("cubic", cubic::Cubic::default().into()),
            ("dctcp", dctcp::Dctcp::default().into()),
            ("prague", prague::Prague::default().into()),
            ("prague with fall-back", prague::Prague::default().with_fallback().into()),
            ("bbr", bbr::Bbr::new(1).into()),
        ]
    }

    fn reno(packets: u64) -> Path {
        Path::new(Sender::with_supply(reno::Reno::default().into(), Supply::Packets(packets)))
    }

    /// Five packets at once on a path of 1 ms and 20 ms: the last is answered after 25 ms.
    #[test]
    fn a_finite_flow_completes() {
        let mut p = reno(5);
        assert_eq!(p.finish(), Instant::from_millis(25));
        assert_eq!(p.sender.stats(), FlowStats { sent: 5, retransmits: 0, delivered: 5 });
        assert_eq!((p.sender.timeout(), p.sender.permission(p.now)), (None, Permission::Blocked));
        p.sender.supply(1);
        assert!(!p.sender.is_finished());
        assert_eq!(p.finish(), Instant::from_millis(46));
        for (name, control) in controls() {
            let mut p = Path::new(Sender::with_supply(control, Supply::Packets(1000)));
            let end = p.finish();
            assert!((1020..1080).contains(&(end.as_nanos() / 1_000_000)), "{name}: {end:?}");
            assert_eq!(p.sender.stats(), FlowStats { sent: 1000, retransmits: 0, delivered: 1000 }, "{name}");
        }
    }

    /// The last three of ten are lost. The seventh is answered at 27 ms with a smoothed round trip of
    /// 21 ms + ... = 22.9 ms; the probe goes two of those later, at 72.9 ms, and is answered at 93.9 ms; the other two
    /// follow it and are answered at 115.9 ms. The retransmission timer would not have expired before 227 ms.
    #[test]
    fn a_lost_tail_is_repaired_by_a_probe() {
        let mut p = reno(10).lose(&[7, 8, 9]);
        let srtt = (2..=7).fold(21.0, |s, n| s * 7.0 / 8.0 + f64::from(20 + n) / 8.0);
        let law = 27.0 + 2.0 * srtt + 21.0 + 22.0;
        let end = p.finish().as_nanos() as f64 / 1e6;
        assert!((end - law).abs() < 0.01, "{end} ms, {law} ms");
        assert_eq!(p.sender.stats(), FlowStats { sent: 13, retransmits: 3, delivered: 10 });
        assert!(p.sender.window() >= 5.0, "a probe is no timeout: {}", p.sender.window());
        // With one packet under way its receiver may delay the answer by 40 ms.
        let end = reno(10).lose(&[9]).finish().as_nanos() as f64 / 1e6;
        let srtt = (2..=9).fold(21.0, |s, n| s * 7.0 / 8.0 + f64::from(20 + n) / 8.0);
        let law = 29.0 + 2.0 * srtt + 40.0 + 21.0;
        assert!((end - law).abs() < 0.01, "{end} ms, {law} ms");
    }

    /// The ninth of ten: the tenth is answered at 30 ms, and the repeat at 51 ms.
    #[test]
    fn at_the_tail_one_later_answer_is_proof_of_a_loss() {
        let mut p = reno(10).lose(&[8]);
        assert_eq!(p.finish(), Instant::from_millis(51));
        assert_eq!(p.sender.stats(), FlowStats { sent: 11, retransmits: 1, delivered: 10 });
    }

    #[test]
    fn a_probe_that_is_lost_as_well_leaves_it_to_the_timer() {
        let mut p = reno(10).lose(&[7, 8, 9, 10]);
        let end = p.finish();
        assert!(end > Instant::from_millis(72 + 220) && end < Instant::from_millis(400), "{end:?}");
        let stats = p.sender.stats();
        assert_eq!((stats.delivered, stats.sent), (10, 10 + stats.retransmits));
    }

    /// The link stalls for 100 ms: the probe repeats what has arrived, and it counts once.
    #[test]
    fn what_a_probe_repeats_for_nothing_counts_once() {
        let mut p = reno(10);
        p.run_until(Instant::from_millis(21));
        p.packets.iter_mut().for_each(|packet| packet.0 += Span::from_millis(100));
        p.acks.iter_mut().skip(3).for_each(|ack| ack.0 += Span::from_millis(100));
        p.finish();
        assert_eq!(p.sender.stats(), FlowStats { sent: 11, retransmits: 1, delivered: 10 });
        assert_eq!((p.sender.under_way(), p.sender.timeout()), (0, None));
    }

    /// Bursts of eight packets leave a window of ten unused.
    #[test]
    fn an_unused_window_does_not_grow() {
        for (name, control) in controls() {
            let mut p = Path::new(Sender::with_supply(control, Supply::Packets(0)));
            for burst in 1..=300 {
                p.sender.supply(8);
                p.run_until(Instant::from_millis(33 * burst));
                p.now = Instant::from_millis(33 * burst);
            }
            p.finish();
            assert_eq!(p.sender.stats().delivered, 2400, "{name}");
            let window = p.sender.window();
            // Where the pacer holds back, half of the window is under way. BBR's follows its model of the path, which
            // is of a packet a millisecond at most.
            let most = match p.sender.control().pacing() {
                Pacing::Off => 10.0,
                Pacing::Windows(_) => 2.0 * 8.0 + 2.0,
                Pacing::Rate(_) => 2.0 * 21.0 + 20.0,
            };
            assert!(window <= most, "{name}: {window}");
            // Bursts of 24 use it, up to twice what is under way while two of them overlap, and no further.
            for burst in 301..=600 {
                p.sender.supply(24);
                p.run_until(Instant::from_millis(33 * burst));
                p.now = Instant::from_millis(33 * burst);
            }
            let window = p.sender.window();
            assert!((10.0..=98.0).contains(&window), "{name}: {window}");
        }
    }

    /// Everything sent is delivered once, or was repeated, or repeats for nothing; with every control, up to 30 % of
    /// losses, and data that come in pieces.
    #[test]
    fn every_packet_is_accounted_for() {
        for seed in 0..60 {
            for (name, control) in controls() {
                let mut rng = fastrand::Rng::with_seed(seed);
                let mut p = Path::new(Sender::with_supply(control, Supply::Packets(0)));
                p.receiver = Receiver::new(rng.bool(), [Feedback::Echo, Feedback::Counter][rng.usize(..2)]);
                p.buffer = rng.u64(5..40);
                p.mark_from = Span::from_millis(rng.u64(1..20));
                let share = f64::from(rng.u32(0..30)) / 100.0;
                let mut dice = rng.fork();
                p.losses = Box::new(move |_| dice.f64() < share);
                let mut supplied = 0;
                for _ in 0..8 {
                    let more = rng.u64(1..60);
                    supplied += more;
                    p.sender.supply(more);
                    p.run_until(p.now + Span::from_millis(rng.u64(0..400)));
                    let s = p.sender.stats();
                    assert!(
                        s.delivered <= s.sent - s.retransmits && s.delivered <= p.arrivals,
                        "{name} {seed}"
                    );
                }
                p.finish();
                let s = p.sender.stats();
                assert_eq!((s.delivered, s.sent), (supplied, supplied + s.retransmits), "{name} {seed}");
                assert_eq!(p.sender.under_way(), 0, "{name} {seed}");
            }
        }
    }

    /// A queue that is marked from 20 ms on, and one that is marked from 1 ms on, at twelve packets a millisecond.
    #[test]
    fn the_fall_back_suspects_a_deep_queue_and_not_a_shallow_one() {
        let run = |control: prague::Prague, mark_ms| {
            let mut p = Path::new(Sender::new(control.into()));
            p.service = Span::from_micros(83);
            p.mark_from = Span::from_millis(mark_ms);
            p.run_until(Instant::from_millis(20_000));
            let Control::Prague(c) = p.sender.control() else { panic!("it is Prague") };
            c.suspects_classic_aqm()
        };
        let fallback = || prague::Prague::default().with_fallback();
        assert!(run(fallback(), 20) && !run(fallback(), 1) && !run(prague::Prague::default(), 20));
    }
}
