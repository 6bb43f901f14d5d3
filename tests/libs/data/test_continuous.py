"""Continuous futures. The contracts and prices are made up: no real futures are at hand."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.libs.data.data_kit import T0, at, memory_library, put_bars, put_rows, us

from qraft_data.continuous.rolls import RollBy, RollPoint, RollRule, joined_prices, plan_rolls, roll_points
from qraft_data.library import DataLibrary
from qraft_data.panel import DataPanel
from qraft_data.times import DAY_US

_MARKET = "made.up.futures"
_NAN = float("nan")


def _days(n_rows: int) -> np.ndarray:
    return np.arange(1, n_rows + 1, dtype=np.int64) * DAY_US


def _expiries(n_rows: int, *days: float) -> np.ndarray:
    """Return expiries known from the first row on, (n_rows, n_contracts)."""
    return np.tile(np.array(days, dtype=np.float64) * DAY_US, (n_rows, 1))


def test_rule_by_days_shows_the_next_contract_within_the_days_before_expiry() -> None:
    rule = RollRule(by="days_before_expiry", days=2)

    rolls = plan_rolls(_days(10), expires_us=_expiries(10, 5, 9), weight=np.zeros((10, 2)), rule=rule)

    # Expiry at day 5: day 3 is not more than two days before it. After day 7 nothing later is listed: stay until day 9.
    assert rolls.active.tolist() == [0, 0, 1, 1, 1, 1, 1, 1, -1, -1]
    assert (rolls.at, rolls.why) == ((2,), ("days_before_expiry",))


def test_crossing_of_volume_must_persist_and_shows_from_the_row_after_the_decision() -> None:
    weight = np.array([[9, 1], [1, 9], [9, 1], [1, 9], [1, 9], [1, 9], [9, 1], [9, 1]], dtype=float)
    rule = RollRule(by="volume", persist_bars=3)

    rolls = plan_rolls(_days(8), expires_us=_expiries(8, 50, 80), weight=weight, rule=rule)

    assert rolls.active.tolist() == [0, 0, 0, 0, 0, 0, 1, 1]  # decided in row 5, and there is no way back in row 6
    assert (rolls.at, rolls.why) == ((6,), ("volume",))


def test_expiry_rolls_even_if_the_volume_never_crossed() -> None:
    rule = RollRule(by="open_interest", persist_bars=2)

    rolls = plan_rolls(_days(6), expires_us=_expiries(6, 4, 80), weight=np.tile([9.0, 1.0], (6, 1)), rule=rule)

    assert rolls.active.tolist() == [0, 0, 0, 1, 1, 1]
    assert rolls.why == ("expiry",)


def test_contract_that_is_not_listed_yet_is_not_rolled_into() -> None:
    expires = _expiries(6, 50, 80)
    expires[:4, 1] = np.nan
    weight = np.tile([1.0, 9.0], (6, 1))

    rolls = plan_rolls(_days(6), expires_us=expires, weight=weight, rule=RollRule(by="volume", persist_bars=1))

    assert rolls.active.tolist() == [0, 0, 0, 0, 0, 1]


def test_contract_that_leads_but_expires_before_the_next_row_is_not_rolled_into() -> None:
    weight = np.tile([1.0, 9.0, 0.0], (4, 1))
    expires = _expiries(4, 50, 2, 80)  # in the wrong order on purpose: the leader is gone when it would be shown
    rule = RollRule(by="volume", persist_bars=1)

    rolls = plan_rolls(_days(4), expires_us=expires, weight=weight, rule=rule)

    assert rolls.active.tolist() == [0, 0, 0, 0]


def test_contract_with_as_much_volume_and_no_more_is_not_rolled_into() -> None:
    weight = np.tile([5.0, 5.0], (4, 1))

    rolls = plan_rolls(
        _days(4), expires_us=_expiries(4, 50, 80), weight=weight, rule=RollRule(by="volume", persist_bars=1)
    )

    assert rolls.active.tolist() == [0, 0, 0, 0]


@settings(max_examples=100, deadline=None)
@given(
    weights=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=30),
    cut=st.integers(1, 29),
    persist=st.integers(1, 3),
    by=st.sampled_from(["volume", "days_before_expiry"]),
)
def test_roll_of_a_row_does_not_change_with_later_rows(
    weights: list[tuple[int, int, int]], cut: int, persist: int, by: RollBy
) -> None:
    weight = np.array(weights, dtype=float)
    rule = RollRule(by=by, persist_bars=persist)
    n_rows, n_past = len(weight), min(cut, len(weight))
    expires = _expiries(n_rows, 12, 24, 60)

    whole = plan_rolls(_days(n_rows), expires_us=expires, weight=weight, rule=rule)
    past = plan_rolls(_days(n_past), expires_us=expires[:n_past], weight=weight[:n_past], rule=rule)

    np.testing.assert_array_equal(whole.active[:n_past], past.active)


@settings(max_examples=100, deadline=None)
@given(
    returns=st.lists(st.tuples(*[st.floats(-0.05, 0.05)] * 3), min_size=4, max_size=30),
    persist=st.integers(1, 2),
    carry=st.floats(-0.2, 0.2),
)
def test_series_joined_by_ratio_earns_what_the_held_contract_earned(
    returns: list[tuple[float, float, float]], persist: int, carry: float
) -> None:
    log_returns = np.array(returns)
    close = 100.0 * np.exp(np.cumsum(log_returns, axis=0) + carry * np.arange(3))
    n_rows = len(close)
    weight = np.abs(np.sin(np.arange(n_rows)[:, None] + np.arange(3)))
    rolls = plan_rolls(
        _days(n_rows), expires_us=_expiries(n_rows, 10, 20, 90), weight=weight,
        rule=RollRule(by="volume", persist_bars=persist),
    )  # fmt: skip
    points = roll_points(_days(n_rows), rolls, close=close, contracts=("A", "B", "C"), root="XX")
    shown = close[np.arange(n_rows), rolls.active]

    by_ratio = joined_prices(_days(n_rows), shown, points, back_adjust="ratio")
    by_difference = joined_prices(_days(n_rows), shown, points, back_adjust="difference")

    # Row t holds the contract shown in row t; every roll's gap is measured in the row before, where both have a close.
    held = rolls.active[1:]
    row = np.arange(1, n_rows)
    np.testing.assert_allclose(np.diff(np.log(by_ratio)), log_returns[row, held], atol=1e-9)
    np.testing.assert_allclose(np.diff(by_difference), close[row, held] - close[row - 1, held], atol=1e-7)
    assert (by_ratio[-1], by_difference[-1]) == (shown[-1], shown[-1])


@pytest.mark.parametrize("back_adjust", ["difference", "ratio"])
def test_roll_without_a_row_that_has_both_closes_cannot_be_adjusted(back_adjust: str) -> None:
    point = RollPoint(
        root="XX", row_at_us=20, from_contract="A", to_contract="B", gap_at_us=20, gap=None, ratio=None, why="expiry"
    )

    with pytest.raises(ValueError, match="closes of A and B"):
        joined_prices(np.array([10, 20]), np.array([1.0, 2.0]), (point,), back_adjust=back_adjust)  # type: ignore[arg-type]


def _library(*, open_interest: bool = False) -> DataLibrary:
    """Two made-up contracts over 12 bars: ZZH5 expires after bar 8, ZZM5 is worth 10 more and takes over the volume."""
    library = memory_library()
    near = [100.0 + i for i in range(8)] + [_NAN] * 4
    far = [110.0 + i for i in range(12)]
    volume = {"ZZH5": [9.0] * 3 + [1.0] * 9, "ZZM5": [1.0] * 3 + [9.0] * 9}
    put_bars(library, {"ZZH5": near, "ZZM5": far}, market=_MARKET, volume=volume)
    listing = {"root": "ZZ", "multiplier": 50.0, "tick_size": 0.25, "event_at": T0 - timedelta(days=30)}
    rows = [
        {"symbol": "ZZH5", "expires_at_us": us(at(8)), **listing},
        {"symbol": "ZZM5", "expires_at_us": us(at(90)), **listing},
    ]
    put_rows(library, "futures_contracts", rows, market=_MARKET)
    if open_interest:
        held = [
            {"symbol": name, "event_at": at(step), "open_interest": amount, "open_interest_usd": 1.0}
            for step, near_held in ((0.5, 90.0), (5.5, 10.0))
            for name, amount in (("ZZH5", near_held), ("ZZM5", 50.0))
        ]
        put_rows(library, "open_interest", held, market=_MARKET)
    return library


def _continuous(library: DataLibrary, rule: RollRule, *, end: datetime | None = None) -> DataPanel:
    return library.get_data(_MARKET, ["ZZ"], T0, end or at(12), ["bars.close", "bars.volume"], continuous=rule)


def test_continuous_series_names_its_contracts_and_its_roll_points() -> None:
    panel = _continuous(_library(), RollRule(by="volume", persist_bars=2))

    table = panel.table()
    assert table["contract"].to_pylist() == ["ZZH5"] * 5 + ["ZZM5"] * 7
    assert table["bars.close"].to_pylist() == [100.0 + i for i in range(5)] + [110.0 + i for i in range(5, 12)]
    (point,) = panel.roll_points
    assert (point.from_contract, point.to_contract, point.why) == ("ZZH5", "ZZM5", "volume")
    assert (point.row_at_us, point.gap_at_us) == (us(at(6)), us(at(5)))
    assert (point.gap, point.ratio) == (10.0, pytest.approx(114.0 / 104.0))


@pytest.mark.parametrize(
    ("back_adjust", "first", "step"), [("difference", 110.0, 1.0), ("ratio", 100.0 * 114.0 / 104.0, 114.0 / 104.0)]
)
def test_back_adjusted_series_has_no_jump_at_the_roll(back_adjust: str, first: float, step: float) -> None:
    rule = RollRule(by="volume", persist_bars=2, back_adjust=back_adjust)  # type: ignore[arg-type]

    closes = _continuous(_library(), rule).values["bars.close"][:, 0]

    assert closes[0] == pytest.approx(first)
    np.testing.assert_allclose(np.diff(closes)[:4], step)
    np.testing.assert_allclose(np.diff(closes)[5:], 1.0)


def test_volume_of_a_continuous_series_is_never_adjusted() -> None:
    rule = RollRule(by="volume", persist_bars=2, back_adjust="ratio")

    volume = _continuous(_library(), rule).values["bars.volume"][:, 0]

    assert volume.tolist() == [9.0, 9.0, 9.0, 1.0, 1.0] + [9.0] * 7


def test_two_roots_stand_side_by_side_with_their_own_contracts() -> None:
    library = _library()
    put_bars(library, {"YYH5": [50.0] * 12}, market=_MARKET, revision=1)  # late: after the others were stored
    listing = {"root": "YY", "multiplier": 1.0, "tick_size": 0.1, "event_at": T0 - timedelta(days=30)}
    put_rows(library, "futures_contracts", [{"symbol": "YYH5", "expires_at_us": us(at(90)), **listing}], market=_MARKET)

    panel = library.get_data(
        _MARKET, ["ZZ", "YY"], T0, at(12), ["bars.close"], continuous=RollRule(by="volume", persist_bars=2)
    )

    rows = panel.table().to_pylist()
    assert {row["contract"] for row in rows if row["symbol"] == "ZZ"} == {"ZZH5", "ZZM5"}
    assert {(row["contract"], row["bars.close"]) for row in rows if row["symbol"] == "YY"} == {("YYH5", 50.0)}


def test_expiry_that_is_moved_later_counts_from_when_it_was_known_and_keeps_the_order() -> None:
    library = _library()
    moved = {
        "symbol": "ZZH5", "root": "ZZ", "multiplier": 50.0, "tick_size": 0.25, "event_at": T0 - timedelta(days=30),
        "revision": 1, "known_at": at(4), "expires_at_us": us(at(99)),
    }  # fmt: skip
    put_rows(library, "futures_contracts", [moved], market=_MARKET)
    margin = RollRule(by="days_before_expiry", days=0)

    panel = _continuous(library, margin)

    # By the expiry known at rows 1 to 3 the old contract is open; the revision of row 4 keeps it so to the end.
    assert panel.table()["contract"].to_pylist() == ["ZZH5"] * 12


def test_open_interest_rolls_by_what_was_known_at_the_row() -> None:
    rule = RollRule(by="open_interest", persist_bars=1)

    panel = _continuous(_library(open_interest=True), rule)

    # ZZM5 leads from 5.5 on: row 6 is the first that knows, row 7 the first that shows it.
    assert panel.table()["contract"].to_pylist() == ["ZZH5"] * 6 + ["ZZM5"] * 6
    assert "tables/open_interest/made.up.futures" in panel.sources


def test_open_interest_of_once_a_day_needs_an_age_that_says_so() -> None:
    library = _library()
    put_bars(library, {"ZZM5": [150.0] * 60}, market=_MARKET, closed_at=[at(step) for step in range(13, 73)])
    held = [
        {"symbol": name, "event_at": at(0.5), "open_interest": amount, "open_interest_usd": 1.0}
        for name, amount in (("ZZH5", 1.0), ("ZZM5", 50.0))
    ]
    put_rows(library, "open_interest", held, market=_MARKET)
    later = {"symbol": "ZZU5", "root": "ZZ", "multiplier": 50.0, "tick_size": 0.25, "expires_at_us": us(at(900)),
             "event_at": T0 - timedelta(days=9)}  # fmt: skip
    put_rows(library, "futures_contracts", [later], market=_MARKET)
    put_rows(
        library, "open_interest",
        [{"symbol": "ZZU5", "event_at": at(30), "open_interest": 20.0, "open_interest_usd": 1.0}], market=_MARKET,
    )  # fmt: skip

    short, long = (
        _continuous(library, RollRule(by="open_interest", persist_bars=1, max_age_s=age), end=at(60))
        for age in (None, 86_400)
    )

    # After three hours the 50 of ZZM5 is stale and counts as nothing, so that the 20 of ZZU5 would lead.
    assert short.roll_points[-1].to_contract == "ZZU5"
    assert long.roll_points[-1].to_contract == "ZZM5"


def test_contracts_that_expired_before_the_range_are_not_read() -> None:
    library = _library()
    old = {"symbol": "ZZH4", "root": "ZZ", "multiplier": 50.0, "tick_size": 0.25,
           "expires_at_us": us(T0 - timedelta(days=60)), "event_at": T0 - timedelta(days=400)}  # fmt: skip
    put_rows(library, "futures_contracts", [old], market=_MARKET)

    panel = _continuous(library, RollRule(by="volume", persist_bars=2))

    assert panel.contract_names == ("ZZH5", "ZZM5")


def test_continuous_history_does_not_change_when_time_goes_on_except_for_its_adjusted_level() -> None:
    rule = RollRule(by="volume", persist_bars=2)

    early, late = _continuous(_library(), rule, end=at(7)), _continuous(_library(), rule, end=at(12))

    np.testing.assert_array_equal(early.values["bars.close"], late.values["bars.close"][:7])


def test_range_that_begins_after_a_roll_shows_what_a_longer_range_shows_there() -> None:
    rule = RollRule(by="volume", persist_bars=2, back_adjust="ratio")
    library = _library()

    whole = _continuous(library, rule)
    part = library.get_data(_MARKET, ["ZZ"], at(6), at(12), ["bars.close", "bars.volume"], continuous=rule)
    cold = library.get_data(
        _MARKET, ["ZZ"], at(6), at(12), ["bars.close"], continuous=RollRule(by="volume", persist_bars=2, warm_up_days=0)
    )

    assert part.table()["contract"].to_pylist() == ["ZZM5"] * 6
    np.testing.assert_array_equal(part.values["bars.close"], whole.values["bars.close"][6:])
    assert part.roll_points == ()
    assert cold.table()["contract"].to_pylist() == ["ZZH5"] + ["ZZM5"] * 5  # without it the rule begins anew


def test_root_without_contracts_is_refused() -> None:
    with pytest.raises(ValueError, match="futures_contracts of root YY"):
        _library().get_data(_MARKET, ["YY"], T0, at(9), ["bars.close"], continuous=RollRule(by="volume"))
