"""Speculative sampling: trajectories as those of the target alone, and numbers made by hand.

What is lossless is counted over 10^5 whole episodes of a small environment; each rule of the method, broken, fails the same count.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import speculate
import values

STEPS = 9
EPISODES = 100_000
KS = (1, 2, 4, 8)
NOISE = 0.3
# Probabilities by state and action before (0 at the beginning). The draft asks too often now for one action, now for two.
TARGET = np.array([[[0.2, 0.3, 0.5], [0.5, 0.1, 0.4], [0.3, 0.6, 0.1]], [[0.1, 0.7, 0.2], [0.6, 0.2, 0.2], [0.2, 0.2, 0.6]]])
DRAFT = np.array([[[0.6, 0.2, 0.2], [0.2, 0.2, 0.6], [0.4, 0.4, 0.2]], [[0.5, 0.4, 0.1], [0.3, 0.4, 0.3], [0.3, 0.5, 0.2]]])
# The third action is there in each fourth step only, which leaves few enough trajectories to count.
WIDE = 4


class Small:
    """Two states, three actions. Action 1 flips the state, action 2 makes it 1; in every third step chance, of the episode's own seed,
    flips it too."""

    def __init__(self, num_envs: int, seed: int = 0, ends: int | None = None) -> None:
        self.num_envs, self.ends = num_envs, ends
        self.base = np.uint64(seed << 40)
        self.state, self.age = np.zeros((2, num_envs), np.int64)
        self.noise = np.zeros(num_envs, np.uint64)

    def begin(self, indices: np.ndarray, episodes: np.ndarray) -> np.ndarray:
        self.state[indices] = self.age[indices] = 0
        self.noise[indices] = mixed(self.base + episodes.astype(np.uint64))
        return self.state.copy()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.noise += np.uint64(0x9E3779B97F4A7C15)
        flip = (mixed(self.noise) >> np.uint64(11)) * 2.0**-53 < NOISE
        self.state = moved(self.state, actions) ^ (flip & (self.age % 3 == 2))
        self.age = self.age + 1
        over = self.age >= self.ends if self.ends else np.zeros(self.num_envs, bool)
        return self.state.copy(), 1.0 * self.state, over

    def snapshot(self, indices: np.ndarray) -> list[np.ndarray]:
        return [self.state.copy(), self.age.copy(), self.noise.copy()]

    def restore(self, snapshot: list[np.ndarray], indices: np.ndarray) -> None:
        for mine, then in zip((self.state, self.age, self.noise), snapshot):
            mine[indices] = then[indices]


class Forgetful(Small):
    """One that does not go back."""

    def restore(self, snapshot: list[np.ndarray], indices: np.ndarray) -> None:
        pass


def moved(state: np.ndarray, action: np.ndarray) -> np.ndarray:
    return np.where(action == 2, 1, state ^ (action & 1))


def probabilities(table: np.ndarray, state: np.ndarray, before: np.ndarray, time: np.ndarray) -> np.ndarray:
    p = table[state, before]
    p[time % WIDE != 0, 2] = 0
    return p / p.sum(1, keepdims=True)


def mixed(x: np.ndarray) -> np.ndarray:
    """splitmix64's output function."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def by_history(table: np.ndarray):
    """A policy that reads the state and, from the history, the action before."""

    def ask(asked: speculate.Asked) -> np.ndarray:
        before = np.where(asked.time > 0, asked.actions[asked.episode, asked.time - 1], 0)
        return probabilities(table, asked.now(), before, asked.time)

    return ask


def constant(*p: float):
    return lambda asked: np.tile(p, (len(asked.time), 1))


RADIX = [3] * STEPS + [2] * (STEPS // 3)


def counted(done: speculate.Rollout) -> np.ndarray:
    """How often each trajectory was: nine actions, and the state after each toss."""
    parts = np.concatenate([done.actions, done.observations[:, 3::3]], 1)
    return np.bincount(np.ravel_multi_index(parts.T, RADIX), minlength=math.prod(RADIX))


def expected() -> np.ndarray:
    """Probability of each, multiplied out."""
    parts = np.array(np.unravel_index(np.arange(math.prod(RADIX)), RADIX))
    p = np.ones(parts.shape[1])
    state, before = np.zeros((2, parts.shape[1]), int)
    for t, action in enumerate(parts[:STEPS]):
        p *= probabilities(TARGET, state, before, np.full(len(p), t))[np.arange(len(p)), action]
        state, before = moved(state, action), action
        if t % 3 == 2:
            told = parts[STEPS + t // 3]
            p *= np.where(told == state, 1 - NOISE, NOISE)
            state = told
    assert p.sum() == pytest.approx(1)
    return p


def pooled(*rows: np.ndarray, least: float) -> list[np.ndarray]:
    """The rows with all cells together of which the first row has fewer than `least`."""
    few = rows[0] < least
    return [np.append(r[~few], r[few].sum()) if few.any() else r for r in rows]


def tail(chi: float, cells: int) -> float:
    """Probability of a chi-square over `chi` with cells - 1 degrees of freedom, by Wilson and Hilferty: the cube root is nearly normal."""
    a = 2 / (9 * (cells - 1))
    return math.erfc(((chi / (cells - 1)) ** (1 / 3) - (1 - a)) / math.sqrt(2 * a)) / 2


def against_exact(counts: np.ndarray) -> float:
    e, c = pooled(expected() * counts.sum(), counts, least=5)
    return tail(float(((c - e) ** 2 / e).sum()), len(e))


def against_sample(counts: np.ndarray, other: np.ndarray) -> float:
    both, a, b = pooled(counts + other, counts, other, least=10)
    return tail(float(((a - b) ** 2 / both).sum()), len(both))


def sample(k: int, seed: int, kind: type[Small] = Small) -> speculate.Rollout:
    # Four episodes in each environment, one after the other.
    env = kind(EPISODES // 4, seed)
    return speculate.rollout(env, by_history(DRAFT), by_history(TARGET), k, np.random.default_rng(seed), STEPS, EPISODES)


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    done = sample(0, 100)
    assert done.counts.calls == 4 * STEPS and done.counts.drafted == 0
    return counted(done)


@pytest.mark.parametrize(("chi", "cells", "p"), [(6.635, 2, 0.01), (23.209, 11, 0.01), (135.807, 101, 0.01), (1106.97, 1001, 0.01), (2.706, 2, 0.1)])
def test_the_tail_is_that_of_tables(chi: float, cells: int, p: float) -> None:
    assert tail(chi, cells) == pytest.approx(p, rel=0.05)


def test_plain_sampling_is_the_target(plain: np.ndarray) -> None:
    assert against_exact(plain) > 0.01


@pytest.mark.parametrize("k", KS)
def test_whole_trajectories_are_those_of_plain_sampling(k: int, plain: np.ndarray) -> None:
    done = sample(k, k)
    counts = counted(done)
    assert counts.sum() == EPISODES
    assert against_sample(counts, plain) > 0.01
    assert against_exact(counts) > 0.01
    # And no trajectory is one that the environment could not go.
    sure = np.arange(STEPS) % 3 != 2
    assert np.array_equal(moved(done.observations[:, :-1], done.actions)[:, sure], done.observations[:, 1:][:, sure])


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("broken", ["all are kept", "p in place of the residual", "not going back"])
def test_a_broken_rule_is_seen(k: int, broken: str, plain: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = Small
    if broken == "all are kept":
        monkeypatch.setattr(speculate, "keeps", lambda p, q, u: np.ones(len(u), bool))
    elif broken == "p in place of the residual":
        monkeypatch.setattr(speculate, "residual", lambda p, q: p)
    else:
        kind = Forgetful
    counts = counted(sample(k, k, kind))
    assert against_sample(counts, plain) < 1e-6
    assert against_exact(counts) < 1e-6


@pytest.mark.parametrize("k", [1, 8])
def test_the_share_kept_is_what_p_and_q_have_in_common(k: int) -> None:
    p, q = (0.5, 0.3, 0.2), (0.2, 0.5, 0.3)
    # .2 + .3 + .2
    common, steps = 0.7, 400
    c = speculate.rollout(Small(500), constant(*q), constant(*p), k, np.random.default_rng(3), steps).counts
    noise = math.sqrt(common * (1 - common) / c.judged)
    assert c.accepted / c.judged == pytest.approx(common, abs=4 * noise)
    # Steps in a round: 1 + .7 + .7^2 ... + .7^k. The last round of an episode may be cut short.
    assert c.executed / c.verifications == pytest.approx(sum(common**i for i in range(k + 1)), rel=0.02)


class Written:
    """Random numbers written down: to pick, to keep, to correct."""

    def __init__(self, *rows: list[float]) -> None:
        self.rows = np.array(rows)[:, None, :]

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        assert shape == self.rows.shape
        return self.rows


def test_two_rounds_by_hand() -> None:
    calls = []

    def target(asked: speculate.Asked) -> np.ndarray:
        calls.append(asked.time.tolist())
        return np.tile((0.25, 0.75), (len(asked.time), 1))

    # Drafts: 0 below .75, else 1. A 0 stays below 1/3, a 1 always. The residual is (0, .5).
    numbers = Written([0.5, 0.6, 0.8, 0.9, 0.3], [0.2, 0.5, 0.99, 0.99, 0.99], [0.1] * 5)
    done = speculate.rollout(Small(1), constant(0.75, 0.25), target, 2, numbers, 5)
    # 0 stays, 0 is put right; 1 and 1 stay, and one more from the target, for which .3 is over .25.
    assert done.actions.tolist() == [[0, 1, 1, 1, 1]]
    assert calls == [[0, 1, 2], [2, 3, 4]]
    c = done.counts
    assert (c.executed, c.calls, c.verifications, c.positions) == (5, 2, 2, 6)
    assert (c.drafted, c.judged, c.accepted, c.thrown_away, c.idle) == (4, 4, 3, 1, 0)
    assert done.probabilities.tolist() == [[[0.25, 0.75]] * 5]


def test_actions_of_probability_0_are_never_picked() -> None:
    p = np.tile((0.0, 0.3, 0.0, 0.7, 0.0), (4, 1)) * 1e-3
    u = np.array([0.0, np.nextafter(0.3, 0), np.nextafter(0.3, 1), np.nextafter(1, 0)])
    assert speculate.pick(p, u).tolist() == [1, 1, 3, 3]


def test_what_cannot_be_is_refused() -> None:
    policy, rng = constant(0.5, 0.5), np.random.default_rng(1)
    with pytest.raises(ValueError, match="ends before 5 steps"):
        speculate.rollout(Small(2, ends=4), policy, policy, 2, rng, 5)
    speculate.rollout(Small(2, ends=5), policy, policy, 2, rng, 5)
    for wrong in (constant(0.5, 0.6), constant(1.5, -0.5), constant(np.nan, 1.0), lambda asked: np.ones((1, 1))):
        with pytest.raises(ValueError, match="a distribution for each of"):
            speculate.rollout(Small(2), policy, wrong, 2, rng, 5)
    with pytest.raises(ValueError, match="1 episodes are fewer than the 2 environments"):
        speculate.rollout(Small(2), policy, policy, 2, rng, 5, 1)


def test_the_policy_is_the_students() -> None:
    score = np.log([[1.0, 0.5, 0.25, 0.5]])
    feasible = np.log([[0.1 / 0.9, 0.61 / 0.39, 0.59 / 0.41, 0.9 / 0.1]])
    # The third is not taken for feasible; the first always counts. 1 : 2 : 2 at temperature 1, 1 : 4 : 4 at 1/2.
    assert speculate.policy(score, feasible, 0.6, 1.0) == pytest.approx(np.array([[0.2, 0.4, 0, 0.4]]))
    assert speculate.policy(score, feasible, 0.6, 0.5) == pytest.approx(np.array([[1 / 9, 4 / 9, 0, 4 / 9]]))
    source = (Path(__file__).parents[1] / "student.py").read_text()
    assert f"\nTAU = {speculate.TAU}\n" in source


def links(num_envs: int) -> speculate.Links:
    flows = {"classic": ("cubic",), "l4s": ("prague",), "both": ("prague", "reno"), "two": ("prague", "cubic")}
    scenarios = [
        f'name = "{name}"\nduration = "9s"\n[link]\nrate = "12Mbit"\n' + "".join(f'[[flow]]\ncc = "{cc}"\nrtt = "15ms"\n' for cc in of)
        for name, of in flows.items()
    ]
    return speculate.Links(num_envs, scenarios, LINK_STEPS, seed=3)


LINK_STEPS = 20


def observed(sharpness: float):
    """A policy over all candidates that depends on what is observed, bit for bit the same in any batch."""

    def ask(asked: speculate.Asked) -> np.ndarray:
        x = asked.now()[:, :44].astype(np.float64)
        weight = np.exp(sharpness * np.sin(x + np.arange(44)))
        return weight / weight.sum(1, keepdims=True)

    return ask


def same(a: speculate.Rollout, b: speculate.Rollout) -> bool:
    pairs = [(a.observations, b.observations), (a.actions, b.actions), (a.rewards, b.rewards), (a.probabilities, b.probabilities)]
    return all(x.tobytes() == y.tobytes() for x, y in pairs)


@pytest.mark.parametrize("k", [1, 4])
def test_a_draft_that_is_the_target_is_kept_on_real_links(k: int) -> None:
    def run(k: int, num_envs: int) -> speculate.Rollout:
        return speculate.rollout(links(num_envs), observed(2.0), observed(2.0), k, np.random.default_rng(7), LINK_STEPS, 4)

    alone, drafted = run(0, 4), run(k, 4)
    assert len(np.unique(alone.actions)) > 10
    assert same(alone, drafted)
    c = drafted.counts
    assert c.accepted == c.drafted == c.judged and c.thrown_away == 0
    assert c.calls == LINK_STEPS // (k + 1)
    # Nor does it matter how many run at a time.
    assert same(alone, run(k, 2)) and same(alone, run(0, 3))


def test_real_links_go_back_bit_for_bit() -> None:
    env = links(4)
    done = speculate.rollout(env, observed(0.5), observed(2.0), 4, np.random.default_rng(5), LINK_STEPS)
    assert done.counts.thrown_away > 20
    observations = env.begin(np.arange(4), np.arange(4))
    for t in range(LINK_STEPS):
        assert observations.tobytes() == done.observations[:, t].tobytes()
        observations, rewards, _ = env.step(done.actions[:, t])
        assert rewards.tobytes() == done.rewards[:, t].tobytes()
    assert observations.tobytes() == done.observations[:, LINK_STEPS].tobytes()


def test_some_real_links_go_back_and_the_others_stay() -> None:
    env = links(3)
    env.begin(np.arange(3), np.arange(3))
    env.step(np.array([5, 9, 13]))
    kept = env.snapshot(np.array([0, 2]))
    first = env.step(np.array([7, 7, 7]))
    env.restore(kept, np.array([2]))
    now, _, _ = env.step(np.array([7, 7, 7]))
    assert now[2].tobytes() == first[0][2].tobytes()
    assert now[0].tobytes() != first[0][0].tobytes()


def test_a_model_file_is_a_policy() -> None:
    pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
    model = speculate.Model(Path(__file__).parents[2] / "student.onnx", speculate.TAU)
    done = speculate.rollout(links(2), model, model, 4, np.random.default_rng(1), LINK_STEPS)
    assert done.counts.thrown_away == 0 and done.probabilities.shape == (2, LINK_STEPS, len(values.CANDIDATES))
