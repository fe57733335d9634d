"""A policy in Python gets the runs and the verdict that ``l4sd eval`` gives to its own."""

from __future__ import annotations

import json
import os
import re
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import scenario
from l4sd_gym import FEATURES
from l4sd_gym.evaluation import closed_loop
from l4sd_gym.rules import choose
from l4sd_gym.scale import evaluate

# Something that is skipped says so in a warning.
pytestmark = pytest.mark.filterwarnings("default")

ROOT = Path(__file__).parents[3]
STUDENT = ROOT / "models/student.onnx"


class Constant:
    """The same candidate always; writes down what it was asked."""

    def __init__(self, candidate: int) -> None:
        self.candidate = candidate
        self.links: list[tuple[str, str, int]] = []
        self.calls: list[tuple[list[int], list[int], list[float]]] = []

    def begin(self, links: list[tuple[str, str, int]]) -> None:
        self.links += links

    def __call__(self, ids: Any, features: Any, current: Any, time_s: Any) -> Any:
        assert [x.dtype for x in (ids, features, current, time_s)] == [np.int64, np.float32, np.int64, np.float64]
        assert features.shape == (len(ids), len(FEATURES))
        self.calls.append((ids.tolist(), current.tolist(), time_s.tolist()))
        return np.full(len(ids), self.candidate)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """A link of 1 s, one of 2 s."""
    names = []
    for name, seconds in [("short", 1), ("long", 2)]:
        path = tmp_path / f"{name}.toml"
        path.write_text(scenario("12Mbit", ("prague", "20ms"), ("cubic", "20ms"), name=name, seconds=seconds))
        names.append(str(path))
    return names


def rows(results: dict[str, Any], policy: str, part: str = "cells") -> list[dict[str, Any]]:
    """Without what a policy is called and which file it came from."""
    mine = [row for row in results[part] if row["policy"] == policy]
    return [{k: v for k, v in row.items() if k not in ("policy", "model_sha256")} for row in mine]


def test_the_default_is_dualpi2_and_is_asked_every_128_ms() -> None:
    policy = Constant(0)
    results = closed_loop(policy, ["smoke"], seeds=2, smoke=True, name="idle")
    assert [row["s_score"] for row in rows(results, "idle")] == [1.0] * 3
    assert all(row["feasible"] for row in rows(results, "idle"))
    # 10 s: (10000 - 16) / 128 = 78, and the first.
    assert len(policy.calls) == 79
    for i, (ids, current, time_s) in enumerate(policy.calls):
        assert ids == list(range(6)) and current == [0] * 6
        assert time_s == pytest.approx([0.016 + 0.128 * i] * 6, abs=1e-9)
    assert len(policy.links) == 6 and [seed for _, _, seed in policy.links] == [1, 2] * 3
    # Everything but the policy's book-keeping is as without it.
    runs = [{k: v for k, v in run.items() if k not in ("fallback_share", "controller")} for run in rows(results, "idle", "runs")]
    same = [run for run in rows(results, "dualpi2", "runs") if run["of_seed"] <= 2]
    assert runs == [{k: v for k, v in run.items() if k not in ("fallback_share", "controller")} for run in same]


def test_the_baseline_and_the_bytes_are_those_of_the_command() -> None:
    ours = closed_loop(Constant(0), ["smoke"], seeds=1, smoke=True, name="codel")
    theirs = json.loads(evaluate(["smoke"], ["codel"], seeds=1, smoke=True, ray=False))
    assert list(ours) == list(theirs)
    for part in ("cells", "runs"):
        assert rows(ours, "dualpi2", part) == rows(theirs, "dualpi2", part)


def test_calls_by_hand_and_who_is_new(files: list[str]) -> None:
    """1 s has 8 choices, 2 s has 16; the longest is number 0."""
    for at_once, want in [(2, [[0, 1]] * 8 + [[0]] * 8), (1, [[0]] * 16 + [[1]] * 8)]:
        policy, new = Constant(3), []
        closed_loop(policy, files, seeds=1, at_once=at_once, reset=lambda ids: new.append(ids.tolist()))
        assert [ids for ids, _, _ in policy.calls] == want
        assert policy.links == [("files", "long", 1), ("files", "short", 1)]
        assert new == ([[0, 1]] if at_once == 2 else [[0], [1]])
        first = [current for ids, current, time_s in policy.calls if time_s[0] < 0.1]
        assert first == ([[0, 0]] if at_once == 2 else [[0], [0]])
        assert all(current == [3] * len(ids) for ids, current, time_s in policy.calls if min(time_s) > 0.1)


def test_results_do_not_depend_on_how_many_are_under_way(files: list[str]) -> None:
    def by_features(ids: Any, features: Any, current: Any, time_s: Any) -> Any:
        return np.abs(features).sum(axis=1).astype(np.int64) % 50

    all_at_once = closed_loop(by_features, files, seeds=3)
    assert closed_loop(by_features, files, seeds=3, at_once=2) == all_at_once
    assert closed_loop(by_features, files, seeds=3, at_once=1) == all_at_once
    assert rows(all_at_once, "model", "runs") != rows(all_at_once, "dualpi2", "runs")[:6]


def threads() -> int:
    """Of this process; a thread that has been waited for may take a moment to go."""
    for _ in range(50):
        count = len(list(Path("/proc/self/task").iterdir()))
        time.sleep(0.01)
    return count


def test_what_it_raises_comes_through_and_ends_all_runs(files: list[str]) -> None:
    calls = 0

    def failing(ids: Any, features: Any, current: Any, time_s: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise ZeroDivisionError("at the third")
        return ids * 0

    closed_loop(Constant(0), files, seeds=3)
    before = threads()
    with pytest.raises(ZeroDivisionError, match="at the third"):
        closed_loop(failing, files, seeds=3)
    assert calls == 3
    assert threads() == before


def test_nonsense_is_refused(files: list[str]) -> None:
    for answer, message in [
        (lambda ids: ids * 0 + 50, "choose gave 50; there are 50 candidates"),
        (lambda ids: ids[1:], r"choose gave int64 \(1,\); it is integers \(2,\)"),
        (lambda ids: ids * 0.0, "float64"),
        (lambda ids: None, "object"),
    ]:
        with pytest.raises(ValueError, match=message):
            closed_loop(lambda ids, *_, answer=answer: answer(ids), files, seeds=1)
    with pytest.raises(ValueError, match="at_once = 0"):
        closed_loop(Constant(0), files, at_once=0)
    with pytest.raises(ValueError, match="'dualpi2'"):
        closed_loop(Constant(0), files, name="dualpi2")
    with pytest.raises(ValueError, match="no grid 'nowhere'"):
        closed_loop(Constant(0), ["nowhere"])


def test_the_baseline_is_kept(files: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    first = closed_loop(Constant(3), files, seeds=2, out=folder)
    records = (folder / "records.jsonl").read_text()
    assert len(records.splitlines()) == 1 + 2 * 4, "a header, and two links with twice two seeds"
    assert closed_loop(Constant(3), files, seeds=2, out=folder) == first
    assert (folder / "records.jsonl").read_text() == records
    assert closed_loop(Constant(3), files, seeds=2) == first


def test_candidates_of_ones_own(files: list[str]) -> None:
    """Number 3 is a target of bin 3."""
    default, third = [0.015, 1, 0.0008], [0.00179544, 1, 0.0008]
    assert closed_loop(Constant(1), files, seeds=1, candidates=[default, third]) == closed_loop(Constant(3), files, seeds=1)
    for given, said in [
        ([default, [0.1, 1, 0.0008]], "candidate 1, [0.1, 1, 0.0008], is outside what the guard admits"),
        ([third, default], "first candidate must be RFC 9332's constants, [0.015, 1, 0.0008]"),
        ([default], "choose gave 1; there are 1 candidates"),
    ]:
        with pytest.raises(ValueError, match=re.escape(said)):
            closed_loop(Constant(1), files, seeds=1, candidates=given)


def test_the_shipped_model_asked_from_here_is_the_shipped_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Unfamiliar links, the guard and the latency of decisions are in the same path, so that nothing differs. Without its feed-forward, which is
    not asked for from here: under another name its rule is a note."""
    try:
        import onnxruntime
    except ImportError:
        warnings.warn("onnxruntime is not installed: a model's choice is not compared here", stacklevel=1)
        pytest.skip("onnxruntime is not installed")
    library = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"), None)
    if library and "ORT_DYLIB_PATH" not in os.environ:
        monkeypatch.setenv("ORT_DYLIB_PATH", str(library))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(STUDENT), options, providers=["CPUExecutionProvider"])
    card = session.get_modelmeta().custom_metadata_map
    limits = {k: float(card[f"l4sd.{k}"]) for k in ("threshold", "hysteresis", "distance_limit")}

    def student(ids: Any, features: Any, current: Any, time_s: Any) -> Any:
        answers = [session.run(["score", "feasible", "distance"], {"features": row[None]}) for row in features]
        score, feasible, distance = (np.concatenate(part) for part in zip(*answers, strict=True))
        chosen = choose(score, feasible, current, limits["threshold"], limits["hysteresis"])
        return np.where(distance[:, 0] > limits["distance_limit"], -1, chosen)

    plain = tmp_path / "student.onnx"
    plain.write_bytes(STUDENT.read_bytes().replace(b"l4sd.feed_forward_rule", b"note.feed_forward_rule"))
    ours = closed_loop(student, seeds=1, smoke=True, name="student", candidates=json.loads(card["l4sd.candidates"]))
    theirs = json.loads(evaluate([], [f"model:{plain}"], seeds=1, smoke=True, ray=False))
    for part in ("cells", "runs"):
        assert rows(ours, "student", part) == rows(theirs, "model", part)
    assert ours["summary"][-1]["policy"] == "student"
    assert min(row["s_score"] or 1.0 for row in rows(ours, "student")) < 0.8
