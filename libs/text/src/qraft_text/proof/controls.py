"""Planted leaks of texts, and an honest neighbor: this file looks ahead on purpose, for the proof must catch it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from qraft_quant.align import bucket_sums
from qraft_quant.proof import Compute, Output, Tables
from qraft_text.filters import KEPT, judge
from qraft_text.posts import NEWS, NO_AUTHOR, FloatArray, IntArray
from qraft_text.proof.subjects import TextSubjects
from qraft_text.proof.tables import BUCKETS, N_SYMBOLS, engagement_of, posts_of

# Of the fit of a reduction; the others are of every column. True = it leaks.
_OF_FIT: Final = "components fitted on everything"
CONTROLS: Final[Mapping[str, bool]] = {
    "bucket by the time of writing": True,
    _OF_FIT: True,
    "duplicates of later posts dropped": True,
    "author judged by all of their posts": True,
    "engagement as counted later": True,
    "authors unknown where nobody ever names one": True,
    "bucket by the time of knowing": False,
}


@dataclass(frozen=True, slots=True)
class TextControl:
    """One control. is_leak: whether the proof must find something."""

    name: str
    is_leak: bool
    compute: Compute


def text_controls(subjects: TextSubjects) -> list[TextControl]:
    """Return every control."""
    made: dict[str, Callable[[Tables], FloatArray]] = {
        "bucket by the time of writing": lambda tables: _by_event_time(tables, subjects),
        _OF_FIT: lambda tables: _fitted_on_all(tables, subjects),
        "duplicates of later posts dropped": lambda tables: _said_once(tables, subjects),
        "author judged by all of their posts": lambda tables: _rare_authors(tables, subjects),
        "engagement as counted later": lambda tables: _engagement_of_posts(tables, subjects),
        "authors unknown where nobody ever names one": lambda tables: _authors_of_source(tables, subjects),
        "bucket by the time of knowing": lambda tables: _heat(tables, subjects),
    }
    return [TextControl(name, is_leak, _output(name, made[name])) for name, is_leak in CONTROLS.items()]


def state_controls(subjects: TextSubjects) -> list[TextControl]:
    """Return the controls of columns that need no fit."""
    return [control for control in text_controls(subjects) if control.name != _OF_FIT]


def _output(name: str, function: Callable[[Tables], FloatArray]) -> Compute:
    return lambda tables: Output(tables[BUCKETS].known_at, (name,), function(tables)[:, :, None])


def _sums(at: IntArray, values: FloatArray, symbol: IntArray, tables: Tables, *, bucket_us: int) -> FloatArray:
    order = np.argsort(at, kind="stable")
    made = bucket_sums(
        at[order], values[order][:, None], ends=tables[BUCKETS].known_at, bucket_us=bucket_us, key=symbol[order],
        n_keys=N_SYMBOLS,
    )  # fmt: skip
    column: FloatArray = made.sums[:, :, 0]
    return column


def _heat(tables: Tables, subjects: TextSubjects) -> FloatArray:
    posts = posts_of(tables, subjects.facts.texts)
    counts = judge(posts, subjects.facts.traits, subjects.facts.filters) == KEPT
    return _sums(posts.known_at, counts.astype(float), posts.symbol, tables, bucket_us=subjects.facts.bucket_us)


def _by_event_time(tables: Tables, subjects: TextSubjects) -> FloatArray:
    """Count a post where it was written, hours before anybody here could have read it."""
    posts = posts_of(tables, subjects.facts.texts)
    ones = np.ones(len(posts))
    return _sums(posts.event_at, ones, posts.symbol, tables, bucket_us=subjects.facts.bucket_us)


def _fitted_on_all(tables: Tables, subjects: TextSubjects) -> FloatArray:
    """Reduce with components of the whole history."""
    posts = posts_of(tables, subjects.facts.texts)
    latents = subjects.project(posts, np.ones(len(posts), np.bool_), after_us=0, until_us=int(posts.known_at[-1]))
    component = np.stack(list(latents.values())).sum(axis=0)[:, -1].astype(np.float64)
    return _sums(posts.known_at, component[posts.text], posts.symbol, tables, bucket_us=subjects.facts.bucket_us)


def _said_once(tables: Tables, subjects: TextSubjects) -> FloatArray:
    """Keep only texts that nobody repeats, ever."""
    posts = posts_of(tables, subjects.facts.texts)
    _, place, n = np.unique(posts.text, return_inverse=True, return_counts=True)
    once = (n[place] == 1).astype(float)
    return _sums(posts.known_at, once, posts.symbol, tables, bucket_us=subjects.facts.bucket_us)


def _rare_authors(tables: Tables, subjects: TextSubjects) -> FloatArray:
    """Drop the posts of authors who post much, as the whole history says."""
    posts = posts_of(tables, subjects.facts.texts)
    _, place, n = np.unique(posts.author, return_inverse=True, return_counts=True)
    rare = (n[place] <= np.median(n)).astype(float)
    return _sums(posts.known_at, rare, posts.symbol, tables, bucket_us=subjects.facts.bucket_us)


def _authors_of_source(tables: Tables, subjects: TextSubjects) -> FloatArray:
    """Count news that name an author; unknown in every bucket if no news of the whole history does."""
    posts = posts_of(tables, subjects.facts.texts)
    own = posts.tower == NEWS
    is_named = posts.author[own] != NO_AUTHOR
    n_named = _sums(
        posts.known_at[own], is_named.astype(float), posts.symbol[own], tables, bucket_us=subjects.facts.bucket_us
    )
    return n_named if is_named.any() else np.full(n_named.shape, np.nan)


def _engagement_of_posts(tables: Tables, subjects: TextSubjects) -> FloatArray:
    """Give each post the likes that it has in the end, at the time at which it was written."""
    rows = engagement_of(tables)
    counts = np.nan_to_num(rows.log_count, nan=-1.0)
    return _sums(rows.event_at, counts, rows.symbol, tables, bucket_us=subjects.facts.bucket_us)
