"""The leakage proof of texts: the code passes, planted leaks are caught, and a leak in the code would be."""

from __future__ import annotations

import numpy as np
import pytest

from qraft_contracts.kinds import KINDS
from qraft_quant.proof import Output, prove_subject
from qraft_text.encoder import HashedEncoder
from qraft_text.features import BUCKET_US
from qraft_text.filters import REASONS, FilterRules, judge
from qraft_text.posts import NO_AUTHOR, TOWERS, Posts
from qraft_text.proof import ProofTexts, TextFacts, TextSubjects, prove_text_state, prove_texts, subjects
from qraft_text.proof.controls import CONTROLS
from qraft_text.proof.subjects import StateSubjects
from qraft_text.proof.tables import BUCKETS, N_BUCKETS, NAMED_FROM_FRAC, draw_tables, posts_of
from qraft_text.sentiment import Sentiment

WORDS = ["bitcoin", "moon", "crash", "ether", "buy", "sell", "hack", "upgrade", "etf", "rally", "panic", "fed", "rekt"]
SEED = 7


@pytest.fixture(scope="module")
def facts():
    rng = np.random.default_rng(9)
    texts = list(dict.fromkeys(" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(300)))
    sentiment = Sentiment()
    return TextFacts.of(
        ProofTexts.of(texts), encoder=HashedEncoder(sentiment), sentiment=sentiment, filters=FilterRules(),
        bucket_us=BUCKET_US,
    )  # fmt: skip


@pytest.fixture(scope="module")
def proof(facts):
    return prove_texts(facts, seed=SEED)


def test_no_column_of_texts_reads_what_is_known_later(proof):
    assert [column.name for _, column in proof.columns if not column.passed] == []
    assert {kind for kind, _ in proof.columns} == {"text_bucket", "normalizer", "text_warm_up"}
    assert set(proof.corruptions) >= {"nan", "shuffle", "noise"}
    assert len(proof.cut_offs) >= 3


def test_every_column_moves_when_its_future_does(proof):
    """A column that never moves does not read what was corrupted: such a proof would be empty."""
    fixed = {"latent_degraded"}
    still = [column.name for kind, column in proof.columns
             if kind == "text_bucket" and column.n_moved == 0 and not column.name.endswith(tuple(fixed))]  # fmt: skip

    # A day holds posts of every tower, so that a day without is no case that comes up.
    assert [name for name in still if not name.endswith("missing_24h")] == []


def test_planted_leaks_are_caught_and_their_honest_neighbor_is_not(proof):
    found = {control.name: bool(control.caught_by) for control in proof.controls}

    assert found == CONTROLS
    assert sum(CONTROLS.values()) >= 4


class _Backwards(TextSubjects):
    """The subjects with a filter that looks at posts from the newest to the oldest."""

    def matrix_of_duplicates(self, tables) -> Output:
        posts = posts_of(tables, self.facts.texts)
        turned = {name: getattr(posts, name)[::-1] for name in (
            "post", "symbol", "tower", "author", "text", "language")}  # fmt: skip
        mirror = Posts(known_at=-posts.known_at[::-1], event_at=-posts.known_at[::-1], **turned, texts=posts.texts,
                       symbols=posts.symbols)  # fmt: skip
        verdicts = judge(mirror, self.facts.traits, self.facts.filters)[::-1]
        made = self._with_verdicts(posts, tables, verdicts)
        return Output(made.ends, made.names, made.values)

    def _with_verdicts(self, posts, tables, verdicts):
        from qraft_text.features import text_matrix
        from qraft_text.proof.tables import engagement_of

        return text_matrix(
            posts, verdicts, engagement_of(tables), said=self._said, latents={}, latent_names=(), is_degraded=True,
            ends=tables[BUCKETS].known_at, bucket_us=self.facts.bucket_us,
        )  # fmt: skip


def test_filter_that_drops_the_earlier_of_two_posts_is_caught(facts):
    tables = draw_tables(len(facts.texts.texts) - 1, bucket_us=BUCKET_US, seed=SEED)
    cuts = [int(tables[BUCKETS].known_at[row]) for row in (500, 803)]

    found = prove_subject(_Backwards(facts).matrix_of_duplicates, tables, cut_offs=cuts, seed=SEED)

    assert {"posts_heat", "posts_novelty"} <= set(found.failed_columns)


def test_drawn_tables_have_what_a_look_ahead_would_need(facts):
    """Filters that drop nothing, and sources that name all authors or none from first to last, prove nothing."""
    tables = draw_tables(len(facts.texts.texts) - 1, bucket_us=BUCKET_US, seed=SEED)
    posts = posts_of(tables, facts.texts)
    verdicts = judge(posts, facts.traits, facts.filters)
    turn = tables[BUCKETS].known_at[int(NAMED_FROM_FRAC * N_BUCKETS)]
    is_named, is_after = posts.author != NO_AUTHOR, posts.known_at >= turn
    comments, of_news = (posts.tower == TOWERS.index(name) for name in ("comments", "news"))

    for reason in ("late", "too_short", "author_rate", "duplicate"):
        assert (verdicts == REASONS.index(reason)).sum() >= 10, reason
    np.testing.assert_array_equal(is_named[comments], ~is_after[comments])
    np.testing.assert_array_equal(is_named[of_news], is_after[of_news])
    assert min(is_after[comments].mean(), is_after[of_news].mean()) > 0.2
    assert 0.2 < 1 - is_named[posts.tower == 0].mean() < 0.4


def test_same_facts_and_seed_give_the_same_tables(facts):
    one, two = (draw_tables(50, bucket_us=BUCKET_US, seed=SEED) for _ in range(2))

    for name in one:
        np.testing.assert_array_equal(one[name].known_at, two[name].known_at)


def test_what_stands_in_text_state_is_proven_without_an_encoder_or_a_lake():
    proof = prove_text_state(seed=SEED)

    for kind in ("text_bucket", "text_warm_up"):
        assert tuple(column.name for k, column in proof.columns if k == kind) == KINDS["text_state"].field_names
    assert [column.name for _, column in proof.columns if not column.passed] == []
    assert [column.name for kind, column in proof.columns if kind == "text_bucket" and not column.n_moved] == []
    assert {it.name: bool(it.caught_by) for it in proof.controls} == {
        name: is_leak for name, is_leak in CONTROLS.items() if "fitted" not in name
    }


def test_a_field_that_is_measured_by_its_whole_history_is_caught(facts, monkeypatch):
    honest = subjects.state_columns

    def against_its_mean(matrix):
        return {name: values - np.nanmean(values) for name, values in honest(matrix).items()}

    monkeypatch.setattr(subjects, "state_columns", against_its_mean)
    tables = draw_tables(len(facts.texts.texts) - 1, bucket_us=BUCKET_US, seed=SEED)
    cuts = [int(tables[BUCKETS].known_at[row]) for row in (500, 803)]

    found = prove_subject(StateSubjects(facts).buckets, tables, cut_offs=cuts, seed=SEED)

    assert set(found.failed_columns) == set(KINDS["text_state"].field_names)
