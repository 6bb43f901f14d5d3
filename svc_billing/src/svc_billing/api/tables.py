"""CSV that a spreadsheet only ever reads as data: no cell becomes a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Final

# What makes a spreadsheet take text for a formula, also behind white space and in full-width signs.
_FORMULA: Final = re.compile(r"[\s\x00-\x20]*[=+\-@|%＝＋－＠]|[\t\r\n]")

Cell = str | int | None


def csv_text(headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """
    Return a table as CSV (RFC 4180, CRLF).

    Numbers are written as they are; a text that a spreadsheet could run gets an apostrophe in front.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(headings)
    for row in rows:
        writer.writerow([_safe(cell) for cell in row])
    return out.getvalue()


def _safe(cell: Cell) -> str | int:
    if cell is None:
        return ""
    if isinstance(cell, int):
        return cell
    return f"'{cell}" if _FORMULA.match(cell) else cell
