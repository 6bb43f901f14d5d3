"""
What is said of each symbol as rows of the derived kind `text_state`: the columns of a bucket that need no fit.

A field of the kind is the column of that name, so that what stands in a table is what the proof of texts proves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from qraft_contracts.kinds import KINDS, TEXT_SIGNATURE
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Refused
from qraft_store.tables.port import TableStore
from qraft_text.features import TextMatrix
from qraft_text.filters import FilterRules
from qraft_text.pipeline import TextFeatures, micros_of
from qraft_text.posts import TOWERS, FloatArray, IntArray
from qraft_text.sentiment import Sentiment
from qraft_text.sources import MARKET_WIDE, NoTexts
from qraft_text.tower import WINDOWS_H

FIELDS: Final = KINDS["text_state"].field_names
# Kinds whose rows are read as texts; the counts of post_engagement are in no field of the state.
TEXT_KINDS: Final = KINDS["text_state"].derived_from
_SILENCE_H: Final = WINDOWS_H[-1]


@dataclass(frozen=True, slots=True)
class TextStates:
    """ends: (n_buckets,), microseconds. values: by field, (n_buckets, n_symbols), NaN = not known."""

    ends: IntArray
    symbols: tuple[str, ...]
    values: Mapping[str, FloatArray]
    origin: Origin

    def of(self, symbol: str) -> tuple[IntArray, dict[str, FloatArray]]:
        """Return the ends and fields of a symbol's buckets in which anything is known."""
        place = self.symbols.index(symbol)
        own = {name: values[:, place] for name, values in self.values.items()}
        is_known = ~np.isnan(np.stack(list(own.values()))).all(axis=0)
        return self.ends[is_known], {name: values[is_known] for name, values in own.items()}


def state_features() -> TextFeatures:
    """
    Return the pipeline whose buckets are the state: filters, words and buckets of the contract, no encoder.

    Raises:
        Refused: if what is installed is another pipeline than the contract names (another vaderSentiment, rules or
            words): its rows would stand where those of the contract are expected.
    """
    features = TextFeatures(Sentiment(), FilterRules())
    found = features.spec.signature
    if found != TEXT_SIGNATURE:
        raise Refused(
            "other_text_pipeline",
            f"expected the pipeline of texts {TEXT_SIGNATURE[:16]} (qraft_contracts.kinds.TEXT_SIGNATURE), this one is "
            f"{found[:16]}: install the vaderSentiment of requirements.txt",
        )
    return features


def symbols_of_texts(tables: TableStore) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the symbols that any stored text names, sorted, and the endings of symbols that texts about a whole market
    count for."""
    named = {
        symbol for kind in TEXT_KINDS for market in tables.markets(kind)
        for symbol in tables.symbols(kind, market=market)
    }  # fmt: skip
    endings = {ending for name in named & MARKET_WIDE.keys() for ending in MARKET_WIDE[name]}
    return tuple(sorted(named - MARKET_WIDE.keys())), tuple(sorted(endings))


def text_states(
    tables: TableStore, features: TextFeatures, *, symbols: Sequence[str], after: datetime, until: datetime
) -> TextStates | None:
    """
    Return the state of the buckets that end in (after, until]; None where no text is stored that could be in one.

    Row t uses texts known up to its end. All markets count together: a post told twice is one post and a repetition.

    Args:
        symbols: whose; every symbol that texts name, always, as what is said of one decides what repeats it.

    Raises:
        TooManyTexts: if they do not fit the memory.
    """
    markets = sorted({market for kind in TEXT_KINDS for market in tables.markets(kind)})
    try:
        matrix, manifest = features.compute(tables, markets=markets, symbols=symbols, after=after, until=until)
    except NoTexts:
        return None
    return TextStates(matrix.ends, matrix.symbols, state_columns(matrix), manifest.origin)


def state_columns(matrix: TextMatrix) -> dict[str, FloatArray]:
    """
    Return the fields of the state, (n_buckets, n_symbols) each.

    A tower without a post for a day is not known, nor is how many there were: silence and a dead source look the same.
    """
    columns = dict(zip(matrix.names, np.moveaxis(matrix.values.astype(np.float64), 2, 0), strict=True))
    found = {name: columns[name] for name in FIELDS}
    for tower in TOWERS:
        is_silent = columns[f"{tower}_missing_{_SILENCE_H}h"] != 0.0
        own = [name for name in FIELDS if name.startswith(f"{tower}_")]
        found |= {name: np.where(is_silent, np.nan, found[name]) for name in own}
    return found


def ends_before(states: TextStates, heard: datetime) -> TextStates:
    """Return the buckets that were over when texts were last heard: others may still grow, and rows never change."""
    n = int((states.ends < micros_of(heard)).sum())
    return TextStates(states.ends[:n], states.symbols, {k: v[:n] for k, v in states.values.items()}, states.origin)
