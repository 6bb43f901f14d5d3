"""
Answering questions: the bound, and what becomes of each handler's end. The same for the real bus and its twin.

A handler that returns a future costs no task: thousands of questions a second may wait in one group commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Generic, TypeVar

from qraft_bus.cancel import cancel_and_wait
from qraft_bus.dead_letter import one_line
from qraft_bus.fatal import Fatal
from qraft_bus.port import Answerer
from qraft_contracts.outcomes import Malformed, Outcome, Refused, Transient
from qraft_telemetry import metrics

OUTCOME: Final = "Qraft-Outcome"
REASON: Final = "Qraft-Reason"
DETAIL: Final = "Qraft-Detail"

_OUTCOMES: Final = {"malformed": Malformed, "refused": Refused, "transient": Transient}

To = TypeVar("To")
Send = Callable[[To, bytes, dict[str, str] | None], None]


class Answering(Generic[To]):
    """
    The questions of one answerer that are in progress.

    send: takes the answer (bytes and headers) for the place where it goes; it must not block.
    """

    def __init__(self, answerer: Answerer, *, fatal: Fatal, send: Send[To]) -> None:
        self.answerer = answerer
        self._fatal = fatal
        self._send = send
        self._in_progress: set[asyncio.Future[bytes]] = set()
        self._counts = {
            outcome: metrics.ANSWERS.labels(answerer.subject, outcome)
            for outcome in ("ok", *_OUTCOMES, "overloaded", "fatal")
        }

    @property
    def n_in_progress(self) -> int:
        """Return how many questions have no answer yet."""
        return len(self._in_progress)

    def take(self, data: bytes, headers: Mapping[str, str], to: To) -> None:
        """Begin to answer one question. Raises what only a bug raises before there is anything to await: see `bug`."""
        if len(self._in_progress) >= self.answerer.n_concurrent_max:
            self._counts["overloaded"].inc()
            self._send(to, self.answerer.overloaded(), None)
            return
        try:
            made = self.answerer.handler(data, headers)
        except Outcome as outcome:
            self._send_outcome(to, outcome)
            return
        # A future is one already: ensure_future would look for that at every question.
        future = made if isinstance(made, asyncio.Future) else asyncio.ensure_future(made)
        self._in_progress.add(future)
        future.add_done_callback(partial(self._end, to))

    def bug(self, error: BaseException) -> None:
        """Declare the bus fatal for an error that no handler may raise; the caller's time-out tells it."""
        self._counts["fatal"].inc()
        self._fatal.declare(f"bug in the answerer of {self.answerer.subject}: {error!r}")

    async def finish(self, timeout_s: float) -> None:
        """Wait for the questions in progress; what is late is canceled and not answered."""
        if self._in_progress:
            await asyncio.wait(set(self._in_progress), timeout=timeout_s)
        late = list(self._in_progress)
        self._in_progress.clear()
        for future in late:
            future.cancel()
        await cancel_and_wait(*(future for future in late if isinstance(future, asyncio.Task)))

    def _end(self, to: To, future: asyncio.Future[bytes]) -> None:
        self._in_progress.discard(future)
        if future.cancelled():
            return  # by our own `finish`, or by the owner of the future when it stops; the caller's time-out tells it
        error = future.exception()
        if error is None:
            self._counts["ok"].inc()
            self._send(to, future.result(), None)
        elif isinstance(error, Outcome):
            self._send_outcome(to, error)
        else:
            self.bug(error)

    def _send_outcome(self, to: To, outcome: Outcome) -> None:
        name = next(name for name, kind in _OUTCOMES.items() if isinstance(outcome, kind))
        self._counts[name].inc()
        self._send(to, b"", {OUTCOME: name, REASON: one_line(outcome.reason), DETAIL: one_line(outcome.detail)})


def raise_outcome(headers: Mapping[str, Any] | None) -> None:
    """Raise the outcome that an answer's headers name, if they do."""
    name = headers.get(OUTCOME) if headers else None
    if headers is None or name is None:
        return
    kind: type[Outcome] = _OUTCOMES.get(name, Transient)
    raise kind(headers.get(REASON, "unknown"), headers.get(DETAIL, ""))
