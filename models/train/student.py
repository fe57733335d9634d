#!/usr/bin/env python3
"""A student without a language model: a small network for value and feasibility of candidate settings, written as a model file.

    student.py ORACLE_DIR OUT.onnx STATES.npz... [--kind transformer|gru|mlp] [--threshold P] [--dagger N]

Trained on links of train with the labels of the boosted trees (values.py, trees.labels) and on one thing more: what the choice costs.
With `score` as a policy over candidates, softmax(-score / TAU), the loss has the expected ln S of what is chosen, and PENALTY for
its probability of being infeasible. Rounds of --dagger run the policy on the links and add the states that it comes to.
Judge it with `l4sd eval --policy model:OUT.onnx`.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))
import collect
import networks
import onnx_file
import replay
import trees
import values
import weights_file

TAU = 0.03
CHOICE = 3.0
# In ln S: what an infeasible cell costs beyond that it counts as 1.
PENALTY = 0.15
BATCH = 256
# Spread below which a feature is taken as constant.
LEAST_DEVIATION = 0.05


def loss_of(val, logit, value, chance, known, cost):
    """Of value and logit of all candidates against the labels, and of the choice that the score implies; all (batch, candidates).
    A row of which no candidate is known does not count."""
    count = known.sum().clamp(min=1)
    loss = (4 * F.huber_loss(val, value, delta=0.5, reduction="none") + F.binary_cross_entropy_with_logits(logit, chance, reduction="none")).mul(known).sum() / count
    score = networks.expected(val, logit)
    policy = torch.softmax((-score / TAU).masked_fill(~known, -1e9), -1)
    there = known.any(-1)
    return loss + CHOICE * (policy * cost).sum(-1).mul(there).sum() / there.sum().clamp(min=1)


def targets(v, c, penalty, device):
    """Labels as tensors for `loss_of`: value, chance, known, cost."""
    value, chance = (torch.as_tensor(np.nan_to_num(a).astype(np.float32)) for a in (v, c))
    cost = torch.as_tensor(np.nan_to_num(values.gain(v, c) + penalty * (1 - c)).astype(np.float32))
    return [a.to(device) for a in (value.clamp(-3, 2), chance.clamp(0.005, 0.995), torch.as_tensor(~np.isnan(v)), cost)]


def optimise(net, count, loss_at, args, device, batch=BATCH):
    """Lowers `loss_at(places)` over `args.epochs` passes through `count` states; returns the mean of the last hundredth."""
    steps = max(args.epochs * (count // batch), 1)
    optimizer = replay.adamw([(list(net.parameters()), args.rate)], device)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.rate, total_steps=steps + 1, pct_start=0.15, cycle_momentum=False)
    step = replay.Step(loss_at, optimizer)
    net.train()
    losses = []
    for _ in range(args.epochs):
        for at in torch.randperm(count, device=device).split(batch):
            if len(at) < batch and count >= batch:
                continue
            losses.append(step(at))
            schedule.step()
    net.eval()
    return float(torch.stack(losses[-max(len(losses) // 100, 1) :]).mean())


def train(net, features, v, c, args, device):
    """Fits `net` to labels; returns the mean loss at the end."""
    x = torch.as_tensor(np.asarray(features, np.float32)).to(device)
    labels = targets(v, c, args.penalty, device)
    return optimise(net, len(x), lambda at: loss_of(*net.heads(x[at]), *(a[at] for a in labels)), args, device)


def answers(net, x):
    """Score and logit of being feasible for many states, as arrays."""
    device = next(net.parameters()).device
    with torch.no_grad():
        score, logit = net(torch.as_tensor(x).to(device))
    return score.cpu().numpy(), logit.cpu().numpy()


def familiar(features, names):
    """Mahalanobis distance over the slow features, as weights of a graph: |(x - mean) W|, and its limit."""
    slow = [i for i, n in enumerate(names) if ".raw_" not in n and not n.startswith("knob_")]
    x = features[:, slow].astype(np.float64)
    mean, deviation = x.mean(0), np.maximum(x.std(0), LEAST_DEVIATION)
    z = (x - mean) / deviation
    # Directions in which the data hardly vary count as if they varied a little: the guard is for other worlds, not for noise.
    eigen, vectors = np.linalg.eigh(z.T @ z / len(z))
    weights = np.zeros((features.shape[1], len(slow)))
    weights[slow] = vectors / np.sqrt(eigen + 0.05) / deviation[:, None]
    bias = -mean / deviation @ (vectors / np.sqrt(eigen + 0.05))
    distance = np.sqrt(((features @ weights + bias) ** 2).mean(1))
    return weights.astype(np.float32), bias.astype(np.float32), distance


class Exported(torch.nn.Module):
    """What goes into the model file: score, feasible, distance."""

    def __init__(self, net, weights, bias, judge=None):
        super().__init__()
        self.net, self.judge = net, judge
        self.register_buffer("weights", torch.as_tensor(weights))
        self.register_buffer("bias", torch.as_tensor(bias))

    def forward(self, features, *context):
        score, feasible = self.net(features, *context)
        if self.judge is not None:
            feasible = self.judge(features)[1]
        far = features @ self.weights + self.bias
        return score, feasible, (far * far).mean(1, keepdim=True).sqrt()


def export(net, path, features, names, metadata, golden, judge=None):
    """Writes the model file, its distance made from `features`."""
    weights, bias, distance = familiar(features, names)
    module = Exported(net.cpu().eval(), weights, bias, None if judge is None else judge.cpu().eval()).eval()
    limit = 1.5 * float(distance.max())
    onnx_file.from_torch(path, module, golden, {"l4sd.distance_limit": f"{limit:.4g}"} | metadata)
    return limit


def save(path, net, kind, features, metadata, golden):
    """Writes a student's weights with what export.py and rl.py need: some states, the metadata of its model file, golden inputs."""
    tensors = {f"net.{n}": v for n, v in net.state_dict().items()}
    weights_file.save(path, tensors | {"features": np.asarray(features), "golden": np.asarray(golden, np.float32)}, {"kind": kind, "metadata": metadata})


def load(file, names, device):
    """The student that `student.py --save` or distill.py wrote, and what came with it."""
    if weights_file.is_torch(file):
        saved = weights_file.load_torch(file)
    else:
        tensors, saved = weights_file.load(file)
        saved["net"] = {n.removeprefix("net."): v for n, v in tensors.items() if n.startswith("net.")}
        saved |= {n: tensors[n].numpy() for n in ("features", "golden")}
    net = networks.Student(saved["kind"], names, saved["net"]["reader.mean"].numpy(), 1 / saved["net"]["reader.scale"].numpy(), values.CANDIDATES, dropout=0.0)
    net.load_state_dict(saved["net"])
    return net.to(device).eval(), saved


def build(kind, names, features, args):
    """A network that knows the spread of `features`."""
    mean, deviation = features.mean(0), np.maximum(features.std(0), LEAST_DEVIATION)
    return networks.Student(kind, names, mean, deviation, values.CANDIDATES, dropout=args.dropout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("oracle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("states", type=Path, nargs="+")
    parser.add_argument("--kind", choices=networks.KINDS, default="transformer")
    parser.add_argument("--threshold", type=float, default=0.6)
    parser.add_argument("--hysteresis", type=float, default=0.05)
    parser.add_argument("--penalty", type=float, default=PENALTY)
    parser.add_argument("--dagger", type=int, default=2)
    parser.add_argument("--links", type=int)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--states-out", type=Path, help="all states, those of the rounds too")
    parser.add_argument("--save", type=Path, help="weights and states for rl.py, as safetensors")
    args = parser.parse_args()
    import l4sd_gym

    torch.set_num_threads(args.threads)
    names = list(l4sd_gym.FEATURES)
    records = values.records(args.oracle, "train")[: args.links]
    parts = collect.load(args.states, records, l4sd_gym.SCHEMA_HASH)
    for step in range(args.dagger + 1):
        begin = time.monotonic()
        torch.manual_seed(args.seed + 100 * step)
        features, link, at = (np.concatenate(x) for x in zip(*parts, strict=True))
        v, c = trees.labels(records, link, at)
        net = build(args.kind, names, features, args).to(args.device)
        loss = train(net, features, v, c, args, args.device)
        print(f"round {step}: {len(features)} states, loss {loss:.4f}, {time.monotonic() - begin:.0f} s", flush=True)
        if step < args.dagger:
            choose = trees.rule(lambda x, net=net: answers(net, x), args.threshold, args.hysteresis)
            parts.append(collect.gather(records, 1000 * (args.seed + step) + 7, args.threads, choose, batch=max(48, 10 * args.threads)))
    if args.states_out:
        np.savez(args.states_out, features=features, link=link, time=at, schema=l4sd_gym.SCHEMA_HASH)
    rng = np.random.default_rng(args.seed)
    golden = features[rng.choice(len(features), 4, replace=False)]
    metadata = {
        "l4sd.period_s": 0.128,
        "l4sd.threshold": args.threshold,
        "l4sd.hysteresis": args.hysteresis,
        "kind": f"{args.kind}, no language model",
        "parameters": sum(p.numel() for p in net.parameters()),
        "states": len(features),
        "links": len(records),
        "dagger_rounds": args.dagger,
        "seed": args.seed,
    }
    if args.save:
        save(args.save, net, args.kind, features[rng.choice(len(features), min(4000, len(features)), replace=False)], metadata, golden)
    limit = export(net, args.out, features, names, metadata, golden)
    print(f"{args.out}: distance limit {limit:.3g}")


if __name__ == "__main__":
    main()
