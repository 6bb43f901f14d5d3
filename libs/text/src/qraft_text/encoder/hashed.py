"""The fallback without weights: hashed words, pairs of words and parts of words; no meaning, only spelling."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from qraft_text.encoder.port import TextVectors
from qraft_text.lexicon import EVENT_WORDS, event_counts
from qraft_text.sentiment import Sentiment

_N_HASHED: Final = 256
_VERSION: Final = "hashed/1"
_GRAM: Final = 4
# Weight of the lexicon's columns beside the words, which have length 1 together.
_LEXICON_WEIGHT: Final = 0.5


class HashedEncoder:
    """Texts as signed counts of hashed n-grams, and what the lexicon says, of length 1. Marked degraded everywhere."""

    is_degraded: Final = True
    n_dims: Final = _N_HASHED + len(EVENT_WORDS) + 1

    def __init__(self, sentiment: Sentiment) -> None:
        self._sentiment = sentiment
        self.sha256 = hashlib.sha256(f"{_VERSION}\0{self.n_dims}\0{sentiment.sha256}".encode()).hexdigest()

    def encode(self, texts: Sequence[str], *, n_threads: int = 1) -> TextVectors:
        """Return the vectors, (n_texts, n_dims); a text without words is 0. n_threads changes nothing."""
        del n_threads
        vectors = np.zeros((len(texts), self.n_dims))
        for row, text in zip(vectors, texts, strict=True):
            for gram in _grams(text.lower()):
                code = zlib.crc32(gram.encode())
                row[code % _N_HASHED] += 1.0 if code & (1 << 31) else -1.0
            length = np.sqrt(row @ row)
            row[:_N_HASHED] /= length or 1.0
            row[_N_HASHED:] = _LEXICON_WEIGHT * np.array([self._sentiment.score(text), *np.sign(event_counts(text))])
            row /= np.sqrt(row @ row) or 1.0
        return vectors.astype(np.float16)


def _grams(text: str) -> Iterator[str]:
    words = text.split()
    yield from words
    for first, second in pairwise(words):
        yield f"{first} {second}"
    for word in words:
        padded = f"<{word}>"
        for start in range(max(0, len(padded) - _GRAM + 1)):
            yield padded[start : start + _GRAM]
