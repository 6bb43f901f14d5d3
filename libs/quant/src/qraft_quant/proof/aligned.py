"""Every part of the aligner as a subject of the proof, on the tables of `tables_of`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from qraft_quant import align
from qraft_quant.proof.perturb import Output, Tables
from qraft_quant.proof.subjects import BARS, EVENTS, OHLCV, POSTS, Subject, output_of

_LAG_BARS: Final = 7
_WINDOW_BARS: Final = 48
_LONGER: Final = 12
# Staleness of the joined events, in bars: some of them are older.
_STALE_BARS: Final = 20
# Part of the history on which the normalizer is fitted; cut-offs lie behind it.
_FIT_FRAC: Final = 0.3


@dataclass(frozen=True, slots=True)
class AlignerSubjects:
    """The parts of the aligner on bars of one interval; n_bars: of the whole history."""

    interval_us: int
    n_symbols: int
    n_bars: int

    def all(self) -> list[Subject]:
        """Return one subject a part."""
        return [
            Subject("lag", self.lags, _WINDOW_BARS),
            Subject("join", self.joins),
            Subject("normalizer", self.normalizer, self._fit_rows),
            Subject("resample", self.longer_bars),
            Subject("text_bucket", self.text_buckets),
        ]

    @property
    def _fit_rows(self) -> int:
        return int(_FIT_FRAC * self.n_bars)

    def lags(self, tables: Tables) -> Output:
        """Return earlier closes, and windows of them."""
        close = tables[BARS]["close"]
        return output_of(
            tables[BARS].known_at,
            {
                f"lag {_LAG_BARS}": align.lag(close, _LAG_BARS),
                f"rolling mean {_WINDOW_BARS}": align.rolling(close, _WINDOW_BARS, np.mean),
                f"window maximum {_WINDOW_BARS}": align.windows(close, _WINDOW_BARS).max(axis=-1),
                "expanding mean": align.expanding_mean(close),
            },
        )

    def joins(self, tables: Tables) -> Output:
        """Return events as of each bar: of its symbol, of any symbol, and with staleness."""
        closed_at, events = tables[BARS].known_at, tables[EVENTS]
        rows = (events.known_at, events["event_at"], events["value"])
        metrics = [
            align.MetricRows("by symbol", *rows, events["symbol"]),
            align.MetricRows("one series", *rows),
            align.MetricRows("stale", *rows, events["symbol"], stale_after_us=_STALE_BARS * self.interval_us),
        ]
        found = align.align_metrics(closed_at, self.n_symbols, metrics)
        columns = {f"as-of join {name}": found.of(name) for name in found.names}
        columns["missing flag"] = found.is_missing[:, :, found.names.index("stale")].astype(np.float64)
        return output_of(closed_at, columns)

    def normalizer(self, tables: Tables) -> Output:
        """Return closes scaled by what the first part of the history says, from its end on."""
        bars = tables[BARS]
        start = int(bars.known_at[0])
        fitted_until = start + self._fit_rows * self.interval_us
        scaler = align.fit_scaler(bars["close"], bars.known_at, after=start - 1, until=fitted_until)
        later = bars.known_at >= fitted_until
        at = bars.known_at[later]
        return output_of(at, {"scaled close": scaler.apply(bars["close"][later], at)})

    def longer_bars(self, tables: Tables) -> Output:
        """Return the bars of a longer interval, at their ends."""
        bars = tables[BARS]
        made = align.resample(
            bars.known_at,
            open=bars["open"],
            high=bars["high"],
            low=bars["low"],
            close=bars["close"],
            volume=bars["volume"],
            interval_us=self.interval_us,
            to_us=_LONGER * self.interval_us,
        )
        return output_of(made.closed_at, {f"{name} of {_LONGER} bars": getattr(made, name) for name in OHLCV})

    def text_buckets(self, tables: Tables) -> Output:
        """Return how many posts became known in each bar's time, and the sums of what they say."""
        ends, posts = tables[BARS].known_at, tables[POSTS]
        made = align.bucket_sums(
            posts.known_at,
            np.stack([posts["score"], posts["length"]], axis=1),
            ends=ends,
            bucket_us=self.interval_us,
            key=posts["symbol"],
            n_keys=self.n_symbols,
        )
        return output_of(
            ends,
            {
                "heat": made.n_items.astype(np.float64),
                "sum of scores": made.sums[:, :, 0],
                "sum of lengths": made.sums[:, :, 1],
            },
        )
