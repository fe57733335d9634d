"""How far bounds move from seeds to others, which labels are made with. Needs numpy and l4sd_gym."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import values  # noqa: E402

SCENARIO = "".join(f'[[phase]]\nname = "{n}"\nat = "{at}ms"\n' for n, at in (("warm", 0), ("1v1", 10_000), ("c_only", 20_000)))


def figures(utilization: float) -> dict:
    return {"utilization": utilization, "mean_ms": {"l": 1.0, "c": 10.0}, "p99_ms": {"l": 2.0, "c": 20.0}, "abs_log2_ratio": None, "mice_p95_ms": []}


def run(setting: list[int] | None, seeds: int, whole: float, phases: list[float]) -> dict:
    return {"setting": setting, "seconds": 60.0, "seeds": seeds, "figures": figures(whole), "phases": [figures(u) for u in phases]}


def record(setting: list[int], drop: float) -> dict:
    """A link of `switch` whose setting loses nothing in brief runs, and in full ones `drop` of utilisation in the phase c_only."""
    tried = [run(None, 2, 0.95, [0.95, 0.95]), run(None, 3, 0.95, [0.95, 0.95])]
    tried += [run(setting, 2, 0.95, [0.95, 0.95]), run(setting, 3, 0.95, [0.95, 0.95 - drop])]
    return {"cell": {"grid": "switch", "name": "x", "mix": "switch", "bursty": False, "mice": False}, "scenario": SCENARIO, "tried": tried, "oracles": []}


def test_each_phase_has_its_own_spread() -> None:
    """Where one point is allowed, a loss of one and a half moves the room by 1.5 margins: root mean square 1.5, median's estimate 1.48 times
    1.5, between them sqrt(1.5 x 2.22) = 1.825. Where nothing moves it is the least."""
    (setting,) = [c for c in values.CANDIDATES if c != values.DEFAULT][:1]
    spread = values.noise([record(list(setting), 0.015) for _ in range(values.FEWEST)])
    assert spread["switch", "c_only", "utilization"] == pytest.approx(1.825, abs=2e-3)
    assert spread["switch", "1v1", "utilization"] == values.SPREAD[0]
    assert ("switch", None, "utilization") not in spread, "no oracle was run again here"


def test_fewer_differences_say_nothing() -> None:
    (setting,) = [c for c in values.CANDIDATES if c != values.DEFAULT][:1]
    assert values.noise([record(list(setting), 0.015) for _ in range(values.FEWEST - 1)]) == {}


def test_a_phase_is_judged_by_its_spread() -> None:
    """Half a margin of room, and a spread of 1: Phi(.5); in a phase with a spread of 2: Phi(.25)."""
    spread = {("switch", None, "utilization"): 1.0, ("switch", "c_only", "utilization"): 2.0}
    assert values.probability([("utilization", 0.5)], spread, "switch") == pytest.approx(0.6915, abs=1e-4)
    assert values.probability([("utilization", 0.5)], spread, "switch", "c_only") == pytest.approx(0.5987, abs=1e-4)
