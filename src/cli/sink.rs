//! Where what a lane tells ends up: the report of the run and the metrics.

use tracing::{info, warn};

use super::controller::{Monitor, percentiles};
use super::record::Recorder;
use crate::aqm::params::Knobs;
use crate::control::guard::State;
use crate::metrics::{ControllerState, Metrics};
use crate::port::PortCounters;
use crate::report::result::LookAheadResult;
use crate::report::{DirectionRecorder, DirectionReport};
use crate::runtime::lane::{LaneReader, Report};
use crate::telemetry::features::dataset::RecordError;
use crate::time::{Instant, Span};
use crate::wire::FrameKind;

/// How often metrics hear of a controller's times.
const TELL: Span = Span::from_millis(100);

/// The reader of one direction.
pub(super) struct Sink {
    reader: LaneReader,
    recorder: DirectionRecorder,
    latest: Option<Report>,
    /// Windows with a controller, and those of them in which its fallback was in charge.
    controlled: (u64, u64),
    monitor: Option<Monitor>,
    /// The file of records, and what is in force without a controller.
    record: Option<(Recorder, Knobs)>,
    told: Instant,
}

impl Sink {
    pub(super) const fn new(
        reader: LaneReader,
        recorder: DirectionRecorder,
        monitor: Option<Monitor>,
        record: Option<(Recorder, Knobs)>,
    ) -> Self {
        Self { reader, recorder, latest: None, controlled: (0, 0), monitor, record, told: Instant::ZERO }
    }

    /// Takes everything that has come.
    pub(super) fn drain(&mut self, metrics: &Metrics) {
        let direction = self.reader.direction;
        while let Ok(report) = self.reader.reports.pop() {
            self.recorder.window(&report.window);
            if let Some((record, usual)) = &mut self.record
                && let Err(e) = record.take(&report.window, &report.knobs.unwrap_or(*usual))
            {
                warn!("the record ends here, forwarding goes on: {e}");
            }
            metrics.update_window(direction, &report.window);
            self.tell_overload(&report);
            if let Some((state, _)) = report.control {
                self.controlled.0 += 1;
                self.controlled.1 += u64::from(state == State::Fallback);
            }
            if let (Some(monitor), Some(after)) = (&mut self.monitor, report.admitted_after) {
                monitor.admitted(after);
            }
            self.latest = Some(report);
        }
        let recorder = &mut self.recorder;
        self.reader.drain_delays(|delays| {
            recorder.delays(delays);
            metrics.update_delays(direction, delays);
        });
        if let Some(report) = &self.latest {
            let kinds = FrameKind::ALL.map(|k| (k.label(), report.frames.kinds[k.index()]));
            metrics.update_frames(direction, &kinds, report.frames.ecn);
            metrics.update_tx_pending(direction, report.tx_pending_bytes);
            metrics.update_decision_age(direction, report.decision_age);
            if let (Some(monitor), Some((_, counters))) = (&mut self.monitor, &report.control)
                && report.window.end >= self.told + TELL
            {
                monitor.tell(direction, counters, metrics);
                self.told = report.window.end;
            }
        }
    }

    /// RFC 9332 §2.5.2.3: an operator hears of the beginning and the end of an overload.
    fn tell_overload(&self, report: &Report) {
        let before = self.latest.map(|r| r.window.egress.overload).unwrap_or_default();
        let now = report.window.egress.overload;
        let direction = self.reader.direction;
        if now.episodes > before.episodes {
            warn!(%direction, "overload: p_CL has reached 1, Classic drop applies to ECN packets as well");
        }
        if before.active && !now.active {
            info!(%direction, total_s = now.total.as_secs_f64(), episodes = now.episodes, "overload is over");
        }
    }

    /// Number of the last change of configuration that this direction has taken over.
    pub(super) fn change(&self) -> u64 {
        self.latest.map_or(0, |r| r.change)
    }

    /// The policy goes by another name from now on, and without a controller has these parameters in force.
    pub(super) fn set_policy(&mut self, policy: String, constants: Knobs) {
        self.recorder.set_policy(policy);
        if let Some((_, usual)) = &mut self.record {
            *usual = constants;
        }
    }

    /// What the port that this direction receives on has counted.
    pub(super) fn rx_port(&self) -> Option<PortCounters> {
        self.latest.map(|r| r.rx_port)
    }

    /// Who sets the parameters of this direction.
    pub(super) fn controller(&self) -> ControllerState {
        match self.latest.and_then(|r| r.control) {
            None => ControllerState::Pi2,
            Some((State::Model, _)) => ControllerState::Model,
            Some((State::Fallback, c)) if c.rejected > 0 && c.admitted + c.clamped == 0 => {
                ControllerState::Rejected
            }
            Some((State::Fallback, _)) => ControllerState::Stale,
        }
    }

    /// The report, once the forwarder has ended, and whether the record is complete.
    pub(super) fn finish(mut self, metrics: &Metrics) -> (DirectionReport, Result<(), RecordError>) {
        self.drain(metrics);
        let recorded = self.record.take().map_or(Ok(()), |(record, _)| record.finish());
        let mut report = self.recorder.finish();
        if let Some((_, c)) = self.latest.and_then(|r| r.control) {
            let (windows, fallback) = self.controlled;
            report.result.fallback_share = (windows > 0).then(|| fallback as f64 / windows as f64);
            report.result.controller.decisions = Some(c.admitted + c.clamped);
            report.result.controller.late = Some(c.stale);
            report.result.controller.rejected = Some(c.rejected);
        }
        if let Some(monitor) = self.monitor {
            let [inference, admission] = monitor.times().each_ref().map(percentiles);
            report.result.controller.inference_us = inference;
            report.result.controller.admission_us = admission;
            if let Some((counts, _)) = monitor.look_ahead() {
                let seconds = report.result.duration_s;
                report.result.controller.look_ahead = LookAheadResult::of(&counts, seconds);
            }
            report.result.model_sha256 = monitor.model_sha256;
        }
        (report, recorded)
    }
}
