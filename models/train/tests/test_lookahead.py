"""Tables of looking ahead against numbers made by hand."""

import functools
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import lookahead



@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(lookahead.gates, "bootstrap", functools.partial(lookahead.gates.bootstrap, draws=200))


CALL = ":call=8ms:tick=4ms:bin=0.5:verify=b.onnx"


def label(arm):
    return f"lookahead:arm={arm}{CALL}"


def evaluation(folder, scores, verified=0.5, grid="rtt"):
    """A folder in which each policy has this S on four links."""
    folder.mkdir()
    cells = [{"grid": grid, "cell": c, "policy": p, "s_score": s} for p, s in scores.items() for c in "abcd"]
    (folder / "results.json").write_text(json.dumps({"cells": cells}))
    seen = {name: None for name in lookahead.COUNTS} | {"verified_share": verified}
    lines = [
        {"record": {"cell": {"grid": grid, "name": c}, "policy": p, "seed": 1, "run": {"controller": {"look_ahead": seen}}}}
        for p in scores
        for c in "ab"
    ]
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def run(capsys, *args):
    code = lookahead.main([str(a) for a in args])
    return code, capsys.readouterr().out


def test_late_is_relative_to_the_first(tmp_path, capsys):
    folders = [evaluation(tmp_path / name, {"model": s}) for name, s in [("at-once", 0.5), ("late", 0.55)]]
    code, out = run(capsys, "late", *folders)
    assert code == 0
    assert "| late | 0.550 (0.550 to 0.550) | 1.100 (1.100 to 1.100) | 1.100 (1.100 to 1.100) |" in out


@pytest.mark.parametrize(
    ("speculative", "closed", "passed"),
    # ln(.8/.5) = .4700; ln(.8/.6) = .2877 is .612 of it, ln(.8/.7) = .1335 is .284.
    [(0.6, "0.61", True), (0.7, "0.28", False)],
)
def test_half_of_the_gap_must_be_closed(tmp_path, capsys, speculative, closed, passed):
    scores = {"drafter": 0.85, "held": 0.8, "speculative": speculative, "instant": 0.5}
    folder = evaluation(tmp_path / "e", {label(arm): s for arm, s in scores.items()})
    code, out = run(capsys, "arms", folder)
    word = "PASS" if passed else "FAIL"
    assert f"- {word} all: gap in ln S 0.4700 (0.4700 to 0.4700); 4 links" in out and f"; closed {closed} " in out
    assert code == (0 if passed else 1)
    assert "| speculative | " in out and "| 0.5 | - |" in out


def test_no_gap_is_nothing_to_close(tmp_path, capsys):
    folder = evaluation(tmp_path / "e", {label(arm): 0.7 for arm in lookahead.ARMS})
    code, out = run(capsys, "arms", folder)
    assert code == 1 and "- FAIL all: gap in ln S 0.0000" in out and "closed 0.00" in out


def test_the_gap_needs_two_arms_and_joins_folders(tmp_path, capsys):
    scores = {label("held"): 0.8, label("instant"): 0.5}
    one = evaluation(tmp_path / "one", scores)
    other = evaluation(tmp_path / "other", {p: 0.8 for p in scores}, grid="steps")
    code, out = run(capsys, "gap", one, other)
    # ln 1.6 = .4700 on four links, 0 on the other four.
    assert code == 0 and "- all: gap in ln S 0.2350 " in out and "; 8 links" in out
    assert "- rtt: gap in ln S 0.4700 " in out and "- steps: gap in ln S 0.0000 " in out


def test_bins_are_of_the_speculative_arm_alone_and_calls_of_held_too(tmp_path, capsys):
    scores = {label(a): s for a, s in [("drafter", 0.85), ("held", 0.8), ("instant", 0.5)]}
    folder = evaluation(tmp_path / "e", scores | {label("speculative").replace("0.5", "2"): 0.6})
    code, out = run(capsys, "arms", folder)
    assert code == 0 and "closed 0.61" in out
    other = evaluation(tmp_path / "o", scores | {label("speculative").replace("8ms", "32ms"): 0.6})
    with pytest.raises(SystemExit, match=": held was not run"):
        lookahead.main(["arms", str(other)])


def test_arms_without_calls_may_be_of_another_folder(tmp_path, capsys):
    calls = evaluation(tmp_path / "calls", {label("held"): 0.8, label("speculative"): 0.6})
    with pytest.raises(SystemExit, match="drafter, instant was not run"):
        lookahead.main(["arms", str(calls)])
    rest = evaluation(tmp_path / "rest", {label(a).replace("8ms", "32ms").replace("0.5", "2"): 0.5 for a in ("drafter", "instant")})
    code, out = run(capsys, "arms", calls, rest)
    assert code == 0 and "closed 0.61" in out
