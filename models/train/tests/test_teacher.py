"""The teacher's laws on a tiny backbone: what it may look at, what padding and memory change. Needs torch and transformers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install torch")
pytest.importorskip("transformers", reason="pip install transformers")
sys.path.insert(0, str(Path(__file__).parents[1]))

import context  # noqa: E402
import distill  # noqa: E402
import histories  # noqa: E402
import speculate  # noqa: E402
import teacher  # noqa: E402
import teacher_target  # noqa: E402
import trees  # noqa: E402
import values  # noqa: E402
import weights_file  # noqa: E402
from l4sd_gym import FEATURES  # noqa: E402

WIDTH = len(FEATURES)


@pytest.fixture
def net() -> teacher.Teacher:
    return teacher.Teacher("tiny", np.zeros(WIDTH), np.ones(WIDTH), seed=3).eval()


def sequence(steps: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    f = torch.as_tensor(rng.normal(size=(1, steps, WIDTH)), dtype=torch.float32)
    return f, torch.as_tensor(np.cumsum(rng.uniform(0.8, 1.2, (1, steps)), 1), dtype=torch.float32)


def test_what_comes_later_changes_nothing_before_it(net: teacher.Teacher) -> None:
    text, words = net.padded(["keep delay low"], "cpu")
    f, t = sequence(6)
    changed = f.clone()
    changed[:, 4:] += 1
    with torch.no_grad():
        a, b = (net(text, words, x, t)[0] for x in (f, changed))
    assert torch.equal(a[:, :4], b[:, :4])
    assert (a[:, 4:] - b[:, 4:]).abs().min() > 1e-6


def test_history_gaps_and_words_count(net: teacher.Teacher) -> None:
    f, t = sequence(6)
    text, words = net.padded(["keep delay low"], "cpu")
    with torch.no_grad():
        base = net(text, words, f, t)[0][:, -1]
        earlier = f.clone()
        earlier[:, 0] += 1
        other, other_words = net.padded(["keep throughput high"], "cpu")
        for x in (net(text, words, earlier, t)[0], net(text, words, f, 3 * t)[0], net(other, other_words, f, t)[0]):
            assert (x[:, -1] - base).abs().max() > 1e-5


def test_padding_changes_nothing(net: teacher.Teacher) -> None:
    f, t = sequence(5)
    short, words = net.padded(["keep delay low"], "cpu")
    both, both_words = net.padded(["keep delay low", "a satellite link with a couple of calls; keep delay low"], "cpu")
    assert both.shape[1] > short.shape[1] and both_words[0] == words[0]
    with torch.no_grad():
        alone, padded = net(short, words, f, t)[0], net(both[:1], both_words[:1], f, t)[0]
    assert (alone - padded).abs().max() < 1e-5


def test_memory_answers_as_the_sequence_does(net: teacher.Teacher) -> None:
    """Two links with histories of different lengths, asked every .128 s: the tokens kept are those SPACING_S apart, and the newest."""
    memory = teacher.Memory(net, "keep delay low", "cpu")
    rng = np.random.default_rng(2)
    kept: dict[int, list[tuple[float, np.ndarray]]] = {0: [], 1: []}
    for step in range(40):
        now = 0.128 * step
        who = np.array([0, 1]) if step >= 15 else np.array([0])
        x = rng.normal(size=(len(who), WIDTH)).astype(np.float16).astype(np.float32)
        score, logit = memory.answers(x, who, np.full(len(who), now))
        for row, w in enumerate(who):
            tokens = [*kept[w], (now, x[row])]
            f = torch.as_tensor(np.array([v for _, v in tokens]))[None]
            t = torch.as_tensor(np.array([s for s, _ in tokens]), dtype=torch.float32)[None]
            with torch.no_grad():
                value, expected = net(memory.text, memory.words, f, t)
            assert np.abs(expected[0, -1].numpy() - logit[row]).max() < 1e-4
            if not kept[w] or now - kept[w][-1][0] >= 0.9 * teacher.SPACING_S:
                kept[w].append((now, x[row]))
    # 40 steps from 0 s on, 25 from 1.92 s on; .72 s are 6 steps of .128 s.
    assert [len(memory.past(k)) for k in kept] == [len(kept[0]), len(kept[1])] == [7, 5]
    assert score.shape == (2, len(values.CANDIDATES))


def test_a_target_answers_as_memory_does_whatever_was_drafted_and_taken_back(net: teacher.Teacher) -> None:
    """Steps of two episodes asked in blocks, of which a part is taken back and seen anew; Memory is asked step by step."""
    text, steps = "keep delay low", 40
    read, rng = teacher_target.TeacherTarget(net, text, "cpu"), np.random.default_rng(3)
    seen = rng.normal(size=(2, steps, WIDTH)).astype(np.float16).astype(np.float32)
    memory = teacher.Memory(net, text, "cpu")
    wanted = np.stack([np.stack(memory.answers(seen[:, t], np.arange(2), np.full(2, speculate.STEP_S * t))) for t in range(steps)])
    for blocks in ([1] * steps, [9, 4, 1, 7, 12, 6, 1], [6] * 6 + [4]):
        begin = np.array([0, 0])
        for block in blocks:
            drafted = seen.copy()
            # What a draft saw behind the first step of a block is not what is executed.
            drafted[:, begin[0] + 1 :] += 1
            at = np.repeat([0, 1], block), np.concatenate([np.arange(b, b + block) for b in begin])
            read(speculate.Asked(drafted, np.zeros((2, steps), int), *at))
            got = [read.answers(seen[e], e, np.arange(b, b + block)) for e, b in enumerate(begin)]
            for e, b in enumerate(begin):
                assert np.abs(got[e] - wanted[b : b + block, :, e].transpose(1, 0, 2)).max() < 1e-5, (blocks, b)
            begin += block
        assert begin[0] == steps
    with pytest.raises(ValueError, match="step 282 of an episode, of 282 that the teacher remembers"):
        read(speculate.Asked(seen, seen, np.array([0]), np.array([282])))


def test_a_target_reads_a_history_once(net: teacher.Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    read, widths = teacher_target.TeacherTarget(net, "keep delay low", "cpu"), []
    extend = net.backbone.extend
    monkeypatch.setattr(net.backbone, "extend", lambda x, *more: widths.append(x.shape[1]) or extend(x, *more))
    seen = np.zeros((1, 40, WIDTH), np.float32)
    for block in (np.arange(0, 5), np.arange(5, 14), np.arange(14, 15)):
        read(speculate.Asked(seen, np.zeros((1, 40), int), np.zeros(len(block), int), block))
    # The text and five steps; nine of which 6 and 12 will be kept and are not sure yet; these two and step 14.
    assert widths == [read.words + 5, 9, 3] and read.passes == 3


def test_what_is_executed_of_drafts_has_the_teachers_probabilities(net: teacher.Teacher) -> None:
    """Two links of the simulator, drafts of a policy that knows nothing: of the steps that were executed the probabilities are those that
    Memory gives when it sees these steps and no others."""
    import l4sd_gym

    steps, tau = 24, 0.3
    links = speculate.Links(2, l4sd_gym.grid_scenarios("steps", "train")[:2], steps, seed=1)
    target = teacher_target.TeacherTarget(net, "keep delay low", "cpu", threshold=0.3, tau=tau)
    blind = lambda asked: np.full((len(asked.time), len(values.CANDIDATES)), 1 / len(values.CANDIDATES))  # noqa: E731
    done = speculate.rollout(links, blind, target, 4, np.random.default_rng(5), steps)
    assert 0 < done.counts.accepted < done.counts.drafted and done.counts.calls < steps
    memory = teacher.Memory(net, "keep delay low", "cpu")
    for t in range(steps):
        score, logit = memory.answers(done.observations[:, t], np.arange(2), np.full(2, speculate.STEP_S * t))
        assert np.abs(speculate.policy(score, logit, 0.3, tau) - done.probabilities[:, t]).max() < 1e-4


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    weights_file.save(tmp_path / "student.safetensors", {"x": torch.zeros(1)}, {"kind": "mlp"})
    with pytest.raises(SystemExit, match="student.safetensors: not a teacher's weights; teacher.py writes such"):
        teacher.load(tmp_path / "student.safetensors", "cpu")


def test_memory_forgets_the_oldest(net: teacher.Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "MEMORY", 3)
    memory = teacher.Memory(net, "keep delay low", "cpu")
    for step in range(9):
        memory.answers(np.zeros((1, WIDTH), np.float32), np.array([7]), np.array([1.0 * step]))
    assert memory.past(7) == [6.0, 7.0, 8.0]


def test_memory_knows_only_links_that_are_there(net: teacher.Teacher) -> None:
    """A link that comes in the place of one that has gone begins without a past."""
    memory = teacher.Memory(net, "keep delay low", "cpu")
    x = np.random.default_rng(8).normal(size=(3, WIDTH)).astype(np.float16).astype(np.float32)
    alone = memory.answers(x[:1], np.array([4]), np.array([0.0]))[1]
    memory.answers(x, np.array([4, 5, 6]), np.full(3, 1.0))
    memory.only(np.array([5, 6]))
    assert set(memory.place) == {5, 6}
    again = memory.answers(x, np.array([5, 9, 6])[[1, 0, 2]], np.array([0.0, 2.0, 2.0]))[1]
    assert np.abs(again[0] - alone[0]).max() < 1e-5 and memory.past(9) == [0.0] and memory.past(5) == [1.0, 2.0]


def test_a_row_of_labels_is_of_its_phase() -> None:
    """Three phases, the first of which is not judged; a chance is the lesser of this phase's and the next one's."""
    setting = list(values.CANDIDATES[5])

    def figures(delay: float) -> dict[str, object]:
        queues = {"l": None, "c": delay, "all": delay}
        return {"utilization": 1.0, "mean_ms": queues, "p99_ms": queues, "abs_log2_ratio": None, "mice_p95_ms": []}

    phases = lambda *d: [{**figures(x), "name": n} for x, n in zip(d, ("a", "b"), strict=True)]  # noqa: E731
    tried = [
        {"setting": None, "seconds": 60, "seeds": 3, "figures": figures(15.0), "phases": phases(15.0, 15.0)},
        {"setting": setting, "seconds": 60, "seeds": 3, "figures": figures(5.0), "phases": phases(5.0, 25.0)},
    ]
    scenario = "".join(f'[[phase]]\nname = "{n}"\nat = "{t}ms"\n' for n, t in (("warm", 0), ("a", 5000), ("b", 15000)))
    switch = {"cell": {"grid": "switch", "bursty": False, "mice": False}, "tried": tried, "scenario": scenario}
    plain = {"cell": {"grid": "x", "bursty": False, "mice": False}, "tried": [{**t, "phases": []} for t in tried], "scenario": ""}
    table = trees.Labels([plain, switch, plain])
    row = table.rows(np.array([0, 1, 1, 1, 1, 2]), np.array([99.0, 0.0, 5.0, 14.9, 15.0, 0.0]))
    assert row.tolist() == [0, 1, 1, 1, 2, 3]
    # C of 5 ms for 15 has room, C of 25 ms has not; utilisation is one margin from its bound, Phi(1 / .6).
    assert table.value[1, 5] < -1 and table.value[2, 5] > 0.4
    assert np.isclose(table.chance[0, 5], 0.95221, atol=1e-5) and table.chance[1, 5] < 0.01 and table.chance[2, 5] < 0.01


def test_histories_lose_no_state_and_keep_time_order() -> None:
    rng = np.random.default_rng(4)
    link = rng.integers(3, size=200).astype(np.int32)
    time = rng.permutation(200).astype(np.float32)
    features = np.stack([time, link.astype(np.float32)], 1)
    data = histories.Histories(2)
    data.add(features, link, time)
    data.add(features[:10], link[:10] + 5, time[:10])
    places = data.states()
    assert len(places[0]) == 210 and data.length.max() <= histories.LENGTH
    assert np.array_equal(data.features[places][:, 0].astype(np.float32), data.time[places])
    for row in range(len(data)):
        t = data.time[row, : data.length[row]]
        assert (np.diff(t) > 0).all() and (data.features[row, : data.length[row], 1] % 5 == data.link[row] % 5).all()
    assert set(data.of_links(np.array([1, 6])).link) <= {1, 6}
    both = data.of_links(np.array([1]))
    both.join(data.of_links(np.array([2])))
    assert sorted(both.link) == sorted(data.link[np.isin(data.link, [1, 2])])


def test_weights_come_back_as_they_were(net: teacher.Teacher, tmp_path: Path) -> None:
    class Args:
        backbone, text, seed = "tiny", "full", 3

    file = tmp_path / "t.safetensors"
    teacher.save(file, net, Args, {})
    again = teacher.load(file, "cpu")[0]
    f, t = sequence(4)
    text, words = net.padded([context.neutral()], "cpu")
    with torch.no_grad():
        a, b = (n(text, words, f, t)[0] for n in (net, again))
    # Trained weights of the backbone are kept in bfloat16: 8 bits.
    assert 0 <= (a - b).abs().max() < 0.05


def test_the_teacher_answers_all_states_at_once_as_one_by_one(net: teacher.Teacher) -> None:
    data = histories.Histories(WIDTH)
    rng = np.random.default_rng(6)
    x = rng.normal(size=(30, WIDTH)).astype(np.float32)
    data.add(x, np.repeat([0, 1], [20, 10]), np.concatenate([np.arange(20), np.arange(10)]).astype(np.float32))
    value, logit = distill.answers_of(net, data, "cpu", batch=2)
    text, words = net.padded([context.neutral()], "cpu")
    with torch.no_grad():
        alone = net(text, words, torch.as_tensor(data.features[1:, :10]), torch.as_tensor(data.time[1:, :10]))[1][0].numpy()
    assert value.shape == (30, len(values.CANDIDATES))
    assert np.abs(logit[20:] - alone).max() < 1e-4


def test_a_wider_bound_is_more_likely_to_hold() -> None:
    """Utilisation 1.5 points lower where one is allowed is half a margin too low: Phi(-.5 / .6) with the spread that is assumed, and
    Phi(1.5 / .6) if two margins more are allowed. C's P99 is far from its bound."""

    def figures(utilization: float, delay: float) -> dict[str, object]:
        queues = {"l": None, "c": delay, "all": delay}
        return {"utilization": utilization, "mean_ms": queues, "p99_ms": queues, "abs_log2_ratio": None, "mice_p95_ms": []}

    setting = list(values.CANDIDATES[5])
    tried = [{"setting": s, "seconds": 60, "seeds": 3, "figures": f} for s, f in ((None, figures(1.0, 15.0)), (setting, figures(0.985, 5.0)))]
    record = {"cell": {"grid": "x", "bursty": False, "mice": False}, "tried": tried, "scenario": ""}
    slacks = (None, {"utilization": 2.0}, {"ratio": 2.0})
    chance = [values.table(record, {}, slack)[1][0, 5] for slack in slacks]
    assert np.allclose(chance, [0.20233, 0.99379, 0.20233], atol=1e-5)
    first = trees.Labels([record, record])
    for slack, expected in zip(slacks, chance, strict=True):
        assert np.allclose(trees.Labels([record, record], slack, first).chance[:, 5], expected, atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_student_learns_from_whom_it_is_told_to(share: float) -> None:
    """The oracle's best setting is the third, the teacher's the seventh."""

    class Args:
        penalty, rate, epochs, dropout, kl = 0.15, 5e-3, 60, 0.0, 0.2

    Args.share = share
    torch.manual_seed(1)
    x = np.random.default_rng(1).normal(size=(256, WIDTH)).astype(np.float32)

    def best(at: int) -> tuple[np.ndarray, np.ndarray]:
        v = np.zeros((256, len(values.CANDIDATES)))
        v[:, at] = -0.5
        return v, np.full_like(v, 0.98)

    net = distill.student.build("mlp", list(FEATURES), x, Args)
    distill.fit(net, x, best(3), best(7), Args, "cpu")
    score, _ = distill.student.answers(net, x)
    assert (score.argmin(1) == (7 if share else 3)).mean() > 0.99
