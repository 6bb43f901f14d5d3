"""Prices in another currency, by the newest rate known at each row's time."""

from __future__ import annotations

import numpy as np

from qraft_data.query import Conversion, FieldRef
from qraft_data.reading import Reader
from qraft_data.times import SECOND_US, FloatArray, instant_of, micros
from qraft_quant.align import as_of_join

# The dictionary's units that a conversion changes; a field of another series (VIX) is not in the symbol's currency.
_UNIT = "quote currency"


def is_converted(ref: FieldRef) -> bool:
    """Return whether a field is an amount in the quote currency of the query's symbols."""
    return ref.symbol is None and ref.field.unit.startswith(_UNIT)


def conversion_rates(reader: Reader, pair: Conversion) -> FloatArray:
    """
    Return what prices are multiplied with at each row, (n_rows,); NaN where no rate was known or it was too old.

    Several fields of the pair (bid and ask) are averaged; a missing one makes the rate missing.
    """
    found = np.mean([_rate(reader, pair, FieldRef(metric=name)) for name in pair.fields], axis=0)
    return np.asarray(found if pair.symbol.startswith(pair.source) else 1.0 / found)


def _rate(reader: Reader, pair: Conversion, ref: FieldRef) -> FloatArray:
    if ref.kind.name == "bars":
        return _bar_rate(reader, pair, ref.field.name)
    of_pair = FieldRef(metric=ref.metric, market=pair.market, symbol=pair.symbol, max_age_s=pair.max_age_s)
    return reader.metric(of_pair, pair.market, ())[:, 0]


def _bar_rate(reader: Reader, pair: Conversion, name: str) -> FloatArray:
    """Return a value of the pair's newest bar that had ended by each row's time."""
    interval = pair.interval or reader.interval
    reader.use(f"bars/{interval}/{pair.market}")
    panel = reader.bars.read(
        market=pair.market,
        interval=interval,
        symbols=(pair.symbol,),
        start=instant_of(max(0, micros(reader.start) - pair.max_age_s * SECOND_US)),
        end=reader.end,
        as_of=reader.as_of,
        revisions=reader.revisions,
    )
    if panel is None:
        return np.full(reader.at_us.size, np.nan)
    reader.origins.add(panel.origin)
    values = getattr(panel, name)[:, 0]
    has_bar = np.isfinite(values)
    return as_of_join(reader.at_us, panel.closed_at[has_bar], values[has_bar], tolerance_us=pair.max_age_s * SECOND_US)
