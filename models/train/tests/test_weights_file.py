"""Files of weights: what comes back, and that none of them can run anything. Needs torch and safetensors."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install torch")
pytest.importorskip("safetensors", reason="pip install safetensors")
sys.path.insert(0, str(Path(__file__).parents[1]))

import networks  # noqa: E402
import student  # noqa: E402
import values  # noqa: E402
import weights_file  # noqa: E402
from l4sd_gym import FEATURES  # noqa: E402

WIDTH = len(FEATURES)
ABOUT = {"kind": "mlp", "metadata": {"l4sd.threshold": 0.6, "states": 7}}


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.mkdir, (str(self.place),)


def of_torch(net: networks.Student) -> dict[str, object]:
    rng = np.random.default_rng(3)
    return ABOUT | {"net": net.state_dict(), "features": rng.normal(size=(5, WIDTH)).astype(np.float16), "golden": rng.normal(size=(2, WIDTH)).astype(np.float32)}


@pytest.fixture
def net() -> networks.Student:
    torch.manual_seed(1)
    return networks.Student("mlp", list(FEATURES), np.full(WIDTH, 2.0), np.full(WIDTH, 4.0), values.CANDIDATES).eval()


@pytest.mark.parametrize("form", ["safetensors", "torch"])
def test_a_student_comes_back_to_the_bit(net: networks.Student, tmp_path: Path, form: str) -> None:
    file, saved = tmp_path / f"s.{form}", of_torch(net)
    if form == "torch":
        torch.save(saved, file)
    else:
        student.save(file, net, "mlp", saved["features"], saved["metadata"], saved["golden"])
        assert b"pickle" not in file.read_bytes() and not weights_file.is_torch(file)
    again, told = student.load(file, list(FEATURES), "cpu")
    x = torch.randn(3, WIDTH)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(net(x), again(x), strict=True))
    assert (told["kind"], told["metadata"]) == (ABOUT["kind"], ABOUT["metadata"])
    assert told["features"].dtype == np.float16 and np.array_equal(told["features"], saved["features"])
    assert np.array_equal(told["golden"], saved["golden"])


def test_encoder_and_student_of_demonstrations_come_back_together(tmp_path: Path) -> None:
    import fewshot

    file, shape = tmp_path / "f.safetensors", (fewshot.MOST, fewshot.RECORDS, 5)
    torch.manual_seed(1)
    encoder = networks.Encoder(shape, np.full(5, 2.0), np.full(5, 4.0), fewshot.CONTEXTS, fewshot.WIDTH)
    net = networks.Student("transformer", list(FEATURES), np.zeros(WIDTH), np.ones(WIDTH), values.CANDIDATES, width=fewshot.WIDTH, contexts=fewshot.CONTEXTS)
    model, golden = fewshot.FewShot(encoder, net).eval(), {"mask": np.array([[True, False]]), "features": np.ones((2, WIDTH), np.float32)}
    fewshot.save(model, file, None, ABOUT["metadata"], golden)
    again, told = fewshot.load(file, list(FEATURES))
    shown, mask, x = torch.randn(3, *shape), torch.ones(3, fewshot.MOST), torch.randn(3, WIDTH)
    with torch.no_grad():
        first, second = ([m.context(shown, mask), *m.heads(x, m.context(shown, mask))] for m in (model, again))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert told["metadata"] == ABOUT["metadata"] and told["golden"]["mask"].dtype == bool and np.array_equal(told["golden"]["features"], golden["features"])


def test_nothing_of_a_file_is_run(tmp_path: Path) -> None:
    file, place = tmp_path / "trap.pt", tmp_path / "sprung"
    torch.save({"kind": "mlp", "net": Trap(place)}, file)
    with pytest.raises(SystemExit, match="holds more than weights"):
        student.load(file, list(FEATURES), "cpu")
    assert not place.exists()
    torch.load(file, weights_only=False)
    assert place.exists(), "the trap works"


def test_numbers_of_numpy_are_kept_and_other_things_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    weights_file.save(file, {"a": torch.ones(2, dtype=torch.bfloat16)}, {"loss": np.float32(0.5), "rounds": [np.int64(3)]})
    tensors, about = weights_file.load(file)
    assert about == {"loss": 0.5, "rounds": [3]}
    assert tensors["a"].dtype == torch.bfloat16
    with pytest.raises(TypeError, match="ndarray is not for a file of weights"):
        weights_file.save(file, {}, {"a": np.ones(2)})


def test_tensors_that_share_memory_are_kept_apart(tmp_path: Path) -> None:
    file, x = tmp_path / "w.safetensors", torch.arange(6.0).reshape(2, 3)
    weights_file.save(file, {"x": x, "same": x, "turned": x.T}, {})
    tensors, _ = weights_file.load(file)
    assert torch.equal(tensors["same"], x) and torch.equal(tensors["turned"], x.T)


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    file = tmp_path / "w.safetensors"
    with pytest.raises(SystemExit, match="there is no such file"):
        weights_file.load(file)
    file.write_bytes(b"no weights at all")
    with pytest.raises(SystemExit, match="not a file of weights"):
        weights_file.load(file)
    save_file({"a": torch.ones(1)}, str(file), {"l4sd.format": "2"})
    with pytest.raises(SystemExit, match="format is '2'; this program knows 1"):
        weights_file.load(file)


def test_no_script_writes_or_trusts_a_pickle() -> None:
    scripts = sorted(Path(__file__).parents[1].glob("*.py"))
    assert len(scripts) > 20
    for script in scripts:
        text = script.read_text()
        for way in ("torch.save(", "weights_only=False", "allow_pickle", "import pickle"):
            assert way not in text, f"{script.name}: {way} (weights_file.py)"
