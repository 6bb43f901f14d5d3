"""Local times on the days a clock is changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.libs.data.data_kit import memory_library, put_bars, us

from qraft_data.zones import clock_changes, to_local, to_utc

_NEW_YORK = "America/New_York"


def _utc_hours(first: datetime, n_hours: int) -> np.ndarray:
    return np.array([us(first + timedelta(hours=i)) for i in range(n_hours)], dtype=np.int64)


def _clock(text: str) -> int:
    """Return a wall-clock time as to_utc takes it."""
    return us(datetime.fromisoformat(text).replace(tzinfo=UTC))


def test_hour_that_comes_twice_is_flagged_and_told_apart_by_its_offset() -> None:
    hours = _utc_hours(datetime(2025, 11, 2, 4, tzinfo=UTC), 5)  # 00:00 to 03:00 in New York, 01:00 twice

    local = to_local(hours, _NEW_YORK)

    clock = [0, 1, 1, 2, 3]
    assert [(value - _clock("2025-11-02")) // 3_600_000_000 for value in local.local_us.tolist()] == clock
    assert local.is_repeated.tolist() == [False, True, True, False, False]
    assert (local.offset_s // 3_600).tolist() == [-4, -4, -5, -5, -5]
    assert [change.name for change in local.changes] == ["2025-11-02 01:00 to 02:00 America/New_York comes twice"]


def test_hour_that_does_not_exist_is_named() -> None:
    hours = _utc_hours(datetime(2025, 3, 9, 5, tzinfo=UTC), 4)

    local = to_local(hours, _NEW_YORK)

    assert [(value - _clock("2025-03-09")) // 3_600_000_000 for value in local.local_us.tolist()] == [0, 1, 3, 4]
    assert [change.name for change in local.changes] == ["2025-03-09 02:00 to 03:00 America/New_York does not exist"]


@pytest.mark.parametrize(
    ("text", "choice", "message"),
    [
        ("2025-11-02 01:30", {"repeated": "refuse"}, "01:00 to 02:00 America/New_York comes twice; say repeated"),
        ("2025-03-09 02:30", {"repeated": "first"}, "02:00 to 03:00 America/New_York does not exist; say skipped"),
    ],
)
def test_wall_clock_time_that_is_not_one_instant_is_refused_by_name(
    text: str, choice: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        to_utc(np.array([_clock(text)]), _NEW_YORK, **choice)  # type: ignore[arg-type]


def test_wall_clock_time_that_is_not_one_instant_is_resolved_as_asked() -> None:
    twice, never = np.array([_clock("2025-11-02 01:30")]), np.array([_clock("2025-03-09 02:30")])

    first = to_utc(twice, _NEW_YORK, repeated="first")
    second = to_utc(twice, _NEW_YORK, repeated="second")
    shifted, also = (to_utc(never, _NEW_YORK, repeated=which, skipped="shift") for which in ("refuse", "second"))

    assert first.tolist() == [us(datetime(2025, 11, 2, 5, 30, tzinfo=UTC))]
    assert second.tolist() == [us(datetime(2025, 11, 2, 6, 30, tzinfo=UTC))]
    assert shifted.tolist() == also.tolist() == [us(datetime(2025, 3, 9, 7, 30, tzinfo=UTC))]  # 03:30 in New York


def test_changes_of_half_an_hour_are_found_to_the_second() -> None:
    year = {"first_us": us(datetime(2025, 1, 1, tzinfo=UTC)), "last_us": us(datetime(2026, 1, 1, tzinfo=UTC))}

    changes = clock_changes("Australia/Lord_Howe", **year)

    assert [(change.before_s, change.after_s) for change in changes] == [(39_600, 37_800), (37_800, 39_600)]
    assert [change.at_us for change in changes] == [
        us(datetime(2025, 4, 5, 15, tzinfo=UTC)), us(datetime(2025, 10, 4, 15, 30, tzinfo=UTC))
    ]  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(
    minutes=st.lists(st.integers(0, 40 * 365 * 24 * 60), min_size=1, max_size=20),
    zone=st.sampled_from([_NEW_YORK, "Europe/London", "Australia/Lord_Howe", "Asia/Tokyo", "UTC"]),
)
def test_every_instant_comes_back_from_its_local_time(minutes: list[int], zone: str) -> None:
    instants = np.array(minutes, dtype=np.int64) * 60_000_000

    local = to_local(instants, zone)

    first, second = (to_utc(local.local_us, zone, repeated=which) for which in ("first", "second"))
    assert ((first == instants) | (second == instants)).all()
    np.testing.assert_array_equal((first == second), ~local.is_repeated)


def test_panel_shows_both_clocks() -> None:
    library = memory_library()
    night = datetime(2025, 11, 2, 5, tzinfo=UTC)
    put_bars(
        library, {"BTCUSDT": [1.0, 2.0, 3.0]}, interval="1h", closed_at=[night + timedelta(hours=i) for i in range(3)]
    )

    panel = library.get_data(
        "binance.perp", ["BTCUSDT"], night - timedelta(hours=1), night + timedelta(hours=2), ["bars.close"],
        interval="1h", time_zone=_NEW_YORK,
    )  # fmt: skip

    rows = panel.table().to_pylist()
    assert [row["event_at"].hour for row in rows] == [5, 6, 7]
    assert [(row["local_at"].hour, row["utc_offset_s"] // 3_600) for row in rows] == [(1, -4), (1, -5), (2, -5)]
