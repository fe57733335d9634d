"""What the two environments share: options, scenarios, and the shape of actions."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from typing import Any, TypedDict, Union

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from l4sd_gym import _core

INFO: dict[str, str] = dict(_core.INFO)
"""Keys of the info dictionaries, and what they are. Those that begin with ``truth_`` are hidden from an actor."""

ACTION_VALUES: dict[str, tuple[float, ...]] = {k: tuple(v) for k, v in _core.ACTION_VALUES.items()}
"""What the indices of an action stand for: ``target`` and ``ramp_min`` in ms, ``gain`` and ``feed_forward`` as factors."""

DEFAULT_ACTION: NDArray[np.int64] = np.array(_core.DEFAULT_ACTION, dtype=np.int64)
"""The action that asks for RFC 9332's defaults, shape (4,)."""
DEFAULT_ACTION.setflags(write=False)

FEATURES: tuple[str, ...] = tuple(_core.FEATURES)
"""Names of the numbers of an observation, in order; ``models/schema.toml`` says what they are."""

SCHEMA_HASH: str = _core.SCHEMA_HASH
"""Tells one layout of observations and actions from another."""

Scenario = Union[str, "os.PathLike[str]"]
"""The path of a scenario file, or its TOML text (a string with a line break)."""


class Options(TypedDict, total=False):
    """Keyword arguments of both environments."""

    interval_ms: float
    """Control interval in ms, 1 to 1000; 16. A telemetry window, a decision, a call of the guard."""
    hold: int
    """Intervals in a step, 1 to 1000; 1. A feed-forward fires once in a step."""
    slow_every: int
    """Target, gain and ramp of an action count in every such interval after a reset (the first, the ninth, ...) and are
    held in between, 1 to 1000; 8. With ``hold`` a multiple of it, they count in every step."""
    episode_s: float | None
    """Length of an episode in s; None is the scenario's."""
    twin: bool
    """Simulate DualPI2 beside the candidate; True. Without it all rewards are 0, at half the cost."""
    lam_utilisation: float
    """Factor of lost utilisation in the reward, 0 or more; 5."""
    lam_fairness: float
    """Factor of unfairness in the reward, 0 or more; 2."""
    move_cost: float
    """Cost of a slow knob's move by one value, 0 or more; .01."""
    grace_s: float
    """Beginning of an episode without constraints, in s; 5."""
    trail_s: float
    """Length of the trailing means in s, .016 to 60; 2."""


def links(
    scenario: Scenario | Sequence[Scenario] | None, count: int, autoreset: Any, threads: int, options: Options
) -> _core.Links:
    """The environments of Rust. Raises ValueError that names what is wrong."""
    unknown = sorted(set(options) - set(Options.__annotations__))
    if unknown:
        raise TypeError(f"unknown option {unknown[0]!r}; the options are {', '.join(Options.__annotations__)}")
    return _core.Links(
        _sources(scenario),
        operator.index(count),
        interval_s=options.get("interval_ms", 16.0) / 1e3,
        hold=options.get("hold", 1),
        slow_every=options.get("slow_every", 8),
        duration_s=options.get("episode_s"),
        twin=options.get("twin", True),
        lam_utilisation=options.get("lam_utilisation", 5.0),
        lam_fairness=options.get("lam_fairness", 2.0),
        move_cost=options.get("move_cost", 0.01),
        grace_s=options.get("grace_s", 5.0),
        trail_s=options.get("trail_s", 2.0),
        autoreset=autoreset,
        threads=threads,
    )


def grid_scenarios(
    grid: str, split: str = "train", split_seed: int = 1, draws: int = 1, smoke: bool = False
) -> list[str]:
    """Scenario texts of a grid of ``l4sd eval``, such as rfc9332, steps, or web: what environments take.

    ``split`` is train, low (to train on too), dev, or test; ``draws`` links are drawn near each point of the grid, 1 to 1000; ``smoke`` is three of
    10 s instead. Raises ValueError that names what is wrong.
    """
    return _core.grid_scenarios(grid, split, split_seed, draws, smoke)


def _sources(scenario: Scenario | Sequence[Scenario] | None) -> list[tuple[str, str]]:
    if scenario is None:
        return [("text", _core.DEFAULT_SCENARIO)]
    if isinstance(scenario, (str, os.PathLike)):
        scenario = [scenario]
    texts = [os.fspath(s) for s in scenario]
    return [("text" if "\n" in text else "file", text) for text in texts]


def observation_space(core: _core.Links) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (core.width,), np.float32)


def action_space() -> spaces.MultiDiscrete:
    return spaces.MultiDiscrete(np.array(_core.ACTION_SIZES))


def checked(actions: Any, count: int) -> NDArray[np.int64]:
    """Actions as int64 of shape (count, 4). What the numbers may be is checked in Rust, before anything moves."""
    array = np.asarray(actions)
    if array.dtype.kind not in "iu":
        raise TypeError(f"actions are integers, not {array.dtype}; see ACTION_VALUES for what they stand for")
    shape = (count, len(_core.ACTION_SIZES))
    if array.shape != shape:
        raise ValueError(f"actions have the shape {shape}, not {array.shape}: {', '.join(_core.ACTION_NAMES)}")
    return np.ascontiguousarray(array, dtype=np.int64)


def seed_of(seed: int | None, current: int | None, fresh: Any) -> int | None:
    """The seed to hand on: the one given, or a fresh one if there never was one."""
    if seed is not None:
        if not 0 <= operator.index(seed) < 2**64:
            raise ValueError(f"seed = {seed} is not in 0 to 2^64 - 1")
        return operator.index(seed)
    return int(fresh().integers(2**63)) if current is None else None
