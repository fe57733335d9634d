"""The readable tree as a policy that training episodes follow."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import collect  # noqa: E402
import rules  # noqa: E402
import values  # noqa: E402
from l4sd_gym import FEATURES  # noqa: E402

SCENARIO = """
name = "tree"
duration = "12s"
[link]
rate = "20Mbit"
[[flow]]
cc = "prague"
count = 1
rtt = "20ms"
[[flow]]
cc = "cubic"
count = 1
rtt = "20ms"
"""


def test_episodes_follow_the_tree() -> None:
    """A leaf that wants one setting: on links that follow it (four of five) the target in force goes there and stays."""
    wanted = next(i for i, (target, *_) in enumerate(values.CANDIDATES) if target == 4)
    leaf = rules.Node(np.arange(1), 0)
    leaf.setting = wanted
    features, link, time = collect.gather([{"scenario": SCENARIO}] * 10, 3, 2, rules.policy(leaf))
    target = [i for i, n in enumerate(FEATURES) if n.startswith("knob_target")][0]
    late = time > 8
    last = np.array([features[late & (link == k), target].mean() for k in range(10)])
    same = np.abs(last - np.median(last)) < 1e-3
    assert same.sum() >= 6, last
    assert np.abs(np.median(last) - np.median(features[time < 1, target])) > 0.1, "which is not where it began"
