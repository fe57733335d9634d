#!/usr/bin/env python3
"""Histories that teachers are trained on, as a file: gather.py ORACLE_DIR OUT.npz [--model FILE] [--passes N] [--seed S] [--links N]

Episodes on links of train under drawn settings and, with --model, as many under the policy of that file; what `teacher.py --histories
OUT.npz` takes up instead of simulating them itself, so that several teachers read the same. It trains nothing.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import teacher
import values


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("oracle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, help="model file whose policy half of the episodes follow")
    parser.add_argument("--passes", type=int, default=4, help="episodes on each link under drawn settings, and as many under --model")
    parser.add_argument("--links", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    import l4sd_gym

    records = values.records(args.oracle, "train")[: args.links]
    args.histories = None
    data = teacher.first_histories(records, np.arange(len(records)), args, len(l4sd_gym.FEATURES))
    data.save(args.out)
    print(f"{args.out}: {len(data)} sequences, {int(data.length.sum())} states of {len(records)} links")


if __name__ == "__main__":
    main()
