"""The columns of one tower: heat, sentiment, spread of opinion, events, latents; each bucket, and the hours before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from qraft_quant.align import bucket_ends, bucket_sums, rolling
from qraft_text.filters import KEPT, LATE, REPEATS
from qraft_text.grouping import group
from qraft_text.lexicon import EVENT_WORDS
from qraft_text.posts import NO_AUTHOR, FloatArray, IntArray, Posts

TRIMMED_FRAC: Final = 0.1
WINDOWS_H: Final = (1, 24)
HOUR_US: Final = 3_600_000_000
# A compound score beyond this says something, as VADER's authors have it.
_OPINION_MIN: Final = 0.05
Columns = dict[str, FloatArray]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Grid:
    """The buckets: ends (n_buckets,), one every bucket_us without gaps; n_symbols: keys of each."""

    ends: IntArray
    bucket_us: int
    n_symbols: int

    @property
    def shape(self) -> tuple[int, int]:
        """Return (n_buckets, n_symbols)."""
        return self.ends.size, self.n_symbols

    def bars(self, hours: int) -> int:
        """Return the buckets of so many hours."""
        return hours * HOUR_US // self.bucket_us

    def ids(self, known_at: IntArray, symbol: IntArray) -> IntArray:
        """Return the place of (bucket, symbol) of each row, -1 outside the grid."""
        bucket = (bucket_ends(known_at, self.bucket_us) - self.ends[0]) // self.bucket_us
        return np.where((bucket >= 0) & (bucket < self.ends.size), bucket * self.n_symbols + symbol, -1)


@dataclass(frozen=True, slots=True)
class Said:
    """What a text says: score (n_texts,), VADER; events (n_texts, n_lists), whether it has a word of each list."""

    score: FloatArray
    events: npt.NDArray[np.bool_]


def tower_columns(
    posts: Posts, verdicts: IntArray, said: Said, *, tower: int, grid: Grid, latents: npt.NDArray[np.float32] | None,
    latent_names: tuple[str, ...], is_degraded: bool,
) -> Columns:  # fmt: skip
    """
    Return the columns of one tower, each (n_buckets, n_symbols); NaN = not known, with flags beside.

    Row t uses posts with known_at up to its bucket's end, of the last 24 hours.

    Args:
        posts, verdicts: every post that arrived, and what became of it; those in no bucket of the grid are left out.
        latents: (n_texts, n_latents), NaN where none were computed; None = the tower has no reduction.
        latent_names, is_degraded: of the columns that latents make, see latent_columns.
    """
    is_own = (posts.tower == tower) & (verdicts != LATE) & (grid.ids(posts.known_at, posts.symbol) >= 0)
    arrived = _Rows(posts, is_own, grid)
    kept = _Rows(posts, is_own & (verdicts == KEPT), grid)
    repeated = np.isin(verdicts, REPEATS)[is_own].astype(np.float64)
    n_arrived = arrived.sums(repeated[:, None])
    counts = {"arrived": n_arrived[0], "repeated": n_arrived[1][:, :, 0]}
    columns, sums = _bucket_columns(kept, said, counts)
    for hours in WINDOWS_H:
        columns |= _window_columns({**sums, **counts}, grid, hours)
    day = columns["heat_24h"]
    usual = np.log1p(np.expm1(day) / WINDOWS_H[-1])
    columns["heat_surprise"] = columns["heat_1h"] - usual
    columns |= latent_columns(kept, latents, latent_names, is_degraded=is_degraded)
    return columns


class _Rows:
    """Rows of posts within the grid, and their sums and groups by (bucket, symbol)."""

    def __init__(self, posts: Posts, chosen: npt.NDArray[np.bool_], grid: Grid) -> None:
        self.grid = grid
        self.known_at, self.symbol = posts.known_at[chosen], posts.symbol[chosen]
        self.text, self.author = posts.text[chosen], posts.author[chosen]
        self.groups = group(grid.ids(self.known_at, self.symbol), grid.ends.size * grid.n_symbols)

    def sums(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the number of rows, (n_buckets, n_symbols), and the sums of values, one axis more."""
        made = bucket_sums(
            self.known_at, values, ends=self.grid.ends, bucket_us=self.grid.bucket_us, key=self.symbol,
            n_keys=self.grid.n_symbols,
        )  # fmt: skip
        return made.n_items.astype(np.float64), made.sums

    def on_grid(self, values: FloatArray) -> FloatArray:
        """Return what the groups gave, (n_buckets, n_symbols, ...)."""
        return values.reshape(*self.grid.shape, *values.shape[1:])


def _bucket_columns(rows: _Rows, said: Said, counts: Columns) -> tuple[Columns, Columns]:
    """Return the columns of the buckets themselves, and the sums that windows are made of."""
    score, events = said.score[rows.text], said.events[rows.text].astype(np.float64)
    trimmed = rows.groups.is_trimmed(score, TRIMMED_FRAC)
    has_event = events.any(axis=1).astype(np.float64)
    parts = [score, score**2, ~trimmed, np.where(trimmed, 0.0, score), score > _OPINION_MIN, score < -_OPINION_MIN,
             has_event]  # fmt: skip
    n, sums = rows.sums(np.column_stack([*parts, events]))
    total, squares, n_inner, inner, up, down, with_event = (sums[:, :, i] for i in range(len(parts)))
    by_list = {name: sums[:, :, len(parts) :][:, :, i] for i, name in enumerate(EVENT_WORDS)}
    columns = {
        "heat": np.log1p(n),
        "authors": np.log1p(_authors(rows, n)),
        "novelty": 1.0 - _share(counts["repeated"], counts["arrived"]),
        "kept_frac": _share(n, counts["arrived"]),
        "sentiment_median": rows.on_grid(rows.groups.medians(score)),
        "sentiment_trimmed": _share(inner, n_inner),
        "opinion_spread": _spread(total, squares, n),
        "opinion_split": 4.0 * _share(up, n) * _share(down, n),
        "event_density": _share(with_event, n),
        **{f"events_{name}": np.log1p(found) for name, found in by_list.items()},
        "missing": (n == 0).astype(np.float64),
    }
    windowed = {
        "n": n,
        "score": total,
        "squares": squares,
        "event": with_event,
        **{f"of_{k}": v for k, v in by_list.items()},
    }
    return columns, windowed


def _authors(rows: _Rows, n: FloatArray) -> FloatArray:
    """
    Return the number of different authors among the posts that name theirs; NaN where there are posts and none does.

    Each (bucket, symbol) by itself: whether a source names authors at all is known in the end only.
    """
    n_named = rows.on_grid(rows.groups.n_different(rows.author, but=NO_AUTHOR))
    return np.where(n > 0, np.where(n_named > 0, n_named, np.nan), 0.0)


def _window_columns(sums: Columns, grid: Grid, hours: int) -> Columns:
    over = {name: window_sums(values, grid, hours) for name, values in sums.items()}
    n = over["n"]
    columns = {
        "heat": np.log1p(n),
        "novelty": 1.0 - _share(over["repeated"], over["arrived"]),
        "sentiment": _share(over["score"], n),
        "opinion_spread": _spread(over["score"], over["squares"], n),
        "event_density": _share(over["event"], n),
        **{f"events_{name}": np.log1p(over[f"of_{name}"]) for name in EVENT_WORDS},
        "missing": np.where(np.isnan(n), np.nan, (n == 0).astype(np.float64)),
    }
    return {f"{name}_{hours}h": values for name, values in columns.items()}


def window_sums(values: FloatArray, grid: Grid, hours: int) -> FloatArray:
    """
    Return the sums of the buckets of the last hours, (n_buckets, ...); NaN until there are so many.

    Hours are summed of buckets and days of hours: 36 additions a day, not 288, and still nothing but the window's own.
    """
    an_hour = grid.bars(1)
    hourly = rolling(values, an_hour, np.sum)
    if hours == 1:
        return hourly
    return rolling(hourly, (hours - 1) * an_hour + 1, lambda rows, axis: rows[..., ::an_hour].sum(axis=axis))


def heard_whole(known_at: IntArray, grid: Grid) -> dict[int, BoolArray]:
    """
    Return by hours of a window whether a tower was heard throughout it, (n_buckets,) each: a post of any symbol within
    a day at the end of every bucket from the window's begin on.

    Row t uses posts known in the 48 hours up to its end; `known_at`, (n,), must reach so far back from the first.
    """
    n_before = 2 * grid.bars(WINDOWS_H[-1])
    first = int(grid.ends[0]) - n_before * grid.bucket_us
    longer = Grid(first + np.arange(n_before + grid.ends.size) * grid.bucket_us, grid.bucket_us, 1)
    made = bucket_sums(known_at, np.empty((known_at.size, 0)), ends=longer.ends, bucket_us=grid.bucket_us)
    is_alive = (window_sums(made.n_items.astype(np.float64), longer, WINDOWS_H[-1]) > 0).astype(np.float64)[:, 0]
    return {hours: rolling(is_alive, grid.bars(hours) + 1, np.min)[n_before:] > 0 for hours in WINDOWS_H}


def latent_columns(
    rows: _Rows, latents: npt.NDArray[np.float32] | None, names: tuple[str, ...], *, is_degraded: bool
) -> Columns:
    """
    Return mean, spread and largest of each anchor, its mean of an hour, the mean of each component, and two flags.

    names: of the latents in order; those that begin with `anchor_` are anchors. is_degraded: whether the encoder is
    the fallback without weights; a model is told by a column of its own.
    """
    columns: Columns = {}
    if latents is None:
        n = np.zeros(rows.grid.shape)
        totals = squares = largest = np.full((*rows.grid.shape, len(names)), np.nan)
    else:
        own = latents[rows.text].astype(np.float64)
        n, sums = rows.sums(np.concatenate([own, own**2], axis=1))
        totals, squares = sums[:, :, : len(names)], sums[:, :, len(names) :]
        largest = rows.on_grid(rows.groups.largest(own))
    n_hour = window_sums(n, rows.grid, WINDOWS_H[0])
    for i, name in enumerate(names):
        columns[f"{name}_mean"] = _share(totals[:, :, i], n)
        if name.startswith("anchor_"):
            columns[f"{name}_std"] = _spread(totals[:, :, i], squares[:, :, i], n)
            columns[f"{name}_max"] = largest[:, :, i]
            columns[f"{name}_mean_{WINDOWS_H[0]}h"] = _share(
                window_sums(totals[:, :, i], rows.grid, WINDOWS_H[0]), n_hour
            )
    columns["latent_missing"] = (n == 0).astype(np.float64)
    columns["latent_degraded"] = np.full(rows.grid.shape, float(is_degraded))
    return columns


def _share(part: FloatArray, whole: FloatArray) -> FloatArray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan)


def _spread(total: FloatArray, squares: FloatArray, n: FloatArray) -> FloatArray:
    """Return the population standard deviation out of sums; NaN without values."""
    mean = _share(total, n)
    return np.sqrt(np.clip(_share(squares, n) - mean**2, 0.0, None))
