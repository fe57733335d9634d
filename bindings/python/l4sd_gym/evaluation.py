"""Policies written in Python, judged as ``l4sd eval`` judges its own: the same links, seeds, guard, figures and verdict.

Such a policy answers for many links in one call, as a model on an accelerator wants to be asked.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l4sd_gym import _core
from l4sd_gym.rules import CANDIDATES

PERIOD_S = 0.128
"""How often a policy is asked, as models are."""

Chooser = Callable[[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]], Any]
"""Numbers of runs (n,), features (n, width), candidates in use (n,) and seconds since each began (n,) to candidates (n,)."""


def closed_loop(
    choose: Chooser,
    grids: Sequence[str] = (),
    *,
    split: str = "dev",
    split_seed: int = 1,
    seeds: int = 3,
    draws: int = 1,
    smoke: bool = False,
    name: str = "model",
    at_once: int = 256,
    period_s: float = PERIOD_S,
    candidates: Sequence[Sequence[float]] | None = None,
    reset: Callable[[NDArray[np.int64]], object] | None = None,
    out: str | PathLike[str] | None = None,
) -> dict[str, Any]:
    """``results.json`` of ``l4sd eval`` for these arguments, parsed, with the policy ``choose``, which it calls ``name``.

    ``grids`` are as on the command line; no grids are all but smoke. Runs, each of a link and a seed, are numbered from 0,
    the longest first, and up to ``at_once`` are under way; when one ends the next begins. ``choose(ids, features, current,
    time_s)`` is called from this thread whenever all that are under way have come to a choice, which is after the first
    window and every ``period_s`` from then on. It has them all, in rising order of id: a run that is missing from a call has
    ended. Calls are fewest when ``at_once`` divides the number of runs, which is cells times ``seeds``. What it returns,
    integers (n,), are indices of ``candidates``; a negative one is no opinion, and the guard returns to RFC 9332's constants
    then, as it does when a model finds a link unfamiliar. Candidates are ``[target_s, gain, ramp_min_s]`` each, RFC 9332's
    constants first, as in ``l4sd.candidates`` of a model file; without them :data:`l4sd_gym.rules.CANDIDATES`.
    A feed-forward cannot be asked for from here.

    ``reset(ids)`` is called before the first call with these ids, for a policy that remembers. If ``choose`` has an attribute
    ``begin``, ``choose.begin(links)`` is called once before all else with grid, cell and seed of each run, by id. That is for
    books, not for choosing: a policy on a live link does not know them.

    ``dualpi2`` is run on all cores without the policy. Its records are kept in ``out``, in the file that ``l4sd eval --out``
    keeps them in, and what is there is not run again (records of another build are refused); without ``out`` this process
    remembers those of the last plans. Runs of the policy are not kept. What ``choose`` raises ends all runs and comes
    through. Raises ValueError for what makes no sense.
    """
    if at_once < 1:
        raise ValueError(f"at_once = {at_once} is not 1 or more")
    rows = None if candidates is None else [[float(x) for x in row] for row in candidates]
    count = len(CANDIDATES) if rows is None else len(rows)
    key = (tuple(grids), split, split_seed, seeds, draws, smoke)
    plan = _plan(key, name)
    begin = getattr(choose, "begin", None)
    if begin is not None:
        begin(plan.guest_runs())
    met = -1

    def ask(
        ids: NDArray[np.int64], features: NDArray[np.float32], current: NDArray[np.int64], time_s: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        nonlocal met
        fresh = ids[ids > met]
        if fresh.size:
            met = int(fresh[-1])
            if reset is not None:
                reset(fresh)
        answers = np.asarray(choose(ids, features, current, time_s))
        if answers.shape != ids.shape or answers.dtype.kind not in "iu":
            raise ValueError(f"choose gave {answers.dtype} {answers.shape}; it is integers {ids.shape}")
        if (answers >= count).any():
            raise ValueError(f"choose gave {answers.max()}; there are {count} candidates")
        return np.ascontiguousarray(answers, np.int64)

    baseline = _remembered(key) if out is None else plan.baseline(out)
    return json.loads(plan.judge([*baseline, *plan.run_guest(ask, period_s, at_once, rows)]))


def _plan(key: tuple[Any, ...], guest: str | None = None) -> _core.EvalPlan:
    grids, split, split_seed, seeds, draws, smoke = key
    return _core.EvalPlan(
        list(grids),
        [],
        split=split,
        split_seed=split_seed,
        seeds=seeds,
        draws=draws,
        smoke=smoke,
        guest=guest,
    )


@functools.lru_cache(maxsize=4)
def _remembered(key: tuple[Any, ...]) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory() as folder:
        return tuple(_plan(key).baseline(folder))
