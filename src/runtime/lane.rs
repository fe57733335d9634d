//! One direction of the bridge as the loop sees it: its egress, what it counts, and the rings by which it tells others.
//! Nothing here waits for a reader: a report that finds its ring full is lost, and the next one, being cumulative,
//! makes up for it.

use super::change::Change;
use crate::aqm::Service;
use crate::aqm::params::Knobs;
use crate::control::Decision;
use crate::control::guard::{Guard, GuardCounters, State};
use crate::control::link::ControlLink;
use crate::egress::Egress;
use crate::port::{PortCounters, Side};
use crate::telemetry::delays::DelayHistograms;
use crate::telemetry::{Direction, FrameCounts, FrameMeter, TelemetryWindow};
use crate::time::{Instant, Span};

/// What one direction says of itself at the end of a window.
#[derive(Copy, Clone, Debug)]
pub struct Report {
    /// The egress.
    pub window: TelemetryWindow,
    /// Frames received, by kind and by ECN codepoint.
    pub frames: FrameCounts,
    /// The port that this direction receives on.
    pub rx_port: PortCounters,
    /// Bytes behind the AQM, in rings.
    pub tx_pending_bytes: u64,
    /// Who sets the parameters, and what became of decisions; `None` without a controller.
    pub control: Option<(State, GuardCounters)>,
    /// The parameters in force at the window's end, with the feed-forward that was applied in it; `None` without a
    /// controller.
    pub knobs: Option<Knobs>,
    /// Number of the [`Change`] that was taken over last; 0 before the first.
    pub change: u64,
    /// Age of the decision in force; `None` without one.
    pub decision_age: Option<Span>,
    /// From the end of a window to the breath that put the decision made of it in force, for a decision that was admitted
    /// in this window; the longest if there were several.
    pub admitted_after: Option<Span>,
    /// Nothing follows.
    pub last: bool,
}

/// The reader's end of a lane.
#[derive(Debug)]
pub struct LaneReader {
    /// Which direction.
    pub direction: Direction,
    /// Reports, oldest first.
    pub reports: rtrb::Consumer<Report>,
    delays: rtrb::Consumer<Box<DelayHistograms>>,
    spares: rtrb::Producer<Box<DelayHistograms>>,
}

impl LaneReader {
    /// Hands the histograms that were filled since the last call to `take`, and gives their memory back to the lane.
    pub fn drain_delays(&mut self, mut take: impl FnMut(&DelayHistograms)) {
        while let Ok(mut filled) = self.delays.pop() {
            take(&filled);
            filled.clear();
            // There are as many places as boxes, so there is room.
            let _ = self.spares.push(filled);
        }
    }
}

/// Reports on their way: eight seconds at 16 ms.
const REPORTS: usize = 512;
/// When, after a window, a decision is looked for although nothing else is to be done: when the shipped student has
/// answered if it was in the caches and in the middle of a rehearsal (twice 80 us), and when it has if it was not (350 to
/// 430 us), so that even this is in force .5 ms after the window. A later one is found with the next frame or window.
pub const LOOKS: [Span; 2] = [Span::from_micros(200), Span::from_micros(450)];
/// Sets of histograms that exist beside the one in use.
const SPARE_DELAYS: usize = 3;

/// The forwarder's end.
#[derive(Debug)]
pub struct Lane<F> {
    /// Which direction.
    pub direction: Direction,
    /// Where its frames come from.
    pub from: Side,
    /// Where they go.
    pub to: Side,
    /// Its bottleneck.
    pub egress: Egress<F>,
    /// What it has received.
    pub frames: FrameMeter,
    /// How long they waited.
    pub waits: Waits,
    delays_out: rtrb::Producer<Box<DelayHistograms>>,
    delays_back: rtrb::Consumer<Box<DelayHistograms>>,
    reports: rtrb::Producer<Report>,
    control: Option<Controlled>,
    change: u64,
}

/// Packets that left one after another with the same delay, as those do that came in one breath and leave in one. They
/// go into the histogram together.
#[derive(Copy, Clone, Debug, Default)]
struct Run {
    delay: Span,
    packets: u64,
}

/// How long the packets of a direction waited.
#[derive(Debug)]
pub struct Waits {
    delays: Box<DelayHistograms>,
    /// By [`Service::index`].
    runs: [Run; 2],
}

impl Waits {
    /// Records a forwarded packet's delay.
    #[inline]
    pub fn record(&mut self, service: Service, sojourn: Span) {
        let run = &mut self.runs[service.index()];
        if run.delay == sojourn {
            run.packets = run.packets.wrapping_add(1);
        } else {
            self.next_run(service, sojourn);
        }
    }

    #[cold]
    #[inline(never)]
    fn next_run(&mut self, service: Service, delay: Span) {
        let ended = core::mem::replace(&mut self.runs[service.index()], Run { delay, packets: 1 });
        self.delays.record_run(service, ended.delay, ended.packets);
    }

    fn end_runs(&mut self) {
        for service in Service::BOTH {
            let run = core::mem::take(&mut self.runs[service.index()]);
            self.delays.record_run(service, run.delay, run.packets);
        }
    }
}

struct Controlled {
    link: Box<dyn ControlLink>,
    guard: Guard,
    /// The factor that p' was multiplied with in the window that is open.
    feed_forward: f64,
    awaited: Option<Awaited>,
    admitted_after: Option<Span>,
}

/// A window without an answer.
#[derive(Copy, Clone, Debug)]
struct Awaited {
    end: Instant,
    /// How many of [`LOOKS`] have been made.
    looks: usize,
}

impl Controlled {
    fn step<F>(&mut self, egress: &mut Egress<F>, decision: Option<&Decision>, now: Instant) {
        if let Some(knobs) = self.guard.step(decision, now) {
            self.feed_forward *= knobs.feed_forward;
            egress.apply(&knobs, now);
        }
    }

    fn take<F>(&mut self, egress: &mut Egress<F>, decision: &Decision, now: Instant) {
        let admitted = |guard: &Guard| guard.counters().admitted + guard.counters().clamped;
        let before = admitted(&self.guard);
        self.step(egress, Some(decision), now);
        if admitted(&self.guard) > before {
            self.admitted_after = self.admitted_after.max(Some(now.since(decision.window_end)));
        }
        if self.awaited.is_some_and(|window| decision.window_end >= window.end) {
            self.awaited = None;
        }
    }

    /// Nothing has come by `now`.
    fn went_without(&mut self, now: Instant) {
        if let Some(window) = &mut self.awaited {
            window.looks += LOOKS[window.looks..].iter().take_while(|at| now >= window.end + **at).count();
        }
    }
}

impl core::fmt::Debug for Controlled {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Controlled").field("guard", &self.guard).finish_non_exhaustive()
    }
}

impl<F> Lane<F> {
    /// A lane and its reader. `measured` = delays count from the start (there is no warm-up).
    pub fn new(direction: Direction, egress: Egress<F>, measured: bool) -> (Self, LaneReader) {
        let (reports, reports_in) = rtrb::RingBuffer::new(REPORTS);
        let (delays_out, delays) = rtrb::RingBuffer::new(SPARE_DELAYS + 1);
        let (mut spares, delays_back) = rtrb::RingBuffer::new(SPARE_DELAYS + 1);
        for _ in 0..SPARE_DELAYS {
            let _ = spares.push(Box::new(DelayHistograms::new(measured)));
        }
        let from = match direction {
            Direction::LeftToRight => Side::Left,
            Direction::RightToLeft => Side::Right,
        };
        let lane = Self {
            direction,
            from,
            to: from.other(),
            egress,
            frames: FrameMeter::default(),
            waits: Waits { delays: Box::new(DelayHistograms::new(measured)), runs: [Run::default(); 2] },
            delays_out,
            delays_back,
            reports,
            control: None,
            change: 0,
        };
        (lane, LaneReader { direction, reports: reports_in, delays, spares })
    }

    /// Puts a controller in charge of the parameters.
    #[must_use]
    pub fn with_control(mut self, link: Box<dyn ControlLink>, guard: Guard) -> Self {
        self.control =
            Some(Controlled { link, guard, feed_forward: 1.0, awaited: None, admitted_after: None });
        self
    }

    /// Takes over a change of configuration. A controller's parameters stay in force; its defaults follow.
    pub fn reconfigure(&mut self, change: &Change, now: Instant) {
        self.egress.reconfigure(&change.egress[self.direction.index()], now);
        if let Some(c) = &mut self.control {
            c.guard.set_defaults(change.defaults);
            self.egress.apply(&c.guard.in_force(), now);
        }
        self.change = change.number;
    }

    /// Takes a decision, if one has come, at most once a breath.
    pub fn control(&mut self, now: Instant) {
        let Some(c) = &mut self.control else { return };
        match c.link.newest() {
            Some(decision) => c.take(&mut self.egress, &decision, now),
            None => c.went_without(now),
        }
    }

    /// When to look for the decision that is awaited although nothing else is to be done, if ever.
    pub fn next_look(&self) -> Option<Instant> {
        let window = self.control.as_ref()?.awaited?;
        LOOKS.get(window.looks).map(|at| window.end + *at)
    }

    /// Closes a window: tells the controller and the reader.
    pub fn close_window(&mut self, now: Instant, rx_port: PortCounters, tx_pending_bytes: u64, last: bool) {
        let window = self.egress.take_window(now);
        let mut knobs = None;
        if let Some(c) = &mut self.control {
            c.step(&mut self.egress, None, now);
            let feed_forward = core::mem::replace(&mut c.feed_forward, 1.0);
            let in_force = Knobs { feed_forward, ..c.guard.in_force() };
            c.link.offer(&window, &in_force);
            c.awaited = Some(Awaited { end: window.end, looks: 0 });
            knobs = Some(in_force);
        }
        let control = self.control.as_ref().map(|c| (c.guard.state(), c.guard.counters()));
        let decision_age = self.control.as_ref().and_then(|c| c.guard.decision_age(now));
        let admitted_after = self.control.as_mut().and_then(|c| c.admitted_after.take());
        let report = Report {
            window,
            frames: self.frames.counts(),
            rx_port,
            tx_pending_bytes,
            control,
            knobs,
            change: self.change,
            decision_age,
            admitted_after,
            last,
        };
        // Cumulative: a lost report costs resolution only.
        let _ = self.reports.push(report);
    }

    /// Hands the delays over and goes on with an empty set. Without one (the reader lags) it keeps the set, unless the
    /// measured time begins: then what was recorded while warming up is forgotten.
    pub fn hand_over_delays(&mut self, measured: bool) {
        self.waits.end_runs();
        if let Ok(mut spare) = self.delays_back.pop() {
            spare.measured = measured;
            let filled = core::mem::replace(&mut self.waits.delays, spare);
            // There are as many places as boxes, so there is room.
            let _ = self.delays_out.push(filled);
        } else if self.waits.delays.measured != measured {
            self.waits.delays.clear();
            self.waits.delays.measured = measured;
        }
    }

    /// Hands over what is left, at the very end.
    pub fn finish_delays(&mut self) {
        self.waits.end_runs();
        let last = core::mem::replace(&mut self.waits.delays, Box::new(DelayHistograms::new(true)));
        let _ = self.delays_out.push(last);
    }
}
