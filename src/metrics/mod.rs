//! Metrics for Prometheus: what RFC 9332 §2.5.2.2 asks for, under names that are public API.
//!
//! Nothing here is called per packet. A management thread hands over telemetry windows, delay histograms and port
//! counters about once a second; a scrape turns the last ones into text. Every series exists, at zero, from the start.

mod collector;
pub mod server;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::{Registry, TextEncoder};

use crate::aqm::Service;
use crate::aqm::stats::{DELAY_EDGES_NS, Snapshot};
use crate::port::PortCounters;
use crate::telemetry::delays::DelayHistograms;
use crate::telemetry::{Direction, TelemetryWindow};
use crate::time::{Instant, Span};

/// `l4sd_queue_delay_max_seconds` looks back at least this far and at most twice as far.
pub const MAX_LOOKBACK: Span = Span::from_secs(10);

/// What this binary is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildInfo {
    /// Version of the package.
    pub version: String,
    /// Commit it was built from.
    pub revision: String,
    /// Compiler.
    pub rustc: String,
    /// Inference backend; empty without one.
    pub backend: String,
    /// SHA-256 of the model; empty without one.
    pub model_sha256: String,
}

/// What is known before the first frame, so that every series can exist from the start.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// What this binary is.
    pub build: BuildInfo,
    /// Names of the left and the right port, the `interface` label.
    pub ports: [String; 2],
    /// Every kind of frame that [`Metrics::update_frames`] will name.
    pub frame_kinds: &'a [&'static str],
    /// [`crate::config::Config::fingerprint`].
    pub config_fingerprint: u64,
    /// When it was read, in seconds since 1970.
    pub config_loaded_at: f64,
}

/// Who sets the parameters of the AQM.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum ControllerState {
    /// A model's decisions are applied.
    Model,
    /// There is no model: constant parameters.
    #[default]
    Pi2,
    /// The model's last decision is too old.
    Stale,
    /// The guard refused the model's last decision.
    Rejected,
}

impl ControllerState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Model, Self::Pi2, Self::Stale, Self::Rejected];

    /// The `state` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Pi2 => "pi2",
            Self::Stale => "stale",
            Self::Rejected => "rejected",
        }
    }
}

/// What came of a request to reread the configuration.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Reload {
    /// The new configuration is in force.
    Applied,
    /// It was the same.
    Unchanged,
    /// It changes what is fixed at the start; the old one is in force.
    Refused,
    /// It could not be read or makes no sense; the old one is in force.
    Invalid,
}

impl Reload {
    /// All outcomes.
    pub const ALL: [Self; 4] = [Self::Applied, Self::Unchanged, Self::Refused, Self::Invalid];

    /// The `result` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Invalid => "invalid",
        }
    }

    /// What was asked for is in force.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Applied | Self::Unchanged)
    }
}

/// The configuration as a scrape shows it.
#[derive(Copy, Clone, Debug)]
struct ConfigState {
    fingerprint: u64,
    /// By [`Reload`].
    reloads: [u64; 4],
    last_succeeded: bool,
    loaded_at: f64,
}

/// Why a controller's decisions stopped being followed. The `reason` label.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum FallbackReason {
    /// No decision came in time.
    Timeout,
    /// What came was not finite.
    Nan,
    /// What came was not on the list of what may be asked for.
    Range,
    /// The policy could not be run, or its thread ended.
    Crash,
    /// The link is unlike those that the model was trained on.
    Drift,
    /// The model could not be loaded, or failed its golden vectors.
    Golden,
}

impl FallbackReason {
    /// All reasons.
    pub const ALL: [Self; 6] =
        [Self::Timeout, Self::Nan, Self::Range, Self::Crash, Self::Drift, Self::Golden];

    /// The label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Nan => "nan",
            Self::Range => "range",
            Self::Crash => "crash",
            Self::Drift => "drift",
            Self::Golden => "golden",
        }
    }
}

/// Upper edges of the buckets of a controller's times, in nanoseconds.
pub const CONTROL_EDGES_NS: [u64; 11] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
];

/// A controller as a scrape shows it.
#[derive(Clone, Debug, Default)]
struct Control {
    fallbacks: [u64; FallbackReason::ALL.len()],
    decision_age: [Option<Span>; 2],
    inference: [Times; 2],
    admission: [Times; 2],
    look_ahead: [(LookAheadCounts, Times); 2],
}

/// What a policy that looks ahead has counted in one direction since the start.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct LookAheadCounts {
    /// Ticks.
    pub ticks: u64,
    /// Those at which a verified action went out.
    pub verified: u64,
    /// Plans that something unforeseen made void.
    pub voided: u64,
    /// Calls of the verifier.
    pub calls: u64,
}

/// A controller's times in one direction.
#[derive(Copy, Clone, Debug, Default)]
struct Times {
    counts: [u64; CONTROL_EDGES_NS.len() + 1],
    sum_ns: u64,
}

impl From<&hdrhistogram::Histogram<u64>> for Times {
    fn from(all: &hdrhistogram::Histogram<u64>) -> Self {
        let mut times = Self::default();
        for recorded in all.iter_recorded() {
            let ns = all.lowest_equivalent(recorded.value_iterated_to());
            let count = recorded.count_at_value();
            times.counts[CONTROL_EDGES_NS.partition_point(|&edge| edge < ns)] += count;
            times.sum_ns += ns * count;
        }
        times
    }
}

/// A port as a scrape shows it.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
struct Port {
    counters: PortCounters,
    up: bool,
}

/// A delay histogram in the buckets of [`DELAY_EDGES_NS`] and one for what is longer.
#[derive(Copy, Clone, Debug, Default)]
struct Buckets {
    counts: [u64; DELAY_EDGES_NS.len() + 1],
    sum_ns: u64,
}

/// The longest delay since `since`, and the longest of the period before.
#[derive(Copy, Clone, Debug, Default)]
struct Longest {
    since: Instant,
    current: Span,
    previous: Span,
}

impl Longest {
    fn add(&mut self, now: Instant, delay: Span) {
        let age = now.since(self.since);
        if age >= MAX_LOOKBACK {
            self.previous = if age < MAX_LOOKBACK + MAX_LOOKBACK { self.current } else { Span::ZERO };
            self.current = Span::ZERO;
            self.since = now;
        }
        self.current = self.current.max(delay);
    }

    fn get(&self) -> Span {
        self.current.max(self.previous)
    }
}

/// One direction as a scrape shows it.
#[derive(Clone, Debug, Default)]
struct DirectionState {
    egress: Snapshot,
    capacity_bits: u64,
    delays: [Buckets; 2],
    longest: [Longest; 2],
    frames: Vec<(&'static str, u64)>,
    ecn: [u64; 4],
    tx_pending_bytes: u64,
}

#[derive(Debug)]
struct State {
    build: BuildInfo,
    config: ConfigState,
    names: [String; 2],
    ports: [Port; 2],
    directions: [DirectionState; 2],
    controller: ControllerState,
    control: Control,
}

/// Handle to the metrics of one forwarder; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    state: Arc<Mutex<State>>,
    ready: Arc<AtomicBool>,
    registry: Registry,
}

impl Metrics {
    /// All series at zero, not ready.
    pub fn new(setup: Setup<'_>) -> Self {
        let frames: Vec<_> = setup.frame_kinds.iter().map(|&kind| (kind, 0)).collect();
        let direction = DirectionState { frames, ..DirectionState::default() };
        let [left, right] = setup.ports;
        let names =
            if left == right { [format!("{left}left"), format!("{right}right")] } else { [left, right] };
        let state = Arc::new(Mutex::new(State {
            build: setup.build,
            config: ConfigState {
                fingerprint: setup.config_fingerprint,
                reloads: [0; 4],
                last_succeeded: true,
                loaded_at: setup.config_loaded_at,
            },
            names,
            ports: [Port::default(); 2],
            directions: [direction.clone(), direction],
            controller: ControllerState::default(),
            control: Control::default(),
        }));
        let registry = Registry::new();
        registry
            .register(Box::new(collector::Collector::new(Arc::clone(&state))))
            .expect("an empty registry takes families with distinct names");
        Self { state, ready: Arc::new(AtomicBool::new(false)), registry }
    }

    /// Takes a telemetry window. Windows may be skipped, but `delay_max` of a skipped one is lost.
    pub fn update_window(&self, direction: Direction, w: &TelemetryWindow) {
        let mut state = self.lock();
        let d = &mut state.directions[direction.index()];
        d.egress = w.egress;
        d.capacity_bits = w.capacity_bits;
        for service in Service::BOTH {
            d.longest[service.index()].add(w.end, w.egress.queue(service).delay_max);
        }
    }

    /// Adds the delays since the last hand-over, measured or not. Comes after the last window that they belong to,
    /// because the sum of delays is taken from there.
    pub fn update_delays(&self, direction: Direction, delays: &DelayHistograms) {
        let mut state = self.lock();
        let d = &mut state.directions[direction.index()];
        for service in Service::BOTH {
            let buckets = &mut d.delays[service.index()];
            let h = &delays.queues[service.index()];
            for recorded in h.iter_recorded() {
                let ns = h.lowest_equivalent(recorded.value_iterated_to());
                buckets.counts[DELAY_EDGES_NS.partition_point(|&edge| edge < ns)] +=
                    recorded.count_at_value();
            }
            buckets.sum_ns = d.egress.queue(service).delay_sum_ns;
        }
    }

    /// Takes the counters of both ports, left first, and whether their links are up.
    pub fn update_ports(&self, ports: [(PortCounters, bool); 2]) {
        self.lock().ports = ports.map(|(counters, up)| Port { counters, up });
    }

    /// Takes how many frames of each kind and packets of each ECN codepoint (by the bits of the codepoint) have
    /// arrived in a direction since the start. A kind that [`Setup::frame_kinds`] did not name is ignored.
    pub fn update_frames(&self, direction: Direction, kinds: &[(&'static str, u64)], ecn: [u64; 4]) {
        let mut state = self.lock();
        let d = &mut state.directions[direction.index()];
        for (kind, count) in &mut d.frames {
            if let Some((_, latest)) = kinds.iter().find(|(name, _)| name == kind) {
                *count = *latest;
            }
        }
        d.ecn = ecn;
    }

    /// Takes how many bytes of a direction are in rings behind the queues.
    pub fn update_tx_pending(&self, direction: Direction, bytes: u64) {
        self.lock().directions[direction.index()].tx_pending_bytes = bytes;
    }

    /// Counts a request to reread the configuration, and returns how many there have been. `fingerprint` is that of the
    /// one in force now; `at` is in seconds since 1970.
    pub fn count_reload(&self, reload: Reload, fingerprint: u64, at: f64) -> u64 {
        let config = &mut self.lock().config;
        config.reloads[reload as usize] += 1;
        config.fingerprint = fingerprint;
        config.last_succeeded = reload.is_success();
        if reload.is_success() {
            config.loaded_at = at;
        }
        config.reloads.iter().sum()
    }

    /// Says who sets the parameters.
    pub fn set_controller(&self, state: ControllerState) {
        self.lock().controller = state;
    }

    /// A controller's decisions stopped being followed.
    pub fn count_fallback(&self, reason: FallbackReason) {
        self.lock().control.fallbacks[reason as usize] += 1;
    }

    /// Takes the age of the decision in force in a direction, if there is one.
    pub fn update_decision_age(&self, direction: Direction, age: Option<Span>) {
        self.lock().control.decision_age[direction.index()] = age;
    }

    /// Takes how long all decisions of a direction took so far, in nanoseconds.
    pub fn update_inference(&self, direction: Direction, took: &hdrhistogram::Histogram<u64>) {
        self.lock().control.inference[direction.index()] = took.into();
    }

    /// Takes how long after their windows all decisions of a direction were admitted so far, in nanoseconds.
    pub fn update_admission(&self, direction: Direction, after: &hdrhistogram::Histogram<u64>) {
        self.lock().control.admission[direction.index()] = after.into();
    }

    /// Takes what looking ahead came to in a direction, and how long the verifier's calls took so far, in nanoseconds.
    pub fn update_look_ahead(
        &self,
        direction: Direction,
        counts: LookAheadCounts,
        calls: &hdrhistogram::Histogram<u64>,
    ) {
        self.lock().control.look_ahead[direction.index()] = (counts, calls.into());
    }

    /// Says what runs the model, and which it is.
    pub fn set_model(&self, backend: &str, sha256: &str) {
        let mut state = self.lock();
        backend.clone_into(&mut state.build.backend);
        sha256.clone_into(&mut state.build.model_sha256);
    }

    /// Says whether frames are being forwarded: `/readyz` answers 200 if so, otherwise 503.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// What [`Metrics::set_ready`] said last.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// All series in the text format 0.0.4.
    pub fn render(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("every family has a name and at least one series")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Plain numbers stay whole even if a thread panicked while it held the lock.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_delay_is_remembered_for_ten_to_twenty_seconds() {
        let mut longest = Longest::default();
        let (peak, low) = (Span::from_millis(40), Span::from_millis(1));
        let mut remembered = Vec::new();
        for second in 0..40 {
            longest.add(Instant::from_millis(second * 1000), if second == 3 { peak } else { low });
            if longest.get() == peak {
                remembered.push(second);
            }
        }
        assert_eq!(remembered, (3..20).collect::<Vec<_>>());
    }

    #[test]
    fn a_peak_from_before_a_long_silence_is_forgotten() {
        let mut longest = Longest::default();
        longest.add(Instant::from_millis(1), Span::from_millis(40));
        longest.add(Instant::from_millis(60_000), Span::ZERO);
        assert_eq!(longest.get(), Span::ZERO);
    }
}
