//! One environment: a link, its twin, the guard, and one episode after the other.

use std::sync::Arc;

use super::link::Link;
use super::options::{EnvError, Plan};
use super::reward::Terms;
use super::trail::{Means, Trail};
use crate::aqm::params::Knobs;
use crate::control::Decision;
use crate::control::action::Action;
use crate::control::guard::{Guard, GuardParams};
use crate::telemetry::TelemetryWindow;
use crate::telemetry::features::Extractor;
use crate::time::{Instant, Span};

/// Columns of [`LinkEnv::write_info`]: name, and what it is.
pub const INFO: [(&str, &str); 29] = [
    ("time_s", "since the beginning of the episode"),
    ("scenario", "place of the episode's scenario in the list"),
    ("delay_l_ms", "mean queue delay of L over the trailing window; NaN if nothing passed"),
    ("delay_c_ms", "the same of C"),
    ("delay_l_ref_ms", "the same of the twin's L"),
    ("delay_c_ref_ms", "the same of the twin's C"),
    ("utilisation", "bits sent over bits that could have been, trailing window"),
    ("utilisation_ref", "the twin's"),
    (
        "log2_ratio",
        "log2 of an L4S flow's goodput over a Classic one's, trailing window; NaN unless there are both",
    ),
    ("log2_ratio_ref", "the twin's"),
    ("reward_delay", "first term of the reward"),
    ("cost_utilisation", "second term, before its factor"),
    ("cost_fairness", "third term, before its factor"),
    ("cost_moves", "moves of the slow knobs by one value, before its factor"),
    ("target_ms", "Classic target in force"),
    ("gain", "gain scale in force"),
    ("ramp_ms", "L ramp start in force"),
    ("p_base", "p'"),
    ("guard_clamped", "decisions of this episode that the guard clamped"),
    ("guard_rejected", "decisions of this episode that the guard rejected"),
    ("truth_capacity_mbps", "hidden: rate of the link now; the mean of one that sends by a trace"),
    ("truth_flows_l", "hidden: long responsive flows in L that are there"),
    ("truth_flows_c", "hidden: long responsive flows in C that are there"),
    ("truth_rtt_l_ms", "hidden: mean base round-trip time of those in L; 0 without flows"),
    ("truth_rtt_c_ms", "hidden: the same of C"),
    ("truth_short", "hidden: short responsive flows that are open"),
    ("truth_unresponsive", "hidden: unresponsive flows that are there"),
    ("truth_mix", "hidden: 0 no long flow, 1 in L only, 2 in C only, 3 in both"),
    ("decision", "control intervals since the reset"),
];

/// What a step came to.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The reward; 0 without a twin and after a reset.
    pub reward: f64,
    /// The time of the episode is over. Episodes end in no other way.
    pub truncated: bool,
}

/// A link and the trailing means of what it did.
#[derive(Clone, Debug)]
struct Tracked {
    link: Link,
    trail: Trail,
}

impl Tracked {
    fn advance(&mut self, end: Instant) -> TelemetryWindow {
        let window = self.link.advance(end);
        self.trail.push(self.link.sums(&window));
        window
    }
}

/// An environment. A clone continues as the original would, bit for bit.
#[derive(Clone, Debug)]
pub struct LinkEnv {
    plan: Arc<Plan>,
    /// Draws the episodes, together with their number.
    seed: u64,
    episodes: u64,
    scenario: usize,
    link_seed: u64,
    now: Instant,
    end: Instant,
    intervals: u64,
    candidate: Tracked,
    twin: Option<Tracked>,
    guard: Guard,
    /// The action whose slow knobs are asked for.
    held: Action,
    /// Forgets what it knew at the first window of an episode.
    features: Extractor,
    p_base: f64,
    terms: Terms,
}

impl LinkEnv {
    /// An environment at the beginning of its first episode.
    pub fn new(plan: &Arc<Plan>, seed: u64) -> Self {
        let guard = Guard::new(GuardParams::default(), Knobs::default(), Instant::ZERO);
        let mut env = Self {
            plan: Arc::clone(plan),
            seed,
            episodes: 0,
            scenario: 0,
            link_seed: 0,
            now: Instant::ZERO,
            end: Instant::ZERO,
            intervals: 0,
            candidate: Self::track(plan, 0, 0),
            twin: None,
            guard,
            held: plan.actions.defaults(),
            features: Extractor::new(&plan.schema),
            p_base: 0.0,
            terms: Terms::default(),
        };
        env.reset(Some(seed), None);
        env
    }

    fn track(plan: &Plan, scenario: usize, seed: u64) -> Tracked {
        let scenario = &plan.scenarios[scenario];
        let trail = plan.options.reward.trail.as_nanos().div_ceil(plan.options.interval.as_nanos());
        Tracked { link: Link::new(scenario, seed), trail: Trail::new(trail as usize) }
    }

    /// Begins an episode. Its scenario and its seed are drawn from `seed` and the number of the episode since `seed` was
    /// given; `None` goes on from the last seed. `scenario` takes that one of the list, modulo its length, instead of
    /// the drawn one. The first interval passes under RFC 9332's defaults, so that there is something to observe.
    pub fn reset(&mut self, seed: Option<u64>, scenario: Option<usize>) {
        if let Some(seed) = seed {
            self.seed = seed;
            self.episodes = 0;
        }
        let mut rng = fastrand::Rng::with_seed(mix(self.seed, self.episodes));
        self.episodes += 1;
        let count = self.plan.scenarios.len();
        let drawn = rng.usize(..count);
        self.scenario = scenario.map_or(drawn, |s| s % count);
        self.link_seed = rng.u64(..);
        self.candidate = Self::track(&self.plan, self.scenario, self.link_seed);
        self.twin = self.plan.options.twin.then(|| self.candidate.clone());
        self.now = Instant::ZERO;
        self.end = self.plan.end(self.scenario);
        self.intervals = 0;
        self.guard = Guard::new(GuardParams::default(), Knobs::default(), Instant::ZERO);
        self.held = self.plan.actions.defaults();
        self.terms = Terms::default();
        self.advance(1.0);
    }

    /// Lets one step pass under an action.
    pub fn step(&mut self, action: Action) -> Outcome {
        let plan = Arc::clone(&self.plan);
        let options = &plan.options;
        let mut moves = 0;
        for i in 0..options.hold {
            if self.intervals.is_multiple_of(u64::from(options.slow_every)) {
                moves += self.held.distance(action);
                self.held = action.held();
            }
            let asked = if i == 0 { self.held.with_feed_forward_of(action) } else { self.held };
            let decision =
                Decision { based_on: self.intervals, window_end: self.now, knobs: plan.actions.knobs(asked) };
            let changed = self.guard.step(Some(&decision), self.now);
            if let Some(knobs) = &changed {
                self.candidate.link.apply(knobs, self.now);
            }
            self.intervals += 1;
            self.advance(changed.map_or(1.0, |k| k.feed_forward));
        }
        self.terms = match &self.twin {
            Some(twin) => {
                let elapsed = self.now.since(Instant::ZERO);
                let (own, reference) = (self.candidate.trail.means(), twin.trail.means());
                Terms::of(&own, &reference, moves, elapsed, &options.reward)
            }
            None => Terms::default(),
        };
        Outcome { reward: self.terms.reward(&options.reward), truncated: self.is_over() }
    }

    /// Lets one interval pass.
    fn advance(&mut self, feed_forward: f64) {
        self.now += self.plan.options.interval;
        let window = self.candidate.advance(self.now);
        if let Some(twin) = &mut self.twin {
            twin.advance(self.now);
        }
        self.p_base = window.egress.p.base;
        self.features.push(&window, &Knobs { feed_forward, ..self.guard.in_force() });
    }

    /// The episode's time is over.
    pub fn is_over(&self) -> bool {
        self.now >= self.end
    }

    /// Numbers in an observation.
    pub fn width(plan: &Plan) -> usize {
        plan.schema.width()
    }

    /// Writes the observation at the end of the last interval; `out` has [`LinkEnv::width`] numbers.
    pub fn write_observation(&self, out: &mut [f32]) {
        self.features.write(out);
    }

    /// Writes the columns of [`INFO`].
    pub fn write_info(&mut self, out: &mut [f32]) {
        let own = self.candidate.trail.means();
        let reference = self.twin.as_ref().map(|t| t.trail.means());
        let none = Means { utilisation: f64::NAN, ..Means::default() };
        let twin = reference.unwrap_or(none);
        let truth = self.candidate.link.truth();
        let knobs = self.guard.in_force();
        let guard = self.guard.counters();
        let or_nan = |x: Option<f64>| x.unwrap_or(f64::NAN);
        let mix = u32::from(truth.flows[0] > 0) + 2 * u32::from(truth.flows[1] > 0);
        let values: [f64; INFO.len()] = [
            self.now.since(Instant::ZERO).as_secs_f64(),
            self.scenario as f64,
            or_nan(own.delay_ms[0]),
            or_nan(own.delay_ms[1]),
            or_nan(twin.delay_ms[0]),
            or_nan(twin.delay_ms[1]),
            own.utilisation,
            twin.utilisation,
            or_nan(own.log2_ratio),
            or_nan(twin.log2_ratio),
            self.terms.delay,
            self.terms.utilisation,
            self.terms.fairness,
            self.terms.moves,
            knobs.target.as_millis_f64(),
            knobs.gain,
            knobs.ramp_min.as_millis_f64(),
            self.p_base,
            guard.clamped as f64,
            guard.rejected as f64,
            truth.capacity_mbps,
            f64::from(truth.flows[0]),
            f64::from(truth.flows[1]),
            truth.rtt_ms[0],
            truth.rtt_ms[1],
            f64::from(truth.short),
            f64::from(truth.unresponsive),
            f64::from(mix),
            self.intervals as f64,
        ];
        for (out, value) in out.iter_mut().zip(values) {
            *out = value as f32;
        }
    }

    /// Scenario (its place in the list) and seed of the episode's link.
    pub const fn link_seed(&self) -> (usize, u64) {
        (self.scenario, self.link_seed)
    }

    /// Trailing means of the candidate and of its twin.
    pub fn means(&self) -> (Means, Option<Means>) {
        (self.candidate.trail.means(), self.twin.as_ref().map(|t| t.trail.means()))
    }

    /// The plan.
    pub const fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The parameters in force.
    pub const fn in_force(&self) -> Knobs {
        self.guard.in_force()
    }

    /// Since the beginning of the episode.
    pub const fn elapsed(&self) -> Span {
        self.now.since(Instant::ZERO)
    }

    /// Continues from a clone that was taken of an environment of the same plan.
    pub fn restore(&mut self, snapshot: &Self) -> Result<(), EnvError> {
        if !Arc::ptr_eq(&self.plan, &snapshot.plan) {
            return Err(EnvError::Foreign);
        }
        self.clone_from(snapshot);
        Ok(())
    }
}

/// A seed for the `n`-th episode: the finalizer of `SplitMix64` (Steele, Lea, Flood 2014) over both.
const fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed ^ n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{EnvOptions, Plan};
    use crate::sim::Scenario;

    fn scenario(rate: &str, flows: &str) -> Scenario {
        let text = format!("name = \"t\"\nduration = \"20s\"\n[link]\nrate = \"{rate}\"\n{flows}");
        Scenario::parse(&text, "t.toml").unwrap()
    }

    fn one_on_one() -> Scenario {
        scenario(
            "12Mbit",
            "[[flow]]\ncc = \"prague\"\nrtt = \"20ms\"\n[[flow]]\ncc = \"cubic\"\nrtt = \"20ms\"\n",
        )
    }

    fn plan(scenario: Scenario, options: EnvOptions) -> Arc<Plan> {
        Plan::new(vec![scenario], options).unwrap()
    }

    fn action(parts: [i64; 4]) -> Action {
        Action::new(parts).unwrap()
    }

    /// Everything that one step shows: reward, end, observation, info.
    fn shown(env: &mut LinkEnv, action: Action, out: &mut Vec<u32>) {
        let outcome = env.step(action);
        let mut floats = vec![0.0; LinkEnv::width(&env.plan) + INFO.len()];
        let width = LinkEnv::width(&env.plan);
        env.write_observation(&mut floats[..width]);
        env.write_info(&mut floats[width..]);
        out.extend([(outcome.reward as f32).to_bits(), u32::from(outcome.truncated)]);
        out.extend(floats.iter().map(|f| f.to_bits()));
    }

    /// Under RFC 9332's defaults the candidate is the twin, so that nothing is gained or lost; and the first other
    /// action shows.
    #[test]
    fn the_defaults_are_worth_exactly_nothing() {
        let plan = plan(one_on_one(), EnvOptions::default());
        let mut env = LinkEnv::new(&plan, 3);
        let defaults = plan.actions().defaults();
        for _ in 0..600 {
            assert_eq!(env.step(defaults), Outcome::default());
        }
        let (own, twin) = env.means();
        assert!(twin == Some(own) && own.delay_ms[1].is_some_and(|ms| ms > 5.0), "{own:?}");
        let rewards: Vec<f64> = (0..300).map(|_| env.step(action([3, 2, 4, 2])).reward).collect();
        assert!(rewards[299] != 0.0 && env.means().0 != env.means().1.unwrap());
    }

    /// A lower target on a link with Classic traffic only, where it costs little, is worth something.
    #[test]
    fn a_lower_target_pays_where_it_costs_nothing() {
        let flows = "[[flow]]\ncc = \"cubic\"\ncount = 4\nrtt = \"10ms\"\n";
        let plan = plan(scenario("40Mbit", flows), EnvOptions { hold: 8, ..EnvOptions::default() });
        let mut env = LinkEnv::new(&plan, 1);
        let rewards: Vec<f64> = (0..120).map(|_| env.step(action([5, 2, 4, 2])).reward).collect();
        let late = rewards[60..].iter().sum::<f64>() / 60.0;
        assert!(late > 0.5, "{late}: 4.3 ms instead of 15 is ln 3.2 = 1.17 at most");
    }

    /// What a live policy meets: one bin per 64 ms, and no feed-forward twice in 250 ms.
    #[test]
    fn actions_pass_the_guard() {
        let plan = plan(one_on_one(), EnvOptions { slow_every: 1, ..EnvOptions::default() });
        let mut env = LinkEnv::new(&plan, 1);
        let mut targets = Vec::new();
        for _ in 0..17 {
            env.step(action([0, 2, 4, 2]));
            targets.push((env.in_force().target.as_millis_f64() * 1e3).round() / 1e3);
        }
        // The first interval passed before the first decision: decisions at 16, 32, 48, 64 ms.
        assert_eq!(targets[..4], [15.0, 15.0, 15.0, 11.195]);
        assert_eq!((targets[7], targets[11], targets[15]), (8.354, 6.235, 4.653));
    }

    /// What reaches the link is what the guard lets through: the same link, driven by a guard of the test's own, and one
    /// that gets the knobs as they are asked for.
    #[test]
    fn the_link_gets_what_the_guard_lets_through() {
        let plan = plan(one_on_one(), EnvOptions { slow_every: 1, ..EnvOptions::default() });
        let mut env = LinkEnv::new(&plan, 1);
        let (scenario, seed) = env.link_seed();
        let mut guarded = LinkEnv::track(&plan, scenario, seed);
        let mut bare = guarded.clone();
        let mut guard = Guard::new(GuardParams::default(), Knobs::default(), Instant::ZERO);
        guarded.advance(Instant::from_millis(16));
        bare.advance(Instant::from_millis(16));
        for i in 1..300_u64 {
            let (now, end) = (Instant::from_millis(16 * i), Instant::from_millis(16 * (i + 1)));
            let asked = action([if i % 40 < 20 { 0 } else { 11 }, 4, 9, if i % 3 == 0 { 4 } else { 2 }]);
            let knobs = plan.actions().knobs(asked);
            env.step(asked);
            let decision = Decision { based_on: 0, window_end: now, knobs };
            if let Some(knobs) = guard.step(Some(&decision), now) {
                guarded.link.apply(&knobs, now);
            }
            guarded.advance(end);
            bare.link.apply(&knobs, now);
            bare.advance(end);
        }
        assert_eq!(env.means().0, guarded.trail.means());
        assert_ne!(env.means().0, bare.trail.means());
    }

    /// Slow knobs count in every eighth interval; the moves are paid for then, and only then.
    #[test]
    fn slow_knobs_are_held() {
        let plan = plan(one_on_one(), EnvOptions::default());
        let mut env = LinkEnv::new(&plan, 1);
        let mut moves = Vec::new();
        for i in 0..17 {
            env.step(action([8 - i % 2, 3, 4, 2]));
            moves.push(env.terms.moves);
        }
        // Target 8 and gain 3 in step 0, and 8 again in steps 8 and 16.
        let mut expected = vec![0.0; 17];
        expected[0] = 2.0;
        assert_eq!(moves, expected);
    }

    #[test]
    fn a_step_of_eight_intervals_is_eight_steps_of_one() {
        let held = plan(one_on_one(), EnvOptions { hold: 8, slow_every: 1, ..EnvOptions::default() });
        let single = plan(one_on_one(), EnvOptions { slow_every: 1, ..EnvOptions::default() });
        let (mut a, mut b) = (LinkEnv::new(&held, 5), LinkEnv::new(&single, 5));
        for i in 0..40 {
            let action = action([i % 12, i % 5, 4, 2 + 2 * (i % 2)]);
            a.step(action);
            for k in 0..8 {
                b.step(if k == 0 { action } else { action.held() });
            }
        }
        assert_eq!(a.means(), b.means());
        assert_ne!(a.means().0, a.means().1.unwrap());
    }

    #[test]
    fn a_clone_continues_bit_for_bit() {
        let flows = "steps = [{ at = \"3s\", rate = \"4Mbit\" }]\n[[flow]]\ncc = \"prague\"\nrtt = \"20ms\"\n\
                     [[flow]]\ncc = \"cubic\"\nrtt = \"20ms\"\nstart = \"1s\"\nstop = \"4s\"\n\
                     [[flow]]\nkind = \"cbr\"\nrate = \"1Mbit\"\n";
        let plan = plan(scenario("12Mbit", flows), EnvOptions { hold: 3, ..EnvOptions::default() });
        let mut rng = fastrand::Rng::with_seed(1);
        let mut draw = || action([rng.i64(0..12), rng.i64(0..5), rng.i64(0..12), rng.i64(0..5)]);
        let mut env = LinkEnv::new(&plan, 9);
        for _ in 0..50 {
            env.step(draw());
        }
        let snapshot = env.clone();
        let actions: Vec<Action> = (0..150).map(|_| draw()).collect();
        let run = |env: &mut LinkEnv| {
            let mut out = Vec::new();
            for &a in &actions {
                shown(env, a, &mut out);
            }
            env.reset(None, None);
            for &a in &actions[..5] {
                shown(env, a, &mut out);
            }
            out
        };
        let first = run(&mut env);
        env.restore(&snapshot).unwrap();
        assert!(first == run(&mut env), "restored");
        assert!(first == run(&mut snapshot.clone()), "a clone of its own");
        let other = Plan::new(vec![one_on_one()], EnvOptions::default()).unwrap();
        assert!(LinkEnv::new(&other, 1).restore(&snapshot).is_err());
    }

    #[test]
    fn seeds_draw_scenario_and_link() {
        let scenarios = vec![one_on_one(), scenario("4Mbit", "[[flow]]\ncc = \"reno\"\nrtt = \"20ms\"\n")];
        let plan = Plan::new(scenarios, EnvOptions { twin: false, ..EnvOptions::default() }).unwrap();
        let episodes = |seed| {
            let mut env = LinkEnv::new(&plan, seed);
            let mut links = vec![env.link_seed()];
            for _ in 0..20 {
                env.reset(None, None);
                links.push(env.link_seed());
            }
            links
        };
        assert_eq!(episodes(1), episodes(1));
        assert!(episodes(1).iter().all(|link| !episodes(2).contains(link)));
        let drawn: usize = episodes(1).iter().map(|(scenario, _)| scenario).sum();
        assert!((4..=17).contains(&drawn), "{drawn} of 21");
        let mut env = LinkEnv::new(&plan, 1);
        env.reset(Some(7), Some(1));
        assert_eq!((env.link_seed().0, env.step(plan.actions().defaults()).reward), (1, 0.0));
    }

    /// Hidden truth: what the scenario says, now.
    #[test]
    fn truth_is_of_the_moment() {
        let flows = "steps = [{ at = \"2s\", rate = \"4Mbit\" }]\n\
                     [[flow]]\ncc = \"prague\"\nrtt = \"20ms\"\ncount = 2\n\
                     [[flow]]\ncc = \"cubic\"\nrtt = \"30ms\"\nstop = \"1s\"\n\
                     [[flow]]\ncc = \"reno\"\nrtt = \"50ms\"\nstart = \"500ms\"\n\
                     [[flow]]\nkind = \"cbr\"\nrate = \"1Mbit\"\n";
        let plan = plan(scenario("12Mbit", flows), EnvOptions::default());
        let mut env = LinkEnv::new(&plan, 1);
        let mut truth_at = |ms: u64| {
            while env.elapsed() < Span::from_millis(ms) {
                env.step(plan.actions().defaults());
            }
            env.candidate.link.truth()
        };
        let t = truth_at(400);
        assert_eq!((t.capacity_mbps, t.flows, t.rtt_ms, t.unresponsive), (12.0, [2, 1], [20.0, 30.0], 1));
        let t = truth_at(800);
        assert_eq!((t.flows, t.rtt_ms), ([2, 2], [20.0, 40.0]));
        let t = truth_at(2100);
        assert_eq!((t.capacity_mbps, t.flows, t.rtt_ms), (4.0, [2, 1], [20.0, 50.0]));
    }

    #[test]
    fn options_out_of_range_are_named() {
        let error = |options| Plan::new(vec![one_on_one()], options).unwrap_err().to_string();
        let d = EnvOptions::default;
        assert_eq!(
            error(EnvOptions { interval: Span::ZERO, ..d() }),
            "interval = 0s is out of range: 1ms to 1s"
        );
        assert!(error(EnvOptions { hold: 0, ..d() }).contains("hold = 0"));
        assert!(
            error(EnvOptions { duration: Some(Span::from_millis(31)), ..d() }).contains("duration = 31ms")
        );
        let mut nan = d();
        nan.reward.lam_utilisation = f64::NAN;
        assert!(error(nan).contains("lam_utilisation = NaN"));
        assert!(Plan::new(Vec::new(), d()).unwrap_err().to_string().contains("at least one"));
    }
}
