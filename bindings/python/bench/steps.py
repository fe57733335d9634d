"""Control steps per second of L4sdVectorEnv, with and without twin, and what a step costs beside the simulator.

python bench/steps.py [--envs 64] [--seconds 5] [--threads 1]
"""

from __future__ import annotations

import argparse
import platform
import time

import numpy as np

from l4sd_gym import DEFAULT_ACTION, L4sdVectorEnv

LINK = """
name = "{mbit}mbit"
duration = "60s"
[link]
rate = "{mbit}Mbit"
[[flow]]
cc = "prague"
rtt = "20ms"
[[flow]]
cc = "cubic"
rtt = "20ms"
"""
# Twelve packets of 100 bytes a second: the simulator has next to nothing to do.
IDLE = """
name = "idle"
duration = "60s"
[link]
rate = "40Mbit"
[[flow]]
kind = "cbr"
rate = "10kbit"
frame = 100
"""


def rate(scenario: str, args: argparse.Namespace, twin: bool) -> float:
    """Steps of one environment per second."""
    envs = L4sdVectorEnv(args.envs, scenario, threads=args.threads, twin=twin)
    envs.reset(seed=1)
    actions = np.tile(DEFAULT_ACTION, (args.envs, 1))
    # Past the slow start.
    for _ in range(125):
        envs.step(actions)
    steps, start = 0, time.perf_counter()
    while (took := time.perf_counter() - start) < args.seconds:
        envs.step(actions)
        steps += args.envs
    return steps / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {args.envs} links, {args.threads} thread(s), 16 ms steps")
    for mbit in (40, 200):
        for twin in (True, False):
            steps = rate(LINK.format(mbit=mbit), args, twin)
            packets = steps * mbit * 1e6 * 0.016 / 8 / 1514 * (1 + twin)
            print(f"{mbit:4} Mbit/s, twin {twin!s:5}: {steps:9.0f} steps/s, about {packets / 1e6:.2f} M packets/s")
    idle = rate(IDLE, args, True)
    print(f"no traffic: {idle:9.0f} steps/s, {1e6 / idle * args.threads:.2f} us a step beside the simulator")


if __name__ == "__main__":
    main()
