#!/usr/bin/env python3
"""A model file of a student's weights, those that student.py --save or distill.py left: export.py STUDENT.safetensors OUT.onnx [--threshold P] [--wider]

With --threshold a setting is eligible from this probability of being feasible on (docs/model.md), not from that of the student's own rounds.
With --wider the file scores every gain at every target (wider.py), its logits raised by --bolder.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import student
import values
import wider


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("student", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--wider", action="store_true")
    parser.add_argument("--bolder", type=float, help="with --wider: logits, 0 if it is left out")
    args = parser.parse_args()
    if args.bolder is not None and not args.wider:
        parser.error("--bolder goes with --wider")
    import l4sd_gym

    names = list(l4sd_gym.FEATURES)
    net, saved = student.load(args.student, names, "cpu")
    metadata = saved["metadata"] | ({} if args.threshold is None else {"l4sd.threshold": args.threshold})
    if args.wider:
        net = wider.Wider(net, names, args.bolder or 0.0).eval()
        metadata |= {"l4sd.candidates": json.dumps(values.knobs(wider.settings())), "taught": len(values.CANDIDATES), "bolder": args.bolder or 0.0}
    limit = student.export(net, args.out, saved["features"].astype("float32"), names, metadata, saved["golden"])
    print(f"{args.out}: distance limit {limit:.3g}")


if __name__ == "__main__":
    main()
