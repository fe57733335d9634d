"""Histories are the same however they are spread: threads, tasks of Ray. Ray is skipped where it is not installed."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("l4sd_gym")
pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
sys.path.insert(0, str(Path(__file__).parents[1]))

import histories  # noqa: E402
from l4sd_gym import grid_scenarios  # noqa: E402

# What Ray warns of is not about this.
pytestmark = pytest.mark.filterwarnings("default")
MODEL = Path(__file__).parents[2] / "student.onnx"


@pytest.fixture
def oracle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three links, of which two run together."""
    monkeypatch.setattr(histories, "TOGETHER", 2)
    lines = [json.dumps({"record": {"scenario": s}}) for s in grid_scenarios("smoke")]
    (tmp_path / "oracle-train.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return tmp_path


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One of this test's own."""
    ray = pytest.importorskip("ray", reason="pip install ray")
    monkeypatch.setenv("RAY_ADDRESS", "local")
    yield
    ray.shutdown()


def written(oracle: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> bytes:
    out = oracle / "h.npz"
    monkeypatch.setattr(sys, "argv", ["histories.py", str(oracle), str(out), "--passes", "2", "--model", str(MODEL), *words])
    histories.main()
    return out.read_bytes()


def test_ray_writes_the_same_bytes(oracle: Path, cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    here = written(oracle, monkeypatch)
    assert not ray.is_initialized(), "nothing is spread unless it is asked for"
    assert written(oracle, monkeypatch, "--ray") == here
    assert ray.is_initialized()


@pytest.mark.parametrize("words", [("--links", "0"), ("--passes", "0")])
def test_no_episodes_are_a_mistake(words: tuple[str, str], oracle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        written(oracle, monkeypatch, *words)
    assert "no episodes: --links and --passes are 1 or more" in capsys.readouterr().err and not (oracle / "h.npz").exists()


def test_without_ray_its_option_says_what_to_do(oracle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit, match="ray is not installed: pip install ray, or leave out --ray"):
        written(oracle, monkeypatch, "--ray")


def test_links_that_do_not_run_together_have_other_random_numbers(oracle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One link twice under drawn settings, each time by itself."""
    monkeypatch.setattr(histories, "TOGETHER", 1)
    line = json.dumps({"record": {"scenario": grid_scenarios("smoke")[0]}})
    (oracle / "oracle-train.jsonl.gz").write_bytes(gzip.compress("\n".join([line] * 2).encode()))
    monkeypatch.setattr(sys, "argv", ["histories.py", str(oracle), str(oracle / "h.npz")])
    histories.main()
    data = histories.load(oracle / "h.npz", 2)
    assert len(data) == 2 and not np.array_equal(data.features[0], data.features[1])


def test_every_link_is_there_once_a_pass_whatever_runs_beside_it(oracle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two links are those of a run without the third; threads and seeds change what they are named after."""
    whole = written(oracle, monkeypatch, "--threads", "1")
    data = histories.load(oracle / "h.npz", 3)
    assert [set(data.link[np.arange(len(data)) % 3 == i]) for i in range(3)] == [{0}, {1}, {2}] and len(data) == 6
    assert written(oracle, monkeypatch, "--threads", "2") == whole and written(oracle, monkeypatch, "--seed", "2") != whole
    written(oracle, monkeypatch, "--links", "2")
    some, two = histories.load(oracle / "h.npz", 3), data.of_links(np.array([0, 1]))
    assert all(np.array_equal(getattr(some, name), getattr(two, name)) for name in histories.ARRAYS)
    third = data.of_links(np.array([2]))
    assert not np.array_equal(third.features[0], third.features[1]), "passes differ"
