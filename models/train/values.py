"""What settings of the knobs are worth on a link: labels from the files of models/train/oracle.sh.

Of each link and candidate: ln of the score against RFC 9332's constants before feasibility is looked at, and the probability
of being feasible. A setting that was not tried on a link because a knob is without effect there (the ramp without L, target and
gain without C) has the value of the one that differs in that knob alone. Where the scenario has phases, there is a value for each.

It does not simulate, and states no formula of the AQM; scores and bounds are those of src/eval/score.rs.
"""

import gzip
import json
import math
from pathlib import Path

import numpy as np

TARGETS, GAINS, RAMPS = 12, 5, 12
DEFAULT = (9, 2, 4)

# The lattice that the oracle tries first where there is both kinds of traffic (src/eval/oracle/settings.rs); default first.
CANDIDATES = [DEFAULT] + sorted(
    {(t, 2, 4) for t in range(TARGETS)}
    | {(t, g, 4) for t in (5, 7, 9) for g in range(GAINS)}
    | {(t, 2, r) for t in (3, 5, 7, 9) for r in (0, 2, 6, 8, 10)} - {DEFAULT}
)
CANDIDATES = list(dict.fromkeys(CANDIDATES))

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


def score(got, ref):
    """ln S before feasibility, or None without a reference."""
    ratios = []
    for queue, floor in (("l", 0.2), ("c", 0.5)):
        r, x = _mean_ms(ref, queue), _mean_ms(got, queue)
        if r is not None:
            ratios.append(1.0 if x is None else (x + floor) / (r + floor))
    if not ratios:
        return None
    used = [max(f["utilization"] or 0.0, 1e-3) for f in (ref, got)]
    return sum(map(math.log, ratios)) / len(ratios) + math.log(used[0] / used[1])


def keeping(got, ref, bursty, mice):
    """How far within each bound, in its margins: 1 where there is no difference, 0 at the bound."""
    room = [1 - ((ref["utilization"] or 0) - (got["utilization"] or 0)) / 0.01]
    a, b = got["abs_log2_ratio"], ref["abs_log2_ratio"]
    if a is not None and b is not None:
        room.append(1 - (a - max(b, 1)) / 0.1)
    for queue in ("l", "c"):
        a, b = got["p99_ms"][queue], ref["p99_ms"][queue]
        if b is not None:
            margin = 2.0 if bursty and queue == "l" else 0.1 * b
            room.append(-10.0 if a is None else 1 - (a - b) / max(margin, 1e-9))
    if mice:
        for a, b in zip(got["mice_p95_ms"], ref["mice_p95_ms"], strict=False):
            if b is not None:
                room.append(-10.0 if a is None else 1 - (a - b) / (0.05 * b))
    return room


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
        pairs = list(zip(got["phases"], ref["phases"], strict=True)) if phases else [(got["figures"], ref["figures"])]
        for p, (a, b) in enumerate(pairs):
            value = score(a, b)
            if value is not None:
                values[p, i] = value
                chances[p, i] = probability(keeping(a, b, cell["bursty"], cell["mice"]))
    return values, chances


def gain(values, chances):
    """Expected ln S: an infeasible cell cannot come under 1."""
    return chances * np.minimum(values, 0) + np.maximum(values, 0)
