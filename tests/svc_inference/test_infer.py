"""What leaves for what came in: the decision table of inference, on real ONNX models."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from tests.libs.registry.kit import manifest_of
from tests.svc_inference.kit import AS_OF, BASE, SYMBOLS, make_batch, make_model, metadata

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Refused
from qraft_contracts.subjects import HORIZONS
from svc_inference.adapters.onnx import OnnxModel, open_model
from svc_inference.domain.board import Board, Seat
from svc_inference.ports import Model
from svc_inference.usecases.infer import infer, refusals

AGE_MAX = timedelta(minutes=10)


def load(data: bytes | None = None, **manifest: Any) -> OnnxModel:
    data = make_model() if data is None else data
    return open_model(data, manifest=manifest_of(data, {}, **manifest), n_threads=1)


def board_of(model: Model, horizons: tuple[str, ...] = HORIZONS) -> Board[Model]:
    return Board({horizon: Seat(model.info.model_id, model, None) for horizon in horizons})


def with_output(column: int, value: float) -> bytes:
    base = list(BASE)
    base[column] = value
    return make_model(base=base)


def test_good_bar_gives_every_symbol_a_row_in_every_horizon_in_order() -> None:
    model = load()

    signals = infer(make_batch([[0, 0], [1, 0], [-1, 0]]), board_of(model), now=AS_OF, age_max=AGE_MAX)

    assert [s.horizon for s in signals] == list(HORIZONS)
    assert all(tuple(row.symbol for row in s.rows) == SYMBOLS and not s.refused and not s.reason for s in signals)
    one_day = signals[2]
    assert (one_day.model_id, one_day.bucket, one_day.cost) == (model.info.model_id, "trend", 0.0031)
    rows = [(row.expected_return, row.confidence, row.volatility) for row in one_day.rows]
    np.testing.assert_allclose(rows, [(0.03, 0.7, 0.04), (0.04, 0.7, 0.05), (0.02, 0.7, 0.03)], rtol=1e-6)


def test_no_active_model_gives_four_empty_messages_with_the_reason() -> None:
    signals = infer(make_batch(), Board(), now=AS_OF, age_max=AGE_MAX)

    assert [(s.rows, s.reason, s.model_id) for s in signals] == [((), "no_active_model", None)] * 4


def test_horizon_without_a_model_does_not_silence_the_others() -> None:
    signals = infer(make_batch(), board_of(load(), ("1h", "7d")), now=AS_OF, age_max=AGE_MAX)

    assert [s.reason for s in signals] == [None, "no_active_model", "no_active_model", None]


def test_refused_model_is_named_with_its_reason() -> None:
    board: Board[Model] = Board({"4h": Seat("m1", None, "artefact_hash_mismatch")})

    signals = infer(make_batch(), board, now=AS_OF, age_max=AGE_MAX)

    assert (signals[1].model_id, signals[1].reason) == ("m1", "artefact_hash_mismatch")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_symbol_with_nan_or_infinite_input_is_refused_and_the_others_are_not(value: float) -> None:
    signals = infer(make_batch([[0, 0], [0, value], [0, 0]]), board_of(load()), now=AS_OF, age_max=AGE_MAX)

    for message in signals:
        assert [row.symbol for row in message.rows] == ["BTCUSDT", "SOLUSDT"]
        assert [(r.symbol, r.reason) for r in message.refused] == [("ETHUSDT", "nan_input")]
    assert refusals(signals) == {"nan_input": 4}


def test_bar_of_nothing_but_nan_has_no_rows_and_says_why() -> None:
    signals = infer(make_batch(np.full((3, 2), np.nan)), board_of(load()), now=AS_OF, age_max=AGE_MAX)

    assert [(s.rows, s.reason, len(s.refused)) for s in signals] == [((), "nan_input", 3)] * 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"signature": "other"}, "signature_mismatch"), ({"names": ("b", "a")}, "feature_names_mismatch")],
)
def test_features_that_the_model_was_not_trained_on_are_refused(changes: dict[str, Any], reason: str) -> None:
    signals = infer(make_batch(**changes), board_of(load()), now=AS_OF, age_max=AGE_MAX)

    assert [(s.rows, s.reason) for s in signals] == [((), reason)] * 4
    assert refusals(signals) == {reason: 4}


@pytest.mark.parametrize(
    ("age", "origin", "reason"),
    [
        (timedelta(minutes=10), Origin.REAL, None),
        (timedelta(minutes=10, seconds=1), Origin.REAL, "stale_input"),
        (timedelta(days=400), Origin.REPLAY, None),
        (timedelta(days=400), Origin.SIMULATED, None),
        (timedelta(seconds=-6), Origin.REAL, "future_input"),
        (timedelta(seconds=-5), Origin.REAL, None),
    ],
)
def test_real_features_have_an_age_and_replayed_ones_have_none(
    age: timedelta, origin: Origin, reason: str | None
) -> None:
    signals = infer(make_batch(origin=origin), board_of(load()), now=AS_OF + age, age_max=AGE_MAX)

    assert {s.reason for s in signals} == {reason}


@pytest.mark.parametrize(
    ("message", "model", "expected"),
    [
        (Origin.REAL, Origin.REAL, Origin.REAL),
        (Origin.REAL, Origin.REPLAY, Origin.REPLAY),
        (Origin.REPLAY, Origin.REAL, Origin.REPLAY),
        (Origin.SIMULATED, Origin.REPLAY, Origin.SIMULATED),
    ],
)
def test_worst_origin_of_features_and_model_wins(message: Origin, model: Origin, expected: Origin) -> None:
    loaded = load(make_model(props=metadata(origin=model.value)), origin=model)

    signals = infer(make_batch(origin=message), board_of(loaded), now=AS_OF, age_max=AGE_MAX)

    assert {s.origin for s in signals} == {expected}


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        (3, np.nan, "nan_output"),
        (3, np.inf, "nan_output"),
        (3, 1.1, "output_out_of_range"),
        (3, -1.1, "output_out_of_range"),
        (4, 1.0001, "output_out_of_range"),
        (4, -0.0001, "output_out_of_range"),
        (4, np.nan, "nan_output"),
        (5, 0.0, "output_out_of_range"),
        (5, -0.01, "output_out_of_range"),
        (5, 5.1, "output_out_of_range"),
        (5, np.inf, "nan_output"),
    ],
)
def test_output_that_cannot_be_is_refused_in_its_horizon_only(column: int, value: float, reason: str) -> None:
    signals = infer(make_batch(), board_of(load(with_output(column, value))), now=AS_OF, age_max=AGE_MAX)

    assert [s.reason for s in signals] == [None, reason, None, None]
    assert [row.reason for row in signals[1].refused] == [reason] * 3
    assert [len(s.rows) for s in signals] == [3, 0, 3, 3]


def test_one_bad_output_row_is_refused_and_the_others_are_kept() -> None:
    # a = 99 moves the expected return of 1h from 0.01 to 1.0 and of the others beyond the bound of 1.
    signals = infer(make_batch([[0, 0], [99, 0], [0, 0]]), board_of(load()), now=AS_OF, age_max=AGE_MAX)

    assert [[row.symbol for row in s.rows] for s in signals][1:] == [["BTCUSDT", "SOLUSDT"]] * 3
    assert [[r.symbol for r in s.refused] for s in signals][1:] == [["ETHUSDT"]] * 3


def test_the_same_bar_gives_the_same_signals() -> None:
    batch, board = make_batch([[0.3, 0], [1, 0], [-1, 0]]), board_of(load())

    assert infer(batch, board, now=AS_OF, age_max=AGE_MAX) == infer(batch, board, now=AS_OF, age_max=AGE_MAX)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "unloadable_model"),
        (b"no onnx", "unloadable_model"),
        (make_model()[:-200], "unloadable_model"),
        (make_model(props={}), "bad_metadata"),
        (make_model(props=metadata(costs="not json")), "bad_metadata"),
        (make_model(props=metadata(costs='{"1h": 0.1}')), "bad_metadata"),
        (make_model(props=metadata(horizons='["1h", "4h"]')), "bad_metadata"),
        (make_model(props=metadata(origin="guessed")), "bad_metadata"),
        (make_model(props=metadata(feature_signature="other")), "signature_mismatch"),
        (make_model(props=metadata(origin="real")), "origin_mismatch"),
        (make_model(props=metadata(feature_names=json.dumps(["a", "b", "c"]))), "wrong_input_shape"),
        (make_model(input_name="input"), "wrong_ports"),
        (make_model(output_name="output"), "wrong_ports"),
        (make_model(n_outputs=9), "wrong_output"),
    ],
)
def test_model_that_is_not_what_it_must_be_does_not_load(data: bytes, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        load(data)


def test_model_trained_on_simulated_data_does_not_load() -> None:
    data = make_model(props=metadata(origin="simulated"))

    with pytest.raises(Refused, match="simulated_model"):
        load(data, origin=Origin.SIMULATED)
