//! A verifier on a thread of its own. Questions and answers go through single-producer single-consumer rings, so that who asks
//! never waits: a verifier that is stopped, slow or gone costs its answers and nothing else.
//!
//! How long a call takes is measured, from the end of the window that it was asked after; the next one is expected to take as long
//! as the longest of the last few.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::call::{Answer, Checks, Question};
use super::{Abstention, Chooser, Verifier};
use crate::control::worker::{Mourner, Stage, Worker};
use crate::time::{Instant, Span};

/// How many calls are remembered.
const REMEMBERED: usize = 8;
/// No call is expected to take longer: a forecast is of what was over 64 ms, and twice this time ahead is as far again. Without a
/// bound a call that was late would look further ahead next time, and be later still.
const LONGEST: Span = Span::from_millis(32);

/// A question on its way.
struct Call {
    number: u64,
    asked: Instant,
    question: Question,
}

/// An answer on its way back.
struct Answered {
    number: u64,
    /// From the window that was asked after to the answer.
    took: Span,
    answer: Answer,
    checks: Checks,
}

/// The end that asks.
pub struct Threaded {
    calls: rtrb::Producer<Call>,
    answers: rtrb::Consumer<Answered>,
    worker: Arc<Worker>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
    /// Calls so far, and the number of the one under way.
    asked: u64,
    under_way: Option<u64>,
    took: [Span; REMEMBERED],
    checks: Checks,
}

impl fmt::Debug for Threaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threaded")
            .field("worker", &self.worker)
            .field("took", &self.took)
            .finish_non_exhaustive()
    }
}

impl Threaded {
    /// Starts the thread. `make` runs first on it: affinity, priority, and making a drafter like the one that decides and the
    /// verifier; `None` = they could not be made, and it has said why. `rest` = after a call the thread rests so many times as
    /// long as that took. `now` is the clock of the windows.
    pub fn spawn<D: Chooser, V: Chooser>(
        make: impl FnOnce() -> Option<(D, V)> + Send + 'static,
        rest: f64,
        now: impl Fn() -> Instant + Send + 'static,
    ) -> std::io::Result<Self> {
        let (calls, mut inbox) = rtrb::RingBuffer::<Call>::new(1);
        // Beside the answer that is waited for there may be one that nobody has.
        let (mut outbox, answers) = rtrb::RingBuffer::<Answered>::new(2);
        let worker = Arc::new(Worker::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&worker), Arc::clone(&stop));
        let thread = thread::Builder::new().name("l4sd-verify".to_owned()).spawn(move || {
            let _mourner = Mourner::of(&shared);
            let Some((mut drafter, mut verifier)) = shared.made(make()) else { return };
            while !stopped.load(Ordering::Relaxed) {
                let Ok(Call { number, asked, question }) = inbox.pop() else {
                    thread::park();
                    continue;
                };
                let begun = now();
                let (answer, checks) = question.answer(&mut drafter, &mut verifier);
                let over = now();
                shared.record(over.since(begun));
                let _ = outbox.push(Answered { number, took: over.since(asked), answer, checks });
                if rest > 0.0 {
                    thread::sleep(over.since(begun).to_std().mul_f64(rest));
                }
            }
        })?;
        Ok(Self {
            calls,
            answers,
            worker,
            stop,
            thread: Some(thread),
            asked: 0,
            under_way: None,
            took: [Span::ZERO; REMEMBERED],
            checks: Checks::default(),
        })
    }

    /// What the thread tells of itself, which outlives this end.
    pub fn worker(&self) -> Arc<Worker> {
        Arc::clone(&self.worker)
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Verifier for Threaded {
    fn begin(&mut self) {
        (self.under_way, self.checks) = (None, Checks::default());
    }

    fn ready(&self, now: Instant) -> Instant {
        now + self.took.into_iter().max().unwrap_or_default().min(LONGEST)
    }

    fn ask(&mut self, now: Instant, question: Question) -> bool {
        let call = Call { number: self.asked + 1, asked: now, question };
        let there = self.worker.stage() == Stage::Deciding && !self.calls.is_abandoned();
        if !there || self.calls.push(call).is_err() {
            return false;
        }
        self.asked += 1;
        self.under_way = Some(self.asked);
        self.wake();
        true
    }

    fn answer(&mut self, _now: Instant) -> Option<Answer> {
        // In this order: what was said before the end is found.
        let gone = self.answers.is_abandoned();
        while let Ok(Answered { number, took, answer, checks }) = self.answers.pop() {
            self.took[(number % REMEMBERED as u64) as usize] = took;
            if self.under_way.take_if(|awaited| *awaited == number).is_some() {
                self.checks += checks;
                return Some(answer);
            }
        }
        let lost = gone && self.under_way.take().is_some();
        lost.then_some(Answer::Now(Err(Abstention::Failed)))
    }

    fn checks(&self) -> Checks {
        self.checks
    }
}

impl Drop for Threaded {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // One that panicked has nothing left to say.
            let _ = thread.join();
        }
    }
}
