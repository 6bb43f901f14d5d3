"""Texts that nobody wrote, for a proof where no lake is at hand: a proof is about code, not about what is said."""

from __future__ import annotations

from typing import Final

import numpy as np

from qraft_text.lexicon import EVENT_WORDS, SLANG
from qraft_text.proof.tables import ProofTexts

N_TEXTS: Final = 600
_WORDS_MAX: Final = 14
_PLAIN: Final = (
    "the", "price", "of", "bitcoin", "today", "we", "think", "that", "market", "will", "very", "not", "but", "again",
    "chart", "week", "coin", "look", "at", "this", "everyone", "says", "maybe", "1000", "50", "2 %", "#btc", "$ETH",
)  # fmt: skip
# What the filters and the sentiment treat in a way of their own: links, mentions, tags, emoji, other letters, a mark.
_ODD: Final = ("https://t.co/x", "@somebody", "🚀", "ビットコイン", "!!!", "#a #b #c #d #e #f #g #h #i #j #k #l")
_ODD_FRAC: Final = 0.08
_TONE_FRAC: Final = 0.2
_EVENT_FRAC: Final = 0.1


def drawn_texts(*, seed: int) -> ProofTexts:
    """Return 600 texts of 1 to 14 words, some of them of the lexicon's lists; the same seed gives the same."""
    rng = np.random.default_rng([seed, 43])
    events = [word for words in EVENT_WORDS.values() for word in words]
    return ProofTexts.of([" ".join(_word(rng, events) for _ in range(rng.integers(1, _WORDS_MAX + 1)))
                          for _ in range(N_TEXTS)])  # fmt: skip


def _word(rng: np.random.Generator, events: list[str]) -> str:
    drawn = rng.random()
    choices = (
        _ODD if drawn < _ODD_FRAC
        else list(SLANG) if drawn < _ODD_FRAC + _TONE_FRAC
        else events if drawn < _ODD_FRAC + _TONE_FRAC + _EVENT_FRAC
        else _PLAIN
    )  # fmt: skip
    return choices[int(rng.integers(len(choices)))]
