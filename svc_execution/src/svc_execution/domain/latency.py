"""How long each hop of the last bars took, from the hop trace that messages carry."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

# About a week of 5-minute bars; two percentiles of it cost 50 µs.
N_BARS = 2_000
# A hop trace has one entry a service; more is a loop or an attack.
N_HOPS_MAX = 16
# What a start may take out of the figures: as many bars as svc_ingest sends ahead of a slow reader, and of no more than
# a minute. A line that is always slower than its bars is no line that starts.
N_STARTING_MAX = 64
STARTING_MAX_S = 60.0
_NS_PER_MS = 1e6
_NS_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class HopLatency:
    """Percentiles over the last bars, milliseconds. name: the hop's end, such as `svc_features`."""

    name: str
    p50_ms: float
    p99_ms: float
    n: int


@dataclass(frozen=True, slots=True)
class Starting:
    """The bars that waited for the line's start. max_ms: of the slowest, from end to end."""

    n: int = 0
    max_ms: float = 0.0


class LatencyLog:
    """
    Keeps the durations of the last N_BARS bars, hop by hop and from end to end.

    The first bar after a start waits until each service has read its history and loaded its model, and the next ones
    wait behind it: up to the first bar that was published after its predecessor was done they are counted apart.
    """

    def __init__(self) -> None:
        self._hops: dict[str, deque[float]] = {}
        self._total: deque[float] = deque(maxlen=N_BARS)
        self._done_ns = 0
        self._first_done_ns = 0
        self._is_starting = True
        self.starting = Starting()

    def record(self, hops: Sequence[tuple[str, int]]) -> None:
        """Add one bar's trace: (service, unix nanoseconds) of each publish, in order. Clock steps back count as 0."""
        if not 2 <= len(hops) <= N_HOPS_MAX:
            return
        total_ms = max(hops[-1][1] - hops[0][1], 0) / _NS_PER_MS
        if self._is_starting and self._has_waited(hops[0][1]):
            self.starting = Starting(self.starting.n + 1, max(self.starting.max_ms, total_ms))
            self._done_ns = max(self._done_ns, hops[-1][1])
            self._first_done_ns = self._first_done_ns or hops[-1][1]
            return
        self._is_starting = False
        for (_, before), (name, after) in pairwise(hops):
            self._hops.setdefault(name, deque(maxlen=N_BARS)).append(max(after - before, 0) / _NS_PER_MS)
        self._total.append(total_ms)

    def _has_waited(self, published_ns: int) -> bool:
        """Return whether a bar is the first one, or was behind one that was."""
        n, latest_ns = self.starting.n, self._first_done_ns + STARTING_MAX_S * _NS_PER_S
        return n == 0 or (published_ns <= min(self._done_ns, latest_ns) and n < N_STARTING_MAX)

    def hops(self) -> list[HopLatency]:
        """Return the percentiles of each hop, in the order in which hops were first seen."""
        return [_percentiles(name, durations) for name, durations in self._hops.items()]

    def total(self) -> HopLatency:
        """Return the percentiles from the first publish to the last; n = 0 until there is one."""
        return _percentiles("total", self._total)


def _percentiles(name: str, durations: deque[float]) -> HopLatency:
    if not durations:
        return HopLatency(name, 0.0, 0.0, 0)
    p50, p99 = np.percentile(np.array(durations), [50, 99])
    return HopLatency(name, float(p50), float(p99), len(durations))
