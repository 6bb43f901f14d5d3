from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
from qraft_runtime.failpoint import reach
for number in range(1, 4):
    print(number, flush=True)
    reach("other.place")
    reach("imagegen.after_submit")
"""


def run(armed: str | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "QRAFT_FAILPOINT"}
    if armed is not None:
        environment["QRAFT_FAILPOINT"] = armed
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize(
    ("armed", "reached"),
    [
        ("imagegen.after_submit", ["1"]),
        ("imagegen.after_submit:1", ["1"]),
        ("imagegen.after_submit:3", ["1", "2", "3"]),
    ],
)
def test_process_is_killed_when_it_reaches_the_place_for_the_nth_time(armed: str, reached: list[str]) -> None:
    done = run(armed)

    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == reached


@pytest.mark.parametrize("armed", [None, "", "imagegen.before_submit", "imagegen.after_submit:4"])
def test_process_that_does_not_reach_it_lives(armed: str | None) -> None:
    done = run(armed)

    assert (done.returncode, done.stdout.split()) == (0, ["1", "2", "3"])


@pytest.mark.parametrize("armed", [":1", "name:", "name:0", "name:-1", "name:two"])
def test_variable_that_could_never_be_reached_is_refused_at_once(armed: str) -> None:
    done = run(armed)

    assert done.returncode == 1 and "expected QRAFT_FAILPOINT as name or name:count" in done.stderr
