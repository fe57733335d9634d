"""A model file in 8 bits: what becomes of weights, of the distance, of the answers. Needs torch, onnx and onnxruntime."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install torch")
onnx = pytest.importorskip("onnx", reason="pip install onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
sys.path.insert(0, str(Path(__file__).parents[1]))

import networks  # noqa: E402
import quantize  # noqa: E402
import student  # noqa: E402
import values  # noqa: E402
from l4sd_gym import FEATURES, SCHEMA_HASH  # noqa: E402

WIDTH = len(FEATURES)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray]:
    folder = tmp_path_factory.mktemp("int8")
    rng = np.random.default_rng(2)
    features = rng.normal(0, 1, (200, WIDTH)).astype(np.float32)
    torch.manual_seed(2)
    net = networks.Student("transformer", list(FEATURES), np.zeros(WIDTH), np.ones(WIDTH), values.CANDIDATES).eval()
    student.export(net, folder / "s.onnx", features, list(FEATURES), {"l4sd.period_s": 0.128, "l4sd.threshold": 0.6, "l4sd.hysteresis": 0.05, "seed": 2}, features[:3])
    np.savez(folder / "states.npz", features=features, schema=SCHEMA_HASH)
    sys.argv = ["quantize.py", str(folder / "s.onnx"), str(folder / "s8.onnx"), "--states", str(folder / "states.npz")]
    quantize.main()
    return folder / "s.onnx", folder / "s8.onnx", features


def answers(file: Path, features: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    assert names == ["score", "feasible", "distance"]
    return {n: np.concatenate([session.run([n], {"features": x[None]})[0] for x in features]) for n in names}


def test_the_distance_is_not_touched_and_the_rest_is_close(files: tuple[Path, Path, np.ndarray]) -> None:
    before, after = (answers(f, files[2][:20]) for f in files[:2])
    assert np.abs(before["distance"] - after["distance"]).max() < 1e-5, "the guard's view of what is familiar"
    for name in ("score", "feasible"):
        off = np.abs(before[name] - after[name])
        assert 1e-6 < off.max() < 0.2, f"{name} is quantised, and near"


def test_it_is_smaller_and_of_the_standard_domain(files: tuple[Path, Path, np.ndarray]) -> None:
    plain, small = (onnx.load(f) for f in files[:2])
    assert [(o.domain, o.version) for o in small.opset_import] == [("", 17)] and {n.domain for n in small.graph.node} == {""}
    bytes_of = {i.name: int(np.prod(i.dims)) for i in small.graph.initializer if i.data_type == onnx.TensorProto.INT8}
    floats = lambda m: sum(int(np.prod(i.dims)) for i in m.graph.initializer if i.data_type == onnx.TensorProto.FLOAT and len(i.dims) == 2)  # noqa: E731
    distance = next(int(np.prod(i.dims)) for i in plain.graph.initializer if i.dims and i.dims[0] == WIDTH and len(i.dims) == 2)
    # All matrices of the network but the candidates' (constant, folded) are in 8 bits; that of the distance is in floats.
    assert sum(bytes_of.values()) > 100_000 and floats(small) - distance < 0.1 * (floats(plain) - distance)
    widest = [onnx.numpy_helper.to_array(i) for i in small.graph.initializer if i.name in bytes_of and len(i.dims) == 2]
    assert max(int(np.abs(w.astype(int)).max()) for w in widest) <= 64, "seven bits"


def test_metadata_and_golden_vectors(files: tuple[Path, Path, np.ndarray]) -> None:
    plain, small = ({p.key: p.value for p in onnx.load(f).metadata_props} for f in files[:2])
    assert {k for k in small if k.startswith("l4sd.") and small[k] != plain[k]} == {"l4sd.golden_out", "l4sd.golden_tolerance"}
    assert float(small["l4sd.golden_tolerance"]) == quantize.TOLERANCE and small["seed"] == "2"
    assert small["made_from"] == __import__("hashlib").sha256(files[0].read_bytes()).hexdigest()
    wanted = np.frombuffer(base64.b64decode(small["l4sd.golden_out"]), "<f4").reshape(3, -1)
    got = answers(files[1], files[2][:3])
    assert np.abs(np.concatenate([got[n] for n in ("score", "feasible", "distance")], 1) - wanted).max() < 1e-5


def test_a_threshold_is_the_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of weights whose rounds had .6: a file with .6, and one with .45 that answers alike."""
    import export

    net = networks.Student("mlp", list(FEATURES), np.zeros(len(FEATURES)), np.ones(len(FEATURES)), values.CANDIDATES)
    features = np.random.default_rng(1).standard_normal((50, len(FEATURES))).astype(np.float32)
    student.save(tmp_path / "s.safetensors", net, "mlp", features, {"l4sd.period_s": 0.128, "l4sd.threshold": 0.6, "l4sd.hysteresis": 0.05}, features[:3])
    told = []
    for name, words in (("plain", []), ("lower", ["--threshold", "0.45"])):
        monkeypatch.setattr(sys, "argv", ["export.py", str(tmp_path / "s.safetensors"), str(tmp_path / f"{name}.onnx"), *words])
        export.main()
        told.append({p.key: p.value for p in onnx.load(tmp_path / f"{name}.onnx").metadata_props})
    assert [t["l4sd.threshold"] for t in told] == ["0.6", "0.45"]
    assert told[0] | {"l4sd.threshold": "0.45"} == told[1]


def test_states_of_histories_leave_out_what_is_no_state(tmp_path: Path) -> None:
    features = np.arange(2 * 3 * 4, dtype=np.float16).reshape(2, 3, 4)
    np.savez(tmp_path / "h.npz", features=features, length=np.array([1, 3]))
    assert quantize.states_of(tmp_path / "h.npz").tolist() == [features[0, 0].tolist(), *features[1].tolist()]


def test_a_model_with_a_context_is_refused(files: tuple[Path, Path, np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = onnx.load(files[0])
    model.graph.input.append(onnx.helper.make_tensor_value_info("context", onnx.TensorProto.FLOAT, [1, 4]))
    onnx.save(model, tmp_path / "c.onnx")
    monkeypatch.setattr(sys, "argv", ["quantize.py", str(tmp_path / "c.onnx"), str(tmp_path / "o.onnx"), "--states", "none.npz"])
    with pytest.raises(SystemExit, match="it reads features, context; only a model of features alone"):
        quantize.main()
    assert not (tmp_path / "o.onnx").exists()
