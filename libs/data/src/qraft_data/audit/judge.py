"""One series against what is owed and the thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from qraft_contracts.kinds import stale_after_s
from qraft_contracts.times import format_instant
from qraft_data.audit.expectation import Thresholds, Window
from qraft_data.audit.findings import Gap, SeriesAudit, Verdict
from qraft_data.audit.measure import coverage, missing_runs, spikes, unit_drift
from qraft_data.audit.mending import mend_command
from qraft_data.audit.slots import Slots
from qraft_data.times import SECOND_US, FloatArray, Int64Array, instant_of

GAPS_NAMED_MAX: Final = 20
OUTLIERS_NAMED_MAX: Final = 10
N_PARTS: Final = 60


@dataclass(slots=True)
class Rows:
    """The rows of one series in the window: their times (sorted) and some of their values, each (n_rows,)."""

    kind: str
    market: str
    interval: str
    symbol: str
    times: Int64Array
    values: dict[str, FloatArray]
    n_revised: int
    origins: tuple[str, ...]


def judge(
    rows: Rows,
    owed: Int64Array | None,
    *,
    window: Window,
    part: Window,
    thresholds: Thresholds,
    sized: Sequence[str],
    priced: str,
    line_market: str = "",
) -> SeriesAudit:
    """
    Return what is to be said of one series.

    Args:
        owed: when rows are expected in `part`; None = nothing says so.
        part: the part of the window that counts (the recent one for a source of short retention).
        sized: values whose typical size may not drift. priced: the value that is looked through for bad ticks.
        line_market: whose bars svc_ingest brings itself.
    """
    found = np.unique(rows.times)
    first, length = missing_runs(found, owed) if owed is not None else (found[:0], found[:0])
    n_missing, n_owed = int(length.sum()), None if owed is None else int(owed.size)
    completeness = None if not n_owed else 1.0 - n_missing / n_owed
    slots = None if owed is not None else _slots(rows, found, part)
    outliers = spikes(rows.values[priced]) if priced else np.empty(0, dtype=np.int64)
    drift, drift_field = max(((unit_drift(rows.values[name]), name) for name in sized), default=(1.0, ""))
    age_s = (window.end_us - int(found[-1])) // SECOND_US if found.size else None
    reasons = _reasons(rows, completeness, len(outliers), drift, drift_field, age_s, thresholds)
    gaps = _gaps(owed, first, length, part)
    return SeriesAudit(
        kind=rows.kind,
        market=rows.market,
        interval=rows.interval,
        symbol=rows.symbol,
        is_required=False,
        verdict=Verdict.NOT_READY if reasons else Verdict.UNJUDGED if completeness is None else Verdict.READY,
        reasons=(*reasons, *([] if slots is None else slots.said)),
        first=_text(found[0]) if found.size else "",
        last=_text(found[-1]) if found.size else "",
        n_rows=int(rows.times.size),
        n_expected=n_owed,
        n_missing=n_missing,
        completeness=None if completeness is None else round(completeness, 6),
        filled_frac=None if slots is None else slots.filled_frac,
        n_gaps=int(length.size),
        gaps=gaps,
        n_revised=rows.n_revised,
        n_outliers=len(outliers),
        outliers=tuple(_text(rows.times[i]) for i in outliers[:OUTLIERS_NAMED_MAX]),
        drift=round(drift, 3),
        drift_field=drift_field,
        age_s=age_s,
        is_recent_only=part != window,
        origins=rows.origins,
        coverage=_coverage(found, owed, window) if slots is None else slots.coverage(window),
        mend=mend_command(rows.kind, rows.market, rows.symbol, rows.interval, after=gaps[0].after,
                          until=gaps[-1].until, line_market=line_market) if n_missing else "",
    )  # fmt: skip


def _reasons(
    rows: Rows, completeness: float | None, n_outliers: int, drift: float, drift_field: str, age_s: int | None,
    thresholds: Thresholds,
) -> list[str]:  # fmt: skip
    found = []
    if completeness is not None and not rows.times.size:
        return ["no row in this window"]
    if completeness is not None and completeness < thresholds.completeness_min:
        found.append(f"{completeness:.2%} of the rows are there, at least {thresholds.completeness_min:.2%} are needed")
    if n_outliers > thresholds.outlier_frac_max * max(rows.times.size, 1):
        found.append(f"{n_outliers} bad ticks in {rows.times.size:,} rows")
    if drift > thresholds.drift_max:
        found.append(f"{drift_field} changes its typical size {drift:.0f} times: another unit?")
    stale_s = stale_after_s(rows.kind, rows.symbol)
    if completeness is not None and stale_s is not None and age_s is not None and age_s > max(stale_s, 86_400):
        found.append(f"the newest row is {age_s // 3600} hours older than the end of the window")
    return found


def _slots(rows: Rows, found: Int64Array, part: Window) -> Slots | None:
    """Return how evenly rows without a schedule come, where the dictionary says from when on silence is odd."""
    width_s = stale_after_s(rows.kind, rows.symbol)
    return None if width_s is None or not found.size else Slots(found, width_s=width_s, window=part)


def _gaps(owed: Int64Array | None, first: Int64Array, length: Int64Array, part: Window) -> tuple[Gap, ...]:
    if owed is None:
        return ()
    largest = np.sort(np.argsort(length, kind="stable")[::-1][:GAPS_NAMED_MAX])
    return tuple(
        Gap(
            after=_text(owed[first[i] - 1] if first[i] else part.start_us),
            until=_text(owed[first[i] + length[i] - 1]),
            n_missing=int(length[i]),
        )
        for i in largest
    )


def _coverage(found: Int64Array, owed: Int64Array | None, window: Window) -> tuple[float, ...]:
    if owed is None:
        edges = np.linspace(window.start_us, window.end_us, N_PARTS + 1)
        return tuple(1.0 if n else -1.0 for n in np.histogram(found, edges)[0])
    parts = coverage(found, owed, start_us=window.start_us, end_us=window.end_us, n_parts=N_PARTS)
    return tuple(round(float(it), 3) for it in parts)


def _text(micros_: int) -> str:
    return format_instant(instant_of(int(micros_)))
