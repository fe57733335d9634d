"""Demonstrations: what a link did under settings that were in force, for a student to read before it sees the link itself.

A demonstration is RECORDS records, PERIOD_S apart, of one link: the slow features of models/schema.toml, the action in force, and what came
of it in the time since the record before (queue delay of C and L, utilisation, and the rate of a flow in L against one in C as the telemetry
estimates it over 4 s: a live link knows no other). All of it can be worked out of what `l4sd sim --record` writes; src/control/context does so.
Up to MOST demonstrations make a prompt, in order of rising return.

It simulates through l4sd_gym and labels nothing.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import values

RECORDS = 12
PERIOD_S = 0.128
MOST = 4
# A demonstration ends no earlier: features over 4 s have settled.
SETTLED_S = 4.6
# Floors of the score, ms.
FLOOR_C, FLOOR_L = 0.5, 0.2
DOUBLINGS = 6.0
ACTION = ("action.target", "action.gain", "action.ramp_min")
OUTCOMES = ("has_c", "delay_c", "has_l", "delay_l", "utilisation", "has_ratio", "ratio")
FEED_FORWARD_NONE = 2


def slow(names):
    """Places of the slow features; they come before the raw windows."""
    count = sum(".raw_" not in n for n in names)
    if any(".raw_" in n for n in names[:count]):
        raise SystemExit("models/schema.toml: raw windows are not where models/train/demonstrations.py expects them")
    return count


def width(names):
    """Numbers in a record."""
    return slow(names) + len(ACTION) + len(OUTCOMES)


def ratio(features, names):
    """(known, log2) of the rate of a flow in L over that of one in C, over 4 s, of feature vectors (n, width)."""
    at = {n: i for i, n in enumerate(names)}
    rate = [features[:, at[f"departure_{q}.mean_4s"]] for q in "lc"]
    flows = [np.expm1(features[:, at[f"flows_{q}.mean_4s"]]) for q in "lc"]
    known = (np.minimum(*rate) > 1e-4) & (np.minimum(*flows) >= 0.5)
    l, c = (np.where(known, r / np.maximum(n, 0.5), 1.0) for r, n in zip(rate, flows, strict=True))
    return known, np.clip(np.log2(l / c), -DOUBLINGS, DOUBLINGS)


def records(features, names, target_ms, gain, ramp_ms, delay_c_ms, delay_l_ms, utilisation):
    """Records (n, width) of feature vectors and, each (n,), the action in force and outcomes; a delay is NaN where nothing passed."""
    known, doublings = ratio(features, names)
    columns = [np.log(target_ms / 15.0), np.log(gain), np.log(ramp_ms / 0.8)]
    for delay, floor in ((delay_c_ms, FLOOR_C), (delay_l_ms, FLOOR_L)):
        there = ~np.isnan(delay)
        columns += [there, np.where(there, np.log(np.where(there, delay, 0.0) + floor), 0.0)]
    columns += [utilisation, known, doublings]
    return np.column_stack([features[:, : slow(names)], *columns]).astype(np.float32)


def returns(demonstrations):
    """Return of each (..., RECORDS, width): mean of ln utilisation less ln delay, a queue without packets left out. Higher is better."""
    has_c, c, has_l, l, u = np.moveaxis(demonstrations[..., -len(OUTCOMES) : -2], -1, 0)
    queues = np.maximum(has_c + has_l, 1)
    return (np.log(np.maximum(u, 0.01)) - (has_c * c + has_l * l) / queues).mean(-1)


def prompt(demonstrations):
    """(MOST, RECORDS, width) and mask (MOST,) of up to MOST demonstrations, in order of rising return; places behind them are 0."""
    if len(demonstrations) > MOST:
        raise ValueError(f"{len(demonstrations)} demonstrations; a prompt has at most {MOST}")
    out = np.zeros((MOST, RECORDS, demonstrations.shape[2]), np.float32)
    mask = np.zeros(MOST, np.float32)
    out[: len(demonstrations)] = demonstrations[np.argsort(returns(demonstrations.astype(np.float32)), kind="stable")]
    mask[: len(demonstrations)] = 1
    return out, mask


def permuted(demonstrations, rng):
    """The same with the outcomes dealt out anew among all records."""
    flat = demonstrations.reshape(-1, demonstrations.shape[-1]).copy()
    k = len(OUTCOMES)
    flat[:, -k:] = flat[rng.permutation(len(flat)), -k:]
    return flat.reshape(demonstrations.shape)


class Bank:
    """Demonstrations of many episodes: `rows` (n, RECORDS, width) float16, `link` and `episode` (n,)."""

    ARRAYS = ("rows", "link", "episode")

    def __init__(self, rows, link, episode):
        self.rows, self.link, self.episode = rows, link, episode
        self.return_ = returns(rows.astype(np.float32)) if len(rows) else np.zeros(0)
        order = np.argsort(link, kind="stable")
        bounds = np.searchsorted(link[order], np.arange(int(link.max(initial=-1)) + 2))
        self.of = [order[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]

    def draw(self, link, k, rng, but=None):
        """Places of up to k demonstrations of a link, in order of rising return, none from the episode `but`."""
        some = self.of[link]
        if but is not None:
            some = some[self.episode[some] != but]
        some = rng.choice(some, min(k, len(some)), replace=False)
        return some[np.argsort(self.return_[some], kind="stable")]

    def save(self, path, **more):
        np.savez_compressed(path, **{n: getattr(self, n) for n in self.ARRAYS}, **more)

    @classmethod
    def load(cls, data):
        return cls(*(data[n] for n in cls.ARRAYS))


def settings(n, seed, hold_s=(2.0, 16.0)):
    """A policy that holds drawn candidates for drawn times, DualPI2's own in half of the links at first."""
    rng = np.random.default_rng(seed)
    wanted = np.where(rng.random(n) < 0.5, 0, rng.integers(len(values.CANDIDATES), size=n))
    until = rng.uniform(*hold_s, size=n)

    def choose(features, current, links, time):
        nonlocal wanted, until
        change = time >= until[links]
        wanted[links[change]] = rng.integers(len(values.CANDIDATES), size=change.sum())
        until[links[change]] = time + rng.uniform(*hold_s, size=change.sum())
        return wanted[links]

    return choose


def constants(features, current, links, time):
    """RFC 9332's."""
    return np.zeros(len(links), np.int64)


def run(scenarios, seeds, threads, choose, seconds=None, trail_s=PERIOD_S):
    """Yields (time, observations, infos, under way) at each choice while the links run once each, `seeds` being theirs. `choose(features,
    current, links, time)` gives candidates; it is asked after the first window and every PERIOD_S from then on, as a model is."""
    from l4sd_gym import L4sdVectorEnv

    n = len(scenarios)
    env = L4sdVectorEnv(n, scenarios, threads=threads, hold=8, twin=False, autoreset_mode="Disabled", trail_s=trail_s, episode_s=seconds)
    for i, seed in enumerate(seeds):
        mask = np.zeros(n, bool)
        mask[i] = True
        # Environment i of a seed has seed + i.
        observations, infos = env.reset(seed=int(seed), options={"scenario": i, "reset_mask": mask})
    table = np.array(values.CANDIDATES)
    current, under_way, time = np.zeros(n, np.int64), np.ones(n, bool), 0.016
    while under_way.any():
        yield time, observations, infos, under_way
        links = np.flatnonzero(under_way)
        current[links] = choose(observations[links], current[links], links, time)
        actions = np.column_stack([table[current], np.full(n, FEED_FORWARD_NONE)])
        observations, _, _, truncated, infos = env.step(actions)
        time += PERIOD_S
        under_way = under_way & ~truncated
        if truncated.any() and under_way.any():
            observations, _ = env.reset(options={"reset_mask": truncated.copy()})


def of_step(observations, infos, names):
    """Records of one moment of `run`."""
    told = (infos[k].astype(np.float64) for k in ("target_ms", "gain", "ramp_ms", "delay_c_ms", "delay_l_ms", "utilisation"))
    return records(observations, names, *told)


def gather(scenarios, episode, seed, threads, choose, per_episode, names, sample=None):
    """Runs the links once; (rows, link) of `per_episode` demonstrations of each, cut at drawn times, and (features, link, time) of the states
    that `sample(time, since)` takes with that probability, `since` being seconds since flows came or went."""
    rng = np.random.default_rng([seed, episode])
    n = len(scenarios)
    seeds = [(seed * 1009 + episode) * 1000003 + 7 * i for i in range(n)]
    past = np.zeros((n, RECORDS, width(names)), np.float32)
    length = np.full(n, np.inf)
    ends = None
    states, rows = [], []
    flows, since = None, np.zeros(n)
    for time, observations, infos, under_way in run(scenarios, seeds, threads, choose):
        now = np.column_stack([infos["truth_flows_l"], infos["truth_flows_c"]])
        since = np.where(flows is not None and (now != flows).any(1), 0.0, since + PERIOD_S) if flows is not None else np.zeros(n)
        flows = now
        if sample is not None:
            for i in np.flatnonzero(under_way & (rng.random(n) < sample(time, since))):
                states.append((i, time, observations[i].astype(np.float16)))
        past = np.concatenate([past[:, 1:], of_step(observations, infos, names)[:, None]], 1)
        if ends is None:
            length = np.array([seconds_of(s) for s in scenarios])
            span = (length - SETTLED_S - 2 * PERIOD_S)[:, None] / per_episode
            ends = SETTLED_S + span * (np.arange(per_episode) + rng.random((n, per_episode)))
        for i, j in zip(*np.nonzero((ends <= time) & under_way[:, None]), strict=True):
            rows.append((i, past[i].astype(np.float16)))
            ends[i, j] = np.inf
    link, cut = zip(*rows, strict=True)
    return (np.array(cut), np.array(link, np.int32)), states


def seconds_of(scenario):
    """Length of a scenario's run."""
    import tomllib

    text = tomllib.loads(scenario)["duration"]
    for unit, factor in (("ms", 1e-3), ("s", 1.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise SystemExit(f"the duration {text} of a scenario is in neither s nor ms")
