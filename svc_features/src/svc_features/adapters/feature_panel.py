"""Features of stored bars as a panel for the screening: bars and state as known by the end, and by nothing later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from qraft_contracts.origin import worst_origin
from qraft_contracts.outcomes import Refused
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_quant.features import BAR_INPUTS, FeatureSet, compute_history
from qraft_screening.automatic import AutomaticFeatures, prove_automatic
from qraft_screening.panel import FeatureAbout, FeaturePanel
from qraft_screening.report import AutomaticProof, Source
from qraft_store.bars.port import BarPanel, BarStore
from svc_features.usecases import StateTables, bars_for, inputs_of, state_for

FloatArray = npt.NDArray[np.float64]
_PROOF_SYMBOLS: Final = 2


@dataclass(frozen=True, slots=True)
class ReadFeatures:
    """Read and compute features of one market. state: whose tables; None = none. automatic: None = none."""

    bars: BarStore
    state: StateTables | None
    features: FeatureSet
    market: str
    interval: str
    n_threads: int
    automatic: AutomaticFeatures | None = None
    progress: Callable[[str], None] = lambda _: None

    def __call__(self, after: datetime, until: datetime) -> tuple[FeaturePanel, Source]:
        """
        Return the features of the bars with after < closed_at <= until, and what was read for them.

        The rows before that the windows need are read too, so that the first row is final where they are stored.

        Raises:
            Refused: if there is no such bar, or too many for the memory.
            Malformed: if a table of the state is damaged.
        """
        read = self._bars(after, until)
        beside = state_for(self.features, read, self.state)
        inputs = inputs_of(read, beside)
        closed_at = read.closed_at.astype("datetime64[us]").astype(np.int64)
        step_us = INTERVAL_SECONDS[self.interval] * 1_000_000
        values = compute_history(
            inputs, int(closed_at[0]) // step_us, features=self.features, interval=self.interval,
            n_threads=self.n_threads,
        )  # fmt: skip
        about = tuple(
            FeatureAbout(it.name, it.family, it.formula, it.window, it.signature) for it in self.features.features
        )
        if self.automatic is not None:
            more = self.automatic.compute(closed_at, inputs, progress=self.progress)
            values, about = np.concatenate([values, more], axis=2), (*about, *self.automatic.about())
        after_us, until_us = _micros(after), _micros(until)
        try:
            whole = FeaturePanel(closed_at, step_us, read.symbols, about, values, read.close)
            panel = whole.within(after_us, until_us)
        except ValueError as error:
            raise Refused("no_bars", f"{self.interval} bars of {self.market}: {error}") from error
        if not panel.has_bar().any():
            raise Refused("no_bars", f"expected {self.interval} bars of {self.market} after {after}, found none")
        origin = worst_origin([read.origin, *beside.origins]).value
        return panel, Source(
            self.market, self.interval, read.symbols, origin, after_us, until_us, panel.closed_at.size,
            data_sha256(read, inputs),
        )  # fmt: skip

    def prove_automatic(self, after: datetime, until: datetime, *, seed: int) -> AutomaticProof:
        """
        Put the automatic features to the leakage proof on the newest bars of a window, of two symbols.

        Raises:
            Refused: if the window holds too few bars.
        """
        assert self.automatic is not None
        read = self._bars(after, until)
        closed_at = read.closed_at.astype("datetime64[us]").astype(np.int64)
        fullest = np.sort(np.argsort(-np.isfinite(read.close).sum(axis=0), kind="stable")[:_PROOF_SYMBOLS])
        columns = {name: getattr(read, name)[:, fullest] for name in BAR_INPUTS}
        try:
            proof = prove_automatic(self.automatic, closed_at, columns, seed=seed)
        except ValueError as error:
            raise Refused("too_few_bars", str(error)) from error
        return AutomaticProof(
            self.automatic.window_bars, self.automatic.every_bars, len(proof.columns), proof.n_checks,
            proof.failed_columns,
        )  # fmt: skip

    def _bars(self, after: datetime, until: datetime) -> BarPanel:
        n_automatic = 0 if self.automatic is None else self.automatic.warm_up_bars
        n_warm_up = max(self.features.warm_up_bars, n_automatic)
        warm_up = timedelta(seconds=n_warm_up * INTERVAL_SECONDS[self.interval])
        n_features = len(self.features.names) + (0 if self.automatic is None else len(self.automatic.names))
        return bars_for(
            self.bars, market=self.market, interval=self.interval, start=after - warm_up, end=until,
            n_features=n_features,
        )  # fmt: skip


def data_sha256(read: BarPanel, inputs: Mapping[str, FloatArray]) -> str:
    """Return the SHA-256 of everything that features were computed from: times, symbols and each input by name."""
    digest = hashlib.sha256(json.dumps([read.market, read.interval, list(read.symbols), read.origin.value]).encode())
    digest.update(read.closed_at.astype("datetime64[us]").astype("<i8").tobytes())
    for name in sorted(inputs):
        digest.update(name.encode())
        # Missing values may carry any of the many NaNs; the hash must not see which.
        digest.update(np.where(np.isnan(inputs[name]), np.nan, inputs[name]).astype("<f8").tobytes())
    return digest.hexdigest()


def _micros(instant: datetime) -> int:
    return int(np.datetime64(instant.replace(tzinfo=None), "us").astype(np.int64))
