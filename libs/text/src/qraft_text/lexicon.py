"""The words of markets: what VADER lacks, and words that tell of events. Lists, versioned by their hash."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Final

# Valence as VADER's own: -4 (most negative) to 4. Words that it has with the meaning of daily life are replaced.
SLANG: Final[dict[str, float]] = {
    # up
    "moon": 2.2, "mooning": 2.6, "moonshot": 2.2, "bull": 1.8, "bulls": 1.6, "bullish": 2.4, "bullrun": 2.4,
    "hodl": 1.2, "hodling": 1.2, "hodler": 0.8, "ath": 1.9, "pump": 1.2, "pumping": 1.4, "pumped": 1.2, "lambo": 1.6,
    "breakout": 1.6, "rally": 1.7, "rallying": 1.8, "rallies": 1.7, "undervalued": 1.6, "accumulate": 1.0,
    "accumulating": 1.0, "long": 0.6, "longs": 0.4, "buy": 0.9, "buying": 0.9, "btfd": 1.4, "uptrend": 1.6,
    "adoption": 1.4, "institutional": 0.6, "outperform": 1.5, "outperforms": 1.5, "upgrade": 1.2, "upgraded": 1.3,
    "upside": 1.3, "soar": 1.9, "soars": 1.9, "soaring": 2.0, "surge": 1.6, "surges": 1.6, "surging": 1.7,
    "wagmi": 1.8, "alpha": 0.8, "gem": 1.4, "green": 0.8, "parabolic": 1.6, "support": 0.4, "bounce": 0.9,
    "halving": 0.6, "gm": 0.4, "rocket": 1.6, "beat": 1.2, "beats": 1.2,
    # down
    "bear": -1.8, "bears": -1.6, "bearish": -2.4, "rekt": -2.8, "rug": -2.8, "rugged": -3.0, "rugpull": -3.2,
    "dump": -1.9, "dumping": -2.1, "dumped": -2.0, "crash": -2.8, "crashed": -2.8, "crashing": -2.8, "crashes": -2.6,
    "fud": -1.6, "scam": -3.0, "ponzi": -3.0, "hack": -2.6, "hacked": -2.8, "exploit": -2.2, "exploited": -2.4,
    "liquidated": -2.3, "liquidation": -1.9, "liquidations": -1.9, "short": -0.6, "shorts": -0.4, "sell": -0.9,
    "selling": -0.9, "selloff": -2.0, "downtrend": -1.6, "overvalued": -1.6, "bubble": -1.4, "plunge": -2.2,
    "plunges": -2.2, "plunging": -2.3, "tumble": -1.8, "tumbles": -1.8, "slump": -1.8, "slumps": -1.8, "ban": -1.8,
    "banned": -1.9, "lawsuit": -1.7, "sues": -1.7, "sued": -1.7, "bagholder": -1.8, "bagholders": -1.8, "ngmi": -1.8,
    "capitulation": -2.0, "downgrade": -1.5, "downgraded": -1.6, "downside": -1.2, "insolvent": -2.8,
    "bankruptcy": -2.8, "delisted": -2.0, "delisting": -1.9, "red": -0.6, "rejected": -1.4, "miss": -1.0,
    "correction": -0.9, "dip": -0.6, "resistance": -0.3, "outflow": -1.0, "outflows": -1.0, "ath's": 1.9,
    # VADER takes these for feelings; in a market they name things.
    "share": 0.0, "shares": 0.0, "crypto": 0.0, "interest": 0.0, "security": 0.0, "trust": 0.4, "stake": 0.2,
    "staking": 0.3, "gas": 0.0, "fees": -0.3, "like": 0.4, "vision": 0.2, "cut": 0.0, "stop": -0.4,
}  # fmt: skip
# A post tells of an event if it has one of the words; a word of several parts is matched as it stands.
EVENT_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "hack": ("hack", "hacked", "hacker", "hackers", "exploit", "exploited", "breach", "stolen", "drained", "phishing"),
    "fraud": ("rug", "rugpull", "rug pull", "scam", "ponzi", "fraud", "fraudulent", "scammers"),
    "regulation": ("sec", "cftc", "regulation", "regulators", "regulator", "lawsuit", "ban", "banned", "mica", "finma",
                   "treasury", "senate", "legislation", "kyc", "aml", "sanctions"),
    "listing": ("listing", "listed", "lists", "delisting", "delisted", "ipo", "etf", "coinbase pro"),
    "liquidation": ("liquidation", "liquidations", "liquidated", "margin call", "short squeeze", "rekt"),
    "upgrade": ("upgrade", "hard fork", "hardfork", "mainnet", "testnet", "eip", "taproot", "beacon chain", "release"),
    "macro": ("fed", "fomc", "cpi", "inflation", "rate hike", "rate cut", "powell", "yellen", "stimulus", "recession",
              "payrolls", "unemployment"),
    "adoption": ("partnership", "partners", "adoption", "institutional", "acquires", "acquisition", "invests",
                 "integrates", "accepts", "paypal", "microstrategy", "grayscale"),
    "outage": ("outage", "down for maintenance", "halted", "halts", "suspended", "withdrawals", "insolvent",
               "bankruptcy"),
    "earnings": ("earnings", "eps", "revenue", "guidance", "dividend", "buyback", "split", "downgrade"),
}  # fmt: skip
_EVENT: Final = re.compile(
    r"(?<![a-z0-9])(?:"
    + "|".join(
        f"(?P<{name}>{'|'.join(re.escape(word) for word in sorted(words, key=len, reverse=True))})"
        for name, words in EVENT_WORDS.items()
    )
    + r")(?![a-z0-9])"
)
_PLACES: Final = {name: i for i, name in enumerate(EVENT_WORDS)}


def event_counts(text: str) -> list[int]:
    """Return how many words of each list a text has, in the order of EVENT_WORDS."""
    counts = [0] * len(EVENT_WORDS)
    for match in _EVENT.finditer(text.lower()):
        assert match.lastgroup is not None
        counts[_PLACES[match.lastgroup]] += 1
    return counts


def lexicon_sha256() -> str:
    """Return the name of all lists."""
    return hashlib.sha256(json.dumps([SLANG, EVENT_WORDS], sort_keys=True).encode()).hexdigest()
