#!/usr/bin/env python3
"""A model file with 8-bit weights of a model file with 32-bit floats: quantize.py MODEL.onnx OUT.onnx --states FILE

Weights per channel, activations by their range at run time, in operators of the standard domain at the same operator set. Weights take 7 of their 8 bits: on processors without VNNI two products are added in 16 bits, which 8 bits
can overflow. The distance stays in floats: the guard depends on it, and so does what puts settings together (wider.py). Golden vectors are made anew, with TOLERANCE.
--states is a file of collect.py or histories, or a student's weights; on those states it says how the two files differ. It judges
nothing in closed loop: `l4sd eval --policy model:OUT.onnx` does.
"""

import argparse
import base64
import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parent))
import onnx_file

# Between backends a rounded activation may fall to the other side, one step of 255 of its range.
TOLERANCE = 0.05
COMPARE = 2000
# Of wider.Wider, in the graph: how much of each candidate's answer is in that of each setting.
TABLE = "net.weights"
# What a float of another backend may differ by.
JITTER = 1e-6


def states_of(file):
    """States of an archive of arrays, or those beside a student's weights."""
    if file.suffix == ".npz":
        with np.load(file) as saved:
            features = saved["features"]
            if features.ndim == 3:
                features = features[np.arange(features.shape[1])[None] < saved["length"][:, None]]
            return features.astype(np.float32)
    import student
    from l4sd_gym import FEATURES

    return student.load(file, list(FEATURES), "cpu")[1]["features"].astype(np.float32)


def kept(graph):
    """Nodes that only the output `distance` is made from, and those that put answers together (wider.py)."""
    made = {out: node for node in graph.node for out in node.output}

    def behind(name, seen):
        node = made.get(name)
        if node is not None and node.name not in seen:
            seen.add(node.name)
            for x in node.input:
                behind(x, seen)
        return seen

    others = [behind(o.name, set()) for o in graph.output if o.name != "distance"]
    together = {node.name for node in graph.node if TABLE in node.input}
    return sorted(together | behind("distance", set()) - set().union(*others))


def quantized(model):
    """The graph of `model` with 8-bit weights, but for what is `kept`."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        whole, plain, out = (str(Path(folder) / n) for n in ("whole.onnx", "plain.onnx", "out.onnx"))
        onnx.save(model, whole)
        quant_pre_process(whole, plain, skip_symbolic_shape=True)
        ours = onnx.load(plain)
        for i, node in enumerate(ours.graph.node):
            node.name = node.name or f"node_{i}"
        onnx.save(ours, plain)
        # Gemm is taken apart first, into one of another name.
        left = [name + tail for name in kept(ours.graph) for tail in ("", "_MatMul")]
        quantize_dynamic(plain, out, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"], nodes_to_exclude=left)
        made = onnx.load(out)
    del made.metadata_props[:]
    # The tools name every domain they know; the graph uses the standard one.
    standard = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if foreign := {n.domain for n in made.graph.node} - {"", "ai.onnx"}:
        raise SystemExit(f"the quantised graph uses operators of {', '.join(sorted(foreign))}, which l4sd does not take")
    del made.opset_import[:]
    made.opset_import.append(onnx.helper.make_opsetid("", standard))
    return made


def answers(session, features):
    """All outputs of each state, one after another; and score and logit."""
    rows = [session.run(None, {"features": x[None]}) for x in features]
    at = [o.name for o in session.get_outputs()]
    score, logit = (np.concatenate([r[at.index(n)] for r in rows]) for n in ("score", "feasible"))
    return np.array([np.concatenate([y.ravel() for y in r]) for r in rows]), score, logit


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--states", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    import onnxruntime
    from l4sd_gym import rules

    model, told = onnx_file.load(args.model)
    if (inputs := [i.name for i in model.graph.input]) != ["features"]:
        raise SystemExit(f"{args.model}: it reads {', '.join(inputs)}; only a model of features alone is made smaller")
    features = states_of(args.states)
    rng = np.random.default_rng(args.seed)
    some = features[rng.choice(len(features), min(COMPARE, len(features)), replace=False)]
    golden = np.frombuffer(base64.b64decode(told.pop("l4sd.golden_in")), "<f4").reshape(-1, features.shape[1])
    small = quantized(model)
    before = onnxruntime.InferenceSession(str(args.model), providers=["CPUExecutionProvider"])
    del told["l4sd.golden_out"]
    notes = {"l4sd.golden_tolerance": TOLERANCE, "weights": "8 bits", "made_from": hashlib.sha256(args.model.read_bytes()).hexdigest()}
    after = onnx_file.finish(args.out, small, told | notes, golden)
    (a, *of_floats), (b, *of_bytes) = answers(before, some), answers(after, some)
    choices = [rules.choose(*x, np.zeros(len(some), int), float(told["l4sd.threshold"]), float(told["l4sd.hysteresis"])) for x in (of_floats, of_bytes)]
    wobble = np.abs(answers(after, some * (1 + JITTER * rng.choice([-1, 1], some.shape).astype(np.float32)))[0] - b)
    print(f"{args.out}: {args.out.stat().st_size} bytes, was {args.model.stat().st_size}")
    print(f"on {len(some)} states: the same choice in {np.mean(choices[0] == choices[1]):.1%}; score differs by {np.abs(of_floats[0] - of_bytes[0]).mean():.4f} (largest {np.abs(of_floats[0] - of_bytes[0]).max():.3f}), logit by {np.abs(of_floats[1] - of_bytes[1]).mean():.4f} (largest {np.abs(of_floats[1] - of_bytes[1]).max():.3f})")
    print(f"inputs that differ by {JITTER:g}: answers differ by {np.quantile(wobble, 0.999):.4f} at most in 99.9 %, largest {wobble.max():.4f}; golden tolerance {TOLERANCE}")


if __name__ == "__main__":
    main()
