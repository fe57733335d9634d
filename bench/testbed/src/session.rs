//! One measured run: bridge up, flows up, a look at `/metrics` every second, bridge down, results completed.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::clock;
use crate::flows::{Flow, FlowError, FlowResult, Kind};
use crate::forwarder::{Forwarder, ForwarderError, RunSpec, Scheduling};
use crate::results::{Results, ResultsError};
use crate::sandbox::{Rights, Stop};
use crate::scrape::Samples;
use crate::tools::{CHRT, Tools};
use crate::topology::Topology;

const SECOND: Duration = Duration::from_secs(1);
/// l4sd puts its delays into `/metrics` once a second, counted from its start; looked at in between, each look has one.
const BETWEEN: Duration = Duration::from_millis(250);
/// l4sd looks for signals every 20 ms, `kill` has to start, and l4sd's zero is known to some 10 ms. Sent this much ahead, a
/// step is in force just before its second begins; 22 ms were too few once on a loaded machine (12 ms late).
const AHEAD: Duration = Duration::from_millis(45);

/// Why a run has no result.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The bridge.
    #[error(transparent)]
    Forwarder(#[from] ForwarderError),
    /// A sender or receiver.
    #[error(transparent)]
    Flow(#[from] FlowError),
    /// Its files.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// Someone asked for the end.
    #[error("interrupted")]
    Interrupted,
}

/// What a run leaves.
#[derive(Debug)]
pub struct Outcome {
    /// The completed result object, as it is on disk.
    pub results: Results,
    /// What the senders reported.
    pub flows: Vec<FlowResult>,
    /// The last `/metrics` text.
    pub metrics_text: String,
}

/// Real-time scheduling where the host lets us.
pub fn scheduling(tools: &Tools, rights: Rights) -> Scheduling {
    let fifo = || tools.command(CHRT).args(["-f", "40", "true"]).output().is_ok_and(|o| o.status.success());
    if rights == Rights::Root && fifo() { Scheduling::Fifo } else { Scheduling::Ordinary }
}

/// Runs `spec` under `kinds` until its duration is over. `each_second` gets the second and a scrape.
pub fn run(
    topology: &Topology,
    spec: &RunSpec,
    kinds: &[Kind],
    stop: &Stop,
    mut each_second: impl FnMut(u32, &Samples),
) -> Result<Outcome, SessionError> {
    let mut forwarder = Forwarder::start(spec)?;
    let ready = forwarder.ready();
    let mut flows = kinds.iter().map(|k| Flow::start(topology, *k)).collect::<Result<Vec<_>, _>>()?;
    let mut metrics_text = String::new();
    for second in 1..spec.duration_s {
        let tick = ready + SECOND * second + BETWEEN;
        if stop.sleep(tick.saturating_duration_since(clock::now())) {
            interrupt(forwarder);
            return Err(SessionError::Interrupted);
        }
        if !forwarder.running() {
            break;
        }
        for flow in &mut flows {
            flow.check()?;
        }
        metrics_text = match forwarder.metrics_text() {
            Ok(text) => text,
            // Its own clock began before `ready`: on a loaded machine it may be over before the last look.
            Err(_) if ends(&mut forwarder, stop) => break,
            Err(error) => return Err(error.into()),
        };
        each_second(second, &Samples::parse(&metrics_text));
        if let Some(step) = spec.step.filter(|s| s.at_s == second + 1) {
            let at = forwarder.began()? + (SECOND * step.at_s).saturating_sub(AHEAD);
            if stop.sleep(at.saturating_duration_since(clock::now())) {
                interrupt(forwarder);
                return Err(SessionError::Interrupted);
            }
            forwarder.set_rate(step.rate_mbit)?;
        }
    }
    forwarder.finish()?;

    let window = measured(spec, ready);
    let flows: Vec<FlowResult> = flows.iter().map(|f| f.result(&window, f64::from(spec.rtt_ms))).collect();
    let path = spec.out.join("results.json");
    let mut results = Results::read(&path)?;
    results.set_flows(&flows)?;
    results.write(&path)?;
    Ok(Outcome { results, flows, metrics_text })
}

/// Whether the bridge comes to its end within a second.
fn ends(forwarder: &mut Forwarder, stop: &Stop) -> bool {
    stop.sleep(SECOND);
    !forwarder.running()
}

/// Ends the bridge in order; what it says then is of no interest any more.
pub fn interrupt(forwarder: Forwarder) {
    forwarder.terminate();
    forwarder.finish().ok();
}

fn measured(spec: &RunSpec, ready: Instant) -> Range<Instant> {
    ready + SECOND * spec.warmup_s..ready + SECOND * spec.duration_s
}
