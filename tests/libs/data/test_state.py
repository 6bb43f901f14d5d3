"""State beside bars: what was known at each bar, and nothing that came later."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.libs.data.data_kit import STEP, at, put_bars, put_rows, us

from qraft_contracts.kinds import KINDS, STATE_INPUTS, StateInput
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed
from qraft_data.library import DataLibrary
from qraft_data.state import StatePanel, read_state, state_of_bars
from qraft_store.bars.port import BarPanel

SYMBOLS = ("BTCUSDT", "ETHUSDT")
PERP = "binance.perp"


def rows_at(*steps: float) -> Any:
    return np.array([us(at(step)) for step in steps], dtype=np.int64)


def state_at(library: DataLibrary, *steps: float, **options: Any) -> StatePanel:
    given = {"market": PERP, "symbols": SYMBOLS, "as_of": at(10_000), **options}
    return read_state(library.tables, at_us=rows_at(*steps), **given)


def put_funding(library: DataLibrary, *rows: tuple[str, float, float], known_after: float = 0, **more: Any) -> None:
    """Store funding of symbols at steps."""
    put_rows(
        library,
        "funding",
        [
            {"symbol": symbol, "event_at": at(step), "known_at": at(step + known_after), "funding_rate": rate,
             "period_hours": 8.0, **more}
            for symbol, step, rate in rows
        ],
    )  # fmt: skip


def panel_of(library: DataLibrary, n_bars: int, *, market: str = "crypto") -> BarPanel:
    panel = library.bars.read(market=market, interval="5m", symbols=SYMBOLS, start=at(0), end=at(n_bars))
    assert panel is not None
    return panel


def test_value_stands_from_the_row_at_which_it_is_known_until_it_is_stale(library: DataLibrary) -> None:
    put_funding(library, ("BTCUSDT", 2, 0.01), ("ETHUSDT", 3, 0.02))
    stale_steps = (KINDS["funding"].stale_after_s or 0) // 300

    found = state_at(library, 1, 2, 3, 2 + stale_steps, 3 + stale_steps, 4 + stale_steps).values["funding_rate"]

    nan = np.nan
    expected = [[nan, nan], [0.01, nan], [0.01, 0.02], [0.01, 0.02], [nan, 0.02], [nan, nan]]
    np.testing.assert_array_equal(found, expected)


def test_row_that_became_known_late_is_not_seen_before(library: DataLibrary) -> None:
    put_funding(library, ("BTCUSDT", 2, 0.01))
    put_funding(library, ("BTCUSDT", 4, 0.04), known_after=3)

    found = state_at(library, 4, 6, 7).values["funding_rate"][:, 0]

    np.testing.assert_array_equal(found, [0.01, 0.01, 0.04])


def test_rows_stored_later_change_no_row_before_they_were_known(library: DataLibrary) -> None:
    put_funding(library, ("BTCUSDT", 1, 0.01), ("BTCUSDT", 3, 0.03))
    before = state_at(library, *range(1, 11)).values["funding_rate"]

    put_funding(library, ("BTCUSDT", 3, 0.49), known_after=6, revision=1)
    put_funding(library, ("BTCUSDT", 2, 0.2), known_after=6)  # an old event does not displace a newer one
    after = state_at(library, *range(1, 11)).values["funding_rate"]

    assert after[:8].tobytes() == before[:8].tobytes()
    assert after[7:, 0].tolist() == [0.03, 0.49, 0.49]


def test_one_row_reads_the_bits_of_a_whole_history(library: DataLibrary) -> None:
    random = np.random.default_rng(7)
    put_funding(
        library, *((name, float(step), float(random.uniform(-0.4, 0.4))) for step in range(50) for name in SYMBOLS)
    )
    whole = state_at(library, *range(1, 60)).values["funding_rate"]

    single = [state_at(library, step, as_of=at(step)).values["funding_rate"] for step in range(1, 60)]

    assert np.concatenate(single).tobytes() == whole.tobytes()


def test_name_without_a_known_value_is_absent(library: DataLibrary) -> None:
    put_funding(library, ("BTCUSDT", 5, 0.01))

    assert state_at(library, 1, 2).values == {}
    assert list(state_at(library, 5).values) == ["funding_rate"]


def test_monthly_and_daily_series_of_one_table_are_each_stale_at_their_own_age(
    library: DataLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STATE_INPUTS, "core_cpi", StateInput("macro", "value", "us.macro", "CORE_CPI"))
    rows = [{"symbol": name, "event_at": at(1), "value": 3.0} for name in ("VIX", "CORE_CPI")]
    put_rows(library, "macro", rows, market="us.macro")
    day = 288

    fresh, later = (state_at(library, 1 + n_days * day, as_of=at(100 * day)).values for n_days in (1, 30))

    assert sorted(fresh) == ["core_cpi", "vix"] and list(later) == ["core_cpi"]


def test_series_of_another_market_stands_in_the_column_of_every_symbol(library: DataLibrary) -> None:
    given = STATE_INPUTS["vix"]
    assert given.market is not None
    put_rows(library, "macro", [{"symbol": "VIX", "event_at": at(1), "value": 18.5}], market=given.market)

    found = state_at(library, 0, 1)

    np.testing.assert_array_equal(found.values["vix"], [[np.nan, np.nan], [18.5, 18.5]])
    assert f"tables/macro/{given.market}" in found.sources


def test_symbols_come_in_the_order_asked_for_and_unknown_ones_are_nan(library: DataLibrary) -> None:
    put_funding(library, ("BTCUSDT", 1, 0.01), ("ETHUSDT", 1, 0.02))

    found = state_at(library, 1, symbols=("NONEUSDT", "ETHUSDT", "BTCUSDT")).values["funding_rate"]

    np.testing.assert_array_equal(found, [[np.nan, 0.02, 0.01]])


def test_only_tables_of_the_wanted_names_are_read(library: DataLibrary) -> None:
    put_funding(library, ("BTCUSDT", 1, 0.01))

    found = state_at(library, 1, names=("funding_rate",))

    assert list(found.sources) == ["tables/funding/binance.perp"]
    assert state_at(library, 1, names=()).sources == {}


def test_versions_name_what_was_read(library: DataLibrary) -> None:
    put_funding(library, ("BTCUSDT", 1, 0.01))

    found = state_at(library, 1, has_versions=True, names=("funding_rate",))

    assert found.sources == {"tables/funding/binance.perp": library.tables.version("funding", market=PERP)}
    assert found.origins == {Origin.REPLAY}


def test_no_state_market_gives_no_state(library: DataLibrary) -> None:
    put_funding(library, ("BTCUSDT", 1, 0.01))

    assert state_at(library, 1, market="") == StatePanel()


def test_symbol_without_a_bar_has_no_state_in_that_row(library: DataLibrary) -> None:
    put_bars(library, {"BTCUSDT": [1.0, np.nan, 1.0], "ETHUSDT": [1.0, 1.0, 1.0]}, market="crypto")
    put_funding(library, ("BTCUSDT", 0, 0.01), ("ETHUSDT", 0, 0.02))

    found = state_of_bars(library.tables, panel_of(library, 3), market=PERP).values["funding_rate"]

    np.testing.assert_array_equal(found, [[0.01, 0.02], [np.nan, 0.02], [0.01, 0.02]])


def test_simulated_bars_get_no_state_of_a_real_market(library: DataLibrary) -> None:
    put_bars(library, {"BTCUSDT": [1.0], "ETHUSDT": [1.0]}, market="crypto", origin=Origin.SIMULATED)
    put_funding(library, ("BTCUSDT", 0, 0.01))

    assert state_of_bars(library.tables, panel_of(library, 1), market=PERP) == StatePanel()


def test_simulated_rows_are_no_state_of_a_market(library: DataLibrary) -> None:
    put_funding(library, ("BTCUSDT", 1, 0.01), origin="simulated")

    with pytest.raises(Malformed, match="found simulated ones"):
        state_at(library, 1)
    found = state_at(library, 1, skips_faults=True)
    assert found.values == {} and list(found.faults) == ["tables/funding/binance.perp"]


def test_damaged_table_is_an_error_or_named_while_the_others_are_read(tmp_path: Path) -> None:
    from qraft_store.bars.memory import MemoryBarStore
    from qraft_store.tables.lake import ParquetTables

    library = DataLibrary(MemoryBarStore(), ParquetTables(tmp_path))
    put_funding(library, ("BTCUSDT", 1, 0.01))
    put_rows(library, "basis", [{"symbol": "BTCUSDT", "event_at": at(1), "spot_price": 2.0, "future_price": 2.0,
                                 "basis_frac": 0.0}])  # fmt: skip
    (file,) = (tmp_path / "tables" / "funding").rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:-9])
    lake = DataLibrary(MemoryBarStore(), ParquetTables(tmp_path))

    with pytest.raises(Malformed, match="bytes"):
        state_at(lake, 1)
    found = state_at(lake, 1, skips_faults=True)
    assert list(found.values) == ["basis_frac"] and list(found.faults) == ["tables/funding/binance.perp"]


def test_long_histories_are_joined_in_parts_that_agree(library: DataLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    put_funding(library, *(("BTCUSDT", float(step), step / 1000) for step in range(40)))
    whole = state_at(library, *range(1, 60)).values["funding_rate"]

    monkeypatch.setattr("qraft_data.state._CELLS_MAX", 7)
    assert state_at(library, *range(1, 60)).values["funding_rate"].tobytes() == whole.tobytes()


def test_row_exactly_as_old_as_allowed_still_stands(library: DataLibrary) -> None:
    age = timedelta(seconds=KINDS["funding"].stale_after_s or 0)
    put_funding(library, ("BTCUSDT", 0, 0.01))
    last = age / STEP

    assert state_at(library, last).values["funding_rate"][0, 0] == 0.01
    assert state_at(library, last + 1e-3).values == {}
