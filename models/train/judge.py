#!/usr/bin/env python3
"""A teacher in closed loop, by the runs and the verdict of `l4sd eval`: judge.py TEACHER.safetensors OUT_DIR [--split dev] [--seeds 3]

It reads a text that says only the goal of the score, or --text. Leaves results-TEACHER.json.gz in OUT_DIR, without the runs, and prints S and the feasible share.
"""

import argparse
import gzip
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import context
import teacher


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("teacher", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--grid", action="append", default=[])
    parser.add_argument("--split", default="dev", choices=("train", "dev"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--at-once", type=int, default=512)
    parser.add_argument("--text", help="what it reads; the goal of the score alone, or nothing if it was trained without texts")
    parser.add_argument("--threshold", type=float, default=teacher.THRESHOLD)
    parser.add_argument("--hysteresis", type=float, default=teacher.HYSTERESIS)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    from l4sd_gym.evaluation import closed_loop

    begin = time.monotonic()
    net, saved = teacher.load(args.teacher, args.device, args.weights)
    text = args.text if args.text is not None else "" if saved["text"] == "none" else context.neutral()
    policy = teacher.Memory(net.settled(), text, args.device, args.threshold, args.hysteresis)
    args.out.mkdir(parents=True, exist_ok=True)

    def choose(ids, features, current, time_s):
        policy.only(ids)
        return policy.follow(features, current, ids, time_s)

    more = {"smoke": True} if args.smoke else {}
    results = closed_loop(choose, args.grid, split=args.split, seeds=args.seeds, name="teacher", at_once=args.at_once, out=args.out, **more)
    kept = {k: v for k, v in results.items() if k != "runs"}
    with gzip.open(args.out / f"results-{args.teacher.stem}.json.gz", "wt") as file:
        json.dump(kept, file)
    print(f"{args.teacher}: {policy.calls} calls, {time.monotonic() - begin:.0f} s")
    for row in results["summary"]:
        if row["scope"] in ("overall", "grid") and row["against"] == "dualpi2":
            s, share = row["s_score"], row["feasible_share"]
            print(f"{row['name'] or row['scope']:10} {row['policy']:8} {row['role']:10} S {s['value']:.3f} ({s['lo']:.3f} to {s['hi']:.3f}), feasible {share['value']:.0%}")


if __name__ == "__main__":
    main()
