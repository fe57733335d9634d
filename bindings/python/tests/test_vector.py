"""Many environments: the same as single ones, on any number of threads, without the interpreter's lock."""

from __future__ import annotations

import threading
import time
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.utils.env_checker import data_equivalence
from l4sd_gym import DEFAULT_ACTION, INFO, L4sdEnv, L4sdVectorEnv


def random_actions(n: int, envs: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers([12, 7, 12, 5], size=(n, envs, 4))


def rollout(envs: L4sdVectorEnv, actions: np.ndarray) -> list[tuple[bytes, ...]]:
    told = []
    for a in actions:
        observations, rewards, terminated, truncated, infos = envs.step(a)
        assert not terminated.any()
        told.append((observations, rewards, truncated, *(infos[name] for name in INFO)))
    return [tuple(np.ascontiguousarray(x).tobytes() for x in step) for step in told]


def test_spaces_types_and_metadata(mixed: list[str]) -> None:
    envs = gymnasium.make_vec("l4sd_gym:l4sd/Link-v0", num_envs=3, scenario=mixed)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    observations, infos = envs.reset(seed=1)
    assert envs.observation_space.contains(observations)
    assert envs.single_observation_space.shape == observations.shape[1:]
    step = envs.step(envs.action_space.sample())
    assert envs.observation_space.contains(step[0])
    assert [x.dtype for x in step[1:4]] == [np.float64, np.bool_, np.bool_]
    assert all(x.shape == (3,) for x in step[1:4])
    assert set(infos) == set(INFO) == set(step[4])
    envs.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_vector_equals_single(mixed: list[str], threads: int) -> None:
    n = 5
    envs = L4sdVectorEnv(n, mixed, threads=threads, hold=2)
    singles = [L4sdEnv(mixed, hold=2) for _ in range(n)]
    observations, infos = envs.reset(seed=40)
    over = [False] * n
    for i, env in enumerate(singles):
        observation, info = env.reset(seed=40 + i)
        assert np.array_equal(observation, observations[i])
        assert info["link_seed"] == envs.link_seeds()[i]
    for actions in random_actions(75, n):
        observations, rewards, _, truncated, infos = envs.step(actions)
        for i, env in enumerate(singles):
            if over[i]:
                observation, info = env.reset()
                told: tuple[Any, ...] = (0.0, False)
            else:
                observation, reward, _, t, info = env.step(actions[i])
                told = (reward, t)
            over[i] = told[1]
            assert np.array_equal(observation, observations[i])
            assert told == (rewards[i], truncated[i])
            for name in INFO:
                assert info[name] == infos[name][i] or (info[name] is None and np.isnan(infos[name][i]))


def test_the_same_seed_twice_and_threads(mixed: list[str]) -> None:
    actions = random_actions(80, 6)
    told = []
    for threads in (1, 1, 4):
        envs = L4sdVectorEnv(6, mixed, threads=threads)
        envs.reset(seed=9)
        told.append(rollout(envs, actions))
    assert told[0] == told[1] == told[2]


def test_the_same_step_hands_out_the_end(mixed: list[str]) -> None:
    """Two modes, one course: what one tells in the step after an end, the other tells in the step of the end."""
    n = 3
    same = L4sdVectorEnv(n, mixed, autoreset_mode=AutoresetMode.SAME_STEP, hold=8)
    then = L4sdVectorEnv(n, mixed, hold=8)
    same.reset(seed=1)
    then.reset(seed=1)
    seen = 0
    for actions in random_actions(40, n):
        observations, rewards, _, truncated, infos = same.step(actions)
        next_observations, next_rewards, _, next_truncated, next_infos = then.step(actions)
        assert np.array_equal(rewards, next_rewards) and np.array_equal(truncated, next_truncated)
        if not truncated.any():
            assert "final_obs" not in infos
            assert np.array_equal(observations, next_observations)
            continue
        seen += 1
        assert truncated.all() and infos["_final_obs"].all()
        assert np.array_equal(np.stack(infos["final_obs"]), next_observations)
        assert data_equivalence(infos["final_info"]["time_s"], next_infos["time_s"])
        next_observations, next_rewards, _, next_truncated, _ = then.step(actions)
        assert np.array_equal(observations, next_observations)
        assert not next_rewards.any() and not next_truncated.any()
    assert seen >= 4


def test_without_autoreset_a_mask_resets(mixed: list[str]) -> None:
    envs = L4sdVectorEnv(2, mixed, autoreset_mode="Disabled", episode_s=0.064)
    envs.reset(seed=1)
    defaults = np.tile(DEFAULT_ACTION, (2, 1))
    for _ in range(3):
        truncated = envs.step(defaults)[3]
    assert truncated.all()
    with pytest.raises(RuntimeError, match="environment 0: its episode is over"):
        envs.step(defaults)
    _, infos = envs.reset(options={"reset_mask": np.array([True, False])})
    assert infos["time_s"].tolist() == pytest.approx([0.016, 0.064])


def test_snapshots_of_some_go_back_and_elsewhere(mixed: list[str]) -> None:
    envs = L4sdVectorEnv(4, mixed)
    envs.reset(seed=5)
    rollout(envs, random_actions(20, 4))
    snapshot = envs.snapshot([1, 3])
    assert len(snapshot) == 2
    actions = random_actions(30, 4, seed=1)
    actions[:, 0] = actions[:, 1]
    before = envs.snapshot()
    told = rollout(envs, actions)
    envs.restore(before)
    assert rollout(envs, actions) == told
    observations, _ = envs.restore(snapshot, [0, 3])
    envs.restore(snapshot)
    for a in actions:
        observations, rewards, *_ = envs.step(a)
        assert np.array_equal(observations[0], observations[1]) and rewards[0] == rewards[1]
    with pytest.raises(ValueError, match="environment 9: there are 4"):
        envs.restore(snapshot, [0, 9])
    with pytest.raises(ValueError, match="1 indices for a snapshot of 2"):
        envs.restore(snapshot, [0])


def test_one_hostile_action_moves_nobody(mixed: list[str]) -> None:
    envs = L4sdVectorEnv(3, mixed, threads=2)
    envs.reset(seed=5)
    before = envs.snapshot().times_s
    actions = np.tile(DEFAULT_ACTION, (3, 1))
    actions[2, 3] = 5
    with pytest.raises(ValueError, match="action 2: feed_forward = 5 is not an index of its values: 0 to 4"):
        envs.step(actions)
    with pytest.raises(ValueError, match=r"actions have the shape \(3, 4\), not \(4,\)"):
        envs.step(DEFAULT_ACTION)
    assert envs.snapshot().times_s == before


@pytest.mark.parametrize("arguments", [{"num_envs": 0}, {"threads": 0}, {"autoreset_mode": "Never"}])
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        L4sdVectorEnv(**arguments)


def test_the_interpreter_runs_while_links_are_simulated() -> None:
    """One long step in a thread; meanwhile this one must get its turns."""
    envs = L4sdVectorEnv(8, hold=500, episode_s=60)
    envs.reset(seed=1)
    began, ended = [], []

    def step() -> None:
        began.append(time.perf_counter())
        envs.step(np.tile(DEFAULT_ACTION, (8, 1)))
        ended.append(time.perf_counter())

    thread = threading.Thread(target=step)
    turns = []
    thread.start()
    while thread.is_alive():
        turns.append(time.perf_counter())
        time.sleep(0.001)
    thread.join()
    inside = [t for t in turns if began[0] < t < ended[0]]
    took = ended[0] - began[0]
    assert took > 0.02, "long enough to tell"
    # With the lock held there would be none at all between the two times.
    assert len(inside) >= 5, f"{len(inside)} turns in {took:.3f} s"
