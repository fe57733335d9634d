//! BBR v1: draft-cardwell-iccrg-bbr-congestion-control-00. A model of the path, the greatest delivery rate and the least
//! round-trip time, sets the pacer and the window. CE means nothing to it, and its packets are Not-ECT. Left out: the
//! long-term rate of a policer, and send quanta of more than one packet.

use super::delivery_rate::{DeliveryRate, RateSample};
use super::{AckSample, INITIAL_WINDOW};
use crate::time::{Instant, Span};

/// 2/ln 2 (draft §4.3.2.1): the least gain that doubles the rate each round.
const HIGH_GAIN: f64 = 2.0 / core::f64::consts::LN_2;
/// Draft §4.2.3.2.
const CWND_GAIN: f64 = 2.0;
/// Draft §4.3.4.2, one for each least round-trip time.
const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
/// Rounds that the greatest rate is of (draft §4.1.1.3).
const RATE_ROUNDS: usize = 10;
/// How long a least round-trip time holds (draft §4.1.2.3).
const RTT_LIFETIME: Span = Span::from_secs(10);
/// Draft §4.3.5.
const PROBE_RTT: Span = Span::from_millis(200);
/// Draft §4.2.3.1.
const MIN_WINDOW: f64 = 4.0;
/// Draft §4.2.3.3: room for a quantum at the sender, at the receiver, and in an acknowledgement.
const QUANTA: f64 = 3.0;
/// The pipe is full when the rate has grown by less than a quarter (draft §4.3.2.2)
const GROWTH: f64 = 1.25;
/// in this many rounds.
const FULL_ROUNDS: u32 = 3;
/// Round-trip time that the first rate is for (draft §4.2.1).
const NOMINAL_RTT: f64 = 1e-3;

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum State {
    Startup,
    Drain,
    ProbeBandwidth { phase: usize, since: Instant },
    ProbeRtt { until: Option<Instant>, round_done: bool },
}

/// The greatest rate of the last [`RATE_ROUNDS`] rounds.
#[derive(Clone, Debug, Default)]
struct MaxRate {
    by_round: [f64; RATE_ROUNDS],
    greatest: f64,
}

impl MaxRate {
    fn sample(&mut self, round: u64, rate: f64) {
        let slot = &mut self.by_round[round as usize % RATE_ROUNDS];
        *slot = slot.max(rate);
        self.greatest = self.greatest.max(rate);
    }

    fn begin(&mut self, round: u64) {
        self.by_round[round as usize % RATE_ROUNDS] = 0.0;
        self.greatest = self.by_round.iter().copied().fold(0.0, f64::max);
    }
}

/// The state of BBR, in packets and seconds.
#[derive(Clone, Debug)]
pub struct Bbr {
    path: DeliveryRate,
    state: State,
    rates: MaxRate,
    round: u64,
    round_ends: u64,
    min_rtt: Span,
    min_rtt_at: Instant,
    pacing_rate: f64,
    window: f64,
    /// What the window was before losses or the probe of the round-trip time.
    saved_window: f64,
    full_rate: f64,
    full_rounds: u32,
    conserving: bool,
    repairing: bool,
    idle_restart: bool,
    last: AckSample,
    rng: fastrand::Rng,
}

impl Bbr {
    /// BBR whose place in the gain cycle is drawn with `seed` (draft §4.3.4.2).
    pub fn new(seed: u64) -> Self {
        Self {
            path: DeliveryRate::default(),
            state: State::Startup,
            rates: MaxRate::default(),
            round: 0,
            round_ends: 0,
            min_rtt: Span::MAX,
            min_rtt_at: Instant::ZERO,
            pacing_rate: HIGH_GAIN * INITIAL_WINDOW / NOMINAL_RTT,
            window: INITIAL_WINDOW,
            saved_window: 0.0,
            full_rate: 0.0,
            full_rounds: 0,
            conserving: false,
            repairing: false,
            idle_restart: false,
            last: AckSample::default(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    pub(super) const fn window(&self) -> f64 {
        self.window
    }

    pub(super) const fn pacing_rate(&self) -> f64 {
        self.pacing_rate
    }

    /// Estimate of the path's rate in packets a second.
    pub const fn bottleneck_rate(&self) -> f64 {
        self.rates.greatest
    }

    pub(super) fn on_send(&mut self, number: u64, under_way: u32, now: Instant) {
        if under_way == 0 && self.path.app_limited() {
            // Draft §4.3.4.4.
            self.idle_restart = true;
            if matches!(self.state, State::ProbeBandwidth { .. }) {
                self.set_pacing_rate(1.0);
            }
        }
        self.path.on_send(number, under_way, now);
    }

    pub(super) fn set_app_limited(&mut self, under_way: u32) {
        self.path.set_app_limited(under_way);
    }

    pub(super) fn on_ack(&mut self, ack: &AckSample) {
        if self.min_rtt == Span::MAX && ack.srtt > Span::ZERO {
            self.pacing_rate = HIGH_GAIN * INITIAL_WINDOW / ack.srtt.as_secs_f64();
        }
        let sample = self.path.on_ack(ack);
        let round_started = self.path_model(sample);
        self.advance_cycle(ack);
        if round_started {
            self.check_full_pipe(sample.is_some_and(|s| s.app_limited));
        }
        self.check_drain(ack);
        self.round_trip_model(ack, round_started);
        if ack.acked > 0 {
            self.idle_restart = false;
        }
        self.set_pacing_rate(self.pacing_gain());
        self.set_window(ack, round_started);
        self.last = *ack;
    }

    /// Draft §4.1.1: the round count and the greatest rate. Whether a round has begun.
    fn path_model(&mut self, sample: Option<RateSample>) -> bool {
        let Some(sample) = sample else { return false };
        let started = sample.prior_delivered >= self.round_ends;
        if started {
            self.round_ends = self.path.delivered();
            self.round += 1;
            self.rates.begin(self.round);
        }
        if !sample.app_limited || sample.rate >= self.rates.greatest {
            self.rates.sample(self.round, sample.rate);
        }
        started
    }

    /// Packets that fill the path, times `gain`.
    fn inflight(&self, gain: f64) -> f64 {
        if self.min_rtt == Span::MAX {
            return INITIAL_WINDOW;
        }
        gain * self.rates.greatest * (self.min_rtt.as_nanos() as f64 * 1e-9) + QUANTA
    }

    fn pacing_gain(&self) -> f64 {
        match self.state {
            State::Startup => HIGH_GAIN,
            State::Drain => 1.0 / HIGH_GAIN,
            State::ProbeBandwidth { phase, .. } => CYCLE[phase],
            State::ProbeRtt { .. } => 1.0,
        }
    }

    fn window_gain(&self) -> f64 {
        match self.state {
            State::Startup | State::Drain => HIGH_GAIN,
            State::ProbeBandwidth { .. } => CWND_GAIN,
            State::ProbeRtt { .. } => 1.0,
        }
    }

    /// Draft §4.2.1: the rate does not fall before the pipe has been full once.
    fn set_pacing_rate(&mut self, gain: f64) {
        let rate = gain * self.rates.greatest;
        if rate > 0.0 && (self.filled() || rate > self.pacing_rate) {
            self.pacing_rate = rate;
        }
    }

    /// Draft §4.3.4.3.
    fn advance_cycle(&mut self, ack: &AckSample) {
        let State::ProbeBandwidth { phase, since } = self.state else { return };
        let full_length = ack.now.since(since) > self.min_rtt;
        let before = f64::from(ack.under_way + ack.acked + ack.lost);
        let over = match phase {
            0 => full_length && (ack.lost > 0 || before >= self.inflight(CYCLE[0])),
            1 => full_length || before <= self.inflight(1.0),
            _ => full_length,
        };
        if over {
            self.state = State::ProbeBandwidth { phase: (phase + 1) % CYCLE.len(), since: ack.now };
        }
    }

    /// The pipe has been full once.
    const fn filled(&self) -> bool {
        self.full_rounds >= FULL_ROUNDS
    }

    /// Draft §4.3.2.2.
    fn check_full_pipe(&mut self, app_limited: bool) {
        if self.filled() || app_limited {
            return;
        }
        if self.rates.greatest >= GROWTH * self.full_rate {
            (self.full_rate, self.full_rounds) = (self.rates.greatest, 0);
            return;
        }
        self.full_rounds += 1;
    }

    /// Draft §4.3.3.
    fn check_drain(&mut self, ack: &AckSample) {
        if self.state == State::Startup && self.filled() {
            self.state = State::Drain;
        }
        if self.state == State::Drain && f64::from(ack.under_way) <= self.inflight(1.0) {
            self.enter_probe_bandwidth(ack.now);
        }
    }

    /// Any phase but the one that drains: without a queue there is nothing to drain (draft §4.3.4.2).
    fn enter_probe_bandwidth(&mut self, now: Instant) {
        let drawn = self.rng.usize(0..CYCLE.len() - 1);
        self.state = State::ProbeBandwidth { phase: (CYCLE.len() - drawn) % CYCLE.len(), since: now };
    }

    /// Draft §4.1.2 and §4.3.5.
    fn round_trip_model(&mut self, ack: &AckSample, round_started: bool) {
        let expired = ack.now > self.min_rtt_at + RTT_LIFETIME;
        if ack.rtt <= self.min_rtt || expired {
            (self.min_rtt, self.min_rtt_at) = (ack.rtt, ack.now);
        }
        if expired && !self.idle_restart && !matches!(self.state, State::ProbeRtt { .. }) {
            self.save_window();
            self.state = State::ProbeRtt { until: None, round_done: false };
        }
        let State::ProbeRtt { until, round_done } = &mut self.state else { return };
        // A rate with four packets under way says nothing of the path.
        self.path.set_app_limited(ack.under_way);
        match *until {
            None if f64::from(ack.under_way) <= MIN_WINDOW => {
                *until = Some(ack.now + PROBE_RTT);
                self.round_ends = self.path.delivered();
            }
            None => {}
            Some(end) => {
                *round_done |= round_started;
                if *round_done && ack.now > end {
                    self.min_rtt_at = ack.now;
                    self.window = self.window.max(self.saved_window);
                    if self.filled() {
                        self.enter_probe_bandwidth(ack.now);
                    } else {
                        self.state = State::Startup;
                    }
                }
            }
        }
    }

    fn save_window(&mut self) {
        let disturbed = self.repairing || matches!(self.state, State::ProbeRtt { .. });
        self.saved_window = if disturbed { self.saved_window.max(self.window) } else { self.window };
    }

    /// Draft §4.2.3.
    fn set_window(&mut self, ack: &AckSample, round_started: bool) {
        let acked = f64::from(ack.acked);
        if self.repairing && !ack.repairing {
            (self.repairing, self.conserving) = (false, false);
            self.window = self.window.max(self.saved_window);
        }
        if self.repairing {
            self.conserving &= !round_started;
            self.window = (self.window - f64::from(ack.lost)).max(1.0);
        }
        if self.conserving {
            self.window = self.window.max(f64::from(ack.under_way) + acked);
        } else {
            let target = self.inflight(self.window_gain());
            if self.filled() {
                self.window = (self.window + acked).min(target);
            } else if self.window < target || (self.path.delivered() as f64) < INITIAL_WINDOW {
                self.window += acked;
            }
            self.window = self.window.max(MIN_WINDOW);
        }
        if matches!(self.state, State::ProbeRtt { .. }) {
            self.window = self.window.min(MIN_WINDOW);
        }
    }

    /// Draft §4.2.3.4: packets are conserved in the first round of a repair, and the window is restored after it.
    pub(super) fn on_loss(&mut self) {
        self.save_window();
        (self.repairing, self.conserving) = (true, true);
        self.round_ends = self.path.delivered();
        self.window = f64::from(self.last.under_way + self.last.acked.max(1));
    }

    /// The window grows again from one packet. It is not restored: nothing says which packets are still under way.
    pub(super) fn on_timeout(&mut self) {
        self.path.on_timeout();
        (self.repairing, self.conserving) = (false, false);
        self.saved_window = 0.0;
        self.window = 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_rate_is_of_ten_rounds() {
        let mut m = MaxRate::default();
        m.begin(1);
        m.sample(1, 9.0);
        for round in 2..=10 {
            m.begin(round);
            m.sample(round, f64::from(round as u32) / 10.0);
            assert_eq!(m.greatest, 9.0, "round {round}");
        }
        m.begin(11);
        assert_eq!(m.greatest, 1.0);
        m.sample(11, 5.0);
        assert_eq!(m.greatest, 5.0);
    }

    #[test]
    fn the_cycle_begins_anywhere_but_where_it_drains() {
        let mut phases: Vec<usize> = (0..200)
            .map(|seed| {
                let mut b = Bbr::new(seed);
                b.enter_probe_bandwidth(Instant::ZERO);
                let State::ProbeBandwidth { phase, .. } = b.state else { panic!("{:?}", b.state) };
                phase
            })
            .collect();
        phases.sort_unstable();
        phases.dedup();
        assert_eq!(phases, [0, 2, 3, 4, 5, 6, 7]);
    }
}
