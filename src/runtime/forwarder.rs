//! The breath loop: one thread, two directions. A breath reads the clock once, takes a decision if one has come, takes
//! up to [`PortPair::BREATH`] frames a side, queues them, sends what the shapers have time for, and publishes at window
//! edges; between breaths it waits for a frame or for the next deadline.
//!
//! Per packet it does not allocate, lock, log or look anything up; it must not know a port's kind.

use std::sync::atomic::{AtomicBool, Ordering};

use super::change::Change;
use super::clock::Clock;
use super::lane::{Lane, Waits};
use crate::aqm::stats::DropCause;
use crate::aqm::{Packet, PacketMeta, Verdicts};
use crate::egress::{Framing, Inlet, Outlet};
use crate::port::{PortError, PortPair, Side};
use crate::telemetry::FrameMeter;
use crate::time::{Instant, Span};
use crate::wire::{self, FrameKind, Parsed};

/// The NQB code point (RFC 9956).
const NQB_DSCP: u8 = 45;

/// How long a stopping forwarder goes on sending what waits.
pub const DRAIN: Span = Span::from_secs(1);

/// How the loop behaves.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct LoopOptions {
    /// Results count from here on.
    pub warmup: Span,
    /// Stops by itself after this long.
    pub duration: Option<Span>,
    /// Length of a telemetry window.
    pub window: Span,
    /// A deadline nearer than this is not worth a sleep.
    pub spin: Span,
    /// Never sleep.
    pub busy_poll: bool,
    /// A real-time thread that never sleeps is stopped by the kernel for 50 ms a second (`sched_rt_runtime_us`); one that
    /// naps by itself is not.
    pub nap: Option<Nap>,
}

/// A forced rest.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Nap {
    /// After this long awake,
    pub awake: Span,
    /// rest this long.
    pub rest: Span,
}

/// The 6.5 % of rest that keep a FIFO thread under the usual 950 ms in 1 s, in portions too short for a ring to overflow.
pub const FIFO_NAP: Nap = Nap { awake: Span::from_micros(1_000), rest: Span::from_micros(70) };

/// The loop and all that it owns.
#[derive(Debug)]
pub struct Forwarder<P: PortPair, C> {
    port: P,
    clock: C,
    lanes: [Lane<P::Frame>; 2],
    batch: Vec<P::Frame>,
    options: LoopOptions,
    start: Instant,
    warm: bool,
    next_window: Instant,
    next_handover: Instant,
    awake_since: Instant,
    tx_bound: [u64; 2],
    changes: Option<rtrb::Consumer<Change>>,
}

/// The hidden FIFO behind the AQM: bytes in rings may be worth this much of the link's time,
const TX_TIME: Span = Span::from_micros(100);
/// but never less than a few frames, or nothing would move between two breaths.
const TX_LEAST: u64 = 16 * 1024;

/// How soon to look again whether a full ring has room.
const RETRY: Span = Span::from_micros(50);

/// By the side that is sent to.
fn tx_bound<F>(lanes: &[Lane<F>; 2]) -> [u64; 2] {
    Side::BOTH.map(|side| {
        let lane = &lanes[side.other().index()];
        lane.egress.rate().bytes_in(TX_TIME).max(TX_LEAST)
    })
}

impl<P: PortPair, C: Clock> Forwarder<P, C> {
    /// A forwarder that has not begun. `start` is the origin of warm-up and duration.
    pub fn new(port: P, clock: C, lanes: [Lane<P::Frame>; 2], options: LoopOptions, start: Instant) -> Self {
        Self {
            port,
            clock,
            tx_bound: tx_bound(&lanes),
            lanes,
            batch: Vec::with_capacity(P::BREATH),
            options,
            start,
            warm: options.warmup == Span::ZERO,
            next_window: start + options.window,
            next_handover: start + Span::from_secs(1),
            awake_since: start,
            changes: None,
        }
    }

    /// Takes changes of configuration from `changes`, one look a breath.
    #[must_use]
    pub fn with_changes(mut self, changes: rtrb::Consumer<Change>) -> Self {
        self.changes = Some(changes);
        self
    }

    /// Forwards until `stop`, the configured duration, or an error of a port. Whatever ends it, the lanes close their
    /// last window, so that a reader has the whole account.
    pub fn run(&mut self, stop: &AtomicBool) -> Result<(), PortError> {
        let end = self.options.duration.map_or(Instant::FAR_FUTURE, |d| self.start + d);
        let outcome = loop {
            let now = self.clock.now();
            if now >= end || stop.load(Ordering::Relaxed) {
                break Ok(());
            }
            match self.breath(now) {
                Ok(moved) if moved > 0 => self.nap(now),
                Ok(_) => {
                    if let Err(e) = self.rest(end) {
                        break Err(e);
                    }
                }
                Err(e) => break Err(e),
            }
        };
        self.close_windows(self.clock.now(), true);
        for lane in &mut self.lanes {
            lane.finish_delays();
        }
        if outcome.is_ok() { self.drain() } else { outcome }
    }

    /// One pass over both sides. Returns how many frames came or went.
    pub fn breath(&mut self, now: Instant) -> Result<usize, PortError> {
        if let Some(changes) = &mut self.changes
            && let Ok(change) = changes.pop()
        {
            self.reconfigure(&change, now);
        }
        for lane in &mut self.lanes {
            lane.control(now);
        }
        let mut moved = 0;
        for index in 0..2 {
            moved += self.receive(index, now)?;
        }
        for index in 0..2 {
            moved += self.transmit(index, now);
        }
        self.port.flush(now)?;
        if now >= self.next_window {
            self.window_edge(now);
        }
        Ok(moved)
    }

    #[cold]
    fn reconfigure(&mut self, change: &Change, now: Instant) {
        for lane in &mut self.lanes {
            lane.reconfigure(change, now);
        }
        self.tx_bound = tx_bound(&self.lanes);
    }

    fn receive(&mut self, index: usize, now: Instant) -> Result<usize, PortError> {
        let Lane { from, egress, frames: meter, .. } = &mut self.lanes[index];
        self.port.recv(*from, P::BREATH, &mut self.batch)?;
        let received = self.batch.len();
        let framing = egress.framing();
        egress.take_in(Received { frames: self.batch.drain(..), port: &mut self.port, meter, framing }, now);
        Ok(received)
    }

    fn transmit(&mut self, index: usize, now: Instant) -> usize {
        let Lane { to, egress, waits, .. } = &mut self.lanes[index];
        let (port, bound) = (&mut self.port, self.tx_bound[to.index()]);
        let sending = Sending { port, to: *to, bound, waits, left: P::BREATH, now };
        P::BREATH - egress.let_out(sending, now).left
    }

    /// Waits for a frame or the next deadline, unless that is too near to be worth it.
    fn rest(&mut self, end: Instant) -> Result<(), PortError> {
        let now = self.clock.now();
        if self.options.busy_poll {
            self.nap(now);
            return Ok(());
        }
        let mut deadline = self.next_window.min(end);
        for lane in &self.lanes {
            deadline = deadline.min(lane.next_look().unwrap_or(Instant::FAR_FUTURE));
            if let Some(at) = lane.egress.poll_timeout() {
                let may_send = may_send(&self.port, lane.to, self.tx_bound[lane.to.index()]);
                deadline = deadline.min(if may_send { at } else { at.max(now + RETRY) });
            }
        }
        deadline = deadline.min(self.port.next_deadline().unwrap_or(Instant::FAR_FUTURE));
        let ahead = deadline.since(now);
        if ahead <= self.options.spin {
            core::hint::spin_loop();
            self.nap(now);
            return Ok(());
        }
        self.port.wait(ahead)?;
        self.awake_since = self.clock.now();
        Ok(())
    }

    fn nap(&mut self, now: Instant) {
        if let Some(nap) = self.options.nap
            && now.since(self.awake_since) >= nap.awake
        {
            self.clock.sleep(nap.rest);
            self.awake_since = self.clock.now();
        }
    }

    fn window_edge(&mut self, now: Instant) {
        let warming_ended = !self.warm && now.since(self.start) >= self.options.warmup;
        self.close_windows(now, false);
        if warming_ended {
            self.warm = true;
        }
        if warming_ended || now >= self.next_handover {
            for lane in &mut self.lanes {
                lane.hand_over_delays(self.warm);
            }
            self.next_handover = now + Span::from_secs(1);
        }
        let step = self.options.window.as_nanos();
        let grid = (now.since(self.start).as_nanos() / step + 1) * step;
        self.next_window = self.start + Span::from_nanos(grid);
        if !self.warm {
            self.next_window = self.next_window.min(self.start + self.options.warmup);
        }
    }

    fn close_windows(&mut self, now: Instant, last: bool) {
        for lane in &mut self.lanes {
            let rx = self.port.counters(lane.from);
            lane.close_window(now, rx, self.port.tx_pending_bytes(lane.to), last);
        }
    }

    /// Sends what waits, for at most [`DRAIN`]; recycles the rest.
    fn drain(&mut self) -> Result<(), PortError> {
        let deadline = self.clock.now() + DRAIN;
        loop {
            let now = self.clock.now();
            for index in 0..2 {
                self.transmit(index, now);
            }
            self.port.flush(now)?;
            let next = self.lanes.iter().filter_map(|l| l.egress.poll_timeout()).min();
            let next = next.into_iter().chain(self.port.next_deadline()).min();
            match next {
                Some(at) if now < deadline => {
                    self.clock.sleep(at.min(deadline).since(now).max(Span::from_micros(50)));
                }
                _ => break,
            }
        }
        for lane in &mut self.lanes {
            while let Some(frame) = lane.egress.drain_one() {
                self.port.recycle(frame);
            }
        }
        Ok(())
    }

    /// The ports, to look at after a run.
    pub const fn port(&self) -> &P {
        &self.port
    }

    /// The ports, for a test that plays the outside world.
    pub fn port_mut(&mut self) -> &mut P {
        &mut self.port
    }
}

/// What a breath received, on its way into the egress.
struct Received<'a, P: PortPair> {
    frames: std::vec::Drain<'a, P::Frame>,
    port: &'a mut P,
    meter: &'a mut FrameMeter,
    framing: Framing,
}

impl<P: PortPair> Inlet<P::Frame> for Received<'_, P> {
    #[inline(always)]
    fn feed(self, mut offer: impl FnMut(P::Frame, PacketMeta) -> Result<(), P::Frame>) {
        let Self { frames, port, meter, framing } = self;
        for frame in frames {
            let bytes = port.bytes(&frame);
            let (ip, ecn, dscp, flow) = if let Some(packet) = wire::plain_ipv4(bytes) {
                let ecn = packet.ecn();
                meter.add(FrameKind::Ipv4, ecn);
                (true, ecn, packet.dscp(), wire::flow::of_ipv4(&packet))
            } else {
                let Parsed { kind, ecn, dscp, flow, .. } = wire::parse_any(bytes);
                meter.add(kind, ecn);
                if kind == FrameKind::Pause {
                    port.recycle(frame);
                    continue;
                }
                (kind.is_ip(), ecn, dscp, flow)
            };
            let len = framing.link_bytes(bytes.len());
            let meta = PacketMeta { len, ecn, nqb: dscp == NQB_DSCP, ip, flow };
            if let Err(refused) = offer(frame, meta) {
                port.recycle(refused);
            }
        }
    }
}

/// What leaves the egress, on its way to a port.
struct Sending<'a, P> {
    port: &'a mut P,
    to: Side,
    /// Bytes that may be in the rings before a frame; 0 once the port has refused one.
    bound: u64,
    waits: &'a mut Waits,
    /// Frames that may still be sent.
    left: usize,
    now: Instant,
}

impl<P: PortPair> Outlet<P::Frame> for Sending<'_, P> {
    #[inline(always)]
    fn has_room(&self) -> bool {
        self.left > 0 && may_send(self.port, self.to, self.bound)
    }
}

impl<P: PortPair> Verdicts<P::Frame> for Sending<'_, P> {
    #[inline(always)]
    fn pass(&mut self, packet: Packet<P::Frame>, mark: bool) {
        let mut handle = packet.handle;
        if mark {
            set_ce(self.port.bytes_mut(&mut handle));
        }
        self.waits.record(packet.service, packet.sojourn);
        match self.port.send(self.to, handle, self.now) {
            Ok(()) => self.left -= 1,
            Err(frame) => {
                debug_assert!(false, "tx_room promised room");
                self.port.recycle(frame);
                self.bound = 0;
            }
        }
    }

    #[inline(always)]
    fn drop(&mut self, packet: Packet<P::Frame>, _cause: DropCause) {
        self.port.recycle(packet.handle);
    }
}

#[inline(never)]
fn set_ce(frame: &mut [u8]) {
    let changed = wire::set_ce(frame);
    debug_assert!(changed, "only ECT packets are marked");
}

/// Whether a frame may be sent now: none while the rings hold all the bytes that they may.
#[inline]
fn may_send<P: PortPair>(port: &P, to: Side, bound: u64) -> bool {
    port.tx_pending_bytes(to) < bound && port.tx_has_room(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Settings};
    use crate::egress::Egress;
    use crate::port::mem::{MemConfig, MemPort};
    use crate::runtime::bridge::{self, FramePlan};
    use crate::runtime::change;
    use crate::runtime::clock::Monotonic;
    use crate::telemetry::Direction;

    fn config(rate: &str) -> Config {
        let text =
            format!("[left]\nport = \"mem:\"\n[right]\nport = \"mem:\"\n[link]\nrate = \"1Gbit\"\n{rate}");
        Settings::from_toml(&text, "test").unwrap().validate().unwrap()
    }

    /// 100 us of 10 Gbit/s are 125,000 bytes; of 1 Gbit/s 12,500, which is less than 16 KiB.
    #[test]
    fn the_hidden_fifo_follows_the_rate() {
        let (before, after) = (config("rate_right_to_left = \"10Gbit\""), config(""));
        let plan = FramePlan::new(&before);
        let start = Instant::ZERO;
        let lanes = Direction::BOTH
            .map(|d| Lane::new(d, Egress::new(&bridge::egress(&before, d, plan, 1), start), true).0);
        let options = bridge::loop_options(&before, Span::ZERO, None, false);
        let (mut sender, taken) = change::ring();
        let (port, _outside) = MemPort::new(MemConfig::default());
        let mut f = Forwarder::new(port, Monotonic::start(), lanes, options, start).with_changes(taken);
        assert_eq!(f.tx_bound, [125_000, 16_384], "what goes left comes from the right");
        sender.push(bridge::change(&after, plan, 1, 1)).unwrap();
        f.breath(start).unwrap();
        assert_eq!(f.tx_bound, [16_384, 16_384]);
    }
}
