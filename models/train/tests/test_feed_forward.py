"""The feed-forward that a model file is given: its limits, and that nothing else changes. Needs torch, onnx and onnxruntime."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install torch")
onnx = pytest.importorskip("onnx", reason="pip install onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
sys.path.insert(0, str(Path(__file__).parents[1]))

import feed_forward  # noqa: E402
import networks  # noqa: E402
import student  # noqa: E402
import values  # noqa: E402
from l4sd_gym import FEATURES  # noqa: E402

NAMES = list(FEATURES)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("feed-forward")
    features = np.random.default_rng(3).normal(0, 1, (64, len(NAMES))).astype(np.float32)
    torch.manual_seed(3)
    net = networks.Student("transformer", NAMES, np.zeros(len(NAMES)), np.ones(len(NAMES)), values.CANDIDATES).eval()
    student.export(net, folder / "plain.onnx", features, NAMES, {"l4sd.period_s": 0.128, "l4sd.threshold": 0.6, "l4sd.hysteresis": 0.05}, features[:3])
    sys.argv = ["feed_forward.py", str(folder / "plain.onnx"), str(folder / "with.onnx")]
    feed_forward.main()
    return folder / "plain.onnx", folder / "with.onnx"


def told(file: Path) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(file).metadata_props}


def test_limits_are_those_of_the_schemas_units(files: tuple[Path, Path]) -> None:
    """ln(1 + .2 / .01) = ln 21, ln(1 + .03 / .02) = ln 2.5, ln(1 + 2.5 / 1) = ln 3.5."""
    rule = json.loads(told(files[1])["l4sd.feed_forward_rule"])
    assert rule["factor"] == 0.25
    want = {"idle.mean_0.064s": math.log(21.0), "p_base": math.log(2.5), "flows_steady_c": math.log(3.5)}
    assert rule["over"] == pytest.approx(want, abs=1e-4)
    assert set(rule["over"]) <= set(NAMES)


def test_nothing_else_changes(files: tuple[Path, Path]) -> None:
    before, after = (onnx.load(f) for f in files)
    assert before.graph == after.graph
    assert told(files[0]).items() <= told(files[1]).items()
    assert set(told(files[1])) - set(told(files[0])) == {"l4sd.feed_forward_rule", "feed_forward"}


def test_a_second_one_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    sys.argv = ["feed_forward.py", str(files[1]), str(tmp_path / "twice.onnx")]
    with pytest.raises(SystemExit, match="has a feed-forward already"):
        feed_forward.main()
