#!/usr/bin/env python3
"""Gives a model file a head that says what its own run lacks of DualPI2's utilisation, and makes it more careful by that.

    shortfall.py MODEL.onnx OUT.onnx RUNS.npz... [--over POINTS] [--per-point LOGITS] [--most LOGITS] [--idle POINTS] [--seed N]

Labels are of constants that are held, and a bound of feasibility is one of utilisation: DualPI2's less a point. A policy that moves its knobs
near that bound passes it by tenths of a point, and sees no more than that the link idles; whether DualPI2 would have left as much unused the
features must tell. RUNS are files of own_runs.py: MEMBERS small networks, each of other runs, learn the shortfall of the run from its states.
In the graph P(feasible) of all candidates but the first falls by --per-point logits for each point that is lacking over --over, --most at most.
What is lacking is no more than what idled over 16 s; from --idle less 1 to --idle points of that the rule fades out: there a careful setting
is no cure (LOG.md). In the first seconds of a link, of which RUNS have no states, and after its rate changed, what idled says nothing of the setting: there is no rule then.
Scores and the distance stay what they were.
"""

import argparse
import base64
import json
import sys
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import feed_forward
import onnx_file
import own_runs

OVER, PER_POINT, MOST, IDLE = 0.5, 5.0, 4.0, 4.0
# What is learned: points that are lacking within these; what lies beyond them would rule the fit.
LEAST_POINTS, MOST_POINTS = -1.0, 3.0
# Features count within so many deviations.
CLIP = 4.0
MEMBERS, WIDTH, DECAY, EPOCHS, BATCH = 5, 32, 0.3, 15, 256
# Of the runs, what a member learns of.
SHARE = 0.8
LONGEST, AGE = "idle.mean_16s", "rate_age"
KEY = "shortfall"


def load(files, schema):
    """States, their run, and what each run lacks, of several files of own_runs.py; runs are numbered through."""
    features, run, lacks = [], [], []
    for file in files:
        with np.load(file) as data:
            if str(data["schema"]) != schema:
                raise SystemExit(f"{file}: made for schema {data['schema']}, this is {schema}; run own_runs.py again")
            features.append(data["features"])
            run.append(data["run"] + sum(len(x) for x in lacks))
            lacks.append(data["shortfall"])
    return np.concatenate(features), np.concatenate(run), np.concatenate(lacks)


class Head:
    """The members' mean, of `columns` of the features."""

    def __init__(self, features, run, lacks, columns, seed=0):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor

        seen = features[:, columns].astype(np.float64)
        self.columns, self.mean, self.deviation = columns, seen.mean(0), seen.std(0) + 1e-6
        seen, points = self.normalised(features), np.clip(lacks, LEAST_POINTS, MOST_POINTS)[run]
        made, blind, count = [], np.zeros(len(run)), np.zeros(len(run))
        for member in range(seed, seed + MEMBERS):
            learns = (np.random.default_rng(member).random(len(lacks)) < SHARE)[run]
            net = MLPRegressor(hidden_layer_sizes=(WIDTH,), alpha=DECAY, max_iter=EPOCHS, batch_size=BATCH, random_state=member)
            with warnings.catch_warnings():
                # That it has not converged is meant: it would learn the runs by heart.
                warnings.simplefilter("ignore", ConvergenceWarning)
                made.append(net.fit(seen[learns], points[learns]))
            blind[~learns] += net.predict(seen[~learns])
            count[~learns] += 1
        self.hidden = np.concatenate([m.coefs_[0] for m in made], 1), np.concatenate([m.intercepts_[0] for m in made])
        self.out = np.concatenate([m.coefs_[1] for m in made]) / MEMBERS, np.mean([m.intercepts_[1] for m in made], 0)
        # Of states by the members that did not learn of their runs.
        told = count > 0
        self.blind = told, np.where(told, blind / np.maximum(count, 1), 0)

    def normalised(self, features):
        return np.clip((features[:, self.columns] - self.mean) / self.deviation, -CLIP, CLIP).astype(np.float32)

    def __call__(self, features):
        return (np.maximum(self.normalised(features) @ self.hidden[0] + self.hidden[1], 0) @ self.out[0] + self.out[1])[:, 0]


def judged(head, run, lacks, over):
    """What the members say of runs that they did not learn of, in words."""
    of, said = head.blind
    points, said = np.clip(lacks, LEAST_POINTS, MOST_POINTS)[run][of], said[of]
    known = 1 - np.mean((points - said) ** 2) / max(points.var(), 1e-9)
    text = f"{len(run)} states of {len(lacks)} runs; of runs not learned of: R2 {known:.2f}, over {over:g} points for {np.mean(said > over):.0%}"
    broken = points > 1
    return f"{text}, for {np.mean(said[broken] > over):.0%} of those of runs that lack more than 1" if broken.any() else f"{text}; no run lacks more than 1"


def add(graph, names, count, head, over, per_point, most, idle):
    """The head and the rule behind the output `feasible` of `graph`, which has `count` candidates."""
    others = np.ones((1, count))
    others[0, 0] = 0
    floats = {
        "mean": head.mean[None],
        "deviation": head.deviation[None],
        "lowest": -CLIP,
        "highest": CLIP,
        "hidden": head.hidden[0],
        "hidden_bias": head.hidden[1],
        "out": head.out[0],
        "out_bias": head.out[1],
        "unit": 100 * feed_forward.signal_of(LONGEST).scale,
        "second": feed_forward.signal_of(AGE).scale,
        "settled": own_runs.WARM_S,
        "over": over,
        "per_point": per_point,
        "most": most,
        "idle": idle,
        "others": others,
        "none": 0.0,
        "one": 1.0,
    }
    places = {"columns": head.columns, "longest": [names.index(LONGEST)], "age_at": [names.index(AGE)]}
    held = {n: np.array(v, np.int64) for n, v in places.items()} | {n: np.array(v, np.float32) for n, v in floats.items()}
    steps = [
        ("Gather", ["features", ".columns"], ".seen"),
        ("Sub", [".seen", ".mean"], ".centred"),
        ("Div", [".centred", ".deviation"], ".scaled"),
        ("Clip", [".scaled", ".lowest", ".highest"], ".clipped"),
        ("Gemm", [".clipped", ".hidden", ".hidden_bias"], ".sum"),
        ("Relu", [".sum"], ".units"),
        ("Gemm", [".units", ".out", ".out_bias"], ".head"),
        ("Gather", ["features", ".longest"], ".normalised"),
        ("Exp", [".normalised"], ".grown"),
        ("Sub", [".grown", ".one"], ".of_unit"),
        ("Mul", [".of_unit", ".unit"], ".idles"),
        ("Min", [".head", ".idles"], ".lacks"),
        ("Sub", [".lacks", ".over"], ".beyond"),
        ("Mul", [".beyond", ".per_point"], ".logits"),
        ("Clip", [".logits", ".none", ".most"], ".careful"),
        ("Sub", [".idle", ".idles"], ".left"),
        ("Clip", [".left", ".none", ".one"], ".counts"),
        ("Mul", [".careful", ".counts"], ".counted"),
        ("Gather", ["features", ".age_at"], ".age"),
        ("Exp", [".age"], ".older"),
        ("Sub", [".older", ".one"], ".of_second"),
        ("Mul", [".of_second", ".second"], ".seconds"),
        ("Sub", [".seconds", ".settled"], ".since"),
        ("Clip", [".since", ".none", ".one"], ".is_settled"),
        ("Mul", [".counted", ".is_settled"], ".by"),
        ("Mul", [".by", ".others"], ".less"),
        ("Sub", ["feasible_as_labelled", ".less"], "feasible"),
    ]
    onnx_file.behind_feasible(graph, KEY, "feasible_as_labelled", held, steps)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--over", type=float, default=OVER, help="points of utilisation")
    parser.add_argument("--per-point", type=float, default=PER_POINT)
    parser.add_argument("--most", type=float, default=MOST)
    parser.add_argument("--idle", type=float, default=IDLE, help="points of the capacity, over 16 s, from which the rule is out of force")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    from l4sd_gym import FEATURES, SCHEMA_HASH

    names = list(FEATURES)
    model, told = onnx_file.load(args.model)
    if KEY in told:
        raise SystemExit(f"{args.model}: it has the head already; give the file that it was made from")
    if (inputs := [i.name for i in model.graph.input]) != ["features"]:
        raise SystemExit(f"{args.model}: it reads {', '.join(inputs)}; the head is for a model of features alone")
    features, run, lacks = load(args.runs, SCHEMA_HASH)
    if len(run) < 2 * BATCH:
        raise SystemExit(f"{len(run)} states in {len(args.runs)} file(s) are too few; own_runs.py with more links (no --smoke)")
    columns = [i for i, name in enumerate(names) if ".raw_" not in name]
    head = Head(features, run, lacks, columns, args.seed)
    print(judged(head, run, lacks, args.over))
    candidates = json.loads(told["l4sd.candidates"])
    add(model.graph, names, len(candidates), head, args.over, args.per_point, args.most, args.idle)
    golden = np.frombuffer(base64.b64decode(told.pop("l4sd.golden_in")), "<f4").reshape(-1, len(names))
    del told["l4sd.golden_out"], model.metadata_props[:]
    note = f"{args.per_point:g} logits a point over {args.over:g}, {args.most:g} at most, while idle under {args.idle:g} %; of {len(lacks)} own runs"
    onnx_file.finish(args.out, model, told | {KEY: note}, golden)


if __name__ == "__main__":
    main()
