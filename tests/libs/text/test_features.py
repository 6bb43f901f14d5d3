"""The columns of a bucket, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from tests.libs.text.text_kit import MINUTE_US, START_US, columns

from qraft_text.features import BUCKET_US, names_of_latents, text_matrix
from qraft_text.filters import KEPT, REASONS
from qraft_text.grouping import group
from qraft_text.lexicon import EVENT_WORDS
from qraft_text.posts import NO_AUTHOR, TOWERS, Engagement, no_engagement
from qraft_text.tower import Grid, Said, window_sums

HACK = list(EVENT_WORDS).index("hack")


def bucket(n):
    """Return the end of the n-th bucket after START."""
    return START_US + n * BUCKET_US


def said(scores, *, hacked=()):
    events = np.zeros((len(scores), len(EVENT_WORDS)), np.bool_)
    events[list(hacked), HACK] = True
    return Said(np.array(scores, float), events)


def matrix(rows, scores, *, verdicts=None, hacked=(), ends=None, latents=None, engagement=None, **kind):
    """Return {column: (n_buckets, n_symbols)}; text i has scores[i]."""
    posts = columns(rows, **kind)
    made = text_matrix(
        posts,
        np.full(len(posts), KEPT) if verdicts is None else np.array([REASONS.index(v) for v in verdicts]),
        engagement or no_engagement(),
        said=said(scores, hacked=hacked),
        latents=latents or {},
        latent_names=("anchor_bull", "component_00") if latents else (),
        is_degraded=False,
        ends=np.array([bucket(1), bucket(2)]) if ends is None else ends,
        bucket_us=BUCKET_US,
    )
    return {name: made.values[:, :, i] for i, name in enumerate(made.names)}


def test_post_counts_in_the_bucket_at_whose_end_it_is_known_at_the_latest():
    rows = [(0, "on the edge of the bucket before"), (0.1, "a"), (5, "exactly at the end"), (5.1, "next")]

    found = matrix(rows, [0.0] * 4)

    np.testing.assert_allclose(found["posts_heat"][:, 0], np.log1p([2, 1]), rtol=1e-6)


def test_time_of_writing_moves_no_post():
    rows = [(7, "written long ago", {"event_at": START_US + MINUTE_US})]

    found = matrix(rows, [0.5])

    assert found["posts_missing"][:, 0].tolist() == [1.0, 0.0]


def test_columns_of_a_bucket_are_those_that_one_counts_by_hand():
    rows = [(i / 10 + 0.1, f"text {i}", {"author": i % 3}) for i in range(10)]
    scores = [0.9, 0.8, 0.02, -0.5, 0.3, 0.3, -0.9, 0.1, 0.2, 0.0]

    found = matrix(rows, scores, hacked=(3, 6, 7))
    first = {name: float(values[0, 0]) for name, values in found.items()}

    assert first["posts_heat"] == pytest.approx(np.log1p(10))
    assert first["posts_authors"] == pytest.approx(np.log1p(3))
    assert first["posts_sentiment_median"] == pytest.approx(np.median(scores))
    assert first["posts_sentiment_trimmed"] == pytest.approx(np.mean(sorted(scores)[1:9]))
    assert first["posts_opinion_spread"] == pytest.approx(np.std(scores))
    assert first["posts_opinion_split"] == pytest.approx(4 * 0.6 * 0.2)
    assert first["posts_event_density"] == pytest.approx(0.3)
    assert first["posts_events_hack"] == pytest.approx(np.log1p(3))
    assert first["posts_events_macro"] == 0.0
    assert (first["posts_missing"], first["news_missing"]) == (0.0, 1.0)


def test_bucket_without_posts_knows_no_mood_and_says_so():
    found = matrix([(1, "only in the first")], [0.5])

    assert np.isnan(found["posts_sentiment_median"][1, 0])
    assert np.isnan(found["posts_event_density"][1, 0])
    assert found["posts_missing"][1, 0] == 1.0
    assert found["posts_heat"][1, 0] == 0.0
    assert found["posts_heat_1h"][1, 0] == pytest.approx(np.log1p(1))
    assert found["posts_sentiment_1h"][1, 0] == pytest.approx(0.5)


def test_dropped_posts_count_for_novelty_alone_and_late_ones_for_nothing():
    rows = [(i / 10 + 0.1, f"text {i}") for i in range(5)]

    found = matrix(rows, [1.0, 0, 0, 0, 0], verdicts=["kept", "duplicate", "template", "too_short", "late"])

    assert found["posts_heat"][0, 0] == pytest.approx(np.log1p(1))
    assert found["posts_novelty"][0, 0] == pytest.approx(1 - 2 / 4)
    assert found["posts_kept_frac"][0, 0] == pytest.approx(1 / 4)


def test_authors_are_counted_among_posts_that_name_theirs_in_each_bucket_by_itself():
    named, nobody = {"author": 7}, {"author": NO_AUTHOR}
    rows = [(1, "a", named), (2, "b", nobody), (3, "c", {"author": 8}), (3.5, "d", named), (6, "e", nobody),
            (7, "f", {**named, "symbol": 1})]  # fmt: skip

    found = matrix(rows, [0.0] * 6, symbols=("BTCUSDT", "ETHUSDT"), ends=np.array([bucket(1), bucket(2), bucket(3)]))

    expected = [[np.log1p(2), 0.0], [np.nan, np.log1p(1)], [0.0, 0.0]]
    np.testing.assert_allclose(found["posts_authors"], expected, rtol=1e-6)


def drawn_posts(seed):
    """Return posts of two days; in each tower authors are named always, never, at times, or from or up to a time."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 120))
    minutes = np.sort(rng.integers(1, 2 * 24 * 60 * 10, n)) / 10
    turn = rng.uniform(0, 2 * 24 * 60)
    habits = [lambda _: True, lambda _: False, lambda _: rng.random() < 0.3, lambda m: m > turn, lambda m: m <= turn]
    of_tower = rng.integers(0, len(habits), len(TOWERS))
    first_at = rng.choice([0.0, turn], len(TOWERS))  # some towers begin late
    rows = []
    for i, minute in enumerate(minutes):
        tower = int(rng.integers(0, len(TOWERS)))
        if minute >= first_at[tower]:
            author = int(rng.integers(0, 4)) if habits[of_tower[tower]](minute) else NO_AUTHOR
            symbol = int(rng.integers(0, 2))
            rows.append((float(minute), f"text {i}", {"tower": tower, "author": author, "symbol": symbol}))
    return rows, turn


@pytest.mark.parametrize("seed", range(30))
def test_no_bucket_changes_with_posts_that_come_later(seed):
    rows, turn = drawn_posts(seed)
    kind = {"symbols": ("BTCUSDT", "ETHUSDT")}
    rng = np.random.default_rng(seed)
    scores, latent = rng.uniform(-1, 1, len(rows)), rng.normal(0, 1, (len(rows), 2)).astype(np.float32)
    n_cut = int(turn) // 5
    early = [row for row in rows if row[0] <= 5 * n_cut]
    ends = bucket(1) + np.arange(576) * BUCKET_US

    def of(some):
        latents = {name: latent[: len(some)] for name in TOWERS}
        return matrix(some, scores[: len(some)], hacked=range(0, len(some), 3), ends=ends, latents=latents, **kind)

    whole, known = of(rows), of(early)

    for name, values in whole.items():
        np.testing.assert_array_equal(known[name][:n_cut], values[:n_cut], err_msg=name)


def test_windows_hold_their_hours_and_not_a_bucket_more():
    day = 24 * 60
    rows = [(0.5, "a day before"), (day - 59, "within the hour"), (day - 1, "just now")]
    at_a_day, after = bucket(288), bucket(289)

    found = matrix(rows, [1.0, 0.5, 0.0], ends=np.array([at_a_day, after]))

    np.testing.assert_allclose(found["posts_heat_24h"][:, 0], np.log1p([3, 2]), rtol=1e-6)
    np.testing.assert_allclose(found["posts_heat_1h"][:, 0], np.log1p([2, 1]), rtol=1e-6)
    np.testing.assert_allclose(found["posts_sentiment_24h"][:, 0], [0.5, 0.25], rtol=1e-6)
    expected = np.log1p(2) - np.log1p(3 / 24)
    assert found["posts_heat_surprise"][0, 0] == pytest.approx(expected, rel=1e-6)


def test_sums_of_days_are_those_of_their_buckets():
    values = np.random.default_rng(2).normal(0, 1, (700, 2))

    found = window_sums(values, Grid(bucket(1) + np.arange(700) * BUCKET_US, BUCKET_US, 2), 24)

    np.testing.assert_allclose(found[400], values[113:401].sum(axis=0), rtol=1e-12)
    assert np.isnan(found[286]).all() and np.isfinite(found[287]).all()


def test_comment_ratio_is_that_of_a_day_and_towers_stay_apart():
    tower = TOWERS.index("comments")
    rows = [(1, "post"), (2, "comment one", {"tower": tower}), (3, "comment two", {"tower": tower})]

    found = matrix(rows, [0.8, -0.2, -0.4])

    assert found["comment_ratio_24h"][1, 0] == pytest.approx(2 / 3)
    assert found["posts_sentiment_median"][0, 0] == pytest.approx(0.8)
    assert found["comments_sentiment_median"][0, 0] == pytest.approx(-0.3)


def test_symbols_stay_apart():
    rows = [(1, "one"), (1.5, "two", {"symbol": 1}), (2, "three", {"symbol": 1})]

    found = matrix(rows, [0.1, 0.2, 0.4], symbols=("BTCUSDT", "ETHUSDT"))

    np.testing.assert_allclose(found["posts_heat"][0], np.log1p([1, 2]), rtol=1e-6)
    np.testing.assert_allclose(found["posts_sentiment_median"][0], [0.1, 0.3], rtol=1e-6)


def test_engagement_is_used_once_it_is_counted_and_while_its_post_is_fresh():
    hours = 60 * MINUTE_US
    known = np.array([bucket(1) - MINUTE_US, bucket(2), bucket(2)])
    event = np.array([START_US - hours, START_US - 2 * hours, START_US - 30 * hours])
    counts = Engagement(known, event, np.zeros(3, np.int64), np.array([1.0, 3.0, 50.0]))

    found = matrix([(1, "a post")], [0.0], engagement=counts)

    np.testing.assert_allclose(found["engagement_24h"][:, 0], [1.0, 2.0])
    assert found["engagement_missing_24h"][:, 0].tolist() == [0.0, 0.0]
    assert matrix([(1, "a post")], [0.0])["engagement_missing_24h"][0, 0] == 1.0


def test_latents_are_pooled_by_mean_spread_and_largest():
    latents = {"posts": np.array([[0.1, 1.0], [0.5, 3.0], [np.nan, np.nan]], np.float32)}

    found = matrix(
        [(1, "one"), (2, "two"), (7, "three")], [0, 0, 0], verdicts=["kept", "kept", "too_short"], latents=latents
    )

    assert found["posts_anchor_bull_mean"][0, 0] == pytest.approx(0.3)
    assert found["posts_anchor_bull_std"][0, 0] == pytest.approx(0.2)
    assert found["posts_anchor_bull_max"][0, 0] == pytest.approx(0.5)
    assert found["posts_anchor_bull_mean_1h"][1, 0] == pytest.approx(0.3)
    assert found["posts_component_00_mean"][0, 0] == pytest.approx(2.0)
    assert found["posts_latent_missing"][:, 0].tolist() == [0.0, 1.0]
    assert np.isnan(found["news_anchor_bull_mean"]).all()


def test_one_tower_has_at_most_64_latent_columns():
    names = names_of_latents(16)
    posts = columns([(1, "x y z")])
    made = text_matrix(
        posts, np.zeros(1, np.int64), no_engagement(), said=said([0.0]), latents={}, latent_names=names,
        is_degraded=True, ends=np.array([bucket(1)]), bucket_us=BUCKET_US,
    )  # fmt: skip

    own = [name for name in made.names if name.startswith("posts_") and ("_anchor_" in name or "_component_" in name)]
    assert len(own) == 64
    assert made.values[0, 0, made.names.index("posts_latent_degraded")] == 1.0


def test_grid_with_gaps_or_off_the_hour_is_refused():
    with pytest.raises(ValueError, match="without gaps"):
        matrix([(1, "x")], [0.0], ends=np.array([bucket(1), bucket(3)]))
    with pytest.raises(ValueError, match="part of an hour"):
        text_matrix(
            columns([(1, "x")]), np.zeros(1, np.int64), no_engagement(), said=said([0.0]), latents={}, latent_names=(),
            is_degraded=False, ends=np.array([0]), bucket_us=7 * MINUTE_US,
        )  # fmt: skip


def test_groups_give_what_each_group_gives_by_itself():
    rng = np.random.default_rng(4)
    ids, values, authors = rng.integers(0, 9, 200) * 2, rng.normal(0, 1, 200).round(1), rng.integers(0, 5, 200)

    made = group(ids, 20)
    kept = ~made.is_trimmed(values, 0.1)

    for i in range(20):
        own = values[ids == i]
        if own.size == 0:
            assert np.isnan(made.medians(values)[i])
            continue
        n_cut = int(0.1 * own.size)
        assert made.medians(values)[i] == pytest.approx(np.median(own))
        assert sorted(values[(ids == i) & kept]) == sorted(own)[n_cut : own.size - n_cut]
        assert made.largest(values[:, None])[i, 0] == own.max()
        assert made.n_different(authors, but=3)[i] == len(set(authors[ids == i]) - {3})
