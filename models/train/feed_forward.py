#!/usr/bin/env python3
"""Gives a model file the one-shot feed-forward: where the link idles although p' is high, p' is asked to a quarter.

    feed_forward.py MODEL.onnx OUT.onnx [--idle SHARE] [--p P] [--flows N]

When flows leave, p' is that of the many, and PI2 lowers it by no more than alpha times the target a second: marks and drops that
nobody deserves keep those who stay small, the more so the lower the target is. The file gets `l4sd.feed_forward_rule` of
docs/model.md: limits of three features, the share of the capacity that was idle over 64 ms, p', and the flows of C that sent in each
quarter of the last second. Without the last it acts where a link idles by its nature, at low rates and under applications that
pause, and does harm there (LOG.md). The graph, its scores and how often it runs stay what they were.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import onnx

sys.path.insert(0, str(Path(__file__).parent))
import onnx_file

IDLE, P, FLOWS = 0.2, 0.03, 2.5
FACTOR = 0.25


def signal_of(name):
    """The schema's signal of feature `name`."""
    from l4sd_gym.schema import Schema

    (signal,) = (s for s in Schema.load().signals if s.name == name.split(".")[0])
    return signal


def normalised(name, value):
    """`value` of the signal of feature `name` as the schema normalises it."""
    signal = signal_of(name)
    return {"linear": lambda x: x, "log1p": math.log1p, "ln": math.log}[signal.norm](value / signal.scale)


def rule(idle, p, flows):
    """Text of `l4sd.feed_forward_rule`, its limits in the units of the schema."""
    over = {"idle.mean_0.064s": idle, "p_base": p, "flows_steady_c": flows}
    return json.dumps({"factor": FACTOR, "over": {name: round(normalised(name, value), 4) for name, value in over.items()}})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--idle", type=float, default=IDLE, help="share of the capacity, over 64 ms")
    parser.add_argument("--p", type=float, default=P, help="p', the base probability")
    parser.add_argument("--flows", type=float, default=FLOWS, help="steady flows of C, in the second before")
    args = parser.parse_args()
    model, told = onnx_file.load(args.model)
    if any(o.name == "feed_forward" for o in model.graph.output) or "l4sd.feed_forward_rule" in told:
        raise SystemExit(f"{args.model}: it has a feed-forward already; give the file that it was made from")
    notes = {"l4sd.feed_forward_rule": rule(args.idle, args.p, args.flows), "feed_forward": f"idle over {args.idle:g}, p' over {args.p:g}, steady flows of C over {args.flows:g}"}
    for key, value in notes.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, args.out)


if __name__ == "__main__":
    main()
