//! Many runs at once under one policy that answers for all of them in one go: what a model on an accelerator needs.
//!
//! Each run has a thread. A run that has a question waits; when no run is at work any more, all questions go to the policy
//! in one call, in the order of the runs. So each call has a question of every run that has begun and not ended, and neither
//! calls nor records depend on how threads are scheduled. The policy is called on the caller's thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::{error, fmt, io, thread};

use super::cell::{CellInfo, CellRecord};
use super::simulate::{SimulateError, simulate_guarded};
use crate::aqm::params::Knobs;
use crate::control::policy::Abstention;
use crate::control::policy::asked::{self, Asked};
use crate::sim::Scenario;
use crate::sim::run::WindowSink;
use crate::telemetry::TelemetryWindow;
use crate::telemetry::features::schema::Schema;
use crate::time::{Instant, Span};

/// A run to be made.
#[derive(Copy, Clone, Debug)]
pub struct Run<'a> {
    /// The link.
    pub cell: &'a CellInfo,
    /// The same in full.
    pub scenario: &'a Scenario,
    /// The seed.
    pub seed: u64,
}

/// What a run asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Which run, by its place among all.
    pub run: usize,
    /// Time since its beginning.
    pub at: Instant,
    /// The feature vector.
    pub features: Vec<f32>,
    /// The candidate that it was told last, 0 at first.
    pub current: usize,
}

/// A candidate, or none: then nothing is asked of the guard until the next question.
pub type Answer = Option<usize>;

/// Why not all runs were made.
#[derive(Debug)]
pub enum BatchError<E> {
    /// The policy could not answer.
    Policy(E),
    /// It gave so many answers to so many questions.
    Count(usize, usize),
    /// It named a candidate that there is not.
    NoCandidate(usize),
    /// A run failed.
    Unit {
        /// Which.
        unit: String,
        /// Why.
        error: SimulateError,
    },
    /// There is no thread for a run.
    Thread(io::Error),
    /// A run's thread panicked.
    Panic,
}

impl<E: fmt::Display> fmt::Display for BatchError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(e) => e.fmt(f),
            Self::Count(answers, questions) => write!(f, "{answers} answers to {questions} questions"),
            Self::NoCandidate(n) => write!(f, "there is no candidate {n}"),
            Self::Unit { unit, error } => write!(f, "{unit}: {error}"),
            Self::Thread(e) => write!(f, "no thread for another run: {e}; ask for fewer at once"),
            Self::Panic => f.write_str("a run panicked; this is a fault of l4sd"),
        }
    }
}

impl<E: error::Error> error::Error for BatchError<E> {}

/// Boxed, since it is much larger than a question.
type Outcome = Box<Result<CellRecord, SimulateError>>;

/// What a run's thread has to say.
enum Event {
    Asks(Question),
    /// Without an outcome if its thread panicked.
    Ended(usize, Option<Outcome>),
}

/// Ends a run early when nobody wants it any more.
struct Until<'a>(&'a AtomicBool);

impl WindowSink for Until<'_> {
    fn window(&mut self, _: &TelemetryWindow, _: &Knobs) {}

    fn goes_on(&self) -> bool {
        !self.0.load(Ordering::Acquire)
    }
}

/// Says that a run has ended, however it did.
struct Seat {
    run: usize,
    events: mpsc::Sender<Event>,
    outcome: Option<Outcome>,
}

impl Seat {
    fn leave(mut self, outcome: Result<CellRecord, SimulateError>) {
        self.outcome = Some(Box::new(outcome));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Nobody listens any more after a failure.
        let _ = self.events.send(Event::Ended(self.run, self.outcome.take()));
    }
}

/// Makes `runs` under the policy `choose`, which results call `name`, with `at_once` of them under way, and returns their
/// records in order. Each asks every `period`, at its first window for the first time, which of `candidates` it is to use,
/// the first of which is in force until then.
///
/// # Errors
/// After a failure all runs are given up.
pub fn run<E>(
    runs: &[Run<'_>],
    name: &str,
    candidates: &[Knobs],
    period: Span,
    at_once: usize,
    mut choose: impl FnMut(&[Question]) -> Result<Vec<Answer>, E>,
) -> Result<Vec<CellRecord>, BatchError<E>> {
    let schema = Schema::embedded();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (events, heard) = mpsc::channel();
        let start = |run: usize| {
            let (answer, answers) = mpsc::channel();
            let seat = Seat { run, events: events.clone(), outcome: None };
            let ask = asking(run, events.clone(), answers);
            let policy = Asked::new(ask, candidates.to_vec(), period, &schema);
            let Run { cell, scenario, seed } = runs[run];
            let over = &over;
            let body = move || {
                let made = simulate_guarded(cell, scenario, (name, Box::new(policy)), seed, &mut Until(over));
                seat.leave(made);
            };
            thread::Builder::new().spawn_scoped(scope, body).map(|_| answer)
        };
        let mut desk = Desk { waiting: Vec::new(), answers: runs.iter().map(|_| None).collect() };
        let outcome = desk.serve(runs, candidates.len(), at_once, &heard, start, &mut choose);
        // Those that are at work see it at their next window, those that wait hear that there is no answer.
        over.store(outcome.is_err(), Ordering::Release);
        drop(desk);
        outcome
    })
}

/// What a run's policy asks: it waits for the answer.
fn asking(
    run: usize,
    events: mpsc::Sender<Event>,
    answers: mpsc::Receiver<Answer>,
) -> impl FnMut(asked::Question<'_>) -> Result<usize, Abstention> + Send {
    move |q| {
        let question = Question { run, at: q.at, features: q.features.to_vec(), current: q.current };
        events.send(Event::Asks(question)).map_err(|_| Abstention::Failed)?;
        answers.recv().map_err(|_| Abstention::Failed)?.ok_or(Abstention::Silent)
    }
}

/// Where questions are gathered.
struct Desk {
    waiting: Vec<Question>,
    /// Of each run under way, where its answers go.
    answers: Vec<Option<mpsc::Sender<Answer>>>,
}

impl Desk {
    fn serve<E>(
        &mut self,
        runs: &[Run<'_>],
        candidates: usize,
        at_once: usize,
        heard: &mpsc::Receiver<Event>,
        start: impl Fn(usize) -> io::Result<mpsc::Sender<Answer>>,
        choose: &mut impl FnMut(&[Question]) -> Result<Vec<Answer>, E>,
    ) -> Result<Vec<CellRecord>, BatchError<E>> {
        let mut records: Vec<Option<CellRecord>> = runs.iter().map(|_| None).collect();
        let (mut begun, mut at_work) = (0, 0);
        while begun < runs.len().min(at_once.max(1)) {
            self.answers[begun] = Some(start(begun).map_err(BatchError::Thread)?);
            (begun, at_work) = (begun + 1, at_work + 1);
        }
        while at_work > 0 {
            match heard.recv().map_err(|_| BatchError::Panic)? {
                Event::Asks(question) => self.waiting.push(question),
                Event::Ended(run, outcome) => {
                    self.answers[run] = None;
                    let unit = || {
                        let Run { cell, seed, .. } = runs[run];
                        format!("{} {}, seed {seed}", cell.grid, cell.name)
                    };
                    let record = *outcome.ok_or(BatchError::Panic)?;
                    records[run] = Some(record.map_err(|error| BatchError::Unit { unit: unit(), error })?);
                    if begun < runs.len() {
                        self.answers[begun] = Some(start(begun).map_err(BatchError::Thread)?);
                        (begun, at_work) = (begun + 1, at_work + 1);
                    }
                }
            }
            at_work -= 1;
            if at_work == 0 && !self.waiting.is_empty() {
                at_work = self.answer(candidates, choose)?;
            }
        }
        records.into_iter().collect::<Option<_>>().ok_or(BatchError::Panic)
    }

    /// Answers all that wait, and says how many there were.
    fn answer<E>(
        &mut self,
        candidates: usize,
        choose: &mut impl FnMut(&[Question]) -> Result<Vec<Answer>, E>,
    ) -> Result<usize, BatchError<E>> {
        let mut questions = std::mem::take(&mut self.waiting);
        questions.sort_unstable_by_key(|q| q.run);
        let answers = choose(&questions).map_err(BatchError::Policy)?;
        if answers.len() != questions.len() {
            return Err(BatchError::Count(answers.len(), questions.len()));
        }
        if let Some(none) = answers.iter().flatten().find(|&&n| n >= candidates) {
            return Err(BatchError::NoCandidate(*none));
        }
        for (question, answer) in questions.iter().zip(answers) {
            if let Some(run) = &self.answers[question.run] {
                // A run waits for its answer; it is not gone.
                let _ = run.send(answer);
            }
        }
        Ok(questions.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Policy;
    use crate::control::model::ModelFile;
    use crate::eval::audit::wrappers::Frozen;
    use crate::eval::oracle::candidate_knobs;
    use crate::eval::simulate::simulate;

    const PERIOD: Span = Span::from_millis(128);

    /// Links of 1, 2 and 1.5 s.
    fn links() -> Vec<(CellInfo, Scenario)> {
        let link = |(name, seconds): (&str, f64)| {
            let text = format!(
                "name = \"{name}\"\nduration = \"{seconds}s\"\n[link]\nrate = \"12Mbit\"\n[[flow]]\ncc = \"prague\"\n\
                 rtt = \"20ms\"\n[[flow]]\ncc = \"cubic\"\nrtt = \"20ms\"\n"
            );
            let info = CellInfo { grid: "g".into(), name: name.into(), ..CellInfo::default() };
            (info, Scenario::parse(&text, name).unwrap())
        };
        [("a", 1.0), ("b", 2.0), ("c", 1.5)].map(link).into()
    }

    fn runs(links: &[(CellInfo, Scenario)]) -> Vec<Run<'_>> {
        links.iter().map(|(cell, scenario)| Run { cell, scenario, seed: 1 }).collect()
    }

    fn record(run: &Run<'_>, policy: Box<dyn crate::control::policy::Policy>) -> CellRecord {
        simulate_guarded(run.cell, run.scenario, ("guest", policy), run.seed, &mut ()).unwrap()
    }

    /// At 16 ms and every 128 ms from then on: 8, 16 and 12 questions. With two at once the third link begins when the first
    /// has ended, after 8 calls, and asks in calls 9 to 20; the second has ended after 16.
    #[test]
    fn a_call_has_a_question_of_every_run_under_way() {
        let links = links();
        for (at_once, calls) in [(3, 16), (2, 20), (1, 36), (0, 36)] {
            let mut heard: Vec<Vec<(usize, u64)>> = Vec::new();
            run(&runs(&links), "guest", &candidate_knobs(), PERIOD, at_once, |questions| {
                heard.push(questions.iter().map(|q| (q.run, q.at.as_nanos() / 1_000_000)).collect());
                Ok::<_, ()>(vec![Some(0); questions.len()])
            })
            .unwrap();
            assert_eq!(heard.len(), calls, "{at_once} at once");
            let of = |run: usize| heard.iter().flatten().filter(move |q| q.0 == run).map(|q| q.1);
            for (run, n) in [(0, 8), (1, 16), (2, 12)] {
                assert_eq!(of(run).collect::<Vec<_>>(), (0..n).map(|i| 16 + 128 * i).collect::<Vec<_>>());
            }
            if at_once == 2 {
                let ids: Vec<Vec<_>> = heard.iter().map(|call| call.iter().map(|q| q.0).collect()).collect();
                assert!(ids[..8].iter().all(|ids| *ids == [0, 1]), "{ids:?}");
                assert!(ids[8..16].iter().all(|ids| *ids == [1, 2]), "{ids:?}");
                assert!(ids[16..].iter().all(|ids| *ids == [2]), "{ids:?}");
            }
        }
    }

    #[test]
    fn records_depend_on_the_answers_alone() {
        let links = links();
        let made = |at_once| {
            run(&runs(&links), "guest", &candidate_knobs(), PERIOD, at_once, |questions| {
                let answer =
                    |q: &Question| Some((q.at.as_nanos() / 100_000_000 + q.run as u64) as usize % 50);
                Ok::<_, ()>(questions.iter().map(answer).collect())
            })
            .unwrap()
        };
        let all = made(3);
        assert_eq!((made(1), made(2)), (all.clone(), all));
    }

    /// The default is what DualPI2 does, another setting what it does when it is held, and no opinion leaves the guard alone.
    #[test]
    fn answers_are_followed() {
        let links = links();
        let runs = runs(&links);
        let constant = |answer: Answer| {
            run(&runs, "guest", &candidate_knobs(), PERIOD, 3, |q| Ok::<_, ()>(vec![answer; q.len()]))
                .unwrap()
        };
        let plain = |r: &CellRecord| (r.delay_percentiles_ms.clone(), r.run.flows.clone(), r.run.queues);
        for (i, record) in constant(Some(0)).iter().enumerate() {
            let baseline = simulate(runs[i].cell, runs[i].scenario, &Policy::DualPi2, 1).unwrap();
            assert_eq!(plain(record), plain(&baseline));
            assert_eq!((&*record.policy, &*record.run.policy), ("guest", "guest"));
            // Until the first decision comes, which is one window of 63, 125 and 94.
            assert_eq!(record.run.fallback_share, Some(1.0 / [63.0, 125.0, 94.0][i]));
        }
        let other = constant(Some(6));
        for (run, record) in runs.iter().zip(&other) {
            assert_eq!(*record, self::record(run, Box::new(Frozen(candidate_knobs()[6]))));
        }
        assert_ne!(plain(&other[1]), plain(&constant(Some(0))[1]));
        assert!(constant(None).iter().all(|r| r.run.fallback_share == Some(1.0)));
    }

    /// At the third call, which is before any of the runs has ended; all threads are gone when the error is there.
    #[test]
    fn a_failure_ends_all_runs() {
        let links = links();
        let failing = |third: fn(usize) -> Result<Vec<Answer>, &'static str>| {
            let mut calls = 0;
            let outcome = run(&runs(&links), "guest", &candidate_knobs(), PERIOD, 3, |questions| {
                calls += 1;
                if calls < 3 { Ok(vec![Some(0); questions.len()]) } else { third(questions.len()) }
            });
            assert_eq!(calls, 3);
            outcome.unwrap_err().to_string()
        };
        assert_eq!(failing(|_| Err("out of memory")), "out of memory");
        assert_eq!(failing(|n| Ok(vec![None; n - 1])), "2 answers to 3 questions");
        assert_eq!(failing(|n| Ok(vec![Some(50); n])), "there is no candidate 50");
    }

    /// What it was not taught (models/train/wider.py) comes behind them.
    #[test]
    fn candidates_are_those_that_the_shipped_model_was_taught() {
        let model = ModelFile::open(None, &Schema::embedded(), None).unwrap();
        assert_eq!(model.card.notes["taught"], "50");
        assert_eq!(candidate_knobs(), model.card.candidates[..50]);
        assert_eq!(model.card.period, PERIOD);
    }
}
