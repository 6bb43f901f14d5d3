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
_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class HopLatency:
    """Percentiles over the last bars, milliseconds. name: the hop's end, such as `svc_features`."""

    name: str
    p50_ms: float
    p99_ms: float
    n: int


class LatencyLog:
    """Keeps the durations of the last N_BARS bars, hop by hop and from end to end."""

    def __init__(self) -> None:
        self._hops: dict[str, deque[float]] = {}
        self._total: deque[float] = deque(maxlen=N_BARS)

    def record(self, hops: Sequence[tuple[str, int]]) -> None:
        """Add one bar's trace: (service, unix nanoseconds) of each publish, in order. Clock steps back count as 0."""
        if not 2 <= len(hops) <= N_HOPS_MAX:
            return
        for (_, before), (name, after) in pairwise(hops):
            self._hops.setdefault(name, deque(maxlen=N_BARS)).append(max(after - before, 0) / _NS_PER_MS)
        self._total.append(max(hops[-1][1] - hops[0][1], 0) / _NS_PER_MS)

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
