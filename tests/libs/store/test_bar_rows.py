"""Bars as plain rows, out of one store and into another. One suite for every store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.libs.store.bars_kit import DAY, STEP, STORES, T0, assert_same, bar, bars, opened

from qraft_contracts.origin import Origin
from qraft_store.bars.memory import MemoryBarStore
from qraft_store.bars.port import BarStore
from qraft_store.bars.rows import ROW_SCHEMA, closed_micros

N_BARS = 600  # two days are closed, the third grows
END = T0 + (N_BARS - 1) * STEP
NAME = {"market": "crypto", "interval": "5m"}
# A corrected bar, one that came late, and one from before the first row: all of them only ever as revisions.
LATER = [
    bar(T0 - 3 * DAY, ("OLDUSDT",), base=5.0, revision=1, known_at=END),
    bar(T0 + 3 * STEP, ("BTCUSDT",), base=7.0, revision=1, known_at=END + DAY),
    bar(T0 + 3 * STEP, ("BTCUSDT",), base=8.0, revision=2, known_at=END + 2 * DAY, origin=Origin.REAL),
    bar(END - STEP, ("LATEUSDT",), base=float("nan"), revision=1, known_at=END + 3 * STEP),
]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BarStore]:
    with opened(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def source() -> MemoryBarStore:
    source = MemoryBarStore()
    source.append(bars(N_BARS))
    source.append(LATER)
    return source


def whole(store: BarStore) -> pa.Table:
    return pa.concat_tables([ROW_SCHEMA.empty_table(), *store.rows(**NAME)])


def fill(store: BarStore, source: BarStore) -> int:
    return sum(store.append_rows(rows, **NAME) for rows in source.rows(**NAME))


def test_rows_of_one_store_make_another_that_cannot_be_told_from_it(store: BarStore, source: MemoryBarStore) -> None:
    assert fill(store, source) == 2 * N_BARS + len(LATER)

    assert store.version(**NAME) == source.version(**NAME)
    assert store.range(**NAME) == source.range(**NAME) == (T0, END)
    assert store.symbols(**NAME) == source.symbols(**NAME)
    for as_of in (END, END + DAY):
        for revisions in ("first", "latest"):
            window = {"symbols": None, "start": T0 - 4 * DAY, "end": END, "as_of": as_of}
            assert_same(
                store.read(**NAME, **window, revisions=revisions), source.read(**NAME, **window, revisions=revisions)
            )


def test_stored_rows_come_out_as_they_are_by_day_and_in_order(store: BarStore) -> None:
    store.append(bars(N_BARS))
    store.append(LATER[1:])

    parts = list(store.rows(**NAME))

    assert [part.num_rows for part in parts] == [2 * 287 + 2, 2 * 288, 2 * 25 + 1]
    assert all(part.schema.equals(ROW_SCHEMA) for part in parts)
    found = whole(store)
    names = list(zip(*(found[name].to_pylist() for name in ("closed_at", "symbol", "revision")), strict=True))
    assert names == sorted(set(names))
    (row,) = found.filter(pa.array(np.asarray(found["revision"]) == 2)).to_pylist()
    assert (row["known_at"], row["origin"], row["close"]) == (END + 2 * DAY, "real", 8.0)


def test_range_of_rows_excludes_start_includes_end_and_stops_at_what_was_known(
    store: BarStore, source: MemoryBarStore
) -> None:
    fill(store, source)

    def n(**limits: object) -> int:
        return sum(part.num_rows for part in store.rows(**NAME, **limits))

    assert n(start=T0, end=T0 + 2 * STEP) == 4
    assert n(start=T0 + 2 * STEP, end=T0 + 3 * STEP) == 4
    assert n(start=T0 + 2 * STEP, end=T0 + 3 * STEP, as_of=END + DAY) == 3
    assert n(start=T0 + 2 * STEP, end=T0 + 3 * STEP, as_of=END) == 2
    assert n(end=T0 - DAY) == 1
    assert n(start=END) == n(as_of=T0 - DAY) == 0
    assert list(store.rows(market="fx", interval="5m")) == []


def test_same_rows_again_are_no_new_ones_in_any_cut(store: BarStore, source: MemoryBarStore) -> None:
    fill(store, source)
    rows, version = whole(source), store.version(**NAME)

    assert fill(store, source) == 0
    assert store.append_rows(rows.slice(3, 700), **NAME) == 0
    assert store.version(**NAME) == version


def test_rows_that_stopped_in_the_middle_go_on(store: BarStore, source: MemoryBarStore) -> None:
    rows = whole(source)
    cut = int(np.searchsorted(closed_micros(rows), closed_micros(rows)[900]))
    store.append_rows(rows.slice(0, cut), **NAME)

    assert store.append_rows(rows, **NAME) == rows.num_rows - cut
    assert store.version(**NAME) == source.version(**NAME)
    assert store.append([bar(END + STEP)]) == 2


@pytest.mark.parametrize("name", ["close", "known_at", "origin"])
def test_stored_row_with_another_value_is_refused(store: BarStore, source: MemoryBarStore, name: str) -> None:
    fill(store, source)
    version, rows = store.version(**NAME), next(source.rows(**NAME, start=T0))
    place = rows.schema.get_field_index(name)
    values = rows[name].to_pylist()
    values[4] = "real" if name == "origin" else values[4] + (1.0 if name == "close" else timedelta(seconds=1))
    changed = rows.set_column(place, rows.schema.field(place), pa.array(values, rows.schema.field(place).type))

    with pytest.raises(ValueError, match="expected the stored values again"):
        store.append_rows(changed, **NAME)
    assert store.version(**NAME) == version


def test_new_first_row_before_the_stored_end_is_refused(store: BarStore, source: MemoryBarStore) -> None:
    store.append([bar(END + DAY)])

    with pytest.raises(ValueError, match="expected closed_at from"):
        store.append_rows(next(source.rows(**NAME, start=T0)), **NAME)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("closed_at", T0 + timedelta(seconds=1), "grid"),
        ("known_at", T0 - STEP, "known before"),
        ("revision", -1, "revisions from 0"),
        ("revision", 40_000, "revisions from 0"),
        ("origin", "guessed", "an origin out of"),
        ("symbol", "", "a symbol in every row"),
        ("close", None, "no empty cell"),
    ],
)
def test_row_that_no_store_would_give_is_refused(store: BarStore, name: str, value: object, said: str) -> None:
    row = {"symbol": "A", "closed_at": T0, "known_at": T0 + STEP, "revision": 0, "origin": "real"}
    row |= dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0) | {name: value}

    with pytest.raises(ValueError, match=said):
        store.append_rows(pa.Table.from_pylist([row], ROW_SCHEMA), **NAME)
    with pytest.raises(ValueError, match="the columns"):
        store.append_rows(pa.table({"symbol": ["A"]}), **NAME)
    assert store.range(**NAME) is None
