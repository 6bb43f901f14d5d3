"""
The weekly cost and utilization report: what each column of work took, and which jobs were heavy.

A job belongs to the ISO week (UTC) in which it ended, whole. A provider cost that nobody told is counted as unknown and
never added as zero.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Protocol

import msgspec

from qraft_contracts.usage import COLUMNS, ComputeUsage
from qraft_runtime.clock import Clock

N_HEAVY_JOBS_MAX: Final = 100
_WEEK: Final = re.compile(r"([0-9]{4})-W([0-9]{2})")
_ORIGIN_YEAR: Final = 2000  # no usage is older; keeps every instant inside what the database can store


class ColumnTotals(msgspec.Struct, frozen=True):
    """
    One column of the report, summed over its jobs.

    n_simulated: jobs of simulated origin. n_cost_unknown: jobs whose provider cost nobody told; they are not in
    provider_cost_microusd.
    """

    column: str
    n_jobs: int = 0
    n_simulated: int = 0
    n_replayed: int = 0
    cpu_ms: int = 0
    gpu_ms: int = 0
    n_bytes: int = 0
    provider_cost_microusd: int = 0
    n_cost_unknown: int = 0


class WeeklyReport(msgspec.Struct, frozen=True):
    """
    One week. Fractions are None where the machine's size is not known or the week has not begun.

    until: the end of the week, or now while it goes on. n_heavy_jobs may be more than are listed.
    """

    week: str
    since: datetime
    until: datetime
    is_complete: bool
    columns: tuple[ColumnTotals, ...]
    total: ColumnTotals
    n_cores: int
    n_gpus: int
    cpu_utilization_frac: float | None
    gpu_utilization_frac: float | None
    heavy_job_s: float
    n_heavy_jobs: int
    heavy_jobs: tuple[ComputeUsage, ...]


class UsageReader(Protocol):
    """Booked usage, as the report reads it. Every method raises Transient when the database is away."""

    async def totals(self, *, since: datetime, until: datetime) -> tuple[ColumnTotals, ...]:
        """Return the sums of every column with a job that ended in [since, until)."""
        ...

    async def heavy_jobs(
        self, *, since: datetime, until: datetime, compute_ms_min: int, limit: int
    ) -> tuple[int, tuple[ComputeUsage, ...]]:
        """Return how many jobs took at least that much processor plus GPU time, and the heaviest of them."""
        ...


@dataclass(frozen=True, slots=True)
class Machine:
    """What utilization is measured against, and from when on a job is heavy."""

    n_cores: int
    n_gpus: int
    heavy_job_s: float


class WriteWeeklyReport:
    """Puts the report of one week together."""

    def __init__(self, reader: UsageReader, *, machine: Machine, clock: Clock) -> None:
        self._reader = reader
        self._machine = machine
        self._clock = clock

    async def __call__(self, week: str | None = None) -> WeeklyReport:
        """
        Return the report of a week such as `2026-W47`; None = the one that goes on.

        Raises:
            ValueError: if that is no ISO week.
            Transient: if the database is away.
        """
        now = self._clock.now()
        name = week if week is not None else week_of(now)
        since, end = week_bounds(name)
        until = min(end, max(now, since))
        machine = self._machine
        found = {it.column: it for it in await self._reader.totals(since=since, until=end)}
        n_heavy, heavy = await self._reader.heavy_jobs(
            since=since, until=end, compute_ms_min=round(machine.heavy_job_s * 1_000), limit=N_HEAVY_JOBS_MAX
        )
        columns = tuple(found.get(column, ColumnTotals(column)) for column in COLUMNS)
        total = _total(columns)
        return WeeklyReport(
            week=name,
            since=since,
            until=until,
            is_complete=now >= end,
            columns=columns,
            total=total,
            n_cores=machine.n_cores,
            n_gpus=machine.n_gpus,
            cpu_utilization_frac=utilization(total.cpu_ms, n_units=machine.n_cores, span=until - since),
            gpu_utilization_frac=utilization(total.gpu_ms, n_units=machine.n_gpus, span=until - since),
            heavy_job_s=machine.heavy_job_s,
            n_heavy_jobs=n_heavy,
            heavy_jobs=heavy,
        )


def week_of(at: datetime) -> str:
    """Return the ISO week of an instant, such as `2026-W47`."""
    year, week, _ = at.astimezone(UTC).isocalendar()
    return f"{year:04d}-W{week:02d}"


def week_bounds(week: str) -> tuple[datetime, datetime]:
    """
    Return the first instant of an ISO week and of the next one.

    Raises:
        ValueError: if that is no ISO week from 2000 on.
    """
    match = _WEEK.fullmatch(week)
    try:
        if match is None or int(match[1]) < _ORIGIN_YEAR:
            raise ValueError("not a week")
        monday = date.fromisocalendar(int(match[1]), int(match[2]), 1)
        since = datetime(monday.year, monday.month, monday.day, tzinfo=UTC)
        return since, since + timedelta(days=7)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"expected an ISO week from 2000 on such as 2026-W47, received {week!r:.40}") from error


def utilization(busy_ms: int, *, n_units: int, span: timedelta) -> float | None:
    """Return busy time as a fraction of n_units over the span; None without units or without a span."""
    available_ms = n_units * span.total_seconds() * 1_000
    return busy_ms / available_ms if available_ms > 0 else None


def _total(columns: tuple[ColumnTotals, ...]) -> ColumnTotals:
    return ColumnTotals(
        column="total",
        n_jobs=sum(it.n_jobs for it in columns),
        n_simulated=sum(it.n_simulated for it in columns),
        n_replayed=sum(it.n_replayed for it in columns),
        cpu_ms=sum(it.cpu_ms for it in columns),
        gpu_ms=sum(it.gpu_ms for it in columns),
        n_bytes=sum(it.n_bytes for it in columns),
        provider_cost_microusd=sum(it.provider_cost_microusd for it in columns),
        n_cost_unknown=sum(it.n_cost_unknown for it in columns),
    )
