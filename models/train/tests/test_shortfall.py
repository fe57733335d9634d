"""The head that says what a run lacks of DualPI2's utilisation: what is learned, what the graph makes of it. Needs scikit-learn, onnx and onnxruntime."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="pip install onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
pytest.importorskip("sklearn", reason="pip install scikit-learn")
sys.path.insert(0, str(Path(__file__).parents[1]))

import onnx_file  # noqa: E402
import own_runs  # noqa: E402
import shortfall  # noqa: E402
import values  # noqa: E402
from l4sd_gym import FEATURES, SCHEMA_HASH  # noqa: E402

NAMES = list(FEATURES)
IDLE, AGE = NAMES.index("idle.mean_16s"), NAMES.index("rate_age")
COUNT = len(values.knobs())
# What tells the runs of runs_file apart and says nothing else.
MARKS = slice(100, 160)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A model whose logits are 1 for every candidate, whatever it is shown."""
    node, const = onnx.helper.make_node, onnx.numpy_helper.from_array
    inits = [const(np.zeros((len(NAMES), COUNT), np.float32), "nothing"), const(np.ones((1, COUNT), np.float32), "ones")]
    nodes = [node("MatMul", ["features", "nothing"], ["score"]), node("Add", ["score", "ones"], ["feasible"])]
    meta = {"l4sd.period_s": 0.128, "l4sd.threshold": 0.45, "l4sd.hysteresis": 0.05}
    onnx_file.write(tmp_path / "plain.onnx", nodes, inits, COUNT, len(NAMES), meta, np.zeros((2, len(NAMES)), np.float32), ml=False)
    return tmp_path / "plain.onnx"


def runs_file(path: Path, seed: int = 0, runs: int = 60, states: int = 20) -> Path:
    """Runs that lack what one feature says, and a little noise of each run."""
    rng = np.random.default_rng(seed)
    run = np.repeat(np.arange(runs), states)
    features = rng.normal(0, 1, (len(run), len(NAMES))).astype(np.float32)
    cause = rng.normal(0, 1, runs)
    features[:, 7] = cause[run]
    features[:, MARKS] = rng.normal(0, 1, (runs, 60))[run]
    np.savez(path, features=features, run=run, time_s=np.zeros(len(run)), shortfall=0.5 + 0.5 * cause + rng.normal(0, 0.05, runs), grid=np.full(runs, "rtt"), schema=SCHEMA_HASH)
    return path


def logits(file: Path, idle_percent: float, age_s: float) -> np.ndarray:
    x = np.zeros((1, len(NAMES)), np.float32)
    x[0, IDLE], x[0, AGE] = math.log(1 + idle_percent), math.log(1 + age_s / 0.1)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(["feasible"], {"features": x})[0][0]


@pytest.mark.parametrize(
    ("lacks", "idle", "age_s", "less"),
    [
        (1.2, 2.0, 60, 2.0),
        (0.6, 2.0, 60, 0.0),
        (-0.5, 2.0, 60, 0.0),
        (3.0, 2.9, 60, 3.0),
        (1.2, 0.95, 60, 1.0),
        (1.2, 0.65, 60, 0.0),
        (1.2, 3.25, 60, 1.5),
        (1.2, 4.5, 60, 0.0),
        (1.2, 2.0, 8.5, 1.0),
        (1.2, 2.0, 7.9, 0.0),
    ],
    ids=["four logits a point over .7", "under .7", "more than DualPI2", "three at most", "no more than idles", "hardly idle", "fading", "much idle", "settling", "not settled"],
)
def test_logits_fall_by_what_is_lacking(plain: Path, tmp_path: Path, lacks: float, idle: float, age_s: float, less: float) -> None:
    model, told = onnx_file.load(plain)
    head = SimpleNamespace(columns=[0, 5], mean=np.zeros(2), deviation=np.ones(2), hidden=(np.ones((2, 3)), np.zeros(3)), out=(np.zeros((3, 1)), np.array([lacks])))
    shortfall.add(model.graph, NAMES, COUNT, head, over=0.7, per_point=4.0, most=3.0, idle=4.0)
    del model.metadata_props[:]
    onnx_file.finish(tmp_path / "headed.onnx", model, {k: told[k] for k in ("l4sd.period_s", "l4sd.threshold", "l4sd.hysteresis")}, np.zeros((1, len(NAMES)), np.float32))
    got = logits(tmp_path / "headed.onnx", idle, age_s)
    assert got[0] == pytest.approx(1.0), "RFC 9332's constants are always there"
    assert got[1:] == pytest.approx(1.0 - less, abs=1e-4)


def test_it_learns_what_tells_of_the_shortfall(tmp_path: Path) -> None:
    features, run, lacks = shortfall.load([runs_file(tmp_path / "a.npz"), runs_file(tmp_path / "b.npz", 1)], SCHEMA_HASH)
    assert len(lacks) == 120 and run.max() == 119, "runs of the second file follow those of the first"
    head = shortfall.Head(features, run, lacks, [3, 7, 9])
    of, said = head.blind
    true = np.clip(lacks, -1, 3)[run]
    assert np.corrcoef(said[of], true[of])[0, 1] > 0.95
    assert np.abs(head(features) - true).mean() < 0.15, "in points, not only in order"


def test_runs_that_were_not_learned_of_stay_unknown(tmp_path: Path) -> None:
    """By heart every run can be told, and is; what is said blindly must not know."""
    features, run, lacks = shortfall.load([runs_file(tmp_path / "a.npz")], SCHEMA_HASH)
    true = np.clip(lacks, -1, 3)[run]
    head = shortfall.Head(features, run, lacks, list(range(MARKS.start, MARKS.stop)))
    assert np.corrcoef(head(features), true)[0, 1] > 0.7
    of, said = head.blind
    assert 0.2 < of.mean() < 0.9 and np.corrcoef(said[of], true[of])[0, 1] < 0.5


def test_the_graph_answers_as_the_head(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "headed.onnx"
    file = runs_file(tmp_path / "runs.npz")
    run(monkeypatch, plain, out, file)
    assert "1200 states of 60 runs" in capsys.readouterr().out
    features, runs, lacks = shortfall.load([file], SCHEMA_HASH)
    head = shortfall.Head(features, runs, lacks, [i for i, n in enumerate(NAMES) if ".raw_" not in n])
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    some = features[:50].copy()
    some[:, IDLE], some[:, AGE] = math.log(1 + 2.5), math.log(1 + 60 / 0.1)
    got = np.concatenate([session.run(["feasible"], {"features": x[None]})[0] for x in some])
    less = np.clip(5.0 * (np.minimum(head(some), 2.5) - 0.5), 0, 4)
    assert less.max() > 0.5 and less.min() == 0
    assert np.allclose(got[:, 1:], 1 - less[:, None], atol=1e-3) and np.allclose(got[:, 0], 1)


def test_what_cannot_be_used_is_refused(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "headed.onnx"
    run(monkeypatch, plain, out, runs_file(tmp_path / "runs.npz"))
    with pytest.raises(SystemExit, match="it has the head already"):
        run(monkeypatch, out, tmp_path / "twice.onnx", tmp_path / "runs.npz")
    with pytest.raises(SystemExit, match="100 states in 1 file.* too few"):
        run(monkeypatch, plain, out, runs_file(tmp_path / "few.npz", runs=5))
    with np.load(tmp_path / "runs.npz") as data:
        np.savez(tmp_path / "old.npz", **{k: data[k] for k in data if k != "schema"}, schema="0" * 64)
    with pytest.raises(SystemExit, match="old.npz: made for schema 0{64}"):
        run(monkeypatch, plain, out, tmp_path / "old.npz")


def run(monkeypatch: pytest.MonkeyPatch, model: Path, out: Path, runs: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["shortfall.py", str(model), str(out), str(runs)])
    shortfall.main()


def test_a_run_is_held_against_dualpi2_on_its_link_and_seed() -> None:
    used = lambda policy, seed, share: {"grid": "rtt", "cell": "a", "policy": policy, "of_seed": seed, "link": {"utilization": share}}  # noqa: E731
    runs = [used("dualpi2", 1, 0.995), used("dualpi2", 2, 0.97), used("model", 1, 0.98), used("model", 2, 0.975)]
    assert own_runs.shortfalls([("rtt", "a", 2), ("rtt", "a", 1)], runs) == pytest.approx([-0.5, 1.5])


def test_runs_of_a_model_are_states_and_shortfalls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "runs.npz"
    model = Path(__file__).parents[2] / "student.onnx"
    monkeypatch.setattr(sys, "argv", ["own_runs.py", str(model), str(out), "rfc9332", "--smoke", "--seeds", "2"])
    own_runs.main()
    with np.load(out) as data:
        assert len(data["shortfall"]) == len(data["grid"]) == 6, "three links, two seeds"
        assert data["features"].shape == (len(data["run"]), len(NAMES)) and data["time_s"].min() >= own_runs.WARM_S
        assert set(data["run"]) <= set(range(6)) and np.abs(data["shortfall"]).max() < 100
