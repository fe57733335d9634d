#!/usr/bin/env python3
"""Reinforcement learning of a student's choice in the simulator, from where imitation left it.

    rl.py ORACLE_DIR STUDENT.safetensors OUT.onnx [--steps N]

Proximal policy optimisation (stable-baselines3) over the candidate settings, one each 128 ms. The policy is softmax(-score / TAU) over
the candidates that the student takes for feasible; the student that was loaded stays the judge of that, and training moves `score` only.
Reward: that of l4sd_gym against a DualPI2 twin, with the factors of its two constraints raised and lowered per grid (dual ascent),
and ln of the probability that the loaded student gives the choice, so that with the entropy it is the divergence from it that costs.
The critic is told what the policy is not: the link's hidden truth.
"""

import argparse
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import student
import values

TAU = 0.05
BETA = 0.02
# Factors of the constraints at the start, their least and most, and the speed of ascent. What is allowed of each is what the student
# broke of it before training, at least ALLOWED: two runs that differ in one decision differ in all that is random.
LAMBDA = np.array([2.0, 1.0])
LEAST, MOST = 0.2, 40.0
ALLOWED = 0.01
ASCENT = 0.2
# Trailing means over most of a sawtooth.
TRAIL_S = 16.0
GAMMA = 0.995


class Links(VecEnv):
    """Train links for stable-baselines3. An observation is the features and, behind them, what only the critic reads."""

    def __init__(self, records, envs, threads, judge, threshold, seed, device):
        from l4sd_gym import L4sdVectorEnv

        self.grids = sorted({r["cell"]["grid"] for r in records})
        self.grid_of = np.array([self.grids.index(r["cell"]["grid"]) for r in records])
        self.links = L4sdVectorEnv(envs, [r["scenario"] for r in records], threads=threads, hold=8, twin=True, trail_s=TRAIL_S, grace_s=10.0, autoreset_mode="Disabled")
        self.rng = np.random.default_rng(seed)
        self.seed_of = int(seed) * 10**6
        self.count, self.width = len(records), self.links.single_observation_space.shape[0]
        self.table = np.array(values.CANDIDATES)
        self.judge, self.threshold, self.device = judge, threshold, device
        self.factors = np.tile(LAMBDA, (len(self.grids), 1))
        self.costs = [[] for _ in self.grids]
        self.allowed = None
        extra = 2 + len(self.grids)
        box = gymnasium.spaces.Box(-np.inf, np.inf, (self.width + extra + len(self.table),), np.float32)
        super().__init__(envs, box, gymnasium.spaces.Discrete(len(self.table)))
        self.render_mode = None
        self.link = np.zeros(envs, int)
        self.age = np.zeros(envs)
        self.total, self.delay = [], []

    def begin(self, which):
        for i in np.flatnonzero(which):
            self.link[i] = self.rng.integers(self.count)
            mask = np.zeros(self.num_envs, bool)
            mask[i] = True
            self.seed_of += 1
            observations, _ = self.links.reset(seed=self.seed_of, options={"scenario": int(self.link[i]), "reset_mask": mask})
            self.age[i] = 0
        return observations

    def seen(self, observations):
        """Observation for the policy: features, hidden truth, and the log-probabilities that the loaded student gives."""
        with torch.no_grad():
            score, logit = self.judge(torch.as_tensor(observations).to(self.device))
            eligible = torch.sigmoid(logit) >= self.threshold
            eligible[:, 0] = True
            own = torch.log_softmax((-score / TAU).masked_fill(~eligible, -1e9), 1).clamp(min=-1e4).cpu().numpy()
        grid = np.eye(len(self.grids), dtype=np.float32)[self.grid_of[self.link]]
        self.own = own
        return np.concatenate([observations, grid, np.stack([self.age / 60, self.age < 10], 1), own], 1).astype(np.float32)

    def reset(self):
        return self.seen(self.begin(np.ones(self.num_envs, bool)))

    def step_async(self, actions):
        self.actions = np.asarray(actions)

    def step_wait(self):
        action = np.column_stack([self.table[self.actions], np.full(self.num_envs, 2)])
        observations, _, _, truncated, info = self.links.step(action)
        self.age += 0.128
        cost = np.nan_to_num(np.stack([info["cost_utilisation"], info["cost_fairness"]], 1))
        grid = self.grid_of[self.link]
        for g, c, a in zip(grid, cost, self.age, strict=True):
            if a > 10:
                self.costs[g].append(c)
        delay = np.nan_to_num(info["reward_delay"])
        self.delay.append(delay.mean())
        reward = delay - (self.factors[grid] * cost).sum(1) + BETA * self.own[np.arange(self.num_envs), self.actions].clip(-20)
        self.total.append(reward.mean())
        told = [{} for _ in range(self.num_envs)]
        if truncated.any():
            last = self.seen(observations)
            for i in np.flatnonzero(truncated):
                told[i] = {"terminal_observation": last[i], "TimeLimit.truncated": True}
            observations = self.begin(truncated)
        # Worth of an episode of a minute of order 1 for the critic.
        return self.seen(observations), (reward * (1 - GAMMA) * 10).astype(np.float32), truncated, told

    def allow(self):
        """What was broken so far is what is allowed from here on."""
        mean = [np.mean(c, 0) if c else np.zeros(2) for c in self.costs]
        self.allowed = np.maximum(mean, ALLOWED)
        self.costs = [[] for _ in self.grids]

    def ascend(self):
        """Raises the factors of a grid whose constraints are broken on the mean, lowers the others."""
        for g, costs in enumerate(self.costs):
            if len(costs) > 2000:
                over = np.mean(costs, 0) / self.allowed[g] - 1
                self.factors[g] = np.clip(self.factors[g] * np.exp(ASCENT * np.clip(over, -1, 1)), LEAST, MOST)
                self.costs[g] = []

    def close(self):
        self.links.close()

    def get_attr(self, attr_name, indices=None):
        return [getattr(self.links, attr_name, None)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name, value, indices=None):
        raise NotImplementedError

    def env_method(self, method_name, *args, indices=None, **kwargs):
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False] * self.num_envs


class Choice(ActorCriticPolicy):
    """The student as actor, a perceptron over features and hidden truth as critic."""

    def __init__(self, *args, net, width, **kwargs):
        self.features_width = width
        # In a tuple: a module cannot be assigned before the base class is made.
        self.given = (net,)
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule):
        super()._build(lr_schedule)
        (self.net,) = self.given
        hidden = self.observation_space.shape[0] - len(values.CANDIDATES)
        self.critic = nn.Sequential(nn.Linear(hidden, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 1))
        # Nothing of the library's own networks is used.
        self.optimizer = self.optimizer_class([{"params": self.net.parameters()}, {"params": self.critic.parameters(), "lr": 1e-3}], lr=lr_schedule(1), **self.optimizer_kwargs)

    def _both(self, obs):
        own = obs[:, -len(values.CANDIDATES) :]
        score, _ = self.net(obs[:, : self.features_width])
        logits = (-score / TAU).masked_fill(own < -9e3, -1e9)
        state = obs[:, : -len(values.CANDIDATES)]
        return torch.distributions.Categorical(logits=logits), self.critic(state.clamp(-10, 10))

    def forward(self, obs, deterministic=False):
        choice, value = self._both(obs)
        action = choice.logits.argmax(1) if deterministic else choice.sample()
        return action, value, choice.log_prob(action)

    def evaluate_actions(self, obs, actions):
        choice, value = self._both(obs)
        return value, choice.log_prob(actions), choice.entropy()

    def predict_values(self, obs):
        return self._both(obs)[1]

    def _predict(self, observation, deterministic=False):
        return self.forward(observation, deterministic)[0]


class Report(BaseCallback):
    """Dual ascent, the critic's head start, the time limit, and a line every tenth rollout."""

    def __init__(self, links, until, head_start):
        super().__init__()
        self.links, self.until, self.head_start, self.rollouts = links, until, head_start, 0

    def _on_rollout_start(self):
        self.rollouts += 1
        actor = self.rollouts > self.head_start
        for p in self.model.policy.net.parameters():
            p.requires_grad_(actor)
        if self.rollouts == self.head_start + 1:
            self.links.allow()
        if actor:
            self.links.ascend()
        if self.rollouts % 10 == 0:
            n = 640
            print(f"rollout {self.rollouts}, {self.num_timesteps} decisions: reward {np.mean(self.links.total[-n:]):.4f}, delay {np.mean(self.links.delay[-n:]):.4f}, factors {np.round(self.links.factors.mean(0), 2)}", flush=True)

    def _on_step(self):
        return time.monotonic() < self.until


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("oracle", type=Path)
    parser.add_argument("student", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=3_000_000)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--envs", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--links", type=int)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--head-start", type=int, default=15, help="rollouts in which only the critic learns")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    import l4sd_gym

    until = time.monotonic() + args.seconds
    names = list(l4sd_gym.FEATURES)
    records = values.records(args.oracle, "train")[: args.links]
    net, saved = student.load(args.student, names, args.device)
    judge, _ = student.load(args.student, names, args.device)
    threshold = float(saved["metadata"]["l4sd.threshold"])
    links = Links(records, args.envs, args.threads, judge, threshold, args.seed, args.device)
    model = PPO(
        Choice,
        links,
        learning_rate=args.rate,
        n_steps=64,
        batch_size=min(4096, 64 * args.envs),
        n_epochs=4,
        gamma=GAMMA,
        gae_lambda=0.95,
        clip_range=0.2,
        ent_coef=BETA * (1 - GAMMA) * 10,
        normalize_advantage=False,
        max_grad_norm=0.5,
        seed=args.seed,
        device=args.device,
        policy_kwargs={"net": net, "width": links.width},
    )
    model.learn(args.steps, callback=Report(links, until, args.head_start))
    print("factors by grid (utilisation, fairness):", {g: [round(float(x), 1) for x in f] for g, f in zip(links.grids, links.factors, strict=True)})
    metadata = dict(saved["metadata"]) | {"rl_decisions": model.num_timesteps, "kind": f"{saved['kind']} with RL, no language model"}
    trained = model.policy.net.cpu().eval()
    for p in trained.parameters():
        p.requires_grad_(False)
    student.export(trained, args.out, saved["features"], names, metadata, saved["golden"], judge)


if __name__ == "__main__":
    main()
