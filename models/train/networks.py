"""The students' networks: from the features of models/schema.toml to value and feasibility of each candidate setting.

All three see the same: the slow features and the last raw windows. They differ in what reads the windows: a small causal transformer, a
GRU, or nothing but a perceptron over all of it. Outputs, each (batch, candidates): `score`, the expected ln S, in which an infeasible cell
counts at least 0, and `feasible`, a logit; with them `value`, ln S before feasibility, for training only.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

CLIP = 6.0


class Reader(nn.Module):
    """Splits a feature vector into slow features and raw windows (batch, windows, signals), both standardised and clipped."""

    def __init__(self, names, mean, deviation):
        super().__init__()
        raw = [i for i, n in enumerate(names) if ".raw_" in n]
        # Signal by signal, oldest first, as models/schema.toml lays them out.
        signals = list(dict.fromkeys(names[i].split(".raw_")[0] for i in raw))
        self.signals, self.windows = len(signals), len(raw) // max(len(signals), 1)
        self.first_raw = min(raw)
        if raw != list(range(self.first_raw, len(names))) or self.signals * self.windows != len(raw):
            raise SystemExit("models/schema.toml: raw windows are not where models/train/networks.py expects them")
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(1.0 / deviation, dtype=torch.float32))

    def forward(self, x):
        x = torch.clamp((x - self.mean) * self.scale, -CLIP, CLIP)
        slow, raw = x[:, : self.first_raw], x[:, self.first_raw :]
        return slow, raw.reshape(-1, self.signals, self.windows).transpose(1, 2)


class Block(nn.Module):
    """A layer of the transformer, normalised before; attention looks back only."""

    def __init__(self, d, heads, dropout):
        super().__init__()
        self.heads, self.d = heads, d
        self.before, self.after = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, mask):
        b, t, d = x.shape
        q, k, v = self.qkv(self.before(x)).reshape(-1, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(d // self.heads) + mask, -1)
        seen = (weights @ v).transpose(1, 2).reshape(-1, t, d)
        x = x + self.dropout(self.out(seen))
        return x + self.dropout(self.down(F.relu(self.up(self.after(x)))))


class Transformer(nn.Module):
    """`layers` of width `d` over the raw windows and, last, the slow features; the last position is what is read."""

    def __init__(self, slow, signals, windows, d=64, layers=2, heads=4, dropout=0.1, contexts=0):
        super().__init__()
        self.window = nn.Linear(signals, d)
        self.slow = nn.Sequential(nn.Linear(slow, 2 * d), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * d, d))
        tokens = contexts + windows + 1
        self.place = nn.Parameter(torch.randn(1, tokens, d) * 0.02)
        self.blocks = nn.ModuleList(Block(d, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(d)
        self.register_buffer("mask", torch.full((tokens, tokens), -1e9).triu(1))

    def forward(self, slow, raw, *context):
        """`context`: vectors of an Encoder, (batch, contexts, d), before the windows; zeros are no context."""
        x = torch.cat([*context, self.window(raw), self.slow(slow)[:, None]], 1) + self.place
        for block in self.blocks:
            x = block(x, self.mask)
        return self.norm(x[:, -1])


class Recurrent(nn.Module):
    """A GRU over the raw windows, beside a perceptron over the slow features."""

    def __init__(self, slow, signals, windows, d=64, dropout=0.1):
        super().__init__()
        self.gru = nn.GRU(signals, d, batch_first=True)
        self.slow = nn.Sequential(nn.Linear(slow, 2 * d), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * d, d))
        self.norm = nn.LayerNorm(d)

    def forward(self, slow, raw):
        return self.norm(self.gru(raw)[0][:, -1] + self.slow(slow))


class Perceptron(nn.Module):
    """Two hidden layers over everything."""

    def __init__(self, slow, signals, windows, d=64, dropout=0.1):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(slow + signals * windows, 2 * d), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * d, d))
        self.norm = nn.LayerNorm(d)

    def forward(self, slow, raw):
        return self.norm(self.layers(torch.cat([slow, raw.flatten(1)], 1)))


# What reads the windows, and what it differs in from its defaults. `large` is slower and meant as a verifier (docs/lookahead.md).
KINDS = {"transformer": (Transformer, {}), "large": (Transformer, {"d": 128, "layers": 4}), "gru": (Recurrent, {}), "mlp": (Perceptron, {})}


class Heads(nn.Module):
    """Value and logit of being feasible, each (batch, candidates), from what was read, (batch, width); told the candidates' knobs."""

    def __init__(self, width, candidates, head=64, dropout=0.1):
        super().__init__()
        table = torch.as_tensor(candidates, dtype=torch.float32)
        self.register_buffer("candidates", (table - table.mean(0)) / table.std(0))
        self.of_state = nn.Linear(width, head)
        self.of_candidate = nn.Sequential(nn.Linear(3, head), nn.ReLU(), nn.Linear(head, head))
        self.own = nn.Parameter(torch.zeros(len(table), head))
        self.out = nn.Linear(head, 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h):
        pair = F.relu(self.of_state(h)[:, None] + (self.of_candidate(self.candidates) + self.own)[None])
        value, feasible = self.out(self.dropout(pair)).unbind(-1)
        return value, feasible


def expected(value, feasible):
    """Expected ln S from value and logit: an infeasible cell cannot come under 0."""
    zero = torch.zeros_like(value)
    return torch.sigmoid(feasible) * torch.minimum(value, zero) + torch.maximum(value, zero)


class Student(nn.Module):
    """A body and the two heads over candidates."""

    def __init__(self, kind, names, mean, deviation, candidates, width=64, head=64, dropout=0.1, **body):
        super().__init__()
        self.reader = Reader(names, mean, deviation)
        r = self.reader
        make, shape = KINDS[kind]
        shape = {"d": width, "dropout": dropout} | shape | body
        self.body = make(r.first_raw, r.signals, r.windows, **shape)
        self.answer = Heads(shape["d"], candidates, head, dropout)

    def heads(self, x, *context):
        return self.answer(self.body(*self.reader(x), *context))

    def forward(self, x, *context):
        value, feasible = self.heads(x, *context)
        return expected(value, feasible), feasible


class Encoder(nn.Module):
    """Demonstrations, (batch, most, records, numbers) with a mask (batch, most), to `contexts` vectors of width `d`: (batch, contexts, d).

    They do not depend on what stands where the mask is 0, and are zeros if it is 0 everywhere."""

    def __init__(self, shape, mean, deviation, contexts=4, d=64, heads=4, dropout=0.1):
        super().__init__()
        self.most, self.records, numbers = shape
        self.contexts = contexts
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(1.0 / deviation, dtype=torch.float32))
        self.record = nn.Sequential(nn.Linear(numbers, 2 * d), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * d, d))
        self.place = nn.Parameter(torch.randn(1, self.most, 1, d) * 0.02)
        self.moment = nn.Parameter(torch.randn(1, 1, self.records, d) * 0.02)
        self.queries = nn.Parameter(torch.randn(1, contexts, d) * 0.5)
        # Demonstrations are compared record by record, then the queries read them.
        self.blocks = nn.ModuleList(Block(d, heads, dropout) for _ in range(2))
        self.norm = nn.LayerNorm(d)

    def forward(self, demonstrations, mask):
        x = torch.clamp((demonstrations - self.mean) * self.scale, -CLIP, CLIP)
        x = (self.record(x) + self.place + self.moment).flatten(1, 2)
        x = torch.cat([x, self.queries.expand(len(mask), -1, -1)], 1)
        # Everything reads the demonstrations that are there and the queries.
        seen = torch.cat([mask[:, :, None].expand(-1, -1, self.records).flatten(1), torch.ones_like(x[:, -self.contexts :, 0])], 1)
        unseen = (seen[:, None, None] - 1) * 1e9
        for block in self.blocks:
            x = block(x, unseen)
        return self.norm(x[:, -self.contexts :]) * mask.amax(1)[:, None, None]
