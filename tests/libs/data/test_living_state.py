"""Kept rows beside the store's: the same bits at each bar, and nothing read twice."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.libs.data.data_kit import at, put_rows, us

from qraft_contracts.kinds import KINDS
from qraft_data import living_state
from qraft_data.library import DataLibrary
from qraft_data.living_state import LivingState
from qraft_data.state import StatePanel, read_state
from qraft_store.bars.memory import MemoryBarStore
from qraft_store.tables import writer
from qraft_store.tables.lake import ParquetTables
from qraft_store.tables.memory import MemoryTables
from qraft_store.tables.port import Pieces, TableStore

PERP = "binance.perp"
POOL = tuple(f"S{i}USDT" for i in range(6))
# Stale after 10 hours, 3 hours, 10 minutes, 5 minutes less a second, and 5 days; one for all symbols.
TABLES = (("funding", PERP), ("open_interest", PERP), ("book_state", PERP), ("liquidation_flow", PERP),
          ("macro", "us.macro"))  # fmt: skip


class CountingTables(ParquetTables):
    """The lake, and what was read of it. pieces: (kind, rows) of each piece."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read_kinds: list[str] = []
        self.read_pieces: list[tuple[str, int]] = []

    def read(self, kind: str, **options: Any) -> pa.Table:
        self.read_kinds.append(kind)
        return super().read(kind, **options)

    def pieces(self, kind: str, *, known: Collection[str], **options: Any) -> Pieces:
        found = super().pieces(kind, known=known, **options)
        self.read_pieces += [(kind, rows.num_rows) for rows in found.rows.values()]
        return found


@pytest.fixture(params=["memory", "lake"])
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TableStore]:
    if request.param == "memory":
        yield MemoryTables()
        return
    lake = ParquetTables(tmp_path)
    yield lake
    lake.close()


def put(tables: TableStore, kind: str, *rows: dict[str, Any], market: str = PERP) -> None:
    """Store rows with a value of each required field."""
    fields = {field.name: 0.01 for field in KINDS[kind].fields}
    given = [{**fields, **row} for row in rows]
    put_rows(DataLibrary(MemoryBarStore(), tables), kind, given, market=market)


def put_funding(tables: TableStore, *rows: tuple[str, float, float], **more: Any) -> None:
    put(tables, "funding", *({"symbol": name, "event_at": at(step), "funding_rate": rate, **more}
                             for name, step, rate in rows))  # fmt: skip


def plain(tables: TableStore, symbols: Sequence[str], bar: datetime, as_of: datetime | None = None) -> StatePanel:
    return read_state(
        tables, market=PERP, symbols=symbols, at_us=np.array([us(bar)]), as_of=as_of or bar, skips_faults=True
    )


def kept(living: LivingState, symbols: Sequence[str], bar: datetime, as_of: datetime | None = None) -> StatePanel:
    return living.read(symbols=symbols, at_us=np.array([us(bar)]), as_of=as_of or bar, skips_faults=True)


def bits(panel: StatePanel) -> Any:
    """Return everything that a panel says, values as bytes."""
    return [(name, values.shape, values.tobytes()) for name, values in panel.values.items()], replace(panel, values={})


def random_rows(random: np.random.Generator, bar: datetime, stored: dict[Any, Any]) -> list[tuple[str, str, list[Any]]]:
    """Return rows as they come at about a bar: on time, late, ahead, revised; of the pool's symbols as they begin."""
    calls = []
    for kind, market in TABLES:
        rows = []
        for _ in range(int(random.integers(0, 5))):
            symbol = "VIX" if kind == "macro" else str(random.choice(POOL))
            event = bar + timedelta(minutes=float(random.choice([0, 0, -5, -60, -700, 5, 90])))
            key = (kind, symbol, event)
            known = max(event, bar - timedelta(minutes=4)) + timedelta(minutes=float(random.choice([0, 0, 1, 6, 30])))
            # A revision is known after what it replaces, whatever that was.
            first_known, number = stored.get(key, (known, -1))
            known = max(known, first_known)
            stored[key] = (known, number + 1)
            value = float(random.uniform(0.01, 0.4))
            fields = {field.name: value for field in KINDS[kind].fields}
            rows.append({"symbol": symbol, "event_at": event, "known_at": known, "revision": number + 1, **fields})
        if rows:
            calls.append((kind, market, rows))
    return calls


def test_any_history_of_rows_reads_the_same_bits_as_the_store(
    tables: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_SMALL_ROWS", 0)  # several files a partition, as large ones have
    random, stored, living = np.random.default_rng(1), dict[Any, Any](), LivingState(tables, PERP)
    bar, n_seen, most = at(0), 0, 0
    monkeypatch.setattr(living_state, "ROWS_MAX", 120)  # sometimes too many
    n_steps = 30 if isinstance(tables, MemoryTables) else 14  # each step of the lake writes files
    for step in range(n_steps):
        bar += timedelta(minutes=float(random.choice([5, 5, 5, 5, 45, 300])))
        for kind, market, rows in random_rows(random, bar, stored):
            put(tables, kind, *rows, market=market)
        if step % 3 == 0:
            living.refresh()
        symbols = POOL[: 2 + 4 * step // n_steps] if step % 7 else POOL[1:4]
        earlier = bar - timedelta(minutes=float(random.choice([5, 50, 200])))
        for when, as_of in ((bar, bar), (bar, bar - timedelta(minutes=2)), (earlier, earlier), (bar, bar)):
            found, expected = kept(living, symbols, when, as_of), plain(tables, symbols, when, as_of)
            assert bits(found) == bits(expected), (step, when)
            n_seen += len(found.values)
        most = max(most, living.n_rows)
    assert n_seen > 5 * n_steps and 20 < most <= 120


def test_bar_without_new_rows_opens_no_table(tmp_path: Path) -> None:
    tables = CountingTables(tmp_path)
    put_funding(tables, *((name, step, 0.01) for name in POOL for step in (-2.0, -1.0)))
    put(tables, "basis", *({"symbol": name, "event_at": at(0)} for name in POOL))
    living = LivingState(tables, PERP)
    kept(living, POOL, at(1))
    tables.read_pieces.clear()

    for step in (1, 2, 3, 30):
        assert set(kept(living, POOL, at(step)).values) == {"funding_rate", "basis_frac"}
    assert (tables.read_kinds, tables.read_pieces) == ([], [])


def test_new_rows_are_read_once_and_nothing_else_is(tmp_path: Path) -> None:
    tables = CountingTables(tmp_path)
    # Two days of a table that lies by day: the older file is not touched again.
    put(tables, "trade_flow", *({"symbol": name, "event_at": at(step)} for name in POOL for step in (286, 287)))
    put_funding(tables, *((name, 288.0, 0.01) for name in POOL))
    living = LivingState(tables, PERP)
    kept(living, POOL, at(288))
    tables.read_pieces.clear()

    put(tables, "trade_flow", *({"symbol": name, "event_at": at(289)} for name in POOL))
    assert "trade_notional" in kept(living, POOL, at(289)).values
    assert tables.read_pieces == [("trade_flow", len(POOL))]


def test_refresh_reads_what_is_new_before_the_bar_asks(tmp_path: Path) -> None:
    tables = CountingTables(tmp_path)
    living = LivingState(tables, PERP)
    put_funding(tables, ("S0USDT", 0, 0.01))
    kept(living, POOL, at(1))
    put_funding(tables, ("S0USDT", 2, 0.02))

    living.refresh()
    tables.read_pieces.clear()
    found = kept(living, POOL, at(2))

    assert found.values["funding_rate"][0, 0] == 0.02 and tables.read_pieces == []


def test_revision_of_the_same_instant_counts_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_SMALL_ROWS", 0)
    tables = ParquetTables(tmp_path)
    put_funding(tables, *((name, 3, 0.01) for name in POOL))
    # In a file of its own, which begins before the one of the row that it replaces.
    put_funding(tables, ("S0USDT", 1, 0.02), ("S0USDT", 3, 0.03), revision=1, known_at=at(3))
    assert len(list((tmp_path / "tables/funding").rglob("*.parquet"))) == 2

    assert kept(LivingState(tables, PERP), POOL, at(4)).values["funding_rate"][0, 0] == 0.03


def test_row_that_lies_further_ahead_than_is_kept_is_found_when_its_time_has_come(tables: TableStore) -> None:
    living = LivingState(tables, PERP)
    put_funding(tables, ("S0USDT", 0, 0.01))
    kept(living, POOL, at(0))
    # A later month, so a file and a partition of its own; two hours after the bar for which the table was read.
    put_funding(tables, ("S0USDT", 24, 0.02), ("S0USDT", 30 * 288, 0.03))
    living.refresh()

    for step in (1, 20, 24, 30, 30 * 288):
        assert bits(kept(living, POOL, at(step))) == bits(plain(tables, POOL, at(step))), step


def test_rows_that_nobody_can_need_any_more_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_SMALL_ROWS", 0)  # the file of the old rows stays
    tables = ParquetTables(tmp_path)
    put(tables, "open_interest", *({"symbol": "S0USDT", "event_at": at(step)} for step in range(11)))
    living = LivingState(tables, PERP)

    # Open interest stands three hours, and bars of the last hour are answered from memory.
    n_rows = []
    for step in (10, 34, 56, 70):
        put(tables, "open_interest", {"symbol": "S1USDT", "event_at": at(step)})
        kept(living, POOL, at(step))
        n_rows.append(living.n_rows)
    assert n_rows == [12, 13, 3 + 3, 1 + 3]  # a file goes on whole until half of it is too old


def test_window_of_too_many_rows_is_read_from_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(living_state, "ROWS_MAX", 5)
    tables = CountingTables(tmp_path)
    put_funding(tables, *((name, 0.0, 0.01) for name in POOL))
    living = LivingState(tables, PERP)

    for step in (1, 2):
        assert bits(kept(living, POOL, at(step))) == bits(plain(tables, POOL, at(step)))
    assert living.n_rows == 0 and len([kind for kind, _ in tables.read_pieces if kind == "funding"]) == 1


def test_damaged_table_is_named_until_it_is_whole_again(tmp_path: Path) -> None:
    tables = ParquetTables(tmp_path)
    put_funding(tables, ("S0USDT", 0, 0.01))
    put(tables, "basis", {"symbol": "S0USDT", "event_at": at(0)})
    living = LivingState(tables, PERP)
    kept(living, POOL, at(1))
    put_funding(tables, ("S0USDT", 2, 0.02))
    (file,) = (tmp_path / "tables/funding").rglob("*.parquet")
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])

    living.refresh()
    found = kept(living, POOL, at(2))
    assert bits(found) == bits(plain(tables, POOL, at(2)))
    assert list(found.values) == ["basis_frac"] and list(found.faults) == ["tables/funding/binance.perp"]
    file.write_bytes(whole)
    assert kept(living, POOL, at(2)).values["funding_rate"][0, 0] == 0.02


def test_simulated_row_is_told_while_it_counts_and_no_longer(tables: TableStore) -> None:
    put_funding(tables, ("S0USDT", 0, 0.01))
    put(tables, "book_state", {"symbol": "S0USDT", "event_at": at(1), "origin": "simulated"})
    living = LivingState(tables, PERP)

    for step, is_told in ((0, False), (1, True), (3, True), (4, False)):
        found = kept(living, POOL, at(step))
        assert bits(found) == bits(plain(tables, POOL, at(step))) and bool(found.faults) is is_told


def test_lake_written_by_another_process_is_seen_at_the_next_bar(tmp_path: Path) -> None:
    writer, reader = ParquetTables(tmp_path), ParquetTables(tmp_path)
    living = LivingState(reader, PERP)
    assert kept(living, POOL, at(1)).values == {}

    put_funding(writer, ("S0USDT", 1, 0.01))
    assert kept(living, POOL, at(1)).values["funding_rate"][0, 0] == 0.01
    put_funding(writer, ("S0USDT", 1, 0.02), known_at=at(2), revision=1)
    writer.close()  # merges what lay in parts
    assert kept(living, POOL, at(2)).values["funding_rate"][0, 0] == 0.02
    assert kept(living, POOL, at(1.5)).values["funding_rate"][0, 0] == 0.01


def test_refresh_beside_reads_and_appends_changes_no_answer(tmp_path: Path) -> None:
    tables, is_over = ParquetTables(tmp_path), threading.Event()
    living = LivingState(tables, PERP)

    def refresh_on() -> None:
        while not is_over.is_set():
            living.refresh()

    with ThreadPoolExecutor(1) as pool:
        refreshing = pool.submit(refresh_on)
        try:
            for step in range(15):
                put(tables, "open_interest", {"symbol": f"S{step % 3}USDT", "event_at": at(step)})
                assert bits(kept(living, POOL, at(step))) == bits(plain(tables, POOL, at(step)))
        finally:
            is_over.set()
        refreshing.result()
