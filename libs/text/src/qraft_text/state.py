"""
What is said of each symbol as rows of the derived kind `text_state`: the columns of a bucket that need no fit.

A field of the kind is the column of that name, so that what stands in a table is what the proof of texts proves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa

from qraft_contracts.kinds import KINDS, TEXT_SIGNATURE
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Refused
from qraft_store.tables.port import TableStore
from qraft_text.features import TextMatrix
from qraft_text.filters import FilterRules
from qraft_text.pipeline import TextFeatures
from qraft_text.posts import NEWS, TOWERS, FloatArray, IntArray
from qraft_text.sentiment import Sentiment
from qraft_text.sources import MARKET_WIDE, NoTexts
from qraft_text.tower import HOUR_US, WINDOWS_H

FIELDS: Final = KINDS["text_state"].field_names
# Kinds whose rows are read as texts; the counts of post_engagement are in no field of the state.
TEXT_KINDS: Final = KINDS["text_state"].derived_from
_DAY_H: Final = WINDOWS_H[-1]
# What a field is made of where it is not named after its one tower.
_TOWERS_OF: Final = {f"comment_ratio_{_DAY_H}h": ("posts", "comments")}
_EVER: Final = datetime(2200, 1, 1, tzinfo=UTC)


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
    Nor is a window that began before the tower was heard: what is counted is a part of it, and would read as little.
    """
    columns = dict(zip(matrix.names, np.moveaxis(matrix.values.astype(np.float64), 2, 0), strict=True))
    found = {}
    for name in FIELDS:
        hours = WINDOWS_H[0] if name.endswith("_1h") else _DAY_H
        is_unknown = np.zeros(matrix.values.shape[:2], np.bool_)
        for tower in _TOWERS_OF.get(name, (name.partition("_")[0],)):
            is_unknown |= ~matrix.heard[tower][hours][:, None]
            if name not in _TOWERS_OF:
                is_unknown |= columns[f"{tower}_missing_{_DAY_H}h"] != 0.0
        found[name] = np.where(is_unknown, np.nan, columns[name])
    return found


def feeds_heard(tables: TableStore) -> dict[str, int]:
    """
    Return when each feed of texts was last heard, microseconds, by `<market>/<tower>`.

    A market's comments are a feed of their own: they may be collected later than its posts.
    """
    found: dict[str, int] = {}
    for kind in TEXT_KINDS:
        is_news = kind == "news"
        columns = ("known_at",) if is_news else ("known_at", "is_comment")
        for market in tables.markets(kind):
            span = tables.range(kind, market=market)
            assert span is not None, f"{kind} of {market} has rows"
            rows = tables.read(
                kind, market=market, symbols=None, start=span[0] - timedelta(microseconds=1), end=span[1], as_of=_EVER,
                columns=columns, revisions="first",
            )  # fmt: skip
            known = np.asarray(rows["known_at"].cast(pa.int64()).to_numpy(), np.int64)
            if is_news:
                tower = np.full(known.size, NEWS)
            else:
                is_comment = rows["is_comment"].to_numpy().astype(np.bool_)
                tower = np.where(is_comment, TOWERS.index("comments"), TOWERS.index("posts"))
            for place in np.unique(tower).tolist():
                found[f"{market}/{TOWERS[place]}"] = int(known[tower == place].max())
    return found


def settled(states: TextStates, heard_us: Iterable[int]) -> TextStates:
    """
    Return the buckets in whose last day no feed fell silent for good: others may still grow, and rows never change.

    heard_us: when each feed was last heard. A bucket within a day after that waits until the feed is heard again, or
    for good; one beyond it knows nothing of that feed. Nothing is known behind the last that was heard of any.
    """
    last = np.array(sorted(heard_us), np.int64)
    since = states.ends[:, None] - last
    is_open = ((since >= 0) & (since <= _DAY_H * HOUR_US)).any(axis=1) | (since >= 0).all(axis=1)
    values = {name: column[~is_open] for name, column in states.values.items()}
    return TextStates(states.ends[~is_open], states.symbols, values, states.origin)
