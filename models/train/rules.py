#!/usr/bin/env python3
"""A small decision tree whose leaves are settings, fitted to what the oracle found: the policy dualpi2-rules.

    rules.py ORACLE_DIR OUT.toml STATES.npz... [--doc docs/rules.md] [--infeasible X] [--chance P] [--dagger N]

Grown greedily, the best split first, for the mean over links of: expected ln S of the leaf's setting (values.gain), plus X times the
probability that it is infeasible. A leaf may have a setting only if its mean chance of being feasible there is P or more; RFC 9332's
constants always. Thresholds are in the units of the schema's signals, with two digits. Each round of --dagger runs the tree on
the links of train and adds the states that it comes to. Judge it with `l4sd eval --policy dualpi2-rules:OUT.toml`.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import collect
import trees
import values

PERIOD_S, HOLD_S = 0.128, 0.5
QUANTILES = 40
UNITS = {
    "s": [(1, "s"), (1e-3, "ms"), (1e-6, "us")],
    "bit/s": [(1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1, "bit/s")],
    "B": [(1e3, "kB"), (1, "B")],
    "1/s": [(1, "/s")],
    "1": [(1, "")],
}


def physical(signal, y):
    """The value of a signal that Signal::normalise makes `y` of. Only thresholds are found with it; the program normalises those."""
    y = np.asarray(y, float)
    undo = {"linear": lambda: y, "log1p": lambda: np.sign(y) * np.expm1(np.abs(y)), "ln": lambda: np.exp(y)}
    return undo[signal.norm]() * signal.scale


class Feature:
    """A column that a person can read: a value that is an average already, or a mean over 4 or 16 s."""

    def __init__(self, schema, name):
        self.column = schema.names.index(name)
        base, _, of = name.partition(".")
        self.signal = next(s for s in schema.signals if s.name == base)
        self.text = base + (f" mean over {of.removeprefix('mean_').removesuffix('s')} s" if of else "")

    def values(self, features):
        return physical(self.signal, features[:, self.column])

    def threshold(self, x):
        for factor, unit in UNITS[self.signal.unit]:
            if abs(x) >= factor * (1 - 1e-9):
                break
        return f"{float(f'{x / factor:.2g}'):g} {unit}".rstrip()


def readable(schema):
    names = []
    for s in schema.signals:
        if s.name == "dt" or s.name.startswith("knob_"):
            continue
        names += [f"{s.name}.mean_{h:g}s" for h in s.over_s if h >= 4] or [s.name]
        if s.over_s == (16.0,):
            names.append(s.name)
    return [Feature(schema, name) for name in names]


class Node:
    """A leaf with the candidate `setting`, or a split with `below` and `otherwise`."""

    def __init__(self, rows, depth):
        self.rows, self.depth, self.split = rows, depth, None


def grow(features, found, cost, chance, weight, options):
    """The tree over the columns `found`, for states of these costs and chances of the candidates."""
    bins = []
    for f in found:
        x = f.values(features)
        order = np.argsort(x, kind="stable")
        at = np.searchsorted(np.cumsum(weight[order]), np.arange(1, QUANTILES) / QUANTILES * weight.sum())
        cuts = np.array(sorted({float(f"{x[order[min(i, len(x) - 1)]]:.2g}") for i in at}))
        cuts = cuts[(cuts > x.min()) & (cuts <= x.max())]
        bins.append((cuts, np.searchsorted(cuts, x, side="right")))
    weighed = np.concatenate([cost * weight[:, None], chance * weight[:, None], weight[:, None]], axis=1)
    k = cost.shape[1]

    def best(sums):
        """Cost and place of the best setting that is eligible."""
        allowed = sums[..., k:-1] >= options.chance * sums[..., -1:]
        allowed[..., 0] = True
        masked = np.where(allowed, sums[..., :k], np.inf)
        return masked.min(-1), masked.argmin(-1)

    def leaf(rows, depth):
        n, part = Node(rows, depth), weighed[rows]
        total = part.sum(0)
        n.cost, n.setting = best(total)
        n.saves = 0.0
        for i, (cuts, of) in enumerate(bins if depth < options.depth else []):
            order = np.argsort(of[rows], kind="stable")
            ends = np.searchsorted(of[rows][order], np.arange(len(cuts)), side="right")
            left = np.concatenate([np.zeros((1, part.shape[1])), np.cumsum(part[order], 0)])[ends]
            fit = (left[:, -1] >= options.least) & (total[-1] - left[:, -1] >= options.least)
            if fit.any():
                both = np.where(fit, best(left)[0] + best(total - left)[0], np.inf)
                if n.cost - both.min() > n.saves + 1e-9:
                    n.saves, n.found = n.cost - both.min(), (i, int(both.argmin()))
        return n

    root = leaf(np.arange(len(features)), 0)
    leaves = [root]
    while len(leaves) < options.leaves:
        n = max(leaves, key=lambda n: n.saves)
        if n.saves <= 0:
            break
        i, cut = n.found
        below = bins[i][1][n.rows] <= cut
        n.split = (found[i], float(bins[i][0][cut]))
        n.below, n.otherwise = leaf(n.rows[below], n.depth + 1), leaf(n.rows[~below], n.depth + 1)
        leaves.remove(n)
        leaves += [n.below, n.otherwise]
    merge(root)
    return root


def merge(n):
    """Splits whose sides have the same setting say nothing."""
    if n.split:
        merge(n.below)
        merge(n.otherwise)
        if n.below.split is None and n.otherwise.split is None and n.below.setting == n.otherwise.setting:
            n.setting, n.split = n.below.setting, None


def settings(node, features):
    """The candidate that the tree wants in each state."""
    out = np.zeros(len(features), int)

    def go(n, rows):
        if n.split is None:
            out[rows] = n.setting
            return
        feature, cut = n.split
        below = feature.values(features[rows]) < cut
        go(n.below, rows[below])
        go(n.otherwise, rows[~below])

    go(node, np.arange(len(features)))
    return out


def policy(root):
    """The tree as collect.episodes asks a policy."""
    return lambda x, current, who=None, time=None: settings(root, x)


def text(n, knobs, level=0):
    """As src/control/policy/rules/tree.rs reads it."""
    pad = "    " * level
    if n.split:
        feature, cut = n.split
        parts = text(n.below, knobs, level + 1), text(n.otherwise, knobs, level + 1)
        return f"{pad}if {feature.text} < {feature.threshold(cut)}:\n{parts[0]}{pad}else:\n{parts[1]}"
    target, gain, ramp = (k.values[b] for k, b in zip(knobs, values.CANDIDATES[n.setting], strict=False))
    return f"{pad}target {target * 1e3:.3g} ms, gain {gain:g}, ramp {ramp * 1e3:.3g} ms\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("oracle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("states", type=Path, nargs="+")
    parser.add_argument("--doc", type=Path, help="a page whose ```text block is replaced with the tree")
    parser.add_argument("--infeasible", type=float, default=0.8)
    parser.add_argument("--chance", type=float, default=0.0)
    parser.add_argument("--leaves", type=int, default=20)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--least", type=float, default=8.0, help="links in a leaf, at least")
    parser.add_argument("--dagger", type=int, default=1)
    parser.add_argument("--links", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", type=Path, help="write all states there")
    options = parser.parse_args()
    import l4sd_gym
    from l4sd_gym.schema import Schema

    schema = Schema.load(sha256=l4sd_gym.SCHEMA_HASH)
    records = values.records(options.oracle, "train")[: options.links]
    parts = collect.load(options.states, records, schema.hash)
    found = readable(schema)
    for step in range(options.dagger + 1):
        features, link, time = (np.concatenate(x) for x in zip(*parts, strict=True))
        v, c = trees.labels(records, link, time)
        gain = values.gain(v, c)
        weight = 1 / np.bincount(link)[link]
        root = grow(features, found, gain + options.infeasible * (1 - c), c, weight, options)
        at = np.arange(len(link)), settings(root, features)
        s, chance = math.exp(np.average(gain[at], weights=weight)), np.average(c[at], weights=weight)
        told = f"round {step}: {len(link)} states of {len(records)} links; on them, expected S {s:.3f}, chance of feasible {chance:.3f}"
        print(told, flush=True)
        if step < options.dagger:
            parts.append(collect.gather(records, 1000 * (options.seed + step) + 7, 2, policy(root)))
    if options.save:
        np.savez_compressed(options.save, features=features, link=link, time=time, schema=schema.hash)
    tree = text(root, schema.knobs)
    how = f"infeasible {options.infeasible:g}, chance {options.chance:g}, least {options.least:g}, seed {options.seed}"
    options.out.write_text(
        "# The tree of dualpi2-rules, made by models/train/rules.py; docs/rules.md explains it. It may be edited by hand.\n"
        f"# {told}; {how}.\n"
        f'version = 1\nschema = "{schema.hash}"\n# The tree is asked this often, and followed once it has wanted the same for hold_s.\n'
        f"period_s = {PERIOD_S}\nhold_s = {HOLD_S}\ntree = '''\n{tree}'''\n"
    )
    if options.doc:
        before, _, rest = options.doc.read_text().partition("```text\n")
        options.doc.write_text(f"{before}```text\n{tree}```\n{rest.partition('```' + chr(10))[2]}")


if __name__ == "__main__":
    main()
