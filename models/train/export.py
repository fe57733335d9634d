#!/usr/bin/env python3
"""A model file of a student's weights, those that student.py --save or distill.py left: export.py STUDENT.safetensors OUT.onnx [--threshold P]

With --threshold a setting is eligible from this probability of being feasible on (docs/model.md), not from that of the student's own rounds.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import student


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("student", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threshold", type=float)
    args = parser.parse_args()
    import l4sd_gym

    names = list(l4sd_gym.FEATURES)
    net, saved = student.load(args.student, names, "cpu")
    metadata = saved["metadata"] | ({} if args.threshold is None else {"l4sd.threshold": args.threshold})
    limit = student.export(net, args.out, saved["features"].astype("float32"), names, metadata, saved["golden"])
    print(f"{args.out}: distance limit {limit:.3g}")


if __name__ == "__main__":
    main()
