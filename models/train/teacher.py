#!/usr/bin/env python3
"""A teacher: a language model that reads what is known of a link in words, then its states, and values candidate settings.

    teacher.py ORACLE_DIR OUT.pt [--backbone pretrained|...] [--text full|none|shuffled] [--minutes M]

One sequence is a text (context.py: access, operator's goal, known traffic), then an episode's states as one token each: features and the
time since the token before. At each state the two heads of networks.Heads answer for all candidates in one pass. Labels are the oracle's
(trees.labels) under the goal that the text names. Episodes run under drawn settings and a policy of a model file, then in
--dagger rounds under the teacher itself. OUT.pt has what was trained, no frozen weights, and OUT.npz all histories. It judges nothing: judge.py does.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import backbone
import context
import histories
import networks
import student
import trees
import values

THRESHOLD = 0.6
HYSTERESIS = 0.05
SPLIT_SEED = 5
TEXTS = 24
# Shares of texts that say nothing but the goal, and of the goal that the score is defined by.
NEUTRAL, BALANCED = 0.3, 0.5
# Seconds between the tokens of a history, and their greatest number, in closed loop.
SPACING_S = 0.8
MEMORY = histories.LENGTH - 1


class Teacher(nn.Module):
    """Text and states to value and feasibility of candidates."""

    def __init__(self, kind, mean, deviation, folder=None, seed=0, dropout=0.1):
        super().__init__()
        self.backbone = backbone.Backbone(kind, folder, seed)
        width = self.backbone.width
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(1.0 / deviation, dtype=torch.float32))
        self.encoder = nn.Sequential(nn.Linear(len(mean) + 1, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width), nn.LayerNorm(width))
        self.norm = nn.LayerNorm(width)
        self.answer = networks.Heads(width, values.CANDIDATES, 128, dropout)

    def hidden(self, text, told, features, time):
        """`text` (n, words) token numbers, `told` (n, words) which of them count, `features` (n, steps, width), `time` (n, steps)."""
        x = torch.clamp((features.float() - self.mean) * self.scale, -networks.CLIP, networks.CLIP)
        gap = torch.diff(time, dim=1, prepend=time[:, :1]).clamp(min=0)
        states = self.encoder(torch.cat([x, torch.log1p(gap)[..., None]], -1)) * self.backbone.scale
        embeddings = torch.cat([self.backbone.embed(text), states], 1)
        mask = torch.cat([told, torch.ones(states.shape[:2], dtype=torch.bool, device=told.device)], 1)
        places = mask.cumsum(1).sub(1).clamp(min=0)
        return self.norm(self.backbone(embeddings, mask.long(), places)[:, text.shape[1] :].float())

    def forward(self, text, told, features, time):
        """(value, logit), each (n, steps, candidates)."""
        h = self.hidden(text, told, features, time)
        value, logit = self.answer(h.flatten(0, 1))
        return value.reshape(*h.shape[:2], -1), logit.reshape(*h.shape[:2], -1)

    def padded(self, texts, device):
        """Texts as numbers, padded in front, and which of them count."""
        rows = [self.backbone.tokens(t) or [0] for t in texts]
        longest = max(map(len, rows))
        text, told = torch.zeros(len(rows), longest, dtype=torch.long), torch.zeros(len(rows), longest, dtype=torch.bool)
        for i, row in enumerate(rows):
            text[i, longest - len(row) :], told[i, longest - len(row) :] = torch.as_tensor(row), True
        return text.to(device), told.to(device)

    def trained(self):
        """Names and values of all that differs from the base weights."""
        kept = {n for n, p in self.named_parameters() if p.requires_grad}
        return {n: v.detach().cpu().to(torch.bfloat16 if n.startswith("backbone") else v.dtype) for n, v in self.state_dict().items() if n in kept or not n.startswith("backbone")}


class Memory:
    """The teacher as a policy of many links at once: called with states, current candidates and the links' numbers."""

    def __init__(self, net, text, device, threshold=THRESHOLD, hysteresis=HYSTERESIS):
        self.net, self.device = net, device
        self.text, self.told = net.padded([text], device)
        self.past = {}
        self.calls = 0
        self.threshold, self.hysteresis = threshold, hysteresis

    def answers(self, features, who, time):
        """Score and logit; remembers what is SPACING_S after what it has."""
        rows = []
        for x, w, t in zip(features, who, time, strict=True):
            past = self.past.setdefault(int(w), [])
            rows.append([*past, (t, x)][-MEMORY - 1 :])
            if not past or t - past[-1][0] >= SPACING_S * 0.9:
                past.append((t, np.asarray(x, np.float16)))
                del past[:-MEMORY]
        length = np.array([len(r) for r in rows])
        f = np.zeros((len(rows), length.max(), features.shape[1]), np.float32)
        at = np.zeros(f.shape[:2], np.float32)
        for i, row in enumerate(rows):
            at[i, : len(row)], f[i, : len(row)] = [t for t, _ in row], [x for _, x in row]
        out = []
        self.net.eval()
        for part in np.array_split(np.arange(len(rows)), -(-len(rows) // 512)):
            last = torch.as_tensor(length[part] - 1).to(self.device)
            with torch.no_grad(), torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.device != "cpu"):
                hidden = self.net.hidden(self.text.expand(len(part), -1), self.told.expand(len(part), -1), torch.as_tensor(f[part]).to(self.device), torch.as_tensor(at[part]).to(self.device))
            with torch.no_grad():
                value, logit = self.net.answer(hidden[torch.arange(len(part), device=self.device), last])
            out.append((networks.expected(value, logit).cpu().numpy(), logit.cpu().numpy()))
        self.calls += 1
        return [np.concatenate(a) for a in zip(*out, strict=True)]

    def follow(self, x, current, who, time):
        """As collect.episodes and l4sd_gym's judging ask."""
        from l4sd_gym import rules

        return rules.choose(*self.answers(x, who, time), current, self.threshold, self.hysteresis)


def texts_of(net, records, mode, seed, device):
    """TEXTS of each link, as numbers; and the goal of each, an index into context.GOALS."""
    rng = np.random.default_rng(seed)
    goals = list(context.GOALS)
    texts, of = [], []
    for record in records:
        for _ in range(TEXTS):
            goal = "balanced" if rng.random() < BALANCED else str(rng.choice(goals))
            texts.append(context.neutral(goal) if rng.random() < NEUTRAL else context.draw(record, rng, goal)[0])
            of.append(goals.index(goal))
    if mode == "none":
        texts = [""] * len(texts)
    elif mode == "shuffled":
        texts = [texts[i] for i in rng.permutation(len(texts))]
    return *net.padded(texts, device), np.array(of).reshape(len(records), TEXTS)


def label(records, data):
    """Value (states, candidates), the chance under each goal (goals, states, candidates); and the place of each state."""
    places = data.states()
    link, at = data.link[places[0]], data.time[places]
    both = [trees.labels(records, link, at, goal.slack) for goal in context.GOALS.values()]
    index = np.full(data.time.shape, -1)
    index[places] = np.arange(len(link))
    return both[0][0].astype(np.float32), np.stack([c for _, c in both]).astype(np.float32), index


def fit(net, records, data, seconds, args, device, seed):
    """Trains until `seconds` have passed, the rate falling with them; returns (updates, mean loss of the last tenth)."""
    v, c, index = label(records, data)
    text, told, goal_of = texts_of(net, records, args.text, seed, device)
    inner = [p for n, p in net.named_parameters() if p.requires_grad and n.startswith("backbone")]
    outer = [p for n, p in net.named_parameters() if p.requires_grad and not n.startswith("backbone")]
    optimizer = torch.optim.AdamW([{"params": inner, "lr": args.rate}, {"params": outer, "lr": args.outer_rate}], weight_decay=0.05)
    most = [g["lr"] for g in optimizer.param_groups]
    rng = np.random.default_rng(seed)
    features, time_of = (torch.as_tensor(a).to(device) for a in (data.features, data.time))
    begin, losses = time.monotonic(), []
    net.train()
    while (gone := (time.monotonic() - begin) / seconds) < 1:
        for group, rate in zip(optimizer.param_groups, most, strict=True):
            group["lr"] = rate * min(gone / 0.08 + 0.02, 0.5 + 0.5 * np.cos(np.pi * gone))
        rows = rng.choice(len(data), args.batch)
        link, which = data.link[rows], rng.integers(TEXTS, size=len(rows))
        line, at = link * TEXTS + which, torch.as_tensor(rows).to(device)
        steps = int(data.length[rows].max())
        first = text.shape[1] - int(told[line].sum(1).max())
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=device != "cpu"):
            hidden = net.hidden(text[line, first:], told[line, first:], features[at, :steps], time_of[at, :steps])
        state = index[rows, :steps]
        there = state >= 0
        val, logit = net.answer(hidden[torch.as_tensor(there).to(device)])
        goal = np.broadcast_to(goal_of[link, which][:, None], state.shape)[there]
        loss = student.loss_of(val, logit, *student.targets(v[state[there]], c[goal, state[there]], args.penalty, device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(inner + outer, 1.0)
        optimizer.step()
        losses.append(loss.detach())
    net.eval()
    return len(losses), float(torch.stack(losses[-max(len(losses) // 10, 1) :]).mean())


def expectation(net, records, data, device, goal="balanced", text=None):
    """Expected ln S and chance of what the rule takes from scratch, over the states of `data`, under a goal that the text says."""
    v, c, index = label(records, data)
    c = c[list(context.GOALS).index(goal)]
    gain = values.gain(v, c)
    words, told = net.padded([context.neutral(goal) if text is None else text], device)
    gains = []
    for rows in np.array_split(np.arange(len(data)), -(-len(data) // 128)):
        with torch.no_grad(), torch.autocast(device.split(":")[0], torch.bfloat16, enabled=device != "cpu"):
            value, logit = net(words.expand(len(rows), -1), told.expand(len(rows), -1), torch.as_tensor(data.features[rows]).to(device), torch.as_tensor(data.time[rows]).to(device))
        score = networks.expected(value.float(), logit.float()).cpu().numpy()
        eligible = torch.sigmoid(logit.float()).cpu().numpy() >= THRESHOLD
        eligible[..., 0] = True
        state = index[rows]
        there = state >= 0
        here = state[there]
        best = np.where(eligible[there] & ~np.isnan(v[here]), score[there], np.inf).argmin(1)
        gains.append(np.stack([gain[here, best], c[here, best]], 1))
    return np.concatenate(gains).mean(0)


def save(path, net, args, extra):
    torch.save({"backbone": args.backbone, "text": args.text, "seed": args.seed, "net": net.trained(), **extra}, path)


def load(path, device, folder=None):
    """The teacher of a file that `teacher.py` wrote, and what came with it."""
    saved = torch.load(path, map_location="cpu", weights_only=False)
    net = Teacher(saved["backbone"], saved["net"]["mean"].numpy(), 1 / saved["net"]["scale"].numpy(), folder, saved["seed"])
    wrong = net.load_state_dict(saved["net"], strict=False).unexpected_keys
    if wrong:
        raise SystemExit(f"{path}: does not fit this program: {wrong[0]}")
    return net.to(device).eval(), saved


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("oracle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--backbone", choices=backbone.KINDS, default="pretrained")
    parser.add_argument("--text", choices=("full", "none", "shuffled"), default="full")
    parser.add_argument("--weights", type=Path, help="folder of the base weights; that of the installed package")
    parser.add_argument("--model", type=Path, help="model file whose policy half of the episodes follow")
    parser.add_argument("--passes", type=int, default=4, help="episodes on each link under drawn settings, and as many under --model")
    parser.add_argument("--dagger", type=int, default=2)
    parser.add_argument("--dagger-passes", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=4.0, help="of training, over all rounds")
    parser.add_argument("--links", type=int)
    parser.add_argument("--held-out", type=float, default=0.0, help="share of links to look at only")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--outer-rate", type=float, default=1e-3)
    parser.add_argument("--penalty", type=float, default=student.PENALTY)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--histories", type=Path, help="take up or leave histories here")
    return parser


def first_histories(records, numbers, args, width):
    """Episodes on the links of these numbers, under drawn settings and under a model file; from `--histories` if they are there."""
    if args.histories and args.histories.exists():
        return histories.load(args.histories, len(records))
    data = histories.Histories(width)
    follow = histories.of_file(args.model) if args.model else None
    for step in range(args.passes):
        for add, choose in ((0, None), (500, follow))[: 2 if follow else 1]:
            histories.gather(data, [records[i] for i in numbers], 1000 * args.seed + add + step, args.threads, choose)
    data.link = numbers[data.link].astype(np.int32)
    if args.histories:
        data.save(args.histories)
    return data


def main():
    args = arguments().parse_args()
    import l4sd_gym

    torch.set_num_threads(args.threads)
    names = list(l4sd_gym.FEATURES)
    records = values.records(args.oracle, "train")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(records))
    held = order[: round(args.held_out * len(records))]
    used = np.sort(order[len(held) :][: args.links])
    begin = time.monotonic()
    said = lambda text: print(f"{time.monotonic() - begin:5.0f} s  {text}", flush=True)  # noqa: E731
    data = first_histories(records, np.concatenate([used, held]), args, len(names))
    here = data.of_links(used)
    states = here.features[here.states()].astype(np.float32)
    said(f"{len(here)} sequences, {len(states)} states of {len(used)} links")
    net = Teacher(args.backbone, states.mean(0), np.maximum(states.std(0), student.LEAST_DEVIATION), args.weights, args.seed).to(args.device)
    said(f"{args.backbone}: {sum(p.numel() for p in net.parameters() if p.requires_grad)} parameters are trained")
    rounds = []
    for step in range(args.dagger + 1):
        share = args.minutes * 60 * (2 if step == args.dagger else 1) / (args.dagger + 2)
        updates, loss = fit(net, records, here, share, args, args.device, args.seed + 100 * step)
        rounds.append({"sequences": len(here), "updates": updates, "loss": loss})
        said(f"round {step}: {updates} updates of {args.batch} sequences, loss {loss:.4f}")
        if len(held):
            gain, chance = expectation(net, records, data.of_links(held), args.device)
            rounds[-1] |= {"held_out_ln_s": float(gain), "held_out_chance": float(chance)}
            said(f"round {step}: held-out links: expected S {np.exp(gain):.3f} at chance {chance:.3f}")
        save(args.out, net, args, {"rounds": rounds, "links": len(used)})
        if step < args.dagger:
            for again in range(args.dagger_passes):
                own(here, [records[i] for i in used], used, net, args, 1000 * args.seed + 10 * step + again)
            said(f"round {step}: its own states: {len(here)} sequences")
    here.save(args.out.with_suffix(".npz"))


def own(data, records, numbers, net, args, seed):
    """Episodes under the teacher itself."""
    policy = Memory(net, context.neutral(), args.device)
    more = histories.Histories(data.features.shape[2])
    histories.gather(more, records, seed, args.threads, policy.follow)
    more.link = numbers[more.link].astype(np.int32)
    data.join(more)


if __name__ == "__main__":
    main()
