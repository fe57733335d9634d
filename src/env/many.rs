//! Many environments, stepped together into the caller's buffers. The number of threads changes how long it takes and
//! nothing else.

use std::sync::Arc;

use rayon::prelude::*;

use super::episode::{INFO, LinkEnv};
use super::options::{EnvError, Plan};
use crate::control::action::Action;

/// What follows the end of an episode, in Gymnasium's words.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Autoreset {
    /// The next step ignores its action, begins an episode and is worth 0.
    NextStep,
    /// The same step: what is written is of the new episode, and the end of the old one goes to
    /// [`StepBuffers::last`].
    SameStep,
    /// Nothing: a step past the end is an error.
    Disabled,
}

/// Where a step writes, environment after environment.
#[derive(Debug)]
pub struct StepBuffers<'a> {
    /// `count x width` numbers.
    pub observations: &'a mut [f32],
    /// `count`.
    pub rewards: &'a mut [f64],
    /// `count`.
    pub truncated: &'a mut [bool],
    /// `count x INFO.len()`.
    pub info: &'a mut [f32],
    /// Under [`Autoreset::SameStep`], `count x width` and `count x INFO.len()`, written where an episode ended.
    pub last: Option<(&'a mut [f32], &'a mut [f32])>,
}

/// Environments over one plan.
#[derive(Debug)]
pub struct VecLinkEnv {
    plan: Arc<Plan>,
    envs: Vec<LinkEnv>,
    autoreset: Autoreset,
    pool: Option<rayon::ThreadPool>,
}

/// One environment's share of the buffers.
struct Slot<'a> {
    action: Action,
    observation: &'a mut [f32],
    reward: &'a mut f64,
    truncated: &'a mut bool,
    info: &'a mut [f32],
    last: Option<(&'a mut [f32], &'a mut [f32])>,
}

impl VecLinkEnv {
    /// `count` environments, each at the beginning of its first episode; number `i` has the seed `seed + i`. `threads` of
    /// 1 steps on the caller's.
    pub fn new(
        plan: &Arc<Plan>,
        count: usize,
        seed: u64,
        autoreset: Autoreset,
        threads: usize,
    ) -> Result<Self, EnvError> {
        let wrong = |name, value: usize, range| EnvError::Option { name, value: value.to_string(), range };
        if count == 0 || count > 1_000_000 {
            return Err(wrong("count", count, "1 to 1000000 environments"));
        }
        if threads == 0 || threads > 1024 {
            return Err(wrong("threads", threads, "1 to 1024"));
        }
        let pool = if threads > 1 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            Some(pool.map_err(|e| EnvError::Threads { threads, reason: e.to_string() })?)
        } else {
            None
        };
        let new = |i| LinkEnv::new(plan, seed.wrapping_add(i as u64));
        let envs = match &pool {
            Some(pool) => pool.install(|| (0..count).into_par_iter().map(new).collect()),
            None => (0..count).map(new).collect(),
        };
        Ok(Self { plan: Arc::clone(plan), envs, autoreset, pool })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.envs.len()
    }

    /// Numbers in one environment's observation.
    pub fn width(&self) -> usize {
        LinkEnv::width(&self.plan)
    }

    /// The plan.
    pub const fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// One of them.
    pub fn env(&self, index: usize) -> Result<&LinkEnv, EnvError> {
        self.envs.get(index).ok_or(EnvError::Index { index, count: self.envs.len() })
    }

    /// Begins an episode in those whose `mask` is set (in all without one), and writes observation and info of all.
    /// With a seed, number `i` gets `seed + i`.
    pub fn reset(
        &mut self,
        seed: Option<u64>,
        scenario: Option<usize>,
        mask: Option<&[bool]>,
        observations: &mut [f32],
        info: &mut [f32],
    ) -> Result<(), EnvError> {
        let (count, width) = (self.envs.len(), self.width());
        length("observations", observations.len(), count * width)?;
        length("info", info.len(), count * INFO.len())?;
        if let Some(mask) = mask {
            length("mask", mask.len(), count)?;
        }
        let one = |(i, env, observation, info): (usize, &mut LinkEnv, &mut [f32], &mut [f32])| {
            if mask.is_none_or(|m| m[i]) {
                env.reset(seed.map(|s| s.wrapping_add(i as u64)), scenario);
            }
            env.write_observation(observation);
            env.write_info(info);
        };
        let envs = &mut self.envs;
        if let Some(pool) = &self.pool {
            pool.install(|| {
                let chunks = (observations.par_chunks_mut(width), info.par_chunks_mut(INFO.len()));
                (0..count, envs.par_iter_mut(), chunks.0, chunks.1).into_par_iter().for_each(one);
            });
        } else {
            let chunks = observations.chunks_mut(width).zip(info.chunks_mut(INFO.len()));
            envs.iter_mut().enumerate().zip(chunks).for_each(|((i, env), (o, f))| one((i, env, o, f)));
        }
        Ok(())
    }

    /// Steps all of them. `actions` has four numbers each, in the order of
    /// [`NAMES`](crate::control::action::NAMES). Either all are stepped or, with an error, none.
    pub fn step(&mut self, actions: &[i64], buffers: StepBuffers<'_>) -> Result<(), EnvError> {
        let (count, width) = (self.envs.len(), self.width());
        let StepBuffers { observations, rewards, truncated, info, last } = buffers;
        length("actions", actions.len(), 4 * count)?;
        length("observations", observations.len(), count * width)?;
        length("rewards", rewards.len(), count)?;
        length("truncated", truncated.len(), count)?;
        length("info", info.len(), count * INFO.len())?;
        let actions = self.checked(actions)?;
        let lasts: Vec<Option<(&mut [f32], &mut [f32])>> = match last {
            Some((o, f)) if self.autoreset == Autoreset::SameStep => {
                length("last observations", o.len(), count * width)?;
                length("last info", f.len(), count * INFO.len())?;
                o.chunks_mut(width).zip(f.chunks_mut(INFO.len())).map(Some).collect()
            }
            _ if self.autoreset == Autoreset::SameStep => {
                length("last observations", 0, count * width)?;
                Vec::new()
            }
            _ => (0..count).map(|_| None).collect(),
        };
        let slots = actions
            .into_iter()
            .zip(observations.chunks_mut(width))
            .zip(rewards.iter_mut().zip(truncated))
            .zip(info.chunks_mut(INFO.len()).zip(lasts))
            .map(|(((action, observation), (reward, truncated)), (info, last))| Slot {
                action,
                observation,
                reward,
                truncated,
                info,
                last,
            });
        let autoreset = self.autoreset;
        match &self.pool {
            Some(pool) => {
                let slots: Vec<Slot<'_>> = slots.collect();
                pool.install(|| {
                    self.envs
                        .par_iter_mut()
                        .zip(slots)
                        .for_each(|(env, slot)| step_one(env, slot, autoreset));
                });
            }
            None => self.envs.iter_mut().zip(slots).for_each(|(env, slot)| step_one(env, slot, autoreset)),
        }
        Ok(())
    }

    fn checked(&self, actions: &[i64]) -> Result<Vec<Action>, EnvError> {
        let mut checked = Vec::with_capacity(self.envs.len());
        for (index, (parts, env)) in actions.chunks_exact(4).zip(&self.envs).enumerate() {
            if self.autoreset == Autoreset::Disabled && env.is_over() {
                return Err(EnvError::Over(index));
            }
            let parts = [parts[0], parts[1], parts[2], parts[3]];
            checked.push(Action::new(parts).map_err(|source| EnvError::Action { index, source })?);
        }
        Ok(checked)
    }

    /// What one of them is now.
    pub fn snapshot(&self, index: usize) -> Result<LinkEnv, EnvError> {
        self.env(index).cloned()
    }

    /// Makes one of them what it, or another, was.
    pub fn restore(&mut self, index: usize, snapshot: &LinkEnv) -> Result<(), EnvError> {
        let count = self.envs.len();
        self.envs.get_mut(index).ok_or(EnvError::Index { index, count })?.restore(snapshot)
    }

    /// Writes observation and info of all, of which none moves.
    pub fn observe(&mut self, observations: &mut [f32], info: &mut [f32]) -> Result<(), EnvError> {
        let none = vec![false; self.envs.len()];
        self.reset(None, None, Some(&none), observations, info)
    }
}

fn step_one(env: &mut LinkEnv, slot: Slot<'_>, autoreset: Autoreset) {
    if autoreset == Autoreset::NextStep && env.is_over() {
        env.reset(None, None);
        *slot.reward = 0.0;
        *slot.truncated = false;
    } else {
        let outcome = env.step(slot.action);
        *slot.reward = outcome.reward;
        *slot.truncated = outcome.truncated;
        if let (true, Some((observation, info))) = (outcome.truncated, slot.last) {
            env.write_observation(observation);
            env.write_info(info);
            env.reset(None, None);
        }
    }
    env.write_observation(slot.observation);
    env.write_info(slot.info);
}

fn length(name: &'static str, found: usize, needed: usize) -> Result<(), EnvError> {
    if found == needed { Ok(()) } else { Err(EnvError::Buffer { name, found, needed }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::EnvOptions;
    use crate::sim::Scenario;
    use crate::time::Span;

    fn plan() -> Arc<Plan> {
        let scenario = |rate: &str, cc: &str| {
            let text = format!(
                "name = \"t\"\nduration = \"500ms\"\n[link]\nrate = \"{rate}\"\n[[flow]]\ncc = \"{cc}\"\nrtt = \"5ms\"\n"
            );
            Scenario::parse(&text, "t.toml").unwrap()
        };
        let options = EnvOptions { duration: Some(Span::from_millis(320)), ..EnvOptions::default() };
        Plan::new(vec![scenario("12Mbit", "cubic"), scenario("40Mbit", "prague")], options).unwrap()
    }

    struct Out {
        observations: Vec<f32>,
        rewards: Vec<f64>,
        truncated: Vec<bool>,
        info: Vec<f32>,
        last: (Vec<f32>, Vec<f32>),
    }

    fn out(envs: &VecLinkEnv) -> Out {
        let (n, w) = (envs.count(), envs.width());
        Out {
            observations: vec![0.0; n * w],
            rewards: vec![0.0; n],
            truncated: vec![false; n],
            info: vec![0.0; n * INFO.len()],
            last: (vec![-7.0; n * w], vec![-7.0; n * INFO.len()]),
        }
    }

    fn step(envs: &mut VecLinkEnv, actions: &[i64], out: &mut Out) -> Result<(), EnvError> {
        envs.step(
            actions,
            StepBuffers {
                observations: &mut out.observations,
                rewards: &mut out.rewards,
                truncated: &mut out.truncated,
                info: &mut out.info,
                last: Some((&mut out.last.0, &mut out.last.1)),
            },
        )
    }

    fn bits(out: &Out) -> Vec<u32> {
        out.observations.iter().chain(&out.info).map(|f| f.to_bits()).collect()
    }

    /// The same as single environments, on one thread and on four.
    #[test]
    fn threads_change_nothing() {
        let plan = plan();
        let mut alone: Vec<LinkEnv> = (0..9).map(|i| LinkEnv::new(&plan, 40 + i)).collect();
        let mut one = VecLinkEnv::new(&plan, 9, 40, Autoreset::NextStep, 1).unwrap();
        let mut four = VecLinkEnv::new(&plan, 9, 40, Autoreset::NextStep, 4).unwrap();
        let (mut a, mut b) = (out(&one), out(&four));
        let mut rng = fastrand::Rng::with_seed(4);
        for _ in 0..45 {
            let actions: Vec<i64> =
                (0..9).flat_map(|_| [12, 7, 12, 5]).map(|values| rng.i64(0..values)).collect();
            step(&mut one, &actions, &mut a).unwrap();
            step(&mut four, &actions, &mut b).unwrap();
            assert_eq!((bits(&a), &a.rewards, &a.truncated), (bits(&b), &b.rewards, &b.truncated));
            for (i, env) in alone.iter_mut().enumerate() {
                if env.is_over() {
                    env.reset(None, None);
                    assert_eq!((a.rewards[i], a.truncated[i]), (0.0, false));
                } else {
                    let parts = &actions[4 * i..4 * i + 4];
                    let outcome = env.step(Action::new([parts[0], parts[1], parts[2], parts[3]]).unwrap());
                    assert_eq!((a.rewards[i], a.truncated[i]), (outcome.reward, outcome.truncated));
                }
                let mut observation = vec![0.0; one.width()];
                env.write_observation(&mut observation);
                assert_eq!(observation, a.observations[i * one.width()..(i + 1) * one.width()]);
            }
        }
    }

    /// 320 ms are a reset of one interval and 19 steps.
    #[test]
    fn the_same_step_keeps_the_end_and_begins_anew() {
        let plan = plan();
        let mut envs = VecLinkEnv::new(&plan, 2, 1, Autoreset::SameStep, 1).unwrap();
        let mut o = out(&envs);
        for i in 1..=40 {
            o.last.1.fill(-7.0);
            step(&mut envs, &[9, 2, 4, 2, 9, 2, 4, 2], &mut o).unwrap();
            assert_eq!(o.truncated, [i % 19 == 0; 2], "{i}");
            if i % 19 == 0 {
                assert_eq!((o.info[0], o.last.1[0]), (0.016, 0.32));
            } else {
                assert_eq!(o.last.1[0], -7.0);
            }
        }
    }

    #[test]
    fn a_refused_step_steps_nobody() {
        let plan = plan();
        let mut envs = VecLinkEnv::new(&plan, 2, 1, Autoreset::Disabled, 1).unwrap();
        let mut o = out(&envs);
        let before = envs.env(0).unwrap().elapsed();
        let e = step(&mut envs, &[9, 2, 4, 2, 9, 7, 4, 2], &mut o).unwrap_err();
        assert_eq!(e.to_string(), "action 1: gain = 7 is not an index of its values: 0 to 6");
        let e = step(&mut envs, &[9, 2, 4, 2], &mut o).unwrap_err();
        assert_eq!(e.to_string(), "actions has 4 numbers and needs 8");
        assert_eq!(envs.env(0).unwrap().elapsed(), before);
        for _ in 0..19 {
            step(&mut envs, &[9, 2, 4, 2, 9, 2, 4, 2], &mut o).unwrap();
        }
        let e = step(&mut envs, &[9, 2, 4, 2, 9, 2, 4, 2], &mut o).unwrap_err();
        assert_eq!(e.to_string(), "environment 0: its episode is over; reset it");
        let mut fresh = out(&envs);
        envs.reset(None, None, Some(&[true, false]), &mut fresh.observations, &mut fresh.info).unwrap();
        assert_eq!((fresh.info[0], fresh.info[INFO.len()]), (0.016, 0.32));
    }
}
