"""The rules that training has in common with l4sd: candidate settings, what figures are worth, the choice among candidates."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l4sd_gym import _core

CANDIDATES: tuple[tuple[int, int, int], ...] = tuple(_core.candidates())
"""Bins of target, gain and ramp of what a policy chooses among; RFC 9332's constants are the first."""


def judge(
    got: dict[str, Any],
    reference: dict[str, Any],
    *,
    bursty: bool = False,
    mice: bool = False,
    phase: str | None = None,
) -> tuple[float | None, list[float]]:
    """What a policy's figures are worth against DualPI2's, both as the oracle's records have them.

    ``bursty`` and ``mice`` are the cell's. With ``phase``, figures are of a phase of this name, and it is the name that says
    whether there are bursts.

    Returns ln S before feasibility is looked at (None without traffic to compare), and how far within each bound they are, in
    its margins: 1 where there is no difference, 0 at the bound. ``src/eval/score.rs`` defines both. Raises ValueError that
    names what is wrong with figures.
    """
    return _core.judge_figures(json.dumps(got), json.dumps(reference), bursty, mice, phase)


def choose(
    score: NDArray[Any], feasible: NDArray[Any], current: NDArray[Any], threshold: float, hysteresis: float
) -> NDArray[np.int64]:
    """The candidate to use next on each of n links, shape (n,), when ``current`` (n,) are in use.

    ``score`` and ``feasible``, both (n, k), are what a model answers: expected ln S, and logits of being feasible. They count
    in float32, as a model's do. docs/model.md has the rule. Raises ValueError where shapes do not fit.
    """
    rows = [np.ascontiguousarray(x, np.float32) for x in (score, feasible)]
    chosen = _core.choose(*rows, np.ascontiguousarray(current, np.int64), threshold, hysteresis)
    return np.array(chosen, np.int64)
