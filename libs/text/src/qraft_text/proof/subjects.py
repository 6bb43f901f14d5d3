"""What is put to the proof: every column of every tower, and the reduction with its fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from qraft_quant.proof import Output, Subject, Tables
from qraft_quant.proof.subjects import output_of
from qraft_text.encoder.port import Encoder, TextVectors
from qraft_text.features import Float32Array, TextMatrix, facts_of, names_of_latents, text_matrix
from qraft_text.filters import KEPT, FilterRules, judge
from qraft_text.posts import TOWERS, IntArray, Posts
from qraft_text.proof.short import ShortEncoder
from qraft_text.proof.tables import BUCKETS, N_BUCKETS, ProofTexts, engagement_of, posts_of
from qraft_text.reduction import fit_reduction
from qraft_text.sentiment import Sentiment
from qraft_text.state import state_columns
from qraft_text.tower import WINDOWS_H
from qraft_text.traits import Traits, traits_of

BUCKET_KIND: Final = "text_bucket"
# Part of the buckets that the reduction of the proof is fitted on; cut-offs of it lie behind.
_FIT_FRAC: Final = 0.4
_N_COMPONENTS: Final = 4
_HOUR_US: Final = 3_600_000_000


@dataclass(frozen=True, slots=True)
class TextFacts:
    """What every text is by itself, computed once: no corruption changes what a text says, only where it stands."""

    texts: ProofTexts
    traits: Traits
    vectors: TextVectors
    sentiment: Sentiment
    encoder: Encoder
    filters: FilterRules
    bucket_us: int

    @classmethod
    def of(
        cls, texts: ProofTexts, *, encoder: Encoder, sentiment: Sentiment, filters: FilterRules, bucket_us: int,
        n_threads: int = 1,
    ) -> TextFacts:  # fmt: skip
        """Score and encode the texts."""
        traits, short = traits_of(texts.texts), ShortEncoder(encoder)
        vectors = short.encode(traits.clean, n_threads=n_threads)
        return cls(texts, traits, vectors, sentiment, short, filters, bucket_us)


class TextSubjects:
    """The computations of a proof on tables of draw_tables; the functions are those that history runs."""

    latent_names = names_of_latents(_N_COMPONENTS)

    def __init__(self, facts: TextFacts) -> None:
        self.facts = facts
        self._said = facts_of(facts.traits.clean, facts.sentiment)
        # Columns of latents are proven with fixed latents: any function of a text will do. The fit is proven by itself.
        fixed = facts.vectors[:, : len(self.latent_names)].astype(np.float32)
        self._latents: Mapping[str, Float32Array] = dict.fromkeys(TOWERS, fixed) if self.latent_names else {}

    def all(self) -> list[Subject]:
        """Return the subjects."""
        return [
            Subject(BUCKET_KIND, self.buckets),
            Subject("normalizer", self.reduced, int(_FIT_FRAC * N_BUCKETS)),
        ]

    def buckets(self, tables: Tables, *, first: int = 0) -> Output:
        """Return every column of every bucket from one on, out of the posts that the stores would be asked for."""
        made = self.matrix(tables, first=first)
        return Output(made.ends, made.names, made.values)

    def reduced(self, tables: Tables) -> Output:
        """Return the latents of each bucket after a fit on the first part of the history."""
        posts, ends = posts_of(tables, self.facts.texts), tables[BUCKETS].known_at
        counts = judge(posts, self.facts.traits, self.facts.filters) == KEPT
        until = self.fitted_until(tables)
        latents = self.project(posts, counts, after_us=0, until_us=until)
        later = ends[ends >= until]
        made = self._matrix(posts, tables, latents=latents, ends=later)
        chosen = [i for i, name in enumerate(made.names) if "_anchor_" in name or "_component_" in name]
        return Output(later, tuple(made.names[i] for i in chosen), made.values[:, :, chosen])

    def fitted_until(self, tables: Tables) -> int:
        """Return the end of the first part of the history."""
        return int(tables[BUCKETS].known_at[int(_FIT_FRAC * N_BUCKETS)])

    def project(
        self, posts: Posts, counts: np.ndarray[tuple[int], np.dtype[np.bool_]], *, after_us: int, until_us: int
    ) -> Mapping[str, Float32Array]:
        """Fit on the posts of a window that count, and return what each text becomes."""
        facts = self.facts
        own = {tower: counts & (posts.tower == place) for place, tower in enumerate(TOWERS)}
        reduction = fit_reduction(
            {tower: facts.vectors[posts.text[rows]] for tower, rows in own.items()},
            {tower: posts.known_at[rows] for tower, rows in own.items()},
            encoder=facts.encoder,
            after_us=after_us,
            until_us=until_us,
            filters_sha256="",
            n_components=_N_COMPONENTS,
        )
        return {tower: reduction.project(facts.vectors, tower) for tower in reduction.towers}

    def matrix(self, tables: Tables, *, first: int) -> TextMatrix:
        """Return the matrix from a bucket on, out of the posts that the stores would be asked for."""
        posts, ends = posts_of(tables, self.facts.texts), tables[BUCKETS].known_at[first:]
        if first:
            back = WINDOWS_H[-1] * _HOUR_US + self.facts.filters.look_back_us + self.facts.bucket_us
            posts = rows_after(posts, int(ends[0]) - back)
        return self._matrix(posts, tables, latents=self._latents, ends=ends)

    def _matrix(
        self, posts: Posts, tables: Tables, *, latents: Mapping[str, Float32Array], ends: IntArray
    ) -> TextMatrix:  # fmt: skip
        return text_matrix(
            posts,
            judge(posts, self.facts.traits, self.facts.filters),
            engagement_of(tables),
            said=self._said,
            latents=latents,
            latent_names=self.latent_names,
            is_degraded=self.facts.encoder.is_degraded,
            ends=ends,
            bucket_us=self.facts.bucket_us,
        )


class StateSubjects(TextSubjects):
    """The same for the columns that need no fit, as rows of text_state hold them; vectors are not looked at."""

    latent_names = ()

    def all(self) -> list[Subject]:
        """Return the subject."""
        return [Subject(BUCKET_KIND, self.buckets)]

    def buckets(self, tables: Tables, *, first: int = 0) -> Output:
        """Return every field of text_state of every bucket from one on."""
        made = self.matrix(tables, first=first)
        return output_of(made.ends, state_columns(made))


def rows_after(posts: Posts, after_us: int) -> Posts:
    """Return the rows that became known after an instant."""
    chosen = posts.known_at > after_us
    names = ("known_at", "event_at", "post", "symbol", "tower", "author", "text", "language")
    columns = {name: getattr(posts, name)[chosen] for name in names}
    return Posts(**columns, texts=posts.texts, symbols=posts.symbols)
