#!/usr/bin/env python3
"""States of train links under other policies than the one that is trained: settings of the knobs that are held for a while.

    collect.py ORACLE_DIR OUT.npz [--split train] [--seed 1] [--links N]

Writes features (n, width) float32, the place of the link in the oracle's file, seconds since its beginning, and the schema's hash.
Needs l4sd_gym. Two cores simulate some 10 links/s.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import values

HOLD_S = (2.0, 16.0)
SAMPLE_S = 1.6
SLOW_S = 0.128


def load(files, records, schema):
    """[features, link, time] of each of these files, of the links of `records` only. Ends with a message if one is of another schema."""
    parts = []
    for file in files:
        data = np.load(file)
        if str(data["schema"]) != schema:
            sys.exit(f"{file}: made for schema {data['schema']}, this is {schema}; collect again")
        keep = data["link"] < len(records)
        parts.append([data[k][keep] for k in ("features", "link", "time")])
    return parts


def episodes(scenarios, seed, threads, choose=None):
    """Yields (link, time, observation) while the links of `scenarios` run once each. `choose(observations, current, links, time)`, if
    given, returns the candidates wanted; four of five links follow it, the others what is drawn."""
    from l4sd_gym import L4sdVectorEnv

    rng = np.random.default_rng(seed)
    n = len(scenarios)
    env = L4sdVectorEnv(n, scenarios, threads=threads, hold=8, twin=False, autoreset_mode="Disabled")
    for i in range(n):
        mask = np.zeros(n, bool)
        mask[i] = True
        observations, _ = env.reset(seed=int(seed) * 100003 + i, options={"scenario": i, "reset_mask": mask})
    follows = rng.random(n) < (0.0 if choose is None else 0.8)
    candidates = np.array(values.CANDIDATES)
    wanted = np.where(rng.random(n) < 0.5, 0, rng.integers(len(candidates), size=n))
    until = rng.uniform(*HOLD_S, size=n)
    sample = rng.uniform(0.3, SAMPLE_S, size=n)
    over, time = np.zeros(n, bool), 0.0
    while not over.all():
        change = (time >= until) & ~follows
        wanted = np.where(change, rng.integers(len(candidates), size=n), wanted)
        until = np.where(change, time + rng.uniform(*HOLD_S, size=n), until)
        take = (time >= sample) & ~over
        asked = follows & take
        if choose is not None and asked.any():
            wanted[asked] = choose(observations[asked], wanted[asked], np.flatnonzero(asked), np.full(asked.sum(), time))
        for i in np.flatnonzero(take):
            yield i, time, observations[i].copy()
        sample = np.where(take, time + rng.uniform(0.5, 1.5, size=n) * (SAMPLE_S if choose is None else 0.8), sample)
        actions = np.column_stack([candidates[wanted], np.full(n, 2)])
        observations, _, _, truncated, _ = env.step(actions)
        time += SLOW_S
        over |= truncated
        if truncated.any() and not over.all():
            mask = truncated.copy()
            observations, _ = env.reset(options={"reset_mask": mask})


def gather(records, seed, threads, choose=None, batch=48, log=sys.stderr):
    """Features, link and time of all records."""
    features, link, time = [], [], []
    for start in range(0, len(records), batch):
        part = records[start : start + batch]
        for i, t, x in episodes([r["scenario"] for r in part], seed + start, threads, choose):
            features.append(x)
            link.append(start + i)
            time.append(t)
        print(f"{start + len(part)} of {len(records)} links, {len(link)} states", file=log, flush=True)
    return np.array(features, np.float32), np.array(link, np.int32), np.array(time, np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("oracle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", default="train", choices=["train", "dev"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--links", type=int)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    import l4sd_gym

    records = values.records(args.oracle, args.split)[: args.links]
    features, link, time = gather(records, args.seed, args.threads)
    np.savez_compressed(args.out, features=features, link=link, time=time, schema=l4sd_gym.SCHEMA_HASH)


if __name__ == "__main__":
    main()
