"""What settings of the knobs are worth on a link: labels from the files of models/train/oracle.sh.

Of each link and candidate: ln of the score against RFC 9332's constants before feasibility is looked at, and the probability
of being feasible. Of a setting that was not tried, what its knobs add one by one is put together: that is off by .02 (the median) where
a setting is off by .01 from brief runs to full ones. Where the scenario has phases, there is a value for each.

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
# In margins: how far the room of a setting that was not tried is from what `between` says of it, beyond what seeds do.
BUILT = {"utilization": 0.5, "ratio": 1.0, "p99_l": 0.4, "p99_c": 0.4, "mice": 1.0}

# Expected ln S, and logit of being feasible, of a candidate that a model file does not score: whatever its threshold is, it is not chosen.
UNSCORED = (99.0, -99.0)


def knobs(settings=CANDIDATES):
    """(target_s, gain, ramp_min_s) of each of `settings`, bins of the three."""
    from l4sd_gym import ACTION_VALUES

    t, g, r = (ACTION_VALUES[k] for k in ("target", "gain", "ramp_min"))
    return [(round(t[a] / 1e3, 9), g[b], round(r[c] / 1e3, 9)) for a, b, c in settings]


def as_candidates(told, name):
    """What puts (score, feasible), each (n, settings of a model file), in the order of CANDIDATES. Those that the file does not score are never
    chosen, nor are those that export.py --wider put behind the ones that were taught; another setting that is no candidate would be lost, and is refused. `told` is the file's metadata, `name` what errors call it."""
    has, today = [tuple(setting) for setting in json.loads(told["l4sd.candidates"])], knobs()
    has = has[: int(told.get("taught", len(has)))]
    if lost := set(has) - set(today):
        raise SystemExit(f"{name}: it has the setting {list(min(lost))}, which is no candidate any more (src/eval/oracle/settings.rs); take one that was trained since")
    place = np.array([has.index(setting) if setting in has else -1 for setting in today])

    def placed(score, feasible):
        return tuple(np.where(place < 0, np.float32(none), x[:, place]) for none, x in zip(UNSCORED, (score, feasible), strict=True))

    return placed


def records(folder, split):
    """Records of the links of a split, in the order of the file; of train, those of low behind them if they are there."""
    parts = sorted(Path(folder).glob(f"oracle-{split}.jsonl.gz*"))
    if not parts:
        raise SystemExit(f"{folder}: there is no oracle-{split}.jsonl.gz; models/train/oracle.sh writes it")
    if split == "train":
        parts += sorted(Path(folder).glob("oracle-low.jsonl.gz*"))
    text = gzip.decompress(b"".join(p.read_bytes() for p in parts)).decode()
    found = [line["record"] for line in map(json.loads, text.splitlines()) if "record" in line]
    rules = {}
    for record in found:
        link = json.dumps([record.get("cell"), record.get("scenario")])
        if rules.setdefault(link, record.get("feed_forward")) != record.get("feed_forward"):
            raise SystemExit(f"{folder}: {record['cell']['grid']}/{record['cell']['name']} was searched with and without a feed-forward rule; keep one of the two")
    return found


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


def probability(room, spread, grid, phase=None, built=False):
    """That all bounds hold on other seeds; `built` rooms are less certain."""

    def of(bound):
        return math.hypot(spread.get((grid, phase, bound), ASSUMED), BUILT[bound] if built else 0.0)

    return math.prod(0.5 * math.erfc(-float(x) / of(bound) / math.sqrt(2)) for bound, x in room)


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


def _measured(record, references, tried, phase, name):
    """({setting: value and rooms}, bounds) of what was tried on a link, in a phase of it (place and name) or as a whole; the longest run with the
    most seeds speaks. A bound of which a run says nothing, such as the ratio where C got nothing, counts as broken by FAR."""
    cell = record["cell"]

    def of(got, reference):
        value, room = judge(got, reference, bursty=cell["bursty"], mice=cell["mice"], phase=name)
        return value, named(room, reference, got)

    def part(run):
        return run["figures"] if phase is None else run["phases"][phase]

    reference = part(references[max(references)])
    _, room = of(reference, reference)
    bounds = [bound for bound, _ in room]
    measured = {DEFAULT: np.array([0.0] + [x for _, x in room])}
    for setting, runs in tried.items():
        both = [key for key in runs if key in references]
        if both:
            value, room = of(part(runs[max(both)]), part(references[max(both)]))
            if value is not None:
                told = {bound: [x for b, x in room if b == bound] for bound in bounds}
                measured[setting] = np.array([value] + [told[bound].pop(0) if told[bound] else -FAR for bound in bounds])
    return measured, bounds


def _along(points, length):
    """Rows 0 to `length` - 1 between the rows of {place: row}, the outermost beyond them; None if there is none."""
    if not points:
        return None
    at = sorted(points)
    rows = np.array([points[i] for i in at])
    return np.stack([np.interp(range(length), at, column) for column in rows.T], 1)


def between(measured, has_l, has_c, settings):
    """(rows, built): of each setting what `measured`, {setting: row}, says of it, or, where it was not tried, the row of its target alone and
    what gain and ramp each add to that, at the nearest targets at which they were tried, rooms within FAR; NaN where nothing is known.
    `built` is 1 for those that were put together. A knob without effect (ramp without L, gain and any target from that of DEFAULT on without C) is as it is in DEFAULT."""
    target, gain, ramp = DEFAULT
    targets = 1 + max(t for t, _, _ in [*settings, *measured])
    ramps = 1 + max(r for _, _, r in [*settings, *measured])
    width = len(measured[DEFAULT])

    def alike(setting):
        t, g, r = setting
        if not has_c:
            t, g = min(t, target), gain
        return t, g, r if has_l else ramp

    known = {}
    for setting, row in measured.items():
        known.setdefault(alike(setting), row)
    summed = {s: np.concatenate([row[:1], np.clip(row[1:], -FAR, FAR)]) for s, row in known.items()}
    alone = _along({t: row for (t, g, r), row in summed.items() if (g, r) == (gain, ramp)}, targets)

    def effect(of):
        """What settings `of(target)` add to the target alone, by target."""
        return _along({t: summed[of(t)] - summed[t, gain, ramp] for t in range(targets) if of(t) in summed and (t, gain, ramp) in summed}, targets)

    gains = {g: effect(lambda t, g=g: (t, g, ramp)) for g in {g for _, g, _ in map(alike, settings)}}
    tried = {r: effect(lambda t, r=r: (t, gain, r)) for r in range(ramps)}
    tried = {r: e for r, e in tried.items() if e is not None}
    ladder = _along({r: e.ravel() for r, e in tried.items()}, ramps).reshape(ramps, targets, width)
    rows, built = np.full((len(settings), width), np.nan), np.zeros(len(settings), int)
    for i, setting in enumerate(settings):
        t, g, r = alike(setting)
        if (t, g, r) in known:
            rows[i] = known[t, g, r]
        elif gains[g] is not None and (r in tried or min(tried) < r < max(tried)):
            rows[i] = alone[t] + gains[g][t] + ladder[r][t]
            built[i] = 1
    return rows, built


def known(record):
    """What `table` goes by whatever the margins, [(phase or None, bounds, rows, built)]: rows are those of `between` for all candidates."""
    references, tried = _longest(record)
    names = _phases(record)
    has_l, has_c = (any(_mean_ms(t["figures"], queue) is not None for t in references.values()) for queue in "lc")
    found = []
    for phase, name in enumerate(names) if names else [(None, None)]:
        measured, bounds = _measured(record, references, tried, phase, name)
        rows, built = between(measured, has_l, has_c, CANDIDATES)
        if DEFAULT not in tried:
            # Against itself it holds every bound, by however little.
            built[0] = -1
        found.append((name, bounds, rows, built))
    return found


def table(record, spread, slack=None, told=None):
    """`spread` is that of `noise`; `slack` gives margins by which a bound counts as wider ({bound: margins}); `told` is `known` of the record, if that is
    at hand. (values, chances): float arrays of shape (phases or 1, candidates), NaN where nothing is known. What was not tried is put
    together from what was (`between`), and less certain."""
    grid = record["cell"]["grid"]
    values, chances = [], []
    for name, bounds, rows, built in told or known(record):
        values.append(rows[:, 0])
        chances.append([])
        for row, sums in zip(rows, built, strict=True):
            room = [(bound, x + (slack or {}).get(bound, 0.0)) for bound, x in zip(bounds, row[1:], strict=True)]
            chances[-1].append(1.0 if sums < 0 else probability(room, spread, grid, name, sums > 0))
    return np.array(values), np.array(chances)


def gain(values, chances):
    """Expected ln S: an infeasible cell cannot come under 1."""
    return chances * np.minimum(values, 0) + np.maximum(values, 0)
