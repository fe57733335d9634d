//! How windows reach a policy and decisions come back. Behind a trait, so that the policy can be a thread today and a
//! process of its own later.
//!
//! The queues are single-producer single-consumer rings (`rtrb`) because those are wait-free on both ends: a policy
//! that is stopped in the middle of an operation, or preempted on the forwarder's own core, cannot make the forwarder
//! spin. (crossbeam's `ArrayQueue` and `AtomicCell` can.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::Decision;
use super::policy::Policy;
use crate::telemetry::TelemetryWindow;
use crate::time::Span;

/// The forwarder's end.
pub trait ControlLink: Send {
    /// Offers a window. A policy that lags misses windows; the forwarder does not wait.
    fn offer(&mut self, window: &TelemetryWindow);

    /// The newest decision since the last call, if there is one.
    fn newest(&mut self) -> Option<Decision>;
}

/// What the threads of a link have counted, for metrics.
#[derive(Debug, Default)]
pub struct LinkCounters {
    /// Decisions made.
    pub decisions: AtomicU64,
    /// Windows that the policy had no answer to.
    pub undecided: AtomicU64,
    /// Windows that found the ring full.
    pub missed_windows: AtomicU64,
}

/// A policy on a thread of its own.
#[derive(Debug)]
pub struct ThreadLink {
    windows: rtrb::Producer<TelemetryWindow>,
    decisions: rtrb::Consumer<Decision>,
    counters: Arc<LinkCounters>,
    stop: Arc<AtomicBool>,
    worker: Option<thread::JoinHandle<()>>,
}

/// Windows on their way: a quarter second at 16 ms.
const WINDOWS: usize = 16;

impl ThreadLink {
    /// Starts the worker. `prepare` runs first on its thread (affinity, priority). Between looks at the ring it sleeps
    /// for `idle`, a fraction of the update interval.
    pub fn spawn(
        mut policy: Box<dyn Policy>,
        idle: Span,
        prepare: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (windows, mut inbox) = rtrb::RingBuffer::<TelemetryWindow>::new(WINDOWS);
        let (mut outbox, decisions) = rtrb::RingBuffer::<Decision>::new(WINDOWS);
        let counters = Arc::new(LinkCounters::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&counters), Arc::clone(&stop));
        let worker = thread::Builder::new().name("l4sd-control".to_owned()).spawn(move || {
            prepare();
            while !stopped.load(Ordering::Relaxed) {
                let Ok(window) = inbox.pop() else {
                    thread::sleep(idle.to_std());
                    continue;
                };
                if let Some(knobs) = policy.decide(&window) {
                    shared.decisions.fetch_add(1, Ordering::Relaxed);
                    // A full ring means that the forwarder has stopped looking; it will find older ones first.
                    let _ = outbox.push(Decision { based_on: window.id, window_end: window.end, knobs });
                } else {
                    shared.undecided.fetch_add(1, Ordering::Relaxed);
                }
            }
        })?;
        Ok(Self { windows, decisions, counters, stop, worker: Some(worker) })
    }

    /// The counters, which outlive the link.
    pub fn counters(&self) -> Arc<LinkCounters> {
        Arc::clone(&self.counters)
    }
}

impl ControlLink for ThreadLink {
    fn offer(&mut self, window: &TelemetryWindow) {
        if self.windows.push(*window).is_err() {
            self.counters.missed_windows.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn newest(&mut self) -> Option<Decision> {
        let mut newest = None;
        while let Ok(d) = self.decisions.pop() {
            newest = Some(d);
        }
        newest
    }
}

impl Drop for ThreadLink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(worker) = self.worker.take() {
            // A worker that panicked has nothing left to say: the guard has fallen back already.
            let _ = worker.join();
        }
    }
}
