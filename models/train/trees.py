#!/usr/bin/env python3
"""Boosted trees as a policy: value and feasibility of candidate settings from the features, written as a model file.

    trees.py ORACLE_DIR OUT.onnx STATES.npz... [--threshold P] [--hysteresis X] [--dagger N]

Trained on links of train; each round of --dagger runs the policy on them and adds the states that it comes to. The labels stay: what a
setting is worth on a link, or in a phase of it, does not depend on the state. Judge it with `l4sd eval --policy model:OUT.onnx`.
"""

import argparse
import sys
import tomllib
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import collect
import values

TREES = dict(num_leaves=31, learning_rate=0.08, min_data_in_leaf=200, feature_fraction=0.4, bagging_fraction=0.7, bagging_freq=1, lambda_l2=5.0, verbose=-1, num_threads=2)
CLIP = 0.01


class Labels:
    """What candidates are worth, a row for each phase of each link, and a row for a link without phases. `slack` as in values.table;
    `like` are labels of the same records under another one, which spares most of the work.

    `value` and `chance` are (rows, candidates); a chance is that of being feasible in the phase and in the next one too.
    """

    def __init__(self, records, slack=None, like=None):
        self.spread, self.known = (like.spread, like.known) if like else (values.noise(records), [values.known(r) for r in records])
        tables = [values.table(r, self.spread, slack, told) for r, told in zip(records, self.known, strict=True)]
        self.value = np.concatenate([v for v, _ in tables])
        self.chance = np.concatenate([np.minimum(c, np.concatenate([c[1:], c[-1:]])) for _, c in tables])
        self.count = np.array([len(v) for v, _ in tables])
        self.first = np.cumsum(self.count) - self.count
        self.begins = [[float(p["at"].removesuffix("ms")) / 1e3 for p in tomllib.loads(r["scenario"]).get("phase", [])] for r in records]

    def rows(self, link, time):
        """Rows of states by link and time. The first phase is the warm-up and is not judged."""
        link, time = np.asarray(link), np.asarray(time)
        row = self.first[link]
        for k in np.unique(link[self.count[link] > 1]):
            here = link == k
            row[here] += np.clip(np.searchsorted(self.begins[k], time[here], side="right") - 2, 0, self.count[k] - 1)
        return row


def labels(records, link, time, slack=None):
    """Values and chances of each state: of the phase that it is in, and feasible in the next one too."""
    table = Labels(records, slack)
    row = table.rows(link, time)
    return table.value[row], table.chance[row]


def rows():
    """What the trees know of a candidate."""
    return np.array(values.CANDIDATES, np.float32)


def fit(features, columns, v, c, rng, per_state, rounds):
    """LightGBM models of ln S and of the logit of feasibility."""
    import lightgbm

    n = len(features)
    state = np.repeat(np.arange(n), per_state)
    candidate = rng.integers(1, len(values.CANDIDATES), size=len(state))
    y, p = v[state, candidate], c[state, candidate]
    known = ~np.isnan(y)
    state, candidate, y, p = state[known], candidate[known], y[known], p[known]
    x = np.concatenate([features[state][:, columns], rows()[candidate]], axis=1)
    value = lightgbm.train(TREES | {"objective": "huber", "alpha": 0.5, "boost_from_average": False}, lightgbm.Dataset(x, y), rounds)
    chance = lightgbm.train(TREES | {"objective": "cross_entropy", "boost_from_average": False}, lightgbm.Dataset(x, np.clip(p, CLIP, 1 - CLIP)), rounds)
    return value, chance


def rule(answers, threshold, hysteresis):
    """The rule of docs/model.md for many links at once; `answers(x)` gives score and logit of being feasible of each candidate."""
    from l4sd_gym import rules

    return lambda x, current, who=None, time=None: rules.choose(*answers(x), current, threshold, hysteresis)


def chooser(models, columns, threshold, hysteresis):
    """The rule with what two LightGBM models say."""
    table = rows()

    def answers(x):
        n, k = len(x), len(table)
        both = np.concatenate([np.repeat(x[:, columns], k, axis=0), np.tile(table, (n, 1))], axis=1)
        value, logit = (m.predict(both, raw_score=True).reshape(n, k) for m in models)
        return values.gain(value, 1 / (1 + np.exp(-logit))), logit

    return rule(answers, threshold, hysteresis)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("oracle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("states", type=Path, nargs="+")
    parser.add_argument("--threshold", type=float, default=0.6)
    parser.add_argument("--hysteresis", type=float, default=0.05)
    parser.add_argument("--dagger", type=int, default=1)
    parser.add_argument("--links", type=int)
    parser.add_argument("--rounds", type=int, default=250)
    parser.add_argument("--per-state", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    import l4sd_gym
    import onnx_file

    records = values.records(args.oracle, "train")[: args.links]
    parts = collect.load(args.states, records, l4sd_gym.SCHEMA_HASH)
    columns = [i for i, name in enumerate(l4sd_gym.FEATURES) if ".raw_" not in name and not name.startswith("knob_feed")]
    rng = np.random.default_rng(args.seed)
    for step in range(args.dagger + 1):
        features, link, time = (np.concatenate(x) for x in zip(*parts, strict=True))
        v, c = labels(records, link, time)
        models = fit(features, columns, v, c, rng, args.per_state, args.rounds)
        print(f"round {step}: {len(features)} states", flush=True)
        if step < args.dagger:
            choose = chooser(models, columns, args.threshold, args.hysteresis)
            parts.append(collect.gather(records, 1000 * (args.seed + step) + 7, 2, choose))
    nodes, inits, count = onnx_file.trees(models, columns, rows())
    golden = features[rng.choice(len(features), 4, replace=False)]
    metadata = {"l4sd.period_s": 0.128, "l4sd.threshold": args.threshold, "l4sd.hysteresis": args.hysteresis, "kind": "boosted trees (LightGBM), no language model", "states": len(features), "links": len(records), "dagger_rounds": args.dagger}
    session = onnx_file.write(args.out, nodes, inits, count, features.shape[1], metadata, golden)
    both = np.concatenate([np.repeat(golden[:1][:, columns], count, axis=0), rows()], axis=1)
    graph = session.run(["feasible"], {"features": golden[:1]})[0][0]
    print("largest difference between LightGBM and the graph:", float(np.abs(models[1].predict(both, raw_score=True) - graph).max()))


if __name__ == "__main__":
    main()
