#!/usr/bin/env python3
"""A student that is shown demonstrations of a link: context encoder and student, trained together.

    fewshot.py ORACLE_DIR OUT.safetensors --data FILE.npz [--hold-out GRID]... [--dagger N]
    fewshot.py ORACLE_DIR --data FILE.npz --gather-only

The recipe is that of student.py: labels of trees.labels, its loss. A state is read with a prompt of k demonstrations (demonstrations.py) of
the same link under another seed, k uniform in 0 to 4; WRONG of the prompts are of another link, half of those of one with a near rate, and
PERMUTED have their outcomes dealt out anew, so that history has to be weighed against what was told. Many states are of the first seconds,
when demonstrations say what history cannot yet. --data is made if it is not there. Links of the grids of --hold-out, and a share
--hold-links of the others, are not trained on; what the choice would cost on them, by the labels and without simulation, is printed.
OUT.onnx is the student, OUT.context.onnx the encoder. Judge it with fewshot_eval.py.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import demonstrations
import histories
import networks
import onnx_file
import student
import trees
import values
import weights_file
from demonstrations import MOST, RECORDS

CONTEXTS, WIDTH = 4, 64
WRONG, PERMUTED = 0.3, 0.15
# Places by rate among which a near link is drawn.
NEAR = 12
# States of one episode that share a prompt, and prompts in a batch.
STATES, PROMPTS = 6, 64
# Probability that a state is taken, by seconds since the link began or flows came or went.
SAMPLE = ((1.0, 0.6), (5.0, 0.3), (np.inf, 0.05))
PER_EPISODE = 4


def sample(_, since):
    return np.select([since < s for s, _ in SAMPLE], [p for _, p in SAMPLE])


class FewShot(torch.nn.Module):
    """The two networks."""

    def __init__(self, encoder, net):
        super().__init__()
        self.encoder, self.student = encoder, net

    def context(self, shown, mask):
        return self.encoder(shown, mask)

    def heads(self, x, context):
        return self.student.heads(x, context)


class Prompts:
    """Draws what is shown beside states of a link and an episode."""

    def __init__(self, bank, links):
        self.bank, self.links = bank, np.asarray(links)
        rate = bank.rows[:, -1, 1].astype(np.float32)
        self.rate = np.array([rate[bank.of[link]].mean() for link in self.links])
        self.ranked = self.links[np.argsort(self.rate, kind="stable")]
        self.place = {link: i for i, link in enumerate(self.ranked)}

    def other(self, link, rng, near=False):
        """Another link; a near one has about its rate."""
        if len(self.links) < 2:
            raise SystemExit("of one link alone none can be shown as the wrong one; give more (--links, fewer --hold-out)")
        while True:
            if near:
                at = np.clip(self.place[link] + rng.integers(-NEAR, NEAR + 1), 0, len(self.ranked) - 1)
                other = self.ranked[at]
            else:
                other = rng.choice(self.links)
            if other != link:
                return other

    def show(self, link, episode, k, rng, permuted=False):
        """(MOST, RECORDS, width) and mask, of up to k demonstrations of a link, none from this episode."""
        some = self.bank.rows[self.bank.draw(link, k, rng, episode)].astype(np.float32)
        return demonstrations.prompt(demonstrations.permuted(some, rng) if permuted and len(some) else some)

    def train(self, link, episode, rng):
        """A prompt as in training."""
        k = rng.integers(MOST + 1)
        kind = rng.random()
        if kind < WRONG:
            return self.show(self.other(link, rng, near=rng.random() < 0.5), None, k, rng)
        return self.show(link, episode, k, rng, permuted=kind < WRONG + PERMUTED)


class Data:
    """States of episodes on train links, and the demonstrations that were cut from the same episodes."""

    ARRAYS = ("features", "link", "time", "episode")

    def __init__(self, bank, features, link, time, episode):
        self.bank, self.features, self.link, self.time, self.episode = bank, features, link, time, episode

    def save(self, path):
        from l4sd_gym import SCHEMA_HASH

        self.bank.save(path, schema=SCHEMA_HASH, **{f"state_{n}": getattr(self, n) for n in self.ARRAYS})

    @classmethod
    def load(cls, path):
        from l4sd_gym import SCHEMA_HASH

        with np.load(path) as data:
            if str(data["schema"]) != SCHEMA_HASH:
                sys.exit(f"{path}: made for schema {data['schema']}, this is {SCHEMA_HASH}; make it again")
            return cls(demonstrations.Bank.load(data), *(data[f"state_{n}"] for n in cls.ARRAYS))

    @classmethod
    def join(cls, parts):
        bank = demonstrations.Bank(*(np.concatenate([getattr(p.bank, n) for p in parts]) for n in demonstrations.Bank.ARRAYS))
        return cls(bank, *(np.concatenate([getattr(p, n) for p in parts]) for n in cls.ARRAYS))

    def groups(self):
        """Places of the states of each link and episode."""
        order = np.lexsort((self.episode, self.link))
        edge = np.flatnonzero((np.diff(self.link[order]) != 0) | (np.diff(self.episode[order]) != 0)) + 1
        return np.split(order, edge)


def gather(records, episode, seed, threads, choose, batch=96):
    """One episode on each link. `choose(start, n)` makes the policy of `n` links from `start` on."""
    from l4sd_gym import FEATURES

    parts = []
    for start in range(0, len(records), batch):
        scenarios = [r["scenario"] for r in records[start : start + batch]]
        (rows, link), states = demonstrations.gather(scenarios, episode, seed + start, threads, choose(start, len(scenarios)), PER_EPISODE, list(FEATURES), sample)
        at, when, features = zip(*states, strict=True)
        parts.append(
            Data(
                demonstrations.Bank(rows, link + np.int32(start), np.full(len(rows), episode, np.int32)),
                np.array(features),
                np.array(at, np.int32) + np.int32(start),
                np.array(when, np.float32),
                np.full(len(at), episode, np.int32),
            )
        )
    data = Data.join(parts)
    print(f"episode {episode}: {len(data.link)} states, {len(data.bank.link)} demonstrations of {len(records)} links", file=sys.stderr, flush=True)
    return data


def first_data(records, args):
    """Under RFC 9332's constants, under drawn settings twice, and under the student that ships."""
    shipped = histories.of_file(args.behaviour)
    policies = [
        lambda start, n: demonstrations.constants,
        lambda start, n: demonstrations.settings(n, [args.seed, start, 1]),
        lambda start, n: demonstrations.settings(n, [args.seed, start, 2]),
        lambda start, n: shipped,
    ]
    return Data.join([gather(records, i, args.seed, args.threads, policy) for i, policy in enumerate(policies)])


def own_policy(model, prompts, args, seed):
    """The model on links from `start` on, each with a prompt as in training."""

    def of(start, n):
        rng = np.random.default_rng([seed, start])
        known = set(prompts.links.tolist())
        shown = [prompts.train(start + i, None, rng) if start + i in known else prompts.show(0, None, 0, rng) for i in range(n)]
        context = contexts(model, *(np.array(x) for x in zip(*shown, strict=True)))

        def choose(features, current, links, time):
            return np.asarray(rule(model, args)(features, current, context[links]))

        return choose

    return of


def contexts(model, shown, mask):
    with torch.no_grad():
        return model.context(torch.as_tensor(shown), torch.as_tensor(mask))


def rule(model, args):
    """The rule of docs/model.md with what the model says to states and contexts."""
    from l4sd_gym import rules

    def choose(features, current, context):
        with torch.no_grad():
            value, logit = model.heads(torch.as_tensor(features), context)
            score = networks.expected(value, logit)
        return rules.choose(score.numpy(), logit.numpy(), current, args.threshold, args.hysteresis)

    return choose


def chunks(groups, rng):
    """Places of up to STATES states of one episode each."""
    return [part for g in groups for part in np.array_split(rng.permutation(g), -(-len(g) // STATES))]


def train(model, data, prompts, groups, labels, args):
    """Fits both networks; returns the mean loss at the end."""
    x = torch.as_tensor(data.features)
    rng = np.random.default_rng([args.seed, 5])
    parts = chunks(groups, rng)

    def loss_at(at):
        some = [parts[i] for i in at.tolist()]
        shown, mask = zip(*(prompts.train(data.link[p[0]], data.episode[p[0]], rng) for p in some), strict=True)
        context = model.context(torch.as_tensor(np.array(shown)), torch.as_tensor(np.array(mask)))
        context = context.repeat_interleave(torch.as_tensor([len(p) for p in some]), 0)
        places = torch.as_tensor(np.concatenate(some))
        return student.loss_of(*model.heads(x[places].float(), context), *(a[places] for a in labels))

    return student.optimise(model, len(parts), loss_at, args, "cpu", PROMPTS)


def build(data, groups, names, args):
    """Networks that know the spread of the states and demonstrations of `groups`."""
    places = np.concatenate(groups)
    own = data.features[places].astype(np.float32)
    net = networks.Student("transformer", names, own.mean(0), np.maximum(own.std(0), student.LEAST_DEVIATION), values.CANDIDATES, width=WIDTH, dropout=args.dropout, contexts=CONTEXTS)
    rows = data.bank.rows[np.isin(data.bank.link, data.link[places])].astype(np.float32).reshape(-1, data.bank.rows.shape[2])
    encoder = networks.Encoder((MOST, RECORDS, rows.shape[1]), rows.mean(0), np.maximum(rows.std(0), student.LEAST_DEVIATION), CONTEXTS, WIDTH, dropout=args.dropout)
    return FewShot(encoder, net)


ARMS = (("k = 0", 0, None), ("k = 1", 1, None), ("k = 2", 2, None), ("k = 4", 4, None), ("4, wrong link", 4, "wrong"), ("4, wrong, near rate", 4, "near"), ("4, permuted", 4, "permuted"))


def shown_of(prompts, arm, link, episode, rng):
    """The prompt of an arm of the experiment."""
    _, k, kind = arm
    if kind in ("wrong", "near"):
        return prompts.show(prompts.other(link, rng, near=kind == "near"), None, k, rng)
    return prompts.show(link, episode, k, rng, permuted=kind == "permuted")


AGES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, np.inf)


def cost_of_choice(model, data, prompts, groups, v, c, args):
    """Prints, by the labels, the mean expected ln S of what is chosen first, by age of the link and arm."""
    rng = np.random.default_rng([args.seed, 9])
    cost = np.nan_to_num(values.gain(v, c) + args.penalty * (1 - c))
    table = {}
    for arm in ARMS:
        chosen = np.zeros(len(data.link), np.int64)
        pick = rule(model, argparse.Namespace(threshold=args.threshold, hysteresis=0.0))
        for some in np.array_split(np.arange(len(groups)), -(-len(groups) // PROMPTS)):
            parts = [groups[i] for i in some]
            shown, mask = zip(*(shown_of(prompts, arm, data.link[p[0]], data.episode[p[0]], rng) for p in parts), strict=True)
            context = contexts(model, np.array(shown), np.array(mask)).repeat_interleave(torch.as_tensor([len(p) for p in parts]), 0)
            places = np.concatenate(parts)
            chosen[places] = pick(data.features[places].astype(np.float32), np.zeros(len(places), np.int64), context)
        places = np.concatenate(groups)
        each, age = cost[places, chosen[places]], data.time[places]
        table[arm[0]] = [float(each[(age >= a) & (age < b)].mean()) for a, b in zip(AGES[:-1], AGES[1:], strict=True)]
    print("expected ln S of the choice, by seconds since the link began: " + ", ".join(f"{a:g} to {b:g}" for a, b in zip(AGES[:-1], AGES[1:], strict=True)))
    for name, row in table.items():
        print(f"  {name:20} " + " ".join(f"{x:7.3f}" for x in row), flush=True)


def save(model, path, data, metadata, golden):
    parts = {"encoder": model.encoder.state_dict(), "net": model.student.state_dict(), "golden": golden}
    weights_file.save(path, {f"{part}.{name}": x for part, of in parts.items() for name, x in of.items()}, {"kind": "fewshot", "metadata": metadata})


def load(path, names):
    """The model of a file of this script."""
    tensors, saved = weights_file.load(path)
    e, s, golden = ({n.removeprefix(part): x for n, x in tensors.items() if n.startswith(part)} for part in ("encoder.", "net.", "golden."))
    encoder = networks.Encoder((MOST, RECORDS, len(e["mean"])), e["mean"].numpy(), 1 / e["scale"].numpy(), CONTEXTS, WIDTH, dropout=0.0)
    net = networks.Student("transformer", names, s["reader.mean"].numpy(), 1 / s["reader.scale"].numpy(), values.CANDIDATES, width=WIDTH, dropout=0.0, contexts=CONTEXTS)
    encoder.load_state_dict(e)
    net.load_state_dict(s)
    return FewShot(encoder, net).eval(), saved | {"golden": {n: x.numpy() for n, x in golden.items()}}


def export(model, path, features, names, metadata, golden):
    """Writes PATH.context.onnx and PATH.onnx, which names the other by its hash."""
    shown, mask = golden["shown"], golden["mask"]
    sha256 = onnx_file.encoder(path.with_suffix(".context.onnx"), model.encoder.eval(), [("demonstrations", shown), ("mask", mask)])
    context = contexts(model, shown, mask).numpy()
    weights, bias, distance = student.familiar(features, names)
    module = student.Exported(model.student.eval(), weights, bias).eval()
    told = {"l4sd.distance_limit": f"{1.5 * float(distance.max()):.4g}", "l4sd.context_encoder": sha256}
    onnx_file.from_torch(path.with_suffix(".onnx"), module, golden["features"], told | metadata, more=[("context", context)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("oracle", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--gather-only", action="store_true")
    parser.add_argument("--behaviour", type=Path, default=Path(__file__).parent.parent / "student.onnx", help="the policy of a quarter of the episodes")
    parser.add_argument("--hold-out", action="append", default=[], metavar="GRID")
    parser.add_argument("--hold-links", type=float, default=0.0, metavar="SHARE", help="links of the other grids that are not trained on either")
    parser.add_argument("--threshold", type=float, default=0.6)
    parser.add_argument("--hysteresis", type=float, default=0.05)
    parser.add_argument("--penalty", type=float, default=student.PENALTY)
    parser.add_argument("--dagger", type=int, default=1)
    parser.add_argument("--links", type=int)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.out is None and not args.gather_only:
        parser.error("name OUT.safetensors, or --gather-only")
    import l4sd_gym

    torch.set_num_threads(args.threads)
    names = list(l4sd_gym.FEATURES)
    records = values.records(args.oracle, "train")[: args.links]
    if not args.data.exists():
        first_data(records, args).save(args.data)
    if args.gather_only:
        return
    data = Data.load(args.data)
    held = np.array([r["cell"]["grid"] in args.hold_out for r in records])
    aside = ~held & (np.random.default_rng([args.seed, 3]).random(len(records)) < args.hold_links)
    parts = [data]
    for step in range(args.dagger + 1):
        begin = time.monotonic()
        torch.manual_seed(args.seed + 100 * step)
        data = Data.join(parts)
        v, c = trees.labels(records, data.link, data.time)
        groups = [g for g in data.groups() if len(data.bank.of[data.link[g[0]]]) > 0]
        own, near, others = ([g for g in groups if some[data.link[g[0]]]] for some in (~held & ~aside, aside, held))
        prompts = Prompts(data.bank, sorted({int(data.link[g[0]]) for g in own}))
        model = build(data, own, names, args)
        loss = train(model, data, prompts, own, student.targets(v, c, args.penalty, "cpu"), args)
        model.eval()
        print(f"round {step}: {sum(map(len, own))} states of {len(prompts.links)} links, loss {loss:.4f}, {time.monotonic() - begin:.0f} s", flush=True)
        for name, some in (("trained on", own[:: max(len(own) // 200, 1)]), ("of the same grids, held out", near), ("of grids held out", others)):
            links = sorted({int(data.link[g[0]]) for g in some})
            if len(links) == 1:
                print(f"links {name}: one, and no other to show beside it; not looked at")
            elif links:
                print(f"links {name}: {len(some)} episodes")
                cost_of_choice(model, data, Prompts(data.bank, links), some, v, c, args)
        if step < args.dagger:
            parts.append(gather(records, 10 + step, args.seed + 31, args.threads, own_policy(model, prompts, args, args.seed + step)))
    rng = np.random.default_rng(args.seed)
    places = np.concatenate(own)
    link = rng.choice(prompts.links, 4, replace=False)
    shown, mask = zip(*(prompts.show(i, None, k, rng) for i, k in zip(link, (0, 1, 2, 4), strict=True)), strict=True)
    golden = {"features": data.features[rng.choice(places, 4, replace=False)].astype(np.float32), "shown": np.array(shown), "mask": np.array(mask)}
    metadata = {
        "l4sd.period_s": demonstrations.PERIOD_S,
        "l4sd.threshold": args.threshold,
        "l4sd.hysteresis": args.hysteresis,
        "kind": "transformer with context of demonstrations, no language model",
        "parameters": sum(p.numel() for p in model.student.parameters()),
        "states": len(places),
        "links": len(prompts.links),
        "held_out": ",".join(args.hold_out) or "nothing",
        "dagger_rounds": args.dagger,
        "seed": args.seed,
    }
    save(model, args.out, data, metadata, golden)
    export(model, args.out, data.features[rng.choice(places, min(20000, len(places)), replace=False)].astype(np.float32), names, metadata, golden)


if __name__ == "__main__":
    main()
