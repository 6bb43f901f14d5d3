"""What was wrong with the rows of a source: counts, bounded examples, and the report made of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from qraft_contracts.times import format_instant
from svc_ingest.domain.raw import instant_of

# A report is read by people and gates; beyond these the counts say enough.
MAX_EXAMPLES: Final = 20
MAX_GAPS: Final = 10_000


class FaultKind(StrEnum):
    """
    One kind of fault.

    gap: bars are missing before this one (reported, never filled). duplicate: the same row again (dropped).
    revision: the same bar with other values (kept as r1, r2). late: a bar that was published without this symbol
    (kept as a revision). out_of_order: a row behind an earlier one (put in its place). impossible: NaN, a price <= 0,
    high below low, open or close outside them, volume < 0 (dropped). off_grid: not on the interval's grid (dropped).
    too_old: a row for a bar so far back that we cannot tell whether it is new (dropped). ahead: a bar that ends after
    now (dropped). unit: a close fifty times larger or smaller than the bars before it (dropped). What is dropped,
    duplicates apart, is kept as received in lake/refused and counted by the audit.
    """

    GAP = "gap"
    DUPLICATE = "duplicate"
    REVISION = "revision"
    LATE = "late"
    OUT_OF_ORDER = "out_of_order"
    IMPOSSIBLE = "impossible"
    OFF_GRID = "off_grid"
    TOO_OLD = "too_old"
    AHEAD = "ahead"
    UNIT = "unit"


@dataclass(frozen=True, slots=True)
class Gap:
    """n_bars bars are missing after the bar that ended at after_us (microseconds since 1970)."""

    symbol: str
    after_us: int
    n_bars: int


@dataclass(slots=True)
class QualityReport:
    """Faults per symbol and kind. A symbol without faults is listed with its rows."""

    n_rows: Counter[str] = field(default_factory=Counter)
    n_bars_missing: Counter[str] = field(default_factory=Counter)
    gaps: list[Gap] = field(default_factory=list)
    _counts: Counter[tuple[str, FaultKind]] = field(default_factory=Counter)
    _untold: Counter[tuple[str, FaultKind]] = field(default_factory=Counter)
    _examples: dict[FaultKind, list[str]] = field(default_factory=dict)

    def add(self, symbol: str, kind: FaultKind, n: int = 1, *, at_us: int | None = None) -> None:
        """Count n faults; at_us names the closed_at of one of them."""
        if n == 0:
            return
        self._counts[symbol, kind] += n
        self._untold[symbol, kind] += n
        examples = self._examples.setdefault(kind, [])
        if at_us is not None and len(examples) < MAX_EXAMPLES:
            examples.append(f"{symbol} {format_instant(instant_of(at_us))}")

    def add_gap(self, symbol: str, after_us: int, n_bars: int) -> None:
        """Count one gap of n_bars bars."""
        self.add(symbol, FaultKind.GAP, at_us=after_us)
        self.n_bars_missing[symbol] += n_bars
        if len(self.gaps) < MAX_GAPS:
            self.gaps.append(Gap(symbol, after_us, n_bars))

    def count(self, kind: FaultKind, symbol: str | None = None) -> int:
        """Return how many faults of a kind were found, in one symbol or in all."""
        return sum(n for (name, k), n in self._counts.items() if k is kind and symbol in (None, name))

    def take_untold(self) -> list[tuple[str, FaultKind, int]]:
        """Return the faults since the last call, for logs and counters."""
        untold = [(symbol, kind, n) for (symbol, kind), n in sorted(self._untold.items())]
        self._untold.clear()
        return untold

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values; equal reports give equal text."""
        return {
            "totals": {"rows": self.n_rows.total(), "missing_bars": self.n_bars_missing.total()}
            | {kind.value: self.count(kind) for kind in FaultKind},
            "symbols": {
                symbol: {"rows": self.n_rows[symbol], "missing_bars": self.n_bars_missing[symbol]}
                | {kind.value: n for kind in FaultKind if (n := self._counts[symbol, kind])}
                for symbol in sorted(self.n_rows.keys() | {name for name, _ in self._counts})
            },
            "gaps": [
                {"symbol": gap.symbol, "after": format_instant(instant_of(gap.after_us)), "missing_bars": gap.n_bars}
                for gap in self.gaps
            ],
            "examples": {kind.value: found for kind, found in sorted(self._examples.items())},
        }
