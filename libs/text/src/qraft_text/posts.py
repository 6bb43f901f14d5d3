"""Posts, comments and news as columns, in the order in which they became known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
# What is pooled by itself: another crowd, another tone. Number = place.
TOWERS: Final = ("posts", "comments", "news")
NEWS: Final = TOWERS.index("news")
# Of a text: not said, one of the encoder's languages, another.
LANGUAGE_UNKNOWN: Final = 0
LANGUAGE_KNOWN: Final = 1
LANGUAGE_OTHER: Final = 2
NO_AUTHOR: Final = -1


@dataclass(frozen=True, slots=True)
class Posts:
    """
    Rows of (post, symbol): a post that names three symbols has three. Microseconds since 1970; numbers stand for what
    `texts` and `symbols` list.

    known_at: (n,), ascending. event_at: when it was written. post, author: any numbers, equal for the same post or
    author; NO_AUTHOR = not said. symbol, tower, text: places. language: LANGUAGE_*.
    """

    known_at: IntArray
    event_at: IntArray
    post: IntArray
    symbol: IntArray
    tower: IntArray
    author: IntArray
    text: IntArray
    language: IntArray
    texts: tuple[str, ...]
    symbols: tuple[str, ...]

    def __len__(self) -> int:
        return int(self.known_at.size)


@dataclass(frozen=True, slots=True)
class Engagement:
    """
    How posts were received, one row a count. known_at: (n,), ascending, when it was counted. event_at: of the post.
    symbol: place. log_count: log(1 + replies + reposts + likes).
    """

    known_at: IntArray
    event_at: IntArray
    symbol: IntArray
    log_count: FloatArray

    def __len__(self) -> int:
        return int(self.known_at.size)


def no_engagement() -> Engagement:
    """Return an empty table."""
    empty = np.empty(0, np.int64)
    return Engagement(empty, empty, empty, np.empty(0))
