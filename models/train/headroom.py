#!/usr/bin/env python3
"""What there is to gain: the per-link oracle on fresh seeds, by grid and by knob, from the files of models/train/oracle.sh.

    models/train/headroom.py DIR [--split dev] [--gate G0|G1]

G0 needs no oracle: --out of any `l4sd eval` has it, and more seeds (--seeds 12) make it a finer one. Without --gate it prints a table; with it, the lines of that gate, PASS or FAIL, and its exit code is 1 if one fails.
"""

import argparse
import gzip
import json
import math
import sys
from pathlib import Path

NOISE = 0.01
HEADROOM = 0.72
FEASIBLE_POINTS = 4
KNOBS = ["target", "gain", "ramp"]


def load(folder, split):
    path = folder / f"results-{split}.json.gz"
    if path.exists():
        return json.loads(gzip.decompress(path.read_bytes()))
    path = folder / "results.json"
    if not path.exists():
        sys.exit(f"{folder}: there is neither results-{split}.json.gz nor results.json; models/train/oracle.sh writes it")
    results = json.loads(path.read_text())
    if results["split"] != split:
        sys.exit(f"{path}: these are links of {results['split']}; say --split {results['split']}")
    return results


def groups(results):
    """Rows against dualpi2 by policy: of all links, then of each grid."""
    found = {}
    for row in results["summary"]:
        if row["role"] == "baseline" and row["scope"] in ("overall", "grid"):
            found.setdefault(row["name"] or "all", {})[row["policy"]] = row
    return found


def interval(i, digits=3):
    return "-" if i is None else f"{i['value']:.{digits}f} ({i['lo']:.{digits}f} to {i['hi']:.{digits}f})"


def percent(i):
    return f"{100 * i['value']:.1f} ({100 * i['lo']:.0f} to {100 * i['hi']:.0f})"


def share(part, whole):
    """Of the log gain of all knobs, what one alone gives."""
    gain = math.log(whole["s_score"]["value"])
    return "-" if gain > -0.005 else f"{100 * math.log(part['s_score']['value']) / gain:.0f}"


def table(found):
    head = ["grid", "links", "S of the oracle", "feasible %", "S of dualpi2, other seeds", "feasible %", *(f"{k} alone, % of log gain" for k in KNOBS)]
    yield "| " + " | ".join(head) + " |"
    yield "|---|" + "--:|" * (len(head) - 1)
    for name, rows in found.items():
        oracle, floor = rows["oracle"], rows["dualpi2"]
        cells = [name, str(oracle["cells"])]
        for row in (oracle, floor):
            cells += [interval(row["s_score"]), percent(row["feasible_share"])]
        cells += [share(rows[f"oracle-{k}"], oracle) for k in KNOBS]
        yield "| " + " | ".join(cells) + " |"


def gate_noise(found):
    for name, rows in found.items():
        s, feasible = rows["dualpi2"]["s_score"], rows["dualpi2"]["feasible_share"]
        yield abs(s["value"] - 1) <= NOISE, f"G0 {name}: S of dualpi2 against itself {interval(s)}, within {NOISE} of 1; feasible {percent(feasible)} %"


def gate_headroom(found):
    rows = found["all"]
    s, feasible = rows["oracle"]["s_score"], rows["oracle"]["feasible_share"]
    least = rows["dualpi2"]["feasible_share"]["value"] - FEASIBLE_POINTS / 100
    yield (
        s["value"] <= HEADROOM and feasible["value"] >= least,
        f"G1 S {interval(s)}, at most {HEADROOM}; feasible {percent(feasible)} %, at least {100 * least:.1f} %",
    )


GATES = {"G0": gate_noise, "G1": gate_headroom}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--split", default="dev", choices=["train", "dev", "test"])
    parser.add_argument("--gate", choices=GATES)
    args = parser.parse_args()
    results = load(args.folder, args.split)
    found = groups(results)
    if args.gate is None:
        print(f"Split {args.split}, seeds {results['seeds']} (other seeds {results['other_seeds']}), 95 % intervals over links and seeds.\n")
        print("\n".join(table(found)))
        return
    outcomes = list(GATES[args.gate](found))
    for passed, text in outcomes:
        name, _, rest = text.partition(" ")
        print(f"{name} {'PASS' if passed else 'FAIL'} {rest}")
    sys.exit(0 if all(passed for passed, _ in outcomes) else 1)


if __name__ == "__main__":
    main()
