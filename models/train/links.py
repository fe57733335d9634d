#!/usr/bin/env python3
"""The library of link profiles that `[control] context = "auto"` chooses among: links.py OUT.json (models/links.json)

One Prague and one CUBIC flow, 20 ms, at rates a factor of 3 to 4 apart, as nothing but the rate of a link is known at its start. Two
demonstrations each: RFC 9332's constants, and a setting that is held. Numbers have four digits.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import demonstrations
import values

RATES_MBPS = (1, 4, 12, 40, 120)
SCENARIO = 'name = "{0}mbit"\nduration = "30s"\n[link]\nrate = "{0}Mbit"\n[[flow]]\ncc = "prague"\nrtt = "20ms"\n[[flow]]\ncc = "cubic"\nrtt = "20ms"\n'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--held", type=int, default=5, help="number of the candidate of the second demonstration")
    args = parser.parse_args()
    from l4sd_gym import FEATURES, SCHEMA_HASH

    scenarios = [SCENARIO.format(r) for r in RATES_MBPS]
    held = lambda features, current, links, time: np.full(len(links), args.held)  # noqa: E731
    shots = []
    for episode, choose in enumerate((demonstrations.constants, held)):
        (rows, link), _ = demonstrations.gather(scenarios, episode, 1, 1, choose, 1, list(FEATURES))
        shots.append(rows[np.argsort(link)])
    profiles = [
        {"name": f"1v1 at {rate} Mbit/s, 20 ms", "rate_mbps": float(rate), "demonstrations": [[[float(f"{x:.4g}") for x in record] for record in shot[i]] for shot in shots]}
        for i, rate in enumerate(RATES_MBPS)
    ]
    args.out.write_text(json.dumps({"format": 1, "schema": SCHEMA_HASH, "profiles": profiles}, separators=(",", ":")) + "\n")
    print(f"{args.out}: {len(profiles)} profiles, settings {values.CANDIDATES[0]} and {values.CANDIDATES[args.held]}")


if __name__ == "__main__":
    main()
