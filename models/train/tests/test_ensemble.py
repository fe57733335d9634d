"""The mean of several students' answers. Needs torch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install torch")
pytest.importorskip("onnx", reason="pip install onnx")
sys.path.insert(0, str(Path(__file__).parents[1]))

import ensemble  # noqa: E402
import histories  # noqa: E402


class Member:
    """Answers a multiple of the first feature as value and another as logit."""

    def __init__(self, value: float, logit: float) -> None:
        self.value, self.logit = value, logit

    def heads(self, x):  # noqa: ANN001, ANN201
        return self.value * x[:, :1], self.logit * x[:, :1]


def test_the_mean_is_over_members_state_by_state() -> None:
    """Members that answer 1, 2, 6 times the feature, and -3, 0, 3: three times it, and nothing."""
    data = histories.Histories(2)
    features = np.array([[1.0, 9.0], [2.0, 9.0], [4.0, 9.0]], np.float32)
    data.add(features, np.array([0, 0, 1]), np.array([0.0, 1.0, 0.0]))
    value, logit = ensemble.mean_of([Member(1, -3), Member(2, 0), Member(6, 3)], data, "cpu", batch=2)
    assert value[:, 0].tolist() == [3.0, 6.0, 12.0]
    assert logit[:, 0].tolist() == [0.0, 0.0, 0.0]
