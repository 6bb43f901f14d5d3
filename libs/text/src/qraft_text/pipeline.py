"""From the tables to the matrix: read, filter, score, encode, reduce, bucket; and the manifest that names all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import numpy as np

from qraft_contracts.origin import Origin
from qraft_store.tables.port import TableStore
from qraft_text.encoder.port import Encoder
from qraft_text.features import BUCKET_US, Float32Array, TextMatrix, TextSpec, facts_of, names_of_latents, text_matrix
from qraft_text.filters import KEPT, FilterRules, judge
from qraft_text.posts import TOWERS, IntArray, Posts, no_engagement
from qraft_text.reduction import N_COMPONENTS, Reduction, fit_reduction
from qraft_text.sentiment import Sentiment
from qraft_text.sources import Found, Source, read_posts
from qraft_text.tower import HOUR_US, WINDOWS_H
from qraft_text.traits import Traits, traits_of

MANIFEST_FORMAT: Final = "text-manifest/1"
_SOME_DAY_US: Final = 1_600_000_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# A year of 5-minute buckets; of 50 symbols and 250 columns that is 5 GB, more is asked for in parts.
N_BUCKETS_MAX: Final = 110_000


class TextManifest(msgspec.Struct, frozen=True):
    """
    What a matrix is of, enough to compute it again: the same tables, spec and range give the same sha256.

    sources: with the version of each table. after, until: ends of the buckets, (after, until]. n_by_reason: rows about
    a symbol that arrived in the range, by tower and what became of them. in_sample: whether buckets lie before the end
    of the reduction's fit, so that the rows are for training alone.
    """

    format: str
    signature: str
    spec: TextSpec
    sources: tuple[Source, ...]
    origin: Origin
    symbols: tuple[str, ...]
    after: datetime
    until: datetime
    in_sample: bool
    columns: tuple[str, ...]
    n_buckets: int
    n_by_reason: dict[str, dict[str, int]]
    sha256: str

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=1) + b"\n"


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """Everything of one choice of filters, encoder and reduction. encoder, reduction: both or none."""

    sentiment: Sentiment
    filters: FilterRules
    encoder: Encoder | None = None
    reduction: Reduction | None = None
    bucket_us: int = BUCKET_US
    n_threads: int = 1

    def __post_init__(self) -> None:
        if (self.encoder is None) != (self.reduction is None):
            raise ValueError("expected an encoder and its reduction, or neither, received one of them")
        if self.encoder is not None and self.reduction is not None:
            self.reduction.require_encoder(self.encoder)

    @property
    def spec(self) -> TextSpec:
        """Return what decides the columns."""
        reduction = self.reduction
        return TextSpec(
            filters=self.filters,
            bucket_us=self.bucket_us,
            sentiment_sha256=self.sentiment.sha256,
            encoder_sha256=reduction.encoder_sha256 if reduction else "",
            reduction_sha256=reduction.sha256 if reduction else "",
            is_degraded=reduction.is_degraded if reduction else False,
            latents=names_of_latents(reduction.n_components) if reduction else (),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        ends = np.array([_SOME_DAY_US // self.bucket_us * self.bucket_us])
        latents = self.spec.latents
        nobody = np.empty(0, np.int64)
        posts = Posts(nobody, nobody, nobody, nobody, nobody, nobody, nobody, nobody, (), ("",))
        said = facts_of((), self.sentiment)
        return text_matrix(
            posts, nobody, no_engagement(), said=said, latents={}, latent_names=latents, is_degraded=False, ends=ends,
            bucket_us=self.bucket_us,
        ).names  # fmt: skip

    def compute(
        self, tables: TableStore, *, markets: Sequence[str], symbols: Sequence[str], after: datetime, until: datetime,
        in_sample: bool = False,
    ) -> tuple[TextMatrix, TextManifest]:  # fmt: skip
        """
        Return the columns of the buckets that end in (after, until], and their manifest.

        Args:
            markets: of the tables, such as twitter and news.
            in_sample: allow buckets before the end of the reduction's fit, for training alone.

        Raises:
            ValueError: if nothing is stored in the range, it holds no bucket or more than N_BUCKETS_MAX, or buckets
                lie before the end of the fit without in_sample.
        """
        ends = bucket_grid(after, until, bucket_us=self.bucket_us)
        if self.reduction is not None:
            self.reduction.require_later(ends, in_sample=in_sample)
        found = self._read(
            tables, markets=markets, symbols=symbols, first_us=int(ends[0]) - self.bucket_us, until=until
        )
        posts = found.posts
        traits = traits_of(posts.texts)
        verdicts = judge(posts, traits, self.filters)
        spec = self.spec
        matrix = text_matrix(
            posts,
            verdicts,
            found.engagement,
            said=facts_of(traits.clean, self.sentiment),
            latents=self._latents(posts, traits, verdicts, after_us=int(ends[0]) - self.bucket_us - HOUR_US),
            latent_names=spec.latents,
            is_degraded=spec.is_degraded,
            ends=ends,
            bucket_us=self.bucket_us,
        )
        manifest = TextManifest(
            MANIFEST_FORMAT, spec.signature, spec, found.sources, found.origin, tuple(symbols), after, until, in_sample,
            matrix.names, ends.size, {name: dict(counts) for name, counts in matrix.n_by_reason.items()}, matrix.sha256,
        )  # fmt: skip
        return matrix, manifest

    def _read(
        self, tables: TableStore, *, markets: Sequence[str], symbols: Sequence[str], first_us: int, until: datetime
    ) -> Found:
        # Windows reach back a day, and what was a repetition on that day by what was said on the one before.
        back = timedelta(hours=WINDOWS_H[-1]) + timedelta(microseconds=self.filters.look_back_us)
        return read_posts(
            tables, markets=markets, symbols=symbols, after=instant(first_us) - back, until=until,
            lag=timedelta(microseconds=self.filters.lag_us),
        )  # fmt: skip

    def _latents(self, posts: Posts, traits: Traits, verdicts: IntArray, *, after_us: int) -> dict[str, Float32Array]:
        """Return the latents of the texts that count, by tower; the caller asks for the hour of their window too."""
        latents: dict[str, Float32Array] = {}
        if self.encoder is None or self.reduction is None:
            return latents
        for place, tower in enumerate(TOWERS):
            if tower not in self.reduction.towers:
                continue
            chosen = np.unique(posts.text[(posts.tower == place) & (verdicts == KEPT) & (posts.known_at > after_us)])
            whole = np.full((len(posts.texts), self.reduction.n_latents), np.nan, np.float32)
            vectors = self.encoder.encode([traits.clean[i] for i in chosen], n_threads=self.n_threads)
            whole[chosen] = self.reduction.project(vectors, tower)
            latents[tower] = whole
        return latents


def fit_text_reduction(
    tables: TableStore,
    encoder: Encoder,
    *,
    filters: FilterRules,
    markets: Sequence[str],
    symbols: Sequence[str],
    after: datetime,
    until: datetime,
    n_components: int = N_COMPONENTS,
    n_threads: int = 1,
) -> Reduction:
    """
    Fit the reduction on the posts that became known in (after, until] and count.

    Raises:
        ValueError: if nothing is stored in the range or too few posts count, see fit_reduction.
    """
    back = timedelta(microseconds=filters.look_back_us)
    found = read_posts(
        tables, markets=markets, symbols=symbols, after=after - back, until=until,
        lag=timedelta(microseconds=filters.lag_us),
    )  # fmt: skip
    posts, traits = found.posts, traits_of(found.posts.texts)
    counts = judge(posts, traits, filters) == KEPT
    vectors, known_at = {}, {}
    for place, tower in enumerate(TOWERS):
        rows = np.flatnonzero((posts.tower == place) & counts & (posts.known_at > micros_of(after)))
        # A post about three symbols is one post; its first row stands for it.
        rows = rows[np.sort(np.unique(posts.post[rows], return_index=True)[1])]
        if rows.size:
            texts = [traits.clean[i] for i in posts.text[rows]]
            vectors[tower], known_at[tower] = encoder.encode(texts, n_threads=n_threads), posts.known_at[rows]
    return fit_reduction(
        vectors,
        known_at,
        encoder=encoder,
        after_us=micros_of(after),
        until_us=micros_of(until),
        filters_sha256=hashlib.sha256(msgspec.json.encode(filters)).hexdigest(),
        sources=tuple(f"{source.kind}/{source.market}/{source.version}" for source in found.sources),
        n_components=n_components,
    )


def bucket_grid(after: datetime, until: datetime, *, bucket_us: int) -> IntArray:
    """
    Return the ends of the buckets in (after, until].

    Raises:
        ValueError: if there is none, or more than N_BUCKETS_MAX.
    """
    first, last = micros_of(after) // bucket_us + 1, micros_of(until) // bucket_us
    if not 1 <= last - first + 1 <= N_BUCKETS_MAX:
        raise ValueError(f"expected 1 to {N_BUCKETS_MAX} buckets in ({after.isoformat()}, {until.isoformat()}], "
                         f"received {last - first + 1}")  # fmt: skip
    return np.arange(first, last + 1, dtype=np.int64) * bucket_us


def instant(micros: int) -> datetime:
    """Return the UTC instant of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=micros)


def micros_of(at: datetime) -> int:
    """Return microseconds since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)
