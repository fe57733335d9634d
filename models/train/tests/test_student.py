"""The students' networks: what they read, what they answer. Needs torch, which `make wheel-test` does not install."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install torch")
sys.path.insert(0, str(Path(__file__).parents[1]))

import networks  # noqa: E402
import student  # noqa: E402
import values  # noqa: E402
from l4sd_gym import FEATURES  # noqa: E402

NAMES = list(FEATURES)
WIDTH = len(NAMES)


def test_raw_windows_are_read_by_window_and_signal() -> None:
    reader = networks.Reader(NAMES, np.zeros(WIDTH, np.float32), np.full(WIDTH, 1e4, np.float32))
    slow, raw = reader(torch.arange(WIDTH, dtype=torch.float32)[None])
    places = torch.round(raw[0] * 1e4).int()
    assert slow.shape == (1, reader.first_raw)
    assert raw.shape == (1, 16, reader.signals)
    for window in range(16):
        for signal in range(reader.signals):
            name = NAMES[int(places[window, signal])]
            assert name.split(".raw_")[0] == NAMES[int(places[0, signal])].split(".raw_")[0]
    oldest, newest = (NAMES[int(places[w, 0])] for w in (0, 15))
    assert [i for i, n in enumerate(NAMES) if n in (oldest, newest)] == [reader.first_raw, reader.first_raw + 15]


@pytest.mark.parametrize("kind", networks.KINDS)
def test_the_score_is_the_expected_gain(kind: str) -> None:
    torch.manual_seed(1)
    net = networks.Student(kind, NAMES, np.zeros(WIDTH), np.ones(WIDTH), values.CANDIDATES).eval()
    x = torch.randn(5, WIDTH)
    with torch.no_grad():
        value, logit = net.heads(x)
        score, feasible = net(x)
    chance = 1 / (1 + np.exp(-logit.numpy()))
    assert score.shape == (5, len(values.CANDIDATES))
    assert np.allclose(score.numpy(), values.gain(value.numpy(), chance), atol=1e-6)
    assert torch.equal(feasible, logit)


def test_large_is_four_layers_of_128() -> None:
    body = lambda kind: networks.Student(kind, NAMES, np.zeros(WIDTH), np.ones(WIDTH), values.CANDIDATES).body  # noqa: E731
    shape = lambda net: (len(net.blocks), net.blocks[0].qkv.in_features)  # noqa: E731
    assert shape(body("large")) == (4, 128) and shape(body("transformer")) == (2, 64)


def test_attention_looks_back_only() -> None:
    torch.manual_seed(1)
    net = networks.Transformer(3, 2, 5, d=8, layers=1, heads=2).eval()
    block, mask = net.blocks[0], net.mask
    x = torch.randn(1, 6, 8)
    later = x.clone()
    later[:, 4:] += 1
    with torch.no_grad():
        a, b = block(x, mask), block(later, mask)
    assert torch.equal(a[:, :4], b[:, :4])
    assert not torch.allclose(a[:, 4:], b[:, 4:])


def test_the_distance_tells_other_worlds() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(1, 2, (4000, WIDTH)).astype(np.float32)
    weights, bias, distance = student.familiar(x, NAMES)
    assert distance.mean() == pytest.approx(1 / np.sqrt(1.05), rel=0.05), "white, but for what little is added to each direction"
    far = np.full((1, WIDTH), 40, np.float32)
    assert np.sqrt(((far @ weights + bias) ** 2).mean(1))[0] > 5 * distance.max()
    knobs = [i for i, n in enumerate(NAMES) if n.startswith("knob_") or ".raw_" in n]
    assert not weights[knobs].any(), "the own action and the raw windows do not count"


def test_a_choice_that_costs_is_unlearned() -> None:
    """Two kinds of state, in each another candidate is the good one: the policy must tell them apart."""
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, (2048, WIDTH)).astype(np.float32)
    kind = np.arange(len(x)) % 2 == 0
    x[:, :20] += np.where(kind, 0.5, -0.5)[:, None].astype(np.float32)
    v = np.zeros((len(x), len(values.CANDIDATES)))
    v[kind, 3], v[~kind, 7] = -0.5, -0.5
    c = np.full_like(v, 0.99)
    args = type("Args", (), {"epochs": 12, "penalty": 0.15, "rate": 2e-3, "dropout": 0.0})
    torch.manual_seed(1)
    net = student.build("mlp", NAMES, x, args)
    student.train(net, x, v, c, args, "cpu")
    score, _ = student.answers(net, x)
    assert ((score.argmin(1) == 3) == kind).mean() > 0.97
