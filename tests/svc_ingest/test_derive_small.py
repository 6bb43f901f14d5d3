"""Beside a living line: series of macro values and event counts are derived when a command has brought new rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from qraft_runtime.clock import FixedClock
from qraft_runtime.health import Health
from qraft_runtime.settings import CommonSettings
from qraft_store.tables.lake import ParquetTables
from qraft_store.tables.schema import table_schema
from svc_ingest.adapters.collected import LakeRecord
from svc_ingest.adapters.late_rows import ReadMark
from svc_ingest.adapters.polling import small_deriver_of
from svc_ingest.domain.raw import micros_of

T0, DAY = datetime(2025, 3, 1, tzinfo=UTC), timedelta(days=1)
NOW = T0 + 60 * DAY + timedelta(hours=9)
NOTE = "feed series_state us.macro"


def put(tables: ParquetTables, kind: str, *rows: tuple[int, float]) -> None:
    """Store values of the VIX by day, each known at once."""
    field = "value" if kind == "macro" else "zscore_60"
    base = {"symbol": "VIX", "row_id": "", "revision": 0, "origin": "real", "source": "test"}
    given = [base | {"event_at": T0 + i * DAY, "known_at": T0 + i * DAY, field: value} for i, value in rows]
    tables.append(kind, market="us.macro", rows=pa.Table.from_pylist(given, schema=table_schema(kind)))


def scores(lake: Path) -> dict[int, datetime]:
    """Return by day when each stored score was known."""
    rows = ParquetTables(lake).read(
        "series_state", market="us.macro", symbols=["VIX"], start=T0 - DAY, end=NOW + 90 * DAY
    )
    return {(row["event_at"] - T0) // DAY: row["known_at"] for row in rows.to_pylist()}


async def test_new_rows_of_a_command_are_derived_known_now_and_the_tables_given_back(tmp_path: Path) -> None:
    common, clock, health, mark = CommonSettings(home=tmp_path), FixedClock(NOW), Health(), ReadMark()
    values = np.random.default_rng(3).normal(20, 2, 63).tolist()
    command = ParquetTables(common.lake)
    put(command, "macro", *enumerate(values[:60]))
    LakeRecord(common.lake).set_live(T0 + 59 * DAY)
    deriver = small_deriver_of(common, clock=clock, health=health, mark=mark)

    await deriver.derive()
    first = scores(common.lake)
    put(command, "macro", (60, values[60]))
    mark.read_of(micros_of(NOW - DAY), micros_of(NOW))  # the bar that ends now has gone out
    await deriver.derive()
    second = scores(common.lake)
    put(command, "series_state", (5, 1.0))  # a command derives at the same time
    put(command, "macro", (61, values[61]))
    await deriver.derive()
    told = health.report()[NOTE]
    command.close()
    clock.at = NOW + DAY
    await deriver.derive()

    assert first == {59: T0 + 59 * DAY}  # of before the lake lived
    assert second == first | {60: NOW + timedelta(microseconds=1)}
    assert told.startswith("fresh; ") and "another process" in told
    assert scores(common.lake) == second | {5: T0 + 5 * DAY, 61: NOW + DAY} and health.report()[NOTE] == "fresh"


async def test_series_that_nobody_collects_any_more_is_told_as_stale_and_one_never_collected_is_not(
    tmp_path: Path,
) -> None:
    common, clock, health = CommonSettings(home=tmp_path), FixedClock(NOW), Health()
    tables = ParquetTables(common.lake)
    put(tables, "macro", *enumerate(np.random.default_rng(3).normal(20, 2, 60).tolist()))
    tables.close()
    deriver = small_deriver_of(common, clock=clock, health=health, mark=ReadMark())
    await deriver.derive()
    fresh = dict(health.report())
    clock.at = NOW + 6 * DAY
    await deriver.derive()

    assert {name: said for name, said in fresh.items() if name.startswith("feed ")} == {NOTE: "fresh"}
    assert health.report()[NOTE] == "stale: VIX"
