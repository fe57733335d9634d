"""Evaluations and rollouts as Ray tasks, or as threads of this process; the outcome is the same to the bit.

Every task is a run of l4sd's own simulator, which lets go of the interpreter's lock. Needs ``pip install ray`` unless
``ray=False``. Without a connection to Ray, ``ray.init()`` makes one: to ``RAY_ADDRESS``, a cluster that runs here, or a
fresh local one. Workers need this package in the same version, and scenario files at the same paths.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from l4sd_gym import _core
from l4sd_gym._links import Options, Scenario
from l4sd_gym.vector import L4sdVectorEnv

Result = TypeVar("Result")
Actor = Callable[[NDArray[np.float32]], NDArray[np.int64]]
"""Observations (n, width) of n episodes to actions (n, 4)."""


def evaluate(
    grids: Sequence[str],
    policies: Sequence[str],
    *,
    split: str = "dev",
    split_seed: int = 1,
    seeds: int = 3,
    draws: int = 1,
    smoke: bool = False,
    ray: bool = True,
    threads: int | None = None,
) -> str:
    """What ``l4sd eval`` writes to ``results.json`` for the same arguments, byte for byte; a task for each run.

    ``grids`` and ``policies`` are as on its command line; no grids are all but smoke. ``threads`` counts without Ray; None
    is one for each core. Raises ValueError for what makes no sense, before anything runs. Nothing is kept for resuming.
    """
    key = (tuple(grids), tuple(policies), split, split_seed, seeds, draws, smoke)
    plan = _plan(*key)
    records = _spread(_run, [(key, *unit) for unit in plan.units()], ray, threads)
    return plan.judge(records)


def rollouts(
    scenario: Scenario | Sequence[Scenario] | None,
    episodes: int,
    *,
    seed: int = 0,
    actions: NDArray[np.int64] | Actor | None = None,
    per_task: int = 16,
    ray: bool = True,
    threads: int | None = None,
    **options: Unpack[Options],
) -> NDArray[np.float64]:
    """Returns of episodes, the sums of their rewards, shape (episodes,). Tasks are vector environments of ``per_task``.

    Episode i is the first one of ``L4sdEnv(scenario, **options)`` with seed ``seed + i``, whatever ``per_task``.
    ``actions`` is one action, shape (4,); a schedule, (steps, 4), whose last row is held; a function of observations; or
    None, which is random ones, drawn from ``seed`` and i.
    """
    if episodes < 1 or per_task < 1:
        raise ValueError(f"episodes = {episodes} and per_task = {per_task} are 1 or more")
    starts = range(0, episodes, per_task)
    tasks = [(scenario, seed, i, min(per_task, episodes - i), actions, dict(options)) for i in starts]
    return np.concatenate(_spread(_episodes, tasks, ray, threads))


def _spread(
    work: Callable[..., Result], tasks: Sequence[tuple[Any, ...]], ray: bool, threads: int | None
) -> list[Result]:
    """``work(*task)`` of each, in order."""
    if not ray:
        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            return list(pool.map(lambda task: work(*task), tasks))
    try:
        import ray as cluster
    except ImportError as e:
        raise ImportError("ray is not installed: pip install ray, or ray=False for threads") from e
    if not cluster.is_initialized():
        cluster.init()
    remote = cluster.remote(num_cpus=1)(work)
    return cluster.get([remote.remote(*task) for task in tasks])


@functools.lru_cache(maxsize=4)
def _plan(
    grids: tuple[str, ...],
    policies: tuple[str, ...],
    split: str,
    split_seed: int,
    seeds: int,
    draws: int,
    smoke: bool,
) -> _core.EvalPlan:
    return _core.EvalPlan(
        list(grids),
        list(policies),
        split=split,
        split_seed=split_seed,
        seeds=seeds,
        draws=draws,
        smoke=smoke,
    )


def _run(key: tuple[Any, ...], cell: int, policy: int, seed: int) -> str:
    return _plan(*key).run(cell, policy, seed)


def _episodes(
    scenario: Scenario | Sequence[Scenario] | None,
    seed: int,
    first: int,
    count: int,
    actions: NDArray[np.int64] | Actor | None,
    options: Options,
) -> NDArray[np.float64]:
    envs = L4sdVectorEnv(count, scenario, **options)
    observations, _ = envs.reset(seed=seed + first)
    sizes = envs.single_action_space.nvec
    draws = [np.random.default_rng([seed, first + i]) for i in range(count)]
    returns, running, step = np.zeros(count), np.ones(count, np.bool_), 0
    while running.any():
        if actions is None:
            chosen = np.stack([rng.integers(sizes) for rng in draws])
        elif callable(actions):
            chosen = actions(observations)
        else:
            rows = np.atleast_2d(actions)
            chosen = np.tile(rows[min(step, len(rows) - 1)], (count, 1))
        observations, rewards, _, truncated, _ = envs.step(chosen)
        returns[running] += rewards[running]
        running &= ~truncated
        step += 1
    return returns


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m l4sd_gym.scale``: an evaluation as Ray tasks."""
    parser = argparse.ArgumentParser(prog="python -m l4sd_gym.scale", description="l4sd eval as Ray tasks")
    parser.add_argument("grids", nargs="*", metavar="GRID", help="as for l4sd eval")
    parser.add_argument("--policy", action="append", required=True, help="beside dualpi2; may be repeated")
    parser.add_argument("--split", default="dev", choices=["train", "low", "dev", "test"])
    parser.add_argument("--split-seed", type=int, default=1, metavar="N")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--draws", type=int, default=1, metavar="N")
    parser.add_argument("--smoke", action="store_true", help="three cells of each grid, 10 s each")
    parser.add_argument("--threads", action="store_true", help="threads of this process instead of Ray")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the results go [default: standard output]")
    args = parser.parse_args(arguments)
    try:
        results = evaluate(
            args.grids,
            args.policy,
            split=args.split,
            split_seed=args.split_seed,
            seeds=args.seeds,
            draws=args.draws,
            smoke=args.smoke,
            ray=not args.threads,
        )
    except (ValueError, ImportError) as e:
        sys.exit(f"l4sd_gym.scale: {e}")
    if args.out:
        args.out.write_text(results, encoding="utf-8", newline="")
    else:
        sys.stdout.write(results)


if __name__ == "__main__":
    # Workers look for functions where these are imported from, which is not `__main__`.
    from l4sd_gym import scale

    scale.main()
