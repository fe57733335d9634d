"""Many simulated links as one Gymnasium vector environment, stepped by Rust in parallel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from typing_extensions import Unpack

from l4sd_gym import _links
from l4sd_gym._core import Snapshot
from l4sd_gym._links import Options, Scenario

_NAMES = tuple(_links.INFO)


class L4sdVectorEnv(VectorEnv[NDArray[np.float32], NDArray[np.int64], NDArray[Any]]):
    """``num_envs`` of what :class:`l4sd_gym.L4sdEnv` is, with the same options, stepped by one call.

    Environment ``i`` of ``reset(seed=s)`` is bit for bit an ``L4sdEnv`` after ``reset(seed=s + i)``, whatever ``threads``.
    The interpreter's lock is free while links are simulated. Arrays that are returned are never written to again.

    ``autoreset_mode`` is Gymnasium's (in ``metadata``): NEXT_STEP (default: the step after an end ignores its action and
    begins an episode), SAME_STEP (``infos["final_obs"]`` and ``infos["final_info"]`` have the end), or DISABLED
    (``reset(options={"reset_mask": mask})``).

    Infos: a float32 array of shape (num_envs,) for each key of :data:`l4sd_gym.INFO`, NaN where there is no such figure.
    """

    def __init__(
        self,
        num_envs: int = 1,
        scenario: Scenario | Sequence[Scenario] | None = None,
        *,
        threads: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: None = None,
        **options: Unpack[Options],
    ) -> None:
        """``threads``: 1 to 1024. Raises ValueError for a scenario or an option that makes no sense, and says why."""
        if render_mode is not None:
            raise ValueError("there is nothing to render")
        mode = AutoresetMode(autoreset_mode)
        self._core = _links.links(scenario, num_envs, mode.value, threads, options)
        self._same_step = mode is AutoresetMode.SAME_STEP
        self.metadata = {"render_modes": [], "autoreset_mode": mode}
        self.num_envs = num_envs
        self.single_observation_space = _links.observation_space(self._core)
        self.single_action_space = _links.action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._seed: int | None = None

    @property
    def scenarios(self) -> list[str]:
        """Names of the scenarios, in order."""
        return self._core.scenarios

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begins an episode in all of them; observations of shape (num_envs, width), and infos.

        Options: ``scenario``, the place of the scenario that all take; ``reset_mask``, a bool array of shape (num_envs,)
        of those that are reset.
        """
        super().reset(seed=seed)
        start = _links.seed_of(seed, self._seed, lambda: self.np_random)
        self._seed = self._seed if start is None else start
        options = options or {}
        mask = options.get("reset_mask")
        if mask is not None:
            mask = np.ascontiguousarray(mask, np.bool_)
        observations, info = self._buffers()
        self._core.reset(start, options.get("scenario"), mask, observations, info)
        return observations, _named(info)

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Lets one step pass in all of them, or raises ValueError or TypeError and nothing moves.

        ``actions`` is an integer array of shape (num_envs, 4). Returns observations (num_envs, width) float32, rewards
        float64, terminated (always False) and truncated bool, each (num_envs,), and infos.
        """
        if self._seed is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        n = self.num_envs
        checked = _links.checked(actions, n)
        observations, info = self._buffers()
        rewards, truncated = np.empty(n), np.empty(n, np.bool_)
        last = self._buffers() if self._same_step else (None, None)
        self._core.step(checked, observations, rewards, truncated, info, *last)
        infos = _named(info)
        if last[0] is not None and last[1] is not None and truncated.any():
            final = np.full(n, None, dtype=object)
            for i in np.flatnonzero(truncated):
                final[i] = last[0][i]
            infos["final_obs"], infos["_final_obs"] = final, truncated.copy()
            final_info = _named(last[1])
            final_info.update({f"_{name}": truncated.copy() for name in _NAMES})
            infos["final_info"], infos["_final_info"] = final_info, truncated.copy()
        return observations, rewards, np.zeros(n, np.bool_), truncated, infos

    def link_seeds(self) -> NDArray[np.uint64]:
        """Seeds of the links of the current episodes, shape (num_envs,)."""
        return np.array([self._core.link_seed(i)[1] for i in range(self.num_envs)], np.uint64)

    def snapshot(self, indices: Sequence[int] | None = None) -> Snapshot:
        """Environments as they are now: those of ``indices``, or all."""
        return self._core.snapshot(None if indices is None else [int(i) for i in indices])

    def restore(
        self, snapshot: Snapshot, indices: Sequence[int] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Puts the environments of a snapshot back where they were taken, or at ``indices``, and leaves the others.

        Returns observations and infos of all. What follows is what followed then, bit for bit, if the actions are.
        """
        self._core.restore(snapshot, None if indices is None else [int(i) for i in indices])
        observations, info = self._buffers()
        self._core.observe(observations, info)
        self._seed = 0 if self._seed is None else self._seed
        return observations, _named(info)

    def _buffers(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        n = self.num_envs
        # `last` is written only where an episode ended.
        return np.zeros((n, self._core.width), np.float32), np.zeros((n, len(_NAMES)), np.float32)


def _named(info: NDArray[np.float32]) -> dict[str, Any]:
    return {name: info[:, i] for i, name in enumerate(_NAMES)}
