"""
The category of a news item by rules over its words, where the source names none.

Rules are data with a version: a changed rule is a new version, and rows say by which one they were sorted
(`…;category=news/1` in their source). They are plain words of a person, not measured against a labelled set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

OTHER: Final = "other"

# The first category with a hit names the item: a regulator that fines an exchange is regulation, an exchange that
# reacts to inflation is exchange. Words stand whole; `*` = any ending.
_NEWS_1: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("regulation", (
        "regulat*", "sec", "cftc", "fca", "finra", "fincen", "doj", "irs", "mica", "aml", "kyc", "sanction*",
        "lawsuit*", "sue", "sues", "sued", "suing", "court", "judge", "senat*", "congress*", "lawmaker*", "legislat*",
        "parliament", "bill", "executive order", "ban", "bans", "banned", "banning", "tax", "taxes", "taxation",
        "license*", "licence*", "licensing", "subpoena*", "indict*", "legal tender", "law", "laws", "compliance",
        "watchdog*", "fined", "crackdown*", "treasury department", "legali*", "illegal", "prosecut*", "police",
    )),
    ("exchange", (
        "exchange*", "binance", "coinbase", "kraken", "ftx", "bitfinex", "huobi", "okx", "okex", "okcoin", "bybit",
        "kucoin", "bitstamp", "gemini", "crypto.com", "bitmex", "deribit", "bithumb", "upbit", "gate.io", "bitmart",
        "delist*", "outage*", "futures contract*", "cme",
    )),
    ("macro", (
        "inflation", "cpi", "interest rate*", "rate hike*", "federal reserve", "fed", "fomc", "powell", "ecb",
        "central bank*", "gdp", "recession", "unemployment", "jobs report", "nonfarm", "treasury yield*",
        "bond yield*", "stock market*", "stocks", "s&p 500", "nasdaq", "dow jones", "dollar index", "dxy", "oil price*",
        "war", "ukraine", "russia*", "stimulus", "quantitative", "monetary policy", "macro*", "geopolitic*",
    )),
)  # fmt: skip


def _pattern(words: Sequence[str]) -> re.Pattern[str]:
    parts = (re.escape(word.removesuffix("*")) + (r"\w*" if word.endswith("*") else "") for word in words)
    return re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?!\w)", re.IGNORECASE)


RULES: Final[Mapping[str, tuple[tuple[str, re.Pattern[str]], ...]]] = {
    "news/1": tuple((category, _pattern(words)) for category, words in _NEWS_1),
}


def category_of(text: str | None, *, rules: str) -> str:
    """Return the category of a text by a version of the rules; `other` where no rule holds."""
    return next((category for category, words in RULES[rules] if words.search(text or "")), OTHER)
