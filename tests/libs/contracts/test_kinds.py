"""The metric dictionary: consistent in itself, and the only list."""

from __future__ import annotations

import math

import pytest

from qraft_contracts.kinds import BASE_COLUMNS, KINDS, SERIES, STATE_INPUTS, Kind, metric

TYPES = {"float64", "int64", "bool", "utf8", "list<float64>"}
ALL = list(KINDS.values())


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_kind_is_whole_and_its_columns_are_told_apart(kind: Kind) -> None:
    columns = [name for name, _ in BASE_COLUMNS] + list(kind.field_names)

    assert len(set(columns)) == len(columns) and kind.fields
    assert kind.what and kind.known and kind.name.isidentifier()
    assert all(field.type in TYPES and field.name.isidentifier() for field in kind.fields)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_bounds_leave_room_and_only_numbers_have_them(kind: Kind) -> None:
    for field in kind.fields:
        assert field.low < field.high
        is_number = field.type in ("float64", "int64", "list<float64>")
        assert is_number or (math.isinf(field.low) and math.isinf(field.high))
        if field.type == "float64":
            assert math.isfinite(field.low) and math.isfinite(field.high) and field.unit, f"{field.name} has no bounds"


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_pairs_name_fields_that_can_be_compared(kind: Kind) -> None:
    by_name = {field.name: field for field in kind.fields}
    for pair in kind.same_length:
        assert all(by_name[name].type == "list<float64>" and by_name[name].is_required for name in pair)
    for pair in kind.at_most:
        assert all(by_name[name].type == "float64" and by_name[name].is_required for name in pair)
    assert not any((high, low) in kind.at_most for low, high in kind.at_most)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_times_of_a_kind_fit_together(kind: Kind) -> None:
    assert kind.cadence_s is None or kind.stale_after_s is None or kind.stale_after_s > kind.cadence_s
    assert kind.cadence_s is None or not kind.has_row_id, "what comes on a grid is named by symbol and instant"
    assert all(name in KINDS and name != kind.name for name in kind.derived_from)
    assert 1900 <= kind.first_year <= 1971


def test_bars_of_every_kind_know_low_from_high() -> None:
    for name in ("bars", "mark_price"):
        assert ("low", "close") in KINDS[name].at_most and ("open", "high") in KINDS[name].at_most
    assert ("ask_low", "ask_open") in KINDS["quote_bars"].at_most


def test_metric_is_found_by_kind_and_field() -> None:
    kind, field = metric("funding.funding_rate")

    assert (kind.name, field.name, field.high) == ("funding", "funding_rate", 0.5)


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("funding.rate", r"funding\.funding_rate"),
        ("funding", r"funding\.period_hours"),
        ("fund.rate", "basis"),
        ("", "macro"),
    ],
)
def test_unknown_metric_is_refused_with_what_there_is(name: str, there: str) -> None:
    with pytest.raises(KeyError, match=there):
        metric(name)


def test_state_inputs_are_metrics_that_are_numbers() -> None:
    for state in STATE_INPUTS.values():
        assert metric(f"{state.kind}.{state.field}")[1].type == "float64"


# How a kind reaches a model that is no state input and no source of one.
OTHER_WAYS = {
    "bars": "the five inputs of every bar",
    "quote_bars": "the rate of a currency (qraft_data.currency)",
    "post_engagement": "text features",
    "corporate_actions": "adjustment of bars",
    "futures_contracts": "continuous futures",
    "option_quotes": "the options panel",
}


def test_every_kind_has_a_way_into_features() -> None:
    states = {state.kind for state in STATE_INPUTS.values()}
    sources = {source for kind in ALL if kind.name in states for source in kind.derived_from}

    assert {kind.name for kind in ALL} - states - sources - OTHER_WAYS.keys() == set()
    assert OTHER_WAYS.keys() & states == set()


def test_a_state_is_of_each_symbol_or_one_named_series_for_all() -> None:
    for name, state in STATE_INPUTS.items():
        assert (name.isidentifier() and (state.market is None) == (state.symbol is None)) or state.kind == "text_state"
        if state.kind in ("macro", "onchain"):
            assert state.symbol in SERIES
    assert KINDS["liquidation_flow"].stale_after_s is not None and KINDS["liquidation_flow"].stale_after_s < 300


def test_no_input_is_the_open_or_close_of_another_market() -> None:
    """A price level says nothing that a return does not say better: prices enter as fractions of prices."""
    units = {name: metric(f"{state.kind}.{state.field}")[1].unit for name, state in STATE_INPUTS.items()}

    assert [name for name, unit in units.items() if unit == "quote currency"] == [
        "trade_notional",
        "taker_buy_notional",
    ]
