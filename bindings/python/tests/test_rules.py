"""What training takes from Rust, against numbers worked out by hand; and that models/train has it from there."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from l4sd_gym import ACTION_VALUES, DEFAULT_ACTION
from l4sd_gym.rules import CANDIDATES, choose, judge

TRAIN = Path(__file__).parents[3] / "models/train"


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of models/train."""
    monkeypatch.syspath_prepend(str(TRAIN))

    def load(name: str) -> ModuleType:
        __import__(name)
        return sys.modules[name]

    return load


def figures(
    used: float, l: tuple[float, float] | None, c: tuple[float, float] | None, ratio: float | None, *mice: float | None
) -> dict[str, Any]:
    """Utilisation, mean and P99 of L and C in ms, |log2 ratio|, P95 of mice in ms: as a record has them."""
    l, c = l or (None, None), c or (None, None)
    return {
        "utilization": used,
        "mean_ms": {"l": l[0], "c": c[0], "all": None},
        "p99_ms": {"l": l[1], "c": c[1], "all": None},
        "abs_log2_ratio": ratio,
        "mice_p95_ms": list(mice),
    }


REFERENCE = figures(0.96, (0.3, 1.0), (15.0, 22.0), 0.5, 200.0)


def test_candidates_are_every_target_and_a_lattice() -> None:
    assert CANDIDATES[0] == (9, 2, 4) == tuple(DEFAULT_ACTION[:3])
    assert len(CANDIDATES) == len(set(CANDIDATES)) == 50
    targets = {(t, 2, 4) for t in range(12)}
    gains = {(t, g, 4) for t in (5, 7, 9) for g in range(7)}
    ramps = {(t, 2, r) for t in (3, 5, 7, 9) for r in (0, 2, 6, 8, 10)}
    assert list(CANDIDATES[1:]) == sorted((targets | gains | ramps) - {CANDIDATES[0]})
    sizes = [len(ACTION_VALUES[name]) for name in ("target", "gain", "ramp_min")]
    assert sizes == [12, 7, 12]


def test_score_and_rooms_by_hand() -> None:
    # dL = (.05 + .2) / (.3 + .2) = .5, dC = (7.25 + .5) / (15 + .5) = .5, both times .96 / .95.
    score, rooms = judge(figures(0.95, (0.05, 1.05), (7.25, 26.4), 1.05, 205.0), REFERENCE, mice=True)
    assert score == pytest.approx(math.log(0.5 * 0.96 / 0.95), abs=1e-12)
    # A whole point of utilisation; half of the .1 over 1; half of 10 %; twice 10 %; half of 5 %.
    assert rooms == pytest.approx([0.0, 0.5, 0.5, -1.0, 0.5], abs=1e-9)
    same, rooms = judge(REFERENCE, REFERENCE)
    assert same == 0.0
    assert rooms == pytest.approx([1, 6, 1, 1], abs=1e-9), "|log2| .5 is 5 margins under the 1 that is free"


def test_bursty_l_may_have_two_ms_more_and_one_kind_of_traffic_counts_alone() -> None:
    _, rooms = judge(figures(0.96, (0.3, 2.0), (15.0, 22.0), 0.5), REFERENCE, bursty=True)
    assert rooms[2] == pytest.approx(0.5)
    score, rooms = judge(figures(0.96, None, (7.25, 22.0), None), figures(0.96, None, (15.0, 22.0), None))
    assert (score, len(rooms)) == (pytest.approx(math.log(0.5)), 2)
    assert judge(figures(0.96, None, None, None), figures(0.96, None, None, None))[0] is None
    silent = judge(figures(0.96, None, (15.0, 22.0), 0.5), REFERENCE)[1]
    assert silent[2] < -5, "nothing of L was forwarded"


def test_figures_that_are_none_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="reference: "):
        judge(REFERENCE, {"utilization": 1})


# Logit 2.2 is a probability of .9002, 2.19 one of .8993; each of these is one link of three candidates.
CHOICES = [
    ([0.0, -0.3, -0.6], [-9.0, 2.2, 2.2], 0, 2),
    ([0.0, -0.3, -0.6], [-9.0, 2.2, 2.19], 0, 1),  # the third is too risky
    ([0.0, -0.3, -0.6], [-9.0, 2.1, 2.1], 2, 0),  # the default is always there
    ([0.0, -0.3, -0.375], [9.0, 9.0, 9.0], 1, 1),  # within the hysteresis
    ([0.0, -0.3, -0.375], [9.0, 2.1, 9.0], 1, 2),  # the one in use became risky
    ([0.0, -0.3, -0.41], [9.0, 9.0, 9.0], 1, 2),  # beyond the hysteresis
    ([0.0, 0.3, 0.2], [9.0, 9.0, 9.0], 2, 0),
]


def test_the_choice_by_hand() -> None:
    score, logit, current, want = (np.array(x) for x in zip(*CHOICES, strict=True))
    chosen = choose(score, logit, current, 0.9, 0.1)
    assert chosen.dtype == np.int64
    assert chosen.tolist() == want.tolist()


def test_shapes_that_do_not_fit_are_refused() -> None:
    score = np.zeros((2, 3))
    for logit, current, message in [
        (np.zeros((2, 4)), [0, 0], r"\(n, k\)"),
        (score, [0], r"\(n,\)"),
        (score, [0, 3], "current = 3 is not 0 to 2"),
        (score, [-1, 0], "current = -1 is not 0 to 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            choose(score, logit, np.array(current), 0.9, 0.1)


def test_labels_of_a_record(train: Any) -> None:
    values = train("values")
    assert values.CANDIDATES is CANDIDATES
    got = figures(0.95, (0.05, 1.05), (7.25, 22.0), 0.5)
    tried = [(None, REFERENCE), ((5, 2, 4), got), ((9, 2, 6), REFERENCE)]
    record = {
        "cell": {"grid": "any", "bursty": False, "mice": False},
        "tried": [{"setting": s, "seconds": 30, "seeds": 2, "figures": f} for s, f in tried],
    }
    (value,), (chance,) = values.table(record, {})
    known = [CANDIDATES.index(s) for s in ((9, 2, 4), (5, 2, 4), (9, 2, 6), (7, 2, 4), (7, 2, 6))]
    worth = math.log(0.5 * 0.96 / 0.95)
    assert value[known] == pytest.approx([0, worth, 0, worth / 2, worth / 2]), "ramp 6 adds nothing"
    assert np.isnan(value[[CANDIDATES.index(s) for s in ((9, 2, 2), (9, 2, 8), (7, 3, 4))]]).all()
    # At the bound of utilisation it is a coin's toss; L has half of its margin left, C all of it.
    phi = [0.5 * math.erfc(-x / 0.6 / math.sqrt(2)) for x in (0.0, 6.0, 0.5, 1.0)]
    assert chance[known][1] == pytest.approx(math.prod(phi))
    # With a spread of its own for one bound, that one counts by it: .5 margins are 2 spreads of .25.
    _, (chance,) = values.table(record, {("any", None, "p99_l"): 0.25, ("other", None, "p99_c"): 9.0, ("any", "1v1", "p99_c"): 9.0})
    phi[2] = 0.5 * math.erfc(-2 / math.sqrt(2))
    assert chance[known][1] == pytest.approx(math.prod(phi))


def test_the_spread_of_bounds_is_what_fresh_seeds_show(train: Any) -> None:
    """Utilisation .1 margins lower on fresh seeds for half of the links and as much higher for the others, C P99 by .4 margins of
    2.2 ms, L as it was, the ratio out of sight: .1 counts as .3, which is the least; .4 as sqrt(.4 x 1.48 x .4)."""
    values = train("values")
    records = []
    for sign in [1, -1] * 10:
        got = figures(0.955, (0.3, 1.0), (15.0, 22.0), 0.3)
        fresh = figures(0.955 - sign * 0.001, (0.3, 1.0), (15.0, 22.0 + sign * 0.88), 0.3)
        tried = [{"setting": s, "seconds": 30, "seeds": 2, "figures": f} for s, f in [(None, REFERENCE), ([5, 2, 4], got)]]
        oracles = [{"setting": [5, 2, 4], "runs": [fresh] * 3}, {"setting": [9, 2, 4], "runs": [REFERENCE] * 3}]
        cell = {"grid": "any", "bursty": False, "mice": False}
        records.append({"cell": cell, "tried": tried, "oracles": oracles, "baseline": [REFERENCE] * 3})
    spread = values.noise(records)
    assert set(spread) == {("any", None, "utilization"), ("any", None, "p99_l"), ("any", None, "p99_c")}
    assert spread["any", None, "utilization"] == spread["any", None, "p99_l"] == 0.3
    assert spread["any", None, "p99_c"] == pytest.approx(math.sqrt(0.4 * 1.48 * 0.4))
    assert values.noise(records[:19]) == {}, "too few to say"


def test_a_phase_is_bursty_by_its_name(train: Any) -> None:
    """L P99 is 1.5 ms over 1 ms: a quarter of the 2 ms where there are bursts, five times the 10 % where there are none."""
    got, values = figures(0.96, (0.3, 1.5), (15.0, 22.0), 0.5), train("values")
    for phase, room in [("bursty", 0.75), ("1v1", -4.0)]:
        for bursty in (False, True):
            assert judge(got, REFERENCE, bursty=bursty, phase=phase)[1][2] == pytest.approx(room)
    tried = [(None, REFERENCE), ((5, 2, 4), got)]
    names = "".join(f'[[phase]]\nname = "{name}"\nat = "1ms"\n' for name in ("5v5", "1v1", "bursty"))
    record = {
        "cell": {"grid": "any", "bursty": True, "mice": False},
        "scenario": names,
        "tried": [
            {"setting": s, "seconds": 60, "seeds": 3, "figures": f, "phases": [f, f]} for s, f in tried
        ],
    }
    _, chances = values.table(record, {})
    chance = chances[:, CANDIDATES.index((5, 2, 4))]
    assert chance[0] < 1e-6
    assert chance[1] > 0.7


def test_the_chooser_of_the_trees_follows_the_rule(train: Any) -> None:
    trees, values = train("trees"), train("values")
    n, k = 200, len(CANDIDATES)
    rng = np.random.default_rng(1)
    x = np.arange(n, dtype=np.float32)[:, None]
    value, logit = rng.normal(0, 0.2, (n, k)), rng.normal(1, 2, (n, k))
    current = rng.integers(k, size=n)

    class Answers:
        def __init__(self, table: np.ndarray) -> None:
            self.table = table

        def predict(self, both: np.ndarray, raw_score: bool) -> np.ndarray:
            assert raw_score and both.shape == (n * k, 4)
            assert (both[:, 0] == np.repeat(x[:, 0], k)).all()
            assert (both[:k, 1:] == np.array(CANDIDATES)).all()
            return self.table.ravel()

    chosen = trees.chooser((Answers(value), Answers(logit)), [0], 0.7, 0.05)(x, current)
    score = values.gain(value, 1 / (1 + np.exp(-logit)))
    assert chosen.tolist() == choose(score, logit, current, 0.7, 0.05).tolist()
    for i in range(n):
        likely = [j for j in range(k) if j == 0 or 1 / (1 + math.exp(-logit[i, j])) >= 0.7]
        best = min(likely, key=lambda j: score[i, j])
        stays = current[i] in likely and score[i, current[i]] - score[i, best] <= 0.05
        assert chosen[i] == (current[i] if stays else best), i
    assert 0 < (chosen == current).sum() < n
