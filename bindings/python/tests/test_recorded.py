"""What `l4sd sim --record` writes is what the environment observes, to the last bit."""

import csv
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from l4sd_gym import DEFAULT_ACTION, FEATURES, L4sdEnv

ROOT = Path(__file__).parents[3]
BINARY = Path(os.environ.get("L4SD_BIN", ROOT / "target/release/l4sd"))

# Warm-up and duration are whole intervals of 16 ms: the simulator also ends a window where its measurement begins.
SCENARIO = """
name = "recorded"
duration = "6.4s"
warmup = "1.6s"
[spread]
rtt = 0.2
rate = 0.1
[link]
rate = "20Mbit"
[[flow]]
cc = "prague"
count = 2
rtt = "20ms"
[[flow]]
cc = "cubic"
count = 2
rtt = "30ms"
"""


def test_recorded_features_are_what_is_observed(tmp_path: Path) -> None:
    if not BINARY.exists():
        pytest.skip("there is no l4sd: cargo build --release, or name one by L4SD_BIN")
    file = tmp_path / "recorded.toml"
    file.write_text(SCENARIO)
    env = L4sdEnv(file, twin=False)
    observation, info = env.reset(seed=3)
    seed = str(info["link_seed"])
    out = tmp_path / "out"
    subprocess.run(
        [BINARY, "sim", file, "--policy", "dualpi2", "--seed", seed, "--record", "--out", out],
        check=True,
        capture_output=True,
    )
    (recorded,) = (out / "record").glob("*.csv")
    with recorded.open() as lines:
        rows = list(csv.reader(line for line in lines if not line.startswith("#")))
    head, rows = rows[0], rows[1:]
    columns = [head.index(name) for name in FEATURES]
    assert len(rows) >= 398
    truncated, count = False, 0
    for row in rows:
        written = np.array([row[c] for c in columns], dtype=np.float32)
        differ = [FEATURES[i] for i in np.flatnonzero(written.view(np.uint32) != observation.view(np.uint32))]
        assert not differ, f"row {count}: {differ[:5]}"
        count += 1
        if truncated:
            break
        observation, _, _, truncated, _ = env.step(DEFAULT_ACTION)
    assert truncated and count >= 398
