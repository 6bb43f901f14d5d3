"""What a snapshot is made of, whichever question it answers: the bars and metrics of a panel, or a derived table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from qraft_contracts.origin import Origin
from qraft_data.continuous.rolls import RollPoint
from qraft_data.options.quotes import OptionTable
from qraft_data.panel import DataPanel


@dataclass(frozen=True, slots=True)
class SnapshotContent:
    """query: JSON values, everything that made the table, its range among it. versions: of every source read."""

    query: dict[str, Any]
    versions: Mapping[str, str]
    origin: Origin
    table: pa.Table
    counts: Mapping[str, int]
    roll_points: tuple[RollPoint, ...] = ()


def content_of(answer: DataPanel | OptionTable) -> SnapshotContent:
    """Return an answer of get_data or of the options panel as what a snapshot keeps."""
    if isinstance(answer, OptionTable):
        return SnapshotContent(answer.query, answer.sources, answer.origin, answer.table, {})
    found = answer.counts
    counts = {
        "n_outside_calendar": found.n_outside_calendar,
        "n_dropped": found.n_dropped,
        "n_filled": found.n_filled,
        **{f"n_missing {name}": n_missing for name, n_missing in found.n_missing.items()},
    }
    query = msgspec.json.decode(answer.query.canonical())
    return SnapshotContent(query, answer.sources, answer.origin, answer.table(), counts, answer.roll_points)
