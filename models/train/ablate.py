#!/usr/bin/env python3
"""Does the language model matter? Teachers that differ in one thing, with the same budget, over shares of the links and seeds.

    ablate.py ORACLE_DIR OUT.jsonl --histories FILE.npz... [--arms A...] [--shares S...] [--seeds N...] [--updates N] [--part I/N]
    ablate.py --report OUT.jsonl...      a run that is in several files, as of parts of another N, counts once

A line of OUT.jsonl is a run: what student.loss_of and the rule come to on links held out of training, under the goal of the score and
under each other goal as texts of training, held-out texts, and unseen access types say it, and when nobody says it. A run that is there
is not made again. Of runs on all links the weights stay beside it. --part shares the runs among processes. Closed loop is judge.py's.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

# Backbone and text of each arm.
ARMS = {
    "pretrained": ("pretrained", "full"),
    "random": ("random", "full"),
    "frozen": ("frozen", "full"),
    "permuted": ("permuted", "full"),
    "no text": ("pretrained", "none"),
    "shuffled text": ("pretrained", "shuffled"),
    "scratch": ("scratch", "full"),
    "tiny": ("tiny", "full"),
}
# What a run made again has in common with the first, other than its key.
SAME = ("links", "sequences", "held_out_links", "updates", "batch", "trained")
TOLD = ("training", "held out", "unseen access", "not told")


def key(run):
    return run["arm"], run["share"], run["seed"]


def lines(files):
    return [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]


def once(files):
    """The runs of these files, each once though another part has made it too. Two that are not of the same experiment are refused."""
    found = {}
    for file in files:
        for run in lines([file]):
            first, where = found.setdefault(key(run), (run, file))
            if other := [name for name in SAME if run[name] != first[name]]:
                arm, share, seed = key(run)
                sys.exit(f"{arm}, share {share:g}, seed {seed} is in {where} and in {file} with another number of {other[0]}, {first[other[0]]} and {run[other[0]]}: they are of two experiments; leave one file out, or remove it if an earlier run left it")
    return [run for run, _ in found.values()]


def texts(records, data, goal, told, rng):
    """A text for each sequence of `data`."""
    import context

    if told == "not told":
        return [context.neutral()] * len(data)
    held_out = told == "held out"
    return [context.draw(records[k], rng, goal, held_out=held_out, unseen=told == "unseen access")[0] for k in data.link]


def judged(net, labels, records, data, args):
    """{goal: {how it was told: (expected ln S, chance)}}, and None for the score's goal said alone."""
    import context
    import teacher

    silent = args.text == "none"
    out = {"score": teacher.expectation(net, labels, data, args.device, texts=[""] * len(data) if silent else None).tolist()}
    for goal in context.GOALS:
        out[goal] = {}
        for told in TOLD:
            said = [""] * len(data) if silent else texts(records, data, goal, told, np.random.default_rng(17))
            out[goal][told] = teacher.expectation(net, labels, data, args.device, goal, said).tolist()
    return out


def train(args):
    import teacher
    import torch
    import values
    from l4sd_gym import FEATURES

    torch.set_num_threads(args.threads)
    torch._dynamo.config.recompile_limit = 64
    wanted = [(arm, share, seed) for seed in args.seeds for share in args.shares for arm in args.arms]
    part, parts = map(int, args.part.split("/"))
    done = {key(run) for run in lines([args.out])}
    records = values.records(args.oracle, "train")
    labels = teacher.Labels(records, args.penalty, args.device)
    args.links = None
    used, held = teacher.split(records, args)
    data = teacher.first_histories(records, np.concatenate([used, held]), args, len(FEATURES))
    aside = data.of_links(held)
    for arm, share, seed in wanted[part::parts]:
        if (arm, share, seed) in done:
            continue
        args.backbone, args.text = ARMS[arm]
        args.seed = seed
        some = np.sort(np.random.default_rng(seed).permutation(used)[: max(round(share * len(used)), 1)])
        here = data.of_links(some)
        begin = time.monotonic()
        net = teacher.build(here.features[here.states()].astype(np.float32), args)
        updates, loss = teacher.fit(net, records, labels, here, args, seed, updates=args.updates)
        run = {"arm": arm, "share": share, "seed": seed, "links": len(some), "sequences": len(here), "held_out_links": len(held), "updates": updates, "batch": args.batch, "loss": loss}
        run |= {"trained": sum(p.numel() for p in net.parameters() if p.requires_grad), "seconds": round(time.monotonic() - begin, 1)}
        if share == 1:
            teacher.save(args.out.with_name(f"{args.out.stem}-{arm.replace(' ', '-')}-{seed}.safetensors"), net, args, {"rounds": [run], "links": len(some)})
        run["judged"] = judged(net.settled(), labels, records, aside, args)
        with args.out.open("a") as file:
            file.write(json.dumps(run) + "\n")
        print(arm, share, seed, f"{updates} updates, {run['seconds']} s, loss {loss:.4f}, held-out S {np.exp(run['judged']['score'][0]):.3f} at chance {run['judged']['score'][1]:.3f}", flush=True)


def cost(pair, penalty):
    """What student.py's loss calls the cost of a choice."""
    return pair[0] + penalty * (1 - pair[1])


def report(files, penalty):
    """Two tables: the score's goal by arm and share; what saying another goal is worth, by how it is said."""
    runs = once(files)
    shares = sorted({r["share"] for r in runs})
    arms = [a for a in ARMS if any(r["arm"] == a for r in runs)]

    def cell(arm, share, of):
        x = [of(r) for r in runs if (r["arm"], r["share"]) == (arm, share)]
        return f"{np.mean(x):.4f} ({min(x):.4f} to {max(x):.4f}; {len(x)})" if x else "-"

    print("Cost on held-out links, expected ln S and", penalty, "for its chance of being infeasible: mean (least to most; seeds)\n")
    print("| arm |", " | ".join(f"{s:.0%} of links" for s in shares), "|\n|---|" + "--:|" * len(shares))
    for arm in arms:
        print("|", arm, "|", " | ".join(cell(arm, s, lambda r: cost(r["judged"]["score"], penalty)) for s in shares), "|")
    print("\nThe same under the five other goals, less what it is when the text names the score's goal: what being told is worth\n")
    print("| arm | share |", " | ".join(TOLD[:-1]), "|\n|---|--:|" + "--:|" * (len(TOLD) - 1))
    for arm in arms:
        for share in shares:
            worth = lambda r, told: np.mean([cost(g[told], penalty) - cost(g["not told"], penalty) for name, g in r["judged"].items() if name not in ("score", "balanced")])  # noqa: E731
            print("|", arm, "|", f"{share:.0%}", "|", " | ".join(cell(arm, share, lambda r, t=t: worth(r, t)) for t in TOLD[:-1]), "|")


def main():
    if "--report" in sys.argv:
        parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
        parser.add_argument("--report", type=Path, nargs="+")
        parser.add_argument("--penalty", type=float, default=0.15)
        args = parser.parse_args()
        return report(args.report, args.penalty)
    import teacher

    parser = teacher.arguments()
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[a for a in ARMS if a != "tiny"])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.01, 0.1, 1.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--updates", type=int, default=600)
    parser.add_argument("--part", default="0/1", help="I/N: of the runs every N-th from the I-th on")
    parser.set_defaults(held_out=0.1, batch=64)
    return train(parser.parse_args())


if __name__ == "__main__":
    main()
