"""What a collection found: rows by data set, kind and market, gaps and failures by name."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from qraft_contracts.times import format_instant
from svc_ingest.domain.raw import instant_of
from svc_ingest.domain.shaping import Refused


@dataclass(slots=True)
class Count:
    """Rows of one kind and market. n_quarantined is the sum of `reasons` and of what the store itself refused."""

    n_new: int = 0
    n_repeated: int = 0
    n_quarantined: int = 0
    n_empty: int = 0
    first_us: int = 0
    last_us: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, *, n_new: int = 0, n_repeated: int = 0, n_quarantined: int = 0, n_empty: int = 0) -> None:
        """Count rows."""
        self.n_new += n_new
        self.n_repeated += n_repeated
        self.n_quarantined += n_quarantined
        self.n_empty += n_empty

    def refuse(self, reason: str, n: int = 1) -> None:
        """Count refused rows."""
        self.n_quarantined += n
        self.reasons[reason] += n

    def saw(self, first_us: int, last_us: int) -> None:
        """Widen the range of events."""
        self.first_us = min(self.first_us or first_us, first_us)
        self.last_us = max(self.last_us, last_us)

    def merge(self, other: Count) -> None:
        """Add another count."""
        self.add(n_new=other.n_new, n_repeated=other.n_repeated, n_quarantined=other.n_quarantined,
                 n_empty=other.n_empty)  # fmt: skip
        self.reasons += other.reasons
        if other.last_us:
            self.saw(other.first_us, other.last_us)

    def as_dict(self) -> dict[str, Any]:
        """Return the count as JSON values."""
        return {
            "new": self.n_new,
            "repeated": self.n_repeated,
            "quarantined": self.n_quarantined,
            "empty": self.n_empty,
            "first": format_instant(instant_of(self.first_us)) if self.last_us else None,
            "last": format_instant(instant_of(self.last_us)) if self.last_us else None,
            "reasons": dict(sorted(self.reasons.items())),
        }

    @classmethod
    def of(cls, kept: dict[str, Any], *, first_us: int, last_us: int) -> Count:
        """Return the count of a data set that was collected before: all its rows are repetitions now."""
        return cls(
            n_repeated=kept["new"] + kept["repeated"], n_quarantined=kept["quarantined"], n_empty=kept["empty"],
            first_us=first_us, last_us=last_us, reasons=Counter(kept["reasons"]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Named:
    """A gap or a failure: what it is about, a short code, and why."""

    where: str
    code: str
    why: str


@dataclass(slots=True)
class Tally:
    """
    Counts by (data set, kind, market); `market.interval` for bars.

    n_taken: rows that a data set gave, each once for every table that it is part of. What became of them is in the
    counts, but for n_outside: rows outside what was asked for, or of an interval without a slot.
    """

    counts: dict[tuple[str, str, str], Count] = field(default_factory=dict)
    gaps: list[Named] = field(default_factory=list)
    failures: list[Named] = field(default_factory=list)
    n_taken: Counter[str] = field(default_factory=Counter)
    n_outside: Counter[str] = field(default_factory=Counter)
    before: list[str] = field(default_factory=list)  # data sets that were collected before
    refused: list[tuple[str, Refused]] = field(default_factory=list)  # rows of a venue; those of files are kept by file

    def of(self, dataset: str, kind: str, market: str) -> Count:
        """Return the count of a data set's table."""
        return self.counts.setdefault((dataset, kind, market), Count())

    def lost(self) -> dict[str, int]:
        """Return by data set the rows of which nothing is said; there must be none but in data sets that failed."""
        found: dict[str, int] = {}
        for name, n_taken in self.n_taken.items():
            counts = [count for (dataset, _, _), count in self.counts.items() if dataset == name]
            n_told = sum(it.n_new + it.n_repeated + it.n_quarantined + it.n_empty for it in counts)
            if n_lost := n_taken - n_told - self.n_outside[name]:
                found[name] = n_lost
        return found

    def tables(self) -> dict[tuple[str, str], Count]:
        """Return the counts by kind and market."""
        found: dict[tuple[str, str], Count] = {}
        for (_, kind, market), count in sorted(self.counts.items()):
            found.setdefault((kind, market), Count()).merge(count)
        return found

    def total(self) -> Count:
        """Return everything together."""
        total = Count()
        for count in self.counts.values():
            total.merge(count)
        return total

    def as_dict(self) -> dict[str, Any]:
        """Return the tally as JSON values."""
        datasets: dict[str, list[dict[str, Any]]] = {}
        for (dataset, kind, market), count in sorted(self.counts.items()):
            datasets.setdefault(dataset, []).append({"kind": kind, "market": market} | count.as_dict())
        return {
            "totals": self.total().as_dict(),
            "tables": [{"kind": k, "market": m} | count.as_dict() for (k, m), count in self.tables().items()],
            "datasets": datasets,
            "collected_before": sorted(self.before),
            "taken": dict(sorted(self.n_taken.items())),
            "outside": dict(sorted(self.n_outside.items())),
            "lost": dict(sorted(self.lost().items())),
            "gaps": [{"where": it.where, "code": it.code, "why": it.why} for it in self.gaps],
            "failures": [{"where": it.where, "code": it.code, "why": it.why} for it in self.failures],
        }
