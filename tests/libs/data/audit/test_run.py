"""An audit over both kinds of stores: what is whole is ready, what is not is named with the command that mends it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from tests.libs.data.data_kit import STEP, T0, put_bars, put_rows

from qraft_contracts.origin import Origin
from qraft_data.audit.expectation import FULL_SINCE, Thresholds, Window, owed_times, window_of
from qraft_data.audit.findings import Audit, SeriesAudit, Verdict
from qraft_data.audit.page import audit_page
from qraft_data.audit.run import Auditor
from qraft_data.library import DataLibrary
from qraft_frames.bars import BarBatch
from qraft_store.tables.memory import MemoryTables

N_DAYS = 4
END = T0 + timedelta(days=N_DAYS)
N_BARS = N_DAYS * 288
WINDOW = Window(T0, END)
MARKET = "binance.perp"


def put_everything(library: DataLibrary, *, skip: frozenset[int] = frozenset(), percent_from: int = 10**9) -> None:
    """Store what a perpetual market needs. skip: bars left out. percent_from: where funding turns into percent."""
    prices = 100.0 + np.sin(np.arange(N_BARS))
    prices[list(skip)] = np.nan
    put_bars(library, {"BTCUSDT": prices.tolist()})
    hours = [T0 + timedelta(hours=i + 1) for i in range(N_DAYS * 24)]
    put_rows(library, "open_interest", [{"symbol": "BTCUSDT", "event_at": t, "open_interest_usd": 1e9} for t in hours])
    basis = {"spot_price": 100.0, "future_price": 100.1, "basis_frac": 0.001}
    put_rows(library, "basis", [{"symbol": "BTCUSDT", "event_at": t, **basis} for t in hours])
    put_rows(
        library, "funding",
        [
            {"symbol": "BTCUSDT", "event_at": t + timedelta(milliseconds=4),
             "funding_rate": 1e-4 * (100.0 if i >= percent_from else 1.0), "period_hours": 1.0}
            for i, t in enumerate(hours)
        ],
    )  # fmt: skip


def audited(library: DataLibrary) -> Audit:
    auditor = Auditor(library.bars, library.tables, Thresholds(), lambda _done, _total: None)
    return auditor.audit(mode="production", market=MARKET, interval="5m", window=WINDOW)


def of(found: Audit, kind: str) -> SeriesAudit:
    (only,) = (it for it in found.series if it.kind == kind)
    return only


def test_whole_series_make_the_lake_ready_and_late_stamps_of_some_milliseconds_do_not_matter(
    library: DataLibrary,
) -> None:
    put_everything(library)

    found = audited(library)

    assert found.ready
    assert (found.n_ready, found.n_required) == (4, 4)
    assert of(found, "funding").completeness == 1.0
    assert of(found, "bars").coverage == (1.0,) * 60


def test_a_gap_is_named_with_its_ends_and_the_command_that_mends_it(library: DataLibrary) -> None:
    put_everything(library, skip=frozenset(range(100, 130)))

    bars = of(audited(library), "bars")

    assert bars.verdict is Verdict.NOT_READY
    assert (bars.n_missing, bars.n_gaps) == (30, 1)
    assert bars.gaps[0].after == "2025-06-01T08:20:00Z"
    assert bars.gaps[0].until == "2025-06-01T10:50:00Z"
    assert bars.mend == (
        "qraft data collect --source exchange --exchange binance --kind bars --symbol BTCUSDT --interval 5m "
        "--from 2025-06-01T08:20:00Z --until 2025-06-01T10:50:00Z"
    )


def test_another_unit_in_mid_series_is_found(library: DataLibrary) -> None:
    put_everything(library, percent_from=48)

    funding = of(audited(library), "funding")

    assert funding.verdict is Verdict.NOT_READY
    assert any("another unit" in reason for reason in funding.reasons)


def test_a_required_kind_without_a_row_is_named(library: DataLibrary) -> None:
    put_bars(library, {"BTCUSDT": (100.0 + np.sin(np.arange(N_BARS))).tolist()})

    found = audited(library)

    assert not found.ready
    lacking = [it.kind for it in found.required if it.verdict is Verdict.NOT_READY]
    assert lacking == ["basis", "funding", "open_interest"]


def test_an_empty_lake_is_not_ready(library: DataLibrary) -> None:
    found = audited(library)

    assert not found.ready
    assert found.n_required == 4


def test_events_without_a_schedule_are_not_judged(library: DataLibrary) -> None:
    put_everything(library)
    put_rows(
        library, "trades",
        [{"symbol": "BTCUSDT", "event_at": T0 + STEP, "row_id": "1", "price": 1.0, "qty": 1.0, "is_taker_buy": True}],
    )  # fmt: skip

    found = audited(library)

    assert of(found, "trades").verdict is Verdict.UNJUDGED
    assert found.ready


def test_two_audits_of_the_same_lake_have_the_same_bytes(library: DataLibrary) -> None:
    put_everything(library, skip=frozenset({7}))

    first, second = audited(library), audited(library)

    assert msgspec.json.encode(first) == msgspec.json.encode(second)
    assert audit_page(first) == audit_page(second)


@pytest.mark.parametrize("hours", [0.01, 1e-9, 1e9, math.nan])
def test_period_that_no_venue_has_is_named_and_owes_no_rows_of_its_own(library: DataLibrary, hours: float) -> None:
    put_everything(library)

    class Forged(MemoryTables):
        """Rows as a forged file would hold them: past the bounds of the dictionary."""

        def read(self, kind: str, **options: Any) -> pa.Table:
            rows = library.tables.read(kind, **options)
            if kind != "funding":
                return rows
            place = rows.schema.get_field_index("period_hours")
            return rows.set_column(place, "period_hours", pa.array([hours] * rows.num_rows))

        def markets(self, kind: str) -> tuple[str, ...]:
            return library.tables.markets(kind)

        def symbols(self, kind: str, *, market: str) -> tuple[str, ...]:
            return library.tables.symbols(kind, market=market)

    window = Window(FULL_SINCE, END)
    auditor = Auditor(library.bars, Forged(), Thresholds(), lambda _done, _total: None)
    found = auditor.audit(mode="full", market=MARKET, interval="5m", window=window)

    funding = of(found, "funding")
    assert funding.is_required and funding.verdict is Verdict.NOT_READY and not found.ready
    assert funding.reasons[0].startswith(f"period_hours is {hours:g}, ")
    assert funding.n_expected == (END - FULL_SINCE) // timedelta(hours=8)


def test_page_names_every_gap_and_asks_nothing_of_the_network(library: DataLibrary) -> None:
    put_everything(library, skip=frozenset(range(100, 130)))

    page = audit_page(audited(library))

    assert "qraft data collect --source exchange --exchange binance --kind bars --interval 5m --symbol" in page
    assert "未就绪" in page
    assert not re.search(r"https?://|<script", page)


def test_closed_hours_of_new_york_are_not_owed() -> None:
    # 2025-07-03 closes early, 2025-07-04 is a holiday.
    week = Window(T0 + timedelta(days=29), T0 + timedelta(days=36))

    owed = owed_times("bars", market="us.equities", interval="1d", symbol="AAPL", window=week)

    assert owed is not None
    assert owed.size == 4


def test_every_symbol_with_bars_needs_every_required_kind(library: DataLibrary) -> None:
    put_everything(library)
    prices = (100.0 + np.sin(np.arange(N_BARS))).tolist()
    put_bars(library, {"ETHUSDT": prices}, market="binance.spot")
    spot = Auditor(library.bars, library.tables, Thresholds(), lambda _done, _total: None, "binance.spot", MARKET)

    found = spot.audit(mode="production", market="binance.spot", interval="5m", window=WINDOW)

    lacking = {(it.kind, it.symbol): it.mend for it in found.required if it.verdict is Verdict.NOT_READY}
    assert set(lacking) == {("funding", "ETHUSDT"), ("open_interest", "ETHUSDT"), ("basis", "ETHUSDT")}
    assert lacking["funding", "ETHUSDT"] == (
        "qraft data collect --source exchange --exchange binance --kind funding --symbol ETHUSDT "
        "--from 2025-06-01T00:00:00Z --until 2025-06-05T00:00:00Z"
    )


def test_line_is_judged_by_its_bars_and_the_state_of_its_state_market(library: DataLibrary) -> None:
    put_everything(library)
    prices = 100.0 + np.sin(np.arange(N_BARS))
    prices[100:130] = np.nan
    put_bars(library, {"BTCUSDT": prices.tolist()}, market="crypto")
    auditor = Auditor(library.bars, library.tables, Thresholds(), lambda _done, _total: None, "crypto", MARKET)

    found = auditor.audit(mode="production", market="crypto", interval="5m", window=WINDOW)

    assert {(it.kind, it.market) for it in found.required} == {
        ("bars", "crypto"), ("funding", MARKET), ("open_interest", MARKET), ("basis", MARKET),
    }  # fmt: skip
    (bars,) = (it for it in found.required if it.kind == "bars")
    assert bars.mend == "qraft data load --from 2025-06-01T08:20:00Z --until 2025-06-01T10:50:00Z"


def test_each_stored_bar_is_read_once(library: DataLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    put_everything(library)
    read: list[int] = []
    rows = library.bars.rows

    def counted(**arguments: Any) -> Iterator[pa.Table]:
        for table in rows(**arguments):
            read.append(table.num_rows)
            yield table

    monkeypatch.setattr(library.bars, "rows", counted)
    monkeypatch.setattr(library.bars, "read", None)  # an audit has no use for panels

    found = audited(library)

    assert sum(read) == N_BARS == of(found, "bars").n_rows


def test_corrected_and_late_bars_are_counted_and_the_newest_word_is_judged(library: DataLibrary) -> None:
    put_everything(library, skip=frozenset({7}))
    end = T0 + 8 * STEP
    late = BarBatch(MARKET, "5m", end, END, 1, Origin.REPLAY, ("BTCUSDT",), *([np.array([100.0])] * 4), np.array([1.0]))
    library.bars.append([late])

    bars = of(audited(library), "bars")

    assert (bars.n_revised, bars.n_missing, bars.n_rows) == (1, 0, N_BARS)


def test_monthly_series_owe_a_row_a_month_and_are_stale_after_two_and_a_half(library: DataLibrary) -> None:
    year = Window(T0 - timedelta(days=365), T0 + timedelta(days=70))
    months = [datetime(2024 + i // 12, 1 + i % 12, 1, tzinfo=UTC) for i in range(6, 18)]
    put_rows(library, "macro", [{"symbol": "UNEMPLOYMENT", "event_at": it, "value": 4.0} for it in months],
             market="us.macro")  # fmt: skip
    auditor = Auditor(library.bars, library.tables, Thresholds(), lambda _done, _total: None)

    def verdict_of(window: Window) -> SeriesAudit:
        return of(auditor.audit(mode="production", market=MARKET, interval="5m", window=window), "macro")

    whole = verdict_of(year)
    assert (whole.verdict, whole.n_expected, whole.n_missing) == (Verdict.READY, 12, 0)
    late = verdict_of(Window(year.start, year.end + timedelta(days=10)))
    assert late.verdict is Verdict.NOT_READY and any("older than the end" in it for it in late.reasons)


def test_posts_tell_their_silences_and_are_not_judged_by_them(library: DataLibrary) -> None:
    put_everything(library)
    day = timedelta(days=1)
    put_rows(library, "posts", [
        {"symbol": "BTCUSDT", "event_at": T0 + timedelta(hours=6 * i + 1), "row_id": str(i), "platform": "x",
         "text": "t", "is_comment": False} for i in range(4)], market="reddit")  # fmt: skip

    posts = of(audited(library), "posts")

    assert (posts.verdict, posts.completeness, posts.filled_frac) == (Verdict.UNJUDGED, None, 4 / 16)
    assert posts.reasons == (
        "no row in 12 of 16 stretches of 6 h: nothing tells whether nothing happened or nothing was collected",
    )
    assert posts.coverage[: round(60 * day / (END - T0))].count(0.0) == 0 and posts.coverage[-1] == -1.0


@pytest.mark.parametrize(("mode", "start"), [("production", END - timedelta(days=420)), ("full", FULL_SINCE)])
def test_modes_have_their_windows(mode: str, start: object) -> None:
    assert window_of(mode, end=END).start == start


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="production or full"):
        window_of("half", end=END)
