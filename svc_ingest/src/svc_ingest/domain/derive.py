"""Kinds worked out of other kinds, where a source lacks them. Every number uses rows known by its event only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from svc_ingest.domain.raw import FloatArray, Int64Array


@dataclass(frozen=True, slots=True)
class TakerVolume:
    """Volume that takers bought and sold by interval; event: its end, known: the last trade's receipt if later."""

    event_us: Int64Array
    known_us: Int64Array
    buy: FloatArray
    sell: FloatArray


def taker_volume(
    event_us: Int64Array,
    known_us: Int64Array,
    qty: FloatArray,
    is_buy: npt.NDArray[np.bool_],
    ids: Int64Array | None,
    *,
    step_us: int,
) -> TakerVolume:
    """
    Return the volumes of the intervals that the trades cover whole; as bars, they hold their start and not their end.

    An interval is covered when a trade stands before its start and one at its end or later, and no id between them is
    missing: a venue numbers its trades without a break. Without such numbers nothing proves that trades are whole, and
    nothing is returned.

    Args:
        event_us, known_us, qty, is_buy: (n,) by time. ids: (n,) the venue's running numbers, None = it has none.
    """
    empty = np.empty(0, np.int64)
    nothing = TakerVolume(empty, empty, np.empty(0), np.empty(0))
    if ids is None or event_us.size < 2:
        return nothing
    order = np.argsort(ids, kind="stable")
    event_us, known_us, qty, is_buy, ids = event_us[order], known_us[order], qty[order], is_buy[order], ids[order]
    stretch = np.cumsum(np.append(0, np.diff(ids) != 1))
    found: list[tuple[int, int, float, float]] = []
    for number in range(int(stretch[-1]) + 1):
        own = np.flatnonzero(stretch == number)
        times = np.maximum.accumulate(event_us[own])  # the engine's times may step back by a millisecond
        first, last = int(times[0]) // step_us + 2, int(times[-1]) // step_us  # ends of the first and last whole one
        for end in range(first * step_us, (last + 1) * step_us, step_us):
            inside = own[(times >= end - step_us) & (times < end)]
            bought = is_buy[inside]
            known = int(known_us[inside].max(initial=end))
            found.append((end, known, float(qty[inside][bought].sum()), float(qty[inside][~bought].sum())))
    if not found:
        return nothing
    ends, known_at, buy, sell = (np.array(column) for column in zip(*found, strict=True))
    return TakerVolume(ends.astype(np.int64), known_at.astype(np.int64), buy, sell)


def basis_frac(spot: FloatArray, future: FloatArray) -> FloatArray:
    """Return future / spot - 1, element by element; NaN where either is missing."""
    return future / spot - 1.0
