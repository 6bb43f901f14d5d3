"""The two consoles: results on standard output, everything else on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

# What is piped is not folded: one greps it.
_PIPED_WIDTH = 240


def _console(stream: TextIO) -> Console:
    is_seen = stream.isatty() or "COLUMNS" in os.environ
    return Console(stderr=stream is sys.stderr, width=None if is_seen else _PIPED_WIDTH)


OUT = _console(sys.stdout)
ERRORS = _console(sys.stderr)

ORIGIN_STYLE = {"real": "bold black on green", "replay": "bold black on cyan", "simulated": "bold white on red"}


def origin_badge(origin: str) -> str:
    """Return the origin as rich markup; simulated is loud."""
    text = "SIMULATED — not real data" if origin == "simulated" else origin.upper()
    return f"[{ORIGIN_STYLE.get(origin, 'bold white on magenta')}] {text} [/]"


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar a step while the block runs; yield the function (step, done, of) that moves them."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeElapsedColumn(), console=OUT) as bars:
        tasks: dict[str, TaskID] = {}

        def show(step: str, done: int, of: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=of)
            bars.update(tasks[step], completed=done, total=of)

        yield show
