"""From a real lake to the matrix: what is read, what is refused, and that the same raw rows give the same bytes."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from tests.libs.text.text_kit import START, at, counted, news, post, store

from qraft_store.tables.lake import ParquetTables
from qraft_text.encoder import HashedEncoder
from qraft_text.filters import FilterRules
from qraft_text.pipeline import TextFeatures, bucket_grid, fit_text_reduction
from qraft_text.sentiment import Sentiment
from qraft_text.sources import read_posts

DAYS = 5
N_POSTS = 900
WORDS = ["bitcoin", "moon", "crash", "ether", "buy", "sell", "hack", "upgrade", "etf", "rally", "panic", "bull", "bear"]
ASKED = {"markets": ["twitter"], "symbols": ["BTCUSDT", "ETHUSDT"]}


@pytest.fixture(scope="module")
def sentiment():
    return Sentiment()


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Five days of posts of drawn words, news and engagement."""
    rng = np.random.default_rng(6)
    found = ParquetTables(tmp_path_factory.mktemp("lake"))
    minutes = np.sort(rng.uniform(0, DAYS * 1440, N_POSTS)).round(2)
    texts = [" ".join(rng.choice(WORDS, rng.integers(4, 9))) for _ in minutes]
    store(found, "posts", [
        post(m, text, row_id=f"p{i:04d}", symbol=("BTCUSDT", "ETHUSDT")[i % 2], is_comment=bool(i % 5 == 0),
             author_hash=f"a{i % 40}", known=m + float(rng.exponential(20)))
        for i, (m, text) in enumerate(zip(minutes, texts, strict=True))
    ])  # fmt: skip
    store(found, "post_engagement", [
        counted(m, row_id=f"p{i:04d}", known=m + 60, likes=i) for i, m in enumerate(minutes[:50])
    ])  # fmt: skip
    return found


@pytest.fixture(scope="module")
def features(tables, sentiment):
    encoder = HashedEncoder(sentiment)
    reduction = fit_text_reduction(
        tables, encoder, filters=FilterRules(), after=START, until=START + timedelta(days=2), n_components=4, **ASKED
    )
    return TextFeatures(sentiment, FilterRules(), encoder, reduction)


def compute(features, tables, *, days=(3, 5), **other):
    after, until = (START + timedelta(days=day) for day in days)
    return features.compute(tables, **(ASKED | {"after": after, "until": until} | other))


def column(matrix, name):
    return matrix.values[:, :, matrix.names.index(name)]


def test_two_runs_and_any_number_of_threads_give_the_same_bytes(features, tables, sentiment):
    matrix, manifest = compute(features, tables)
    threaded = TextFeatures(sentiment, FilterRules(), features.encoder, features.reduction, n_threads=3)

    for other in (features, threaded):
        again, manifest_again = compute(other, tables)
        assert again.values.tobytes() == matrix.values.tobytes()
        assert manifest_again.encode() == manifest.encode()
    assert manifest.sha256 == matrix.sha256
    assert manifest.spec.is_degraded


def test_rows_do_not_depend_on_where_the_range_begins_or_ends(features, tables):
    whole, _ = compute(features, tables, days=(2, 5))
    part, _ = compute(features, tables, days=(3.3, 4.2))

    first = int((part.ends[0] - whole.ends[0]) // 300_000_000)
    np.testing.assert_array_equal(whole.values[first : first + len(part.ends)], part.values)


def test_manifest_names_tables_rules_and_what_became_of_every_row(features, tables):
    matrix, manifest = compute(features, tables)
    n_known = sum(sum(counts.values()) for counts in manifest.n_by_reason.values())
    read = {(source.kind, source.market): source.version for source in manifest.sources}

    assert read[("posts", "twitter")] == tables.version("posts", market="twitter")
    assert ("post_engagement", "twitter") in read
    known = tables.read("posts", market="twitter", symbols=None, start=START - timedelta(days=9), end=at(DAYS * 1440))
    arrived = known["known_at"].to_numpy().astype("datetime64[us]").astype(np.int64)
    assert n_known == ((arrived > matrix.ends[0] - 300_000_000) & (arrived <= matrix.ends[-1])).sum()
    assert manifest.spec.reduction_sha256 == features.reduction.sha256
    assert manifest.columns == matrix.names == features.names


def test_new_rows_in_the_past_change_the_version_and_the_bytes(features, tmp_path):
    tables = ParquetTables(tmp_path)
    rows = [post(m, f"bitcoin is worth {m} words of mine", row_id=f"r{m}") for m in range(3 * 1440, 3 * 1440 + 30)]
    store(tables, "posts", rows[:20])
    before = compute(features, tables, days=(3, 3.1))
    store(tables, "posts", rows[20:])
    after = compute(features, tables, days=(3, 3.1))

    assert before[1].sources != after[1].sources
    assert before[0].sha256 != after[0].sha256


def test_buckets_before_the_end_of_the_fit_are_refused_unless_for_training(features, tables):
    with pytest.raises(ValueError, match="was not known then"):
        compute(features, tables, days=(1, 3))

    _, manifest = compute(features, tables, days=(1, 3), in_sample=True)
    assert manifest.in_sample


def test_reduction_is_fitted_on_what_was_known_in_its_window_alone(features, tables, sentiment, tmp_path):
    encoder, until = HashedEncoder(sentiment), START + timedelta(days=2)
    asked = {"filters": FilterRules(), "after": START, "until": until, "n_components": 4, **ASKED}
    later = ParquetTables(tmp_path)
    kept = tables.read("posts", market="twitter", symbols=None, start=START - timedelta(days=1), end=until)
    later.append("posts", market="twitter", rows=kept)

    alone = fit_text_reduction(later, encoder, **asked)

    assert alone.towers == features.reduction.towers
    assert set(alone.towers) == {"posts"}  # too few comments for components of their own
    known = kept.filter(kept["is_comment"]).num_rows
    assert 0 < known < 160


def test_reduction_of_another_encoder_is_refused(features, sentiment):
    other = HashedEncoder(sentiment)
    other.sha256 = "f" * 64

    with pytest.raises(ValueError, match="expected vectors of the encoder"):
        TextFeatures(sentiment, FilterRules(), other, features.reduction)
    with pytest.raises(ValueError, match="or neither"):
        TextFeatures(sentiment, FilterRules(), other)


def test_edit_and_late_engagement_are_not_used_as_if_known_at_once(tmp_path, sentiment):
    tables = ParquetTables(tmp_path)
    store(tables, "posts", [
        post(10, "I love this wonderful rally", row_id="a"),
        {**post(10, "I hate this terrible crash", row_id="a", known=30), "revision": 1},
    ])  # fmt: skip
    store(tables, "post_engagement", [counted(10, row_id="a", known=60 * 24 * 60, likes=1_000_000)])

    matrix, _ = TextFeatures(sentiment, FilterRules()).compute(
        tables, markets=["twitter"], symbols=["BTCUSDT"], after=START, until=at(60)
    )

    assert column(matrix, "posts_sentiment_median")[1, 0] > 0.5
    assert np.nansum(column(matrix, "posts_missing")[:, 0] == 0) == 1
    assert (column(matrix, "engagement_missing_24h") == 1).all()


def test_news_of_the_whole_market_count_for_each_of_its_symbols(tmp_path, sentiment):
    tables = ParquetTables(tmp_path)
    rows = [news(2, "The whole market rallies on good news", row_id="n1", symbol="CRYPTO"),
            news(3, "Bitcoin alone crashes very badly", row_id="n2")]  # fmt: skip
    store(tables, "news", rows, market="wire")

    matrix, manifest = TextFeatures(sentiment, FilterRules()).compute(
        tables, markets=["wire"], symbols=["BTCUSDT", "ETHUSDT", "AAPL"], after=START, until=at(5)
    )

    np.testing.assert_allclose(column(matrix, "news_heat")[0], np.log1p([2, 1, 0]), rtol=1e-6)
    assert manifest.n_by_reason["news"]["kept"] == 3


def test_nothing_stored_and_ranges_without_a_bucket_are_refused(tmp_path, sentiment):
    features = TextFeatures(sentiment, FilterRules())

    with pytest.raises(ValueError, match="posts and news"):
        features.compute(ParquetTables(tmp_path), **ASKED, after=START, until=at(60))
    with pytest.raises(ValueError, match="buckets"):
        bucket_grid(at(1), at(4), bucket_us=300_000_000)
    with pytest.raises(ValueError, match="buckets"):
        bucket_grid(at(0), at(0) + timedelta(days=3_000), bucket_us=300_000_000)


def test_repetition_of_what_was_said_before_the_window_is_still_a_repetition(tmp_path, sentiment):
    tables = ParquetTables(tmp_path)
    store(tables, "posts", [post(60 * hour, "good morning to all of you", row_id=f"r{hour}") for hour in (0.5, 20)])

    matrix, _ = TextFeatures(sentiment, FilterRules()).compute(
        tables, markets=["twitter"], symbols=["BTCUSDT"], after=at(36 * 60 - 5), until=at(36 * 60)
    )

    assert column(matrix, "posts_heat_24h")[0, 0] == 0.0
    assert column(matrix, "posts_novelty_24h")[0, 0] == 0.0


def test_range_that_needs_more_memory_than_there_is_is_refused_with_what_to_do(tables):
    asked = {**ASKED, "after": START, "lag": timedelta(hours=48)}
    part, whole = (
        {**asked, "until": START + timedelta(days=days), "bytes_max": N_POSTS * 3_500} for days in (DAYS - 1, DAYS + 1)
    )

    # 900 posts of about 40 letters, 3.8 kB each, and 50 counts.
    assert 0 < len(read_posts(tables, **part).posts) < N_POSTS
    with pytest.raises(ValueError, match=r"0\.00 GB .* ask for fewer days at a time"):
        read_posts(tables, **{**whole, "bytes_max": 1_000})
    with pytest.raises(ValueError, match="ask for fewer days at a time"):
        read_posts(tables, **whole)


def test_long_texts_and_news_of_whole_markets_need_more_memory(tmp_path):
    tables = ParquetTables(tmp_path)
    text = "a long text that says very much about the whole market " * 100
    store(tables, "news", [news(2, text[:100], row_id="n1", symbol="CRYPTO", text=text)], market="wire")
    asked = {"markets": ["wire"], "after": START, "until": at(5), "lag": timedelta(hours=1)}
    many = [f"C{i}USDT" for i in range(20)]

    # 3 kB, and 20 bytes for each of the first 2,000 letters; 1 kB for each symbol that the row stands for.
    assert len(read_posts(tables, symbols=["BTCUSDT"], bytes_max=45_000, **asked).posts) == 1
    assert len(read_posts(tables, symbols=many, bytes_max=65_000, **asked).posts) == 20
    for symbols, bytes_max in ((["BTCUSDT"], 43_000), (many, 45_000)):
        with pytest.raises(ValueError, match="fewer symbols"):
            read_posts(tables, symbols=symbols, bytes_max=bytes_max, **asked)
