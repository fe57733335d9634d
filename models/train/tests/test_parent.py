"""Jobs that end with who started them, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import parent  # noqa: E402


def at_work(pid: int) -> bool:
    """A process that has ended may wait for ever for somebody to hear of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def end_within(seconds: float, pids: list[int]) -> bool:
    until = time.monotonic() + seconds
    while any(map(at_work, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(at_work, pids))


@pytest.mark.skipif(not parent.CAN, reason="only Linux ends them")
def test_a_job_ends_with_a_run_that_is_killed(tmp_path: Path) -> None:
    """The process that calls run.start is killed by -9, when its job has said that it is there."""
    job = f"import os, time; open({str(tmp_path / 'job')!r}, 'w').write(str(os.getpid())); time.sleep(120)"
    starts = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(parent.__file__).parent)!r})
import run
out = Path({str(tmp_path)!r})
started = run.start(run.Job('rl', 'x', out / 'rl' / 'x', [sys.executable, '-c', {job!r}], [], []), [None], {{'reads': {{}}, 'scripts': {{}}}})
(out / 'started').write_text(str(started.pid))
time.sleep(120)
"""
    driver = subprocess.Popen([sys.executable, "-c", starts])
    pids: list[int] = []
    try:
        until = time.monotonic() + 60
        while not all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in ("job", "started")):
            assert driver.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        pids = [int((tmp_path / "job").read_text())]
        assert pids == [int((tmp_path / "started").read_text())], "the job is the process that was started, so that its group and its status are those of the job"
        assert at_work(pids[0])
        driver.kill()
        driver.wait()
        assert end_within(5, pids)
    finally:
        driver.kill()
        driver.wait()
        for pid in filter(at_work, pids):
            os.kill(pid, signal.SIGKILL)


def test_a_parent_that_ended_too_early_to_be_heard_of_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    class Libc:
        @staticmethod
        def prctl(option: int, number: object, *_: object) -> int:
            asked.append((option, number.value))
            return 0

    monkeypatch.setattr(parent.ctypes, "CDLL", lambda *_, **__: Libc)
    monkeypatch.setattr(parent.os, "getppid", lambda: 1)
    with pytest.raises(SystemExit, match="process 4711, which started this one, has ended"):
        parent.end_with(4711, 15)
    parent.end_with(1, 9)
    assert asked == [(1, 15), (1, 9)], "PR_SET_PDEATHSIG of Linux and the signal"


def test_elsewhere_a_command_is_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "CAN", False)
    assert parent.started_by(4711, ["a", "b"]) == ["a", "b"]
    monkeypatch.setattr(parent, "CAN", True)
    assert parent.started_by(4711, ["a", "b"])[1:] == [parent.__file__, "4711", "15", "a", "b"]
