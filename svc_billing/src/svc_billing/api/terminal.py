"""Tables for a terminal: plain text, aligned, without color or control characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qraft_contracts.billing import Hold
from svc_billing.api.figures import bytes_text, duration_text, percent_text, usd_text
from svc_billing.usecases.credits import format_credits
from svc_billing.usecases.report import ColumnTotals, WeeklyReport
from svc_billing.usecases.statement import StatementLine

_TIME: Final = "%Y-%m-%d %H:%M:%S"


def statement_table(lines: Sequence[StatementLine]) -> str:
    """Return a statement in credits."""
    rows = [
        (
            f"{line.at:{_TIME}}",
            line.kind,
            format_credits(line.amount_microcredits),
            format_credits(line.available_microcredits),
            format_credits(line.held_microcredits),
            line.job or line.note,
        )
        for line in lines
    ]
    return _table(("time (UTC)", "kind", "amount", "available", "held", "job"), rows, right={2, 3, 4})


def holds_table(holds: Sequence[Hold]) -> str:
    """Return holds in credits."""
    rows = [
        (
            f"{hold.made_at:{_TIME}}",
            hold.account_id,
            f"{hold.state}, refund failing" if hold.is_refund_failing else hold.state,
            format_credits(hold.amount_microcredits),
            format_credits(hold.settled_microcredits),
            f"{hold.expires_at:{_TIME}}" if hold.expires_at is not None else "",
            hold.purpose,
            hold.hold_id,
        )
        for hold in holds
    ]
    headings = ("made (UTC)", "account", "state", "amount", "settled", "lease ends", "job", "hold")
    return _table(headings, rows, right={3, 4})


def report_table(report: WeeklyReport) -> str:
    """Return the weekly report's columns; the heavy jobs are in its HTML and CSV."""
    rows = [_totals(it) for it in (*report.columns, report.total)]
    headings = ("column", "jobs", "simulated", "CPU time", "GPU time", "data", "provider cost", "not told")
    kind = "complete" if report.is_complete else "so far"
    return (
        f"week {report.week} ({kind}), {report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC\n"
        f"{_table(headings, rows, right=set(range(1, len(headings))))}\n"
        f"CPU utilization {percent_text(report.cpu_utilization_frac)} of {report.n_cores} cores; "
        f"{report.n_heavy_jobs} heavy jobs of {duration_text(round(report.heavy_job_s * 1_000))} or more"
    )


def _totals(it: ColumnTotals) -> tuple[str, ...]:
    cost = usd_text(it.provider_cost_microusd) if it.n_jobs > it.n_cost_unknown else "-"
    return (
        it.column,
        str(it.n_jobs),
        str(it.n_simulated),
        duration_text(it.cpu_ms),
        duration_text(it.gpu_ms),
        bytes_text(it.n_bytes),
        cost,
        str(it.n_cost_unknown),
    )


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: set[int]) -> str:
    """Return aligned columns with a rule below the headings. right: columns aligned right."""
    lines = [list(headings), *([_printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _printable(text: str) -> str:
    """Return text without the control characters by which outside data could steer a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
