#!/usr/bin/env python3
"""Gives a model file a rule in its graph: while L is alone and the link idles, nothing that marks earlier than RFC 9332's constants is eligible.

    early_marks.py MODEL.onnx OUT.onnx [--idle SHARE]

A lone flow of L in its slow start fills the link for a moment in each round trip. Marks at a shorter ramp or target end the start long
before the rate is found, and an idle link has no delay to gain: on links over 100 Mbit/s and some 100 ms students without the rule left a third
to two thirds of the throughput (LOG.md). The rule lowers P(feasible) of the candidates with a shorter target or a lower ramp than the first one by 20
logits where the share of the capacity that was idle over half a second is above --idle and no flow of C is seen. Scores, and the answers
to every other state, stay what they were.
"""

import argparse
import base64
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import feed_forward
import onnx_file

IDLE, LOGITS = 0.2, 20.0
# Fewer flows of C are none.
FLOWS = 0.5
# What both limits must be passed by, as the schema normalises them, until the rule is in force whole: shares from .204 on.
EDGE = 0.02
KEY = "early_marks"


def earlier(candidates):
    """1 for each candidate that marks earlier than the first by its target or its ramp."""
    target, _, ramp = candidates[0]
    return np.array([float(t < target or r < ramp) for t, _, r in candidates], np.float32)


def add(graph, names, candidates, idle):
    """The rule behind the output `feasible` of `graph`."""
    idle, flows = feed_forward.normalised("idle.mean_0.5s", idle), feed_forward.normalised("flows_c", FLOWS)
    place = lambda feature: np.array([names.index(feature)], np.int64)  # noqa: E731
    floats = {"limit": [[idle]], "few": [[flows]], "none": 0.0, "edge": EDGE, "lower": earlier(candidates)[None] * LOGITS / EDGE**2}
    held = {"idle_at": place("idle.mean_0.5s"), "flows_at": place("flows_c")} | {n: np.array(v, np.float32) for n, v in floats.items()}
    steps = [
        ("Gather", ["features", ".idle_at"], ".idle"),
        ("Sub", [".idle", ".limit"], ".over"),
        ("Clip", [".over", ".none", ".edge"], ".idles"),
        ("Gather", ["features", ".flows_at"], ".flows"),
        ("Sub", [".few", ".flows"], ".under"),
        ("Clip", [".under", ".none", ".edge"], ".alone"),
        ("Mul", [".idles", ".alone"], ".holds"),
        ("Mul", [".holds", ".lower"], ".less"),
        ("Sub", ["feasible_by_net", ".less"], "feasible"),
    ]
    onnx_file.behind_feasible(graph, KEY, "feasible_by_net", held, steps)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--idle", type=float, default=IDLE, help="share of the capacity, over half a second")
    args = parser.parse_args()
    from l4sd_gym import FEATURES

    model, told = onnx_file.load(args.model)
    if KEY in told:
        raise SystemExit(f"{args.model}: it has the rule already; give the file that it was made from")
    if (inputs := [i.name for i in model.graph.input]) != ["features"]:
        raise SystemExit(f"{args.model}: it reads {', '.join(inputs)}; the rule is for a model of features alone")
    add(model.graph, list(FEATURES), json.loads(told["l4sd.candidates"]), args.idle)
    golden = np.frombuffer(base64.b64decode(told.pop("l4sd.golden_in")), "<f4").reshape(-1, len(FEATURES))
    del told["l4sd.golden_out"], model.metadata_props[:]
    onnx_file.finish(args.out, model, told | {KEY: f"none where idle over {args.idle:g} without C"}, golden)


if __name__ == "__main__":
    main()
