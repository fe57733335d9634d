#!/usr/bin/env python3
"""What late decisions cost, and how much of that looking ahead gives back: tables of evaluations on the same links and seeds.

    models/train/lookahead.py late DIR DIR ...   S of the model in each folder over that in the first, by grid
    models/train/lookahead.py gap DIR ...        what `held` loses against `instant`, by grid, of all folders together
    models/train/lookahead.py arms DIR ...       policies lookahead:arm=... that differ in nothing but arm, likewise, and a verdict

The folders are --out of `l4sd eval`. The gap is what a verifier at its own pace (held) loses against one that answers at once
(instant), in ln S; looking ahead is worth shipping if the interval of the gap is above 0 and it closes half of it. Intervals are
95 %, paired, over links, then seeds (gates.py).
"""

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np

import gates

WORTH = 0.5
ARMS = ["drafter", "held", "speculative", "instant"]
COUNTS = ["verified_share", "accepted_share", "diverged_share", "verified_diverged_share", "voided_plans", "target_calls_per_s"]


def over(one, other):
    """exp of the difference of mean ln S, with its interval."""
    return gates.bootstrap(gates.paired(one, other), lambda a, b: np.exp(a - b))


def by_grid(links):
    """All links, then those of each grid."""
    found = {"all": links}
    for link in links:
        found.setdefault(link.grid, []).append(link)
    return found


def late(folders, policy):
    """Rows of S relative to the first folder."""
    first = gates.links_of(folders[0], policy)
    rows = []
    for folder in folders:
        links = gates.links_of(folder, policy)
        s = gates.bootstrap(gates.paired(links), np.exp)
        reference = by_grid(first)
        rows.append([folder.name, gates.show(s), *(gates.show(over(side, reference[grid])) for grid, side in by_grid(links).items())])
    return [["folder", "S", *(f"{grid}: of the first" for grid in by_grid(first))], *rows]


def setups(folder):
    """Names of policies that look ahead, with their arm."""
    names = {row["policy"] for row in json.loads((folder / "results.json").read_text())["cells"]}
    found = {name: re.match(r"lookahead:arm=(\w+)", name) for name in sorted(names)}
    return {name: arm.group(1) for name, arm in found.items() if arm}


# What an arm does not depend on.
IGNORED = {"drafter": ("call", "bin"), "instant": ("call", "bin"), "held": ("bin",), "speculative": ()}


def common(name, arm):
    """A name without arm, and without what that arm does not depend on."""
    for part in ("arm", *IGNORED[arm]):
        name = re.sub(rf":{part}=[^:]+", "", name)
    return name


def counts(places):
    """Means over runs of what looking ahead came to."""
    seen = {name: [] for name in COUNTS}
    for folder, policy in places:
        for line in (folder / "records.jsonl").read_text().splitlines():
            record = json.loads(line).get("record")
            if record is not None and record["policy"] == policy:
                for name in COUNTS:
                    value = record["run"]["controller"]["look_ahead"][name]
                    if value is not None:
                        seen[name].append(value)
    return {name: float(np.mean(values)) if values else None for name, values in seen.items()}


def closed(drafts, held, instant):
    """The share of the gap that is closed, of mean ln S; 0 of none."""
    gap = np.asarray(held - instant, dtype=float)
    return np.where(gap == 0, 0.0, (held - drafts) / np.where(gap == 0, 1.0, gap))


def found(folders):
    """Where each arm with what it depends on was run, and the speculative policies."""
    where, wholes = {}, []
    for folder in folders:
        for name, arm in setups(folder).items():
            where.setdefault((arm, common(name, arm)), []).append((folder, name))
            if arm == "speculative" and name not in wholes:
                wholes.append(name)
    return where, wholes


def links_of(places):
    """Links of a policy in all folders that have it; of a link that several have, the first."""
    links = {}
    for folder, name in places:
        for link in gates.links_of(folder, name):
            links.setdefault(link.key, link)
    return list(links.values())


def gaps(folders):
    """For each `held` its gap to `instant`, in ln S."""
    where, _ = found(folders)
    for (arm, key), places in where.items():
        at_once = where.get(("instant", common(places[0][1].replace("arm=held", "arm=instant"), "instant"))) if arm == "held" else None
        if at_once is None:
            continue
        held, instant = gates.paired(links_of(places), links_of(at_once))
        yield key, [gap_line(grid, side, by_grid(instant)[grid])[1] for grid, side in by_grid(held).items()]


def gap_line(grid, held, instant):
    gap = gates.bootstrap([held, instant], np.subtract)
    return gap, f"{grid}: gap in ln S {gates.show(gap, 4)}; {len(held)} links, over {gates.level(held, instant)}"


def arms(folders):
    """For each setup a table of arms, then the gap and the verdict."""
    where, wholes = found(folders)
    for whole in wholes:
        place = {arm: where.get((arm, common(whole, arm))) for arm in ARMS}
        missing = [arm for arm, places in place.items() if places is None]
        if missing:
            sys.exit(f"{whole}: {', '.join(missing)} was not run; all four arms are needed, {', '.join(ARMS)}")
        links = dict(zip(ARMS, gates.paired(*(links_of(place[arm]) for arm in ARMS))))
        rows = [["arm", "S", *COUNTS]]
        for arm in ARMS:
            seen = counts(place[arm])
            rows.append([arm, gates.show(gates.bootstrap([links[arm]], np.exp)), *("-" if seen[n] is None else f"{seen[n]:.3g}" for n in COUNTS)])
        yield whole, rows, list(verdicts(links))


def verdicts(links):
    """A line for all links and for each grid: the gap, what is closed of it, PASS or FAIL."""
    sides = {arm: by_grid(links[arm]) for arm in ARMS}
    for grid in sides["held"]:
        drafts, held, instant = (sides[arm][grid] for arm in ("speculative", "held", "instant"))
        gap, text = gap_line(grid, held, instant)
        share = gates.bootstrap([drafts, held, instant], closed)
        yield gap[1] > 0 and share[0] >= WORTH, f"{text}; closed {gates.show(share, 2)}"


def markdown(rows):
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in body])


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["late", "gap", "arms"])
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--policy", default="model", help="of late: as result rows name it")
    args = parser.parse_args(argv)
    if args.what == "late":
        print(markdown(late(args.folders, args.policy)))
        return 0
    if args.what == "gap":
        for key, lines in gaps(args.folders):
            print("\n".join([f"{key}, held", "", *(f"- {line}" for line in lines), ""]))
        return 0
    worth = []
    for whole, rows, lines in arms(args.folders):
        print(f"{whole}\n\n{markdown(rows)}\n")
        for passed, text in lines:
            print(f"- {'PASS' if passed else 'FAIL'} {text}")
        print()
        worth.append(lines[0][0])
    if not worth:
        sys.exit("no policy lookahead:arm=... was run in these folders")
    return 0 if all(worth) else 1


if __name__ == "__main__":
    sys.exit(main())
