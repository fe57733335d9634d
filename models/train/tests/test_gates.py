"""Gates against numbers made by hand."""

import gzip
import json
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import gates

NAMES = ["a", "b", "c", "d"]


def evaluation(folder, scores, policy="model", grid="rtt"):
    """A folder with cells.csv alone."""
    folder.mkdir()
    rows = [f"{grid},{name},{policy},{s}" for name, s in zip(NAMES, scores)]
    (folder / "cells.csv").write_text("\n".join(["grid,cell,policy,s_score", *rows]) + "\n")
    return folder


def figures(c_ms, utilization=0.99):
    return {
        "utilization": utilization,
        "mean_ms": {"l": None, "c": c_ms},
        "p99_ms": {"l": None, "c": 30.0},
        "abs_log2_ratio": None,
        "mice_p95_ms": [],
    }


def oracle(folder, c_ms):
    """A folder of models/train/oracle.sh: C has 15.5 ms under DualPI2 and c_ms under the oracle, three seeds each."""
    folder.mkdir()
    cells, lines = [], []
    for name in NAMES:
        cell = {"grid": "rtt", "name": name, "mix": "c_only", "bursty": False, "mice": False}
        runs = [figures(c_ms)] * 3
        lines.append({"record": {"cell": cell, "baseline": [figures(15.5)] * 3, "oracles": [{"axis": "all", "runs": runs}]}})
        cells.append({"grid": "rtt", "cell": name, "policy": "oracle", "s_score": (c_ms + 0.5) / 16})
    results = {"split": "dev", "cells": cells, "summary": []}
    (folder / "results-dev.json.gz").write_bytes(gzip.compress(json.dumps(results).encode()))
    text = "\n".join(json.dumps(line) for line in lines)
    (folder / "oracle-dev.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def run(capsys, *args):
    code = gates.main([str(a) for a in args])
    return code, capsys.readouterr().out.splitlines()


def test_ln_score_is_the_designs():
    cell = {"bursty": False, "mice": False}
    # (7.5 + .5) / (15.5 + .5) = 1/2
    assert gates.ln_score(cell, figures(7.5), figures(15.5)) == pytest.approx(math.log(0.5))
    assert gates.ln_score(cell, figures(7.5, 0.979), figures(15.5)) == 0.0, "1.1 points under: not feasible, so 1"
    assert gates.ln_score(cell, figures(7.5, 0.98), figures(15.5)) == pytest.approx(math.log(0.5 * 0.99 / 0.98))


def test_resampled_seeds_are_means_of_figures():
    cell = {"grid": "g", "name": "n", "bursty": False, "mice": False}
    link = gates.of_runs(cell, [figures(7.5), figures(3.5)], [figures(15.5)] * 2)
    # Seeds 1 1, 2 1, 1 2, 2 2: mean delays 7.5, 5.5, 5.5, 3.5.
    assert link.mean == pytest.approx(math.log(6 / 16))
    assert link.resampled == pytest.approx([math.log(x / 16) for x in (8, 6, 6, 4)])
    # A link of that kind twice: the interval of S is that of the seeds.
    value, lo, hi = gates.bootstrap([[link]], lambda a: math.e**a)
    assert (value, lo, hi) == pytest.approx((6 / 16, 4 / 16, 8 / 16))


def test_g2_is_a_share_of_the_log_gain(tmp_path, capsys):
    best = oracle(tmp_path / "oracle", 3.5)  # S = 1/4
    code, lines = run(capsys, "G2", best, evaluation(tmp_path / "half", [0.5] * 4))
    assert (code, lines) == (0, ["G2 PASS 0.500 (0.500 to 0.500) of the oracle's log gain, at least 0.45; 4 links, over links"])
    code, lines = run(capsys, "G2", best, evaluation(tmp_path / "little", [0.6, 0.6, 0.6, 0.7]))
    # (3 ln .6 + ln .7) / (4 ln .25) = .3407
    assert code == 1 and lines[0].startswith("G2 FAIL 0.341 (0.")


def test_figures_by_seed_come_from_the_records(tmp_path):
    folder = evaluation(tmp_path / "ev", [0.4])
    delay = lambda c: {"packets": 9, "delay_ms": {"mean": c, "p99": 30.0}}
    run = lambda policy, seed, c: {"record": {
        "cell": {"grid": "rtt", "name": "a", "bursty": False, "mice": True}, "policy": policy, "seed": seed,
        "run": {
            "queues": {"l": {"packets": 0, "delay_ms": {"mean": None, "p99": None}}, "c": delay(c)},
            "link": {"utilization": 0.99}, "ratio_l_over_c": None,
            "flows": [{"fct_ms": None, "fct": None}, {"fct_ms": 50.0, "fct": {"p95_ms": 90.0}}],
        },
    }}  # fmt: skip
    lines = [{"records_schema": 1}, *(run("dualpi2", s, 15.5) for s in (1, 2, 3)), run("model", 1, 7.5), run("model", 2, 9.9), run("model", 2, 3.5)]
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (link,) = gates.links_of(folder, "model")
    assert link.mean == pytest.approx(math.log(0.4)), "of all seeds the evaluation speaks"
    assert link.resampled == pytest.approx([math.log(x / 16) for x in (8, 6, 6, 4)]), "a run made again counts as it was last"


def test_g3_asks_for_the_share_and_to_beat_the_trees(tmp_path, capsys):
    best, trees = oracle(tmp_path / "oracle", 3.5), evaluation(tmp_path / "trees", [0.45] * 4)
    code, lines = run(capsys, "G3", best, trees, evaluation(tmp_path / "good", [0.4, 0.4, 0.42, 0.4]))
    assert code == 0 and [l[:7] for l in lines] == ["G3 PASS"] * 2
    code, lines = run(capsys, "G3", best, trees, evaluation(tmp_path / "noisy", [0.2, 0.2, 0.6, 0.6]))
    # Better on the mean of logs, but not with its interval.
    assert code == 1 and [l[:7] for l in lines] == ["G3 PASS", "G3 FAIL"]


def test_g3_no_grid_gets_worse_by_rl(tmp_path, capsys):
    best, trees = oracle(tmp_path / "oracle", 3.5), evaluation(tmp_path / "trees", [0.45] * 4)
    student = evaluation(tmp_path / "student", [0.4] * 4)
    after = evaluation(tmp_path / "after", [0.401] * 4)
    worse = evaluation(tmp_path / "worse", [0.41] * 4)
    both = lambda folder: ("G3", best, trees, student, "--before", student, "--after", folder)
    assert run(capsys, *both(after))[0] == 0, "a quarter of a percent is within noise"
    code, lines = run(capsys, *both(worse))
    assert code == 1 and lines[2] == "G3 FAIL rtt: S after RL 1.025 (1.025 to 1.025) of that before, at most 1.01"


def summary(folder, s, phases):
    interval = lambda x: {"value": x, "lo": x - 0.01, "hi": x + 0.01}
    row = lambda scope, name, policy, s, feasible: {
        "scope": scope, "name": name, "policy": policy, "role": "baseline", "cells": 9,
        "s_score": interval(s), "feasible_share": interval(feasible),
    }  # fmt: skip
    rows = [row("grid", "switch", "model", s, 0.9)]
    for name, (own, noise) in phases.items():
        rows += [row("phase", name, "model", s, own), row("phase", name, "dualpi2", 1.0, noise)]
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"summary": rows}))
    return folder


def test_g4_looks_at_every_phase(tmp_path, capsys):
    good = summary(tmp_path / "good", 0.89, {"1v1": (0.95, 1.0), "bursty": (0.9, 0.87)})
    assert run(capsys, "G4", good)[0] == 0
    code, lines = run(capsys, "G4", summary(tmp_path / "bad", 0.95, {"1v1": (0.94, 1.0), "bursty": (0.9, 0.87)}))
    assert code == 1 and [l[:7] for l in lines] == ["G4 FAIL", "G4 FAIL", "G4 PASS"]
    assert lines[1] == "G4 FAIL 1v1: feasible 94.0 (93 to 95) %, at least 95.0 %; 9 phases"


def pairs(path, live, sim=0.5, n=12):
    path.write_text(json.dumps([{"link": f"l{i}", "sim_s": sim, "live_s": live(i), "live_lo": None, "live_hi": None} for i in range(n)]))
    return path


def test_g5_wants_the_sign_and_half_of_the_gain(tmp_path, capsys):
    # ln .7 / ln .5 = .515
    code, lines = run(capsys, "G5", pairs(tmp_path / "a.json", lambda _: 0.7))
    assert code == 0 and "12 of 12" in lines[0] and "0.515 (0.515 to 0.515)" in lines[1]
    code, lines = run(capsys, "G5", pairs(tmp_path / "b.json", lambda i: 0.4 if i < 9 else 1.1))
    assert code == 1 and lines[0].startswith("G5 FAIL sign agrees on 9 of 12") and lines[1][:7] == "G5 PASS"
    assert run(capsys, "G5", pairs(tmp_path / "c.json", lambda _: 0.75))[0] == 1, "ln .75 / ln .5 = .415"
    assert run(capsys, "G5", pairs(tmp_path / "d.json", lambda _: 0.5, n=11))[0] == 1, "eleven links are too few"


def judged(path, scores):
    """The one file that judge.py leaves."""
    cells = [{"grid": "rtt", "cell": c, "policy": "teacher", "s_score": s} for c, s in zip("abcd", scores)]
    path.write_bytes(gzip.compress(json.dumps({"cells": cells}).encode()))
    return path


def test_g6_wants_the_teacher_below_the_student(tmp_path, capsys):
    student = evaluation(tmp_path / "student", [0.5] * 4)
    code, lines = run(capsys, "G6", judged(tmp_path / "good.json.gz", [0.4] * 4), student)
    assert (code, lines) == (0, ["G6 PASS S of the teacher 0.800 (0.800 to 0.800) of the student's (0.400, 0.500), below 1 with its interval; 4 links, over links"])
    code, lines = run(capsys, "G6", judged(tmp_path / "noisy.json.gz", [0.3, 0.3, 0.6, 0.6]), student)
    assert code == 1 and lines[0].startswith("G6 FAIL S of the teacher 0.849 (0.6"), "better on the mean, not with its interval"


def test_g7_wants_nine_tenths_of_the_teachers_gain_and_no_grid_worse(tmp_path, capsys):
    teacher = judged(tmp_path / "teacher.json.gz", [0.4] * 4)
    # ln .43 / ln .4 = .921, ln .45 / ln .4 = .871
    student, less = evaluation(tmp_path / "student", [0.43] * 4), evaluation(tmp_path / "less", [0.45] * 4)
    code, lines = run(capsys, "G7", teacher, student)
    assert code == 0 and lines[0].startswith("G7 PASS 0.921 (0.921 to 0.921) of the teacher's log gain, at least 0.90")
    assert run(capsys, "G7", teacher, less)[0] == 1
    code, lines = run(capsys, "G7", teacher, student, "--before", student, "--after", less)
    assert code == 1 and [l[:7] for l in lines] == ["G7 PASS", "G7 FAIL"]


def test_folders_without_results_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match=r"there is neither results.json nor cells.csv"):
        gates.main(["G2", str(oracle(tmp_path / "oracle", 3.5)), str(tmp_path / "empty")])
