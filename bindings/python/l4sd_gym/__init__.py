"""Simulated L4S links with a DualPI2 twin, as Gymnasium environments.

The simulator, the AQM, the guard, the features and the reward are l4sd's own Rust code; this package holds none of them.
See :class:`L4sdEnv` for one link, :class:`L4sdVectorEnv` for thousands, and :mod:`l4sd_gym.scale` for many machines.
"""

from __future__ import annotations

import gymnasium

from l4sd_gym._core import VERSION as __version__
from l4sd_gym._links import (
    ACTION_VALUES,
    DEFAULT_ACTION,
    FEATURES,
    INFO,
    SCHEMA_HASH,
    Options,
    grid_scenarios,
)
from l4sd_gym.env import L4sdEnv
from l4sd_gym.vector import L4sdVectorEnv

__all__ = [
    "ACTION_VALUES",
    "DEFAULT_ACTION",
    "FEATURES",
    "INFO",
    "L4sdEnv",
    "L4sdVectorEnv",
    "Options",
    "SCHEMA_HASH",
    "__version__",
    "grid_scenarios",
]

gymnasium.register(
    id="l4sd/Link-v0",
    entry_point="l4sd_gym.env:L4sdEnv",
    vector_entry_point="l4sd_gym.vector:L4sdVectorEnv",
)
