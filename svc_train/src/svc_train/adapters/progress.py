"""Progress as JSON lines on standard output, which `qraft` draws as a bar; logs go to standard error."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TextIO


class StdoutProgress:
    """Writes one `train.progress` line a step and keeps how long each step took."""

    def __init__(self, stream: TextIO, *, monotonic_s: Callable[[], float]) -> None:
        self._stream = stream
        self._monotonic_s = monotonic_s
        self._n_steps = 0
        self._began: list[tuple[str, float]] = []

    def begin(self, n_steps: int) -> None:
        """See Progress."""
        self._n_steps = n_steps
        self._began.clear()

    def step(self, name: str) -> None:
        """See Progress."""
        self._began.append((name, self._monotonic_s()))
        self._write(len(self._began) - 1, name)

    def end(self) -> dict[str, float]:
        """Say that all steps are done, and return the seconds that each one took."""
        ends = [at for _, at in self._began[1:]] + [self._monotonic_s()]
        self._write(self._n_steps, "done")
        return {name: end - at for (name, at), end in zip(self._began, ends, strict=True)}

    def finished(self, *, model_id: str, origin: str, horizons: list[str]) -> None:
        """Write the result, one `train.finished` line: the model is stored and, unless told otherwise, registered."""
        self._line({"event": "train.finished", "model_id": model_id, "origin": origin, "horizons": horizons})

    def _write(self, n_done: int, name: str) -> None:
        self._line({"event": "train.progress", "step": n_done, "n_steps": self._n_steps, "name": name})

    def _line(self, line: Mapping[str, object]) -> None:
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()
