"""Scenarios that tests share."""

from __future__ import annotations

import pytest

LINK = """
name = "{name}"
duration = "{seconds}s"
[link]
rate = "{rate}"
"""
FLOW = """
[[flow]]
cc = "{cc}"
rtt = "{rtt}"
"""


def scenario(rate: str, *flows: tuple[str, str], name: str = "test", seconds: float = 20) -> str:
    """TOML text; a flow is its congestion control and its base round-trip time."""
    return LINK.format(name=name, rate=rate, seconds=seconds) + "".join(
        FLOW.format(cc=cc, rtt=rtt) for cc, rtt in flows
    )


@pytest.fixture
def one_on_one() -> str:
    return scenario("12Mbit", ("prague", "20ms"), ("cubic", "20ms"))


@pytest.fixture
def mixed() -> list[str]:
    return [
        scenario("4Mbit", ("cubic", "10ms"), name="classic", seconds=1),
        scenario("12Mbit", ("prague", "20ms"), ("reno", "40ms"), name="both", seconds=1),
        scenario("12Mbit", ("prague", "5ms"), name="l4s", seconds=1),
    ]
