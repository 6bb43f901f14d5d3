"""
How positive a text is: VADER with the words of markets.

Source: Hutto and Gilbert, VADER (ICWSM 2014), as in vaderSentiment 3.3.2. What it says is the library's own number; it
is reached without the work that changes nothing, three times as fast (README).
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version

from vaderSentiment.vaderSentiment import BOOSTER_DICT, SentimentIntensityAnalyzer, SentiText

from qraft_text.lexicon import SLANG, lexicon_sha256


class _Analyzer(SentimentIntensityAnalyzer):  # type: ignore[misc]  # the package carries no types
    """
    The library's analyzer. Words outside the lexicon, which it values 0, are not sent through its rules; rules that
    read three words around one are given these words, not the text.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lexicon.update(SLANG)
        self._emoji = frozenset(self.emojis)

    def compound(self, text: str) -> float:
        """Return polarity_scores(text)["compound"], bit for bit."""
        if not self._emoji.isdisjoint(text):
            return float(self.polarity_scores(text)["compound"])
        parts = SentiText(text.strip())
        words = parts.words_and_emoticons
        found: list[float] = []
        lowered = [word.lower() for word in words]
        for i, lower in enumerate(lowered):
            is_kind_of = lower == "kind" and lowered[i + 1 : i + 2] == ["of"]
            if lower not in self.lexicon or lower in BOOSTER_DICT or is_kind_of:
                found.append(0)
            else:
                self.sentiment_valence(0, parts, words[i], i, found)
        return float(self.score_valence(self._but_check(words, found), parts.text)["compound"])

    @staticmethod
    def _negation_check(valence: float, words: list[str], start_i: int, i: int) -> float:
        first = max(0, i - 3)
        near = words[first : i + 1]
        return float(SentimentIntensityAnalyzer._negation_check(valence, near, start_i, i - first))

    def _special_idioms_check(self, valence: float, words: list[str], i: int) -> float:
        first = max(0, i - 3)
        return float(super()._special_idioms_check(valence, words[first : i + 3], i - first))


class Sentiment:
    """Scores texts. sha256: names the library's version and our words."""

    def __init__(self) -> None:
        self._analyzer = _Analyzer()
        self.sha256 = hashlib.sha256(f"{version('vaderSentiment')}\0{lexicon_sha256()}".encode()).hexdigest()

    def score(self, text: str) -> float:
        """Return the compound score, -1 to 1; 0 for a text without a known word."""
        return self._analyzer.compound(text)
