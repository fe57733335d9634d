"""The Rust side; see bindings/python/src/lib.rs."""

from collections.abc import Callable
from os import PathLike
from typing import Literal

import numpy as np
from numpy.typing import NDArray

INFO: list[tuple[str, str]]
ACTION_NAMES: list[str]
ACTION_SIZES: list[int]
ACTION_VALUES: dict[str, list[float]]
DEFAULT_ACTION: list[int]
DEFAULT_SCENARIO: str
FEATURES: list[str]
SCHEMA_HASH: str
VERSION: str

class Snapshot:
    @property
    def times_s(self) -> list[float]: ...
    def __len__(self) -> int: ...

class Links:
    def __init__(
        self,
        scenarios: list[tuple[str, str]],
        count: int,
        *,
        interval_s: float,
        hold: int,
        slow_every: int,
        duration_s: float | None,
        twin: bool,
        lam_utilisation: float,
        lam_fairness: float,
        move_cost: float,
        grace_s: float,
        trail_s: float,
        autoreset: Literal["NextStep", "SameStep", "Disabled"],
        threads: int,
    ) -> None: ...
    @property
    def width(self) -> int: ...
    @property
    def scenarios(self) -> list[str]: ...
    def link_seed(self, index: int) -> tuple[int, int]: ...
    def reset(
        self,
        seed: int | None,
        scenario: int | None,
        mask: NDArray[np.bool_] | None,
        observations: NDArray[np.float32],
        info: NDArray[np.float32],
    ) -> None: ...
    def step(
        self,
        actions: NDArray[np.int64],
        observations: NDArray[np.float32],
        rewards: NDArray[np.float64],
        truncated: NDArray[np.bool_],
        info: NDArray[np.float32],
        last_observations: NDArray[np.float32] | None,
        last_info: NDArray[np.float32] | None,
    ) -> None: ...
    def observe(self, observations: NDArray[np.float32], info: NDArray[np.float32]) -> None: ...
    def snapshot(self, indices: list[int] | None = None) -> Snapshot: ...
    def restore(self, snapshot: Snapshot, indices: list[int] | None = None) -> None: ...

class EvalPlan:
    def __init__(
        self,
        grids: list[str],
        policies: list[str],
        *,
        split: str,
        split_seed: int,
        seeds: int,
        draws: int,
        smoke: bool,
        guest: str | None = None,
    ) -> None: ...
    def units(self) -> list[tuple[int, int, int]]: ...
    def run(self, cell: int, policy: int, seed: int) -> str: ...
    def baseline(self, folder: str | PathLike[str]) -> list[str]: ...
    def guest_runs(self) -> list[tuple[str, str, int]]: ...
    def run_guest(
        self,
        choose: Callable[
            [NDArray[np.int64], NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]], NDArray[np.int64]
        ],
        period_s: float,
        at_once: int,
        candidates: list[list[float]] | None,
    ) -> list[str]: ...
    def judge(self, records: list[str]) -> str: ...

def grid_scenarios(grid: str, split: str, split_seed: int, draws: int, smoke: bool) -> list[str]: ...
def candidates() -> list[tuple[int, int, int]]: ...
def judge_figures(
    got: str, reference: str, bursty: bool, mice: bool, phase: str | None
) -> tuple[float | None, list[float]]: ...
def choose(
    score: NDArray[np.float32],
    feasible: NDArray[np.float32],
    current: NDArray[np.int64],
    threshold: float,
    hysteresis: float,
) -> list[int]: ...
