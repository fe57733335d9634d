//! A thread that answers for the controller, as others see it: how far it has come and how long its answers took. Must not
//! know what it is asked.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use hdrhistogram::Histogram;

use crate::time::Span;

/// How far it has come.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Stage {
    /// What answers is being made (a model is loaded, checked and warmed up).
    Loading,
    /// It answers.
    Deciding,
    /// It could not be made, or it panicked.
    Failed,
}

/// Longest time of an answer that is told from longer ones.
const LONGEST: u64 = 10_000_000_000;

/// An empty histogram of a controller's times in nanoseconds.
pub fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, LONGEST, 3).expect("bounds in ascending order")
}

/// What a thread tells of itself.
#[derive(Debug)]
pub struct Worker {
    stage: AtomicU8,
    took: Mutex<Histogram<u64>>,
}

impl Default for Worker {
    fn default() -> Self {
        Self { stage: AtomicU8::new(Stage::Loading as u8), took: Mutex::new(times()) }
    }
}

impl Worker {
    /// How far it has come.
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            0 => Stage::Loading,
            1 => Stage::Deciding,
            _ => Stage::Failed,
        }
    }

    /// How long answers took so far, in nanoseconds.
    pub fn took(&self) -> Histogram<u64> {
        self.lock().clone()
    }

    /// What answers is made, or `None` could be.
    pub(super) fn made<T>(&self, what: Option<T>) -> Option<T> {
        self.set(if what.is_some() { Stage::Deciding } else { Stage::Failed });
        what
    }

    /// An answer took so long.
    pub(super) fn record(&self, took: Span) {
        self.lock().saturating_record(took.as_nanos());
    }

    fn set(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// Only the thread itself and whoever reads metrics come here.
    fn lock(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.took.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says so if the thread that has it ends by a panic.
pub(super) struct Mourner(Arc<Worker>);

impl Mourner {
    pub(super) fn of(worker: &Arc<Worker>) -> Self {
        Self(Arc::clone(worker))
    }
}

impl Drop for Mourner {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.set(Stage::Failed);
        }
    }
}
