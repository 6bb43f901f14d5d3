"""Real texts at drawn times as the tables of a proof, and back: what the prover corrupts and what is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from qraft_quant.proof import Table, Tables
from qraft_text.posts import LANGUAGE_UNKNOWN, NO_AUTHOR, TOWERS, Engagement, IntArray, Posts

BUCKETS: Final = "buckets"
POSTS: Final = "posts"
ENGAGEMENT: Final = "engagement"
N_POSTS: Final = 3_000
N_BUCKETS: Final = 4 * 288
N_SYMBOLS: Final = 2
_N_AUTHORS: Final = 120
_FIRST_US: Final = 1_600_000_200_000_000
# Of texts that are said again, as they are or with another number in them.
_REPEATED_FRAC: Final = 0.1
# Of posts that one author writes within minutes, so that the filter of authors has something to drop.
_BURST_FRAC: Final = 0.15
_N_BURSTS: Final = 5
_BURST_US: Final = 20 * 60_000_000
_AUTHOR_OF_BURSTS: Final = 0
# Of posts without an author. Comments name theirs up to a time and not after, news do so after: whether a source names
# authors must be no news of the future. The time is behind four cut-offs of the proof, and there are posts behind it.
_AUTHORLESS_FRAC: Final = 0.3
NAMED_FROM_FRAC: Final = 0.7


@dataclass(frozen=True, slots=True)
class ProofTexts:
    """The texts of a proof, the last of them empty: what a text becomes when it is corrupted into nothing."""

    texts: tuple[str, ...]

    @classmethod
    def of(cls, texts: Sequence[str]) -> ProofTexts:
        """Return the texts with the empty one behind them."""
        return cls((*texts, ""))


def draw_tables(n_texts: int, *, bucket_us: int, seed: int) -> Tables:
    """
    Return buckets, posts and engagement: four days, drawn times, towers, authors and lags.

    Authors are named by most posts, by comments before NAMED_FROM_FRAC of the history and by news after it.
    A post becomes known up to hours after it was written, one in fifty days after, so that it is late. Counts of
    engagement become known minutes to days after the post. Texts are numbers, as floats, so that every corruption
    changes them too.
    """
    rng = np.random.default_rng([seed, 41])
    first = -(-_FIRST_US // bucket_us) * bucket_us
    ends = first + np.arange(N_BUCKETS) * bucket_us
    at, is_burst = rng.integers(0, N_BUCKETS * bucket_us, N_POSTS), rng.random(N_POSTS) < _BURST_FRAC
    begins = rng.integers(0, N_BUCKETS * bucket_us - _BURST_US, _N_BURSTS)
    at = np.where(is_burst, begins[rng.integers(0, _N_BURSTS, N_POSTS)] + at % _BURST_US, at)
    in_time = np.argsort(at, kind="stable")
    known_at, is_burst = first + at[in_time], is_burst[in_time]
    hours = np.where(rng.random(N_POSTS) < 0.02, 72.0, rng.exponential(1.0, N_POSTS).clip(0, 24))
    event_at = known_at - (hours * 3_600_000_000).astype(np.int64)
    text = rng.integers(0, n_texts, N_POSTS)
    again = np.flatnonzero(rng.random(N_POSTS) < _REPEATED_FRAC)
    text[again] = text[rng.integers(0, N_POSTS, again.size)]
    symbol, tower = rng.integers(0, N_SYMBOLS, N_POSTS), rng.integers(0, len(TOWERS), N_POSTS)
    author = np.where(is_burst, _AUTHOR_OF_BURSTS, rng.integers(0, _N_AUTHORS, N_POSTS)).astype(np.float64)
    is_after = known_at >= ends[int(NAMED_FROM_FRAC * N_BUCKETS)]
    is_named = np.choose(tower, [rng.random(N_POSTS) >= _AUTHORLESS_FRAC, ~is_after, is_after])
    posts = Table(known_at, {
        "event_at": event_at, "symbol": symbol, "tower": tower, "author": np.where(is_named, author, np.nan),
        "text": text.astype(np.float64),
    })  # fmt: skip
    counted_at = event_at + (rng.exponential(6.0, N_POSTS) * 3_600_000_000).astype(np.int64) + 1
    order = np.argsort(counted_at, kind="stable")
    engagement = Table(counted_at[order], {
        "event_at": event_at[order], "symbol": symbol[order], "log_count": rng.lognormal(1.0, 1.0, N_POSTS)[order],
    })  # fmt: skip
    return {BUCKETS: Table(ends, {}), POSTS: posts, ENGAGEMENT: engagement}


def posts_of(tables: Tables, texts: ProofTexts) -> Posts:
    """Return the posts of a table; every row is a post of its own."""
    rows = tables[POSTS]
    n = len(rows)
    return Posts(
        known_at=rows.known_at,
        event_at=rows["event_at"],
        post=np.arange(n),
        symbol=rows["symbol"],
        tower=rows["tower"],
        author=_numbers(rows["author"], 10 * _N_AUTHORS, instead=NO_AUTHOR),
        text=_numbers(rows["text"], len(texts.texts) - 1, instead=len(texts.texts) - 1),
        language=np.full(n, LANGUAGE_UNKNOWN),
        texts=texts.texts,
        symbols=tuple(f"S{i}" for i in range(N_SYMBOLS)),
    )


def engagement_of(tables: Tables) -> Engagement:
    """Return the engagement of a table."""
    rows = tables[ENGAGEMENT]
    return Engagement(rows.known_at, rows["event_at"], rows["symbol"], rows["log_count"])


def _numbers(values: np.ndarray[tuple[int], np.dtype[np.float64]], n: int, *, instead: int) -> IntArray:
    """Return floats as numbers below n, NaN as another."""
    is_known = np.isfinite(values)
    return np.where(is_known, np.where(is_known, values, 0.0).astype(np.int64) % n, instead)
