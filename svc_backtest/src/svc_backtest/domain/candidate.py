"""What a backtest reads of a candidate's manifest. svc_train writes more; unknown fields are ignored."""

from __future__ import annotations

from datetime import datetime

import msgspec

from qraft_contracts.origin import Origin
from qraft_quant.costs import CostModel


class TrainedOn(msgspec.Struct, frozen=True):
    """The bars that trained the candidate."""

    market: str
    interval: str
    symbols: tuple[str, ...]
    origin: Origin


class TestSpan(msgspec.Struct, frozen=True):
    """Bars that one walk-forward step of one horizon was tested on, by the first and the last closed_at."""

    horizon: str
    fold: int
    test_first: datetime
    test_last: datetime


class HorizonTerms(msgspec.Struct, frozen=True):
    """cost: round trip, fraction of notional."""

    horizon: str
    cost: float
    bucket: str


class Candidate(msgspec.Struct, frozen=True):
    """The part of manifest.json that an evaluation depends on. files: path to SHA-256 in hex."""

    model_id: str
    origin: Origin
    trained_until: datetime
    files: dict[str, str]
    data: TrainedOn
    costs: CostModel
    folds: tuple[TestSpan, ...]
    reports: tuple[HorizonTerms, ...]

    @property
    def fold_spans(self) -> tuple[tuple[datetime, datetime], ...]:
        """Return the first and the last tested closed_at of each fold, over all horizons."""
        spans = []
        for k in sorted({span.fold for span in self.folds}):
            own = [span for span in self.folds if span.fold == k]
            spans.append((min(span.test_first for span in own), max(span.test_last for span in own)))
        return tuple(spans)
