"""Several processes train as one does: gradients, weights, what is told. Needs torch and transformers; a group of two over gloo is started, and
one over NCCL where there are two GPUs."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install torch")
pytest.importorskip("transformers", reason="pip install transformers")
sys.path.insert(0, str(Path(__file__).parents[1]))

import histories  # noqa: E402
import ranks  # noqa: E402
import replay  # noqa: E402
import teacher  # noqa: E402
import values  # noqa: E402
from l4sd_gym import FEATURES  # noqa: E402
from test_parent import at_work, end_within  # noqa: E402

WIDTH, BATCH, UPDATES = len(FEATURES), 7, 4


def record(known: int) -> dict[str, object]:
    """A link of which DualPI2 and `known` settings were tried."""

    def tried(setting: list[int] | None, delay: float) -> dict[str, object]:
        queues = {"l": 1.0, "c": delay, "all": delay}
        figures = {"utilization": 1.0, "mean_ms": queues, "p99_ms": queues, "abs_log2_ratio": None, "mice_p95_ms": []}
        return {"setting": setting, "seconds": 60, "seeds": 3, "figures": figures, "phases": []}

    return {"cell": {"grid": "x", "bursty": False, "mice": False}, "scenario": "", "tried": [tried(None, 15.0), *(tried(list(values.CANDIDATES[i + 1]), 4.0 + i) for i in range(known))]}


def trained(group: ranks.Ranks) -> dict[str, object]:
    """What UPDATES steps of a tiny teacher give: gradients before they are cut and mean loss of all ranks, weights of this one. Without
    dropout. Episodes and numbers of known labels differ from link to link, so that no half of a batch is like the other."""
    torch.set_num_threads(1)
    teacher.NEUTRAL = 1.0
    records = [record(1), record(9), record(20)]
    rng = np.random.default_rng(1)
    data = histories.Histories(WIDTH)
    for link, steps in enumerate((3, 11, 6, 2, 9)):
        data.add(rng.normal(size=(steps, WIDTH)).astype(np.float32), np.full(steps, link % 3, np.int32), np.arange(steps, dtype=np.float32))
    args = argparse.Namespace(device="cpu", text="full", rate=3e-4, outer_rate=1e-3, batch=BATCH, penalty=0.15)
    net = teacher.Teacher("tiny", np.zeros(WIDTH), np.ones(WIDTH), seed=3, dropout=0.0)
    with torch.no_grad():
        for p in net.parameters():
            p += 0.1 * group.rank
    group.same(net)
    gradients, update = [], replay.Step.update

    def noted(step: replay.Step) -> None:
        gradients.append(torch.cat([p.grad.flatten() for p in step.params]).numpy().copy())
        update(step)

    replay.Step.update = noted
    try:
        updates, loss = teacher.fit(net, records, teacher.Labels(records, args.penalty, "cpu"), data, args, 5, updates=UPDATES, group=group)
    finally:
        replay.Step.update = update
    params = list(net.parameters())
    found = {"gradients": np.array(gradients), "weights": torch.nn.utils.parameters_to_vector(params).detach().numpy().copy(), "updates": updates, "loss": loss, "drift": group.drift(params)}
    with torch.no_grad():
        params[3].flatten()[0] = 8 + 0.25 * group.rank
    return found | {"drift_of_one": group.drift(params), "told": group.told(5 + group.rank), "made": group.made_by_first(lambda: {"by": group.rank})["by"]}


def stepped(group: ranks.Ranks, device: str) -> dict[str, object]:
    """Twelve steps of a linear map in batches of eight, recorded on a GPU: its weights, the last loss, how many graphs there are."""
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(1)).to(device)
    y = x.sum(1, keepdim=True)
    torch.manual_seed(2)
    net = torch.nn.Linear(5, 1).to(device)
    step = replay.Step(lambda at: (net(x[at]) - y[at]).square().sum() / 8, replay.adamw([(list(net.parameters()), 0.1)], device), group=group)
    for n in range(12):
        loss = step(torch.as_tensor(group.part(np.arange(8 * (n % 8), 8 * (n % 8) + 8)), device=device))
    return {"linear": net.weight.detach().cpu().numpy(), "linear_loss": loss.item(), "graphs": len(step.graphs)}


def worker(out: str, device: str) -> None:
    """What each process of torchrun does here."""
    group, own = ranks.begin(device)
    found = stepped(group, own) | (trained(group) if device == "cpu" else {})
    np.savez(Path(out) / f"{group.rank}.npz", device=own, **found)
    group.end()


@pytest.fixture(scope="module")
def alone() -> dict[str, object]:
    return trained(ranks.ALONE)


def started(out: Path, device: str) -> list[dict[str, np.ndarray]]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__, str(out), device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return [dict(np.load(out / f"{rank}.npz")) for rank in range(2)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    return started(tmp_path_factory.mktemp("ranks"), "cpu")


def test_two_halves_have_the_gradient_of_the_whole(alone: dict[str, object], two: list[dict[str, np.ndarray]]) -> None:
    """Of a batch of seven, four and three."""
    whole = alone["gradients"][0]
    assert np.abs(whole).max() > 0.1
    for rank in two:
        assert np.abs(rank["gradients"][0] - whole).max() < 1e-5 * np.abs(whole).max()
        # Adam makes much of small differences in later steps; what is trained is the same.
        assert np.linalg.norm(rank["gradients"][-1] - alone["gradients"][-1]) < 0.01 * np.linalg.norm(alone["gradients"][-1])
        assert rank["loss"] == pytest.approx(alone["loss"], rel=1e-3)


def test_ranks_have_the_same_weights_to_the_bit(alone: dict[str, object], two: list[dict[str, np.ndarray]]) -> None:
    a, b = two
    assert a["updates"] == b["updates"] == alone["updates"] == UPDATES
    assert np.array_equal(a["weights"], b["weights"]) and np.array_equal(a["gradients"], b["gradients"])
    assert np.abs(a["weights"] - alone["weights"]).max() < 1e-3
    assert a["drift"] == b["drift"] == 0 and a["drift_of_one"] == b["drift_of_one"] == 0.25 and alone["drift_of_one"] == 0


def test_steps_of_two_are_those_of_one(two: list[dict[str, np.ndarray]]) -> None:
    one = stepped(ranks.ALONE, "cpu")
    for n, rank in enumerate(two):
        assert str(rank["device"]) == "cpu" and rank["graphs"] == 0
        assert np.allclose(rank["linear"], one["linear"], atol=1e-5) and rank["linear_loss"] == pytest.approx(one["linear_loss"], rel=1e-4), n


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no two GPUs")
def test_two_gpus_record_what_is_before_the_sum_and_what_is_after(tmp_path: Path) -> None:
    one = stepped(ranks.ALONE, "cuda")
    assert one["graphs"] == 1
    a, b = started(tmp_path, "cuda")
    assert [str(a["device"]), str(b["device"])] == ["cuda:0", "cuda:1"] and a["graphs"] == b["graphs"] == 2
    assert np.array_equal(a["linear"], b["linear"]) and np.allclose(a["linear"], one["linear"], atol=1e-5)
    assert a["linear_loss"] == b["linear_loss"] == pytest.approx(one["linear_loss"], rel=1e-4)


def test_the_first_one_decides(two: list[dict[str, np.ndarray]]) -> None:
    assert [rank["told"] for rank in two] == [5, 5] and [rank["made"] for rank in two] == [0, 0]


def test_parts_are_all_of_a_batch() -> None:
    rows = np.arange(7)
    assert np.array_equal(np.concatenate([ranks.Ranks(r, 3).part(rows) for r in range(3)]), rows)
    assert ranks.ALONE.part(rows) is not None and len(ranks.ALONE.part(rows)) == 7 and ranks.ALONE.told(0.25) == 0.25 and ranks.ALONE.made_by_first(lambda: 3) == 3


def test_a_part_counts_for_the_labels_that_it_has() -> None:
    """Of 16 known candidates each has 8; of 8 states one has 2 and the other 6: 2/8 over 1/2 is .5, 6/8 over 1/2 is 1.5."""
    counts = np.array([[6, 2, 4, 4], [1, 1, 2, 4]])
    assert teacher.weights_of(counts, ranks.Ranks(0, 2)) == (0.5, 0.5) and teacher.weights_of(counts, ranks.Ranks(1, 2)) == (0.5, 1.5)
    assert teacher.weights_of(counts, ranks.ALONE) == (1, 1)
    assert teacher.weights_of(0 * counts, ranks.Ranks(0, 2)) == (0, 0)


def test_known_labels_are_counted_by_goal_and_sequence() -> None:
    labels = teacher.Labels([record(1), record(9)], 0.15, "cpu")
    # One target beside DualPI2's: what is between them is known too, and so are all 12 that change the target alone. Three targets and five
    # ramps at one of them: those 12, and the five ramps at the four targets of candidates. Three states, of which one is of the first
    # link, and a sequence that has none.
    known, there = labels.counts(torch.tensor([[0, 1, 1, -1], [-1, -1, -1, -1]]))
    assert known.tolist() == [[12 + 32 + 32, 0]] * len(teacher.context.GOALS) and there.tolist() == [[3, 0]] * len(teacher.context.GOALS)


@pytest.mark.parametrize(("there", "fix"), [(1, "1 are visible; start torchrun with --nproc-per-node 1"), (0, "0 are visible; --device cpu trains without")])
def test_more_processes_than_gpus_are_told_what_to_do(there: int, fix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(ranks.parent, "end_with", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    with pytest.raises(SystemExit, match=f"process 1 has no GPU of its own: {fix}"):
        ranks.begin("cuda")


@pytest.mark.skipif(not ranks.parent.CAN, reason="only Linux ends them")
def test_processes_end_with_torchrun_however_it_ends(tmp_path: Path) -> None:
    script = tmp_path / "waits.py"
    script.write_text(f"import os, sys, time\nsys.path.insert(0, {str(Path(ranks.__file__).parent)!r})\nimport ranks\nranks.begin('cpu')\nopen(f'{tmp_path}/{{os.getpid()}}.pid', 'w')\ntime.sleep(120)\n")
    with (tmp_path / "log").open("w") as log:
        torchrun = subprocess.Popen([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)], stdout=log, stderr=log)
    pids: list[int] = []
    try:
        until = time.monotonic() + 120
        while len(pids := [int(f.stem) for f in tmp_path.glob("*.pid")]) < 2:
            assert torchrun.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(0.1)
        assert all(map(at_work, pids))
        torchrun.kill()
        torchrun.wait()
        assert end_within(5, pids)
    finally:
        if torchrun.poll() is None:
            torchrun.terminate()
            torchrun.wait(40)
        for pid in filter(at_work, pids):
            os.kill(pid, signal.SIGKILL)


def test_elsewhere_it_is_said_once_that_processes_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(ranks.parent, "CAN", False)
    monkeypatch.setattr(ranks.distributed, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(ranks.distributed, "get_rank", lambda: 0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        ranks.begin("cpu")
    assert capsys.readouterr().err.count("if torchrun is killed by -9 its processes go on") == 1


if __name__ == "__main__":
    worker(*sys.argv[1:])
