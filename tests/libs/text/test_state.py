"""What is said of a symbol as a row: which columns, what silence is, and that no row changes afterwards."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest
from tests.libs.text.text_kit import START, at, news, post, store

from qraft_contracts.kinds import KINDS, TEXT_SIGNATURE
from qraft_contracts.outcomes import Refused
from qraft_store.tables.memory import MemoryTables
from qraft_text.encoder import HashedEncoder
from qraft_text.lexicon import SLANG
from qraft_text.proof import TextFacts
from qraft_text.proof.drawn import drawn_texts
from qraft_text.proof.subjects import StateSubjects
from qraft_text.proof.tables import draw_tables
from qraft_text.state import feeds_heard, settled, state_features, symbols_of_texts, text_states

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WORDS = [
    f"{first}{second}"
    for first in ("mi", "ba", "tra", "pa", "gar", "win")
    for second in ("ner", "nk", "der", "per", "dow")
]
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


@pytest.fixture(scope="module")
def features():
    return state_features()


@pytest.fixture
def tables():
    """An hour of posts of one symbol and one item of news about all, in feeds that were heard for two days before."""
    found = MemoryTables()
    moods = ("bitcoin to the moon", "a terrible crash today", "what a lovely rally here", "nothing new to say today")
    store(found, "posts", [post(5 + 10 * i, f"{mood} number {i}", row_id=f"p{i}") for i, mood in enumerate(moods)])
    store(found, "news", [news(30, "exchange was hacked", row_id="n", symbol="CRYPTO")], market="news")
    keep_alive(found, -2_800, -1_400, -60)
    return found


def keep_alive(tables, *minutes):
    """Store a post, a comment and an item of news about another symbol at each time."""
    other = {"symbol": "SOLUSDT"}
    for m in minutes:
        store(tables, "posts", [
            post(m, f"nobody bought thing number {m}", row_id=f"o{m}", **other),
            post(m, f"an answer to question number {m}", row_id=f"c{m}", is_comment=True, **other),
        ])  # fmt: skip
        store(tables, "news", [news(m, f"somebody opened desk number {m}", row_id=f"n{m}", **other)], market="news")


def spoken(number):
    """Return one of many texts that resemble each other in nothing."""
    return " ".join(np.random.default_rng(number + 1_000).choice(WORDS, 6, replace=False))


def states(tables, features, *, start=START, end=START + 2 * HOUR):
    return text_states(tables, features, symbols=SYMBOLS, after=start, until=end)


def test_the_pipeline_is_the_one_that_the_contract_names(features, monkeypatch):
    """Whoever changes filters, words or buckets changes TEXT_SIGNATURE, and with it market and feature signatures."""
    assert features.spec.signature == TEXT_SIGNATURE

    monkeypatch.setitem(SLANG, "moon", 1.0)
    with pytest.raises(Refused, match="other_text_pipeline"):
        state_features()


def test_other_numbers_need_another_name(features):
    """
    Rows that are stored stay: whoever changes what a column says raises _FORMAT of features.py, sets TEXT_SIGNATURE
    (contracts) and MADE_BY (quant) to the new signature and this hash; rows, features and models are others then.
    """
    facts = TextFacts.of(
        drawn_texts(seed=7), encoder=HashedEncoder(features.sentiment), sentiment=features.sentiment,
        filters=features.filters, bucket_us=features.bucket_us,
    )  # fmt: skip
    made = StateSubjects(facts).buckets(draw_tables(len(facts.texts.texts) - 1, bucket_us=features.bucket_us, seed=7))

    # To four places: the last bits of a logarithm are those of the C library.
    numbers = np.where(np.isnan(made.values), -99.0, made.values).round(4) + 0.0
    found = hashlib.sha256(numbers.astype("<f8").tobytes()).hexdigest()
    assert (TEXT_SIGNATURE[:16], found[:16]) == ("3a9113304698ba11", "4cce63f2ffe538cc")


def test_fields_are_columns_of_the_matrix_within_their_bounds(features, tables):
    made = states(tables, features)

    assert tuple(made.values) == KINDS["text_state"].field_names and set(made.values) <= set(features.names)
    for field in KINDS["text_state"].fields:
        known = made.values[field.name][np.isfinite(made.values[field.name])]
        assert known.size and field.low <= known.min() and known.max() <= field.high


def test_a_tower_that_was_silent_for_a_day_is_not_known(features, tables):
    keep_alive(tables, 1_300)
    made = states(tables, features, end=START + DAY + 2 * HOUR)
    heat, of_news = made.values["posts_heat_1h"], made.values["news_heat_24h"]
    hour, later = 11, 12 * 25 - 1  # the buckets that end one hour, and 25 hours, after the first post

    assert heat[hour, 0] == pytest.approx(np.log(5)) and heat[12 * 3, 0] == 0.0  # nobody wrote, but somebody did today
    assert np.isnan(heat[later, 0]) and np.isnan(heat[:, 1]).all()  # silence and a dead source look the same
    assert of_news[hour, 1] == of_news[hour, 0] == pytest.approx(np.log(2))  # of the whole market, so of each symbol
    ends, own = made.of("ETHUSDT")
    assert ends[0] == int((START + 30 * timedelta(minutes=1)).timestamp()) * 1_000_000
    assert np.isnan(own["posts_heat_1h"]).all() and not np.isnan(own["news_heat_24h"]).any()


def test_a_row_does_not_depend_on_its_stretch_or_on_what_comes_later(features, tables):
    whole = states(tables, features)
    part = states(tables, features, start=START + HOUR)
    late = [post(5, "bitcoin is going to the moon now", row_id="late", known=100)]
    store(tables, "posts", late)  # written early, known late
    again = states(tables, features)

    n_before = 100 // 5 - 1  # buckets that ended before it was known
    for name, values in whole.values.items():
        np.testing.assert_array_equal(part.values[name], values[12:])
        np.testing.assert_array_equal(again.values[name][:n_before], values[:n_before])
    assert again.values["posts_heat_24h"][-1, 0] > whole.values["posts_heat_24h"][-1, 0]


def test_windows_that_began_before_a_feed_was_heard_are_not_known(features):
    """A count over a part of its hours would read as few posts; after a day of silence it begins anew."""
    found, ends = MemoryTables(), START + 5 * DAY
    said = [*range(30), *range(60, 90)]  # 31 hours of silence between
    store(found, "posts", [post(60 * i, spoken(i), row_id=f"p{i}") for i in said])
    store(found, "posts", [post(60 * -5, "written long before", row_id="late", known=60 * 45)])  # counts as nothing
    for start in (START, START + 20 * HOUR, START + 70 * HOUR):  # whatever is read before
        made = states(found, features, start=start, end=ends)
        age_h = (made.ends - int(START.timestamp()) * 1_000_000) / 3_600e6
        begun_h = np.where(age_h < 60, age_h, age_h - 60)
        is_heard = (age_h < 29 + 24) | ((age_h >= 60) & (age_h < 89 + 24))
        for name, hours in (("heat_1h", 1), ("heat_24h", 24), ("heat_surprise", 24), ("opinion_spread_24h", 24)):
            is_known = ~np.isnan(made.values[f"posts_{name}"][:, 0])
            np.testing.assert_array_equal(is_known, is_heard & (begun_h >= hours), err_msg=f"{name} from {start}")
        is_full = (begun_h >= 24) & (begun_h <= 29)
        assert made.values["posts_heat_24h"][is_full, 0] == pytest.approx(np.log(25))


def test_share_of_comments_is_not_known_where_comments_never_came(features):
    found = MemoryTables()
    store(found, "posts", [post(60 * i, spoken(i), row_id=f"p{i}") for i in range(-30, 3)])
    assert np.isnan(states(found, features).values["comment_ratio_24h"]).all()

    keep_alive(found, *range(-1_800, 60, 600))
    assert states(found, features).values["comment_ratio_24h"][-1, 0] == 0.0


def test_buckets_within_a_day_after_a_feed_was_last_heard_wait_for_it(features, tables):
    keep_alive(tables, 20)
    store(tables, "posts", [post(100, "not heard of again", row_id="last", is_comment=True)])
    store(tables, "news", [news(m, spoken(m), row_id=f"later{m}") for m in (800, 1_600)], market="news")
    heard = feeds_heard(tables)

    made = settled(states(tables, features, end=at(1_700)), heard.values())

    start = int(START.timestamp()) * 1_000_000
    assert {name: (us - start) // 60_000_000 for name, us in heard.items()} == {
        "twitter/posts": 35, "twitter/comments": 100, "news/news": 1_600,
    }  # fmt: skip
    # Posts were last heard at 35, comments at 100: a day on, nothing is known of them, and news goes on to 1600.
    expected = [*range(5, 35, 5), *range(1_545, 1_600, 5)]
    assert ((made.ends - start) // 60_000_000).tolist() == expected
    assert made.values["posts_heat_1h"].shape == (len(expected), 3)
    assert np.isnan(made.values["posts_heat_1h"][6:]).all() and np.isfinite(made.values["news_heat_24h"][6:, 0]).all()


def test_symbols_are_those_that_texts_name(features, tables):
    assert symbols_of_texts(tables) == (("BTCUSDT", "SOLUSDT"), ("USDC", "USDT"))
    assert states(MemoryTables(), features) is None


def test_state_and_its_proof_load_no_encoder():
    code = "import sys, qraft_text.state, qraft_text.proof; print({'onnxruntime', 'tokenizers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
