"""One simulated link as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from l4sd_gym import _links
from l4sd_gym._core import Snapshot
from l4sd_gym._links import Options, Scenario

_NAMES = tuple(_links.INFO)


class L4sdEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.int64]]):
    """A bottleneck link under DualPI2 whose parameters the agent sets, with an untouched DualPI2 twin beside it.

    A step is ``hold`` control intervals (one of 16 ms unless told otherwise).

    - Action: ``MultiDiscrete([12, 7, 12, 5])``: Classic target, gain scale, L ramp start, feed-forward, as indices into
      :data:`l4sd_gym.ACTION_VALUES`. :data:`l4sd_gym.DEFAULT_ACTION` is RFC 9332's. All pass l4sd's guard: a knob moves at
      most one value per 64 ms and a feed-forward fires at most once per 250 ms.
    - Observation: ``Box(shape=(width,), float32)``, l4sd's telemetry features.
    - Reward: minus the log ratio of queue delays to the twin's (mean over L and C), less lost utilisation, unfairness and
      moves; 0 is "as good as DualPI2", ln 2 = .69 is "half its delays". Exact form: ``src/env/reward.rs``.
    - An episode is truncated after its time; it never terminates.
    - Info: :data:`l4sd_gym.INFO`, and ``link_seed``; None where there is no such figure.

    ``scenario`` is the path or the text of an l4sd scenario, or several, from which each episode draws one; None is one
    Prague and one CUBIC flow at 40 Mbit/s and 20 ms. ``reset(options={"scenario": i})`` takes the i-th instead.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(
        self,
        scenario: Scenario | Sequence[Scenario] | None = None,
        *,
        render_mode: None = None,
        **options: Unpack[Options],
    ) -> None:
        """Raises ValueError for a scenario or an option that makes no sense, and says why."""
        if render_mode is not None:
            raise ValueError("there is nothing to render")
        self._core = _links.links(scenario, 1, "Disabled", 1, options)
        self.observation_space = _links.observation_space(self._core)
        self.action_space = _links.action_space()
        self._seed: int | None = None

    @property
    def scenarios(self) -> list[str]:
        """Names of the scenarios, in order."""
        return self._core.scenarios

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begins an episode and returns its observation, shape (width,), and info.

        ``seed`` and the number of resets since draw scenario and link. The first interval passes under the defaults.
        """
        super().reset(seed=seed)
        start = _links.seed_of(seed, self._seed, lambda: self.np_random)
        self._seed = self._seed if start is None else start
        observation, info = self._buffers()
        self._core.reset(start, (options or {}).get("scenario"), None, observation, info)
        return observation[0], self._info(info)

    def step(
        self, action: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Lets one step pass. Raises ValueError or TypeError for what is no action, and nothing moves."""
        if self._seed is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        actions = _links.checked(np.asarray(action)[np.newaxis], 1)
        observation, info = self._buffers()
        reward, truncated = np.empty(1), np.empty(1, np.bool_)
        self._core.step(actions, observation, reward, truncated, info, None, None)
        return observation[0], float(reward[0]), False, bool(truncated[0]), self._info(info)

    def snapshot(self) -> Snapshot:
        """The environment as it is now: link, twin, guard, features, and the draw of later episodes."""
        return self._core.snapshot()

    def restore(self, snapshot: Snapshot) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Goes back to a snapshot of this environment and returns its observation and info.

        What follows is what followed then, bit for bit, if the actions are.
        """
        self._core.restore(snapshot)
        observation, info = self._buffers()
        self._core.observe(observation, info)
        self._seed = 0 if self._seed is None else self._seed
        return observation[0], self._info(info)

    def _buffers(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return np.empty((1, self._core.width), np.float32), np.empty((1, len(_NAMES)), np.float32)

    def _info(self, info: NDArray[np.float32]) -> dict[str, Any]:
        # NaN differs from itself, which those who compare infos do not expect.
        named: dict[str, Any] = {k: None if v != v else v for k, v in zip(_NAMES, info[0].tolist(), strict=True)}
        named["link_seed"] = self._core.link_seed(0)[1]
        return named


__all__ = ["L4sdEnv", "Snapshot"]
