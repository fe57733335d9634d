#!/usr/bin/env python3
"""Figures of a run of run.py for the model card: figures.py OUT [--oracle DIR]

Reads OUT/run.jsonl and what the judging stages left, and writes OUT/card/figures.md and figures.json: each model file with its SHA-256, S and
feasible share over all links and by grid, the teacher's, what each stage took; gates G6 and G7, what few-shot came to, and, if DIR has the oracle of dev, G2 and G4 of each model file. It measures nothing and picks no winner.
"""

import argparse
import contextlib
import gzip
import io
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# In ln S, for the chance of being infeasible: that of student.py.
PENALTY = 0.15

def rows(results):
    """{policy: {grid or "overall": row}} of a results.json, against DualPI2."""
    found = {}
    for row in results["summary"]:
        if row["scope"] in ("overall", "grid") and row["role"] == "baseline" and row["against"] == "dualpi2":
            found.setdefault(row["policy"], {})[row["name"] or "overall"] = row
    return found


def figures(row):
    s, share = row["s_score"], row["feasible_share"]
    return {"cells": row["cells"], "s": s["value"], "s_lo": s["lo"], "s_hi": s["hi"], "feasible": share["value"]}


def last(records, stage):
    """The newest good line of each job of a stage, by the job's name."""
    return {r["job"]: r for r in records if r["stage"] == stage and r["status"] == 0}


def collect(out):
    """All figures of a run as one object."""
    records = [json.loads(line) for line in (out / "run.jsonl").read_text().splitlines()]
    policies, floor = {}, {}
    for name, record in last(records, "judge").items():
        by_policy = rows(json.loads((out / "judge" / name / "results.json").read_text()))
        file = next(w for w in record["command"].split() if w.startswith("model:")).removeprefix("model:")
        floor = by_policy["dualpi2"]
        policies[name] = {"file": file, "sha256": record["reads"][file], "grids": {g: figures(r) for g, r in by_policy["model"].items()}}
    for name in last(records, "judge-teacher"):
        with gzip.open(out / "judge-teacher" / name / "results-teacher.json.gz", "rt") as file:
            by_policy = rows(json.load(file))
        policies[f"{name}-teacher"] = {"file": None, "sha256": None, "grids": {g: figures(r) for g, r in by_policy["teacher"].items()}}
    stages = {}
    for record in records:
        stages[f"{record['stage']} {record['job']}".strip()] = {k: record[k] for k in ("began", "seconds", "status", "seed", "host")}
    return {"policies": policies, "dualpi2": {g: figures(r) for g, r in floor.items()}, "stages": stages}


def verdicts(gate, folders, before=None, after=None):
    """Lines of a gate."""
    import gates

    try:
        outcomes = list(gates.GATES[gate][0](argparse.Namespace(folders=folders, split="dev", policy="model", before=before, after=after)))
    except SystemExit as e:
        return [f"- {gate} not judged: {e}"]
    return [f"{'PASS' if passed else 'FAIL'} {line}" for passed, line in outcomes]


def gates_of(out, names, oracle=None):
    """{name: lines of the gates} of what was judged: of model files G2 and G4, if there is an oracle of dev; of teachers G6 and G7, beside a student and beside the mean of several."""
    told = {}
    for name in names:
        at = lambda kind, name=name: out / "judge" / f"{name.removesuffix('-teacher')}{kind}"  # noqa: E731
        if name.endswith("-teacher"):
            results = out / "judge-teacher" / name.removesuffix("-teacher") / "results-teacher.json.gz"
            told[name] = verdicts("G6", [results, at("-alone")]) + verdicts("G7", [results, at("-distilled")], at("-distilled"), at("-rl"))
            told[f"{name}, means of students"] = verdicts("G6", [results, out / "judge" / "alone-ensemble"]) + verdicts("G7", [results, at("-ensemble")])
        elif oracle:
            told[name] = verdicts("G2", [oracle, at("")]) + verdicts("G4", [at("")])
    return told


def parts(out):
    """What each part of the last ablation left. An earlier one with more --gpus has left more folders, perhaps of other inputs."""
    records = [json.loads(line) for line in (out / "run.jsonl").read_text().splitlines()]
    number = next((int(r["command"].split(" --part ")[1].split()[0].split("/")[1]) for r in reversed(records) if r["stage"] == "ablate"), 0)
    files = [out / "ablate" / f"part-{n + 1}" / "runs.jsonl" for n in range(number)]
    return [file for file in files if file.exists()]


def ablation(out):
    """What ablate.py says of its runs; nothing if there are none."""
    import ablate

    files = parts(out)
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        if files:
            ablate.report(files, PENALTY)
    return told.getvalue()


def demonstrations(out):
    """What fewshot_eval.py left, by training seed."""
    return {file.parent.name.removesuffix("-eval"): json.loads(file.read_text()) for file in sorted(out.glob("fewshot/*/eval.json"))}


def shown(name, told):
    """A table of `demonstrations`."""
    columns = told["columns"]
    arms = list(next(iter(columns.values()), {}))
    lines = ["", f"## Demonstrations, {name}: {', '.join(told['grids'])} ({told['split']}), never trained on", ""]
    lines += ["| demonstrations | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    return [*lines, *(f"| {arm} | " + " | ".join(c.get(arm, "") for c in columns.values()) + " |" for arm in arms), "", *(f"- {line}" for line in told["said"])]


def text(found):
    """Tables of `collect`."""
    lines = ["# Figures of this run", "", "S against DualPI2 on the same links and seeds, lower is better; 95 % intervals over links, then seeds.", ""]
    lines += ["| policy | SHA-256 | links | S | feasible % |", "|---|---|--:|--:|--:|"]
    show = lambda name, sha, f: f"| {name} | {sha} | {f['cells']} | {f['s']:.3f} ({f['s_lo']:.3f} to {f['s_hi']:.3f}) | {100 * f['feasible']:.0f} |"  # noqa: E731
    for name, policy in sorted(found["policies"].items()):
        lines.append(show(name, (policy["sha256"] or "-")[:16], policy["grids"]["overall"]))
    if found["dualpi2"]:
        lines.append(show("DualPI2, other seeds", "-", found["dualpi2"]["overall"]))
    grids = [g for g in found["dualpi2"] if g != "overall"]
    if grids:
        lines += ["", "| S, feasible % | " + " | ".join(grids) + " |", "|---|" + "--:|" * len(grids)]
        for name, policy in [*sorted(found["policies"].items()), ("DualPI2, other seeds", {"grids": found["dualpi2"]})]:
            cells = [policy["grids"].get(g) for g in grids]
            lines.append(f"| {name} | " + " | ".join("not run" if f is None else f"{f['s']:.3f}, {100 * f['feasible']:.0f}" for f in cells) + " |")
    if found.get("gates"):
        lines += ["", "| policy | gate |", "|---|---|"] + [f"| {name} | {line} |" for name, told in sorted(found["gates"].items()) for line in told]
    if found.get("ablation"):
        lines += ["", "## Does the language model matter?", "", found["ablation"].rstrip()]
    lines += [line for name, told in found.get("demonstrations", {}).items() for line in shown(name, told)]
    lines += ["", "| job | began | seconds | device |", "|---|---|--:|---|"]
    lines += [f"| {name} | {s['began']} | {s['seconds']:.0f} | {s['host']['device']}, {s['host']['threads']} threads |" for name, s in found["stages"].items() if s["status"] == 0]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--oracle", type=Path)
    args = parser.parse_args()
    if not (args.out / "run.jsonl").exists():
        sys.exit(f"{args.out}: there is no run.jsonl; models/train/run.py makes one")
    found = collect(args.out)
    of_dev = args.oracle if args.oracle and list(args.oracle.glob("oracle-dev.jsonl.gz*")) else None
    found["gates"] = gates_of(args.out, found["policies"], of_dev)
    found["ablation"] = ablation(args.out)
    found["demonstrations"] = demonstrations(args.out)
    folder = args.out / "card"
    folder.mkdir(exist_ok=True)
    (folder / "figures.json").write_text(json.dumps(found, indent=1))
    (folder / "figures.md").write_text(text(found))
    print(text(found), end="")


if __name__ == "__main__":
    main()
