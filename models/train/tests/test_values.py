"""How far bounds move from seeds to others, which labels are made with. Needs numpy and l4sd_gym."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import values  # noqa: E402
from l4sd_gym import rules  # noqa: E402

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


def row(value: float, room: float) -> "values.np.ndarray":
    return values.np.array([value, room])


def test_what_was_not_tried_is_put_together_from_what_knobs_add() -> None:
    """Targets 5 and 9 alone: -.4 and 0, at 7 half of both. Gain 4 adds -.1 at 5 and -.3 at 9, at 7 -.2; ramp 2 adds -.2 at 5, its only target,
    and ramp 3 half of what ramps 2 and 4 add. Rooms likewise. What was tried is taken as it is, however it adds up."""
    measured = {
        (9, 2, 4): row(0.0, 2.0),
        (5, 2, 4): row(-0.4, 1.0),
        (5, 4, 4): row(-0.5, 0.5),
        (9, 4, 4): row(-0.3, 2.0),
        (5, 2, 2): row(-0.6, -1.0),
        (9, 4, 2): row(-0.7, 4.0),
    }
    settings = [(7, 2, 4), (7, 4, 4), (7, 4, 2), (7, 2, 3), (9, 4, 2), (9, 3, 4), (9, 2, 6)]
    rows, built = values.between(measured, True, True, settings)
    assert rows[0] == pytest.approx([-0.2, 1.5])
    assert rows[1] == pytest.approx([-0.4, 1.25])
    assert rows[2] == pytest.approx([-0.6, -0.75])
    assert rows[3] == pytest.approx([-0.3, 0.5])
    assert rows[4] == pytest.approx([-0.7, 4.0])
    assert values.np.isnan(rows[5:]).all(), "gain 3 and ramp 6 were tried at no target"
    assert list(built[:5]) == [1, 1, 1, 1, 0]


def test_a_knob_without_effect_is_as_in_the_default() -> None:
    """Without L every ramp is the same. Without C so is every gain, and a target from the default's on; shorter ones are not."""
    measured = {(9, 2, 4): row(0.0, 2.0), (5, 2, 4): row(-0.4, 1.0), (9, 2, 0): row(-0.1, 0.0)}
    no_l, built = values.between(measured, False, True, [(5, 2, 0), (9, 2, 11)])
    assert no_l.tolist() == [[-0.4, 1.0], [0.0, 2.0]] and not built.any()
    no_c, built = values.between(measured, True, False, [(11, 4, 0), (9, 0, 4), (5, 4, 4), (7, 1, 0)])
    assert no_c[:3].tolist() == [[-0.1, 0.0], [0.0, 2.0], [-0.4, 1.0]]
    assert no_c[3] == pytest.approx([-0.3, -0.5])
    assert list(built) == [0, 0, 0, 1]


def test_what_is_put_together_is_less_certain() -> None:
    """Half a margin of room of utilisation: Phi(.5 / .3); put together, Phi(.5 / sqrt(.3^2 + .5^2))."""
    spread = {("rtt", None, "utilization"): 0.3}
    assert values.probability([("utilization", 0.5)], spread, "rtt") == pytest.approx(0.9522, abs=1e-4)
    assert values.probability([("utilization", 0.5)], spread, "rtt", built=True) == pytest.approx(0.8044, abs=1e-4)


def tried_on(setting: tuple[int, ...] | None, delay: float, ratio: float | None, utilization: float = 0.95) -> dict:
    own = figures(utilization) | {"mean_ms": {"l": 1.0, "c": delay}, "abs_log2_ratio": ratio}
    return {"setting": None if setting is None else list(setting), "seconds": 60.0, "seeds": 3, "figures": own, "phases": []}


def test_a_setting_that_starves_c_is_not_taken_for_one_that_was_not_tried() -> None:
    """Its ratio is unknown, which breaks that bound; its delays halve, floors of .5 ms aside, and so does its own S. The targets around it are fair."""
    tried = [tried_on(None, 10.0, 0.5), tried_on((3, 2, 4), 10.0, 0.5), tried_on((5, 2, 4), 4.75, None), tried_on((7, 2, 4), 10.0, 0.5)]
    cell = {"grid": "x", "name": "y", "mix": "1v1", "bursty": False, "mice": False}
    (value,), (chance,) = values.table({"cell": cell, "scenario": "", "tried": tried, "oracles": []}, {})
    at = values.CANDIDATES.index((5, 2, 4))
    assert value[at] == pytest.approx(0.5 * values.math.log(0.5)) and chance[at] < 1e-6
    assert chance[values.CANDIDATES.index((3, 2, 4))] == pytest.approx(chance[values.CANDIDATES.index((7, 2, 4))]) and chance[values.CANDIDATES.index((7, 2, 4))] > 0.5


def test_a_tried_setting_far_beyond_a_bound_has_no_chance() -> None:
    """20 points under, where one is allowed, are 19 margins: Phi(-19 / 3), not the Phi(-5 / 3) = .048 of what is only put together."""
    tried = [tried_on(None, 10.0, None, 0.95), tried_on((5, 2, 4), 5.0, None, 0.75)]
    cell = {"grid": "x", "name": "y", "mix": "1v1", "bursty": False, "mice": False}
    _, (chance,) = values.table({"cell": cell, "scenario": "", "tried": tried, "oracles": []}, {("x", None, "utilization"): 3.0})
    assert chance[values.CANDIDATES.index((5, 2, 4))] < 1e-9
    assert 0.01 < chance[values.CANDIDATES.index((4, 2, 4))] < 0.1


def test_with_a_rule_the_default_is_worth_what_it_was_measured() -> None:
    tried = [tried_on(None, 10.0, 0.5), tried_on(values.DEFAULT, 4.75, 0.5)]
    cell = {"grid": "x", "name": "y", "mix": "1v1", "bursty": False, "mice": False}
    record = {"cell": cell, "scenario": "", "tried": tried, "oracles": [], "feed_forward": "0.25 3>1"}
    (value,), (chance,) = values.table(record, {})
    assert value[0] == pytest.approx(0.5 * values.math.log(0.5)) and 0.5 < chance[0] < 1


def test_records_of_a_link_with_and_without_a_rule_are_refused(tmp_path: Path) -> None:
    import gzip
    import json

    cell = {"grid": "x", "name": "y"}
    lines = [{"unit": str(i), "record": {"cell": cell, "scenario": "same"} | more} for i, more in enumerate(({}, {"feed_forward": "0.25 3>1"}))]
    (tmp_path / "oracle-train.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    with pytest.raises(SystemExit, match="x/y was searched with and without"):
        values.records(tmp_path, "train")


def test_links_of_low_come_behind_those_of_train_and_of_no_other_split(tmp_path: Path) -> None:
    import gzip
    import json

    for split in ("train", "dev", "low"):
        lines = [json.dumps({"unit": n, "record": {"cell": {"grid": split, "name": n}, "scenario": n}}) + "\n" for n in "ab"]
        (tmp_path / f"oracle-{split}.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode()))
    names = lambda split: [r["cell"]["grid"] + r["cell"]["name"] for r in values.records(tmp_path, split)]  # noqa: E731
    assert names("train") == ["traina", "trainb", "lowa", "lowb"]
    assert names("dev") == ["deva", "devb"]


def test_what_a_file_of_fewer_settings_says_is_put_in_today_s_order() -> None:
    today = values.knobs()
    told = {"l4sd.candidates": json.dumps([today[0], today[7], today[3]])}
    score, feasible = np.array([[0.0, -0.7, -0.3]], np.float32), np.array([[1.0, 7.0, 3.0]], np.float32)
    score, feasible = values.as_candidates(told, "x.onnx")(score, feasible)
    assert score.shape == feasible.shape == (1, len(today))
    assert (score[0, [0, 7, 3]] == np.array([0, -0.7, -0.3], np.float32)).all()
    assert (feasible[0, [0, 7, 3]] == [1, 7, 3]).all()
    others = [i for i in range(len(today)) if i not in (0, 7, 3)]
    assert (score[0, others] == 99).all() and (feasible[0, others] == -99).all()
    for threshold, current in ((0.0, 0), (0.0, 5), (0.9, 5)):
        assert rules.choose(score, feasible, np.array([current]), threshold, 0.05) == [7], "of those that the file scores the best"


def test_settings_that_were_put_together_are_left_out_when_a_file_is_followed() -> None:
    """Of three settings two were taught; the third is no candidate."""
    today = values.knobs()
    told = {"l4sd.candidates": json.dumps([today[0], today[7], (0.005, 3.0, 0.0008)]), "taught": "2"}
    score, feasible = values.as_candidates(told, "x.onnx")(np.array([[0.0, -0.2, -0.9]], np.float32), np.array([[1.0, 2.0, 9.0]], np.float32))
    assert (score[0, [0, 7]] == np.array([0, -0.2], np.float32)).all() and (feasible[0, [0, 7]] == [1, 2]).all()
    assert rules.choose(score, feasible, np.array([0]), 0.45, 0.05) == [7]
    with pytest.raises(SystemExit, match="which is no candidate"):
        values.as_candidates(told | {"taught": "3"}, "x.onnx")


def test_a_file_with_a_setting_that_is_no_candidate_is_refused() -> None:
    told = {"l4sd.candidates": json.dumps([values.knobs()[0], (0.005, 3.0, 0.0008)])}
    with pytest.raises(SystemExit, match=r"^x.onnx: it has the setting \[0.005, 3.0, 0.0008\], which is no candidate"):
        values.as_candidates(told, "x.onnx")
