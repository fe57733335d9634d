//! The runs of an audit: each link under the policy as it is, and under what was made of it.

use std::sync::{Arc, Mutex, PoisonError};

use super::groups::groups;
use super::wrappers::{Delayed, Frozen, Recorded, Replayed, Said, shuffled};
use super::{AuditError, Subject};
use crate::aqm::params::Knobs;
use crate::config::Policy as PolicyName;
use crate::control::guard::GuardCounters;
use crate::control::policy::Policy;
use crate::eval::cell::CellInfo;
use crate::eval::parallel;
use crate::eval::score::{Figures, Traffic};
use crate::report::RunResult;
use crate::sim::Scenario;
use crate::sim::run::{WindowSink, run, run_guarded};
use crate::telemetry::TelemetryWindow;
use crate::telemetry::features::schema::{Action, Schema};
use crate::time::{Instant, Span};

/// Windows that keep their order in a shuffle: about a second.
const SHUFFLE_BLOCK: usize = 64;

/// What is made of a policy.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The mean of all its settings on all links, held.
    GlobalFreeze,
    /// The mean of its settings on this link, held.
    LinkFreeze,
    /// Its own decisions on this link in another order.
    Shuffled,
    /// Its decisions on another link.
    Swapped,
    /// Itself without a group of features, by number.
    Masked(usize),
    /// Its decisions so many round trips late.
    Late(u32),
}

/// What was in force after each window that counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// Ends of windows, in seconds since the start of the run.
    pub at_s: Vec<f64>,
    /// Bins of target, gain and ramp.
    pub bins: Vec<[usize; 3]>,
    /// The target in bins, not rounded.
    pub target: Vec<f64>,
}

/// Writes a [`Trace`].
struct Tracer<'a> {
    action: &'a Action,
    from: Instant,
    trace: Trace,
}

impl WindowSink for Tracer<'_> {
    fn window(&mut self, window: &TelemetryWindow, in_force: &Knobs) {
        if window.end <= self.from {
            return;
        }
        let [target, gain, ramp, _] = self.action.bins_of(in_force);
        let values = &self.action.knobs[0].values;
        let (least, most) = (values[0], values[values.len() - 1]);
        let bin = (most / least).ln() / (values.len() - 1) as f64;
        self.trace.at_s.push(window.end.since(Instant::ZERO).as_secs_f64());
        self.trace.bins.push([target, gain, ramp]);
        self.trace.target.push((in_force.target.as_secs_f64() / least).ln() / bin);
    }
}

/// A run under a policy.
#[derive(Clone, Debug)]
pub struct Made {
    /// The result object.
    pub result: RunResult,
    /// What was in force.
    pub trace: Trace,
    /// What the guard made of the decisions.
    pub guard: GuardCounters,
}

/// A link with its runs by seed.
#[derive(Debug)]
pub struct Audited {
    /// The link.
    pub info: CellInfo,
    /// Its largest base round trip, in seconds.
    pub rtt_s: f64,
    /// What it carries.
    pub traffic: Traffic,
    /// Under `dualpi2`.
    pub baseline: Vec<RunResult>,
    /// Under the policy.
    pub own: Vec<Made>,
    /// Figures of each variant, in the order of [`Runs::variants`], and its trace where it comes late.
    pub variants: Vec<Vec<(Figures, Trace)>>,
    /// On links with phases: the same with each of the Classic targets held, from the least on.
    pub targets: Vec<Vec<RunResult>>,
}

/// All runs of an audit.
#[derive(Debug)]
pub struct Runs {
    /// Which variants there are.
    pub variants: Vec<Variant>,
    /// Names of groups of features.
    pub groups: Vec<&'static str>,
    /// The links.
    pub links: Vec<Audited>,
    /// Values of the knobs.
    pub action: Action,
}

struct Maker<'a> {
    subject: &'a dyn Subject,
    action: &'a Action,
}

impl Maker<'_> {
    fn made(&self, scenario: &Scenario, policy: Box<dyn Policy>, seed: u64) -> Result<Made, AuditError> {
        let from = Instant::ZERO + scenario.warmup;
        let mut tracer = Tracer { action: self.action, from, trace: Trace::default() };
        let (run, guard) = run_guarded(scenario, policy, seed, &mut tracer);
        match run.report.conservation_error {
            Some(error) => Err(AuditError::Account(scenario.name.clone(), error)),
            None => Ok(Made { result: run.report.result, trace: tracer.trace, guard }),
        }
    }

    /// The policy as it is, and what it said.
    fn own(&self, scenario: &Scenario, seed: u64) -> Result<(RunResult, Made, Arc<Vec<Said>>), AuditError> {
        let baseline = run(scenario, &PolicyName::DualPi2, seed)?.result;
        let said = Arc::new(Mutex::new(Vec::new()));
        let recorded = Recorded { policy: self.subject.policy(&[])?, said: Arc::clone(&said) };
        let made = self.made(scenario, Box::new(recorded), seed)?;
        let said = std::mem::take(&mut *said.lock().unwrap_or_else(PoisonError::into_inner));
        Ok((baseline, made, Arc::new(said)))
    }

    /// The knobs nearest to the mean bins of traces.
    fn mean<'a>(&self, traces: impl Iterator<Item = &'a Trace>) -> Knobs {
        let (mut sums, mut n) = ([0.0; 3], 0.0);
        for bins in traces.flat_map(|t| &t.bins) {
            sums.iter_mut().zip(bins).for_each(|(sum, bin)| *sum += *bin as f64);
            n += 1.0;
        }
        if n == 0.0 {
            return Knobs::default();
        }
        let bin = |i: usize| (sums[i] / n).round() as usize;
        let none = self.action.default_bins()[3];
        self.action.knobs_of([bin(0), bin(1), bin(2), none]).unwrap_or_default()
    }
}

/// The largest base round trip of a scenario.
fn round_trip(scenario: &Scenario) -> Span {
    scenario.flows.iter().map(|f| f.spec.rtt).max().unwrap_or_default()
}

/// Makes them all. The outcome does not depend on `jobs`.
pub fn make(
    cells: &[(CellInfo, Scenario)],
    subject: &dyn Subject,
    seeds: u64,
    jobs: usize,
) -> Result<Runs, AuditError> {
    let schema = Schema::embedded();
    let (names, masks): (Vec<_>, Vec<_>) = groups(&schema).into_iter().unzip();
    let maker = Maker { subject, action: &schema.action };
    let n = seeds as usize;
    let seed = |cell: usize, i: usize| cells[cell].0.seed_of_run((i % n) as u64 + 1);
    let first: Vec<_> = parallel::map(cells.len() * n, jobs, |i| maker.own(&cells[i / n].1, seed(i / n, i)))
        .into_iter()
        .collect::<Result<_, _>>()?;
    let global = maker.mean(first.iter().map(|(_, made, _)| &made.trace));
    let by_link: Vec<Knobs> =
        first.chunks(n).map(|runs| maker.mean(runs.iter().map(|(_, made, _)| &made.trace))).collect();
    let mut variants = vec![Variant::GlobalFreeze, Variant::LinkFreeze, Variant::Shuffled, Variant::Swapped];
    variants.extend((0..masks.len()).map(Variant::Masked));
    variants.extend([1, 2].map(Variant::Late));
    let traffic: Vec<Traffic> = first
        .chunks(n)
        .map(|runs| Traffic {
            l: runs.iter().any(|(b, _, _)| b.queues.l.counters.packets > 0),
            c: runs.iter().any(|(b, _, _)| b.queues.c.counters.packets > 0),
            both_endless: runs.iter().any(|(b, m, _)| b.ratio_l_over_c.or(m.result.ratio_l_over_c).is_some()),
        })
        .collect();
    let per_link = variants.len() * n;
    let varied = parallel::map(cells.len() * per_link, jobs, |i| {
        let (c, v, s) = (i / per_link, i % per_link / n, i % n);
        let (_, scenario) = &cells[c];
        let policy: Box<dyn Policy> = match variants[v] {
            Variant::GlobalFreeze => Box::new(Frozen(global)),
            Variant::LinkFreeze => Box::new(Frozen(by_link[c])),
            Variant::Shuffled => {
                Box::new(Replayed::new(Arc::new(shuffled(&first[c * n + s].2, SHUFFLE_BLOCK, seed(c, i)))))
            }
            Variant::Swapped => {
                let other = (c + cells.len() / 2) % cells.len();
                Box::new(Replayed::new(Arc::clone(&first[other * n + s].2)))
            }
            Variant::Masked(group) => subject.policy(&masks[group])?,
            Variant::Late(trips) => {
                let by = Span::from_nanos(round_trip(scenario).as_nanos() * u64::from(trips));
                Box::new(Delayed::new(subject.policy(&[])?, by))
            }
        };
        let made = maker.made(scenario, policy, seed(c, i))?;
        let late = matches!(variants[v], Variant::Late(_));
        let trace = if late { made.trace } else { Trace::default() };
        Ok((Figures::of(&made.result, traffic[c], false), trace))
    });
    let varied: Vec<_> = varied.into_iter().collect::<Result<_, AuditError>>()?;
    let with_phases: Vec<usize> = (0..cells.len()).filter(|&c| !cells[c].1.phases.is_empty()).collect();
    let targets = schema.action.knobs[0].values.len();
    let held = parallel::map(with_phases.len() * targets * n, jobs, |i| {
        let [_, gain, ramp, none] = schema.action.default_bins();
        let bins = [i / n % targets, gain, ramp, none];
        let knobs = schema.action.knobs_of(bins).unwrap_or_default();
        let c = with_phases[i / n / targets];
        maker.made(&cells[c].1, Box::new(Frozen(knobs)), seed(c, i)).map(|m| m.result)
    });
    let held: Vec<RunResult> = held.into_iter().collect::<Result<_, _>>()?;
    let mut first = first.into_iter();
    let mut varied = varied.into_iter();
    let mut held = held.into_iter();
    let mut links = Vec::with_capacity(cells.len());
    for ((info, scenario), traffic) in cells.iter().zip(traffic) {
        let runs: Vec<_> = first.by_ref().take(n).collect();
        let (baseline, own) = runs.into_iter().map(|(b, m, _)| (b, m)).unzip();
        let variants = variants.iter().map(|_| varied.by_ref().take(n).collect()).collect();
        let targets = if scenario.phases.is_empty() { 0 } else { targets };
        let targets = (0..targets).map(|_| held.by_ref().take(n).collect()).collect();
        let rtt_s = round_trip(scenario).as_secs_f64();
        links.push(Audited { info: info.clone(), rtt_s, traffic, baseline, own, variants, targets });
    }
    Ok(Runs { variants, groups: names, links, action: schema.action })
}
