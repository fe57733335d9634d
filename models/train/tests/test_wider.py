"""Settings put together from a student's own answers, by hand; where they are eligible; the file of export.py --wider. Needs torch, onnx and onnxruntime."""

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

import export  # noqa: E402
import networks  # noqa: E402
import quantize  # noqa: E402
import student  # noqa: E402
import values  # noqa: E402
import wider  # noqa: E402
from l4sd_gym import ACTION_VALUES, FEATURES  # noqa: E402

NAMES = list(FEATURES)
FLOWS = NAMES.index("flows_c")
ALL = wider.settings()


def net() -> networks.Student:
    torch.manual_seed(5)
    return networks.Student("mlp", NAMES, np.zeros(len(NAMES)), np.ones(len(NAMES)), values.CANDIDATES).eval()


def state(flows: float) -> torch.Tensor:
    x = np.random.default_rng(6).normal(0, 1, (1, len(NAMES))).astype(np.float32)
    x[0, FLOWS] = math.log(1 + flows)
    return torch.as_tensor(x)


def test_settings_are_todays_candidates_and_every_gain_at_every_target() -> None:
    assert ALL[: len(values.CANDIDATES)] == list(values.CANDIDATES) and len(set(ALL)) == len(ALL)
    targets, gains = (len(ACTION_VALUES[knob]) for knob in ("target", "gain"))
    assert {(t, g) for t, g, r in ALL if r == values.DEFAULT[2]} == {(t, g) for t in range(targets) for g in range(gains)}
    assert {s for s in ALL if s[2] != values.DEFAULT[2]} == {c for c in values.CANDIDATES if c[2] != values.DEFAULT[2]}


@pytest.mark.parametrize(
    ("setting", "shares"),
    [
        ((6, 5), {(6, 2): 1, (5, 5): 0.5, (5, 2): -0.5, (7, 5): 0.5, (7, 2): -0.5}),
        ((2, 6), {(2, 2): 1, (5, 6): 1, (5, 2): -1}),
        ((11, 3), {(11, 2): 1, (9, 3): 1, (9, 2): -1}),
        ((7, 5), {(7, 5): 1}),
        ((3, 2), {(3, 2): 1}),
    ],
)
def test_what_a_gain_adds_lies_between_the_targets_at_which_it_is_known(setting: tuple[int, int], shares: dict[tuple[int, int], float]) -> None:
    """Gains are known at the targets of bins 5, 7 and 9; bin 2 of the gain is 1."""
    weights, built = wider.together([(*setting, values.DEFAULT[2])])
    column = weights[:, 0]
    assert built == [(*setting, values.DEFAULT[2]) not in values.CANDIDATES]
    got = {c[:2]: float(w) for c, w in zip(values.CANDIDATES, column, strict=True) if w}
    assert got == shares


def test_what_it_was_taught_keeps_its_answers_and_the_rest_needs_c() -> None:
    plain, taught = net(), len(values.CANDIDATES)
    wide = wider.Wider(plain, NAMES, 0.5)
    for flows, holds in ((0.0, False), (0.4, False), (0.6, True), (3.0, True)):
        with torch.no_grad():
            (value, logit), (own_value, own_logit) = wide.heads(state(flows)), plain.heads(state(flows))
        assert torch.allclose(value[:, :taught], own_value, atol=1e-6) and torch.allclose(logit[:, :taught], own_logit + 0.5, atol=1e-6)
        at = ALL.index((6, 5, values.DEFAULT[2]))
        number = {c: i for i, c in enumerate(values.CANDIDATES)}
        of = lambda row, t, g: float(row[0, number[t, g, values.DEFAULT[2]]])  # noqa: E731
        by_hand = lambda row: of(row, 6, 2) + ((of(row, 5, 5) - of(row, 5, 2)) + (of(row, 7, 5) - of(row, 7, 2))) / 2  # noqa: E731
        assert float(value[0, at]) == pytest.approx(by_hand(own_value), abs=1e-5)
        assert float(logit[0, at]) == pytest.approx(by_hand(own_logit) + 0.5 - (0 if holds else 20), abs=1e-5)


def test_the_file_says_what_it_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = np.random.default_rng(7).normal(0, 1, (64, len(NAMES))).astype(np.float32)
    student.save(tmp_path / "s.safetensors", net(), "mlp", features, {"l4sd.period_s": 0.128, "l4sd.threshold": 0.6, "l4sd.hysteresis": 0.05}, features[:3])

    def made(name: str, *options: str) -> onnxruntime.InferenceSession:
        sys.argv = ["export.py", str(tmp_path / "s.safetensors"), str(tmp_path / name), *options]
        export.main()
        return onnxruntime.InferenceSession(str(tmp_path / name), providers=["CPUExecutionProvider"])

    plain, wide = made("plain.onnx"), made("wide.onnx", "--wider", "--bolder", "0.5")
    told = wide.get_modelmeta().custom_metadata_map
    assert json.loads(told["l4sd.candidates"]) == [list(k) for k in values.knobs(ALL)] and (told["taught"], told["bolder"]) == (str(len(values.CANDIDATES)), "0.5")
    assert "taught" not in plain.get_modelmeta().custom_metadata_map
    for x in features[:5]:
        own, more = (s.run(["score", "feasible", "distance"], {"features": x[None]}) for s in (plain, wide))
        assert np.allclose(more[1][:, : own[1].shape[1]], own[1] + 0.5, atol=1e-5) and np.allclose(more[2], own[2], atol=1e-5)
        assert more[0].shape == (1, len(ALL)) and (more[0][:, : own[0].shape[1]] <= own[0] + 1e-6).all(), "bolder is never worse in score"
    counts = [sum(n.op_type == "MatMul" for n in quantize.quantized(onnx.load(tmp_path / name)).graph.node) for name in ("plain.onnx", "wide.onnx")]
    assert counts[1] - counts[0] == 2, "values and logits are put together in floats"
    sys.argv = ["export.py", str(tmp_path / "s.safetensors"), str(tmp_path / "x.onnx"), "--bolder", "0.5"]
    with pytest.raises(SystemExit):
        export.main()
    assert "--bolder goes with --wider" in capsys.readouterr().err
