"""Rows of the line that are possible in themselves and still wrong: ahead of the clock, before any market, of another
unit. What is refused is kept as it was received."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from svc_ingest.domain.drift import APART_MAX_US, BLOCK_ROWS, RATIO_MAX, level_of
from svc_ingest.domain.faults import FaultKind
from svc_ingest.domain.raw import VALUES, FloatArray, RawRows, instant_of
from svc_ingest.domain.shaping import AHEAD_MAX_US, Refused, as_received

# Rows kept of one process: a source in another unit adds one a bar and symbol.
KEPT_MAX: Final = 10_000
Found = tuple[FaultKind, npt.NDArray[np.bool_]]


class RowJudge:
    """
    What the quality check of a line asks beside the rows themselves.

    now_us: the time now, microseconds since 1970. on_refused: keeps rows, each with its symbol.
    """

    def __init__(
        self, market: str, interval: str, now_us: Callable[[], int],
        on_refused: Callable[[Sequence[tuple[str, Refused]]], None],
    ) -> None:  # fmt: skip
        self._market, self._now_us, self.on_refused = f"{market}.{interval}", now_us, on_refused
        self._kept: set[tuple[str, str]] = set()

    def refuse(self, rows: RawRows, *, recent: Mapping[int, float]) -> list[Found]:
        """
        Return which rows are ahead of the clock, and which are of another unit than the bars before them.

        A row is judged by rows before it: by the closes of `recent` (by closed_at), or where those are too few or too
        old by the first block of the rows themselves.
        """
        ahead = rows.closed_at > self._now_us() + AHEAD_MAX_US
        close = rows.values[:, 3]
        known = np.array(list(recent.values()), dtype=np.float64)
        newest = max(recent, default=0)
        level = level_of(known) if rows.closed_at.size and int(rows.closed_at.min()) - newest <= APART_MAX_US else 0.0
        level = level or level_of(close[~ahead][:BLOCK_ROWS])
        other = np.zeros(close.size, dtype=bool)
        if level:
            with np.errstate(divide="ignore", invalid="ignore"):
                other = (close > 0) & np.isfinite(close) & (np.maximum(close / level, level / close) > RATIO_MAX)
        return [(FaultKind.AHEAD, ahead), (FaultKind.UNIT, other & ~ahead)]

    def keep(self, symbol: str, rows: RawRows, refused: Sequence[Found]) -> None:
        """Keep refused rows that were not kept before: a living source gives its newest rows again and again."""
        new: list[tuple[str, Refused]] = []
        for kind, found in refused:
            for i in np.flatnonzero(found)[: KEPT_MAX - len(self._kept)].tolist():
                text = as_received(_row(symbol, int(rows.closed_at[i]), rows.values[i]))
                if (kind.value, text) not in self._kept:
                    self._kept.add((kind.value, text))
                    new.append((symbol, Refused("bars", self._market, i, kind.value, text)))
        if new:
            self.on_refused(new)


def _row(symbol: str, closed_at: int, values: FloatArray) -> dict[str, object]:
    # Text: JSON has no word for an infinite volume.
    numbers = {name: repr(value) for name, value in zip(VALUES, values.tolist(), strict=True)}
    return {"symbol": symbol, "closed_at": instant_of(closed_at)} | numbers
