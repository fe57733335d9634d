//! Makes the runs of a design on several threads, longest first, and keeps each as soon as it is finished.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::{error, fmt, mem, thread};

use super::cell::CellRecord;
use super::design::Unit;
use super::{EvalError, Progress, RecordLog};

/// Why not all runs were made.
#[derive(Debug)]
pub enum RunError<E> {
    /// A run failed; no further ones were begun.
    Unit {
        /// Which.
        unit: String,
        /// Why.
        error: E,
    },
    /// A record could not be kept.
    Eval(EvalError),
}

impl<E: fmt::Display> fmt::Display for RunError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit { unit, error } => write!(f, "{unit}: {error}"),
            Self::Eval(e) => e.fmt(f),
        }
    }
}

impl<E: error::Error> error::Error for RunError<E> {}

/// Makes the runs that `log` does not have and returns all in the order of `units`.
///
/// After a failure the runs in progress are finished and kept, and no further ones are begun.
pub fn run<E: Send>(
    units: &[Unit],
    log: &mut RecordLog,
    jobs: usize,
    progress: &Progress,
    work: impl Fn(&Unit) -> Result<CellRecord, E> + Sync,
) -> Result<Vec<CellRecord>, RunError<E>> {
    let mut records: Vec<Option<CellRecord>> = units.iter().map(|u| log.take(u)).collect();
    let mut todo: Vec<usize> = (0..units.len()).filter(|&i| records[i].is_none()).collect();
    todo.sort_by(|&a, &b| units[b].cost.total_cmp(&units[a].cost));
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (done, finished) = mpsc::channel();
    let mut failure = None;
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, todo.len().max(1)) {
            let (done, work, todo, next, stop) = (done.clone(), &work, &todo, &next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let Some(&i) = todo.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                    let outcome = work(&units[i]);
                    stop.fetch_or(outcome.is_err(), Ordering::Relaxed);
                    // The receiver lives until the last sender is gone.
                    let _ = done.send((i, outcome));
                }
            });
        }
        mem::drop(done);
        for (i, outcome) in finished {
            let kept = match outcome {
                Ok(record) => log.append(&units[i], record).map_err(RunError::Eval),
                Err(error) => Err(RunError::Unit { unit: units[i].name.clone(), error }),
            };
            match kept {
                Ok(record) => {
                    records[i] = Some(record);
                    progress.step();
                }
                Err(e) => {
                    stop.store(true, Ordering::Relaxed);
                    failure.get_or_insert(e);
                }
            }
        }
    });
    if let Some(failure) = failure {
        return Err(failure);
    }
    let all = records.into_iter().zip(units);
    all.map(|(record, unit)| record.ok_or_else(|| RunError::Eval(EvalError::Missing(unit.name.clone()))))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::eval::cell::CellInfo;
    use crate::eval::design::Design;
    use crate::eval::records::Header;

    fn units() -> Vec<Unit> {
        let cells = (0..10)
            .map(|i| CellInfo { grid: "g".into(), name: format!("c{i}"), ..CellInfo::default() })
            .collect();
        Design::new(cells, ["codel".into()], 2).units(|c| format!("s{c}"), |_| String::new(), |c| c as f64)
    }

    fn record(unit: &Unit) -> CellRecord {
        CellRecord {
            seed: unit.seed,
            policy: unit.policy.to_string(),
            utilization_over_time: vec![1.0 / (unit.cell + 3) as f64],
            ..CellRecord::default()
        }
    }

    fn log(dir: &std::path::Path) -> RecordLog {
        RecordLog::open(dir, &Header::new("dev", 1), false).unwrap()
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands for a run")]
    fn infallible(unit: &Unit) -> Result<CellRecord, EvalError> {
        Ok(record(unit))
    }

    #[test]
    fn records_come_in_the_order_of_the_units_whatever_the_jobs() {
        let units = units();
        let expected: Vec<_> = units.iter().map(record).collect();
        for jobs in [0, 1, 7] {
            let dir = tempfile::tempdir().unwrap();
            assert_eq!(
                run(&units, &mut log(dir.path()), jobs, &Progress::quiet(), infallible).unwrap(),
                expected
            );
        }
    }

    #[test]
    fn the_longest_begin_first() {
        let (units, dir, order) = (units(), tempfile::tempdir().unwrap(), Mutex::new(Vec::new()));
        run(&units, &mut log(dir.path()), 1, &Progress::quiet(), |u| {
            order.lock().unwrap().push(u.cell);
            infallible(u)
        })
        .unwrap();
        let order = order.into_inner().unwrap();
        assert_eq!(order.len(), 60);
        assert!(order.is_sorted_by(|a, b| a >= b), "{order:?}");
    }

    #[test]
    fn after_a_failure_what_is_done_is_not_run_again() {
        let (units, dir) = (units(), tempfile::tempdir().unwrap());
        let bad = &units[7];
        let error = run(&units, &mut log(dir.path()), 3, &Progress::quiet(), |u| {
            if u == bad { Err("the link fell over") } else { Ok(record(u)) }
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "g c1 under dualpi2, seed 2: the link fell over");
        let again = Mutex::new(0);
        let all = run(&units, &mut log(dir.path()), 3, &Progress::quiet(), |u| {
            *again.lock().unwrap() += 1;
            infallible(u)
        })
        .unwrap();
        assert_eq!(all, units.iter().map(record).collect::<Vec<_>>());
        let again = again.into_inner().unwrap();
        // Cells 9 to 2 are done before; of the rest, c1 and c0, at least the failed one is not.
        assert!((1..=12).contains(&again), "{again}");
        let none =
            run(&units, &mut log(dir.path()), 3, &Progress::quiet(), |_| Err::<CellRecord, _>("run again"));
        assert!(none.is_ok());
    }
}
