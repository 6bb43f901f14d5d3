"""All columns of all towers, out of posts that are in memory; the one computation that history and proof share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from qraft_quant.align import bucket_sums
from qraft_text.anchors import ANCHORS
from qraft_text.filters import KEPT, LATE, REASONS, FilterRules
from qraft_text.lexicon import EVENT_WORDS, event_counts
from qraft_text.posts import NEWS, TOWERS, Engagement, IntArray, Posts
from qraft_text.sentiment import Sentiment
from qraft_text.tower import HOUR_US, WINDOWS_H, BoolArray, Columns, Grid, Said, heard_whole, tower_columns, window_sums

BUCKET_US: Final = 300_000_000
# Version of what the columns mean; part of their signature.
_FORMAT: Final = "text-features/3"
_DAY_H: Final = WINDOWS_H[-1]
Float32Array = npt.NDArray[np.float32]


class TextSpec(msgspec.Struct, frozen=True):
    """What decides the columns beside the posts: filters, length of a bucket, words, encoder and reduction."""

    filters: FilterRules = FilterRules()
    bucket_us: int = BUCKET_US
    sentiment_sha256: str = ""
    encoder_sha256: str = ""
    reduction_sha256: str = ""
    is_degraded: bool = False
    latents: tuple[str, ...] = ()

    @property
    def signature(self) -> str:
        """Return the SHA-256 of all of it."""
        return hashlib.sha256(msgspec.json.encode([_FORMAT, self], order="deterministic")).hexdigest()


@dataclass(frozen=True, slots=True)
class TextMatrix:
    """ends: (n_buckets,), microseconds. values: (n_buckets, n_symbols, n_columns), float32, NaN = not known.
    n_by_reason: rows that arrived, by tower and reason. heard: by tower and hours, (n_buckets,), see heard_whole."""

    ends: IntArray
    symbols: tuple[str, ...]
    names: tuple[str, ...]
    values: Float32Array
    n_by_reason: Mapping[str, Mapping[str, int]]
    heard: Mapping[str, Mapping[int, BoolArray]]

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of times, names and values; every NaN counts as the same."""
        digest = hashlib.sha256(msgspec.json.encode([self.symbols, self.names]))
        digest.update(self.ends.astype("<i8").tobytes())
        digest.update(np.where(np.isnan(self.values), np.float32(np.nan), self.values).astype("<f4").tobytes())
        return digest.hexdigest()


def facts_of(texts: tuple[str, ...], sentiment: Sentiment) -> Said:
    """Return what each text says; texts as traits.clean has them."""
    score = np.array([sentiment.score(text) for text in texts], np.float64)
    events = np.array([event_counts(text) for text in texts], np.int64).reshape(len(texts), len(EVENT_WORDS))
    return Said(score, events > 0)


def text_matrix(
    posts: Posts,
    verdicts: IntArray,
    engagement: Engagement,
    *,
    said: Said,
    latents: Mapping[str, Float32Array],
    latent_names: tuple[str, ...],
    is_degraded: bool,
    ends: IntArray,
    bucket_us: int,
) -> TextMatrix:
    """
    Return the columns of the buckets; row t uses what was known in the 24 hours up to its end.

    Args:
        posts, verdicts, engagement: from 24 hours before the first bucket on; earlier rows change no value. Posts of
            the 24 hours before say whether a tower was heard for a day.
        said: by text. latents: by tower, (n_texts, n_latents), of the texts that count; a tower may lack them.
        ends: (n_buckets,), every bucket_us without gaps.

    Raises:
        ValueError: if there is no bucket, one is off the grid, or an hour is no multiple of its length.
    """
    if bucket_us < 1 or HOUR_US % bucket_us:
        raise ValueError(f"bucket_us: expected a part of an hour, received {bucket_us}")
    if ends.size == 0 or (ends % bucket_us).any() or int(ends[-1] - ends[0]) != (ends.size - 1) * bucket_us:
        raise ValueError(f"ends: expected multiples of {bucket_us} us without gaps, received {ends.size} others")
    n_before = Grid(ends, bucket_us, 1).bars(_DAY_H)
    first = int(ends[0]) - n_before * bucket_us
    grid = Grid(first + np.arange(n_before + ends.size) * bucket_us, bucket_us, len(posts.symbols))
    columns: Columns = {}
    n_by_reason, heard = {}, {}
    for tower, name in enumerate(TOWERS):
        # Without a post every bucket says the same: one is computed and stands for all, in a thirtieth of the time.
        is_own = posts.tower == tower
        is_empty = not is_own.any()
        heard[name] = heard_whole(posts.known_at[is_own & (verdicts != LATE)], Grid(ends, bucket_us, 1))
        own = Grid(grid.ends[: n_before + 1], bucket_us, grid.n_symbols) if is_empty else grid
        made = tower_columns(
            posts, verdicts, said, tower=tower, grid=own, latents=latents.get(name), latent_names=latent_names,
            is_degraded=is_degraded,
        )  # fmt: skip
        columns |= {f"{name}_{column}": values for column, values in made.items()}
        found = verdicts[is_own & (posts.known_at > ends[0] - bucket_us) & (posts.known_at <= ends[-1])]
        n_by_reason[name] = {reason: int((found == i).sum()) for i, reason in enumerate(REASONS)}
    columns |= _crowd(posts, verdicts, grid) | _received(engagement, grid)
    values = np.empty((ends.size, len(posts.symbols), len(columns)), np.float32)
    for i, column in enumerate(columns.values()):
        values[:, :, i] = column[n_before:]  # one row of a tower without posts becomes all rows
    return TextMatrix(ends, posts.symbols, tuple(columns), values, n_by_reason, heard)


def names_of_latents(n_components: int) -> tuple[str, ...]:
    """Return the names of latents, anchors first."""
    return (*(f"anchor_{name}" for name in ANCHORS), *(f"component_{i:02d}" for i in range(n_components)))


def _crowd(posts: Posts, verdicts: IntArray, grid: Grid) -> Columns:
    """Return the part of comments among posts and comments of a day."""
    chosen = (posts.tower < NEWS) & (verdicts == KEPT)
    is_comment = (posts.tower[chosen] == TOWERS.index("comments")).astype(np.float64)
    made = bucket_sums(
        posts.known_at[chosen], is_comment[:, None], ends=grid.ends, bucket_us=grid.bucket_us,
        key=posts.symbol[chosen], n_keys=grid.n_symbols,
    )  # fmt: skip
    n, n_comments = (
        window_sums(counts.astype(np.float64), grid, _DAY_H) for counts in (made.n_items, made.sums[:, :, 0])
    )
    ratio = np.where(n > 0, n_comments / np.where(n > 0, n, 1.0), np.nan)
    return {f"comment_ratio_{_DAY_H}h": ratio}


def _received(engagement: Engagement, grid: Grid) -> Columns:
    """Return how posts of the last day were received, as counted in the last day: a count is used once it is known."""
    fresh = engagement.known_at - engagement.event_at <= _DAY_H * HOUR_US
    made = bucket_sums(
        engagement.known_at[fresh], engagement.log_count[fresh][:, None], ends=grid.ends, bucket_us=grid.bucket_us,
        key=engagement.symbol[fresh], n_keys=grid.n_symbols,
    )  # fmt: skip
    n, total = (
        window_sums(values.astype(np.float64), grid, _DAY_H) for values in (made.n_known[:, :, 0], made.sums[:, :, 0])
    )
    mean = np.where(n > 0, total / np.where(n > 0, n, 1.0), np.nan)
    return {f"engagement_{_DAY_H}h": mean, f"engagement_missing_{_DAY_H}h": (~(n > 0)).astype(np.float64)}
