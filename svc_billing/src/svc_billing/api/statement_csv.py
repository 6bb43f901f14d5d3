"""A statement as CSV."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from svc_billing.api.tables import Cell, csv_text
from svc_billing.usecases.statement import StatementLine

_HEADINGS: Final = (
    "account_seq", "seq", "at", "kind", "amount_microcredits", "available_change_microcredits",
    "held_change_microcredits", "available_microcredits", "held_microcredits", "shortfall_microcredits", "hold_id",
    "job", "operation_id", "note",
)  # fmt: skip


def statement_csv(lines: Iterable[StatementLine]) -> str:
    """Return the lines as CSV; amounts are whole micro-credits, so that no spreadsheet rounds them."""
    return csv_text(_HEADINGS, map(_cells, lines))


def _cells(line: StatementLine) -> list[Cell]:
    return [
        line.account_seq, line.seq, line.at.isoformat(), line.kind, line.amount_microcredits,
        line.available_change_microcredits, line.held_change_microcredits, line.available_microcredits,
        line.held_microcredits, line.shortfall_microcredits, line.hold_id, line.job, line.operation_id, line.note,
    ]  # fmt: skip
