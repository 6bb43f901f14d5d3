"""Which posts count: each reason, and that a verdict uses nothing that was known later."""

from __future__ import annotations

import tracemalloc
from collections import deque

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.libs.text.text_kit import MINUTE_US, START_US, columns

from qraft_text.filters import REASONS, FilterRules, _Memory, judge
from qraft_text.posts import LANGUAGE_KNOWN, LANGUAGE_OTHER, NEWS
from qraft_text.proof.subjects import rows_after
from qraft_text.traits import traits_of

DAY_MIN = 24 * 60
LONG = "the quick brown fox jumps over the lazy dog while bitcoin keeps going up and up today my friends"


def reasons(rows, rules=None, **kind):
    posts = columns(rows, **kind)
    return [REASONS[i] for i in judge(posts, traits_of(posts.texts), rules or FilterRules())]


def test_post_with_words_of_its_own_counts():
    assert reasons([(0, "Bitcoin looks strong today"), (1, "I am selling all of my ether")]) == ["kept", "kept"]


def test_each_fault_has_its_reason():
    rows = [
        (0, "known three days after it was written", {"event_at": START_US - 3 * DAY_MIN * MINUTE_US}),
        (1, "これは日本語の投稿です ビットコイン"),
        (2, "ein Satz auf Deutsch, so gesagt", {"language": LANGUAGE_OTHER}),
        (3, "#btc https://t.co/abc"),
        (4, "to the"),
        (5, "buy now " + " ".join(f"$COIN{chr(97 + i)}" for i in range(11))),
    ]

    assert reasons(rows) == ["late", "language", "language", "link_only", "too_short", "tag_spam"]


def test_foreign_letters_count_where_the_source_says_that_it_is_english():
    assert reasons([(0, "これは日本語の投稿です", {"language": LANGUAGE_KNOWN})]) == ["too_short"]


def test_repetition_within_the_window_is_a_duplicate_of_the_earlier_post_only():
    rows = [(0, "Buy bitcoin right now!"), (5, "buy BITCOIN right now https://t.co/x1"), (6, "something else entirely")]

    assert reasons(rows) == ["kept", "duplicate", "kept"]


def test_repetition_after_the_window_counts_again():
    rows = [(0, "good morning bitcoin people"), (DAY_MIN - 1, "good morning bitcoin people")]
    later = [(0, "good morning bitcoin people"), (DAY_MIN, "good morning bitcoin people")]

    assert reasons(rows) == ["kept", "duplicate"]
    assert reasons(later) == ["kept", "kept"]


def test_nearly_the_same_text_is_a_near_duplicate_and_half_of_it_is_not():
    half = LONG[: len(LONG) // 2] + " but ether and everything beside it looks rather weak to me right now"

    assert reasons([(0, LONG), (1, LONG + " again")]) == ["kept", "near_duplicate"]
    assert reasons([(0, LONG), (1, half)]) == ["kept", "kept"]


def test_template_with_other_numbers_is_dropped_after_the_third():
    rows = [(i, f"{100 + 7 * i} BTC ({i}.5 million) moved to an unknown wallet") for i in range(5)]

    assert reasons(rows) == ["kept", "kept", "kept", "template", "template"]


def test_author_who_posts_more_than_twelve_times_an_hour_is_dropped_and_a_publisher_is_not():
    rows = [
        (2 * i, f"number {'abcdefghijklmnop'[i]} of what I {'qrstuvwxyzabcdef'[i]} think", {"author": 4})
        for i in range(14)
    ]
    published = [(minute, text, {"author": 4, "tower": NEWS}) for minute, text, _ in rows]

    assert reasons(rows) == ["kept"] * 12 + ["author_rate"] * 2
    assert reasons(published) == ["kept"] * 14


def test_towers_do_not_know_of_each_other():
    rows = [(0, "Exchange lists a new token"), (1, "Exchange lists a new token", {"tower": NEWS})]

    assert reasons(rows) == ["kept", "kept"]


def test_one_post_about_two_symbols_is_no_duplicate_of_itself():
    rows = [(0, "Both of them go up", {"post": 9}), (0, "Both of them go up", {"post": 9, "symbol": 1})]

    assert reasons(rows, symbols=("BTCUSDT", "ETHUSDT")) == ["kept", "kept"]


TEXTS = [
    LONG,
    LONG + " again",
    "Buy bitcoin right now!",
    "to the",
    "5 BTC moved from a wallet",
    "6 BTC moved from a wallet",
]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3 * DAY_MIN), st.sampled_from(TEXTS), st.integers(0, 3)), min_size=2, max_size=40
    ),
    st.integers(1, 39),
)
def test_verdict_changes_neither_with_what_comes_later_nor_with_where_history_began(drawn, n):
    rows = [(minute, text, {"author": author}) for minute, text, author in sorted(drawn)]
    rules = FilterRules(author_posts_max=3)
    posts = columns(rows)
    traits = traits_of(posts.texts)

    whole = judge(posts, traits, rules)
    n = min(n, len(rows) - 1)
    # What is known at the instant of the cut stays whole: rows of one instant are told apart by their names alone.
    cut = posts.known_at[n]
    early = columns([row for row in rows if START_US + row[0] * MINUTE_US <= cut])
    late = rows_after(posts, int(cut) - rules.look_back_us)

    np.testing.assert_array_equal(judge(early, traits_of(early.texts), rules), whole[: len(early)])
    compared = late.known_at > cut
    np.testing.assert_array_equal(judge(late, traits, rules)[compared], whole[posts.known_at > cut])


def test_what_was_said_before_the_window_is_forgotten_and_what_still_counts_is_not():
    hour_us = 60 * MINUTE_US
    memory = _Memory(look_back_us=24 * hour_us)
    for hour in range(24 * 50):
        memory.forget(hour * hour_us)
        memory.said_at[hour] = hour * hour_us
        memory.like[hour] = (hour * hour_us, hour)
        memory.template_at[hour] = deque([0, hour * hour_us])
        memory.author_at[hour] = deque([hour * hour_us])
        for kept in (memory.said_at, memory.like, memory.template_at, memory.author_at):
            assert len(kept) <= 2 * 24 + 1
            assert set(range(max(hour - 24, 0), hour + 1)) <= set(kept)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 9 * DAY_MIN), st.sampled_from(TEXTS), st.integers(0, 3)), min_size=2, max_size=60
    ),
    st.sampled_from([1.0, 24.0, 1.3e-7]),
)
def test_verdicts_are_those_of_a_memory_that_forgets_nothing(drawn, window_hours):
    rules = FilterRules(author_posts_max=3, window_hours=window_hours, author_hours=window_hours / 2, template_max=2)
    posts = columns([(minute, text, {"author": author}) for minute, text, author in sorted(drawn)])
    traits = traits_of(posts.texts)
    # Judged by the posts of its own window, read anew for each: nothing is there to be forgotten.
    alone = []
    for known_at in posts.known_at.tolist():
        upto = rows_after(posts, known_at - rules.look_back_us - 1)
        n = int((upto.known_at <= known_at).sum())
        alone.append(judge(upto, traits, rules)[:n].tolist())

    whole = judge(posts, traits, rules).tolist()

    for row, known_at in enumerate(posts.known_at.tolist()):
        same = int((posts.known_at[row + 1 :] == known_at).sum())
        assert alone[row][-1 - same] == whole[row]


def test_judging_takes_the_memory_of_the_window_and_not_of_the_history():
    rng = np.random.default_rng(3)
    words = [f"w{i}" for i in range(300)]
    posts = columns([(60 * i, " ".join(rng.choice(words, 12)), {"author": i}) for i in range(1_500)])
    traits = traits_of(posts.texts)

    def peak(window_hours):
        tracemalloc.start()
        judge(posts, traits, FilterRules(window_hours=window_hours))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(24.0) < peak(2_000.0) / 3
