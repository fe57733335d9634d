#!/usr/bin/env python3
"""Do demonstrations help on families of links that were never trained on? A model of fewshot.py in closed loop, arm by arm.

    fewshot_eval.py MODEL.pt OUT.json GRID... [--split dev] [--seeds 3] [--draws 1]

Arms: k = 0, 1, 2, 4 demonstrations of the same link under other seeds; 4 of another link of these grids (any, or one with a near rate); 4 with
their outcomes dealt out anew; 4 of the link of a library with the nearest rate (--library DATA.npz --library-oracle DIR: train links), which is
what context = "auto" can know. Demonstrations are of RFC 9332's constants and of drawn settings.

- early: S without its feasibility of the 5 s after a link began, or after its rate, its flows or its phase changed; the simulator of
  l4sd_gym, figures averaged over seeds for candidate and DualPI2 alike.
- overall: the runs and the verdict of `l4sd eval`.

Intervals: two-level bootstrap, links, then seeds; differences are of the same draws. For `overall` the differences are over links.
"Works": right (k = 4) beats k = 0 and the wrong link, both early, intervals without 1; and the wrong link costs at most 3 % overall.
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
    return [a for a, b in zip(at, [*at[1:], length], strict=True) if b - a >= EARLY_S]


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
    """Figures (windows, seeds, 3) of the windows after changes; `context(link, seed)` places, or None for DualPI2."""
    runs = [(i, s) for s in range(seeds) for i in range(len(scenarios))]
    at = [changes(s) for s in scenarios]
    of = [i for i, a in enumerate(at) for _ in a]
    ends = np.array([a + EARLY_S for x in at for a in x])
    first = np.concatenate([[0], np.cumsum([len(a) for a in at])])
    figures = np.full((len(of), seeds, 3), np.nan)
    taken = np.zeros((len(of), seeds), bool)
    pick = None if context is None else fewshot.rule(model, args)

    def choose(features, current, links, when):
        return np.zeros(len(links), np.int64) if pick is None else pick(features, current, context[links])

    steps = demonstrations.run([scenarios[i] for i, _ in runs], [50021 * (s + 1) for _, s in runs], args.threads, choose, trail_s=EARLY_S)
    for when, _, infos, under_way in steps:
        for r in np.flatnonzero(under_way):
            i, s = runs[r]
            for w in range(first[i], first[i + 1]):
                if not taken[w, s] and when >= ends[w] - 1e-6:
                    taken[w, s] = True
                    figures[w, s] = [infos[k][r] for k in ("delay_l_ms", "delay_c_ms", "utilisation")]
    return np.array(of), figures


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
    parser.add_argument("--overall", nargs="*", metavar="ARM", help="arms that `l4sd eval` judges too; without this all, with nothing none")
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

    def contexts(arm, links):
        rng = np.random.default_rng(4242)
        shown = [auto(prompts.rate[prompts.links == i][0], rng) if arm[2] == "auto" else fewshot.shown_of(prompts, arm, i, None, rng) for i in links]
        return fewshot.contexts(model, *(np.array(x) for x in zip(*shown, strict=True)))

    runs = [i for _ in range(args.seeds) for i in range(len(scenarios))]
    reference = early(None, scenarios, args.seeds, None, args)
    table, verdicts = {}, {}
    for arm in arms:
        table[arm[0]] = early(model, scenarios, args.seeds, contexts(arm, runs), args)[1]
        if args.overall is None or arm[0] in args.overall:
            results = overall(model, args, args.grids, lambda told, arm=arm: contexts(arm, [place[g, c] for g, c, _ in told]))
            rows = [r for r in results["summary"] if r["scope"] == "overall" and r["against"] == "dualpi2" and r["policy"] == "few-shot"]
            cells = {(c["grid"], c["cell"]): c["s_score"] for c in results["cells"] if c["policy"] == "few-shot"}
            verdicts[arm[0]] = rows[0]["s_score"], rows[0]["feasible_share"], cells
        print(f"{arm[0]}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    report(args, scenarios, reference, table, verdicts)


def report(args, scenarios, reference, table, verdicts):
    of, figures = reference
    starts = np.array([t == 0 for s in scenarios for t in changes(s)])
    scores = early_scores(table, reference, args.bootstrap)
    first = early_scores({n: f[starts] for n, f in table.items()}, (of[starts], figures[starts]), args.bootstrap)
    later = early_scores({n: f[~starts] for n, f in table.items()}, (of[~starts], figures[~starts]), args.bootstrap) if (~starts).any() else None
    zero, right, wrong = "k = 0", "k = 4", "4, wrong link"
    used = {n: float(np.nanmean(f[..., 2] - figures[..., 2])) for n, f in table.items()}
    form = lambda x: f"{np.exp(x[0]):.3f} ({' to '.join(f'{np.exp(q):.3f}' for q in interval(x[1]))})"  # noqa: E731
    less = lambda a, b, s: (s[a][0] - s[b][0], s[a][1] - s[b][1])  # noqa: E731
    print(f"{len(set(of.tolist()))} links of {', '.join(args.grids)} ({args.split}), {args.seeds} seeds, {len(of)} windows of {EARLY_S:g} s, {(~starts).sum()} of them after a change")
    print("| demonstrations | S, first 5 s | after start | after change | against k = 0 | utilisation against DualPI2's, points | S overall | feasible % | overall against k = 0 |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    cells = {n: np.log([v[2][k] for k in sorted(v[2])]) for n, v in verdicts.items()}
    rng = np.random.default_rng(11)
    picks = rng.integers(len(next(iter(cells.values()))), size=(args.bootstrap, len(next(iter(cells.values()))))) if cells else None

    def against(a, b):
        d = cells[a] - cells[b]
        return float(d.mean()), d[picks].mean(1)

    rows = {}
    for n in table:
        o = [f"{v['value']:.3f} ({v['lo']:.3f} to {v['hi']:.3f})" if i == 0 else f"{100 * v['value']:.0f}" for i, v in enumerate(verdicts[n][:2])] if n in verdicts else ["", ""]
        rows[n] = [form(scores[n]), form(first[n]), form(later[n]) if later else "none", form(less(n, zero, scores)), f"{100 * used[n]:+.2f}", *o, form(against(n, zero)) if {n, zero} <= cells.keys() else ""]
        print(f"| {n} | " + " | ".join(rows[n]) + " |")
    over = {wrong, zero} <= cells.keys()
    for a, b in ((right, zero), (right, wrong), (right, "4, wrong, near rate"), (right, "4, permuted"), (wrong, zero)):
        print(f"{a} over {b}: early {form(less(a, b, scores))}" + (f", overall {form(against(a, b))}" if {a, b} <= cells.keys() else ""))
    better = all(interval(less(right, b, scores)[1])[1] < 0 for b in (zero, wrong))
    harm = np.exp((against(wrong, zero) if over else less(wrong, zero, scores))[0])
    print(f"{'PASS' if better and harm <= NO_HARM else 'FAIL'} few-shot works: right beats k = 0 and wrong, early: {'yes' if better else 'no'}; a wrong link costs {100 * (harm - 1):+.1f} % {'overall' if over else 'early'} (at most {100 * (NO_HARM - 1):.0f} %)")
    args.out.write_text(json.dumps({"grids": args.grids, "split": args.split, "seeds": args.seeds, "windows": len(of), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
