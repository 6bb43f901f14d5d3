"""
Which posts count. A post is judged when it becomes known, by what was known then: itself and earlier posts within a
window, whether those counted or not. So a verdict never changes, and does not depend on where the history began.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from qraft_text.posts import LANGUAGE_OTHER, LANGUAGE_UNKNOWN, NEWS, NO_AUTHOR, Posts
from qraft_text.traits import Traits

# In the order in which they are tried; the first that holds is the reason. 0 = it counts.
REASONS: Final = (
    "kept", "late", "language", "link_only", "too_short", "tag_spam", "author_rate", "duplicate", "near_duplicate",
    "template",
)  # fmt: skip
KEPT: Final = 0
LATE: Final = REASONS.index("late")
# Texts that say what another said: what novelty is measured by.
REPEATS: Final = tuple(REASONS.index(name) for name in ("duplicate", "near_duplicate", "template"))
_HOUR_US: Final = 3_600_000_000


class FilterRules(msgspec.Struct, frozen=True):
    """
    What does not count, by its reason.

    late: known more than lag_hours_max after it was written (news of old is no news). language: said to be another, or
    less than latin_frac_min of its letters Latin: the encoder reads English. too_short: fewer than words_min words
    beside links and mentions. tag_spam: more than tags_max tags. author_rate: the author's post number
    author_posts_max + 1 or later within author_hours; not for news. duplicate: the words of an earlier post within
    window_hours. near_duplicate: likeness_min of its shingles shared with one. template: the words of template_max
    earlier posts but for numbers and tags.
    """

    lag_hours_max: float = 48.0
    latin_frac_min: float = 0.5
    words_min: int = 3
    tags_max: int = 10
    author_posts_max: int = 12
    author_hours: float = 1.0
    window_hours: float = 24.0
    likeness_min: float = 0.8
    template_max: int = 3

    @property
    def look_back_us(self) -> int:
        """Return how far back earlier posts matter, microseconds."""
        return int(max(self.window_hours, self.author_hours) * _HOUR_US)

    @property
    def lag_us(self) -> int:
        """Return how long after it was written a post may become known, microseconds."""
        return int(self.lag_hours_max * _HOUR_US)


@dataclass(slots=True)
class _Memory:
    """What was known so far, of one tower; what is too old to matter is forgotten."""

    look_back_us: int
    said_at: dict[int, int] = field(default_factory=dict)  # normal form -> when last
    like: dict[int, tuple[int, int]] = field(default_factory=dict)  # band -> (when, text) of the last with it
    template_at: dict[int, deque[int]] = field(default_factory=dict)
    author_at: dict[int, deque[int]] = field(default_factory=dict)
    forgotten_at: int | None = None

    def forget(self, known_at: int) -> None:
        """
        Drop what was last seen more than look_back_us before known_at; no verdict can still ask for it.

        Once a look-back: so a key is moved at most once while it matters, and memory is that of two look-backs.
        """
        if self.forgotten_at is not None and known_at - self.forgotten_at < self.look_back_us:
            return
        self.forgotten_at = known_at
        # Not at its edge: look_back_us is whole microseconds, the windows it is made of need not be.
        oldest = known_at - self.look_back_us
        self.said_at = {key: at for key, at in self.said_at.items() if at >= oldest}
        self.like = {key: seen for key, seen in self.like.items() if seen[0] >= oldest}
        self.template_at = {key: times for key, times in self.template_at.items() if times[-1] >= oldest}
        self.author_at = {key: times for key, times in self.author_at.items() if times[-1] >= oldest}


def judge(posts: Posts, traits: Traits, rules: FilterRules) -> npt.NDArray[np.int64]:
    """
    Return the place in REASONS for each row, (n,); rows of one post have one verdict, found when it was first known.

    Row t uses rows 0..t.
    """
    memories = [_Memory(rules.look_back_us) for _ in range(int(posts.tower.max(initial=-1)) + 1)]
    verdict_of: dict[int, int] = {}
    found = np.empty(len(posts), np.int64)
    columns = (posts.post, posts.text, posts.tower, posts.author, posts.known_at, posts.event_at, posts.language)
    for row, (post, text, tower, author, known_at, event_at, language) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        verdict = verdict_of.get(post)
        if verdict is None:
            memory = memories[tower]
            if known_at - event_at > rules.lag_us:
                # Not remembered either: what is that old is not read from the stores, wherever reading begins.
                verdict = LATE
            else:
                memory.forget(known_at)
                # Remembered before any verdict: what is dropped for one reason has still been said.
                often = _is_too_often(memory, rules, author, known_at) and tower != NEWS
                repeat = _repeat(memory, rules, traits, text=text, known_at=known_at)
                verdict = _by_itself(traits, rules, text, language)
                if verdict == KEPT:
                    verdict = REASONS.index("author_rate") if often else repeat
            verdict_of[post] = verdict
        found[row] = verdict
    return found


def _by_itself(traits: Traits, rules: FilterRules, text: int, language: int) -> int:
    is_foreign = language == LANGUAGE_UNKNOWN and traits.latin_frac[text] < rules.latin_frac_min
    if language == LANGUAGE_OTHER or is_foreign:
        return REASONS.index("language")
    if traits.n_words[text] - traits.n_tags[text] <= 0 and traits.has_link[text]:
        return REASONS.index("link_only")
    if traits.n_words[text] < rules.words_min:
        return REASONS.index("too_short")
    return REASONS.index("tag_spam") if traits.n_tags[text] > rules.tags_max else KEPT


def _is_too_often(memory: _Memory, rules: FilterRules, author: int, known_at: int) -> bool:
    if author == NO_AUTHOR:
        return False
    return _seen(memory.author_at, author, known_at, n=rules.author_posts_max, within_us=rules.author_hours * _HOUR_US)


def _repeat(memory: _Memory, rules: FilterRules, traits: Traits, *, text: int, known_at: int) -> int:
    within_us = rules.window_hours * _HOUR_US
    normal = traits.normal[text]
    said_at = memory.said_at.get(normal)
    memory.said_at[normal] = known_at
    is_like = False
    own = traits.shingles[text]
    if own:
        for band in traits.bands[text]:
            at, other = memory.like.get(band, (-1, -1))
            memory.like[band] = (known_at, text)
            if not is_like and at >= 0 and known_at - at < within_us:
                other_own = traits.shingles[other]
                n_both = len(own & other_own)
                is_like = n_both >= rules.likeness_min * (len(own) + len(other_own) - n_both)
    is_template = _seen(memory.template_at, traits.template[text], known_at, n=rules.template_max, within_us=within_us)
    if said_at is not None and known_at - said_at < within_us:
        return REASONS.index("duplicate")
    if is_like:
        return REASONS.index("near_duplicate")
    return REASONS.index("template") if is_template else KEPT


def _seen(memory: dict[int, deque[int]], key: int, known_at: int, *, n: int, within_us: float) -> bool:
    """Return whether there were n or more within the time before, and remember this one."""
    times = memory.setdefault(key, deque(maxlen=n))
    is_often = len(times) == n and known_at - times[0] < within_us
    times.append(known_at)
    return is_often
