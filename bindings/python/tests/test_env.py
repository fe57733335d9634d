"""One environment: Gymnasium's contract, seeds, snapshots, the reward's zero, hostile actions."""

from __future__ import annotations

import math
import pathlib
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import scenario
from gymnasium.utils.env_checker import check_env
from l4sd_gym import ACTION_VALUES, DEFAULT_ACTION, FEATURES, INFO, SCHEMA_HASH, L4sdEnv
from l4sd_gym.schema import Schema


def rollout(env: L4sdEnv, actions: np.ndarray) -> list[tuple[Any, ...]]:
    """All that each step tells, comparable with ==."""
    told = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        told.append((observation.tobytes(), reward, terminated, truncated, info))
        if truncated:
            env.reset()
    return told


def random_actions(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers([12, 7, 12, 5], size=(n, 4))


def test_gymnasium_accepts_it(one_on_one: str) -> None:
    with warnings.catch_warnings():
        # Features have no bounds, and there is no spec when it is not made by name.
        warnings.filterwarnings("ignore", message=".*infinity|.*unbounded|.*spec")
        check_env(L4sdEnv(one_on_one, hold=8), skip_render_check=True)


def test_it_is_registered() -> None:
    env = gymnasium.make("l4sd_gym:l4sd/Link-v0", hold=8, episode_s=1)
    observation, info = env.reset(seed=5)
    assert env.observation_space.contains(observation)
    assert info["truth_capacity_mbps"] == 40
    steps = 0
    truncated = False
    while not truncated:
        *_, terminated, truncated, info = env.step(env.action_space.sample())
        assert not terminated
        steps += 1
    # One interval of 16 ms in reset, then steps of 128 ms until 1 s has passed.
    assert steps == 8
    assert set(info) == {*INFO, "link_seed"}


def test_seeds_repeat(one_on_one: str) -> None:
    env, other = (L4sdEnv(one_on_one, hold=4, episode_s=2) for _ in range(2))
    actions = random_actions(80)
    env.reset(seed=3)
    told = rollout(env, actions)
    other.reset(seed=4)
    assert rollout(other, actions) != told
    other.reset(seed=3)
    assert rollout(other, actions) == told


def test_without_a_seed_links_differ(one_on_one: str) -> None:
    seeds = set()
    for _ in range(3):
        env = L4sdEnv(one_on_one)
        for _ in range(3):
            seeds.add(env.reset()[1]["link_seed"])
    assert len(seeds) == 9


def test_what_was_returned_is_not_written_again(one_on_one: str) -> None:
    env = L4sdEnv(one_on_one, hold=8)
    first, _ = env.reset(seed=1)
    copy = first.copy()
    rollout(env, random_actions(5))
    assert np.array_equal(first, copy)


def test_a_restored_snapshot_goes_on_bit_for_bit(mixed: list[str]) -> None:
    env = L4sdEnv(mixed, hold=3)
    env.reset(seed=11)
    rollout(env, random_actions(7))
    snapshot = env.snapshot()
    # Past the end of the episode, so that the draw of the next one is part of it.
    actions = random_actions(50, seed=1)
    told = rollout(env, actions)
    rollout(env, random_actions(13, seed=2))
    observation, info = env.restore(snapshot)
    assert info["time_s"] == pytest.approx(snapshot.times_s[0])
    assert env.observation_space.contains(observation)
    assert rollout(env, actions) == told
    env.restore(snapshot)
    assert rollout(env, actions) == told


def test_a_foreign_snapshot_is_refused(one_on_one: str) -> None:
    env, other = L4sdEnv(one_on_one), L4sdEnv(one_on_one)
    env.reset(seed=1)
    with pytest.raises(ValueError, match="other scenarios or options"):
        other.restore(env.snapshot())


def test_the_defaults_are_worth_exactly_nothing(one_on_one: str) -> None:
    env = L4sdEnv(one_on_one, hold=8)
    env.reset(seed=2)
    for _ in range(100):
        _, reward, _, _, info = env.step(DEFAULT_ACTION)
        assert reward == 0
        for name in ("delay_l", "delay_c"):
            assert info[f"{name}_ms"] == info[f"{name}_ref_ms"]
    assert 5 < info["delay_c_ms"] < 30


def test_the_defaults_are_those_of_the_rfc() -> None:
    values = [ACTION_VALUES[name][i] for name, i in zip(ACTION_VALUES, DEFAULT_ACTION, strict=True)]
    assert values == [15.0, 1.0, 0.8, 1.0]


def test_observations_and_actions_are_those_of_the_schema(one_on_one: str) -> None:
    schema = Schema.load(sha256=SCHEMA_HASH)
    assert FEATURES == tuple(schema.names)
    env = L4sdEnv(one_on_one, hold=8)
    observation, _ = env.reset(seed=1)
    assert observation.shape == env.observation_space.shape == (schema.width,)
    for action in random_actions(50):
        observation = env.step(action)[0]
    assert np.isfinite(observation).all() and np.count_nonzero(observation) > schema.width // 2
    # At most the clip of its signal, whatever the link does.
    assert np.abs(observation).max() <= max(s.clip for s in schema.signals)
    assert tuple(schema.default_bins) == tuple(DEFAULT_ACTION)


def test_a_lower_target_pays_where_it_costs_nothing() -> None:
    env = L4sdEnv(scenario("40Mbit", *[("cubic", "10ms")] * 4), hold=8)
    env.reset(seed=2)
    rewards = [env.step(np.array([5, 2, 4, 2]))[1] for _ in range(120)]
    assert 0.5 < np.mean(rewards[60:]) < math.log(15.5 / 4.8)


def test_the_parts_add_up(one_on_one: str) -> None:
    env = L4sdEnv(one_on_one, hold=8, lam_utilisation=3, lam_fairness=0.5, move_cost=0.1)
    env.reset(seed=2)
    for action in random_actions(100):
        _, reward, _, _, i = env.step(action)
        parts = i["reward_delay"] - 3 * i["cost_utilisation"] - 0.5 * i["cost_fairness"] - 0.1 * i["cost_moves"]
        assert reward == pytest.approx(parts, abs=1e-5)
        if i["time_s"] < 5:
            assert i["cost_utilisation"] == i["cost_fairness"] == 0


def test_without_a_twin_there_is_no_reward(one_on_one: str) -> None:
    env = L4sdEnv(one_on_one, hold=8, twin=False)
    env.reset(seed=2)
    _, reward, _, _, info = env.step(np.array([0, 2, 4, 2]))
    assert reward == 0 and info["delay_c_ref_ms"] is None and info["utilisation_ref"] is None


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        ([12, 2, 4, 2], ValueError, "target = 12 is not an index of its values: 0 to 11"),
        ([9, -1, 4, 2], ValueError, "gain = -1"),
        ([9, 2, 4, 2**63], ValueError, "feed_forward = -9223372036854775808"),
        ([9.0, 2.0, math.nan, 0.0], TypeError, "actions are integers, not float64"),
        ([True, True, True, True], TypeError, "actions are integers, not bool"),
        (["9", "2", "4", "0"], TypeError, "actions are integers"),
        ([9, 2, 4], ValueError, r"actions have the shape \(1, 4\), not \(1, 3\): target, gain, ramp_min, feed_forward"),
        (9, ValueError, r"actions have the shape \(1, 4\)"),
    ],
)
def test_hostile_actions_move_nothing(one_on_one: str, action: Any, error: type, message: str) -> None:
    env = L4sdEnv(one_on_one)
    env.reset(seed=1)
    before = env.snapshot().times_s
    if action == [9, 2, 4, 2**63]:
        action = np.array(action, np.uint64)
    with pytest.raises(error, match=message):
        env.step(action)
    assert env.snapshot().times_s == before


def test_the_order_of_calls(one_on_one: str) -> None:
    env = L4sdEnv(one_on_one, episode_s=0.032)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(DEFAULT_ACTION)
    env.reset(seed=1)
    assert env.step(DEFAULT_ACTION)[3]
    with pytest.raises(RuntimeError, match="its episode is over; reset it"):
        env.step(DEFAULT_ACTION)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"scenario": "no/such.toml"}, ValueError, "no/such.toml: cannot read the scenario"),
        ({"scenario": "name = \n"}, ValueError, "scenario:1:"),
        ({"scenario": []}, ValueError, "there is no scenario"),
        ({"interval_ms": math.nan}, ValueError, "interval_s = NaN is not a time"),
        ({"interval_ms": 0.5}, ValueError, "interval = 500us is out of range: 1ms to 1s"),
        ({"hold": 0}, ValueError, "hold = 0 is out of range: 1 to 1000"),
        ({"lam_fairness": -1}, ValueError, "lam_fairness = -1"),
        ({"episode_s": 0.02}, ValueError, "duration = 20ms is out of range"),
        ({"lamda": 1}, TypeError, "unknown option 'lamda'; the options are interval_ms"),
        ({"render_mode": "human"}, ValueError, "nothing to render"),
    ],
)
def test_what_makes_no_sense_is_named(arguments: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        L4sdEnv(**arguments)


def test_a_seed_is_what_gymnasium_takes(one_on_one: str) -> None:
    env = L4sdEnv(one_on_one)
    with pytest.raises(Exception, match="(?i)seed"):
        env.reset(seed=-1)


def test_scenarios_come_from_files_and_by_choice(tmp_path: pathlib.Path, mixed: list[str]) -> None:
    file = tmp_path / "s.toml"
    file.write_text(mixed[0])
    env = L4sdEnv([file, mixed[1], mixed[2]])
    assert env.scenarios == ["classic", "both", "l4s"]
    for i, mix in enumerate([2, 3, 1]):
        env.reset(seed=1, options={"scenario": i})
        for _ in range(5):
            info = env.step(DEFAULT_ACTION)[4]
        assert (info["scenario"], info["truth_mix"]) == (i, mix)
