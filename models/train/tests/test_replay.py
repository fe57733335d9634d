"""Steps of training are those of the plain loop. Needs torch; what is recorded needs a GPU and is skipped without."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="pip install torch")
sys.path.insert(0, str(Path(__file__).parents[1]))

import replay  # noqa: E402


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))])
def test_steps_are_those_of_the_plain_loop(device: str) -> None:
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(1)).to(device)
    y = x.sum(1, keepdim=True)

    def made() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(2)
        net = torch.nn.Linear(5, 1).to(device)
        return net, replay.adamw([(list(net.parameters()), 0.1)], device)

    net, optimizer = made()
    step = replay.Step(lambda at: (net(x[at]) - y[at]).square().mean(), optimizer)
    plain, other = made()
    for n in range(12):
        for o in (optimizer, other):
            o.param_groups[0]["lr"].fill_(0.1 / (1 + n))
        at = torch.arange(8 * (n % 8), 8 * (n % 8) + 8, device=device)
        loss = step(at)
        other.zero_grad()
        expected = (plain(x[at]) - y[at]).square().mean()
        expected.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        other.step()
        assert torch.isclose(loss, expected.detach(), rtol=1e-4)
    assert torch.allclose(net.weight, plain.weight, atol=1e-5) and (net.weight - 1).abs().max() < 0.9
