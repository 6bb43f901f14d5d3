"""Bad input to the line itself: bars that cannot be, from files or an exchange, are kept apart and the line goes on."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.svc_ingest.binance_server import Venue, serve_binance
from tests.svc_ingest.ingest_kit import T0, at, make_run, recording_bus, run_to_the_end, shown, write_symbol
from tests.svc_ingest.test_exchange import source_at
from tests.svc_ingest.test_live import live_run

from qraft_bus.memory import MemoryBroker
from qraft_contracts.outcomes import Malformed
from qraft_runtime.clock import FixedClock
from qraft_store.bars.memory import MemoryBarStore
from svc_ingest.adapters.collected import LakeRecord, refused_counts
from svc_ingest.adapters.files import FileSource
from svc_ingest.domain.faults import FaultKind

N = 60


def spoiled(name: str, i: int, value: float) -> dict:
    """Return the columns of N bars around 100 with one value of one of them replaced."""
    close = np.full(N, 100.0)
    columns = {"open": close.copy(), "high": close + 1, "low": close - 1, "close": close.copy(), "volume": close * 10}
    columns[name][i] = value
    return {key: pa.array(column) for key, column in columns.items()}


async def played(tmp_path: Path, now=None, **columns):
    """Publish a file of N bars; return what went out, the report, and the refused rows as they are kept."""
    write_symbol(tmp_path / "data", "BTCUSDT", range(N), **columns)
    source = FileSource(tmp_path / "data", interval="5m")
    async with recording_bus(MemoryBroker()) as (bus, received):
        run = make_run(source, MemoryBarStore(), bus, tmp_path, now and FixedClock(now), max_bars_ahead=10_000)
        await run_to_the_end(run)
        while await bus.slowest_lag("BARS"):
            pass
    return received, run.publisher.line.check.report, kept_rows(tmp_path)


def kept_rows(home: Path) -> list[dict]:
    """Return what the line refused, as it is kept."""
    path = home / "lake" / "refused" / "line.crypto.5m"
    return pq.read_table(path).to_pylist() if path.exists() else []


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [
        ("close", 0.0, FaultKind.IMPOSSIBLE),
        ("low", -5.0, FaultKind.IMPOSSIBLE),
        ("volume", float("inf"), FaultKind.IMPOSSIBLE),
        ("volume", -1.0, FaultKind.IMPOSSIBLE),
        ("high", 1.0, FaultKind.IMPOSSIBLE),
        ("open", float("nan"), FaultKind.IMPOSSIBLE),
    ],
)
async def test_impossible_bar_is_kept_apart_and_the_line_goes_on(tmp_path: Path, column, value, kind) -> None:
    received, report, refused = await played(tmp_path, **spoiled(column, 30, value))

    assert [index for index, _, _ in shown(received)] == [i for i in range(N) if i != 30]
    assert report.count(kind) == 1
    (row,) = refused
    kept = json.loads(row["received"])
    assert (row["reason"], row["market"], kept["symbol"]) == ("impossible", "crypto.5m", "BTCUSDT")
    assert float(kept[column]) == value or np.isnan(value)
    assert [it.n for it in refused_counts(tmp_path / "lake")] == [1]


async def test_cents_after_dollars_are_kept_apart_and_a_crash_is_not(tmp_path: Path) -> None:
    close = np.full(N, 100.0)
    close[40:45] = 10_000.0
    close[50:] = 30.0

    received, report, refused = await played(
        tmp_path, **{name: _array(close * k) for name, k in (("open", 1), ("high", 1.01), ("low", 0.99), ("close", 1))}
    )

    assert [index for index, _, _ in shown(received)] == [*range(40), *range(45, N)]
    assert report.count(FaultKind.UNIT) == 5 == len(refused) and {row["reason"] for row in refused} == {"unit"}


async def test_bars_ahead_of_the_clock_do_not_go_out(tmp_path: Path) -> None:
    received, report, refused = await played(tmp_path, now=at(49) + timedelta(seconds=1))

    assert [index for index, _, _ in shown(received)] == list(range(50))
    assert report.count(FaultKind.AHEAD) == 10 == len(refused)


async def test_living_exchange_in_another_unit_costs_its_bars_only(tmp_path: Path) -> None:
    closes = {"BTCUSDT": [100.0 + i for i in range(40)], "ETHUSDT": [10.0 + i for i in range(40)]}
    closes["BTCUSDT"][21] *= 100
    closes["ETHUSDT"][22] = 0.5  # the low, a dollar below, is negative
    with serve_binance(Venue(int(T0.timestamp() * 1000), closes)) as venue:
        _, received = await live_run(venue, MemoryBarStore(), MemoryBroker(), tmp_path, start=20, until=24)

    assert [(index, sorted(values)) for index, _, values in shown(received)] == [
        (20, ["BTCUSDT", "ETHUSDT"]), (21, ["ETHUSDT"]), (22, ["BTCUSDT"]), (23, ["BTCUSDT", "ETHUSDT"]),
        (24, ["BTCUSDT", "ETHUSDT"]),
    ]  # fmt: skip
    counts = {(it.reason, it.market): it.n for it in refused_counts(tmp_path / "lake")}
    assert counts == {("unit", "crypto.5m"): 1, ("impossible", "crypto.5m"): 1}  # read again and again, kept once


@pytest.mark.parametrize("answer", [["rows"], [[]], [{"open": "1"}], {"klines": []}])
async def test_klines_of_another_form_are_named(answer: object) -> None:
    closes = {"BTCUSDT": [100.0] * 40, "ETHUSDT": [10.0] * 40}
    with serve_binance(Venue(int(T0.timestamp() * 1000), closes)) as venue:
        async with source_at(venue, at(9)) as source:
            venue.answers = [(200, {}, answer)] * 2
            with pytest.raises(Malformed, match="schema_drift"):
                async for _chunk in source.chunks(after=at(6), until=at(8)):
                    pass


def _array(values: np.ndarray):
    return pa.array(values)


async def test_damaged_file_of_refused_rows_costs_what_was_refused_and_no_bar(tmp_path: Path) -> None:
    part = tmp_path / "lake" / "refused" / "line.crypto.5m" / "00000000.parquet"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"no Parquet")

    write_symbol(tmp_path / "data", "BTCUSDT", range(N), **spoiled("close", 30, 0.0))
    async with recording_bus(MemoryBroker()) as (bus, received):
        run = make_run(FileSource(tmp_path / "data", interval="5m"), MemoryBarStore(), bus, tmp_path)
        await run_to_the_end(run)
        while await bus.slowest_lag("BARS"):
            pass

    assert [index for index, _, _ in shown(received)] == [i for i in range(N) if i != 30]
    with pytest.raises(Malformed, match=r"00000000.parquet.*move the file away"):
        refused_counts(tmp_path / "lake")


async def test_rows_are_refused_off_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []
    add = LakeRecord.add_refused

    def told(self: LakeRecord, *given) -> None:
        threads.append(threading.current_thread() is threading.main_thread())
        add(self, *given)

    monkeypatch.setattr(LakeRecord, "add_refused", told)
    await played(tmp_path, **spoiled("close", 30, 0.0))

    assert threads == [False]
