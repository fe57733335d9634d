"""Model files as docs/model.md has them: metadata, golden vectors, and a graph of boosted trees."""

import base64
import hashlib
import json
import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def _candidates():
    import values

    return json.dumps(values.knobs())


def _ensemble(models, base):
    """Attributes of one TreeEnsembleRegressor of several LightGBM models, a target each."""
    a = {k: [] for k in ("treeids", "nodeids", "featureids", "values", "modes", "true", "false", "missing")}
    leaf = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}
    tree_id = 0
    for target, model in enumerate(models):
        for tree in model.dump_model()["tree_info"]:
            stack, count = [(tree["tree_structure"], 0)], 1
            while stack:
                node, number = stack.pop()
                is_leaf = "leaf_value" in node
                if is_leaf:
                    row = (0, 0.0, "LEAF", 0, 0)
                    for key, value in zip(leaf, (tree_id, number, target, float(node["leaf_value"])), strict=True):
                        leaf[key].append(value)
                else:
                    assert node["decision_type"] == "<="
                    yes, no = count, count + 1
                    count += 2
                    stack += [(node["left_child"], yes), (node["right_child"], no)]
                    # The largest float that is not over the threshold: x <= t is then the same for every float x.
                    t = np.float32(node["threshold"])
                    if float(t) > node["threshold"]:
                        t = np.nextafter(t, np.float32(-np.inf), dtype=np.float32)
                    row = (node["split_feature"], float(t), "BRANCH_LEQ", yes, no)
                a["treeids"].append(tree_id)
                a["nodeids"].append(number)
                for key, value in zip(("featureids", "values", "modes", "true", "false"), row, strict=True):
                    a[key].append(value)
                a["missing"].append(0)
            tree_id += 1
    return dict(
        n_targets=len(models),
        aggregate_function="SUM",
        post_transform="NONE",
        base_values=[float(b) for b in base],
        nodes_treeids=a["treeids"],
        nodes_nodeids=a["nodeids"],
        nodes_featureids=a["featureids"],
        nodes_values=a["values"],
        nodes_modes=a["modes"],
        nodes_truenodeids=a["true"],
        nodes_falsenodeids=a["false"],
        nodes_missing_value_tracks_true=a["missing"],
        target_treeids=leaf["treeids"],
        target_nodeids=leaf["nodeids"],
        target_ids=leaf["ids"],
        target_weights=leaf["weights"],
    )


def trees(models, columns, rows):
    """Graph of two LightGBM models (ln S; logit of feasibility) over the features of `columns` and the constants of `rows`
    (candidates, numbers): `score` is the expected ln S, where an infeasible cell cannot come under 1."""
    n = len(rows)
    def const(name, x):
        return numpy_helper.from_array(np.asarray(x), name)

    inits = [
        const("columns", np.array(columns, np.int64)),
        const("tile", np.array([n, len(columns)], np.int64)),
        const("rows", rows.astype(np.float32)),
        const("zero", np.zeros((1, 1), np.float32)),
        const("first", np.array([0], np.int64)),
        const("second", np.array([1], np.int64)),
    ]
    node = helper.make_node
    nodes = [
        node("Gather", ["features", "columns"], ["seen"], axis=1),
        node("Expand", ["seen", "tile"], ["tiled"]),
        node("Concat", ["tiled", "rows"], ["table"], axis=1),
        node("TreeEnsembleRegressor", ["table"], ["raw"], domain="ai.onnx.ml", **_ensemble(models, [0.0, 0.0])),
        node("Transpose", ["raw"], ["turned"], perm=[1, 0]),
        node("Gather", ["turned", "first"], ["value"], axis=0),
        node("Gather", ["turned", "second"], ["feasible"], axis=0),
        node("Sigmoid", ["feasible"], ["chance"]),
        node("Min", ["value", "zero"], ["gain"]),
        node("Max", ["value", "zero"], ["loss"]),
        node("Mul", ["gain", "chance"], ["weighed"]),
        node("Add", ["weighed", "loss"], ["score"]),
    ]
    return nodes, inits, n


def write(path, nodes, inits, count, width, metadata, golden_in, ml=True):
    """Writes a model file of a graph with `score` and `feasible`."""
    out = [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, count]) for x in ("score", "feasible")]
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, width])
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid("ai.onnx.ml", 3)] if ml else [])
    model = helper.make_model(helper.make_graph(nodes, "policy", [features], out, inits), opset_imports=opsets)
    return finish(path, model, metadata, golden_in)


def from_torch(path, module, golden_in, metadata, more=(), outputs=("score", "feasible", "distance")):
    """Writes a model file of a torch module that returns `outputs`; its inputs are features, as rows of `golden_in`, and those of `more`:
    (name, golden inputs of one each a row, whatever their shape)."""
    inputs = [("features", golden_in), *more]
    _export(path, module, inputs, outputs, metadata, {"l4sd.candidates": _candidates()})


def encoder(path, module, golden_in, metadata=()):
    """Writes the file of a context encoder, `golden_in` being (name, golden inputs) of each input; returns the file's SHA-256 in hex."""
    _export(path, module, golden_in, ("context",), dict(metadata), {})
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _export(path, module, inputs, outputs, metadata, fields):
    import io

    import torch

    text, rows = io.BytesIO(), list(zip(*(x for _, x in inputs), strict=True))
    one = tuple(torch.as_tensor(x[:1]) for _, x in inputs)
    with warnings.catch_warnings():
        # Operator set 17 is that of the older exporter, which says of each shape that it is a constant.
        warnings.simplefilter("ignore")
        torch.onnx.export(module, one, text, opset_version=17, dynamo=False, input_names=[n for n, _ in inputs], output_names=list(outputs))
    model = onnx.load_from_string(text.getvalue())
    names = [n for n, _ in inputs]
    session = _finish(path, model, metadata, rows, names, fields)
    with torch.no_grad():
        own = [module(*(torch.as_tensor(x[None]) for x in row)) for row in rows]
    own = [np.concatenate([np.ravel(y) for y in (x if isinstance(x, tuple) else (x,))]) for x in own]
    graph = [_answer(session, names, row) for row in rows]
    print(f"{path}: largest difference between torch and the graph:", float(np.abs(np.array(own) - np.array(graph)).max()))


def load(path):
    """The model of a file that was made for today's schema, and its metadata."""
    from l4sd_gym import SCHEMA_HASH

    model = onnx.load(path)
    told = {p.key: p.value for p in model.metadata_props}
    if told.get("l4sd.schema") != SCHEMA_HASH:
        raise SystemExit(f"{path}: made for schema {told.get('l4sd.schema')}, this is {SCHEMA_HASH}; train it anew")
    return model, told


def behind_feasible(graph, rule, was, held, steps):
    """Puts `steps` (operator, inputs, output) behind the output `feasible` of a graph; they read it as `was` and end in `feasible`. Names that
    begin with a dot are the rule's own; `held` are its constants, by name without the dot."""
    for node in graph.node:
        for of in (node.input, node.output):
            of[:] = [was if name == "feasible" else name for name in of]
    graph.initializer.extend(numpy_helper.from_array(value, f"{rule}.{name}") for name, value in held.items())
    whole = lambda name: rule + name if name.startswith(".") else name  # noqa: E731
    for i, (kind, reads, writes) in enumerate(steps):
        axis = {"axis": 1} if kind == "Gather" else {}
        graph.node.append(helper.make_node(kind, [whole(r) for r in reads], [whole(writes)], name=f"{rule}.{i}", **axis))


def finish(path, model, metadata, golden_in):
    """Writes the file of a policy that takes features alone."""
    return _finish(path, model, metadata, [(x,) for x in golden_in], ["features"], {"l4sd.candidates": _candidates()})


def _answer(session, names, row):
    return np.concatenate([y.ravel() for y in session.run(None, {n: x[None] for n, x in zip(names, row, strict=True)})])


def _finish(path, model, metadata, rows, names, fields):
    """Writes the file with its metadata; the golden vectors, a row of inputs each, are what ONNX Runtime answers here."""
    import onnxruntime
    from l4sd_gym import SCHEMA_HASH

    model.ir_version, model.producer_name = 8, "l4sd models/train"
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    encode = lambda x: base64.b64encode(np.asarray(x, "<f4").tobytes()).decode()  # noqa: E731
    fields = {
        "l4sd.format": "1",
        "l4sd.schema": SCHEMA_HASH,
        **fields,
        "l4sd.golden_in": encode(np.concatenate([np.ravel(x) for row in rows for x in row])),
        "l4sd.golden_out": encode(np.concatenate([_answer(session, names, row) for row in rows])),
        "l4sd.golden_tolerance": "0.0001",
        **metadata,
    }
    for key, value in fields.items():
        model.metadata_props.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())
    return session
