"""Trading calendars against published closures and the hours that were traded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.libs.data.data_kit import memory_library, put_bars, us

from qraft_data.calendars import expected_times, sessions_of
from qraft_data.times import DAY_US, instant_of
from qraft_data.zones import to_utc

_HOUR = 3_600_000_000


def _day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_new_york_is_closed_on_holidays_and_early_on_half_days() -> None:
    sessions = sessions_of("XNYS", start=_day("2024-01-01"), end=_day("2025-01-01"))

    days = {f"{instant_of(day):%m-%d}" for day in sessions.day_us.tolist()}
    assert sessions.day_us.size == len(days) == 252  # the exchange's own count for 2024
    assert not days & {"01-01", "01-15", "02-19", "03-29", "05-27", "06-19", "07-04", "09-02", "11-28", "12-25"}
    half_days = [f"{instant_of(day):%m-%d}" for day in sessions.day_us[sessions.is_half_day].tolist()]
    assert half_days == ["07-03", "11-29", "12-24"]
    closes = {f"{instant_of(close):%H:%M}" for close in sessions.close_us[sessions.is_half_day].tolist()}
    assert closes == {"17:00", "18:00"}  # 13:00 in New York, summer and winter


@pytest.mark.parametrize("day", ["2001-09-12", "2012-10-29", "2018-12-05", "2025-01-09"])
def test_days_that_new_york_was_closed_for_are_no_sessions(day: str) -> None:
    assert expected_times("XNYS", "1h", _day(day), _day(day) + timedelta(days=1)).size == 0


def test_hourly_bars_are_expected_where_any_part_of_them_is_traded() -> None:
    full = expected_times("XNYS", "1h", _day("2024-07-02"), _day("2024-07-03"))
    half = expected_times("XNYS", "1h", _day("2024-07-03"), _day("2024-07-04"))

    assert [instant_of(end).hour for end in full.tolist()] == [14, 15, 16, 17, 18, 19, 20]  # 09:30 to 16:00, UTC-4
    assert [instant_of(end).hour for end in half.tolist()] == [14, 15, 16, 17]


def test_last_bar_of_a_session_is_expected_even_if_the_market_closes_within_it() -> None:
    london = expected_times("XLON", "1h", _day("2024-07-02"), _day("2024-07-03"))  # 08:00 to 16:30, UTC+1
    new_york = expected_times("XNYS", "4h", _day("2024-01-03"), _day("2024-01-04"))  # 14:30 to 21:00 UTC

    assert [instant_of(end).hour for end in london.tolist()] == [8, 9, 10, 11, 12, 13, 14, 15, 16]
    assert [f"{instant_of(end):%d %H}" for end in new_york.tolist()] == ["03 16", "03 20", "04 00"]


def test_pause_at_noon_is_not_expected() -> None:
    ends = expected_times("XHKG", "30m", _day("2025-06-03"), _day("2025-06-04"))  # 09:30-12:00, 13:00-16:00, UTC+8

    assert [f"{instant_of(end):%H:%M}" for end in ends.tolist()] == [
        "02:00", "02:30", "03:00", "03:30", "04:00", "05:30", "06:00", "06:30", "07:00", "07:30", "08:00"
    ]  # fmt: skip


def test_daily_bar_ends_at_midnight_after_the_date_of_its_session() -> None:
    ends = expected_times("XNYS", "1d", _day("2024-07-03"), _day("2024-07-09"))

    assert [f"{instant_of(end):%m-%d}" for end in ends.tolist()] == ["07-04", "07-06", "07-09"]
    after_the_close = expected_times("XNYS", "1d", _day("2024-07-02") + timedelta(hours=21), _day("2024-07-03"))
    assert after_the_close.tolist() == [us(_day("2024-07-03"))]


@pytest.mark.parametrize("calendar", [None, "24/7"])
def test_market_that_never_closes_has_every_step(calendar: str | None) -> None:
    ends = expected_times(calendar, "5m", _day("2024-07-06"), _day("2024-07-07"))

    assert ends.size == 288
    assert (ends[0], ends[-1]) == (us(_day("2024-07-06")) + 300_000_000, us(_day("2024-07-07")))


def test_ranges_laid_side_by_side_expect_what_the_whole_expects() -> None:
    whole = expected_times("XNYS", "5m", _day("2024-03-01"), _day("2024-03-20"))
    cuts = [_day("2024-03-01"), _day("2024-03-08") + timedelta(hours=15, minutes=32), _day("2024-03-20")]

    parts = [expected_times("XNYS", "5m", left, right) for left, right in pairwise(cuts)]

    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.data
def test_expected_hours_are_those_that_apple_was_traded_in(qraft_data: Path) -> None:
    table = pq.read_table(qraft_data / "equities" / "AAPL_1h_unadjusted_1998_2021.parquet", columns=["local_time"])
    local = table["local_time"].to_numpy().astype("datetime64[us]").astype(np.int64)
    closed = to_utc(local, "America/New_York", repeated="refuse") + _HOUR

    expected = expected_times("XNYS", "1h", _day("1998-01-01"), _day("2021-04-01"))

    missing, unexpected = np.setdiff1d(expected, closed), np.setdiff1d(closed, expected)
    # 2002-09-11: trading began late, in memory of the year before. 2013-08-22: Nasdaq stood still for three hours.
    assert [f"{instant_of(end):%Y-%m-%d %H}" for end in missing.tolist()] == [
        "2002-09-11 14", "2013-08-22 18", "2013-08-22 19"
    ]  # fmt: skip
    # Until 2008 the source kept trades after the early close of half days; nothing else is out of hours.
    sessions = sessions_of("XNYS", start=_day("1998-01-01"), end=_day("2021-04-01"))
    half_days = set(sessions.day_us[sessions.is_half_day].tolist())
    assert {end // DAY_US * DAY_US for end in unexpected.tolist()} <= half_days
    assert (expected.size, unexpected.size) == (40_787, 47)


def test_bars_outside_the_sessions_are_left_out_and_counted() -> None:
    library = memory_library()
    hours = [_day("2024-07-03") + timedelta(hours=i) for i in range(1, 25)]
    put_bars(library, {"AAPL": [1.0] * 24}, market="us.equities", interval="1h", closed_at=hours)

    panel = library.get_data(
        "us.equities", ["AAPL"], _day("2024-07-03"), _day("2024-07-04"), ["bars.close"], interval="1h", calendar="XNYS"
    )

    assert panel.event_us.size == 4
    assert panel.counts.n_outside_calendar == 20
    assert "calendars/XNYS" in panel.sources
