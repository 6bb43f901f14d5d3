"""One bar's features to one Signals a horizon, always four of them and always in the order of HORIZONS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from qraft_contracts.origin import worst_origin
from qraft_contracts.outcomes import Refused
from qraft_contracts.signals import RefusedRow, SignalRow, Signals
from qraft_contracts.subjects import HORIZONS
from qraft_frames.features import FeatureBatch
from svc_inference.domain.board import Board, Seat
from svc_inference.domain.judge import (
    NAN_INPUT,
    BoolArray,
    bar_fault,
    finite_rows,
    good_outputs,
    model_fault,
    output_fault,
)
from svc_inference.domain.model import N_OUTPUTS, N_PER_HORIZON, ModelInfo
from svc_inference.ports import Float32Array, Model

# A horizon that nobody answers for has neither a cost nor a bucket; no row is there to use them.
NO_BUCKET: Final = "none"
_NO_COLUMNS: Final[Sequence[Sequence[float]]] = ((),) * N_OUTPUTS


@dataclass(frozen=True, slots=True)
class Answer:
    """
    One model's answer for the usable rows of one bar, or why there is none.

    outputs: (n_rows, N_OUTPUTS). columns: the same by column, as lists. good: (n_rows, N_OUTPUTS), None = all are.
    """

    fault: str | None = None
    outputs: Float32Array | None = None
    columns: Sequence[Sequence[float]] = _NO_COLUMNS
    good: BoolArray | None = None


@dataclass(frozen=True, slots=True)
class Usable:
    """The rows with finite input, x: (n_rows, n_features), and the symbols of the others as refused rows."""

    symbols: tuple[str, ...]
    x: Float32Array
    refused: tuple[RefusedRow, ...]


def infer(batch: FeatureBatch, board: Board[Model], *, now: datetime, age_max: timedelta) -> list[Signals]:
    """
    Return the signals of every horizon for one bar; each distinct model is asked once.

    A horizon whose model may not answer has no rows and a reason. A symbol that may not be judged is named in
    `refused` with its reason; where that leaves no row at all, the commonest of them is the message's reason too.
    """
    fault = bar_fault(batch, now=now, age_max=age_max)
    usable = _usable(batch)
    answers: dict[str, Answer] = {}
    signals = []
    for index, horizon in enumerate(HORIZONS):
        seat = board.seat(horizon)
        if fault or seat.model is None:
            signals.append(_signals(batch, horizon, seat, reason=fault or seat.reason))
            continue
        model_id = seat.model.info.model_id
        if model_id not in answers:
            answers[model_id] = _ask(seat.model, batch, usable.x)
        answer = answers[model_id]
        if answer.fault:
            signals.append(_signals(batch, horizon, seat, reason=answer.fault))
            continue
        rows, refused = _rows(answer, index * N_PER_HORIZON, usable)
        reason = None if rows else _commonest(refused)
        signals.append(_signals(batch, horizon, seat, rows=rows, refused=refused, reason=reason))
    return signals


def refusals(signals: Sequence[Signals]) -> Counter[str]:
    """Return how often each reason turned something away: a whole horizon, or one symbol of it."""
    counts: Counter[str] = Counter()
    for message in signals:
        if message.refused:
            counts.update(row.reason for row in message.refused)
        elif message.reason:
            counts[message.reason] += 1
    return counts


def _usable(batch: FeatureBatch) -> Usable:
    if np.isfinite(batch.values).all():
        return Usable(batch.symbols, batch.values, ())
    finite = finite_rows(batch.values)
    kept = tuple(symbol for symbol, ok in zip(batch.symbols, finite, strict=True) if ok)
    refused = tuple(RefusedRow(symbol, NAN_INPUT) for symbol, ok in zip(batch.symbols, finite, strict=True) if not ok)
    return Usable(kept, batch.values[finite], refused)


def _ask(model: Model, batch: FeatureBatch, x: Float32Array) -> Answer:
    fault = model_fault(model.info, batch)
    if fault or not len(x):
        return Answer(fault)
    try:
        outputs = model.predict(x)
    except Refused as error:
        return Answer(error.reason)
    good = good_outputs(outputs)
    # One transposition to lists for all horizons: with a loop over rows 500 symbols cost 2 ms, so 0.4.
    return Answer(None, outputs, outputs.T.tolist(), None if good.all() else good)


def _rows(answer: Answer, first: int, usable: Usable) -> tuple[tuple[SignalRow, ...], tuple[RefusedRow, ...]]:
    """Return the signal rows and the refused ones of the horizon whose columns begin at `first`."""
    until = first + N_PER_HORIZON
    rows = tuple(map(SignalRow, usable.symbols, *answer.columns[first:until]))
    if answer.good is None or answer.outputs is None:
        return rows, usable.refused
    good = np.asarray(answer.good[:, first:until].all(axis=1))
    outputs = answer.outputs[:, first:until]
    refused = tuple(RefusedRow(usable.symbols[i], output_fault(outputs[i])) for i in np.flatnonzero(~good))
    return tuple(row for row, ok in zip(rows, good, strict=True) if ok), usable.refused + refused


def _commonest(refused: Sequence[RefusedRow]) -> str:
    return Counter(row.reason for row in refused).most_common(1)[0][0]


def _signals(
    batch: FeatureBatch,
    horizon: str,
    seat: Seat[Model],
    *,
    rows: tuple[SignalRow, ...] = (),
    refused: tuple[RefusedRow, ...] = (),
    reason: str | None,
) -> Signals:
    info: ModelInfo | None = seat.model.info if seat.model else None
    return Signals(
        market=batch.market,
        interval=batch.interval,
        horizon=horizon,
        as_of=batch.as_of,
        origin=worst_origin((batch.origin, info.origin)) if info else batch.origin,
        model_id=seat.model_id,
        feature_signature=batch.signature,
        bucket=info.buckets[horizon] if info else NO_BUCKET,
        cost=info.costs[horizon] if info else 0.0,
        rows=rows,
        refused=refused,
        reason=reason,
    )
