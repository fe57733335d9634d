#!/usr/bin/env python3
"""What a policy with memory is trained on: episodes on train links as sequences of states, under several policies.

    histories.py ORACLE_DIR OUT.npz [--model FILE] [--seed N] [--passes N]

Episodes of drawn settings, or of the policy of a model file. Several of these commands at once use many cores, teacher.py reads many files.
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
ARRAYS = ("features", "time", "link", "length")


def of_file(path):
    """The policy of a model file as collect.episodes takes it; on states alone, without memory."""
    import onnxruntime
    import trees

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map

    def answers(x):
        rows = [session.run(["score", "feasible"], {"features": row[None]}) for row in x]
        return [np.concatenate(part) for part in zip(*rows, strict=True)]

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


def gather(into, records, seed, threads, choose=None, log=sys.stderr):
    """One episode on each link, all at once."""
    states = [(i, t, x) for i, t, x in collect.episodes([r["scenario"] for r in records], seed, threads, choose)]
    link, time, features = (np.array(a) for a in zip(*states, strict=True))
    into.add(features, link, time)
    print(f"{len(states)} states of {len(records)} links, {len(into)} sequences", file=log, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("oracle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, help="the policy of four episodes in five; without it settings are drawn")
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--links", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    import l4sd_gym
    import values

    records = values.records(args.oracle, "train")[: args.links]
    data = Histories(len(l4sd_gym.FEATURES))
    for step in range(args.passes):
        gather(data, records, 1000 * args.seed + step, args.threads, of_file(args.model) if args.model else None)
    data.save(args.out)


if __name__ == "__main__":
    main()
