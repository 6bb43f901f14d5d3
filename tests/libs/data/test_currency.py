"""Prices in another currency."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.libs.data.data_kit import T0, at, memory_library, put_bars, put_rows

from qraft_data.query import Conversion
from qraft_data.times import instant_of

_EURUSD = Conversion(source="USD", to="EUR", market="fx", symbol="EURUSD")


def test_price_is_divided_by_the_newest_rate_known_and_volume_is_not() -> None:
    library = memory_library()
    put_bars(library, {"AAPL": [100.0, 100.0, 100.0]}, market="us.equities")
    put_bars(library, {"EURUSD": [1.25, np.nan, 1.10]}, market="fx")

    panel = library.get_data("us.equities", ["AAPL"], T0, at(3), ["bars.close", "bars.volume"], currency=_EURUSD)

    np.testing.assert_allclose(panel.values["bars.close"][:, 0], [80.0, 80.0, 100.0 / 1.10])
    assert panel.values["bars.volume"][:, 0].tolist() == [1.0, 1.0, 1.0]
    assert "bars/5m/fx" in panel.sources


def test_pair_that_is_quoted_the_other_way_is_multiplied() -> None:
    library = memory_library()
    put_bars(library, {"AAPL": [100.0]}, market="us.equities")
    put_bars(library, {"USDJPY": [150.0]}, market="fx")
    yen = Conversion(source="USD", to="JPY", market="fx", symbol="USDJPY")

    panel = library.get_data("us.equities", ["AAPL"], T0, at(1), ["bars.close"], currency=yen)

    assert panel.values["bars.close"].tolist() == [[15_000.0]]


def test_rate_that_is_not_known_yet_or_too_old_leaves_the_price_missing() -> None:
    library = memory_library()
    put_bars(library, {"AAPL": [100.0] * 4}, market="us.equities")
    put_bars(library, {"EURUSD": [1.25]}, market="fx", closed_at=[at(2)])
    short = Conversion(source="USD", to="EUR", market="fx", symbol="EURUSD", max_age_s=300)

    panel = library.get_data("us.equities", ["AAPL"], T0, at(4), ["bars.close"], currency=short)

    np.testing.assert_array_equal(panel.values["bars.close"][:, 0], [np.nan, 80.0, 80.0, np.nan])


def test_single_series_is_not_converted_because_its_currency_is_not_that_of_the_symbols() -> None:
    library = memory_library()
    put_bars(library, {"AAPL": [100.0]}, market="us.equities")
    put_bars(library, {"N225": [40_000.0]}, market="jp.indices")
    put_bars(library, {"EURUSD": [1.25]}, market="fx")
    put_rows(library, "macro", [{"symbol": "VIX", "event_at": at(1), "value": 20.0}], market="us.macro")
    fields = ["bars.close", "macro.value@us.macro:VIX", "bars.close@jp.indices:N225"]

    panel = library.get_data("us.equities", ["AAPL"], T0, at(1), fields, currency=_EURUSD)

    assert [panel.values[name].item() for name in fields] == [80.0, 20.0, 40_000.0]


def test_pair_of_other_currencies_is_refused() -> None:
    wrong = Conversion(source="USD", to="EUR", market="fx", symbol="GBPUSD")

    with pytest.raises(ValueError, match="USDEUR or EURUSD"):
        memory_library().get_data("us.equities", ["AAPL"], T0, at(1), ["bars.close"], currency=wrong)


@pytest.mark.data
def test_weekend_is_bridged_by_fridays_rate_of_bid_and_ask(qraft_data: Path) -> None:
    table = pq.read_table(qraft_data / "bars" / "fx_eurusd_1h_2007_2018.parquet")
    opened = table["open_time"].to_numpy().astype("datetime64[us]").astype(np.int64)
    friday, monday = datetime(2018, 6, 1, tzinfo=UTC), datetime(2018, 6, 5, tzinfo=UTC)
    rows = []
    for i in np.flatnonzero((opened >= _us(friday)) & (opened < _us(monday))):
        row = {name: table[name][int(i)].as_py() for name in table.column_names if name != "open_time"}
        rows.append({"symbol": "EURUSD", "event_at": instant_of(int(opened[i])) + timedelta(hours=1), **row})
    library = memory_library()
    put_rows(library, "quote_bars", rows, market="fx")
    sunday = datetime(2018, 6, 3, 12, tzinfo=UTC)
    put_bars(library, {"BTCUSD": [7_700.0]}, interval="1h", closed_at=[sunday])
    pair = Conversion(
        source="USD", to="EUR", market="fx", symbol="EURUSD", fields=("quote_bars.bid_close", "quote_bars.ask_close")
    )

    panel = library.get_data(
        "binance.perp", ["BTCUSD"], sunday - timedelta(hours=1), sunday, ["bars.close"], interval="1h", currency=pair
    )

    last_friday = max((row for row in rows if row["event_at"] <= sunday), key=lambda row: row["event_at"])
    assert last_friday["event_at"] == datetime(2018, 6, 1, 21, tzinfo=UTC)
    mid = (last_friday["bid_close"] + last_friday["ask_close"]) / 2
    np.testing.assert_allclose(panel.values["bars.close"], [[7_700.0 / mid]])


def _us(instant: datetime) -> int:
    return int(instant.timestamp()) * 1_000_000
