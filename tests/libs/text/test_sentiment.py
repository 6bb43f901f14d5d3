"""Scores and words of events."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from qraft_text.lexicon import EVENT_WORDS, SLANG, event_counts
from qraft_text.sentiment import Sentiment

HARD = [
    "", " ", ":) :(", "kind of great", "this is sort of bad but the price is great!!", "never so good",
    "NOT good AT ALL", "without doubt the worst crash ever?", "least favorite coin", "at least it is good",
    "no hack, no scam", "🚀🚀 to the moon", "the shit, the bomb", "yeah right, great", "cut the mustard",
    "It isn't a great market that kind of crashes",
]  # fmt: skip


@pytest.fixture(scope="module")
def sentiment():
    return Sentiment()


@pytest.fixture(scope="module")
def library():
    analyzer = SentimentIntensityAnalyzer()
    analyzer.lexicon.update(SLANG)
    return lambda text: analyzer.polarity_scores(text)["compound"]


def test_short_way_gives_the_number_of_the_library(sentiment, library):
    assert [sentiment.score(text) for text in HARD] == [library(text) for text in HARD]


@pytest.mark.data
def test_short_way_gives_the_number_of_the_library_for_real_posts(sentiment, library, qraft_data):
    texts = pq.read_table(qraft_data / "social" / "tweets_2020-12_2021-02.parquet")["text"].to_pylist()[::50]

    assert len(texts) > 1_000
    assert [sentiment.score(text) for text in texts] == [library(text) for text in texts]


@pytest.mark.parametrize(
    ("up", "down"),
    [
        ("bitcoin is mooning", "got rekt again"),
        ("very bullish", "very bearish"),
        ("hodl", "rugpull"),
        ("rally", "dump"),
    ],
)
def test_words_of_markets_have_their_meaning_in_markets(sentiment, up, down):
    assert sentiment.score(up) > 0.1 > -0.1 > sentiment.score(down)


def test_words_of_events_are_counted_by_list_and_as_whole_words():
    counts = dict(
        zip(EVENT_WORDS, event_counts("SEC sues: exploit drained $5M; hackathon, seconds, a hard fork"), strict=True)
    )

    assert {name: n for name, n in counts.items() if n} == {"hack": 2, "regulation": 1, "upgrade": 1}
