"""
Places where a test may end the process as a crash would: between two durable steps.

QRAFT_FAILPOINT="imagegen.after_submit" ends the process by SIGKILL when it reaches that place, "…:3" at the third time.
Unset, which is production, a call costs a comparison.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Final

VARIABLE: Final = "QRAFT_FAILPOINT"


def reach(name: str) -> None:
    """Say that the process is at a named place; it does not return if that is the place where it shall end."""
    if _armed is not None:
        _armed(name)


def _parse(text: str) -> tuple[str, int]:
    """Return name and count. Raises ValueError for a count that is none: a test that would never end its process."""
    name, colon, count = text.partition(":")
    if not name or (colon and not (count.isdigit() and int(count) > 0)):
        raise ValueError(f"expected {VARIABLE} as name or name:count with a count from 1, received {text!r}")
    return name, int(count) if colon else 1


def _arm(text: str) -> Callable[[str], None] | None:
    if not text:
        return None
    wanted, n_left = _parse(text)

    def count_down(name: str) -> None:
        nonlocal n_left
        if name == wanted:
            n_left -= 1
            if n_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return count_down


# Read once, at import: a look into the environment costs a microsecond, this nothing.
_armed = _arm(os.environ.get(VARIABLE, ""))
