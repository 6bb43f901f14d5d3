"""Rows of any kind for the table store tests, made from the metric dictionary."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from qraft_contracts.kinds import KINDS, Field, Kind
from qraft_store.tables.schema import table_schema

T0 = datetime(2025, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MARKET = "binance.perp"
TABLE_KINDS = sorted(set(KINDS) - {"bars"})
_PLAIN = {"utf8": "x", "bool": True, "int64": 7, "list<float64>": [1.0, 2.0]}


def row(kind: str, **values: Any) -> dict[str, Any]:
    """Return a row that the kind allows, with some columns as given. known_at follows event_at unless it is given."""
    event_at = values.get("event_at", T0)
    base = {
        "symbol": "BTCUSDT",
        "event_at": event_at,
        "known_at": event_at,
        "row_id": "1" if KINDS[kind].has_row_id else "",
        "revision": 0,
        "origin": "real",
        "source": "test",
    }
    return base | {field.name: _value(field) for field in KINDS[kind].fields} | values


def _value(field: Field) -> Any:
    if field.type != "float64":
        return _PLAIN[field.type]
    return 1.0 if field.low <= 1.0 <= field.high else (field.low + field.high) / 2


def table(kind: str, rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Return rows as a call sends them."""
    return pa.Table.from_pylist(list(rows), schema=table_schema(kind))


def series(kind: str, n: int, *, symbol: str = "BTCUSDT", start: datetime = T0, step: timedelta = HOUR) -> pa.Table:
    """Return n rows of one symbol whose numbers fall from row to row."""
    rows = []
    for i in range(n):
        values: dict[str, Any] = {"symbol": symbol, "event_at": start + i * step}
        if KINDS[kind].has_row_id:
            values["row_id"] = str(i)
        values |= {f.name: _value(f) * (1 - i / 1_000_000) for f in KINDS[kind].fields if f.type == "float64"}
        rows.append(row(kind, **values))
    return table(kind, rows)


def any_row(kind: Kind) -> st.SearchStrategy[dict[str, Any]]:
    """Return rows that a kind allows: fields anywhere within their bounds, empty where they may be."""
    fields = {field.name: _any_value(field) for field in kind.fields}
    first, last = (datetime(year, 1, 1, tzinfo=UTC) for year in (kind.first_year, 2199))
    event_at = st.timedeltas(timedelta(0), last - first).map(lambda passed: first + passed)
    base = st.fixed_dictionaries(
        {
            "symbol": st.sampled_from(["BTCUSDT", "ETHUSDT", "Ω", "a b'\\"]),
            "event_at": event_at,
            "delay": st.timedeltas(timedelta(0), timedelta(days=300)),
            "row_id": st.text(_CHARACTERS, min_size=1, max_size=4) if kind.has_row_id else st.just(""),
            "revision": st.integers(0, 3),
            "origin": st.sampled_from(["real", "replay", "simulated"]),
            "source": st.text(_CHARACTERS, min_size=1, max_size=5),
            **fields,
        }
    )
    return base.map(lambda values: _consistent(kind, values))


_CHARACTERS = st.characters(codec="utf-8")


def _any_value(field: Field) -> st.SearchStrategy[Any]:
    numbers = st.floats(
        None if field.low == float("-inf") else field.low,
        None if field.high == float("inf") else field.high,
        allow_nan=False,
        allow_infinity=False,
    )
    low = int(max(field.low, -(2**63)))
    high = int(min(field.high, 2**63 - 1))
    found: st.SearchStrategy[Any] = {
        "float64": numbers,
        "int64": st.integers(low, high),
        "bool": st.booleans(),
        "utf8": st.text(_CHARACTERS, min_size=int(field.is_required), max_size=20),
        "list<float64>": st.lists(numbers, max_size=5),
    }[field.type]
    return found if field.is_required else st.none() | found


def _consistent(kind: Kind, values: dict[str, Any]) -> dict[str, Any]:
    values["known_at"] = values["event_at"] + values.pop("delay")
    for left, right in kind.same_length:
        n = min(len(values[left]), len(values[right]))
        values[left], values[right] = values[left][:n], values[right][:n]
    for _ in kind.at_most:
        for low, high in kind.at_most:
            if values[low] > values[high]:
                values[low], values[high] = values[high], values[low]
    return values
