"""The tables of the ablation: what a run counts for that several parts have made. Trains nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import ablate  # noqa: E402
import figures  # noqa: E402

PENALTY = 0.15


def line(seed: int, ln_s: float, **other: object) -> str:
    """A run of the tiny arm on all links whose score has no chance of being infeasible."""
    goals = dict.fromkeys(("score", "balanced", "low_delay"), [ln_s, 1.0])
    judged = {goal: pair if goal == "score" else dict.fromkeys(ablate.TOLD, pair) for goal, pair in goals.items()}
    return json.dumps({"arm": "tiny", "share": 1.0, "seed": seed, "links": 9, "sequences": 18, "held_out_links": 1, "updates": 4, "batch": 8, "trained": 100, "seconds": 1.5 * seed, "judged": judged} | other) + "\n"


def left(out: Path, part: int, *runs: str) -> Path:
    file = out / "ablate" / f"part-{part}" / "runs.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("".join(runs))
    return file


def ran(out: Path, *parts: str) -> None:
    """Lines of run.jsonl of parts I/N, in this order."""
    (out / "run.jsonl").write_text("".join(json.dumps({"stage": "ablate", "job": "x", "command": f"python models/train/ablate.py o --part {part} --device cpu"}) + "\n" for part in parts))


def test_a_run_that_two_parts_made_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: -.2 and -.4, mean -.3 of two seeds. Seed 1 made again came to -.8, which would make it -.4667 of three."""
    files = [left(tmp_path, 1, line(1, -0.2)), left(tmp_path, 2, line(2, -0.4), line(1, -0.8, seconds=7.0))]
    ablate.report(files, PENALTY)
    assert "| tiny | -0.3000 (-0.4000 to -0.2000; 2) |" in capsys.readouterr().out


@pytest.mark.parametrize("name", ablate.SAME)
def test_runs_of_two_experiments_are_refused(name: str, tmp_path: Path) -> None:
    files = [left(tmp_path, 1, line(1, -0.2)), left(tmp_path, 2, line(1, -0.2, **{name: 7}))]
    with pytest.raises(SystemExit, match=rf"tiny, share 1, seed 1 is in .*part-1.* and in .*part-2.* with another number of {name}, \d+ and 7: .*leave one file out"):
        ablate.report(files, PENALTY)


def test_the_card_takes_the_parts_of_the_last_ablation(tmp_path: Path) -> None:
    """Three GPUs, then two: what is in part-3 is of other links, and is neither counted nor held against the others."""
    left(tmp_path, 1, line(1, -0.2))
    left(tmp_path, 2, line(2, -0.4))
    left(tmp_path, 3, line(3, -0.6), line(1, -0.8, links=5))
    ran(tmp_path, "0/3", "1/3", "2/3", "0/2", "1/2")
    assert "| tiny | -0.3000 (-0.4000 to -0.2000; 2) |" in figures.ablation(tmp_path)
    ran(tmp_path)
    assert figures.ablation(tmp_path) == ""
