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

# Spread, in margins, of what a bound sees between two means of three seeds: DualPI2 against itself keeps a bound with
# probability .95 then, and all of them in nine cells of ten.
NOISE = 0.6


def records(folder, split):
    """Records of the links of a split, in the order of the file."""
    parts = sorted(Path(folder).glob(f"oracle-{split}.jsonl.gz*"))
    if not parts:
        raise SystemExit(f"{folder}: there is no oracle-{split}.jsonl.gz; models/train/oracle.sh writes it")
    text = gzip.decompress(b"".join(p.read_bytes() for p in parts)).decode()
    return [line["record"] for line in map(json.loads, text.splitlines()) if "record" in line]


def _mean_ms(figures, queue):
    return figures["mean_ms"][queue]


def probability(room):
    """That all bounds hold on other seeds."""
    return math.prod(0.5 * math.erfc(-x / NOISE / math.sqrt(2)) for x in room)


def table(record):
    """(values, chances): float arrays of shape (phases or 1, candidates), NaN where nothing is known."""
    cell = record["cell"]
    references, tried = {}, {}
    for t in record["tried"]:
        at = references if t["setting"] is None else tried
        # The longest run with the most seeds speaks.
        key = (t["seconds"], t["seeds"])
        at.setdefault(None if t["setting"] is None else tuple(t["setting"]), {})[key] = t
    references = references[None]
    phases = max((len(t.get("phases", [])) for t in references.values()), default=0)
    count = max(phases, 1)
    # The first phase is the warm-up and is not judged.
    names = [p["name"] for p in tomllib.loads(record["scenario"])["phase"]][1:] if phases else []
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
        pairs = zip(got["phases"], ref["phases"], names, strict=True) if phases else [(got["figures"], ref["figures"], None)]
        for p, (a, b, phase) in enumerate(pairs):
            value, room = judge(a, b, bursty=cell["bursty"], mice=cell["mice"], phase=phase)
            if value is not None:
                values[p, i] = value
                chances[p, i] = probability(room)
    return values, chances


def gain(values, chances):
    """Expected ln S: an infeasible cell cannot come under 1."""
    return chances * np.minimum(values, 0) + np.maximum(values, 0)
