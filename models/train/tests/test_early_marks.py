"""The rule that a lone flow of L on an idle link is not marked early: where it holds, and that nothing else changes. Needs torch, onnx and onnxruntime."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install torch")
onnx = pytest.importorskip("onnx", reason="pip install onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
sys.path.insert(0, str(Path(__file__).parents[1]))

import early_marks  # noqa: E402
import feed_forward  # noqa: E402
import networks  # noqa: E402
import quantize  # noqa: E402
import student  # noqa: E402
import values  # noqa: E402
from l4sd_gym import FEATURES  # noqa: E402

NAMES = list(FEATURES)
IDLE, FLOWS = NAMES.index("idle.mean_0.5s"), NAMES.index("flows_c")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("early-marks")
    features = np.random.default_rng(5).normal(0, 1, (64, len(NAMES))).astype(np.float32)
    torch.manual_seed(5)
    net = networks.Student("mlp", NAMES, np.zeros(len(NAMES)), np.ones(len(NAMES)), values.CANDIDATES).eval()
    student.export(net, folder / "plain.onnx", features, NAMES, {"l4sd.period_s": 0.128, "l4sd.threshold": 0.45, "l4sd.hysteresis": 0.05}, features[:3])
    run(folder / "plain.onnx", folder / "ruled.onnx")
    return folder / "plain.onnx", folder / "ruled.onnx"


def run(model: Path, out: Path) -> None:
    sys.argv = ["early_marks.py", str(model), str(out)]
    early_marks.main()


def answers(file: Path, idle: float, flows: float) -> dict[str, np.ndarray]:
    """At a state with this share of the capacity idle and so many flows of C."""
    x = np.random.default_rng(6).normal(0, 1, (1, len(NAMES))).astype(np.float32)
    x[0, IDLE], x[0, FLOWS] = math.copysign(math.log(1 + abs(idle) / 0.01), idle), math.log(1 + flows)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], (y[0] for y in session.run(None, {"features": x})), strict=True))


def test_what_marks_earlier_is_told_by_target_and_ramp() -> None:
    """Against 15 ms and .8 ms: a gain alone, a longer target and a later ramp are not earlier."""
    candidates = [(0.015, 1.0, 0.0008), (0.015, 8.0, 0.0008), (0.025, 1.0, 0.0008), (0.015, 1.0, 0.0016), (0.01, 1.0, 0.0016), (0.025, 1.0, 0.0004)]
    assert early_marks.earlier(candidates).tolist() == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(("idle", "flows", "holds"), [(0.5, 0.0, True), (0.21, 0.0, True), (0.19, 0.0, False), (0.5, 1.0, False), (0.5, 0.6, False), (-0.01, 0.0, False)])
def test_it_holds_where_the_link_idles_without_c(files: tuple[Path, Path], idle: float, flows: float, holds: bool) -> None:
    before, after = (answers(f, idle, flows) for f in files)
    less = 20.0 * early_marks.earlier(values.knobs()) if holds else 0.0
    assert np.allclose(after["feasible"], before["feasible"] - less, atol=1e-4)
    assert np.array_equal(after["score"], before["score"]) and np.array_equal(after["distance"], before["distance"])


def test_a_file_is_ruled_once(files: tuple[Path, Path], tmp_path: Path) -> None:
    told = [{p.key: p.value for p in onnx.load(f).metadata_props} for f in files]
    assert set(told[1]) - set(told[0]) == {"early_marks"} and {k for k in told[0] if told[0][k] != told[1][k]} <= {"l4sd.golden_out"}
    with pytest.raises(SystemExit, match="it has the rule already"):
        run(files[1], tmp_path / "twice.onnx")


@pytest.mark.parametrize("script", [early_marks, feed_forward, quantize])
def test_a_file_of_another_schema_is_refused(files: tuple[Path, Path], tmp_path: Path, script: object) -> None:
    old, out = tmp_path / "old.onnx", tmp_path / "out.onnx"
    model = onnx.load(files[0])
    (schema,) = (p for p in model.metadata_props if p.key == "l4sd.schema")
    schema.value = "0" * 64
    onnx.save(model, old)
    sys.argv = ["x", str(old), str(out), *(["--states", "none.npz"] if script is quantize else [])]
    with pytest.raises(SystemExit, match="old.onnx: made for schema 0{64}, this is .*; train it anew"):
        script.main()
    assert not out.exists()
