"""Evaluate one candidate: load, simulate, measure, write down."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import numpy as np

from qraft_contracts.origin import worst_origin
from qraft_contracts.subjects import HORIZON_SECONDS
from qraft_quant.allocation import AllocationLimits
from qraft_store.artefacts.port import ArtefactStore
from qraft_store.bars.port import BarPanel, BarStore
from svc_backtest.domain import result as written
from svc_backtest.domain.candidate import Candidate
from svc_backtest.domain.market import HorizonForecasts, Market, forecasts_by_bar, usable_market
from svc_backtest.domain.measure import measure_span, order_list, score_distribution
from svc_backtest.domain.report import render_report
from svc_backtest.domain.simulate import AccountTerms, Simulation, simulate
from svc_backtest.ports import ForecastTable, ReadForecasts

# A week of hourly returns before the first bar for correlations, and a day for the volatility of a bar.
_WARM_UP: Final = timedelta(days=8)
_JSON: Final = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True)
class Stored:
    """What a backtest left in the artefact store. folder: models/<id>/backtest/<run id>. n_bytes: of its files."""

    folder: str
    result: written.BacktestResult
    n_bytes: int


@dataclass(frozen=True, slots=True)
class _Inputs:
    candidate: Candidate
    sha256: dict[str, str]
    panel: BarPanel
    market: Market
    forecasts: tuple[HorizonForecasts, ...]
    first: int


class Backtest:
    """The walk-forward evaluation of candidates."""

    def __init__(self, *, artefacts: ArtefactStore, bars: BarStore, read_forecasts: ReadForecasts) -> None:
        self._artefacts = artefacts
        self._bars = bars
        self._read_forecasts = read_forecasts

    async def latest(self) -> str:
        """
        Return the id of the model that was trained on the newest data; of two such, the larger id.

        Raises:
            ValueError: if there is no model.
        """
        keys = [key for key in await self._artefacts.keys("models/") if key.endswith("/manifest.json")]
        found = [
            msgspec.json.decode(await self._artefacts.get(key), type=Candidate) for key in keys if key.count("/") == 2
        ]
        if not found:
            raise ValueError("expected a trained model in the artefact store, found none: run svc_train first")
        return max(found, key=lambda candidate: (candidate.trained_until, candidate.model_id)).model_id

    async def run(
        self,
        model_id: str,
        *,
        limits: AllocationLimits,
        terms: AccountTerms,
        days: int | None,
        tell: Callable[[int, int], None],
    ) -> Stored:
        """
        Evaluate a candidate and store result.json, report.html and orders.csv. The same inputs give the same bytes.

        Raises:
            ValueError: if the model, its forecasts or the bars of its period are missing or do not fit together.
            Transient: if a store is away.
        """
        inputs = await self._load(model_id, days=days)
        run = simulate(
            inputs.market,
            inputs.forecasts,
            first=inputs.first,
            limits=limits,
            costs=inputs.candidate.costs,
            terms=terms,
            tell=tell,
        )
        orders = order_list(inputs.market, run.orders)
        result = _result(inputs, run, limits=limits, terms=terms, orders_sha256=hashlib.sha256(orders).hexdigest())
        starts_s = [int(at.timestamp()) for at, _ in inputs.candidate.fold_spans if at >= result.whole.first_at]
        report = render_report(result, inputs.market, run, fold_starts_s=starts_s)
        body = msgspec.json.format(_JSON.encode(result), indent=2) + b"\n"
        folder = f"models/{model_id}/backtest/b{hashlib.sha256(body).hexdigest()[:16]}"
        files = {"orders.csv": orders, "report.html": report.encode(), "result.json": body}
        for name, data in files.items():
            await self._artefacts.put(f"{folder}/{name}", data)
        return Stored(folder, result, sum(map(len, files.values())))

    async def _load(self, model_id: str, *, days: int | None) -> _Inputs:
        try:
            manifest = await self._artefacts.get(f"models/{model_id}/manifest.json")
            candidate = msgspec.json.decode(manifest, type=Candidate)
            oof = await self._artefacts.get(f"models/{model_id}/oof.parquet", sha256=candidate.files["oof.parquet"])
        except (KeyError, msgspec.DecodeError) as error:
            raise ValueError(f"expected models/{model_id} with manifest.json and oof.parquet: {error}") from error
        table = self._read_forecasts(oof)
        last = datetime.fromtimestamp(table.last_s, tz=UTC)
        first = datetime.fromtimestamp(table.first_s, tz=UTC)
        if days is not None:
            first = max(first, last - timedelta(days=days))
        panel = self._read_bars(candidate, table, start=first - _WARM_UP, end=last)
        closed_at_s = panel.closed_at.astype("datetime64[s]").astype(np.int64)
        market = usable_market(panel.symbols, closed_at_s, open_=panel.open, close=panel.close, volume=panel.volume)
        sha256 = {
            "manifest.json": hashlib.sha256(manifest).hexdigest(),
            "oof.parquet": candidate.files["oof.parquet"],
            "bars": _market_sha256(market),
        }
        first_bar = int(np.searchsorted(closed_at_s, int(first.timestamp())))
        forecasts = tuple(_forecasts(candidate, market, table, from_s=int(first.timestamp())))
        return _Inputs(candidate, sha256, panel, market, forecasts, first_bar)

    def _read_bars(self, candidate: Candidate, table: ForecastTable, *, start: datetime, end: datetime) -> BarPanel:
        data = candidate.data
        panel = self._bars.read(
            market=data.market, interval=data.interval, symbols=table.symbols, start=start, end=end, as_of=end
        )
        if panel is None or set(panel.symbols) != set(table.symbols):
            raise ValueError(
                f"expected {data.market} {data.interval} bars of {list(table.symbols)} from {start} to {end} stored, "
                f"found {None if panel is None else list(panel.symbols)}: load the history that trained the model"
            )
        return panel


def _forecasts(candidate: Candidate, market: Market, table: ForecastTable, *, from_s: int) -> list[HorizonForecasts]:
    terms = {report.horizon: report for report in candidate.reports}
    unknown = [horizon for horizon in table.horizons if horizon not in terms]
    if unknown:
        raise ValueError(f"expected cost and bucket of every horizon in the manifest, missing {unknown}")
    found = []
    for horizon in sorted(table.horizons, key=lambda name: HORIZON_SECONDS.get(name, 0)):
        as_of_s, symbol, values = table.of(horizon, columns=market.symbols, from_s=from_s)
        own = terms[horizon]
        found.append(
            forecasts_by_bar(
                market, as_of_s=as_of_s, symbol=symbol, values=values, horizon=horizon, bucket=own.bucket, cost=own.cost
            )
        )
    return found


def _market_sha256(market: Market) -> str:
    digest = hashlib.sha256(repr(market.symbols).encode() + market.closed_at_s.astype("<i8").tobytes())
    for values in (market.open, market.close, market.volume):
        # A missing bar may carry any of the many NaNs; the hash must not see which.
        digest.update(np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes())
    return digest.hexdigest()


def _result(
    inputs: _Inputs, run: Simulation, *, limits: AllocationLimits, terms: AccountTerms, orders_sha256: str
) -> written.BacktestResult:
    market, n_bars = inputs.market, run.equity.size
    at_s = market.closed_at_s[run.first :]
    folds = []
    for k, (first, last) in enumerate(inputs.candidate.fold_spans):
        start = int(np.searchsorted(at_s, int(first.timestamp())))
        end = int(np.searchsorted(at_s, int(last.timestamp()), side="right"))
        if end > start:  # --days may leave early folds out
            folds.append(measure_span(f"fold {k + 1}", market, run, start=start, end=end, start_cash=terms.start_cash))
    return written.BacktestResult(
        format=written.FORMAT,
        model_id=inputs.candidate.model_id,
        profile=limits.profile,
        origin=worst_origin([inputs.candidate.origin, inputs.panel.origin]),
        market=inputs.panel.market,
        interval=inputs.panel.interval,
        symbols=market.symbols,
        what_it_is=written.WHAT_IT_IS,
        what_it_is_not=written.WHAT_IT_IS_NOT,
        annualization=written.ANNUALIZATION,
        inputs=inputs.sha256,
        order_list_sha256=orders_sha256,
        whole=measure_span("whole", market, run, start=0, end=n_bars, start_cash=terms.start_cash),
        folds=tuple(folds),
        scores=tuple(score_distribution(one, limits, first=run.first) for one in inputs.forecasts),
        refused=dict(sorted(run.refused.items())),
        limits=_limits(limits),
        costs=inputs.candidate.costs,
        terms=written.Terms(terms.start_cash, terms.band, terms.min_notional, terms.n_common_returns_min),
    )


def _limits(limits: AllocationLimits) -> written.LimitsUsed:
    return written.LimitsUsed(
        score_min=dict(limits.score_min),
        confidence_min=dict(limits.confidence_min),
        edge_min=limits.edge_min,
        score_full=dict(limits.score_full),
        size_min=limits.size_min,
        horizon_shares=dict(limits.horizon_shares),
        symbol_cap=limits.symbol_cap,
        bucket_caps=dict(limits.bucket_caps),
        gross_max=limits.gross_max,
        risk_budget=limits.risk_budget,
        correlation_max=limits.correlation_max,
    )
