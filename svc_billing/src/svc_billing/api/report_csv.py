"""The weekly report as one table: a row a column, the total, then a row a heavy job."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from qraft_contracts.usage import ComputeUsage
from svc_billing.api.tables import Cell, csv_text
from svc_billing.usecases.report import ColumnTotals, WeeklyReport

_HEADINGS: Final = (
    "week", "row", "column", "n_jobs", "n_simulated", "n_replayed", "cpu_s", "gpu_s", "n_bytes", "provider_cost_usd",
    "n_cost_unknown", "cpu_utilization_pct", "service", "purpose", "stop_condition", "origin", "started_at", "ended_at",
    "usage_id",
)  # fmt: skip


def report_csv(report: WeeklyReport) -> str:
    """Return the report as CSV. Seconds and dollars are exact decimals; an unknown cost is an empty cell."""
    totals = [_totals_row(report, it, kind="column") for it in report.columns]
    total = _totals_row(report, report.total, kind="total")
    return csv_text(_HEADINGS, [*totals, total, *(_job_row(report, job) for job in report.heavy_jobs)])


def _totals_row(report: WeeklyReport, it: ColumnTotals, *, kind: str) -> list[Cell]:
    percent = report.cpu_utilization_frac if kind == "total" else None
    return [
        report.week, kind, it.column, it.n_jobs, it.n_simulated, it.n_replayed, _scaled(it.cpu_ms, 3),
        _scaled(it.gpu_ms, 3), it.n_bytes, _scaled(it.provider_cost_microusd, 6), it.n_cost_unknown,
        "" if percent is None else f"{percent * 100:.2f}", "", "", "", "", "", "", "",
    ]  # fmt: skip


def _job_row(report: WeeklyReport, job: ComputeUsage) -> list[Cell]:
    cost = job.provider_cost_microusd
    return [
        report.week, "heavy_job", job.column, 1, int(job.origin == "simulated"), int(job.origin == "replay"),
        _scaled(job.cpu_ms, 3), _scaled(job.gpu_ms, 3), job.n_bytes, "" if cost is None else _scaled(cost, 6),
        int(cost is None), "", job.service, job.purpose, job.stop_condition, job.origin.value,
        job.started_at.isoformat(), job.ended_at.isoformat(), job.usage_id,
    ]  # fmt: skip


def _scaled(number: int, places: int) -> str:
    """Return a whole number of thousandths or millionths as an exact decimal."""
    return format(Decimal(number).scaleb(-places), "f")
