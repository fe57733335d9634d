//! How windows reach a policy and decisions come back. Behind a trait, so that the policy can be a thread today and a
//! process of its own later.
//!
//! The queues are single-producer single-consumer rings (`rtrb`) because those are wait-free on both ends: a policy
//! that is stopped in the middle of an operation, or preempted on the forwarder's own core, cannot make the forwarder
//! spin. (crossbeam's `ArrayQueue` and `AtomicCell` can.)
//!
//! A worker without windows is parked, and a window wakes it: one store and, if it is parked, one call into the kernel
//! (`futex`, `_umtx_op`) that waits for nobody.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use hdrhistogram::Histogram;

use super::Decision;
use super::policy::lookahead::Counts;
use super::policy::{Abstention, Policy};
use super::worker::{Mourner, Stage, Worker};
use crate::aqm::params::Knobs;
use crate::telemetry::TelemetryWindow;
use crate::time::{Instant, Span};

/// The forwarder's end.
pub trait ControlLink: Send {
    /// Offers a window and what was in force at its end, with the feed-forward that was applied in it. A policy that lags
    /// misses windows; the forwarder does not wait.
    fn offer(&mut self, window: &TelemetryWindow, in_force: &Knobs);

    /// The newest decision since the last call, if there is one.
    fn newest(&mut self) -> Option<Decision>;
}

/// What the threads of a link have counted, for metrics and reports. The forwarder touches `missed_windows` only.
#[derive(Debug, Default)]
pub struct LinkCounters {
    /// Decisions made.
    pub decisions: AtomicU64,
    /// Windows after which the policy wanted nothing, by [`Abstention::index`].
    pub abstained: [AtomicU64; Abstention::ALL.len()],
    /// Windows that found the ring full.
    pub missed_windows: AtomicU64,
    /// From taking a window to the policy's answer.
    worker: Arc<Worker>,
    look_ahead: Mutex<Option<Counts>>,
}

impl LinkCounters {
    /// How far the thread has come.
    pub fn stage(&self) -> Stage {
        self.worker.stage()
    }

    /// How long decisions took so far, in nanoseconds.
    pub fn took(&self) -> Histogram<u64> {
        self.worker.took()
    }

    /// What looking ahead came to so far; `None` from a policy that does not.
    pub fn look_ahead(&self) -> Option<Counts> {
        *self.lock()
    }

    /// Only the policy's thread and whoever reads metrics come here.
    fn lock(&self) -> MutexGuard<'_, Option<Counts>> {
        self.look_ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A policy on a thread of its own.
#[derive(Debug)]
pub struct ThreadLink {
    windows: rtrb::Producer<Observation>,
    decisions: rtrb::Consumer<Decision>,
    counters: Arc<LinkCounters>,
    stop: Arc<AtomicBool>,
    worker: Option<thread::JoinHandle<()>>,
}

/// A window and what was in force.
type Observation = (TelemetryWindow, Knobs);

/// Windows on their way: a quarter second at 16 ms.
const WINDOWS: usize = 16;

/// How long before a window is due the policy begins to rehearse: more than twice as long as a decision of the shipped
/// student takes when nothing of it is in the caches, for that is what the first rehearsal takes. Done over and over until
/// the window comes, it makes the decision several times shorter, for a hundredth of a core.
const REHEARSAL: Span = Span::from_micros(1_000);

/// Spends some of the time without a window, at most `interval`. `expected` is when the next one ends, if that is known.
fn wait(expected: &mut Option<Instant>, interval: Span, now: impl Fn() -> Instant, policy: &mut dyn Policy) {
    let Some(next) = *expected else { return thread::park_timeout(interval.to_std()) };
    let time = now();
    if time + REHEARSAL < next {
        thread::park_timeout(next.since(time + REHEARSAL).min(interval).to_std());
    } else if time > next + REHEARSAL || !policy.rehearse(next) {
        *expected = None;
    }
}

impl ThreadLink {
    /// Starts the worker. `make` runs first on its thread: affinity, priority, and making the policy, which may take
    /// long; `None` = it could not, and has said why. Then a window wakes it; if none does, it looks every `interval`.
    /// `now` is the time by which decisions are timed.
    pub fn spawn(
        make: impl FnOnce() -> Option<Box<dyn Policy>> + Send + 'static,
        interval: Span,
        now: impl Fn() -> Instant + Send + 'static,
    ) -> std::io::Result<Self> {
        let (windows, mut inbox) = rtrb::RingBuffer::<Observation>::new(WINDOWS);
        let (mut outbox, decisions) = rtrb::RingBuffer::<Decision>::new(WINDOWS);
        let counters = Arc::new(LinkCounters::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&counters), Arc::clone(&stop));
        let worker = thread::Builder::new().name("l4sd-control".to_owned()).spawn(move || {
            let _mourner = Mourner::of(&shared.worker);
            let Some(mut policy) = shared.worker.made(make()) else { return };
            let mut expected = None;
            while !stopped.load(Ordering::Relaxed) {
                let Ok((window, in_force)) = inbox.pop() else {
                    wait(&mut expected, interval, &now, policy.as_mut());
                    continue;
                };
                expected = Some(window.end + interval);
                let begun = now();
                let wanted = policy.decide(&window, &in_force);
                shared.worker.record(now().since(begun));
                *shared.lock() = policy.look_ahead();
                match wanted {
                    Ok(knobs) => {
                        shared.decisions.fetch_add(1, Ordering::Relaxed);
                        // A full ring means that the forwarder has stopped looking; it will find older ones first.
                        let _ = outbox.push(Decision { based_on: window.id, window_end: window.end, knobs });
                    }
                    Err(why) => {
                        shared.abstained[why.index()].fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        })?;
        Ok(Self { windows, decisions, counters, stop, worker: Some(worker) })
    }

    fn wake(&self) {
        if let Some(worker) = &self.worker {
            worker.thread().unpark();
        }
    }

    /// The counters, which outlive the link.
    pub fn counters(&self) -> Arc<LinkCounters> {
        Arc::clone(&self.counters)
    }
}

impl ControlLink for ThreadLink {
    fn offer(&mut self, window: &TelemetryWindow, in_force: &Knobs) {
        if self.windows.push((*window, *in_force)).is_err() {
            self.counters.missed_windows.fetch_add(1, Ordering::Relaxed);
        }
        self.wake();
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
        self.wake();
        if let Some(worker) = self.worker.take() {
            // A worker that panicked has nothing left to say: the guard has fallen back already.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Span = Span::from_secs(3600);

    fn window(id: u64) -> TelemetryWindow {
        TelemetryWindow::quiet(id, Instant::from_millis(16 * (id + 1)))
    }

    /// Wants what is in force, and counts rehearsals, of which it wants so many.
    #[derive(Default)]
    struct Agrees {
        rehearsals: u64,
        wanted: u64,
    }

    impl Policy for Agrees {
        fn decide(&mut self, _window: &TelemetryWindow, in_force: &Knobs) -> Result<Knobs, Abstention> {
            Ok(*in_force)
        }

        fn rehearse(&mut self, _next: Instant) -> bool {
            self.rehearsals += 1;
            self.rehearsals <= self.wanted
        }
    }

    /// The thread would look at its ring once an hour: a window must wake it, one after the other, and so must the end.
    #[test]
    fn a_window_wakes_the_policy_and_so_does_the_end() {
        let make = || Some(Box::new(Agrees::default()) as Box<dyn Policy>);
        let mut link = ThreadLink::spawn(make, HOUR, || Instant::ZERO).unwrap();
        for id in 0..100 {
            link.offer(&window(id), &Knobs::default());
            let answer = (0..5_000).find_map(|_| {
                thread::sleep(std::time::Duration::from_millis(1));
                link.newest()
            });
            assert_eq!(answer.map(|d| d.based_on), Some(id), "within 5 s");
        }
        assert_eq!(link.counters().decisions.load(Ordering::Relaxed), 100);
        let end = thread::spawn(move || drop(link));
        let ended = (0..5_000).any(|_| {
            thread::sleep(std::time::Duration::from_millis(1));
            end.is_finished()
        });
        assert!(ended, "within 5 s");
    }

    /// From 1 ms before the window until 1 ms after, and not again once there is nothing to gain.
    #[test]
    fn rehearsals_begin_shortly_before_the_window() {
        let (next, interval) = (Instant::from_millis(16), Span::from_millis(1));
        let mut policy = Agrees { rehearsals: 0, wanted: 3 };
        let mut expected = Some(next);
        let at = |us: u64, policy: &mut Agrees, expected: &mut Option<Instant>| {
            wait(expected, interval, || Instant::from_nanos(us * 1_000), policy);
            (policy.rehearsals, expected.is_some())
        };
        assert_eq!(at(14_999, &mut policy, &mut expected), (0, true), "waits a microsecond");
        for (us, seen) in [(15_000, (1, true)), (15_600, (2, true)), (17_000, (3, true))] {
            assert_eq!(at(us, &mut policy, &mut expected), seen, "{us}");
        }
        assert_eq!(at(15_700, &mut policy, &mut expected), (4, false), "nothing to gain");
        assert_eq!(at(15_800, &mut policy, &mut expected), (4, false), "waits a millisecond");
        expected = Some(next);
        assert_eq!(at(17_001, &mut policy, &mut expected), (4, false), "it does not come");
    }
}
