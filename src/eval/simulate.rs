//! One run of a cell: the simulator's report as a [`CellRecord`]. Whatever spreads runs over threads, processes or machines
//! comes here.

use super::cell::{CellInfo, CellRecord};
use crate::config::Policy;
use crate::control::policy::Policy as Decides;
use crate::report::Bin;
use crate::report::result::PerQueue;
use crate::sim::run::WindowSink;
use crate::sim::{self, Cell, Scenario};

impl From<&Cell> for CellInfo {
    fn from(cell: &Cell) -> Self {
        Self {
            grid: cell.grid.name().to_owned(),
            name: cell.name.clone(),
            mix: cell.mix.clone(),
            bursty: cell.bursty,
            mice: cell.mice,
        }
    }
}

/// Why a run has no record.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The policy cannot be run.
    #[error(transparent)]
    Sim(#[from] sim::run::SimError),
    /// Packets are missing or too many.
    #[error("the account does not close: {0}")]
    Account(String),
}

/// Run `seed` of `scenario`, which is that of `cell`.
pub fn simulate(
    cell: &CellInfo,
    scenario: &Scenario,
    policy: &Policy,
    seed: u64,
) -> Result<CellRecord, SimulateError> {
    record(
        cell,
        policy.label(),
        seed,
        sim::run::run_detailed(scenario, policy, cell.seed_of_run(seed), &mut ())?,
    )
}

/// The same under a policy that the caller brings and that results call `name`.
pub fn simulate_guarded(
    cell: &CellInfo,
    scenario: &Scenario,
    (name, policy): (&str, Box<dyn Decides>),
    seed: u64,
    sink: &mut impl WindowSink,
) -> Result<CellRecord, SimulateError> {
    let (mut run, _) = sim::run::run_guarded(scenario, policy, cell.seed_of_run(seed), sink);
    name.clone_into(&mut run.report.result.policy);
    record(cell, name.to_owned(), seed, run)
}

fn record(
    cell: &CellInfo,
    policy: String,
    seed: u64,
    sim::run::SimRun { report, delays_ns: [l, c] }: sim::run::SimRun,
) -> Result<CellRecord, SimulateError> {
    if let Some(error) = report.conservation_error {
        return Err(SimulateError::Account(error));
    }
    let (delay_over_time_ms, utilization_over_time) = per_second(&report.bins);
    Ok(CellRecord {
        cell: cell.clone(),
        policy,
        seed,
        run: report.result,
        delay_percentiles_ms: PerQueue {
            all: percentiles(&sim::run::merged(&l, &c)),
            l: percentiles(&l),
            c: percentiles(&c),
        },
        delay_over_time_ms,
        utilization_over_time,
    })
}

/// 0, 1, ... 100 % of an ascending list, in milliseconds.
fn percentiles(sorted: &[u64]) -> Vec<f64> {
    let rank = |percent: usize| sim::run::nearest_rank(sorted, 10 * percent).map(|ns| ns as f64 / 1e6);
    (0..=100).filter_map(rank).collect()
}

/// Mean delays, weighted with what was forwarded, and utilisation of each second.
fn per_second(bins: &[Bin]) -> (PerQueue<Vec<Option<f64>>>, Vec<f64>) {
    let mut delays: PerQueue<Vec<Option<f64>>> = PerQueue::default();
    let mut used = Vec::new();
    // Bins begin at multiples of .1 s.
    let second = |b: &Bin| (b.t_s + 0.05) as u64;
    for bins in bins.chunk_by(|a, b| second(a) == second(b)) {
        let mean = |queues: &[usize]| {
            let queues = || bins.iter().flat_map(|b| queues.iter().map(|&q| b.queues[q]));
            let weights = || queues().filter_map(|q| q.delay_ms.map(|d| (d, q.mbps)));
            let total: f64 = weights().map(|(_, w)| w).sum();
            (total > 0.0).then(|| weights().map(|(d, w)| d * w).sum::<f64>() / total)
        };
        delays.l.push(mean(&[0]));
        delays.c.push(mean(&[1]));
        delays.all.push(mean(&[0, 1]));
        let capacity: f64 = bins.iter().map(|b| b.rate_mbps).sum();
        let forwarded: f64 = bins.iter().map(|b| b.queues[0].mbps + b.queues[1].mbps).sum();
        used.push(if capacity > 0.0 { forwarded / capacity } else { 0.0 });
    }
    (delays, used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::QueueBin;

    #[test]
    fn percentiles_have_both_ends() {
        let p = percentiles(&(1..=1000).map(|us| us * 1000).collect::<Vec<_>>());
        assert_eq!((p.len(), p[0], p[1], p[50], p[100]), (101, 0.001, 0.01, 0.5, 1.0));
        assert!(percentiles(&[]).is_empty());
    }

    #[test]
    fn seconds_are_weighted_with_what_was_forwarded() {
        let bin = |t_s, l: (f64, Option<f64>), c: (f64, Option<f64>)| {
            let queue = |(mbps, delay_ms)| QueueBin { mbps, delay_ms, ..QueueBin::default() };
            Bin { t_s, rate_mbps: 10.0, queues: [queue(l), queue(c)], ..Bin::default() }
        };
        let (delays, used) = per_second(&[
            bin(0.0, (1.0, Some(1.0)), (0.0, None)),
            bin(0.9, (3.0, Some(2.0)), (4.0, Some(10.0))),
            bin(1.0, (0.0, None), (10.0, Some(5.0))),
        ]);
        assert_eq!(delays.l, [Some(1.75), None]);
        assert_eq!(delays.c, [Some(10.0), Some(5.0)]);
        assert_eq!(delays.all, [Some((1.0 + 6.0 + 40.0) / 8.0), Some(5.0)]);
        assert_eq!(used, [8.0 / 20.0, 1.0]);
    }
}
