//! The result object, `results.json`: field names, units and order that other people's scripts rely on.
//!
//! Every key is always present; what does not exist is `null`. There is no wall-clock time inside, so the same run
//! gives the same bytes. *Window* means [warmup, duration). Delay is from arrival at the egress to the start of
//! transmission, of forwarded packets only. Bytes are L2 frames without FCS and preamble plus the configured overhead.

use serde::{Deserialize, Serialize};

use crate::aqm::stats::{Backlog, DropCause, QueueStats};
use crate::control::policy::lookahead::Counts;

/// The form of the file that this version writes.
pub const SCHEMA: u32 = 1;

/// A whole `results.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultFile {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// One per direction of a run, or per scenario, policy and seed.
    pub runs: Vec<RunResult>,
}

impl ResultFile {
    /// A file of these runs.
    pub const fn new(runs: Vec<RunResult>) -> Self {
        Self { schema: SCHEMA, runs }
    }

    /// The bytes of the file: indented JSON with a newline at the end.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("plain structs always serialise");
        text.push('\n');
        text
    }
}

/// One direction of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Name of the scenario; `null` for a live run.
    pub scenario: Option<String>,
    /// Discipline or controller.
    pub policy: String,
    /// SHA-256 of the model file; `null` without a model.
    pub model_sha256: Option<String>,
    /// Seed of everything random; `null` if nothing was.
    pub seed: Option<u64>,
    /// `left_to_right` or `right_to_left`.
    pub direction: String,
    /// Length of the run in seconds, warm-up included.
    pub duration_s: f64,
    /// Start of the window in seconds.
    pub warmup_s: f64,
    /// The link in the window.
    pub link: LinkResult,
    /// Both queues in the window.
    pub queues: PerQueue<QueueResult>,
    /// Flows; empty for a live run, which does not know them.
    pub flows: Vec<FlowResult>,
    /// Mean goodput of endless L flows over that of endless C flows; `null` if unknown.
    pub ratio_l_over_c: Option<f64>,
    /// For each step: milliseconds until the delay is back within twice the target for good.
    pub recovery_ms: Vec<Option<f64>>,
    /// The phases of the window, each by itself, in the order of time; empty if the scenario names none.
    pub phases: Vec<PhaseResult>,
    /// Share of the window in which the controller's fallback was in charge; `null` without a controller.
    pub fallback_share: Option<f64>,
    /// The controller in the window.
    pub controller: ControllerResult,
    /// Counters of the whole run, warm-up included: arrived = packets + dropped + `queued_end`.
    pub totals: PerQueue<Counters>,
}

/// The link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkResult {
    /// Time mean of the capacity in Mbit/s.
    pub rate_mbps: Option<f64>,
    /// Forwarded bits over the integral of capacity.
    pub utilization: Option<f64>,
}

/// The same for L, for C, and for both together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerQueue<T> {
    /// The L queue.
    pub l: T,
    /// The C queue; the only one of a single-queue discipline.
    pub c: T,
    /// Both.
    pub all: T,
}

impl<T> PerQueue<T> {
    /// The same of what `f` makes of each.
    pub fn map<U>(self, f: impl Fn(T) -> U) -> PerQueue<U> {
        PerQueue { l: f(self.l), c: f(self.c), all: f(self.all) }
    }
}

/// A queue in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueResult {
    /// Queue delay of forwarded packets.
    pub delay_ms: DelayResult,
    /// Counters.
    #[serde(flatten)]
    pub counters: Counters,
}

/// Queue delay in milliseconds; all `null` if nothing was forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DelayResult {
    /// Mean over packets.
    pub mean: Option<f64>,
    /// Median, nearest rank.
    pub p50: Option<f64>,
    /// 99th percentile, nearest rank.
    pub p99: Option<f64>,
    /// 99.9th percentile, nearest rank.
    pub p999: Option<f64>,
    /// Longest.
    pub max: Option<f64>,
}

/// Counters of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes forwarded.
    pub bytes: u64,
    /// Packets offered to the queue, tail drops included.
    pub arrived: u64,
    /// Packets changed to CE by us.
    pub marked: u64,
    /// Packets dropped.
    pub dropped: Dropped,
    /// Packets waiting at the end.
    pub queued_end: u64,
}

/// Packets dropped, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// By the AQM.
    pub aqm: u64,
    /// While p_CL >= 1.
    pub overload: u64,
    /// Because the buffer was full.
    pub tail: u64,
}

impl Dropped {
    /// Whatever the cause.
    pub const fn total(self) -> u64 {
        self.aqm + self.overload + self.tail
    }
}

/// One flow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowResult {
    /// Name in the scenario.
    pub name: String,
    /// Congestion control.
    pub cc: Option<String>,
    /// `l` or `c`.
    pub queue: Option<String>,
    /// Two-way base delay.
    pub rtt_ms: Option<f64>,
    /// Goodput in the window.
    pub goodput_mbps: Option<f64>,
    /// Packets sent again.
    pub retransmits: Option<u64>,
    /// Completion time of a sized flow; the mean for a source that opens many.
    pub fct_ms: Option<f64>,
    /// Completion times of a source that opens many flows; `null` for others.
    pub fct: Option<FctResult>,
}

/// One phase of the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseResult {
    /// Name in the scenario.
    pub name: String,
    /// Its beginning in seconds since the start of the run.
    pub from_s: f64,
    /// Its end.
    pub to_s: f64,
    /// The link.
    pub link: LinkResult,
    /// Packets forwarded in it.
    pub packets: PerQueue<u64>,
    /// Their queue delay.
    pub delay_ms: PerQueue<DelayResult>,
    /// Mean goodput of the L flows that take what they get and are there throughout, over that of such C flows.
    pub ratio_l_over_c: Option<f64>,
}

/// Completion times of many flows: of those that began and completed in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FctResult {
    /// Flows that began and completed.
    pub completed: u64,
    /// Flows that began and did not complete before the end.
    pub unfinished: u64,
    /// Median in milliseconds, nearest rank.
    pub p50_ms: Option<f64>,
    /// 95th percentile in milliseconds, nearest rank.
    pub p95_ms: Option<f64>,
    /// 99th percentile in milliseconds, nearest rank.
    pub p99_ms: Option<f64>,
}

/// What the controller did; all `null` without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ControllerResult {
    /// Decisions applied.
    pub decisions: Option<u64>,
    /// Decisions that came too late.
    pub late: Option<u64>,
    /// Decisions that the guard refused.
    pub rejected: Option<u64>,
    /// Time per decision in microseconds, of a live run.
    pub inference_us: TimesResult,
    /// From the end of a window to the breath that put the decision made of it in force, in microseconds, of a live run.
    pub admission_us: TimesResult,
    /// What looking ahead came to; all `null` for a policy that does not.
    #[serde(default)]
    pub look_ahead: LookAheadResult,
}

/// What a drafter and a verifier came to, over the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LookAheadResult {
    /// Ticks at which an action went out that the verifier had agreed to, of all.
    pub verified_share: Option<f64>,
    /// Drafted actions that the verifier would have decided likewise, of those that it checked; `null` if it checked none.
    pub accepted_share: Option<f64>,
    /// Ticks at which what went out was not what the verifier says of exactly what was seen, of those at which it was asked.
    pub diverged_share: Option<f64>,
    /// The same among those at which a verified action went out; `null` without any.
    pub verified_diverged_share: Option<f64>,
    /// Plans that something other than expected made void.
    pub voided_plans: Option<u64>,
    /// Calls of the verifier per second.
    pub target_calls_per_s: Option<f64>,
}

impl LookAheadResult {
    /// What was counted in a run of so many seconds.
    pub fn of(counts: &Counts, seconds: f64) -> Self {
        let [diverged_share, verified_diverged_share] = counts.diverged_shares();
        Self {
            verified_share: counts.verified_share(),
            accepted_share: counts.accepted_share(),
            diverged_share,
            verified_diverged_share,
            voided_plans: Some(counts.voided),
            target_calls_per_s: (seconds > 0.0).then(|| counts.calls as f64 / seconds),
        }
    }
}

/// Percentiles of a time in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimesResult {
    /// Median.
    pub p50: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// 99.9th percentile.
    pub p999: Option<f64>,
}

impl Counters {
    /// What a queue counted between two readings, with what waited at the second.
    pub fn between(base: &QueueStats, end: &QueueStats, queued_end: Backlog) -> Self {
        let drop = |cause| end.dropped_for(cause).packets.saturating_sub(base.dropped_for(cause).packets);
        Self {
            packets: end.forwarded.packets.saturating_sub(base.forwarded.packets),
            bytes: end.forwarded.bytes.saturating_sub(base.forwarded.bytes),
            arrived: end.arrived.packets.saturating_sub(base.arrived.packets),
            marked: end.marked_total().saturating_sub(base.marked_total()),
            dropped: Dropped {
                aqm: drop(DropCause::Aqm),
                overload: drop(DropCause::Overload),
                tail: drop(DropCause::Tail),
            },
            queued_end: u64::from(queued_end.packets),
        }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            bytes: self.bytes + other.bytes,
            arrived: self.arrived + other.arrived,
            marked: self.marked + other.marked,
            dropped: Dropped {
                aqm: self.dropped.aqm + other.dropped.aqm,
                overload: self.dropped.overload + other.dropped.overload,
                tail: self.dropped.tail + other.dropped.tail,
            },
            queued_end: self.queued_end + other.queued_end,
        }
    }

    /// Packets that must have arrived, going by what became of them; equal to `arrived` over a whole run unless a
    /// counter is wrong.
    pub const fn accounted(self) -> u64 {
        self.packets + self.dropped.total() + self.queued_end
    }
}
