"""What settings of the knobs are worth on a link: labels from the files of models/train/oracle.sh.

Of each link and candidate: ln of the score against RFC 9332's constants before feasibility is looked at, and the probability
of being feasible. A setting that was not tried on a link because a knob is without effect there (the ramp without L, target and
gain without C) has the value of the one that differs in that knob alone. Where the scenario has phases, there is a value for each.

It does not simulate, and states no formula of the AQM; candidates, scores and bounds come from l4sd_gym.rules, which is
src/eval in Rust.
"""

import gzip
import json
import math
import tomllib
from pathlib import Path

import numpy as np
from l4sd_gym.rules import CANDIDATES, judge

DEFAULT = CANDIDATES[0]

# Least and most of `noise`, and what is assumed where it has too little to go by.
SPREAD = (0.3, 3.0)
ASSUMED = 0.6
# In margins: where a bound is out of sight. And differences without which nothing is said of a spread.
FAR = 5.0
FEWEST = 20


def records(folder, split):
    """Records of the links of a split, in the order of the file."""
    parts = sorted(Path(folder).glob(f"oracle-{split}.jsonl.gz*"))
    if not parts:
        raise SystemExit(f"{folder}: there is no oracle-{split}.jsonl.gz; models/train/oracle.sh writes it")
    text = gzip.decompress(b"".join(p.read_bytes() for p in parts)).decode()
    return [line["record"] for line in map(json.loads, text.splitlines()) if "record" in line]


def _mean_ms(figures, queue):
    return figures["mean_ms"][queue]


def _bounds(figures, got):
    """Names of the bounds in the order in which l4sd_gym.rules.judge has them, figures being the reference's."""
    names = ["utilization"] if figures["utilization"] is not None else []
    if figures["abs_log2_ratio"] is not None and got["abs_log2_ratio"] is not None:
        names.append("ratio")
    return names + [f"p99_{q}" for q in ("l", "c") if figures["p99_ms"][q] is not None]


def _mean(runs):
    """Figures of several runs as one; what one of them lacks is None."""
    first = runs[0]
    if isinstance(first, dict):
        return {k: _mean([r[k] for r in runs]) for k in first}
    if isinstance(first, list):
        return [_mean(list(x)) for x in zip(*runs, strict=True)]
    return None if any(r is None for r in runs) else sum(runs) / len(runs)


def named(rooms, reference, got):
    """[(bound, room)]; what follows the bounds on the queues is of mice."""
    names = _bounds(reference, got)
    return list(zip(names + ["mice"] * (len(rooms) - len(names)), rooms, strict=True))


def _differences(cell, search, fresh, phase=None):
    """(bound, difference of its room in margins) between two pairs of figures, (setting, reference) each, of the same link."""
    (a, ref_a), (b, ref_b) = search, fresh
    rooms = [judge(x, ref, bursty=cell["bursty"], mice=cell["mice"], phase=phase)[1] for x, ref in (search, fresh)]
    if any(r is None for r in rooms):
        return
    searched, again = named(rooms[0], ref_a, a), named(rooms[1], ref_b, b)
    if [bound for bound, _ in searched] != [bound for bound, _ in again]:
        return
    for (bound, x), (_, y) in zip(searched, again, strict=True):
        # Far from the bound the difference says nothing about it.
        if abs(x) < FAR or abs(y) < FAR:
            yield bound, float(np.clip(y - x, -3, 3))


def noise(records):
    """{(grid, phase, bound): spread, in margins, of what a bound sees of a setting from seeds to others}; phase is None for whole runs, there
    between the search and the oracle's runs on fresh seeds. A phase is shorter and sees more of it: between its brief runs and its
    runs in full, whose seeds are others too. Between the root mean square and the median's estimate of it, as the tails are long."""
    seen = {}

    def take(cell, phase, *pairs):
        for bound, x in _differences(cell, *pairs, phase):
            seen.setdefault((cell["grid"], phase, bound), []).append(x)

    for r in records:
        cell, (references, tried) = r["cell"], _longest(r)
        baseline = _mean(r["baseline"]) if r.get("baseline") else None
        for oracle in r.get("oracles", []):
            setting = tuple(oracle["setting"])
            both = [key for key in tried.get(setting, ()) if key in references]
            if setting != DEFAULT and both:
                take(cell, None, (tried[setting][max(both)]["figures"], references[max(both)]["figures"]), (_mean(oracle["runs"]), baseline))
        names = _phases(r)
        for setting, runs in tried.items():
            both = sorted(key for key in runs if key in references)
            if names and setting != DEFAULT and len(both) > 1:
                least, most = ([(runs[key]["phases"][p], references[key]["phases"][p]) for p in range(len(names))] for key in (both[0], both[-1]))
                for phase, brief, full in zip(names, least, most, strict=True):
                    take(cell, phase, brief, full)
    spread = {}
    for key, x in seen.items():
        if len(x) >= FEWEST:
            rms, median = math.sqrt(np.mean(np.square(x))), 1.48 * float(np.median(np.abs(x)))
            spread[key] = min(max(math.sqrt(rms * max(median, SPREAD[0])), SPREAD[0]), SPREAD[1])
    return spread


def probability(room, spread, grid, phase=None):
    """That all bounds hold on other seeds."""
    return math.prod(0.5 * math.erfc(-x / spread.get((grid, phase, bound), ASSUMED) / math.sqrt(2)) for bound, x in room)


def _phases(record):
    """Names of the phases that are judged: the first is the warm-up."""
    if not any(t.get("phases") for t in record["tried"]):
        return []
    return [p["name"] for p in tomllib.loads(record["scenario"])["phase"]][1:]


def _longest(record):
    """({(seconds, seeds): RFC 9332's constants}, {setting: likewise}) of what was tried."""
    references, tried = {}, {}
    for t in record["tried"]:
        at = references if t["setting"] is None else tried.setdefault(tuple(t["setting"]), {})
        at[t["seconds"], t["seeds"]] = t
    return references, tried


def table(record, spread, slack=None):
    """`spread` is that of `noise`; `slack` gives margins by which a bound counts as wider ({bound: margins}). (values, chances): float arrays of shape (phases or 1, candidates), NaN where nothing is known."""
    cell = record["cell"]
    # The longest run with the most seeds speaks.
    references, tried = _longest(record)
    names = _phases(record)
    count = max(len(names), 1)
    values = np.full((count, len(CANDIDATES)), np.nan)
    chances = np.full((count, len(CANDIDATES)), np.nan)
    values[:, 0], chances[:, 0] = 0.0, 1.0
    has_l = any(_mean_ms(t["figures"], "l") is not None for t in references.values())
    has_c = any(_mean_ms(t["figures"], "c") is not None for t in references.values())

    def found(setting):
        t, g, r = setting
        for other in (setting, setting if has_l else (t, g, DEFAULT[2]), setting if has_c else (DEFAULT[0], DEFAULT[1], r)):
            if other in tried:
                return tried[other]
        return None

    for i, setting in enumerate(CANDIDATES[1:], 1):
        runs = found(setting)
        if runs is None:
            if (not has_l and setting[:2] == DEFAULT[:2]) or (not has_c and setting[2] == DEFAULT[2]):
                values[:, i], chances[:, i] = 0.0, 1.0
            continue
        both = [key for key in runs if key in references]
        if not both:
            continue
        key = max(both)
        got, ref = runs[key], references[key]
        pairs = zip(got["phases"], ref["phases"], names, strict=True) if names else [(got["figures"], ref["figures"], None)]
        for p, (a, b, phase) in enumerate(pairs):
            value, room = judge(a, b, bursty=cell["bursty"], mice=cell["mice"], phase=phase)
            if value is not None:
                values[p, i] = value
                wider = [(bound, x + (slack or {}).get(bound, 0.0)) for bound, x in named(room, b, a)]
            chances[p, i] = probability(wider, spread, cell["grid"], phase)
    return values, chances


def gain(values, chances):
    """Expected ln S: an infeasible cell cannot come under 1."""
    return chances * np.minimum(values, 0) + np.maximum(values, 0)
