"""Evaluations and rollouts: Ray, threads and the command line tell the same, byte for byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from l4sd_gym import DEFAULT_ACTION, L4sdEnv, L4sdVectorEnv, grid_scenarios
from l4sd_gym.scale import evaluate, rollouts

# What Ray warns of is not about this package.
pytestmark = pytest.mark.filterwarnings("default")

ROOT = Path(__file__).parents[3]
BINARY = Path(os.environ.get("L4SD_BIN", ROOT / "target/release/l4sd"))
GRIDS, POLICIES = ["smoke"], ["codel"]


@pytest.fixture(scope="module")
def threads() -> str:
    return evaluate(GRIDS, POLICIES, seeds=1, ray=False, threads=2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A local Ray of two cores."""
    try:
        import ray
    except ImportError:
        warnings.warn("ray is not installed: nothing is spread over processes here", stacklevel=1)
        pytest.skip("ray is not installed")
    ray.init(num_cpus=2, include_dashboard=False)
    yield
    ray.shutdown()


def test_ray_writes_the_same_bytes(threads: str, cluster: None) -> None:
    assert evaluate(GRIDS, POLICIES, seeds=1) == threads


def test_rollouts_on_ray_return_the_same(mixed: list[str], cluster: None) -> None:
    here = rollouts(mixed, 5, seed=3, per_task=5, ray=False, hold=8)
    assert np.array_equal(rollouts(mixed, 5, seed=3, per_task=2, hold=8), here)


def test_the_module_as_a_command_writes_the_same_bytes(threads: str, cluster: None, tmp_path: Path) -> None:
    import ray

    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "l4sd_gym.scale", *GRIDS, "--policy", *POLICIES, "--seeds", "1"]
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    subprocess.run([*command, "--out", results], check=True, env=environment, timeout=120)
    assert results.read_bytes() == threads.encode()


def test_the_command_line_writes_the_same_bytes(threads: str, tmp_path: Path) -> None:
    if not BINARY.exists():
        pytest.skip("there is no l4sd: cargo build --release, or name one by L4SD_BIN")
    command = [BINARY, "eval", *GRIDS, "--policy", *POLICIES, "--seeds", "1", "--json", "--out", tmp_path]
    told = subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert told.stdout.decode() == threads
    assert (tmp_path / "results.json").read_bytes() == threads.encode()


def test_the_results_are_those_of_the_design(threads: str) -> None:
    results = json.loads(threads)
    # Three cells, dualpi2 once and once more against itself, codel once.
    assert len(results["runs"]) == 9
    assert results["seeds"] == [1] and results["other_seeds"] == [2]
    assert [row["policy"] for row in results["cells"]] == 3 * ["dualpi2", "codel"]


def test_a_rollout_is_the_episode_of_a_single_environment(mixed: list[str]) -> None:
    schedule = np.array([[5, 2, 4, 2], [6, 3, 5, 1], [4, 1, 3, 0]])
    told = rollouts(mixed, 3, seed=7, actions=schedule, per_task=2, ray=False, hold=8)
    for i, total in enumerate(told):
        env, expected, step, truncated = L4sdEnv(mixed, hold=8), 0.0, 0, False
        env.reset(seed=7 + i)
        while not truncated:
            _, reward, _, truncated, _ = env.step(schedule[min(step, 2)])
            expected, step = expected + reward, step + 1
        assert total == expected and step > 3


def test_the_defaults_return_nothing_and_a_function_may_choose(mixed: list[str]) -> None:
    assert not rollouts(mixed, 3, actions=DEFAULT_ACTION, ray=False).any()
    chosen = rollouts(mixed, 3, actions=lambda o: np.tile(DEFAULT_ACTION, (len(o), 1)), ray=False)
    assert not chosen.any()
    assert rollouts(mixed, 3, ray=False, hold=8).any()


def test_scenarios_of_a_grid() -> None:
    texts = grid_scenarios("smoke")
    assert len(texts) == 3 and texts != grid_scenarios("smoke", split="dev")
    assert len(grid_scenarios("smoke", draws=2)) == 6
    envs = L4sdVectorEnv(2, texts)
    assert len(set(envs.scenarios)) == 3
    with pytest.raises(ValueError, match="there is no grid 'nowhere'; it is one of rfc9332, "):
        grid_scenarios("nowhere")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"grids": ["nowhere"]}, "there is no grid 'nowhere'"),
        ({"policies": ["red"]}, "policy 'red'"),
        ({"split": "all"}, "there is no split 'all'; it is one of train, low, dev, test"),
        ({"seeds": 0}, "seeds = 0 is not in 1 to 100"),
        ({"draws": 0}, "draws = 0 is not in 1 to 1000"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        evaluate(**{"grids": GRIDS, "policies": POLICIES, "ray": False, **arguments})  # type: ignore[arg-type]
