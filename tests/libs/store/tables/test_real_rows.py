"""Real trades and posts through the lake: what went in comes out, in whatever calls it went in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests.libs.store.tables.tables_kit import DAY, T0

from qraft_store.tables.lake import ParquetTables
from qraft_store.tables.schema import INSTANT, table_schema

pytestmark = pytest.mark.data
EVER = {"start": T0 - 9_999 * DAY, "end": T0}


def made(kind: str, columns: dict[str, Any], n: int) -> pa.Table:
    constant = {"revision": pa.array(np.zeros(n, np.int32)), "origin": ["replay"] * n, "source": ["file"] * n}
    return pa.table(constant | columns).select(table_schema(kind).names).cast(table_schema(kind))


def trades(folder: Path) -> pa.Table:
    raw = pq.read_table(folder / "trades" / "binance_btcusdt_2024-08-08.parquet")
    raw = raw.filter(pc.equal(raw["market"], "spot"))
    at, received = raw["trade_time"].cast(INSTANT), raw["received_time"].cast(INSTANT, safe=False)
    columns = {
        "symbol": raw["symbol"],
        "event_at": at,
        "known_at": pc.if_else(pc.greater(received, at), received, at),
        "row_id": raw["trade_id"].cast(pa.string()),
        "price": raw["price"],
        "qty": raw["qty"],
        "is_taker_buy": pc.equal(raw["taker_side"], "buy"),
    }
    return made("trades", columns, raw.num_rows)


def posts(folder: Path) -> pa.Table:
    raw = pq.read_table(folder / "social" / "tweets_2020-12_2021-02.parquet").slice(0, 10_000)
    at = raw["time"].cast(INSTANT)
    columns = {
        "symbol": raw["coin"],
        "event_at": at,
        "known_at": at,
        "row_id": raw["post_id"].cast(pa.string()),
        "platform": ["twitter"] * raw.num_rows,
        "author_hash": raw["author"],
        "text": raw["text"],
        "language": pa.nulls(raw.num_rows, pa.string()),
        "is_comment": pa.array(np.zeros(raw.num_rows, bool)),
    }
    return made("posts", columns, raw.num_rows)


@pytest.mark.parametrize(("kind", "source"), [("trades", trades), ("posts", posts)])
def test_real_rows_come_back_whole_whatever_the_calls(kind: str, source: Any, qraft_data: Path, tmp_path: Path) -> None:
    rows = source(qraft_data)
    one, many = ParquetTables(tmp_path / "one"), ParquetTables(tmp_path / "many")

    done = one.append(kind, market="real", rows=rows)
    mixed = rows.take(np.random.default_rng(1).permutation(rows.num_rows))
    third = rows.num_rows // 3
    for i in range(4):
        many.append(kind, market="real", rows=mixed.slice(i * third, third + 100))  # the calls overlap

    assert done.n_new == rows.num_rows and done.n_quarantined == 0
    assert one.version(kind, market="real") == many.version(kind, market="real")
    found = one.read(kind, market="real", symbols=None, **EVER)
    order = [(name, "ascending") for name in ("event_at", "symbol", "row_id")]
    assert found.equals(rows.sort_by(order))
    for lake in (one, many):
        lake.close()
