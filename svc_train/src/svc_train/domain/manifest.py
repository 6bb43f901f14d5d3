"""The recipe of a model, complete enough to make the same bytes again. It holds no wall clock."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np

from qraft_contracts.origin import Origin
from qraft_quant.costs import CostModel
from qraft_registry.artefacts import Readiness
from qraft_store.bars.port import BarPanel
from svc_train.domain.config import TrainConfig
from svc_train.domain.folds import Plan
from svc_train.domain.forecasts import Forecasts, HorizonReport
from svc_train.domain.panel import TrainingData
from svc_train.domain.samples import FloatArray
from svc_train.domain.targets import HorizonTargets


class DataSnapshot(msgspec.Struct, frozen=True):
    """
    Which data trained. first_closed_at and last_closed_at are inclusive; sha256 is of every value on the grid.

    snapshot_id, snapshot_sha256: the snapshot in the artefact store that holds them, and the SHA-256 of its record.
    state: each input beside the bars, and the field of the dictionary that it was; those without a value among them.
    """

    market: str
    interval: str
    symbols: tuple[str, ...]
    origin: Origin
    first_closed_at: datetime
    last_closed_at: datetime
    n_bars: int
    n_rows: int
    sha256: str
    snapshot_id: str
    snapshot_sha256: str
    state: dict[str, str]


class FoldRecord(msgspec.Struct, frozen=True):
    """One walk-forward step of one horizon, by the ends of its bars: the last training bar and the tested ones."""

    horizon: str
    fold: int
    purge_bars: int
    embargo_bars: int
    train_first: datetime
    train_last: datetime
    test_first: datetime
    test_last: datetime
    n_train_rows: int
    n_test_rows: int


class TrainManifest(msgspec.Struct, frozen=True):
    """manifest.json; qraft_registry.artefacts.Manifest names the fields that the registry reads."""

    format: str
    model_id: str
    origin: Origin
    feature_signature: str
    horizons: tuple[str, ...]
    trained_until: datetime
    files: dict[str, str]
    run_id: str
    seed: int
    config: TrainConfig
    code_revision: str
    requirements_sha256: str
    versions: dict[str, str]
    data: DataSnapshot
    readiness: Readiness
    feature_names: tuple[str, ...]
    feature_source_sha256: str
    labels: dict[str, str]
    costs: CostModel
    folds: tuple[FoldRecord, ...]
    n_train_rows: dict[str, int]
    reports: tuple[HorizonReport, ...]
    outputs: tuple[str, ...]


LABELS = {
    "expected_return": "close[t+h] / close[t] - 1 - round-trip cost of the horizon; output is gross: + cost",
    "direction": "close[t+h] / close[t] - 1 > 0",
    "volatility": "sqrt(sum over h bars of squared 1-bar log returns), learned as its natural logarithm",
    "confidence": "Platt-scaled out-of-fold log-odds of direction, of the side of the gross expected return",
}


def snapshot_of(data: TrainingData) -> DataSnapshot:
    """Return what names the data of a run: two with one sha256 hold the same values."""
    bars = data.bars
    digest = hashlib.sha256(msgspec.json.encode([bars.market, bars.interval, list(bars.symbols)]))
    digest.update(bars.closed_at.astype("datetime64[us]").astype("<i8").tobytes())
    for values in (bars.open, bars.high, bars.low, bars.close, bars.volume):
        digest.update(_canonical(values))
    for name, values in data.state.items():
        digest.update(name.encode() + _canonical(values))
    return DataSnapshot(
        market=bars.market,
        interval=bars.interval,
        symbols=bars.symbols,
        origin=bars.origin,
        first_closed_at=instant_of(bars.closed_at[0]),
        last_closed_at=instant_of(bars.closed_at[-1]),
        n_bars=int(bars.closed_at.size),
        n_rows=int(np.isfinite(bars.close).sum()),
        sha256=digest.hexdigest(),
        snapshot_id=data.snapshot_id,
        snapshot_sha256=data.snapshot_sha256,
        state=dict(data.state_fields),
    )


def fold_records(
    config: TrainConfig,
    bars: BarPanel,
    targets: Sequence[HorizonTargets],
    plan: Plan,
    forecasts: Sequence[Forecasts],
    n_train_rows: Sequence[Sequence[int]],
) -> tuple[FoldRecord, ...]:
    """Return every fold of every horizon with the ends of its bars and its numbers of rows."""
    return tuple(
        FoldRecord(
            horizon=target.horizon,
            fold=k,
            purge_bars=target.n_bars_ahead,
            embargo_bars=config.embargo_bars,
            train_first=instant_of(bars.closed_at[fold.train_start]),
            train_last=instant_of(bars.closed_at[fold.train_end - 1]),
            test_first=instant_of(bars.closed_at[fold.test_start]),
            test_last=instant_of(bars.closed_at[fold.test_end - 1]),
            n_train_rows=counts[k],
            n_test_rows=int((own.fold == k).sum()),
        )
        for target, folds, own, counts in zip(targets, plan, forecasts, n_train_rows, strict=True)
        for k, fold in enumerate(folds)
    )


def run_id_of(config: TrainConfig, costs: CostModel, data: DataSnapshot, *, code: str, feature_signature: str) -> str:
    """Return the run's id: the same recipe on the same data is the same run."""
    recipe = msgspec.json.encode([config, costs, data, code, feature_signature])
    return "t" + hashlib.sha256(recipe).hexdigest()[:16]


def instant_of(closed_at: np.datetime64) -> datetime:
    """Return a grid time as a UTC instant."""
    micros = int(closed_at.astype("datetime64[us]").astype(np.int64))
    return datetime.fromtimestamp(micros // 1_000_000, tz=UTC).replace(microsecond=micros % 1_000_000)


def _canonical(values: FloatArray) -> bytes:
    # Missing bars may carry any of the many NaNs; the hash must not see which.
    return np.ascontiguousarray(np.where(np.isnan(values), np.nan, values), dtype="<f8").tobytes()
