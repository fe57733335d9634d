"""Does an off-the-shelf PPO learn on these links? Trains stable-baselines3's on Classic-only and one-on-one links of 12 to
40 Mbit/s, once per seed, and compares the reward in the first fifth of the episodes with that in the last.

pip install stable-baselines3; python examples/train_ppo.py [--steps 500000] [--seeds 1 2 3]

A decision is 128 ms. Prints PASS and exits with 0 if on every seed the last fifth is better by more than two standard
errors of the difference. An experiment of minutes, not a trained policy.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from l4sd_gym import DEFAULT_ACTION, L4sdVectorEnv

HEAD = 'name = "{name}"\nduration = "20s"\n[spread]\nrtt = 0.2\nrate = 0.1\n[link]\nrate = "{mbit}Mbit"\n'
FLOW = '[[flow]]\ncc = "{cc}"\ncount = {count}\nrtt = "{rtt}ms"\n'


def scenarios() -> list[str]:
    """TOML of the links; a seed moves round trips by up to 20 % and the rate by up to 10 %."""
    mixes = {
        "c1": [("cubic", 1)],
        "c4": [("cubic", 4)],
        "1v1": [("prague", 1), ("cubic", 1)],
    }
    return [
        HEAD.format(name=f"{mix}-{mbit}mbit-{rtt}ms", mbit=mbit)
        + "".join(FLOW.format(cc=cc, count=count, rtt=rtt) for cc, count in flows)
        for mix, flows in mixes.items()
        for mbit in (12, 24, 40)
        for rtt in (10, 30)
    ]


class Sb3Links(VecEnv):
    """L4sdVectorEnv as stable-baselines3 wants it; keeps the mean reward of every episode, in the order of their ends."""

    def __init__(self, links: L4sdVectorEnv) -> None:
        super().__init__(links.num_envs, links.single_observation_space, links.single_action_space)
        self.links = links
        self.render_mode = None
        self.episodes: list[float] = []
        self._sum = np.zeros(links.num_envs)
        self._steps = np.zeros(links.num_envs)
        self._actions: np.ndarray | None = None

    def reset(self) -> np.ndarray:
        return self.links.reset(seed=self._seeds[0])[0]

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observations, rewards, _, truncated, infos = self.links.step(self._actions)
        self._sum += rewards
        self._steps += 1
        told: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(truncated):
            told[i] = {"terminal_observation": infos["final_obs"][i], "TimeLimit.truncated": True}
            self.episodes.append(self._sum[i] / self._steps[i])
            self._sum[i] = self._steps[i] = 0
        return observations, rewards.astype(np.float32), truncated, told

    def close(self) -> None:
        self.links.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.links, attr_name, None)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


def train(seed: int, steps: int, envs: int, threads: int) -> tuple[list[float], PPO]:
    links = L4sdVectorEnv(
        envs, scenarios(), hold=8, threads=threads, autoreset_mode=AutoresetMode.SAME_STEP
    )
    vec = Sb3Links(links)
    vec.seed(1000 * envs * seed)
    model = PPO(
        "MlpPolicy",
        vec,
        seed=seed,
        n_steps=64,
        batch_size=1024,
        n_epochs=6,
        gamma=0.995,
        gae_lambda=0.95,
        learning_rate=1e-3,
        ent_coef=0.002,
        policy_kwargs={"net_arch": [64, 64]},
        device="cpu",
    )
    model.learn(steps)
    return vec.episodes, model


def judge(model: PPO | None, envs: int, threads: int) -> tuple[float, dict[str, float]]:
    """Mean reward per step, and what it is made of, on links of seeds that training has not seen, most likely actions."""
    links = L4sdVectorEnv(envs, scenarios(), hold=8, threads=threads)
    observations, _ = links.reset(seed=2**40)
    total: list[float] = []
    parts: dict[str, list[float]] = {n: [] for n in ("reward_delay", "cost_utilisation", "cost_fairness", "target_ms")}
    for _ in range(155):
        actions = np.tile(DEFAULT_ACTION, (envs, 1)) if model is None else model.predict(observations, deterministic=True)[0]
        observations, rewards, _, _, infos = links.step(actions)
        total.append(float(rewards.mean()))
        for name, values in parts.items():
            values.append(float(infos[name].mean()))
    return float(np.mean(total)), {name: float(np.mean(values)) for name, values in parts.items()}


def fifths(episodes: Sequence[float]) -> tuple[float, float, float]:
    """Means of the first and the last fifth, and the standard error of their difference."""
    n = len(episodes) // 5
    first, last = np.array(episodes[:n]), np.array(episodes[-n:])
    error = np.sqrt(first.var(ddof=1) / n + last.var(ddof=1) / n)
    return float(first.mean()), float(last.mean()), float(error)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500_000, help="decisions per seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    passed = 0
    for seed in args.seeds:
        start = time.perf_counter()
        episodes, model = train(seed, args.steps, args.envs, args.threads)
        first, last, error = fifths(episodes)
        better = last - first > 2 * error
        passed += better
        print(
            f"seed {seed}: {len(episodes)} episodes in {time.perf_counter() - start:.0f} s, mean reward of a decision"
            f" {first:+.3f} in the first fifth, {last:+.3f} in the last, {(last - first) / error:+.1f} standard errors:"
            f" {'better' if better else 'not better'}",
            flush=True,
        )
        reward, parts = judge(model, args.envs, args.threads)
        told = ", ".join(f"{name} {value:.3f}" for name, value in parts.items())
        print(f"        on unseen seeds, most likely actions: {reward:+.3f} ({told}); RFC defaults are 0", flush=True)
    verdict = passed == len(args.seeds)
    print(f"{'PASS' if verdict else 'FAIL'}: {passed} of {len(args.seeds)} seeds better by more than 2 standard errors")
    return 0 if verdict else 1


if __name__ == "__main__":
    sys.exit(main())
