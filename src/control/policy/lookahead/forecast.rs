//! What a policy would see in the next ticks if rates and levels stayed as they are.
//!
//! A model was trained on windows of the schema's step; a tick may be shorter. [`Sliding`] keeps one extractor for each phase
//! of the step, so that at any tick there is a vector of a window as long as those. [`Forecast`] goes on from there with windows
//! made up: counters grow as they did of late, delays, backlogs and p' stay. It must not know what was decided at
//! random or by whom: a forecast depends on what was seen and on the parameters in force only.

use std::collections::VecDeque;

use crate::aqm::params::Knobs;
use crate::aqm::stats::{QueueStats, Tally};
use crate::telemetry::TelemetryWindow;
use crate::telemetry::features::extract::Extractor;
use crate::telemetry::features::schema::Schema;
use crate::time::Span;

/// Growth is that of this time.
const OF_LATE: Span = Span::from_millis(64);

/// Vectors of overlapping windows, one each tick.
#[derive(Clone, Debug)]
pub struct Sliding {
    phases: Vec<Extractor>,
    /// Length, longest delays and feed-forward of the last ticks, as many as there are phases.
    recent: VecDeque<(Span, [Span; 2], f64)>,
    /// Ticks since the link began.
    ticks: u64,
}

impl Sliding {
    /// For a link that has not begun, seen each `tick`.
    pub fn new(schema: &Schema, tick: Span) -> Self {
        let phases = (schema.step.as_nanos() / tick.as_nanos().max(1)).max(1);
        Self { phases: vec![Extractor::new(schema); phases as usize], recent: VecDeque::new(), ticks: 0 }
    }

    /// Length of a vector.
    pub fn width(&self) -> usize {
        self.phases[0].width()
    }

    /// Takes in the window of a tick.
    pub fn push(&mut self, window: &TelemetryWindow, in_force: &Knobs) {
        if window.id == 0 {
            self.recent.clear();
            self.ticks = 0;
        }
        let n = self.phases.len();
        if self.recent.len() == n {
            self.recent.pop_front();
        }
        let longest = [0, 1].map(|q| window.egress.queues[q].delay_max);
        self.recent.push_back((window.span, longest, in_force.feed_forward));
        let mut whole = TelemetryWindow { id: self.ticks / n as u64, span: Span::ZERO, ..*window };
        let mut knobs = Knobs { feed_forward: 1.0, ..*in_force };
        for (span, longest, factor) in &self.recent {
            whole.span = whole.span + *span;
            knobs.feed_forward *= factor;
            for (queue, longest) in whole.egress.queues.iter_mut().zip(longest) {
                queue.delay_max = queue.delay_max.max(*longest);
            }
        }
        let phase = (self.ticks % n as u64) as usize;
        self.phases[phase].push(&whole, &knobs);
        self.ticks += 1;
    }

    /// Writes the vector of the last tick.
    pub fn write(&self, out: &mut [f32]) {
        let n = self.phases.len() as u64;
        self.phases[((self.ticks + n - 1) % n) as usize].write(out);
    }
}

/// Remembers as many windows as a forecast needs.
#[derive(Clone, Debug)]
pub struct Recent {
    windows: VecDeque<TelemetryWindow>,
    most: usize,
    tick: Span,
}

impl Recent {
    /// Of windows of one `tick`.
    pub fn new(tick: Span) -> Self {
        let most = (OF_LATE.as_nanos() / tick.as_nanos().max(1)).max(1) as usize + 1;
        Self { windows: VecDeque::with_capacity(most), most, tick }
    }

    /// Takes in a window.
    pub fn push(&mut self, window: &TelemetryWindow) {
        if window.id == 0 {
            self.windows.clear();
        }
        if self.windows.len() == self.most {
            self.windows.pop_front();
        }
        self.windows.push_back(*window);
    }

    /// What would be seen after the last window; `None` as long as there are not two.
    pub fn forecast(&self, sliding: &Sliding) -> Option<Forecast> {
        let (from, to) = (self.windows.front()?, self.windows.back()?);
        (to.end > from.end).then(|| Forecast {
            sliding: sliding.clone(),
            from: *from,
            to: *to,
            tick: self.tick,
            ahead: 0,
        })
    }
}

/// Windows that have not been, one after another.
#[derive(Clone, Debug)]
pub struct Forecast {
    sliding: Sliding,
    from: TelemetryWindow,
    to: TelemetryWindow,
    tick: Span,
    ahead: u64,
}

impl Forecast {
    /// Length of a vector.
    pub fn width(&self) -> usize {
        self.sliding.width()
    }

    /// Goes on by a tick, at whose end `in_force` is in force, and writes the vector.
    pub fn next(&mut self, in_force: &Knobs, out: &mut [f32]) {
        self.ahead += 1;
        let window = self.window();
        self.sliding.push(&window, in_force);
        self.sliding.write(out);
    }

    fn window(&self) -> TelemetryWindow {
        let (from, to) = (&self.from, &self.to);
        let ahead = Span::from_nanos(self.tick.as_nanos() * self.ahead);
        let (num, den) = (u128::from(ahead.as_nanos()), u128::from(to.end.since(from.end).as_nanos().max(1)));
        let grown = |from: u64, to: u64| {
            to.saturating_add(
                (u128::from(to.saturating_sub(from)) * num / den).min(u128::from(u64::MAX)) as u64
            )
        };
        let tally = |from: Tally, to: Tally| Tally {
            packets: grown(from.packets, to.packets),
            bytes: grown(from.bytes, to.bytes),
        };
        let queue = |from: &QueueStats, to: &QueueStats| QueueStats {
            arrived: tally(from.arrived, to.arrived),
            presented: tally(from.presented, to.presented),
            forwarded: tally(from.forwarded, to.forwarded),
            marked: core::array::from_fn(|i| grown(from.marked[i], to.marked[i])),
            dropped: core::array::from_fn(|i| {
                core::array::from_fn(|j| tally(from.dropped[i][j], to.dropped[i][j]))
            }),
            delay_sum_ns: grown(from.delay_sum_ns, to.delay_sum_ns),
            delay_max: to.delay_max,
        };
        let mut next = *to;
        next.id = to.id + self.ahead;
        next.end = to.end + ahead;
        next.span = self.tick;
        next.capacity_bits = grown(from.capacity_bits, to.capacity_bits);
        next.egress.queues = core::array::from_fn(|q| queue(&from.egress.queues[q], &to.egress.queues[q]));
        next.egress.overload.total = Span::from_nanos(grown(
            from.egress.overload.total.as_nanos(),
            to.egress.overload.total.as_nanos(),
        ));
        next.arrivals.gap_sum = grown(from.arrivals.gap_sum, to.arrivals.gap_sum);
        next.arrivals.gap_square_sum = grown(from.arrivals.gap_square_sum, to.arrivals.gap_square_sum);
        next.arrivals.bursts = core::array::from_fn(|i| {
            let (from, to) = (u64::from(from.arrivals.bursts[i]), u64::from(to.arrivals.bursts[i]));
            u32::try_from(grown(from, to)).unwrap_or(u32::MAX)
        });
        next
    }
}
