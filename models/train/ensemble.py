#!/usr/bin/env python3
"""Several students put into one: it learns the mean of their answers.

    ensemble.py ORACLE_DIR OUT.safetensors MEMBER.safetensors... --histories FILE.npz... [--share W] [--dagger N]

Students of the same links that were drawn and trained from other seeds err apart from each other; their mean errs less, and breaks bounds
less often. It is distilled as a teacher's answers are (distill.py, and its loss), so what runs is one small network. The members do not
read histories: they answer each state alone.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import distill
import student


def mean_of(members, data, device, batch=8192):
    """Mean value and mean logit of `members` at each state of `data`, in the order of `data.states()`."""
    features = data.features[data.states()]
    out = []
    for some in np.array_split(features, -(-len(features) // batch)):
        x = torch.as_tensor(some.astype(np.float32)).to(device)
        with torch.no_grad():
            out.append([torch.stack(a).mean(0).cpu().numpy() for a in zip(*(net.heads(x) for net in members), strict=True)])
    return [np.concatenate(a) for a in zip(*out, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("oracle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("members", type=Path, nargs="+")
    distill.options(parser)
    args = parser.parse_args()
    import l4sd_gym

    names = list(l4sd_gym.FEATURES)
    members, saved = zip(*(student.load(file, names, args.device) for file in args.members), strict=True)
    kinds = sorted({str(s["metadata"]["kind"]) for s in saved})
    distill.make(args, lambda data: mean_of(members, data, args.device), f"the mean of {len(members)} students ({'; '.join(kinds)})")


if __name__ == "__main__":
    main()
