"""What became of the features after the window they were screened on: drift and IC by month. Nothing is chosen here."""

from __future__ import annotations

import msgspec
import numpy as np

from qraft_screening.decoding import decoded
from qraft_screening.drift import DriftReference
from qraft_screening.findings import month_drift, monthly_information
from qraft_screening.information import Labels, months_of
from qraft_screening.panel import FeaturePanel
from qraft_screening.report import MonthDrift, MonthInformation, Source

WATCH_FORMAT = "watch/1"


class FeatureWatch(msgspec.Struct, frozen=True):
    """One feature after its window, by month."""

    name: str
    drift: tuple[MonthDrift, ...]
    months: tuple[MonthInformation, ...]


class Watch(msgspec.Struct, frozen=True):
    """All features after the window. source: what was read; feature_signature: must be the screening's."""

    format: str
    feature_signature: str
    source: Source
    horizon_bars: int
    features: tuple[FeatureWatch, ...]

    def feature(self, name: str) -> FeatureWatch | None:
        """Return one feature, None if it was not watched."""
        return next((it for it in self.features if it.name == name), None)


def watch(panel: FeaturePanel, reference: DriftReference, source: Source, *, horizon_bars: int) -> Watch:
    """
    Return drift against the reference and IC, by month, of the bars of `source`.

    Raises:
        ValueError: if these bars begin before the reference ends, or are of other features.
    """
    if source.after_us < reference.until_us:
        raise ValueError(f"expected bars after {reference.until_us}, the end of the reference: {source.after_us} given")
    later = panel.within(source.after_us, source.until_us)
    bins = {it.name: it for it in reference.features}
    absent = [name for name in later.names if name not in bins]
    if absent:
        raise ValueError(f"expected features of the reference, received others: {absent[:5]}")
    labels, has_bar = Labels(later, horizon_bars, ages=(0,)), later.has_bar()
    month_of = months_of(later.closed_at)
    months = tuple(sorted(set(month_of.tolist())))
    rows = [month_of == month for month in months]
    found = []
    for f, name in enumerate(later.names):
        values = np.ascontiguousarray(later.values[:, :, f])
        drift = tuple(
            month_drift(month, bins[name].measure(values[chosen][has_bar[chosen]]))
            for month, chosen in zip(months, rows, strict=True)
        )
        found.append(FeatureWatch(name, drift, monthly_information(labels.information(values), labels, months)))
    return Watch(WATCH_FORMAT, reference.signature, source, horizon_bars, tuple(found))


def encode_watch(found: Watch) -> bytes:
    """Return the canonical bytes."""
    return msgspec.json.format(msgspec.json.encode(found, order="deterministic"), indent=1) + b"\n"


def decode_watch(data: bytes) -> Watch:
    """
    Return what bytes hold.

    Raises:
        ValueError: if they hold no watch.
    """
    return decoded(data, Watch, form=WATCH_FORMAT, remedy="watch anew")
