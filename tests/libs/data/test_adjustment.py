"""Splits and dividends: against the factor files of another engine, and what may not be known yet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.libs.data.data_kit import T0, at, memory_library, put_bars, put_rows, us

from qraft_contracts.origin import Origin
from qraft_data.adjustment import Action, adjustment_factors
from qraft_data.library import DataLibrary
from qraft_data.times import instant_of
from qraft_data.zones import to_utc

_HOUR = timedelta(hours=1)
_MARKET = "us.equities"
# Ex-dates as the companies published them; dividends a share before that day's split.
_ACTIONS = {
    "AAPL": [("2014-05-08", 1.0, 3.29), ("2014-06-09", 7.0, 0.0), ("2014-08-07", 1.0, 0.47), ("2014-11-06", 1.0, 0.47)],
    "SPY": [("2014-06-20", 1.0, 0.93669), ("2014-09-19", 1.0, 0.93923), ("2014-12-19", 1.0, 1.13468)],
}
_START, _END = datetime(2014, 5, 1, tzinfo=UTC), datetime(2014, 12, 31, tzinfo=UTC)


@pytest.mark.data
@pytest.mark.parametrize(("ticker", "tolerance"), [("AAPL", 1e-6), ("SPY", 6e-5)])
def test_backward_prices_equal_those_of_the_published_factor_file(
    ticker: str, tolerance: float, qraft_data: Path
) -> None:
    # The file's factors have seven digits; those of SPY were made from dividends in whole cents (0.94 for 0.93669).
    library, closed_at, closes = _hourly_bars(qraft_data, ticker)
    put_rows(library, "corporate_actions", [_action(ticker, *row) for row in _ACTIONS[ticker]], market=_MARKET)

    panel = library.get_data(
        _MARKET, [ticker], _START, _END, ["bars.close"], interval="1h", adjustment="backward", missing="drop",
        time_zone="America/New_York",
    )  # fmt: skip

    factors = pq.read_table(qraft_data / "equities" / f"{ticker}_adjustment_factors.parquet")
    factor = factors["price_factor"].to_numpy() * factors["split_factor"].to_numpy()
    last_day = factors["date"].to_numpy().astype("datetime64[D]")
    day = (panel.local.local_us - 1).astype("datetime64[us]").astype("datetime64[D]")
    row = np.searchsorted(last_day, day)  # the first whose date is on or after the bar's day, as the file says
    np.testing.assert_array_equal(panel.event_us, closed_at)
    np.testing.assert_allclose(panel.values["bars.close"][:, 0], closes * factor[row] / factor[row[-1]], rtol=tolerance)


@pytest.mark.data
def test_forward_and_backward_prices_have_the_same_returns_over_a_split(qraft_data: Path) -> None:
    library, _, closes = _hourly_bars(qraft_data, "AAPL")
    put_rows(library, "corporate_actions", [_action("AAPL", *row) for row in _ACTIONS["AAPL"]], market=_MARKET)

    forward, backward = (
        library.get_data(
            _MARKET, ["AAPL"], _START, _END, ["bars.close"], interval="1h", adjustment=direction, missing="drop"
        ).values["bars.close"][:, 0]
        for direction in ("forward", "backward")
    )

    assert forward[0] == closes[0]
    assert backward[-1] == closes[-1]
    np.testing.assert_allclose(np.diff(np.log(forward)), np.diff(np.log(backward)), atol=1e-12)
    assert np.diff(np.log(closes)).min() < -1.9  # as traded, the split of 7 looks like a crash of 86 %
    assert np.abs(np.diff(np.log(backward))).max() < 0.1


@settings(max_examples=100, deadline=None)
@given(
    closes=st.lists(st.floats(1.0, 1_000.0), min_size=2, max_size=30),
    actions=st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from([1.0, 2.0, 0.1, 7.0]), st.floats(0.0, 0.9)), max_size=5
    ),
)
def test_returns_are_the_same_in_both_directions(closes: list[float], actions: list[tuple[int, float, float]]) -> None:
    times = np.arange(1, len(closes) + 1, dtype=np.int64) * 10
    prices = np.array(closes)
    known = [
        Action(
            ex_at_us=step * 10 + 5,
            split_ratio=ratio,
            dividend=share * prices[max(0, min(step, len(closes)) - 1)],
            close_before=prices[max(0, min(step, len(closes)) - 1)],
        )
        for step, ratio, share in actions
    ]

    forward, backward = (
        prices * adjustment_factors(times, known, adjustment=direction).price for direction in ("forward", "backward")
    )

    np.testing.assert_allclose(np.diff(np.log(forward)), np.diff(np.log(backward)), atol=1e-9)
    assert forward[0] == prices[0]


def test_return_over_an_ex_date_is_that_of_one_who_kept_the_dividend_and_all_shares() -> None:
    library = _two_bars(known=at(1))

    closes = library.get_data("us.equities", ["XYZ"], T0, at(2), ["bars.close"], adjustment="backward")

    # 100 becomes 2 shares of 49 and 4 in cash on a base of 100: (1 - 4/100) / 2 = 0.48 of the old price.
    np.testing.assert_allclose(closes.values["bars.close"][:, 0], [48.0, 49.0])


def test_volume_is_adjusted_for_splits_only_and_against_the_price() -> None:
    library = _two_bars(known=at(1))

    def volume(direction: str) -> list[float]:
        panel = library.get_data("us.equities", ["XYZ"], T0, at(2), ["bars.volume"], adjustment=direction)  # type: ignore[arg-type]
        return list(panel.values["bars.volume"][:, 0])

    assert (volume("none"), volume("backward"), volume("forward")) == ([1.0, 1.0], [2.0, 1.0], [1.0, 0.5])


def test_action_that_became_known_after_as_of_is_not_used() -> None:
    library = _two_bars(known=at(9))

    early, late = (
        library.get_data(
            "us.equities", ["XYZ"], T0, at(2), ["bars.close"], adjustment="backward", as_of=as_of
        ).values["bars.close"][:, 0].tolist()
        for as_of in (at(8), at(9))
    )  # fmt: skip

    assert (early, late) == ([100.0, 49.0], [48.0, 49.0])


def test_action_after_the_range_but_before_as_of_counts_backward_and_not_forward() -> None:
    library = memory_library()
    put_bars(library, {"XYZ": [99.0, 100.0, 49.0]}, market="us.equities")
    put_rows(library, "corporate_actions", [_split(at(2))], market="us.equities")

    backward, forward = (
        library.get_data(
            "us.equities", ["XYZ"], T0, at(1), ["bars.close"], adjustment=direction, as_of=at(3)
        ).values["bars.close"][:, 0].tolist()
        for direction in ("backward", "forward")
    )  # fmt: skip

    assert (backward, forward) == ([pytest.approx(99.0 * 0.48)], [99.0])


def test_corrected_action_replaces_the_first_from_when_it_was_known() -> None:
    library = memory_library()
    put_bars(library, {"XYZ": [100.0, 49.0]}, market="us.equities")
    put_rows(library, "corporate_actions", [_split(at(1))], market="us.equities")
    corrected = _split(at(1)) | {"dividend": 10.0, "revision": 1, "known_at": at(7)}
    put_rows(library, "corporate_actions", [corrected], market="us.equities")

    first_close = [
        library.get_data(
            "us.equities", ["XYZ"], T0, at(2), ["bars.close"], adjustment="backward", as_of=as_of
        ).values["bars.close"][0, 0]
        for as_of in (at(6), at(7))
    ]  # fmt: skip

    np.testing.assert_allclose(first_close, [48.0, 45.0])


def test_simulated_action_makes_the_prices_simulated() -> None:
    library = memory_library()
    put_bars(library, {"XYZ": [100.0, 49.0]}, market="us.equities")
    row = {"symbol": "XYZ", "event_at": at(1), "split_ratio": 2.0, "dividend": 0.0, "origin": "simulated"}
    put_rows(library, "corporate_actions", [row], market="us.equities")

    asked = ("us.equities", ["XYZ"], T0, at(2), ["bars.close"])

    assert library.get_data(*asked).origin is Origin.REPLAY
    assert library.get_data(*asked, adjustment="backward").origin is Origin.SIMULATED


@pytest.mark.parametrize(
    ("dividend", "message"), [(120.0, "before the split"), (4.0, r"expected a close of XYZ in the 12 days")]
)
def test_dividend_that_does_not_fit_the_prices_is_refused(dividend: float, message: str) -> None:
    library = memory_library()
    closes = [100.0, 49.0] if dividend > 100 else [np.nan, 49.0]
    put_bars(library, {"XYZ": closes}, market="us.equities")
    row = {"symbol": "XYZ", "event_at": at(1), "split_ratio": 1.0, "dividend": dividend}
    put_rows(library, "corporate_actions", [row], market="us.equities")

    with pytest.raises(ValueError, match=message):
        library.get_data("us.equities", ["XYZ"], T0, at(2), ["bars.close"], adjustment="backward")


def test_close_of_weeks_before_a_dividend_is_not_taken_for_the_last_one() -> None:
    library = memory_library()
    after = T0 + timedelta(days=20)
    put_bars(library, {"XYZ": [100.0, 96.0]}, market="us.equities", closed_at=[at(1), after + timedelta(minutes=5)])
    row = {"symbol": "XYZ", "event_at": after, "split_ratio": 1.0, "dividend": 4.0}
    put_rows(library, "corporate_actions", [row], market="us.equities")

    with pytest.raises(ValueError, match="expected a close of XYZ in the 12 days before its dividend of 2025-06-21"):
        library.get_data("us.equities", ["XYZ"], T0, T0 + timedelta(days=21), ["bars.close"], adjustment="backward")


def _two_bars(*, known: datetime) -> DataLibrary:
    library = memory_library()
    put_bars(library, {"XYZ": [100.0, 49.0]}, market="us.equities")
    row = {"symbol": "XYZ", "event_at": at(1), "known_at": known, "split_ratio": 2.0, "dividend": 4.0}
    put_rows(library, "corporate_actions", [row], market="us.equities")
    return library


def _split(ex_at: datetime) -> dict[str, object]:
    """Return a split of two with a dividend of 4 on the same day."""
    return {"symbol": "XYZ", "event_at": ex_at, "split_ratio": 2.0, "dividend": 4.0}


def _action(ticker: str, day: str, split_ratio: float, dividend: float) -> dict[str, object]:
    ex_at = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return {"symbol": ticker, "event_at": ex_at, "split_ratio": split_ratio, "dividend": dividend}


def _hourly_bars(folder: Path, ticker: str) -> tuple[DataLibrary, np.ndarray, np.ndarray]:
    """Return the real bars of 2014-05 to 2014-12 in a library, their ends and closes."""
    table = pq.read_table(folder / "equities" / f"{ticker}_1h_unadjusted_1998_2021.parquet")
    local = table["local_time"].to_numpy().astype("datetime64[us]").astype(np.int64)
    closed = to_utc(local, "America/New_York", repeated="refuse") + us(instant_of(0) + _HOUR)
    inside = (closed > us(_START)) & (closed <= us(_END))
    closes = table["close"].to_numpy()[inside]
    library = memory_library()
    ends: Sequence[datetime] = [instant_of(end) for end in closed[inside].tolist()]
    put_bars(library, {ticker: closes.tolist()}, market=_MARKET, interval="1h", closed_at=ends)
    return library, closed[inside], closes
