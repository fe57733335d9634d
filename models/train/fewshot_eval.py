#!/usr/bin/env python3
"""Do demonstrations help on families of links that were never trained on? A model of fewshot.py in closed loop, arm by arm.

    fewshot_eval.py MODEL.safetensors OUT.json GRID... [--split dev] [--seeds 3] [--draws 1]

Arms: k = 0, 1, 2, 4 demonstrations of the same link under other seeds; 4 of another link of these grids (any, or one with a near rate); 4 with
their outcomes dealt out anew; 4 of the link of a library with the nearest rate (--library DATA.npz --library-oracle DIR: train links), which is
what context = "auto" can know. Demonstrations are of RFC 9332's constants and of drawn settings.

- early: S without its feasibility of the 5 s after a link began, or after its rate, its flows or its phase changed; the simulator of
  l4sd_gym, figures averaged over seeds for candidate and DualPI2 alike.
- overall: the runs and the verdict of `l4sd eval`.

Intervals: two-level bootstrap, links, then seeds; differences are of the same draws. For `overall` the differences are over links.
"Works": right (k = 4) beats k = 0 and the wrong link, both early, intervals without 1; and the wrong link costs at most 3 % overall (--part
says which of the two is judged; both by default).
"""

import argparse
import json
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import demonstrations
import fewshot
from demonstrations import FLOOR_C, FLOOR_L, MOST

EARLY_S = 5.0
DRAWS = 10_000
NO_HARM = 1.03
AUTO = "4, nearest rate of library"


def _seconds(text):
    return float(text.removesuffix("ms")) / 1e3 if text.endswith("ms") else float(text.removesuffix("s"))


def changes(scenario):
    """When a link begins or changes so that EARLY_S of the run follow before the next change: seconds, rising."""
    told = tomllib.loads(scenario)
    length = _seconds(told["duration"])
    link = told["link"]
    at = {0.0} | {_seconds(s["at"]) for s in link.get("steps", [])} | {_seconds(p["at"]) for p in told.get("phase", [])}
    if not told.get("phase"):
        at |= {_seconds(f[k]) for f in told.get("flow", []) for k in ("start", "stop") if k in f}
    at = sorted(a for a in at if a < length)
    # The last moment that is seen of a run is up to two periods before its end.
    return [a for a, b in zip(at, [*at[1:], length - 2 * demonstrations.PERIOD_S], strict=True) if b - a >= EARLY_S]


def ln_score(figures, reference):
    """ln S before feasibility of (..., 3): delay of L and C in ms, NaN where there is none, and utilisation."""
    with np.errstate(invalid="ignore"):
        l, c = (np.log((figures[..., i] + f) / (reference[..., i] + f)) for i, f in ((0, FLOOR_L), (1, FLOOR_C)))
    queues = (~np.isnan(l)).astype(int) + ~np.isnan(c)
    return (np.nan_to_num(l) + np.nan_to_num(c)) / np.maximum(queues, 1) + np.log(reference[..., 2] / np.maximum(figures[..., 2], 1e-3))


def over_seeds(figures):
    """Mean over the seeds, axis 1, of what is known."""
    known = ~np.isnan(figures)
    count = known.sum(1)
    return np.where(count > 0, np.where(known, figures, 0).sum(1) / np.maximum(count, 1), np.nan)


def draws(links, seeds, rng, count):
    """`count` draws of links (links,) and, for each, of seeds (links, seeds)."""
    for _ in range(count):
        yield rng.integers(links, size=links), rng.integers(seeds, size=(links, seeds))


def early_scores(table, reference, count=DRAWS, seed=7):
    """{arm: figures (windows, seeds, 3)} with `link` of each window in `reference`: (of, figures). Returns {arm: (mean, draws)} of ln S, a link
    being the mean of its windows."""
    of, ref = reference
    names = sorted(set(of.tolist()))
    place = np.searchsorted(names, of)
    weight = 1 / np.bincount(place)[place]
    whole = np.arange(ref.shape[1])[None].repeat(len(of), 0)

    def at(figures, seeds):
        pick = np.arange(len(of))[:, None], seeds
        return ln_score(over_seeds(figures[pick]), over_seeds(ref[pick])) * weight

    by_link = lambda x: np.bincount(place, x, len(names))  # noqa: E731
    out = {name: [float(by_link(at(f, whole)).mean()), []] for name, f in table.items()}
    rng = np.random.default_rng(seed)
    for links, seeds in draws(len(names), ref.shape[1], rng, count):
        for name, f in table.items():
            out[name][1].append(by_link(at(f, seeds[place]))[links].mean())
    return {name: (mean, np.array(d)) for name, (mean, d) in out.items()}


def interval(x):
    return [float(q) for q in np.quantile(x, (0.025, 0.975))]


def early(model, scenarios, seeds, context, args):
    """(link of each window, figures (windows, seeds, 3)) of the windows after changes; `context` has a row for each seed and link, link
    by link; None is DualPI2."""
    at = [changes(s) for s in scenarios]
    of = np.array([i for i, a in enumerate(at) for _ in a])
    ends = np.array([a + EARLY_S for x in at for a in x])
    figures = np.full((len(of), seeds, 3), np.nan)
    pick = None if context is None else fewshot.rule(model, args)
    # A link is run no longer than its windows want.
    for brief in (True, False):
        some = [i for i, a in enumerate(at) if (len(a) == 1) == brief]
        if not some:
            continue
        runs = [(i, s) for s in range(seeds) for i in some]
        rows = None if context is None else context[[s * len(scenarios) + i for i, s in runs]]

        def choose(features, current, links, when, rows=rows):
            return np.zeros(len(links), np.int64) if pick is None else pick(features, current, rows[links])

        windows = [np.flatnonzero(of == i) for i, _ in runs]
        taken = [0] * len(runs)
        until = EARLY_S + 2 * demonstrations.PERIOD_S if brief else None
        steps = demonstrations.run([scenarios[i] for i, _ in runs], [50021 * (s + 1) for _, s in runs], args.threads, choose, until, EARLY_S)
        for when, _, infos, under_way in steps:
            for r in np.flatnonzero(under_way):
                if taken[r] < len(windows[r]) and when >= ends[windows[r][taken[r]]] - 1e-6:
                    figures[windows[r][taken[r]], runs[r][1]] = [infos[k][r] for k in ("delay_l_ms", "delay_c_ms", "utilisation")]
                    taken[r] += 1
    return of, figures


def overall(model, args, grids, contexts_of):
    """Results of `l4sd eval`; `contexts_of(runs)` are contexts of (grid, cell, seed)."""
    from l4sd_gym.evaluation import closed_loop

    class Policy:
        def begin(self, runs):
            self.context = contexts_of(runs)
            self.pick = fewshot.rule(model, args)

        def __call__(self, ids, features, current, when):
            return np.asarray(self.pick(features, current, self.context[ids]))

    more = {"smoke": True} if args.smoke else {}
    return closed_loop(Policy(), grids, split=args.split, split_seed=args.split_seed, seeds=args.seeds, draws=args.draws, name="few-shot", out=args.records, **more)


def library(args, links):
    """Prompts of the train link with the nearest rate for each rate, from the data that fewshot.py trained on."""
    import values

    data = fewshot.Data.load(args.library)
    train = values.records(args.library_oracle, "train")
    held = {i for i, r in enumerate(train) if r["cell"]["grid"] in args.grids}
    there = [i for i in sorted(set(data.bank.link.tolist())) if i not in held]
    prompts = fewshot.Prompts(data.bank, there)
    return lambda rate, rng: prompts.show(int(prompts.links[np.abs(prompts.rate - rate).argmin()]), None, MOST, rng)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("grids", nargs="+", metavar="GRID")
    parser.add_argument("--split", default="dev", choices=("train", "dev", "test"))
    parser.add_argument("--split-seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--library", type=Path)
    parser.add_argument("--library-oracle", type=Path)
    parser.add_argument("--arm", action="append", help="only these arms")
    parser.add_argument("--part", default="both", choices=("both", "early", "overall"))
    parser.add_argument("--records", type=Path, help="where DualPI2's runs of `l4sd eval` are kept")
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--hysteresis", type=float)
    parser.add_argument("--bootstrap", type=int, default=DRAWS)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    import l4sd_gym

    torch.set_num_threads(args.threads)
    names = list(l4sd_gym.FEATURES)
    model, saved = fewshot.load(args.model, names)
    for key in ("threshold", "hysteresis"):
        if getattr(args, key) is None:
            setattr(args, key, saved["metadata"][f"l4sd.{key}"])
    trained = set(args.grids) - set(saved["metadata"]["held_out"].split(","))
    if trained:
        print(f"note: {', '.join(sorted(trained))} were trained on")
    scenarios = [s for g in args.grids for s in l4sd_gym.grid_scenarios(g, args.split, args.split_seed, args.draws, args.smoke)]
    titles = [tomllib.loads(s)["name"] for s in scenarios]
    place = {(t.split("/")[0], t.split("/", 2)[2]): i for i, t in enumerate(titles)}
    begin = time.monotonic()
    parts = []
    for episode, choose in enumerate((demonstrations.constants, demonstrations.settings(len(scenarios), 77))):
        (rows, link), _ = demonstrations.gather(scenarios, episode, 900007, args.threads, choose, fewshot.PER_EPISODE, names)
        parts.append(demonstrations.Bank(rows, link, np.full(len(rows), episode)))
    bank = demonstrations.Bank(*(np.concatenate([getattr(p, n) for p in parts]) for n in demonstrations.Bank.ARRAYS))
    prompts = fewshot.Prompts(bank, range(len(scenarios)))
    auto = library(args, scenarios) if args.library else None
    arms = [*fewshot.ARMS, *([(AUTO, MOST, "auto")] if auto else [])]

    arms = [arm for arm in arms if not args.arm or arm[0] in args.arm]

    def contexts(arm, links):
        rng = np.random.default_rng(4242)
        shown = [auto(prompts.rate[prompts.links == i][0], rng) if arm[2] == "auto" else fewshot.shown_of(prompts, arm, i, None, rng) for i in links]
        return fewshot.contexts(model, *(np.array(x) for x in zip(*shown, strict=True)))

    runs = [i for _ in range(args.seeds) for i in range(len(scenarios))]
    reference = early(None, scenarios, args.seeds, None, args) if args.part != "overall" else None
    table, verdicts = {}, {}
    for arm in arms:
        if args.part != "overall":
            table[arm[0]] = early(model, scenarios, args.seeds, contexts(arm, runs), args)[1]
        if args.part != "early":
            results = overall(model, args, args.grids, lambda told, arm=arm: contexts(arm, [place[g, c] for g, c, _ in told]))
            rows = [r for r in results["summary"] if r["scope"] == "overall" and r["against"] == "dualpi2" and r["policy"] == "few-shot"]
            cells = {(c["grid"], c["cell"]): c["s_score"] for c in results["cells"] if c["policy"] == "few-shot"}
            verdicts[arm[0]] = rows[0]["s_score"], rows[0]["feasible_share"], cells
        print(f"{arm[0]}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    report(args, scenarios, reference, table, verdicts)


def shown(x):
    """A factor and its interval, of ln."""
    return f"{np.exp(x[0]):.3f} ({' to '.join(f'{np.exp(q):.3f}' for q in interval(x[1]))})"


def difference(scores, a, b):
    """Of two arms, draw by draw; None if one of them was not run."""
    return (scores[a][0] - scores[b][0], scores[a][1] - scores[b][1]) if a in scores and b in scores else None


def overall_scores(verdicts, count, seed=11):
    """{arm: (mean, draws)} of ln S as `l4sd eval` has it, over links."""
    cells = {n: np.log([v[2][k] for k in sorted(v[2])]) for n, v in verdicts.items()}
    links = len(next(iter(cells.values()), ()))
    picks = np.random.default_rng(seed).integers(max(links, 1), size=(count, links))
    return {n: (float(c.mean()), c[picks].mean(1)) for n, c in cells.items()}


ZERO, RIGHT, WRONG = "k = 0", "k = 4", "4, wrong link"


def report(args, scenarios, reference, table, verdicts):
    head, columns = [f"{len(scenarios)} links of {', '.join(args.grids)} ({args.split}), {args.seeds} seeds"], {}
    early_s = {}
    if table:
        of, figures = reference
        starts = np.array([t == 0 for s in scenarios for t in changes(s)])
        head.append(f"{len(of)} windows of {EARLY_S:g} s, {(~starts).sum()} of them after a change")
        early_s = early_scores(table, reference, args.bootstrap)
        columns["S, first 5 s"] = {n: shown(x) for n, x in early_s.items()}
        for name, some in (("after start", starts), ("after change", ~starts)):
            if some.any():
                scores = early_scores({n: f[some] for n, f in table.items()}, (of[some], figures[some]), args.bootstrap)
                columns[name] = {n: shown(x) for n, x in scores.items()}
        columns["against k = 0"] = {n: shown(difference(early_s, n, ZERO)) for n in table if ZERO in table}
        columns["utilisation, points"] = {n: f"{100 * np.nanmean(f[..., 2] - figures[..., 2]):+.2f}" for n, f in table.items()}
    all_s = overall_scores(verdicts, args.bootstrap)
    if verdicts:
        columns["S overall"] = {n: f"{v[0]['value']:.3f} ({v[0]['lo']:.3f} to {v[0]['hi']:.3f})" for n, v in verdicts.items()}
        columns["feasible %"] = {n: f"{100 * v[1]['value']:.0f}" for n, v in verdicts.items()}
        columns["overall against k = 0"] = {n: shown(difference(all_s, n, ZERO)) for n in verdicts if ZERO in verdicts}
    print(", ".join(head))
    print("| demonstrations | " + " | ".join(columns) + " |\n|---|" + "--:|" * len(columns))
    for n in table or verdicts:
        print(f"| {n} | " + " | ".join(c.get(n, "") for c in columns.values()) + " |")
    said = []
    for a, b in ((RIGHT, ZERO), (RIGHT, WRONG), (RIGHT, "4, wrong, near rate"), (RIGHT, "4, permuted"), (WRONG, ZERO)):
        told = [f"{name} {shown(x)}" for name, x in (("early", difference(early_s, a, b)), ("overall", difference(all_s, a, b))) if x is not None]
        if told:
            said.append(f"{a} over {b}: " + ", ".join(told))
    if {ZERO, RIGHT, WRONG} <= early_s.keys():
        better = all(interval(difference(early_s, RIGHT, b)[1])[1] < 0 for b in (ZERO, WRONG))
        said.append(f"{'yes' if better else 'no'}: right beats k = 0 and the wrong link early, intervals without 1")
    harm = difference(all_s, WRONG, ZERO)
    if harm is not None:
        said.append(f"{'yes' if np.exp(harm[0]) <= NO_HARM else 'no'}: a wrong link costs at most {100 * (NO_HARM - 1):.0f} % overall; it costs {100 * (np.exp(harm[0]) - 1):+.1f} %")
    print("\n".join(said))
    args.out.write_text(json.dumps({"grids": args.grids, "split": args.split, "seeds": args.seeds, "columns": columns, "said": said}, indent=1))


if __name__ == "__main__":
    main()
