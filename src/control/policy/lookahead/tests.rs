use std::sync::OnceLock;

use proptest::prelude::*;

use super::call::{Answer, Checks, Question};
use super::forecast::{Recent, Sliding};
use super::modelled::Modelled;
use super::plan::{Bins, Plan, Step, Verdict};
use super::threaded::Threaded;
use super::*;
use crate::telemetry::features::extract::Extractor;

const TICK: Span = Span::from_millis(4);

fn at(tick: u64) -> Instant {
    Instant::from_millis(4 * (tick + 1))
}

fn target(ms: u64) -> Knobs {
    Knobs { target: Span::from_millis(ms), ..Knobs::default() }
}

fn setup(arm: Arm) -> Setup {
    Setup { arm, tick: TICK, bin: 0.5, compared: Some(1), guard: GuardParams::default(), else_drafter: true }
}

/// How long a call takes: two ticks.
const CALL: Span = Span::from_millis(8);

/// A link whose windows are those of a queue with these levels at each tick.
#[derive(Clone)]
struct Link {
    window: TelemetryWindow,
}

impl Link {
    fn new() -> Self {
        let mut window = TelemetryWindow::quiet(0, at(0));
        (window.span, window.capacity_bits) = (TICK, 0);
        Self { window }
    }

    /// The window of `tick` with this p' and this many packets in C, each with this delay.
    fn next(&mut self, tick: u64, p: f64, packets: u64, delay_ms: u64) -> TelemetryWindow {
        let w = &mut self.window;
        (w.id, w.end) = (tick, at(tick));
        w.capacity_bits += 160_000;
        w.egress.p.base = p;
        let c = &mut w.egress.queues[1];
        for tally in [&mut c.arrived, &mut c.presented, &mut c.forwarded] {
            tally.packets += packets;
            tally.bytes += 1500 * packets;
        }
        c.delay_sum_ns += packets * delay_ms * 1_000_000;
        c.delay_max = Span::from_millis(delay_ms);
        w.egress.head_delay[1] = Span::from_millis(delay_ms);
        *w
    }
}

/// A chooser that is a function.
#[derive(Clone)]
struct By<F>(F);

/// Wants this target whatever it sees.
fn always(ms: u64) -> By<impl FnMut(&[f32], &Knobs) -> Said + Clone + Send> {
    By(move |_: &[f32], _: &Knobs| Ok(target(ms)))
}

/// Wants nothing whatever it sees.
fn never() -> By<impl FnMut(&[f32], &Knobs) -> Said + Clone + Send> {
    By(|_: &[f32], _: &Knobs| Err(Abstention::Unfamiliar))
}

impl<F: FnMut(&[f32], &Knobs) -> Said + Send> Chooser for By<F> {
    fn choose(&mut self, features: &[f32], last: &Knobs) -> Said {
        (self.0)(features, last)
    }
}

/// A policy behind a guard, as in a simulation without latency.
struct Run<D, V> {
    policy: LookAhead<D, V>,
    guard: Guard,
}

impl<D: Chooser + Clone, V: Chooser> Run<D, Modelled<D, V>> {
    fn new(drafter: D, verifier: V, setup: Setup, call: Span) -> Self {
        Self::with(drafter.clone(), Modelled::new(drafter, verifier, call), setup)
    }
}

impl<D: Chooser, V: Verifier> Run<D, V> {
    fn with(drafter: D, verifier: V, setup: Setup) -> Self {
        Self {
            policy: LookAhead::new(drafter, verifier, setup, &Schema::embedded()),
            guard: Guard::new(GuardParams::default(), Knobs::default(), Instant::ZERO),
        }
    }

    /// What is in force as the window ends, and what is said then.
    fn tick(&mut self, window: &TelemetryWindow) -> (Knobs, Said) {
        let in_force = self.guard.in_force();
        let _ = self.guard.step(None, window.end);
        let said = self.policy.decide(window, &in_force);
        let decision = said.ok().map(|knobs| Decision { based_on: window.id, window_end: window.end, knobs });
        let _ = self.guard.step(decision.as_ref(), window.end);
        (in_force, said)
    }
}

/// The number of the bin of p' and the value itself, which choosers of tests go by.
fn p_of(features: &[f32]) -> f32 {
    static PLACE: OnceLock<usize> = OnceLock::new();
    let place = || Schema::embedded().names().iter().position(|n| n == "p_base.mean_0.064s").unwrap();
    features[*PLACE.get_or_init(place)]
}

#[test]
fn what_is_foreseen_is_in_the_schema() {
    assert_eq!(places(&Schema::embedded()).len(), FORESEEN.len());
}

fn step(bin: i32, ms: u64, verified: bool) -> Step {
    let expected = Seen { bins: vec![bin], in_force: Knobs::default() };
    Step { expected, said: Ok(target(ms)), verified }
}

fn seen(bin: i32) -> Seen {
    Seen { bins: vec![bin], in_force: Knobs::default() }
}

/// Begun at tick 0, for ticks 1 to 4, verified from 2 on.
fn plan() -> Plan {
    let steps = vec![step(7, 15, false), step(7, 10, true), step(8, 9, true), step(8, 8, true)];
    Plan::new(at(0), TICK, steps)
}

#[test]
fn a_plan_is_followed_to_its_end_and_not_beyond() {
    let mut plan = plan();
    assert_eq!(plan.ends(), at(4));
    assert_eq!(plan.follow(at(1), &seen(7)), Verdict::NotYet);
    for (tick, bin, ms) in [(2, 7, 10), (3, 8, 9), (4, 8, 8)] {
        assert_eq!(plan.follow(at(tick), &seen(bin)), Verdict::Verified(Ok(target(ms))));
    }
    assert_eq!(plan.follow(at(5), &seen(8)), Verdict::Over);
    let late = at(4) + Span::from_micros(1_999);
    assert!(matches!(plan.follow(late, &seen(8)), Verdict::Verified(_)), "the tick of that time");
    assert_eq!(plan.follow(at(4) + Span::from_millis(2), &seen(8)), Verdict::Over);
}

#[test]
fn after_a_miss_the_rest_is_void() {
    let others =
        [Seen { bins: vec![8], in_force: Knobs::default() }, Seen { bins: vec![7], in_force: target(14) }];
    for other in others {
        for wrong in 1..=3 {
            let mut plan = plan();
            for tick in 1..=4 {
                let expected = seen(if tick < 3 { 7 } else { 8 });
                let is = if tick == wrong {
                    if expected == other { seen(9) } else { other.clone() }
                } else {
                    expected
                };
                let void = plan.follow(at(tick), &is) == Verdict::Void;
                assert_eq!(void, tick >= wrong, "tick {tick}, miss at {wrong}");
            }
            assert_eq!(plan.action_at(at(4)), None);
        }
    }
}

#[test]
fn a_tick_that_was_missed_or_another_action_is_a_miss() {
    let mut gap = plan();
    assert_eq!(gap.follow(at(2), &seen(7)), Verdict::Void, "nobody saw tick 1");
    let mut twice = plan();
    for now in [at(1), at(1) + Span::from_micros(500), at(2)] {
        assert_ne!(twice.follow(now, &seen(7)), Verdict::Void);
    }
    let mut other = plan();
    assert_eq!(other.follow(at(1), &seen(7)), Verdict::NotYet);
    other.went_out(at(1), Ok(target(14)));
    assert_eq!(other.follow(at(2), &seen(7)), Verdict::Void);
}

/// Four ticks are a step: at the last of each the vector is that of windows of 16 ms.
#[test]
fn a_sliding_window_is_as_long_as_those_that_models_were_trained_on() {
    let schema = Schema::embedded();
    let (mut sliding, mut plain) = (Sliding::new(&schema, TICK), Extractor::new(&schema));
    let (mut link, mut rng) = (Link::new(), fastrand::Rng::with_seed(1));
    let mut longest = Vec::new();
    let mut vectors = [vec![0.0; schema.width()], vec![0.0; schema.width()]];
    for tick in 0..200 {
        let window = link.next(tick, rng.f64() * 0.1, rng.u64(0..20), rng.u64(0..30));
        sliding.push(&window, &Knobs::default());
        longest.push(window.egress.queues[1].delay_max);
        if tick % 4 == 3 {
            let mut whole = TelemetryWindow { id: tick / 4, span: Span::from_millis(16), ..window };
            whole.egress.queues[1].delay_max = *longest.iter().max().unwrap();
            longest.clear();
            plain.push(&whole, &Knobs::default());
            sliding.write(&mut vectors[0]);
            plain.write(&mut vectors[1]);
            assert_eq!(vectors[0], vectors[1], "tick {tick}");
        }
    }
}

/// Eight packets a tick at 10 ms and p' of .02: what is foreseen of that is what comes, and after a change it is not.
#[test]
fn a_forecast_is_right_where_rates_and_levels_stay() {
    let schema = Schema::embedded();
    let (mut sliding, mut recent) = (Sliding::new(&schema, TICK), Recent::new(TICK));
    let mut link = Link::new();
    let mut vectors = [vec![0.0; schema.width()], vec![0.0; schema.width()]];
    let mut push = |sliding: &mut Sliding, tick, packets| {
        let window = link.next(tick, 0.02, packets, 10);
        sliding.push(&window, &Knobs::default());
        window
    };
    for tick in 0..100 {
        recent.push(&push(&mut sliding, tick, 8));
    }
    let mut forecast = recent.forecast(&sliding).unwrap();
    for tick in 100..140 {
        push(&mut sliding, tick, if tick < 120 { 8 } else { 16 });
        sliding.write(&mut vectors[0]);
        forecast.next(&Knobs::default(), &mut vectors[1]);
        let differ = vectors[0].iter().zip(&vectors[1]).filter(|(a, b)| (**a - **b).abs() > 1e-4).count();
        assert_eq!(differ > 0, tick >= 120, "tick {tick}: {differ}");
    }
}

/// The verifier says what p' is; p' changes at each tick. A call takes two ticks: begun at 0 it is over at 2, where the next
/// begins. Its answer is held for two ticks.
#[test]
fn the_verifier_at_its_own_pace_is_late_and_held_and_at_once_is_not() {
    let schema = Schema::embedded();
    let place = schema.names().iter().position(|n| n == "p_base").unwrap();
    let said = |arm| {
        let says = move |f: &[f32], _: &Knobs| Ok(target((f[place] * 10.0).round() as u64));
        let mut run = Run::new(always(25), By(says), setup(arm), CALL);
        let mut link = Link::new();
        // ln(1 + p / .02) = tick / 10.
        let p = |tick: u64| 0.02 * (tick as f64 / 10.0).exp_m1();
        let said: Vec<u64> = (0..10)
            .map(|tick| run.tick(&link.next(tick, p(tick), 8, 10)).1.unwrap().target.as_nanos() / 1_000_000)
            .collect();
        (said, run.policy.counts().calls)
    };
    assert_eq!(said(Arm::Held), (vec![25, 25, 0, 0, 2, 2, 4, 4, 6, 6], 5));
    assert_eq!(said(Arm::Instant), ((0..10).collect(), 10));
    assert_eq!(said(Arm::Drafter), (vec![25; 10], 0));
}

/// Both agree and nothing changes but the parameters in force, which slew to 5 ms: they are foreseen as well. The first call
/// begins with the second window, tick 1, and is over at 3; it sees up to 9. The next begins three ticks before that, at 6,
/// and so on each five ticks: verified from 3 on, 20 calls in 100 ticks.
#[test]
fn where_all_is_foreseen_each_tick_is_verified() {
    let mut run = Run::new(always(5), always(5), setup(Arm::Speculative), CALL);
    let mut link = Link::new();
    for tick in 0..100 {
        let _ = run.tick(&link.next(tick, 0.02, 8, 10));
    }
    assert_eq!(run.guard.in_force().target, Span::from_millis(5));
    let counts = run.policy.counts();
    assert_eq!((counts.ticks, counts.verified, counts.calls, counts.voided), (100, 97, 20, 0));
    assert_eq!(
        (counts.checked, counts.accepted),
        (20 * 7, 20 * 7),
        "the first tick of eight is over before the verdict"
    );
    assert_eq!((counts.compared, counts.diverged), ([100, 97], [0, 0]));
}

/// They never agree: a plan ends with the first tick that is checked, 3, and what the verifier wants then goes out. The
/// next call begins there: each second tick is verified.
#[test]
fn a_plan_ends_with_the_first_draft_that_is_refused() {
    let mut run = Run::new(always(15), always(14), setup(Arm::Speculative), CALL);
    let mut link = Link::new();
    let said: Vec<Said> = (0..100).map(|tick| run.tick(&link.next(tick, 0.02, 8, 10)).1).collect();
    for (tick, said) in said.iter().enumerate() {
        let verified = tick >= 3 && tick % 2 == 1;
        assert_eq!(*said, Ok(target(if verified { 14 } else { 15 })), "tick {tick}");
    }
    let counts = run.policy.counts();
    assert_eq!((counts.verified, counts.calls, counts.checked, counts.accepted), (49, 50, 50, 0));
    assert_eq!((counts.compared, counts.diverged), ([100, 49], [51, 0]));
}

/// p' leaves its bin at tick 50: the plan in force is void, and so is none after it, since what comes then is foreseen.
#[test]
fn a_change_costs_the_plan_that_did_not_foresee_it() {
    let wants = || By(|f: &[f32], _: &Knobs| Ok(target(if p_of(f) < 1.0 { 15 } else { 5 })));
    let mut run = Run::new(wants(), wants(), setup(Arm::Speculative), CALL);
    let mut link = Link::new();
    let mut verified = Vec::new();
    for tick in 0..200 {
        let before = run.policy.counts().verified;
        let _ = run.tick(&link.next(tick, if tick < 50 { 0.02 } else { 0.2 }, 8, 10));
        verified.push(run.policy.counts().verified > before);
    }
    let counts = run.policy.counts();
    assert!((1..=8).contains(&counts.voided), "{counts:?}");
    assert!(!verified[50..56].iter().all(|v| *v) && verified[100..].iter().all(|v| *v));
}

/// A verifier that is expected to take so many ticks for a call and takes others; the call with number `last` is the last that it
/// answers.
struct Takes<D, V> {
    asks: Modelled<D, V>,
    expected: Span,
    asked: u64,
    last: u64,
}

impl<D: Chooser + Clone, V: Chooser> Run<D, Takes<D, V>> {
    fn taking(drafter: D, verifier: V, arm: Arm, [expected, really]: [u64; 2], last: u64) -> Self {
        let ticks = |n| Span::from_millis(4 * n);
        let asks = Modelled::new(drafter.clone(), verifier, ticks(really));
        let verifier = Takes { asks, expected: ticks(expected), asked: 0, last };
        Self::with(drafter, verifier, Setup { compared: None, ..setup(arm) })
    }
}

impl<D: Chooser, V: Chooser> Verifier for Takes<D, V> {
    fn begin(&mut self) {
        self.asks.begin();
    }

    fn ready(&self, now: Instant) -> Instant {
        now + self.expected
    }

    fn ask(&mut self, now: Instant, question: Question) -> bool {
        self.asked += 1;
        self.asked > self.last || self.asks.ask(now, question)
    }

    fn answer(&mut self, now: Instant) -> Option<Answer> {
        self.asks.answer(now)
    }

    fn checks(&self) -> Checks {
        self.asks.checks()
    }
}

/// Ticks of a link on which nothing happens, and after which of them a verified action went out.
fn verified_ticks<D: Chooser, V: Verifier>(
    run: &mut Run<D, V>,
    ticks: u64,
    p: impl Fn(u64) -> f64,
) -> Vec<u64> {
    let mut link = Link::new();
    let is_verified = |tick: &u64| {
        let before = run.policy.counts().verified;
        let _ = run.tick(&link.next(*tick, p(*tick), 8, 10));
        run.policy.counts().verified > before
    };
    (0..ticks).filter(is_verified).collect()
}

/// As in [`where_all_is_foreseen_each_tick_is_verified`], but the answer to the call of tick 1 comes after four ticks, at 5; it
/// is about ticks up to 9, so that the next call begins at 6 all the same, is answered at 10 and sees up to 14, and so on.
/// What was seen until then was as foreseen.
#[test]
fn an_answer_that_comes_late_is_held_against_all_that_was_seen_since_it_was_asked_for() {
    let mut run = Run::taking(always(5), always(5), Arm::Speculative, [2, 4], u64::MAX);
    assert_eq!(verified_ticks(&mut run, 100, |_| 0.02), (5..100).collect::<Vec<_>>());
    let counts = run.policy.counts();
    assert_eq!((counts.calls, counts.voided, counts.compared), (20, 0, [0, 0]));
}

/// p' leaves its bin at tick 3 and is back at tick 4: what comes at tick 5 is about a link on which that did not happen.
#[test]
fn a_late_answer_about_what_did_not_happen_is_void() {
    let mut run = Run::taking(always(15), always(15), Arm::Speculative, [2, 4], 1);
    assert_eq!(verified_ticks(&mut run, 20, |tick| if tick == 3 { 0.2 } else { 0.02 }), [0; 0]);
    assert_eq!(run.policy.counts().voided, 1);
}

/// Expected after four ticks, there after two: the call of tick 1 is about 5 to 9, and at 5 the next begins, so that there are 25
/// calls in 100 ticks.
#[test]
fn an_answer_that_comes_early_waits_for_its_ticks() {
    let mut run = Run::taking(always(5), always(5), Arm::Speculative, [4, 2], u64::MAX);
    assert_eq!(verified_ticks(&mut run, 100, |_| 0.02), (5..100).collect::<Vec<_>>());
    assert_eq!((run.policy.counts().calls, run.policy.counts().voided), (25, 0));
}

/// The second call, of tick 6, is never answered: the first one's plan is followed up to tick 9, and from then on the drafter
/// decides at each tick, without a third call.
#[test]
fn a_verifier_that_stops_costs_its_plans_and_no_decision() {
    let mut run = Run::taking(always(5), always(5), Arm::Speculative, [2, 2], 1);
    assert_eq!(verified_ticks(&mut run, 3_000, |_| 0.02), (3..=9).collect::<Vec<_>>());
    assert_eq!(run.policy.counts().calls, 2);
    assert!(run.policy.call.unwrap().since.len() <= 10, "what is remembered of a call has an end");
    assert_eq!(run.guard.counters().admitted, 3_000);
}

/// Answered after two ticks, at 2; the next call, of tick 2, never is. The answer is held for 2 s, 500 ticks, after it was asked.
#[test]
fn an_answer_is_not_held_for_ever() {
    let mut run = Run::taking(always(25), always(5), Arm::Held, [2, 2], 1);
    let mut link = Link::new();
    for tick in 0..1_000 {
        let said = run.tick(&link.next(tick, 0.02, 8, 10)).1;
        assert_eq!(said, Ok(target(if (2..=502).contains(&tick) { 5 } else { 25 })), "tick {tick}");
    }
}

/// Each call ends at the first draft, with nothing: the next begins when it is over, each second tick from 1 on.
#[test]
fn where_the_verifier_wants_nothing_the_drafter_decides() {
    for arm in [Arm::Speculative, Arm::Held] {
        let mut run = Run::new(always(5), never(), setup(arm), CALL);
        let mut link = Link::new();
        for tick in 0..100 {
            assert_eq!(run.tick(&link.next(tick, 0.02, 8, 10)).1, Ok(target(5)), "{arm:?}, tick {tick}");
        }
        let counts = run.policy.counts();
        assert_eq!((counts.verified, counts.accepted, counts.calls), (0, 0, 50), "{arm:?}");
    }
    // As with one model: from the first answer on nobody decides.
    let as_one = Setup { else_drafter: false, ..setup(Arm::Held) };
    let (mut run, mut link) = (Run::new(always(5), never(), as_one, CALL), Link::new());
    let said: Vec<Said> = (0..4).map(|tick| run.tick(&link.next(tick, 0.02, 8, 10)).1).collect();
    let nothing = Err(Abstention::Unfamiliar);
    assert_eq!(said, [Ok(target(5)), Ok(target(5)), nothing, nothing]);
}

/// And where the drafter wants nothing, nothing goes out, as with one model; the verifier's plans do.
#[test]
fn where_the_drafter_wants_nothing_only_what_is_verified_goes_out() {
    let mut run = Run::new(never(), always(5), setup(Arm::Speculative), CALL);
    let verified = verified_ticks(&mut run, 100, |_| 0.02);
    assert_eq!((verified.len(), run.guard.counters().admitted), (49, 49), "each second from 3 on");
}

mod on_a_thread {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::control::worker::Stage;

    /// A clock that stands still between ticks.
    #[derive(Clone, Default)]
    struct Hand(Arc<AtomicU64>);

    impl Hand {
        fn set(&self, at: Instant) {
            self.0.store(at.as_nanos(), Ordering::SeqCst);
        }

        fn ahead(&self, by: Span) {
            self.0.fetch_add(by.as_nanos(), Ordering::SeqCst);
        }

        fn now(&self) -> Instant {
            Instant::from_nanos(self.0.load(Ordering::SeqCst))
        }
    }

    fn spawn<D: Chooser + 'static, V: Chooser + 'static>(drafter: D, verifier: V, hand: &Hand) -> Threaded {
        let hand = hand.clone();
        Threaded::spawn(move || Some((drafter, verifier)), 0.0, move || hand.now()).unwrap()
    }

    fn until(what: &str, mut there: impl FnMut() -> bool) {
        let waited = (0..5_000).any(|_| {
            thread::sleep(Duration::from_millis(1));
            there()
        });
        assert!(waited, "not within 5 s: {what}");
    }

    fn decides(threaded: &Threaded) {
        let worker = threaded.worker();
        until("it is made", || worker.stage() != Stage::Loading);
    }

    /// A tick on a link on which nothing happens.
    fn tick<D: Chooser, V: Verifier>(run: &mut Run<D, V>, link: &mut Link, hand: &Hand, n: u64) -> Said {
        hand.set(at(n));
        run.tick(&link.next(n, 0.02, 8, 10)).1
    }

    fn question() -> Question {
        Question::Now(vec![0.0; Schema::embedded().width()], Knobs::default())
    }

    /// Asks at `now` and waits for what is said.
    fn said(threaded: &mut Threaded, now: Instant) -> Said {
        assert!(threaded.ask(now, question()));
        let mut answer = None;
        until("an answer", || {
            answer = threaded.answer(now);
            answer.is_some()
        });
        match answer {
            Some(Answer::Now(said)) => said,
            other => panic!("{other:?}"),
        }
    }

    /// Calls of 10, 3, 3, ... ms: the first one is remembered for as long as there are not eight after it. One of an hour is
    /// taken for one of 32 ms.
    #[test]
    fn a_call_is_expected_to_take_as_long_as_the_longest_of_the_last_eight() {
        let hand = Hand::default();
        let (of_thread, mut calls) = (hand.clone(), 0);
        let verifier = By(move |_: &[f32], _: &Knobs| {
            calls += 1;
            of_thread.ahead(Span::from_millis(if calls == 1 {
                10
            } else if calls < 10 {
                3
            } else {
                3_600_000
            }));
            Ok(target(5))
        });
        let mut threaded = spawn(always(5), verifier, &hand);
        decides(&threaded);
        let mut expected = Vec::new();
        for n in 0..10 {
            let now = Instant::from_millis(1000 * n);
            hand.set(now);
            expected.push(threaded.ready(now).since(now).as_nanos() / 1_000_000);
            assert_eq!(said(&mut threaded, now), Ok(target(5)));
        }
        assert_eq!(expected, [0, 10, 10, 10, 10, 10, 10, 10, 10, 3]);
        assert_eq!(threaded.ready(Instant::ZERO), Instant::from_millis(32));
        assert_eq!(threaded.worker().took().len(), 10);
    }

    /// The verifier waits for a word before each answer. Until it has it the drafter decides at each tick and there is one call; then
    /// its plan, which is about ticks that are over, is no plan any more; and the next one is followed.
    #[test]
    fn a_slow_verifier_keeps_nobody_waiting() {
        let hand = Hand::default();
        let (word, waits) = mpsc::channel::<()>();
        let verifier = By(move |_: &[f32], _: &Knobs| {
            let _ = waits.recv();
            Ok(target(5))
        });
        let threaded = spawn(always(5), verifier, &hand);
        decides(&threaded);
        let worker = threaded.worker();
        let mut run = Run::with(always(5), threaded, Setup { compared: None, ..setup(Arm::Speculative) });
        let mut link = Link::new();
        for n in 0..100 {
            assert_eq!(tick(&mut run, &mut link, &hand, n), Ok(target(5)));
        }
        let counts = run.policy.counts();
        assert_eq!((counts.verified, counts.calls, run.guard.counters().admitted), (0, 1, 100));
        drop(word);
        until("the first call is over", || worker.took().len() == 1);
        assert_eq!(tick(&mut run, &mut link, &hand, 100), Ok(target(5)));
        assert_eq!((run.policy.counts().verified, run.policy.counts().voided), (0, 0));
        for n in 101..200 {
            assert_eq!(tick(&mut run, &mut link, &hand, n), Ok(target(5)));
            thread::sleep(Duration::from_millis(1));
        }
        assert!(run.policy.counts().verified > 0, "{:?}", run.policy.counts());
    }

    /// The second call is its end: that is seen, and nobody is asked any more.
    #[test]
    fn a_verifier_that_panics_is_asked_no_more() {
        for arm in [Arm::Speculative, Arm::Held] {
            let hand = Hand::default();
            let mut calls = 0;
            let verifier = By(move |_: &[f32], _: &Knobs| {
                calls += 1;
                assert!(calls < 2, "this verifier panics, as its test wants it to");
                Ok(target(5))
            });
            let threaded = spawn(always(25), verifier, &hand);
            decides(&threaded);
            let worker = threaded.worker();
            let mut run = Run::with(always(25), threaded, Setup { compared: None, ..setup(arm) });
            let mut link = Link::new();
            let mut n = 0;
            until("it is gone", || {
                n += 1;
                tick(&mut run, &mut link, &hand, n - 1).is_ok() && worker.stage() == Stage::Failed
            });
            thread::sleep(Duration::from_millis(5));
            // What it said before its end may still come.
            let _ = tick(&mut run, &mut link, &hand, n);
            let calls = run.policy.counts().calls;
            for n in n + 1..n + 1_000 {
                assert_eq!(tick(&mut run, &mut link, &hand, n), Ok(target(25)), "{arm:?}");
            }
            assert_eq!(run.policy.counts().calls, calls, "{arm:?}");
        }
    }

    /// As a model that cannot be loaded; and while it is being loaded it is not asked.
    #[test]
    fn a_verifier_that_is_not_there_is_not_asked() {
        let (word, waits) = mpsc::channel::<()>();
        let make = move || {
            let _ = waits.recv();
            None::<(By<fn(&[f32], &Knobs) -> Said>, By<fn(&[f32], &Knobs) -> Said>)>
        };
        let mut threaded = Threaded::spawn(make, 0.0, || Instant::ZERO).unwrap();
        assert!(!threaded.ask(Instant::ZERO, question()));
        drop(word);
        let worker = threaded.worker();
        until("it has failed", || worker.stage() == Stage::Failed);
        assert!(!threaded.ask(Instant::ZERO, question()) && threaded.answer(Instant::ZERO).is_none());
    }

    #[test]
    fn what_was_asked_of_another_link_is_not_heard() {
        let hand = Hand::default();
        let mut threaded = spawn(always(5), always(5), &hand);
        decides(&threaded);
        assert!(threaded.ask(Instant::ZERO, question()));
        let worker = threaded.worker();
        threaded.begin();
        until("the call is over", || worker.took().len() == 1);
        thread::sleep(Duration::from_millis(5));
        assert!(threaded.answer(Instant::ZERO).is_none());
        assert_eq!(said(&mut threaded, Instant::ZERO), Ok(target(5)));
    }
}

/// A number that depends on bins and on what was wanted last.
fn mix(seen: &Seen, last: &Knobs, salt: u64) -> u64 {
    let numbers = seen.bins.iter().map(|b| u64::from(b.cast_unsigned()));
    let all = numbers.chain([last.target.as_nanos(), salt]);
    all.fold(0xcbf2_9ce4_8422_2325, |h, n| (h ^ n).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// The verifier goes by bins and by what was wanted last; the drafter by more than bins, so that it does not always do
    /// what was drafted, and mostly as the verifier. Then what goes out as verified is what the verifier says of what was
    /// really seen, and all that goes out differs from that at most where there was no verdict.
    #[test]
    fn what_goes_out_as_verified_is_the_verifiers(
        seed: u64,
        calm in 0.5..1.0f64,
        call_ms in 1..40u64,
        agree in 0..6u64,
    ) {
        let schema = Schema::embedded();
        let bins = Bins::new(places(&schema), 0.5);
        let verifier_says = {
            let bins = bins.clone();
            move |f: &[f32], last: &Knobs| {
                Ok(target(5 + mix(&bins.of(f, &Knobs::default()), last, 1) % 4))
            }
        };
        let says = verifier_says.clone();
        let drafter = move |f: &[f32], last: &Knobs| {
            let fine = (p_of(f) * 1e4) as u64 % 8;
            if fine < agree { Ok(target(6)) } else { says(f, last) }
        };
        let call = Span::from_millis(call_ms);
        let mut run = Run::new(By(drafter), By(verifier_says.clone()), setup(Arm::Speculative), call);
        let (mut link, mut rng) = (Link::new(), fastrand::Rng::with_seed(seed));
        let (mut p, mut packets, mut delay) = (0.02, 8, 10);
        let (mut sliding, mut features) = (Sliding::new(&schema, TICK), vec![0.0; schema.width()]);
        let mut last = Knobs::default();
        let (mut diverged, mut verified) = (0, 0);
        for tick in 0..300 {
            if rng.f64() > calm.powf(0.2) {
                (p, packets, delay) = (rng.f64() * 0.2, rng.u64(0..20), rng.u64(0..40));
            }
            p *= 1.0 + 0.001 * rng.f64();
            let window = link.next(tick, p, packets, delay);
            let before = run.policy.counts().verified;
            let (in_force, said) = run.tick(&window);
            sliding.push(&window, &in_force);
            sliding.write(&mut features);
            let wanted = verifier_says(&features, &last);
            if run.policy.counts().verified > before {
                verified += 1;
                prop_assert_eq!(said, wanted, "tick {}", tick);
            }
            diverged += u64::from(said != wanted);
            last = said.unwrap();
        }
        let counts = run.policy.counts();
        prop_assert!(diverged <= counts.ticks - counts.verified);
        prop_assert_eq!((counts.diverged, counts.verified), ([diverged, 0], verified));
    }
}
