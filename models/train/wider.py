"""Settings that a student was not taught, put together from its own answers: every gain at every target.

Labels know a gain at few targets (src/eval/oracle/settings.rs), and so does a student. What a gain adds at a target between two of those is
taken to lie between what it adds at them, beyond the outermost to be what it adds there: values.between, which does it with labels.
It holds where C sends; without a flow of C the student was told nothing of gains, and what is put together is not eligible.

It trains nothing, and knows no formula of the AQM.
"""

import numpy as np
import torch
import values
from networks import expected
from torch import nn

# Lowers the logit of a setting until it cannot be eligible.
NEVER = 20.0
# From so many flows of C on it sends; none are EDGE less, as the schema normalises them, and between the two it is by degrees.
FLOWS, EDGE = 0.5, 0.02


def settings():
    """Bins of today's candidates, then of every other gain at every target, the ramp being that of RFC 9332."""
    _, _, ramp = values.DEFAULT
    targets, gains = (1 + max(c[knob] for c in values.CANDIDATES) for knob in (0, 1))
    every = [(t, g, ramp) for t in range(targets) for g in range(gains)]
    return [*values.CANDIDATES, *(s for s in every if s not in values.CANDIDATES)]


def together(of):
    """(candidates, settings), how much of each candidate's answer is in that of each setting of `of`; and for each whether it was put together."""
    units = dict(zip(values.CANDIDATES, np.eye(len(values.CANDIDATES)), strict=True))
    rows, built = values.between(units, True, True, of)
    return rows.T.astype(np.float32), built.astype(np.float32)


class Wider(nn.Module):
    """A student that answers for all `settings`. Logits are raised by `bolder`: labels keep half of each bound in hand."""

    def __init__(self, net, names, bolder=0.0):
        super().__init__()
        from feed_forward import normalised

        self.net, self.place, self.bolder = net, names.index("flows_c"), bolder
        self.few = normalised("flows_c", FLOWS)
        weights, untaught = together(settings())
        self.register_buffer("weights", torch.as_tensor(weights))
        self.register_buffer("untaught", torch.as_tensor(untaught))

    def heads(self, x):
        value, feasible = self.net.heads(x)
        with_c = torch.clamp((x[:, self.place : self.place + 1] - self.few) / EDGE + 1, 0, 1)
        feasible = feasible @ self.weights + self.bolder - NEVER * (1 - with_c) * self.untaught
        return value @ self.weights, feasible

    def forward(self, x):
        value, feasible = self.heads(x)
        return expected(value, feasible), feasible
