#!/usr/bin/env python3
"""Gates of training, each one command that prints PASS or FAIL with its 95 % interval; the exit code is 1 if one fails.

    models/train/gates.py G0|G1 ORACLE_DIR                  noise and headroom (headroom.py --gate)
    models/train/gates.py G2 ORACLE_DIR EVAL_DIR            a policy's share of the oracle's log gain
    models/train/gates.py G3 ORACLE_DIR TREES_DIR STUDENT_DIR [--before DIR --after DIR]
    models/train/gates.py G4 EVAL_DIR                       the grid switch, phase by phase
    models/train/gates.py G5 PAIRS.json                     simulator and real traffic
    models/train/gates.py G6 TEACHER_DIR STUDENT_DIR        the teacher against a student without a language model
    models/train/gates.py G7 TEACHER_DIR STUDENT_DIR [--before DIR --after DIR]
                                                            what distillation keeps of the teacher

ORACLE_DIR is that of models/train/oracle.sh (results-SPLIT.json.gz, oracle-SPLIT.jsonl.gz), the others are --out of `l4sd eval`:
results.json or cells.csv, and records.jsonl for figures by seed, or the one results file that judge.py leaves, gzipped or not. Links are paired by grid and name. Where all sides hold
figures by seed, the bootstrap is over links, then seeds; else over links. G5 reads a list of objects with link, sim_s, live_s
and, if known, live_lo and live_hi: S of the model against DualPI2 on a link, simulated and live.
"""

import argparse
import csv
import gzip
import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import headroom
import values
from l4sd_gym.rules import judge

IDENTIFIED = 0.45
STUDENT = 0.60
SWITCH = 0.90
DISTILLED = 0.90
FEASIBLE_POINTS = 5
PAIRS, AGREE, LIVE_SHARE = 12, 10, 0.5
DRAWS = 10_000
SEED = 1
# Of an RL step: no grid's S may rise by more than what seeds alone do (gate G0).
WORSE = math.log1p(headroom.NOISE)


@dataclass
class Link:
    """A link under a policy: ln S over all seeds, and under each resample of its seeds where they are known."""

    grid: str
    name: str
    mean: float
    resampled: list = field(default_factory=list)

    @property
    def key(self):
        return self.grid, self.name


def ln_score(cell, got, ref):
    """ln S of figures against a reference's: a cell that breaks a bound scores 1 at least."""
    raw, rooms = judge(got, ref, bursty=cell["bursty"], mice=cell["mice"])
    if raw is None:
        return None
    return raw if min(rooms) >= -1e-7 else max(raw, 0.0)


def mean_figures(runs):
    """Of each figure, the mean over the runs that have it."""

    def mean(pick):
        known = [x for x in map(pick, runs) if x is not None]
        return sum(known) / len(known) if known else None

    sources = max((len(r["mice_p95_ms"]) for r in runs), default=0)
    return {
        "utilization": mean(lambda r: r["utilization"]),
        "mean_ms": {q: mean(lambda r: r["mean_ms"][q]) for q in ("l", "c")} | {"all": None},
        "p99_ms": {q: mean(lambda r: r["p99_ms"][q]) for q in ("l", "c")} | {"all": None},
        "abs_log2_ratio": mean(lambda r: r["abs_log2_ratio"]),
        "mice_p95_ms": [mean(lambda r: r["mice_p95_ms"][i] if i < len(r["mice_p95_ms"]) else None) for i in range(sources)],
    }


def resamples(n):
    """All ordered choices of n seeds with replacement: equally likely."""
    return [[code // n**p % n for p in range(n)] for code in range(n**n)] if n <= 4 else []


def of_runs(cell, runs, reference):
    """A link from its figures by seed."""
    if not runs or len(runs) != len(reference):
        return None
    at = lambda pick: ln_score(cell, mean_figures([runs[i] for i in pick]), mean_figures([reference[i] for i in pick]))
    mean = at(range(len(runs)))
    return None if mean is None else Link(cell["grid"], cell["name"], mean, [at(pick) for pick in resamples(len(runs))])


def figures_of(run, traffic_l, traffic_c, endless):
    """The figures of a result object."""
    ratio = run["ratio_l_over_c"]
    delay = {q: run["queues"][q]["delay_ms"] for q in ("l", "c")}
    carried = {"l": traffic_l, "c": traffic_c}
    pick = lambda what: {q: delay[q][what] if carried[q] else None for q in delay}
    return {
        "utilization": run["link"]["utilization"],
        "mean_ms": pick("mean"),
        "p99_ms": pick("p99"),
        "abs_log2_ratio": (10.0 if not ratio else min(abs(math.log2(ratio)), 10.0)) if endless else None,
        "mice_p95_ms": [f["fct"]["p95_ms"] for f in run["flows"] if f["fct"] is not None],
    }


def by_seed(folder, policy):
    """Links of an evaluation's records.jsonl with figures by seed, by grid and name; none if it was not kept."""
    path = folder / "records.jsonl"
    if not path.exists():
        return {}
    cells, found = {}, {}
    with path.open() as lines:
        for line in lines:
            record = json.loads(line).get("record")
            if record is not None and record["policy"] in ("dualpi2", policy):
                key = record["cell"]["grid"], record["cell"]["name"]
                cells[key] = record["cell"]
                # Of a run that was made again, the last counts.
                found.setdefault(key, {}).setdefault(record["policy"], {})[record["seed"]] = record["run"]
    links = {}
    for key, side in found.items():
        seeds = sorted(side.get(policy, {}))
        if not seeds or not all(s in side.get("dualpi2", {}) for s in seeds):
            continue
        reference, got = ([side[p][s] for s in seeds] for p in ("dualpi2", policy))
        carries = [any(r["queues"][q]["packets"] > 0 for r in reference) for q in ("l", "c")]
        endless = any(r["ratio_l_over_c"] is not None for r in reference + got)
        figures = [[figures_of(r, *carries, endless) for r in runs] for runs in (got, reference)]
        links[key] = of_runs(cells[key], *figures)
    return links


def by_link(folder, policy):
    """Links of cells.csv or results.json, without seeds."""
    rows = []
    for path in (folder,) if folder.is_file() else (folder / "results.json", folder / "cells.csv"):
        if path.exists():
            text = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode()
            rows = list(csv.DictReader(text.splitlines())) if path.suffix == ".csv" else json.loads(text)["cells"]
            break
    else:
        sys.exit(f"{folder}: there is neither results.json nor cells.csv; l4sd eval --out {folder} writes them")
    return [
        Link(r["grid"], r["cell"], math.log(float(r["s_score"])))
        for r in rows
        if r["policy"] == policy and r["s_score"] not in (None, "")
    ]


def links_of(folder, policy):
    """Links of an evaluation under a policy, with seeds if they are there. S over all seeds is what the evaluation says."""
    links, seeds = by_link(folder, policy), by_seed(folder, policy)
    if not links:
        sys.exit(f"{folder}: nothing was run under '{policy}'")
    for link in links:
        if seeds.get(link.key) is not None:
            link.resampled = seeds[link.key].resampled
    return links


def oracle_of(folder, split):
    """Links of the oracle, on the seeds that its choices were not made by."""
    if (folder / f"results-{split}.json.gz").exists():
        whole = {(c["grid"], c["cell"]): c["s_score"] for c in headroom.load(folder, split)["cells"] if c["policy"] == "oracle"}
        links = []
        for record in values.records(folder, split):
            runs = next(o["runs"] for o in record["oracles"] if o["axis"] == "all")
            link = of_runs(record["cell"], runs, record["baseline"])
            if link is not None and whole.get(link.key):
                link.mean = math.log(whole[link.key])
                links.append(link)
        return links
    return links_of(folder, "oracle")


def paired(*sides):
    """The links that all have, in one order."""
    found = [{link.key: link for link in side} for side in sides]
    keys = sorted(set.intersection(*(set(f) for f in found)))
    if not keys:
        sys.exit("the folders have no link in common; they must be of one split, with the same --split-seed and --draws")
    return [[f[key] for key in keys] for f in found]


def bootstrap(sides, of, draws=DRAWS, seed=SEED):
    """(value, lo, hi) of a function of the mean ln S of each side: links are drawn, for each its seeds."""
    rng = np.random.default_rng(seed)
    n = len(sides[0])
    seeds = min(len(link.resampled) for side in sides for link in side)
    same = all(len(link.resampled) == seeds for side in sides for link in side) and seeds > 1
    table = [np.array([l.resampled if same else [l.mean] for l in side], dtype=float) for side in sides]
    for t, side in zip(table, sides):
        np.copyto(t, np.array([[l.mean] for l in side]), where=np.isnan(t))
    value = of(*(float(np.mean([l.mean for l in side])) for side in sides))
    means = np.empty((len(sides), draws))
    for d in range(draws):
        which = rng.integers(n, size=n)
        pick = rng.integers(table[0].shape[1], size=n)
        for s, t in enumerate(table):
            means[s, d] = t[which, pick].mean()
    drawn = of(*means)
    return (value, *np.quantile(drawn, [0.025, 0.975]))


def show(interval, digits=3):
    value, lo, hi = interval
    return f"{value:.{digits}f} ({lo:.{digits}f} to {hi:.{digits}f})"


def level(*sides):
    """Of which kind the interval is."""
    return "links, then seeds" if all(l.resampled for side in sides for l in side) else "links"


def share(policy, reference):
    """Of a log gain. Of none there is no share."""
    if np.ndim(reference) == 0 and reference == 0:
        sys.exit("what is compared with gains nothing on these links, so that there is no share of it")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(policy, reference)


def gate_identified(args):
    oracle, policy = paired(oracle_of(args.folders[0], args.split), links_of(args.folders[1], args.policy))
    got = bootstrap([policy, oracle], share)
    yield got[0] >= IDENTIFIED, f"G2 {show(got)} of the oracle's log gain, at least {IDENTIFIED}; {len(oracle)} links, over {level(oracle, policy)}"


def gate_student(args):
    names = [oracle_of(args.folders[0], args.split), *(links_of(f, args.policy) for f in args.folders[1:3])]
    oracle, trees, student = paired(*names)
    got = bootstrap([student, oracle], share)
    yield got[0] >= STUDENT, f"G3 {show(got)} of the oracle's log gain, at least {STUDENT}; {len(oracle)} links, over {level(oracle, student)}"
    ratio = bootstrap([student, trees], lambda a, b: np.exp(a - b))
    yield ratio[2] < 1, f"G3 S {show(ratio)} of the trees', below 1 with its interval; over {level(student, trees)}"
    yield from by_grid(args, "G3")


def by_grid(args, gate):
    """RL makes no grid worse, where --before and --after are given."""
    if args.before and args.after:
        before, after = paired(links_of(args.before, args.policy), links_of(args.after, args.policy))
        for grid in dict.fromkeys(l.grid for l in before):
            pair = [[l for l in side if l.grid == grid] for side in (after, before)]
            change = bootstrap(pair, lambda a, b: np.exp(a - b))
            yield math.log(change[0]) <= WORSE, f"{gate} {grid}: S after RL {show(change)} of that before, at most {math.exp(WORSE):.2f}"


def gate_teacher(args):
    teacher, student = paired(links_of(args.folders[0], "teacher"), links_of(args.folders[1], args.policy))
    ratio = bootstrap([teacher, student], lambda a, b: np.exp(a - b))
    s = [math.exp(np.mean([l.mean for l in side])) for side in (teacher, student)]
    yield ratio[2] < 1, f"G6 S of the teacher {show(ratio)} of the student's ({s[0]:.3f}, {s[1]:.3f}), below 1 with its interval; {len(teacher)} links, over {level(teacher, student)}"


def gate_distilled(args):
    teacher, student = paired(links_of(args.folders[0], "teacher"), links_of(args.folders[1], args.policy))
    got = bootstrap([student, teacher], share)
    yield got[0] >= DISTILLED, f"G7 {show(got)} of the teacher's log gain, at least {DISTILLED:.2f}; {len(teacher)} links, over {level(teacher, student)}"
    yield from by_grid(args, "G7")


def gate_switch(args):
    path = args.folders[0] / "results.json"
    if not path.exists():
        sys.exit(f"{path}: G4 needs the rows of phases; run l4sd eval switch --out {args.folders[0]}")
    rows = [r for r in json.loads(path.read_text())["summary"] if r["role"] == "baseline"]
    pick = lambda scope, policy: {r["name"]: r for r in rows if r["scope"] == scope and r["policy"] == policy}
    whole = pick("grid", args.policy).get("switch")
    if whole is None:
        sys.exit(f"{path}: the grid switch was not run under '{args.policy}'")
    s = whole["s_score"]
    yield s["value"] <= SWITCH, f"G4 S {headroom.interval(s)}, at most {SWITCH:.2f}; {whole['cells']} links"
    own = pick("phase", "dualpi2")
    for name, row in pick("phase", args.policy).items():
        feasible = row["feasible_share"]
        least = own[name]["feasible_share"]["value"] - FEASIBLE_POINTS / 100
        yield (
            feasible["value"] >= least - 1e-9,
            f"G4 {name}: feasible {headroom.percent(feasible)} %, at least {100 * least:.1f} %; {row['cells']} phases",
        )


def gate_real(args):
    pairs = json.loads(args.folders[0].read_text())
    wrong = [i for i, p in enumerate(pairs) if not all(isinstance(p.get(k), (int, float)) and p[k] > 0 for k in ("sim_s", "live_s"))]
    if not pairs or wrong:
        sys.exit(f"{args.folders[0]}: entry {wrong[0] if wrong else 0} has no sim_s and live_s above 0")
    sim, live = (np.log([p[k] for p in pairs]) for k in ("sim_s", "live_s"))
    agree = int(np.sum(np.sign(sim) == np.sign(live)))
    # 10 of 12 of however many there are; fewer links than 12 are no evidence.
    least = math.ceil(AGREE / PAIRS * len(pairs))
    clear = sum(1 for p in pairs if p.get("live_lo") and p.get("live_hi") and (p["live_hi"] < 1 or p["live_lo"] > 1))
    yield (
        agree >= least and len(pairs) >= PAIRS,
        f"G5 sign agrees on {agree} of {len(pairs)} links, at least {least} of {max(PAIRS, len(pairs))}; on {clear} the live interval excludes 1",
    )
    links = [[Link("live", str(p.get("link", i)), float(x)) for i, (p, x) in enumerate(zip(pairs, side))] for side in (live, sim)]
    got = bootstrap(links, share)
    gains = float(np.mean(sim)) < 0
    yield (
        gains and got[0] >= LIVE_SHARE,
        f"G5 live log gain {show(got)} of the simulator's, at least {LIVE_SHARE}; S {math.exp(np.mean(live)):.3f} live, {math.exp(np.mean(sim)):.3f} simulated; over links",
    )


def gate_tables(gate):
    return lambda args: headroom.GATES[gate](headroom.groups(headroom.load(args.folders[0], args.split)))


GATES = {
    "G0": (gate_tables("G0"), 1),
    "G1": (gate_tables("G1"), 1),
    "G2": (gate_identified, 2),
    "G3": (gate_student, 3),
    "G4": (gate_switch, 1),
    "G5": (gate_real, 1),
    "G6": (gate_teacher, 2),
    "G7": (gate_distilled, 2),
}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("gate", choices=GATES)
    parser.add_argument("folders", type=Path, nargs="+", metavar="PATH")
    parser.add_argument("--split", default="dev", choices=["train", "dev", "test"])
    parser.add_argument("--policy", default="model", help="as result rows name it")
    parser.add_argument("--before", type=Path, help="G3, G7: evaluation before RL")
    parser.add_argument("--after", type=Path, help="G3, G7: evaluation after RL")
    args = parser.parse_args(argv)
    gate, paths = GATES[args.gate]
    if len(args.folders) != paths:
        parser.error(f"{args.gate} takes {paths} path{'s' if paths > 1 else ''}")
    if (args.before is None) != (args.after is None):
        parser.error("--before and --after go together")
    outcomes = list(gate(args))
    for passed, text in outcomes:
        name, _, rest = text.partition(" ")
        print(f"{name} {'PASS' if passed else 'FAIL'} {rest}")
    return 0 if all(passed for passed, _ in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
