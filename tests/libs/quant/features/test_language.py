"""What a person writes: expressions, their errors, and the signature of what they mean."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qraft_contracts import kinds
from qraft_quant.features import (
    CORE,
    FULL,
    OPERATORS,
    STATE_INPUTS,
    ExpressionError,
    FeatureSet,
    FeatureSpec,
    feature_set,
    operators,
)
from qraft_quant.features.expression import canonical, parse
from qraft_quant.features.operators import MADE_BY


def spec(expression, *, name="f", version=1):
    return FeatureSpec(name, "t", expression, version)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("log(close)-mean( log(close),48 )", "log(close) - mean(log(close), 48)"),
        ("(high+low)/2", "(high + low) / 2"),
        ("high+(low/2)", "high + low / 2"),
        ("high-(low-open)", "high - (low - open)"),
        ("(high-low)-open", "high - low - open"),
        ("-(close)", "0 - close"),
        ("std(r,2*6)*sqrt(16)", "std(r, 12) * 4"),
        ("clip(r, -1, 1e-3)", "clip(r, -1, 0.001)"),
        ("close * -2", "close * (-2)"),
        ("mean(r > 0, 12)", "mean(r > 0, 12)"),
    ],
)
def test_an_expression_has_one_canonical_form_that_reads_back_as_itself(text, expected):
    assert canonical(parse(text)) == expected
    assert canonical(parse(expected)) == expected
    assert parse(expected) == parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mean(close, 1)", r"expected n of mean within \[2, 2016\], received 1"),
        ("mean(close, 4000)", r"within \[2, 2016\], received 4000"),
        ("mean(close, 2.5)", "expected a whole number for n of mean, received 2.5"),
        ("mean(close)", r"expected 2 arguments, mean\(x, n\), received 1"),
        ("mean(close, n=4)", "without names"),
        ("mean(close, volume)", "parameters are constants"),
        ("mean(cloze, 12)", "expected a series out of .*close.*, received cloze"),
        ("meen(close, 12)", "expected an operator out of .*mean.*, received meen"),
        ("close ** 2", "other syntax"),
        ("close.real", "other syntax"),
        ("__import__('os')", "expected an operator"),
        ("close if r else open", "other syntax"),
        ("[close][0]", "other syntax"),
        ("close > open > low", "other syntax"),
        ("'close'", "expected a finite number, received 'close'"),
        ("True", "expected a finite number"),
        ("close +", "expected an expression such as"),
        ("", "expected an expression such as"),
        ("1e999 * close", "expected a finite number"),
        ("1 + 2", "expected an expression over an input"),
        ("-" * 60 + "close", "expected at most 40 levels"),
        ("close + " * 200 + "close", "expected at most 1000 characters"),
        ("lag(close, 0)", r"within \[1, 2016\], received 0"),
        ("lag(close, -3)", "received -3: choose|received -3, in"),
    ],
)
def test_what_is_no_expression_is_refused_with_what_was_expected(text, message):
    with pytest.raises(ExpressionError, match=message):
        spec(text)


@given(st.text(alphabet="close(),+-*/<>. 0123456789rmean[]'\"\n", max_size=60))
def test_any_text_is_an_expression_or_an_error_of_ours(text):
    try:
        tree = parse(text)
    except ExpressionError:
        return
    assert canonical(parse(canonical(tree))) == canonical(tree)


@pytest.mark.parametrize(("name", "family"), [("Bad", "t"), ("ok", ""), ("1st", "t"), ("a" * 80, "t")])
def test_a_name_that_no_column_can_have_is_refused(name, family):
    with pytest.raises(ValueError, match="expected a name and a family"):
        FeatureSpec(name, family, "close")


@pytest.mark.parametrize("features", [(), (spec("close"), spec("open"))], ids=["none", "one name twice"])
def test_a_set_without_or_with_ambiguous_names_is_refused(features):
    with pytest.raises(ValueError, match="distinct features"):
        FeatureSet("s", features)


def test_a_set_that_is_not_there_is_named_with_those_that_are():
    assert feature_set("core") is CORE
    with pytest.raises(ValueError, match="out of core, full, received 'best'"):
        feature_set("best")


@pytest.mark.parametrize(
    ("expression", "window"),
    [
        ("close", 1), ("r", 2), ("lag(r, 3)", 5), ("mean(r, 48)", 49), ("std(mean(r, 12), 288)", 300),
        ("delta(log(close), 2016)", 2017), ("quantile(close, 48, 0.5)", 48), ("rank(r, 48)", 49),
        ("ema(close, 12, 256)", 256), ("frac_diff(close, 0.5, 6)", 6), ("cross_rank(std(r, 288))", 289),
        ("fill(zscore(funding_rate, 100), 0)", 100), ("hour_sin()", 1),
    ],
)  # fmt: skip
def test_the_window_is_what_an_expression_reads(expression, window):
    assert spec(expression).window == window


def test_the_inputs_are_what_an_expression_reads():
    assert spec("q + fill(basis_frac, 0)").inputs == {"volume", "close", "basis_frac"}
    assert spec("typical").inputs == {"high", "low", "close"}
    assert FeatureSet("s", (spec("fill(basis_frac, 0)"),)).inputs == (
        "open", "high", "low", "close", "volume", "basis_frac",
    )  # fmt: skip


def test_the_signature_names_whatever_changes_the_numbers(monkeypatch):
    def signature(expression="mean(r, 12)", *, name="f", version=1, interval="5m", more=()):
        return FeatureSet("s", (spec(expression, name=name, version=version), *more)).signature(interval)

    base = signature()
    assert len(base) == 64
    assert signature("mean( r,12)") == base
    more = (spec("close", name="g"),)
    others = [
        signature("mean(r, 13)"), signature("sum(r, 12)"), signature(name="g"), signature(version=2),
        signature(interval="1h"), signature(more=more),
        FeatureSet("s", (*more, spec("mean(r, 12)"))).signature("5m"),
    ]  # fmt: skip
    assert len({base, *others}) == len(others) + 1
    assert FeatureSet("other name", (spec("mean(r, 12)"),)).signature("5m") == base

    changed = operators.Operator("mean", ("x",), "mean of n bars", OPERATORS["mean"].parameters, version=2)
    monkeypatch.setitem(operators.OPERATORS, "mean", changed)
    assert signature("mean(r, 12) + 0") != base
    assert FeatureSpec("f", "t", "mean(r, 12)").signature != spec("mean(r, 13)").signature


def test_a_formula_inside_a_formula_is_part_of_the_signature(monkeypatch):
    before = spec("atr(high, low, close, 14)").signature
    inner = operators.Operator("true_range", ("high", "low", "close"), "high - low", is_formula=True)
    monkeypatch.setitem(operators.OPERATORS, "true_range", inner)

    assert spec("atr(high, low, close, 14)").signature != before


def test_the_domains_are_json_schemas_that_hold_their_own_use():
    for operator in OPERATORS.values():
        for schema in operator.parameters.values():
            assert set(schema) == {"type", "minimum", "maximum"} and schema["minimum"] < schema["maximum"]


def test_an_operator_has_one_schema_and_a_signature_over_all_that_changes_its_numbers(monkeypatch):
    mean, before = OPERATORS["mean"], OPERATORS["mean"].signature
    assert mean.schema["properties"] == {"n": {"type": "integer", "minimum": 2, "maximum": 2016}}
    assert mean.schema["required"] == ["n"] and mean.schema["additionalProperties"] is False
    assert OPERATORS["log"].schema["properties"] == {}
    assert len({operator.signature for operator in OPERATORS.values()}) == len(OPERATORS)
    for change in ({"formula": "other"}, {"version": 2}, {"parameters": {}}):
        assert dataclasses.replace(mean, **change).signature != before


def test_every_state_input_is_read_and_flagged_and_never_left_missing():
    """A state may be missing: its features are filled, and a flag that reads it stands beside them."""
    by_input = {name: [f for f in FULL.features if name in f.inputs] for name in STATE_INPUTS}

    assert all(by_input.values())
    for name, features in by_input.items():
        assert any(f.formula.startswith("missing(") for f in features), f"{name} has no flag"
        for f in features:
            assert "fill(" in f.formula or f.formula.startswith("missing("), f"{f.name} is missing where {name} is"


def test_a_flow_of_five_minutes_is_never_set_against_the_bar_it_is_joined_to():
    """Its interval is its own: against the volume or the return of an hour's bar it would mean another thing."""
    flows = {name for name, state in kinds.STATE_INPUTS.items() if state.kind in (
        "book_state", "trade_flow", "liquidation_flow", "taker_volume", "mark_premium")}  # fmt: skip

    assert len(flows) == 16
    assert [f.name for f in FULL.features if f.inputs & flows and f.inputs - flows] == []


def test_the_inputs_are_those_that_a_bar_message_may_carry():
    assert tuple(kinds.STATE_INPUTS) == STATE_INPUTS


def test_texts_of_another_pipeline_are_other_features(monkeypatch):
    """Its rows lie in another market and its sentiment means something else: a model of before is refused."""
    of_texts = [name for name, state in kinds.STATE_INPUTS.items() if state.kind == "text_state"]
    assert dict.fromkeys(of_texts, kinds.TEXT_SIGNATURE) == MADE_BY
    assert {kinds.STATE_INPUTS[name].market for name in of_texts} == {kinds.TEXT_MARKET}

    def signatures():
        return [FeatureSpec("x", "mine", f"fill({it}, 0)").signature for it in ("text_heat", "vix")]

    text, vix = signatures()
    monkeypatch.setitem(MADE_BY, "text_heat", "another")
    assert signatures()[0] != text and signatures()[1] == vix


def test_the_signatures_of_today():
    # They change whenever a name, an order, a formula, a window or a version does: models of before are refused then.
    assert CORE.signature("5m") == "652a40b6e3ab87a5f2d0d3652e382af59ee89678054e38c26d11231f33198939"
    assert FULL.signature("5m") == "6cc3693c4da3181ad0bee50b612cbc5f5d95686b59e88434b295f4a91850442e"


def test_core_is_the_first_release_and_full_holds_it():
    assert len(CORE.names) == 44
    assert {feature.family for feature in CORE.features} == {
        "trend", "momentum", "volatility", "volume", "position", "candle", "rank",
    }  # fmt: skip
    assert len(FULL.names) >= 150
    assert FULL.features[:44] == CORE.features
    assert {feature.family for feature in FULL.features} >= {
        "distribution", "quantile", "memory", "score", "microstructure", "derivatives", "calendar", "order_book",
        "trades", "macro", "onchain", "text",
    }  # fmt: skip
    assert CORE.warm_up_bars == FULL.warm_up_bars == 2016
