#!/usr/bin/env python3
"""A teacher: a language model that reads what is known of a link in words, then its states, and values candidate settings.

    teacher.py ORACLE_DIR OUT.safetensors [--backbone pretrained|...] [--text full|none|shuffled] [--minutes M]
    torchrun --standalone --nproc-per-node N teacher.py ...

One sequence is a text (context.py: access, operator's goal, known traffic), then an episode's states as one token each: features and the
time since the token before. At each state the two heads of networks.Heads answer for all candidates in one pass. Labels are the oracle's
(trees.labels) under the goal that the text names. Episodes run under drawn settings and a policy of a model file, then in
--dagger rounds under the teacher itself. OUT.safetensors has what was trained, no frozen weights, and OUT.npz all histories. It judges nothing: judge.py does.

Under torchrun each process takes its part of every batch, on a GPU of its own; the first one simulates, keeps the clock and writes, as what
it makes comes to the others. All of them read ORACLE_DIR.
"""

import argparse
import copy
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
import ranks
import replay
import student
import trees
import values
import weights_file

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

    def tokens(self, features, gap):
        """A token (..., width) of each state and the seconds since the one before."""
        x = torch.clamp((features.float() - self.mean) * self.scale, -networks.CLIP, networks.CLIP)
        return self.encoder(torch.cat([x, torch.log1p(gap.clamp(min=0))[..., None]], -1)) * self.backbone.scale

    def hidden(self, text, words, features, time):
        """`text` (n, longest) token numbers, of which the first `words` (n,) count, `features` (n, steps, width), `time` (n, steps). States
        follow the last word at once, so that nothing needs a mask; what is behind the last state is not read."""
        states = self.tokens(features, torch.diff(time, dim=1, prepend=time[:, :1]))
        both = torch.cat([self.backbone.embed(text).to(states.dtype), states], 1)
        (n, longest), steps = text.shape, features.shape[1]
        place = torch.arange(longest + steps, device=text.device).expand(n, -1)
        spare = (longest - words)[:, None]
        order = torch.where(place < words[:, None], place, (place + spare).clamp(max=longest + steps - 1))
        wide = lambda index: index[..., None].expand(-1, -1, both.shape[2])  # noqa: E731
        seen = self.backbone(both.gather(1, wide(order)))
        at = words[:, None] + torch.arange(steps, device=text.device)
        return self.norm(seen.gather(1, wide(at)).float())

    def forward(self, text, words, features, time):
        """(value, logit), each (n, steps, candidates)."""
        h = self.hidden(text, words, features, time)
        value, logit = self.answer(h.flatten(0, 1))
        return value.reshape(*h.shape[:2], -1), logit.reshape(*h.shape[:2], -1)

    def padded(self, texts, device):
        """Texts as numbers, and how many of them count."""
        known = {t: self.backbone.tokens(t) or [0] for t in set(texts)}
        rows = [known[t] for t in texts]
        text = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for i, row in enumerate(rows):
            text[i, : len(row)] = torch.as_tensor(row)
        return text.to(device), torch.as_tensor([len(row) for row in rows]).to(device)

    def settled(self):
        """A copy that only answers, faster."""
        net = copy.deepcopy(self).eval()
        net.backbone.settle()
        return net

    def trained(self):
        """Names and values of all that differs from the base weights."""
        kept = {n for n, p in self.named_parameters() if p.requires_grad}
        return {n: v.detach().cpu().to(torch.bfloat16 if n.startswith("backbone") else v.dtype) for n, v in self.state_dict().items() if n in kept or not n.startswith("backbone")}


class Memory:
    """The teacher as a policy of many links at once: called with states, current candidates and the links' numbers."""

    def __init__(self, net, text, device, threshold=THRESHOLD, hysteresis=HYSTERESIS):
        self.net, self.device = net.eval(), device
        self.text, self.words = net.padded([text], device)
        self.place, self.free = {}, []
        self.calls = 0
        self.threshold, self.hysteresis = threshold, hysteresis
        width = len(net.mean)
        self.features = torch.zeros(0, MEMORY + 1, width, dtype=torch.float16, device=device)
        self.time = torch.zeros(0, MEMORY + 1, device=device)
        # How many tokens of each place are kept, and the time of the newest of them.
        self.length, self.newest = np.zeros(0, int), np.zeros(0)

    def past(self, who):
        """Times of the tokens that are kept of a link."""
        place = self.place[who]
        return self.time[place, : self.length[place]].tolist()

    def only(self, who):
        """Forgets all other links."""
        for gone in set(self.place) - set(map(int, who)):
            self.free.append(self.place.pop(gone))

    def places(self, who):
        """Rows of the links in what is remembered, new ones for new links."""
        fresh = [w for w in map(int, who) if w not in self.place]
        if (more := len(fresh) - len(self.free)) > 0:
            self.free += range(len(self.length), len(self.length) + more)
            self.features, self.time = (torch.cat([a, a.new_zeros(more, *a.shape[1:])]) for a in (self.features, self.time))
            self.length, self.newest = (np.append(a, np.zeros(more, a.dtype)) for a in (self.length, self.newest))
        for w in fresh:
            self.place[w] = self.free.pop(0)
            self.length[self.place[w]] = 0
        return np.array([self.place[int(w)] for w in who])

    def answers(self, features, who, time):
        """Score and logit; remembers what is SPACING_S after what it has."""
        place = self.places(who)
        last = self.length[place]
        rows, at = (torch.as_tensor(a).to(self.device) for a in (place, last))
        self.features[rows, at] = torch.as_tensor(np.asarray(features, np.float16)).to(self.device)
        self.time[rows, at] = torch.as_tensor(np.asarray(time, np.float32)).to(self.device)
        steps, out = int(last.max()) + 1, []
        for part in torch.arange(len(rows), device=self.device).split(1024):
            with torch.no_grad(), torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.device != "cpu"):
                told = self.text.expand(len(part), -1), self.words.expand(len(part))
                hidden = self.net.hidden(*told, self.features[rows[part], :steps], self.time[rows[part], :steps])
            with torch.no_grad():
                value, logit = self.net.answer(hidden[torch.arange(len(part), device=self.device), at[part]])
            out.append(torch.stack([networks.expected(value, logit), logit]))
        keep = (last == 0) | (np.asarray(time) - self.newest[place] >= 0.9 * SPACING_S)
        self.length[place[keep]] += 1
        self.newest[place[keep]] = np.asarray(time)[keep]
        full = place[self.length[place] > MEMORY]
        for a in (self.features, self.time):
            a[full] = a[full].roll(-1, 1)
        self.length[full] -= 1
        self.calls += 1
        return tuple(torch.cat(out, 1).float().cpu().numpy())

    def follow(self, x, current, who, time):
        """As collect.episodes and l4sd_gym's judging ask."""
        from l4sd_gym import rules

        return rules.choose(*self.answers(x, who, time), current, self.threshold, self.hysteresis)


def texts_of(net, records, mode, seed, device):
    """TEXTS of each link, as numbers with their lengths; and the goal of each, an index into context.GOALS."""
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
    return *net.padded(texts, device), torch.tensor(of, device=device)


class Labels:
    """trees.Labels under each goal, on a device: `targets` are what student.loss_of asks for, and `gain` is expected ln S."""

    def __init__(self, records, penalty, device):
        tables = []
        for goal in context.GOALS.values():
            tables.append(trees.Labels(records, goal.slack, tables[0] if tables else None))
        self.rows_of = tables[0].rows
        self.targets = [torch.stack(a) for a in zip(*(student.targets(t.value, t.chance, penalty, device) for t in tables), strict=True)]
        self.gain = torch.as_tensor(np.stack([values.gain(t.value, t.chance) for t in tables]).astype(np.float32)).to(device)

    def rows(self, data):
        """Row of each state, (sequences, steps); -1 where there is none."""
        places = data.states()
        row = np.full(data.time.shape, -1)
        row[places] = self.rows_of(data.link[places[0]], data.time[places])
        return row

    def at(self, goal, row):
        """Value, chance, known and cost, each (..., candidates); nothing is known where the row is -1."""
        value, chance, known, cost = (a[goal, row.clamp(min=0)] for a in self.targets)
        there = (row >= 0)[..., None]
        return value, chance, known & there, cost * there

    def counts(self, row):
        """What the two means of student.loss_of divide by, known candidates and states that have one, for each goal and sequence of rows."""
        known = self.targets[2]
        of_row = torch.stack([known.sum(-1), known.any(-1).long()])
        return torch.stack([(of[:, row.clamp(min=0)] * (row >= 0)).sum(-1) for of in of_row]).cpu().numpy()


def weights_of(counts, group):
    """(w, r) so that the sum over the ranks of w times student.loss_of of a rank's part, its `cost` times r, is that of the whole batch.
    `counts` (2, batch) are Labels.counts of the whole: loss_of is a mean over known candidates and, linear in `cost`, one over states, and
    parts with more known labels count for more."""
    known, there = (group.part(of).sum() / max(of.sum(), 1) for of in counts)
    return known, there / known if known else 0.0


def fit(net, records, labels, data, args, seed, seconds=float("inf"), updates=float("inf"), group=ranks.ALONE):
    """Trains until `seconds` or `updates` are over, the rate falling with them; returns (updates, mean loss of the last tenth). All ranks of
    `group` make the same updates of `args.batch` sequences, each computing its part of them."""
    device = args.device
    text, words, goal_of = texts_of(net, records, args.text, seed, device)
    inner = [p for n, p in net.named_parameters() if p.requires_grad and n.startswith("backbone")]
    outer = [p for n, p in net.named_parameters() if p.requires_grad and not n.startswith("backbone")]
    optimizer = replay.adamw([(inner, args.rate), (outer, args.outer_rate)], device)
    most = [g["lr"].item() for g in optimizer.param_groups]
    rng = np.random.default_rng(seed)
    features, time_of, row_of = (torch.as_tensor(a).to(device) for a in (data.features, data.time, labels.rows(data)))
    steps = int(data.length.max())
    counts, goals = (labels.counts(row_of), goal_of.cpu().numpy()) if group.size > 1 else (None, None)

    def loss_at(line, at, *weights):
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=device != "cpu", cache_enabled=False):
            hidden = net.hidden(text[line], words[line], features[at, :steps], time_of[at, :steps])
        row = row_of[at, :steps].flatten()
        goal = goal_of[line][:, None].expand(-1, steps).flatten()
        value, chance, known, cost = labels.at(goal, row)
        if not weights:
            return student.loss_of(*net.answer(hidden.flatten(0, 1)), value, chance, known, cost)
        part, ratio = weights
        return part * student.loss_of(*net.answer(hidden.flatten(0, 1)), value, chance, known, cost * ratio)

    step = replay.Step(loss_at, optimizer, group=group)
    begin, losses = time.monotonic(), []
    net.train()
    while (gone := group.told(max((time.monotonic() - begin) / seconds, len(losses) / updates))) < 1:
        for some, rate in zip(optimizer.param_groups, most, strict=True):
            some["lr"].fill_(rate * min(gone / 0.08 + 0.02, 0.5 + 0.5 * np.cos(np.pi * gone)))
        rows = rng.choice(len(data), args.batch)
        line = data.link[rows] * TEXTS + rng.integers(TEXTS, size=len(rows))
        inputs = [torch.as_tensor(group.part(a).astype(np.int64)).to(device) for a in (line, rows)]
        if counts is not None:
            inputs += [torch.tensor(w, dtype=torch.float32, device=device) for w in weights_of(counts[:, goals[line], rows], group)]
        losses.append(step(*inputs))
        # So that the clock is of what was done, not of what was asked for.
        if device != "cpu" and len(losses) % 16 == 0:
            torch.cuda.synchronize()
    net.eval()
    return len(losses), float(torch.stack(losses[-max(len(losses) // 10, 1) :]).mean())


def expectation(net, labels, data, device, goal="balanced", texts=None):
    """Expected ln S and chance of what the rule takes from scratch, over the states of `data`, under a goal that the texts, one for each
    sequence, say."""
    which = list(context.GOALS).index(goal)
    row_of = torch.as_tensor(labels.rows(data)).to(device)
    text, words = net.padded(texts or [context.neutral(goal)] * len(data), device)
    sums, count = torch.zeros(2, device=device), 0
    for rows in np.array_split(np.arange(len(data)), -(-len(data) // 256)):
        at = torch.as_tensor(rows).to(device)
        with torch.no_grad(), torch.autocast(device.split(":")[0], torch.bfloat16, enabled=device != "cpu"):
            hidden = net.hidden(text[at], words[at], torch.as_tensor(data.features[rows]).to(device), torch.as_tensor(data.time[rows]).to(device))
        with torch.no_grad():
            there = row_of[at] >= 0
            row = row_of[at][there]
            value, logit = net.answer(hidden[there])
            eligible = (torch.sigmoid(logit) >= THRESHOLD) & labels.targets[2][which, row]
            eligible[:, 0] = True
            best = networks.expected(value, logit).masked_fill(~eligible, float("inf")).argmin(1, keepdim=True)
            sums += torch.stack([a[which, row].gather(1, best).sum() for a in (labels.gain, labels.targets[1])])
            count += len(row)
    return (sums / count).cpu().numpy()


def save(path, net, args, extra):
    weights_file.save(path, net.trained(), {"backbone": args.backbone, "text": args.text, "seed": args.seed, **extra})


def load(path, device, folder=None):
    """The teacher of a file that `teacher.py` wrote, and what came with it."""
    tensors, saved = weights_file.load(path)
    if "backbone" not in saved:
        raise SystemExit(f"{path}: not a teacher's weights; teacher.py writes such")
    net = Teacher(saved["backbone"], tensors["mean"].numpy(), 1 / tensors["scale"].numpy(), folder, saved["seed"])
    wrong = net.load_state_dict(tensors, strict=False).unexpected_keys
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
    parser.add_argument("--histories", type=Path, nargs="*", default=[], help="take these up; one that is not there is made and left")
    return parser


def first_histories(records, numbers, args, width):
    """Episodes on the links of these numbers, under drawn settings and under a model file; from `--histories` if they are there."""
    if args.histories and all(file.exists() for file in args.histories):
        return histories.load_all(args.histories, len(records), width)
    data = histories.Histories(width)
    follow = histories.of_file(args.model) if args.model else None
    for step in range(args.passes):
        for add, choose in ((0, None), (500, follow))[: 2 if follow else 1]:
            histories.gather(data, [records[i] for i in numbers], 1000 * args.seed + add + step, args.threads, choose)
    data.link = numbers[data.link].astype(np.int32)
    if args.histories:
        data.save(args.histories[0])
    return data


def split(records, args):
    """Numbers of the links to train on, and of those to look at only."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(records))
    held = order[: round(args.held_out * len(records))]
    return np.sort(order[len(held) :][: args.links]), held


def build(states, args):
    """A teacher that knows the spread of `states`, ready to be trained."""
    net = Teacher(args.backbone, states.mean(0), np.maximum(states.std(0), student.LEAST_DEVIATION), args.weights, args.seed).to(args.device)
    if args.device != "cpu":
        net.backbone.hasten()
    return net


def main():
    args = arguments().parse_args()
    import l4sd_gym

    group, args.device = ranks.begin(args.device)
    if args.batch < group.size:
        raise SystemExit(f"--batch {args.batch} is less than the {group.size} processes that share it")
    torch.set_num_threads(max(args.threads // group.size, 1))
    names = list(l4sd_gym.FEATURES)
    records = values.records(args.oracle, "train")
    used, held = split(records, args)
    begin = time.monotonic()
    said = lambda text: print(f"{time.monotonic() - begin:5.0f} s  {text}", flush=True) if group.first else None  # noqa: E731
    data = group.made_by_first(lambda: first_histories(records, np.concatenate([used, held]), args, len(names)))
    here = data.of_links(used)
    states = here.features[here.states()].astype(np.float32)
    said(f"{len(here)} sequences, {len(states)} states of {len(used)} links")
    labels = Labels(records, args.penalty, args.device)
    net = build(states, args)
    trained = [p for p in net.parameters() if p.requires_grad]
    said(f"{args.backbone}: {sum(p.numel() for p in trained)} parameters are trained")
    if group.size > 1:
        group.same(net)
        # Of dropout: each rank's own.
        torch.manual_seed(noise := 1000 * args.seed + group.rank)
        said(f"{group.size} processes, {len(group.part(np.arange(args.batch)))} of {args.batch} sequences each at most; seed {args.seed} of weights and batches, {noise} and the next ones of dropout")
    rounds = []
    for step in range(args.dagger + 1):
        share = args.minutes * 60 * (2 if step == args.dagger else 1) / (args.dagger + 2)
        updates, loss = fit(net, records, labels, here, args, args.seed + 100 * step, seconds=share, group=group)
        drift = group.drift(trained)
        if group.size > 1:
            said(f"largest difference of a weight between processes {drift:.3g}")
        if group.first:
            rounds.append({"sequences": len(here), "updates": updates, "loss": loss, "processes": group.size})
            said(f"round {step}: {updates} updates of {args.batch} sequences, loss {loss:.4f}")
            quick = net.settled()
            if len(held):
                gain, chance = expectation(quick, labels, data.of_links(held), args.device)
                rounds[-1] |= {"held_out_ln_s": float(gain), "held_out_chance": float(chance)}
                said(f"round {step}: held-out links: expected S {np.exp(gain):.3f} at chance {chance:.3f}")
            save(args.out, net, args, {"rounds": rounds, "links": len(used)})
        if step < args.dagger:
            for again in range(args.dagger_passes):
                here.join(group.made_by_first(lambda again=again: own([records[i] for i in used], used, quick, args, 1000 * args.seed + 10 * step + again)))
            said(f"round {step}: its own states: {len(here)} sequences")
    if group.first:
        here.save(args.out.with_suffix(".npz"))
    group.end()


def own(records, numbers, net, args, seed):
    """Episodes under the teacher itself."""
    policy = Memory(net, context.neutral(), args.device)
    more = histories.Histories(len(net.mean))
    histories.gather(more, records, seed, args.threads, policy.follow)
    more.link = numbers[more.link].astype(np.int32)
    return more


if __name__ == "__main__":
    main()
