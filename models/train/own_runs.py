#!/usr/bin/env python3
"""States of a model's own runs in closed loop, and what the link's use lacked in each of DualPI2's: own_runs.py MODEL.onnx OUT.npz [GRID...]

Runs are those of `l4sd eval` with these arguments, without the feed-forward of the file. Writes features (n, width) float32, one in EVERY choices
from WARM_S on, run (n,) and time_s (n,) of each; shortfall (runs,), utilisation of DualPI2 on the same link and seed less that of the
run, in points; grid (runs,); and the schema's hash. 282 links under one seed, and DualPI2 on them, take 2 minutes on two cores.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import onnx_file

WARM_S = 8.0
# Runs do not take turns together: which of so many choices is kept is by the run's number.
EVERY = 10


class Own:
    """The policy of a model file, which notes what it sees."""

    def __init__(self, file):
        import onnxruntime

        _, told = onnx_file.load(file)
        if "l4sd.context_encoder" in told:
            raise SystemExit(f"{file}: it reads a context; this is for a model of features alone")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.names = [o.name for o in self.session.get_outputs()]
        self.candidates = json.loads(told["l4sd.candidates"])
        self.rule = float(told["l4sd.threshold"]), float(told["l4sd.hysteresis"])
        self.limit = float(told.get("l4sd.distance_limit", "inf"))
        self.links, self.asked = [], {}
        self.features, self.run, self.time_s = [], [], []

    def begin(self, links):
        self.links = list(links)

    def __call__(self, ids, features, current, time_s):
        from l4sd_gym import rules

        rows = [dict(zip(self.names, self.session.run(None, {"features": x[None]}), strict=True)) for x in features]
        score, feasible = (np.concatenate([row[name] for row in rows]) for name in ("score", "feasible"))
        far = np.array([float(row["distance"][0, 0]) if "distance" in row else 0.0 for row in rows]) > self.limit
        for i, run in enumerate(ids):
            asked = self.asked[run] = self.asked.get(run, -1) + 1
            if time_s[i] >= WARM_S and (asked + run) % EVERY == 0:
                self.features.append(features[i].copy())
                self.run.append(run)
                self.time_s.append(time_s[i])
        return np.where(far, -1, rules.choose(score, feasible, current, *self.rule))


def shortfalls(links, runs):
    """Points of utilisation that each of these runs of the model lacks of DualPI2's on the same link and seed."""
    used = {(r["grid"], r["cell"], r["policy"], r["of_seed"]): 100 * r["link"]["utilization"] for r in runs}
    return np.array([used[grid, cell, "dualpi2", seed] - used[grid, cell, "model", seed] for grid, cell, seed in links])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("grid", nargs="*")
    parser.add_argument("--split", default="train", choices=("train", "low"), help="dev and test are for judging")
    parser.add_argument("--split-seed", type=int, default=31, help="of links that labels were not made of")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    from l4sd_gym import SCHEMA_HASH
    from l4sd_gym.evaluation import closed_loop

    policy = Own(args.model)
    results = closed_loop(policy, args.grid, split=args.split, split_seed=args.split_seed, seeds=args.seeds, smoke=args.smoke, candidates=policy.candidates)
    lacks = shortfalls(policy.links, results["runs"])
    print(f"{args.out}: {len(policy.run)} states of {len(lacks)} runs, {np.mean(lacks > 1):.1%} of which lack more than 1 point of utilisation")
    np.savez_compressed(
        args.out,
        features=np.array(policy.features, np.float32),
        run=np.array(policy.run, np.int64),
        time_s=np.array(policy.time_s),
        shortfall=lacks,
        grid=np.array([grid for grid, _, _ in policy.links]),
        schema=SCHEMA_HASH,
    )


if __name__ == "__main__":
    main()
