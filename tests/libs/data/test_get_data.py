"""get_data: what a row may see, what is missing, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.libs.data.data_kit import T0, at, memory_library, put_bars, put_rows

from qraft_contracts.kinds import TEXT_MARKET
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Refused
from qraft_data.library import DataLibrary
from qraft_data.query import FieldRef, Query, engine_inputs, parse_field

_FUNDING = "funding.funding_rate"


def _funding(event: float, rate: float, *, known: float | None = None, revision: int = 0) -> dict[str, object]:
    return {
        "symbol": "BTCUSDT", "event_at": at(event), "known_at": at(event if known is None else known),
        "revision": revision, "funding_rate": rate, "period_hours": 8.0,
    }  # fmt: skip


def test_bar_stands_in_the_row_of_its_end_and_a_gap_stays_empty(library: DataLibrary) -> None:
    put_bars(library, {"BTCUSDT": [100.0, np.nan, 102.0], "ETHUSDT": [10.0, 11.0, np.nan]})

    panel = library.get_data("binance.perp", ["BTCUSDT", "ETHUSDT"], T0, at(3), ["bars.close"])

    np.testing.assert_array_equal(panel.values["bars.close"], [[100.0, 10.0], [np.nan, 11.0], [102.0, np.nan]])
    np.testing.assert_array_equal(panel.is_missing("bars.close"), [[False, False], [True, False], [False, True]])
    assert panel.counts.n_missing == {"bars.close": 2}
    assert panel.origin is Origin.REPLAY


def test_metric_changes_on_the_day_it_is_known_and_not_on_the_day_it_is_about(library: DataLibrary) -> None:
    # The shape of Qlib's point-in-time case: a quarter's value appears on its publication date, and its revision later.
    put_bars(library, {"BTCUSDT": [1.0] * 6})
    put_rows(library, "funding", [_funding(1, 0.305041, known=3)])
    put_rows(library, "funding", [_funding(1, 0.252650, known=5, revision=1)])

    panel = library.get_data("binance.perp", ["BTCUSDT"], T0, at(6), ["bars.close", _FUNDING])

    expected = [np.nan, np.nan, 0.305041, 0.305041, 0.252650, 0.252650]
    np.testing.assert_array_equal(panel.values[_FUNDING][:, 0], expected)


def test_late_revision_of_an_old_event_does_not_displace_a_newer_event(library: DataLibrary) -> None:
    put_bars(library, {"BTCUSDT": [1.0] * 4})
    put_rows(library, "funding", [_funding(1, 0.01), _funding(2, 0.02)])
    put_rows(library, "funding", [_funding(1, 0.03, known=3, revision=1)])

    panel = library.get_data("binance.perp", ["BTCUSDT"], T0, at(4), [_FUNDING])

    np.testing.assert_array_equal(panel.values[_FUNDING][:, 0], [0.01, 0.02, 0.02, 0.02])


def test_value_older_than_the_dictionary_allows_is_missing_unless_the_field_says_how_old_it_may_be(
    library: DataLibrary,
) -> None:
    put_bars(library, {"BTCUSDT": [1.0] * 300})
    put_rows(library, "funding", [_funding(1, 0.01)])

    panel = library.get_data("binance.perp", ["BTCUSDT"], T0, at(300), [_FUNDING, f"{_FUNDING}~30m"])

    stale_after_bars, thirty_minutes = 10 * 12, 6  # KINDS["funding"].stale_after_s = 10 hours
    assert np.flatnonzero(~panel.is_missing(_FUNDING)[:, 0]).tolist() == list(range(stale_after_bars + 1))
    short = panel.values[f"{_FUNDING}~1800s"]
    assert np.flatnonzero(np.isfinite(short[:, 0])).tolist() == list(range(thirty_minutes + 1))


def test_value_from_before_the_range_still_stands_in_its_first_row(library: DataLibrary) -> None:
    put_bars(library, {"BTCUSDT": [1.0] * 4})
    put_rows(library, "funding", [_funding(1, 0.01)])

    panel = library.get_data("binance.perp", ["BTCUSDT"], at(2), at(4), [_FUNDING])

    np.testing.assert_array_equal(panel.values[_FUNDING][:, 0], [0.01, 0.01])


def test_bar_reads_show_the_revision_known_by_as_of_or_the_first_one(library: DataLibrary) -> None:
    put_bars(library, {"BTCUSDT": [100.0, 101.0]})
    put_bars(library, {"BTCUSDT": [90.0]}, closed_at=[at(1)], revision=1, known_after=timedelta(hours=1))

    def first_close(**choice: object) -> float:
        panel = library.get_data("binance.perp", ["BTCUSDT"], T0, at(2), ["bars.close"], **choice)  # type: ignore[arg-type]
        return float(panel.values["bars.close"][0, 0])

    assert first_close() == 100.0
    assert first_close(as_of=at(12)) == 100.0
    assert first_close(as_of=at(13)) == 90.0
    assert first_close(as_of=at(13), revisions="first") == 100.0


def test_one_symbol_may_be_named_without_a_list(library: DataLibrary) -> None:
    put_bars(library, {"ETH": [10.0]})

    assert library.get_data("binance.perp", "ETH", T0, at(1), ["bars.close"]).symbols == ("ETH",)


def test_two_fields_of_one_table_and_one_field_at_two_ages_stand_side_by_side(library: DataLibrary) -> None:
    put_bars(library, {"BTCUSDT": [1.0] * 3})
    put_rows(library, "funding", [_funding(1, 0.01)])
    fields = [_FUNDING, "funding.period_hours", f"{_FUNDING}~300s"]

    panel = library.get_data("binance.perp", ["BTCUSDT"], T0, at(3), ["bars.close", *fields])

    found = [panel.values[name][:, 0].tolist() for name in fields]
    assert found[:2] == [[0.01] * 3, [8.0] * 3]
    np.testing.assert_array_equal(found[2], [0.01, 0.01, np.nan])


def test_fields_of_other_markets_and_series_stand_beside_the_bars(library: DataLibrary) -> None:
    put_bars(library, {"BTCUSDT": [100.0, 101.0]})
    put_bars(library, {"BTCUSDT": [99.0, 100.5]}, market="binance.spot")
    vix = {"symbol": "VIX", "event_at": at(0.5), "value": 17.5}
    put_rows(library, "macro", [vix], market="us.macro")

    fields = ["bars.close@binance.spot", "macro.value@us.macro:VIX", "bars.close"]
    panel = library.get_data("binance.perp", ["BTCUSDT"], T0, at(2), fields)

    assert list(panel.values) == fields
    assert [panel.values[name][:, 0].tolist() for name in fields] == [[99.0, 100.5], [17.5, 17.5], [100.0, 101.0]]
    assert set(panel.sources) == {"bars/5m/binance.perp", "bars/5m/binance.spot", "tables/macro/us.macro"}


def test_policy_drop_counts_what_it_drops_and_flag_shows_it_and_refuse_names_it(library: DataLibrary) -> None:
    put_bars(library, {"BTCUSDT": [100.0, np.nan], "ETHUSDT": [10.0, 11.0]})
    asked = ("binance.perp", ["BTCUSDT", "ETHUSDT"], T0, at(2), ["bars.close"])

    dropped = library.get_data(*asked, missing="drop")
    flagged = library.get_data(*asked, missing="flag").table()

    assert dropped.counts.n_dropped == 1
    assert dropped.table()["symbol"].to_pylist() == ["BTCUSDT", "ETHUSDT", "ETHUSDT"]
    assert flagged["bars.close__missing"].to_pylist() == [False, False, True, False]
    assert flagged["bars.close"].to_pylist() == [100.0, 10.0, None, 11.0]
    with pytest.raises(ValueError, match=r"every value, 1 rows lack one: .*00:10:00.*BTCUSDT"):
        library.get_data(*asked, missing="refuse")


def test_policy_previous_fills_short_gaps_only_and_shows_what_it_filled(library: DataLibrary) -> None:
    put_bars(library, {"BTCUSDT": [np.nan, 101.0, np.nan, np.nan, np.nan, 105.0]})

    panel = library.get_data("binance.perp", ["BTCUSDT"], T0, at(6), ["bars.close"], missing="previous", fill_bars=2)

    np.testing.assert_array_equal(panel.values["bars.close"][:, 0], [np.nan, 101.0, 101.0, 101.0, np.nan, 105.0])
    assert panel.is_missing("bars.close")[:, 0].tolist() == [True, False, True, True, True, False]
    assert (panel.counts.n_filled, panel.counts.n_missing) == (2, {"bars.close": 4})
    assert panel.table()["bars.close__missing"].to_pylist() == [True, False, True, True, True, False]


def test_quarterly_figures_appear_on_their_publication_day_as_in_the_published_case(library: DataLibrary) -> None:
    # Qlib tests/test_pit.py, sh600519: roewa_q is 0.0 on 2019-07-15 to 17 and 0.175322 from the 18th on, when the
    # quarter's report had come out; yoyni_q is 0.305041 and then 0.252650.
    days = [datetime(2019, 7, day, tzinfo=UTC) for day in (15, 16, 17, 18, 19)]
    ends = [day + timedelta(days=1) for day in days]
    put_bars(library, {"SH600519": [1.0] * 5}, market="cn.equities", interval="1d", closed_at=ends)
    published = datetime(2019, 7, 18, 0, tzinfo=UTC) + timedelta(hours=7)
    rows = [
        {"symbol": name, "event_at": quarter_end, "known_at": known_at, "value": value}
        for name, values in (("ROEWA_Q", (0.0, 0.175322)), ("YOYNI_Q", (0.305041, 0.252650)))
        for quarter_end, known_at, value in (
            (datetime(2019, 4, 1, tzinfo=UTC), datetime(2019, 4, 29, tzinfo=UTC), values[0]),
            (datetime(2019, 7, 1, tzinfo=UTC), published, values[1]),
        )
    ]
    put_rows(library, "macro", rows, market="cn.fundamentals")

    panel = library.get_data(
        "cn.equities", ["SH600519"], days[0], ends[-1],
        ["bars.close", "macro.value@cn.fundamentals:ROEWA_Q~200d", "macro.value@cn.fundamentals:YOYNI_Q~200d"],
        interval="1d", calendar="XSHG",
    )  # fmt: skip

    return_on_equity, growth = (panel.values[name][:, 0].tolist() for name in list(panel.values)[1:])
    assert return_on_equity == [0.0, 0.0, 0.0, 0.175322, 0.175322]
    assert growth == [0.305041, 0.305041, 0.305041, 0.252650, 0.252650]


def test_dropped_cell_shows_none_of_its_fields(library: DataLibrary) -> None:
    put_bars(library, {"BTCUSDT": [100.0], "ETHUSDT": [10.0]})
    put_rows(library, "funding", [_funding(1, 0.01)])

    panel = library.get_data(
        "binance.perp", ["BTCUSDT", "ETHUSDT"], T0, at(1), ["bars.close", _FUNDING], missing="drop"
    )

    np.testing.assert_array_equal(panel.values["bars.close"], [[100.0, np.nan]])
    assert panel.is_missing("bars.close").tolist() == [[False, False]]  # it was there; the funding was not
    assert panel.table()["symbol"].to_pylist() == ["BTCUSDT"]


def test_row_that_every_symbol_dropped_leaves_the_panel(library: DataLibrary) -> None:
    put_bars(library, {"BTCUSDT": [100.0, np.nan, 102.0]})

    panel = library.get_data("binance.perp", ["BTCUSDT"], T0, at(3), ["bars.close"], missing="drop")

    assert panel.values["bars.close"][:, 0].tolist() == [100.0, 102.0]
    assert panel.event_us.size == panel.local.local_us.size == 2


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"fields": ["posts.text"]}, "numbers"),
        ({"fields": ["bars.close", "bars.close"]}, "different fields"),
        ({"fields": ["bars close"]}, r"kind\.field"),
        ({"fields": ["bars.close~7d"]}, "no age for bars"),
        ({"symbols": []}, "different symbols"),
        ({"start": at(3)}, "start before end"),
        ({"end": datetime(2025, 7, 1)}, "time zone"),  # noqa: DTZ001 - a naive instant is the point
        ({"interval": "7m"}, "interval"),
        ({"time_zone": "Mars/Olympus"}, "IANA"),
        ({"calendar": "XMARS"}, "calendar"),
        ({"missing": "zero"}, "missing"),
        ({"missing": "previous"}, "fill_bars"),
        ({"fill_bars": 3}, "fill_bars"),
        (
            {"start": datetime(1970, 1, 1, tzinfo=UTC), "interval": "1m", "end": datetime(2099, 1, 1, tzinfo=UTC)},
            "bars",
        ),
        ({"start": datetime(2020, 1, 1, tzinfo=UTC), "symbols": [f"S{i}" for i in range(1_000)]}, "cells"),
    ],
)
def test_question_that_cannot_be_answered_says_what_to_change(choice: dict[str, object], message: str) -> None:
    library = memory_library()
    put_bars(library, {"BTCUSDT": [100.0]})
    asked = {"symbols": ["BTCUSDT"], "start": T0, "end": at(2), "fields": ["bars.close"]} | choice

    with pytest.raises(ValueError, match=message):
        library.get_data("binance.perp", **asked)  # type: ignore[arg-type]


def test_unknown_metric_is_refused_with_the_list_of_known_ones() -> None:
    with pytest.raises(KeyError, match=r"bars\.volume"):
        memory_library().get_data("binance.perp", ["BTCUSDT"], T0, at(2), ["bars.vwap"])


def test_range_without_any_row_is_refused_because_its_origin_would_be_unknown() -> None:
    with pytest.raises(Refused, match="no_data"):
        memory_library().get_data("binance.perp", ["BTCUSDT"], T0, at(2), ["bars.close"])


def test_field_text_and_reference_are_one_another() -> None:
    ref = FieldRef(metric="macro.value", market="us.macro", symbol="VIX", max_age_s=7 * 86_400)

    assert parse_field("macro.value@us.macro:VIX~7d") == ref
    assert parse_field(ref.name) == ref


def test_panel_of_all_bar_fields_is_the_panel_of_the_store(library: DataLibrary) -> None:
    put_bars(library, {"BTCUSDT": [100.0, np.nan, 102.0]})
    fields = [f"bars.{name}" for name in ("open", "high", "low", "close", "volume")]

    panel = library.get_data("binance.perp", ["BTCUSDT"], T0, at(3), fields, as_of=at(9)).bars()

    stored = library.bars.read(
        market="binance.perp", interval="5m", symbols=["BTCUSDT"], start=T0, end=at(3), as_of=at(9), revisions="latest"
    )
    assert stored is not None
    np.testing.assert_array_equal(panel.close, stored.close)
    np.testing.assert_array_equal(panel.closed_at, stored.closed_at)


def test_inputs_of_the_feature_engine_go_by_its_names() -> None:
    library = memory_library()
    put_bars(library, {"BTCUSDT": [100.0]})
    put_rows(library, "funding", [_funding(1, 0.01)])
    fields = ["bars.close", "bars.close@binance.perp:BTCUSDT", f"{_FUNDING}@binance.perp"]

    panel = library.get_data("binance.perp", ["BTCUSDT"], T0, at(1), fields)

    assert {name: values.item() for name, values in panel.inputs().items()} == {"close": 100.0, "funding_rate": 0.01}
    twice = library.get_data("binance.perp", ["BTCUSDT"], T0, at(1), [*fields, _FUNDING])
    with pytest.raises(ValueError, match="one field for the input funding_rate"):
        twice.inputs()


def test_a_series_for_all_symbols_is_the_input_of_its_name_and_no_other() -> None:
    library = memory_library()
    put_bars(library, {"BTCUSDT": [100.0], "ETHUSDT": [10.0]})
    for series, value in (("VIX", 20.0), ("SP500", 5_000.0)):
        known = {"event_at": at(1) - timedelta(days=1), "known_at": at(1) - timedelta(hours=9)}
        put_rows(library, "macro", [known | {"symbol": series, "value": value}], market="us.macro")
    fields = ["bars.close", "macro.value@us.macro:VIX", "macro.value@us.macro:SP500", "macro.value@crypto.macro:VIX"]

    panel = library.get_data("binance.perp", ["BTCUSDT", "ETHUSDT"], T0, at(1), fields)

    assert panel.inputs().keys() == {"close", "vix"}
    assert panel.inputs()["vix"].tolist() == [[20.0, 20.0]]


@pytest.mark.parametrize(
    ("market", "found"), [(TEXT_MARKET, {"close", "text_heat"}), ("text.000000000000", {"close"}), (None, {"close"})]
)
def test_texts_of_another_pipeline_are_no_input(market: str | None, found: set[str]) -> None:
    fields = (FieldRef(metric="bars.close"), FieldRef(metric="text_state.posts_heat_1h", market=market))
    query = Query(market="binance.perp", symbols=("BTCUSDT",), start=T0, end=at(1), fields=fields)

    assert engine_inputs(query).keys() == found


_EVENTS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 15), st.floats(-0.4, 0.4)), min_size=1, max_size=12
)  # event step, steps until known, value


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events=_EVENTS, as_of_step=st.integers(1, 30))
def test_what_becomes_known_after_as_of_never_changes_an_answer(
    events: list[tuple[int, int, float]], as_of_step: int
) -> None:
    everything, only_known = memory_library(), memory_library()
    for library, limit in ((everything, 10**6), (only_known, as_of_step)):
        _fill(library, events, limit=limit)
    asked = ("binance.perp", ["BTCUSDT"], T0, at(24), [_FUNDING, "bars.close"])

    seen, possible = (library.get_data(*asked, as_of=at(as_of_step)) for library in (everything, only_known))

    for name in (_FUNDING, "bars.close"):
        np.testing.assert_array_equal(seen.values[name], possible.values[name])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events=_EVENTS, row=st.integers(1, 24))
def test_row_of_a_metric_does_not_change_with_what_becomes_known_after_it(
    events: list[tuple[int, int, float]], row: int
) -> None:
    everything, only_known = memory_library(), memory_library()
    for library, limit in ((everything, 10**6), (only_known, row)):
        _fill(library, events, limit=limit)

    seen, possible = (
        library.get_data("binance.perp", ["BTCUSDT"], T0, at(24), ["bars.close", _FUNDING], as_of=at(40)).values[
            _FUNDING
        ][:row]
        for library in (everything, only_known)
    )

    np.testing.assert_array_equal(seen, possible)


def _fill(library: DataLibrary, events: list[tuple[int, int, float]], *, limit: int) -> None:
    """Store bars and events as they became known up to a step; repeated events are revisions."""
    put_bars(library, {"BTCUSDT": [float(i) for i in range(1, min(24, limit) + 1)]})
    n_seen: dict[int, int] = {}
    for event, delay, rate in sorted(events, key=lambda row: row[0] + row[1]):
        revision = n_seen.get(event, 0)
        n_seen[event] = revision + 1
        if event + delay <= limit:
            put_rows(library, "funding", [_funding(event, rate, known=event + delay, revision=revision)])


def test_instants_of_another_zone_mean_the_same_question(library: DataLibrary) -> None:
    put_bars(library, {"BTCUSDT": [100.0]})
    tokyo = timedelta(hours=9)

    here = library.get_data("binance.perp", ["BTCUSDT"], T0, at(1), ["bars.close"])
    there = library.get_data(
        "binance.perp", ["BTCUSDT"], *(_in_zone(instant, tokyo) for instant in (T0, at(1))), ["bars.close"]
    )

    assert here.query.canonical() == there.query.canonical()


def _in_zone(instant: datetime, offset: timedelta) -> datetime:
    from datetime import timezone

    return instant.astimezone(UTC).astimezone(timezone(offset))
