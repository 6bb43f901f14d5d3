"""Join several metrics onto a grid of bars: the newest value known at each bar's end, or NaN and a flag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qraft_quant.align.join import as_of_join
from qraft_quant.align.times import FloatArray, ascending_micros


@dataclass(frozen=True, slots=True)
class MetricRows:
    """
    One metric as it became known: rows by known_at, ascending.

    symbol: (m,), number of the column it belongs to; None = one series for all symbols, such as a macro series.
    stale_after_us: greatest age of the event, bar end - event_at; None = a value stands until the next.
    """

    name: str
    known_at: npt.NDArray[Any]
    event_at: npt.NDArray[Any]
    values: FloatArray
    symbol: npt.NDArray[Any] | None = None
    stale_after_us: int | None = None


@dataclass(frozen=True, slots=True)
class AlignedMetrics:
    """names: of the metrics. values: (n_bars, n_symbols, n_metrics), float64; is_missing: where values are NaN."""

    names: tuple[str, ...]
    values: FloatArray
    is_missing: npt.NDArray[np.bool_]

    def of(self, name: str) -> FloatArray:
        """Return one metric, (n_bars, n_symbols)."""
        column: FloatArray = np.ascontiguousarray(self.values[:, :, self.names.index(name)])
        return column


def align_metrics(closed_at: npt.NDArray[Any], n_symbols: int, metrics: Sequence[MetricRows]) -> AlignedMetrics:
    """
    Return each metric at each bar's end, as of then; nothing is filled in beyond what was known and fresh.

    Args:
        closed_at: (n_bars,), ascending.

    Raises:
        ValueError: if a metric's rows are out of order, its symbols are out of range, or two have one name.
    """
    ends = ascending_micros(closed_at, "closed_at")
    names = tuple(metric.name for metric in metrics)
    if len(set(names)) != len(names):
        raise ValueError(f"expected metrics of different names, received {names}")
    values = np.full((ends.size, n_symbols, len(metrics)), np.nan)
    at, symbol = np.repeat(ends, n_symbols), np.tile(np.arange(n_symbols), ends.size)
    for m, metric in enumerate(metrics):
        values[:, :, m] = _column(metric, ends, at, symbol, n_symbols)
    return AlignedMetrics(names, values, np.isnan(values))


def _column(
    metric: MetricRows, ends: npt.NDArray[Any], at: npt.NDArray[Any], symbol: npt.NDArray[Any], n_symbols: int
) -> FloatArray:
    try:
        if metric.symbol is None:
            return as_of_join(
                ends, metric.known_at, metric.values, event_at=metric.event_at, tolerance_us=metric.stale_after_us
            )[:, None]
        if metric.symbol.size and not 0 <= metric.symbol.min() <= metric.symbol.max() < n_symbols:
            raise ValueError(f"symbol: expected numbers in [0, {n_symbols}), received others")
        return as_of_join(
            at,
            metric.known_at,
            metric.values,
            event_at=metric.event_at,
            key=symbol,
            known_key=metric.symbol,
            tolerance_us=metric.stale_after_us,
        ).reshape(ends.size, n_symbols)
    except ValueError as error:
        raise ValueError(f"metric {metric.name}: {error}") from error
