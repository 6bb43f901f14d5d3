"""What an audit found: plain values that a report, a gate and a later audit read."""

from __future__ import annotations

from enum import StrEnum

import msgspec

AUDIT_FORMAT = "data-audit/1"


class Verdict(StrEnum):
    """
    What a series is good for.

    ready: everything that was asked of it holds. not_ready: something does not; `reasons` say what. unjudged: there is
    no rule by which it could be complete (events), so its rows say nothing about what is missing.
    """

    READY = "ready"
    NOT_READY = "not_ready"
    UNJUDGED = "unjudged"


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """n_missing rows are missing after the row of `after` (exclusive) up to `until` (inclusive), ISO instants."""

    after: str
    until: str
    n_missing: int


class SeriesAudit(msgspec.Struct, frozen=True, kw_only=True):
    """
    One series in one window.

    is_required: decides whether the lake is ready. symbol: "" where nothing of a required kind is stored. n_expected:
    None where nothing says how many; then filled_frac is the share of stretches of the kind's stale_after_s that hold a
    row. gaps: the largest, n_gaps counts all. drift: largest ratio of the typical size of
    a value between neighbouring stretches, and the field. age_s: from the newest row to the end of the window.
    coverage: rows over expected rows in equal parts of the window, -1 where nothing is expected. mend: the command
    that would bring what is missing, "" where nothing is missing.
    """

    kind: str
    market: str
    interval: str
    symbol: str
    is_required: bool
    verdict: Verdict
    reasons: tuple[str, ...]
    first: str
    last: str
    n_rows: int
    n_expected: int | None
    n_missing: int
    completeness: float | None
    filled_frac: float | None = None
    n_gaps: int
    gaps: tuple[Gap, ...]
    n_revised: int
    n_outliers: int
    outliers: tuple[str, ...]
    drift: float
    drift_field: str
    age_s: int | None
    is_recent_only: bool
    origins: tuple[str, ...]
    coverage: tuple[float, ...]
    mend: str


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """Refused rows of one table by reason."""

    kind: str
    market: str
    reason: str
    n: int


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """
    The audit of a lake in one window (start, end].

    mode: production or full. ready: every required series is ready and there is at least one; `full` may run only then.
    thresholds: what was asked for, by name. versions: content hash of every audited table.
    """

    format: str
    mode: str
    start: str
    end: str
    market: str
    ready: bool
    n_required: int
    n_ready: int
    thresholds: dict[str, float]
    series: tuple[SeriesAudit, ...]
    quarantined: tuple[Quarantined, ...]
    versions: dict[str, str]

    @property
    def required(self) -> tuple[SeriesAudit, ...]:
        """Return the series that decide."""
        return tuple(it for it in self.series if it.is_required)
