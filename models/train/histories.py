#!/usr/bin/env python3
"""What a policy with memory is trained on: episodes on train links as sequences of states, under several policies.

    histories.py ORACLE_DIR OUT.npz [--model FILE] [--seed N] [--passes N] [--ray]

Episodes of drawn settings, or of the policy of a model file. With --ray each TOGETHER links are a task of one core, on this machine or,
by RAY_ADDRESS, on those of a cluster, which need l4sd_gym in the same version and no file of this one; what is written is the same to
the byte where machines compute a model alike. Without, several of these commands at once use many cores, teacher.py reads many files.
A sequence is one episode: features of some of its states, oldest first, .3 to 2 s apart, with the link and the times. It does not
label; trees.labels does, by link and time.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import collect

LENGTH = 48
# Links that run at once, with one stream of random numbers.
TOGETHER = 64
ARRAYS = ("features", "time", "link", "length")


def of_file(model):
    """The policy of a model file, or of what such a file holds, as collect.episodes takes it; on states alone, without memory."""
    import onnxruntime
    import trees
    import values

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    placed = values.as_candidates(told, "the model file" if isinstance(model, bytes) else model)

    def answers(x):
        rows = [session.run(["score", "feasible"], {"features": row[None]}) for row in x]
        return placed(*(np.concatenate(part) for part in zip(*rows, strict=True)))

    return trees.rule(answers, float(told["l4sd.threshold"]), float(told["l4sd.hysteresis"]))


class Histories:
    """Sequences as padded arrays: `features` (n, LENGTH, width) float16, `time` (n, LENGTH), `link` and `length` (n,)."""

    def __init__(self, width):
        self.features = np.zeros((0, LENGTH, width), np.float16)
        self.time = np.zeros((0, LENGTH), np.float32)
        self.link = np.zeros(0, np.int32)
        self.length = np.zeros(0, np.int32)

    def __len__(self):
        return len(self.link)

    def add(self, features, link, time):
        """States of one episode per link. Longer ones are cut in two, the second half beginning where the first ended."""
        order = np.lexsort((time, link))
        bounds = np.flatnonzero(np.diff(link[order])) + 1
        parts = [half for rows in np.split(order, bounds) for half in np.array_split(rows, -(-len(rows) // LENGTH))]
        f = np.zeros((len(parts), LENGTH, features.shape[1]), np.float16)
        t = np.zeros((len(parts), LENGTH), np.float32)
        for i, rows in enumerate(parts):
            f[i, : len(rows)], t[i, : len(rows)] = features[rows], time[rows]
        self.features, self.time = np.concatenate([self.features, f]), np.concatenate([self.time, t])
        self.link = np.append(self.link, [link[rows[0]] for rows in parts]).astype(np.int32)
        self.length = np.append(self.length, [len(rows) for rows in parts]).astype(np.int32)

    def join(self, other):
        """Takes in all sequences of another."""
        for name in ARRAYS:
            setattr(self, name, np.concatenate([getattr(self, name), getattr(other, name)]))

    def of_links(self, links):
        """The sequences of these links only."""
        some, keep = Histories(self.features.shape[2]), np.isin(self.link, links)
        for name in ARRAYS:
            setattr(some, name, getattr(self, name)[keep])
        return some

    def save(self, path):
        from l4sd_gym import SCHEMA_HASH

        np.savez(path, schema=SCHEMA_HASH, **{name: getattr(self, name) for name in ARRAYS})

    def states(self):
        """Places (sequence, step) of all states."""
        return np.nonzero(np.arange(LENGTH)[None] < self.length[:, None])


def load_all(paths, links, width):
    """Histories of several files, as `load` takes one."""
    data = Histories(width)
    for path in paths:
        data.join(load(path, links))
    return data


def load(path, links):
    """Histories of a file, of links below that number. Ends with a message if it is of another schema."""
    from l4sd_gym import SCHEMA_HASH

    with np.load(path) as saved:
        if str(saved["schema"]) != SCHEMA_HASH:
            sys.exit(f"{path}: made for schema {saved['schema']}, this is {SCHEMA_HASH}; make it again")
        data = Histories(saved["features"].shape[2])
        for name in ARRAYS:
            setattr(data, name, saved[name])
    return data.of_links(np.arange(links))


def run(scenarios, seed, threads, choose=None):
    """(link, time, features) of the states of one episode on each link, all at once."""
    states = collect.episodes(scenarios, seed, threads, choose)
    return [np.array(a) for a in zip(*states, strict=True)]


def gather(into, records, seed, threads, choose=None, log=sys.stderr):
    """One episode on each link, all at once."""
    link, time, features = run([r["scenario"] for r in records], seed, threads, choose)
    into.add(features, link, time)
    print(f"{len(link)} states of {len(records)} links, {len(into)} sequences", file=log, flush=True)


def task(scenarios, seed, model, threads=1):
    """`run` under drawn settings or, if there is one, the policy of what a model file holds."""
    return run(scenarios, seed, threads, of_file(model) if model else None)


def spread(tasks, ray, threads):
    """`task` of each, in order."""
    if not ray:
        return (task(*each, threads) for each in tasks)
    try:
        import ray as cluster
    except ImportError:
        sys.exit("ray is not installed: pip install ray, or leave out --ray")
    if not cluster.is_initialized():
        # Workers elsewhere have these scripts from here.
        cluster.init(runtime_env={"working_dir": str(Path(__file__).parent), "excludes": ["tests"]})
    remote = cluster.remote(num_cpus=1)(task)
    begun = [remote.remote(*each) for each in tasks]
    return (cluster.get(each) for each in begun)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("oracle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, help="the policy of four episodes in five; without it settings are drawn")
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--links", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="without --ray")
    parser.add_argument("--ray", action="store_true", help="tasks of Ray, at RAY_ADDRESS or here")
    args = parser.parse_args()
    import l4sd_gym
    import values

    records = values.records(args.oracle, "train")[: args.links]
    data = Histories(len(l4sd_gym.FEATURES))
    model = args.model.read_bytes() if args.model else None
    starts = [(step, start) for step in range(args.passes) for start in range(0, len(records), TOGETHER)]
    tasks = [([r["scenario"] for r in records[start : start + TOGETHER]], 1000 * args.seed + step + start, model) for step, start in starts]
    if not tasks:
        parser.error("no episodes: --links and --passes are 1 or more")
    for (step, start), (link, time, features) in zip(starts, spread(tasks, args.ray, args.threads), strict=True):
        data.add(features, link + start, time)
        print(f"pass {step + 1}: {len(link)} states of links from {start} on, {len(data)} sequences", file=sys.stderr, flush=True)
    data.save(args.out)


if __name__ == "__main__":
    # Workers look for functions where these are imported from, which is not `__main__`.
    import histories

    histories.main()
