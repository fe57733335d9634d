#!/usr/bin/env python3
"""The teacher's answers put into a student that reads one state: what ships.

    distill.py ORACLE_DIR TEACHER.safetensors OUT.safetensors --histories FILE.npz... [--share W] [--dagger N]

The loss is that of student.py, with the teacher's value and chance as labels in a share W and the oracle's in the rest, and the divergence
of the student's choice from the teacher's, softmax(-score / TAU) each, on states of drawn settings, of other policies, of the teacher
and, after each round of --dagger, of the student itself. The teacher reads the whole history and a text that says only the goal.
--share 0 is the same student on the same states without a teacher. export.py makes a model file of what it leaves.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))
import context
import histories
import networks
import student
import teacher
import trees
import values


def answers_of(net, data, device, batch=128):
    """The teacher's value and logit at each state of `data`, in the order of `data.states()`."""
    text, words = net.padded([context.neutral()], device)
    out = []
    for rows in np.array_split(np.arange(len(data)), -(-len(data) // batch)):
        steps = int(data.length[rows].max())
        f, t = (torch.as_tensor(a[rows, :steps]).to(device) for a in (data.features, data.time))
        with torch.no_grad(), torch.autocast(device.split(":")[0], torch.bfloat16, enabled=device != "cpu"):
            hidden = net.hidden(text.expand(len(rows), -1), words.expand(len(rows)), f, t)
        there = torch.arange(steps, device=device)[None] < torch.as_tensor(data.length[rows]).to(device)[:, None]
        with torch.no_grad():
            out.append([a.cpu().numpy() for a in net.answer(hidden[there])])
    return [np.concatenate(a) for a in zip(*out, strict=True)]


def fit(net, features, own, taught, args, device):
    """`own` and `taught` are value and chance of the oracle and of the teacher, or None for no teacher; returns the mean loss at the end."""
    x = torch.as_tensor(features).to(device)
    oracle = student.targets(*own, args.penalty, device)
    if taught is not None:
        told = student.targets(*taught, args.penalty, device)
        gain = torch.as_tensor(values.gain(*taught).astype(np.float32)).to(device)

    def loss_at(at):
        val, logit = net.heads(x[at])
        loss = (1 - args.share) * student.loss_of(val, logit, *(a[at] for a in oracle))
        if taught is None:
            return loss
        own_choice, theirs = (torch.log_softmax(-score / student.TAU, -1) for score in (networks.expected(val, logit), gain[at]))
        divergence = F.kl_div(own_choice, theirs, reduction="batchmean", log_target=True)
        return loss + args.share * (student.loss_of(val, logit, *(a[at] for a in told)) + args.kl * divergence)

    return student.optimise(net, len(x), loss_at, args, device)


def options(parser):
    """What the making of a student takes, whoever its teacher is."""
    parser.add_argument("--histories", type=Path, nargs="+", required=True)
    parser.add_argument("--kind", default="transformer")
    parser.add_argument("--share", type=float, default=0.7)
    parser.add_argument("--kl", type=float, default=0.2)
    parser.add_argument("--dagger", type=int, default=1)
    parser.add_argument("--dagger-passes", type=int, default=2)
    parser.add_argument("--threshold", type=float, default=teacher.THRESHOLD)
    parser.add_argument("--hysteresis", type=float, default=teacher.HYSTERESIS)
    parser.add_argument("--penalty", type=float, default=student.PENALTY)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--links", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")


def make(args, answers, said):
    """Trains a student in rounds and saves it. `answers(data)` is the teacher's value and logit at each state of some histories, or None for
    no teacher; `said` goes into the metadata of its model file."""
    import l4sd_gym

    torch.set_num_threads(args.threads)
    records = values.records(args.oracle, "train")[: args.links]
    data = histories.load_all(args.histories, len(records), len(l4sd_gym.FEATURES))
    parts = []
    for step in range(args.dagger + 1):
        begin = time.monotonic()
        places = data.states()
        features = data.features[places].astype(np.float32)
        own = trees.labels(records, data.link[places[0]], data.time[places])
        taught = None
        if answers is not None:
            value, logit = answers(data)
            taught = value.clip(-3, 2), 1 / (1 + np.exp(-logit.astype(np.float64)))
        parts.append((features, own, taught))
        features = np.concatenate([p[0] for p in parts])
        own = [np.concatenate([p[1][i] for p in parts]) for i in range(2)]
        taught = None if answers is None else [np.concatenate([p[2][i] for p in parts]) for i in range(2)]
        torch.manual_seed(args.seed + 100 * step)
        pupil = student.build(args.kind, list(l4sd_gym.FEATURES), features, args).to(args.device)
        loss = fit(pupil, features, own, taught, args, args.device)
        print(f"round {step}: {len(features)} states, loss {loss:.4f}, {time.monotonic() - begin:.0f} s", flush=True)
        if step < args.dagger:
            data = histories.Histories(features.shape[1])
            choose = trees.rule(lambda x, pupil=pupil: student.answers(pupil, x), args.threshold, args.hysteresis)
            for again in range(args.dagger_passes):
                histories.gather(data, records, 1000 * args.seed + 700 + 10 * step + again, args.threads, choose)
    rng = np.random.default_rng(args.seed)
    metadata = {
        "l4sd.period_s": 0.128,
        "l4sd.threshold": args.threshold,
        "l4sd.hysteresis": args.hysteresis,
        "kind": f"{args.kind}, {said}",
        "parameters": sum(p.numel() for p in pupil.parameters()),
        "states": len(features),
        "links": len(records),
        "share": args.share,
        "dagger_rounds": args.dagger,
        "seed": args.seed,
    }
    some = features[rng.choice(len(features), min(8000, len(features)), replace=False)].astype(np.float16)
    golden = features[rng.choice(len(features), 4, replace=False)]
    student.save(args.out, pupil, args.kind, some, metadata, golden)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("oracle", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path)
    options(parser)
    args = parser.parse_args()
    if args.share > 0:
        net = teacher.load(args.teacher, args.device, args.weights)[0].settled()
        make(args, lambda data: answers_of(net, data, args.device), f"distilled from {net.backbone.kind} language model")
    else:
        make(args, None, "no language model")


if __name__ == "__main__":
    main()
