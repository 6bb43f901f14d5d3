"""
The metric dictionary: every kind of data, its columns with units and bounds, how often it comes and when it is known.

Collection, audit, stores, features and training read this one list. Bars live in a BarStore, every other kind in a
TableStore; both name a row's times the same way: `event_at` is what the row is about (for anything with a duration
its end, exclusive), `known_at` when we could first have known it, and `event_at <= known_at`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

# Columns that every row of a TableStore has beside the fields of its kind. A row is named by (market, symbol,
# event_at, row_id, revision); row_id is "" where symbol and event_at suffice, else the source's own id.
BASE_COLUMNS: Final = (
    ("symbol", "utf8"),
    ("event_at", "timestamp[us, UTC]"),
    ("known_at", "timestamp[us, UTC]"),
    ("row_id", "utf8"),
    ("revision", "int32"),
    ("origin", "utf8"),
    ("source", "utf8"),
)


@dataclass(frozen=True, slots=True)
class Field:
    """
    One column of a kind. type: float64, int64, bool, utf8 or list<float64>.

    low, high: bounds, inclusive, of what is possible; a row outside them is quarantined. is_required: the row is
    quarantined without it; otherwise an empty value is data and stays empty.
    """

    name: str
    type: str
    unit: str
    low: float = float("-inf")
    high: float = float("inf")
    is_required: bool = True


@dataclass(frozen=True, slots=True)
class Kind:
    """
    One kind of data. what: for people. known: how `known_at` follows from what a source tells.

    cadence_s: one row a symbol so often, None = whenever it happens. stale_after_s: a live feed without a row for so
    long is stale. retention_days: what venues keep of it; such a kind is judged on its recent coverage instead of the
    whole window. derived_from: may be computed from these kinds where a source lacks it; such rows carry the source
    `derived:<kind>`.

    has_row_id: row_id is the source's own id and never empty; elsewhere it is always empty. same_length: pairs of list
    fields that belong together, element by element. at_most: pairs of fields, the first never above the second, so
    that swapped columns are found. first_year: no row is older; milliseconds read as microseconds land in January 1970.
    """

    name: str
    what: str
    fields: tuple[Field, ...]
    known: str
    cadence_s: int | None = None
    stale_after_s: int | None = None
    retention_days: int | None = None
    derived_from: tuple[str, ...] = ()
    has_row_id: bool = False
    same_length: tuple[tuple[str, str], ...] = ()
    at_most: tuple[tuple[str, str], ...] = ()
    first_year: int = 1971

    @property
    def field_names(self) -> tuple[str, ...]:
        """Return the names of the fields, in order."""
        return tuple(field.name for field in self.fields)


_PRICE: Final = (1e-30, 1e30)


def _price(name: str, unit: str = "quote currency", *, is_required: bool = True) -> Field:
    return Field(name, "float64", unit, *_PRICE, is_required=is_required)


def _amount(name: str, unit: str, *, is_required: bool = True) -> Field:
    return Field(name, "float64", unit, 0.0, 1e30, is_required=is_required)


def _heat(name: str) -> Field:
    return Field(name, "float64", "log(1 + count)", 0.0, 30.0, is_required=False)


def _tone(name: str) -> Field:
    return Field(name, "float64", "mean VADER compound", -1.0, 1.0, is_required=False)


def _frac(name: str, unit: str) -> Field:
    return Field(name, "float64", unit, 0.0, 1.0, is_required=False)


_AT_EVENT: Final = "event_at, or when it was received where that is recorded and later"
_OHLC: Final = tuple(_price(name) for name in ("open", "high", "low", "close"))


def _bar_order(prefix: str = "") -> tuple[tuple[str, str], ...]:
    """Return the pairs that make a bar possible: low <= open, close <= high."""
    pairs = (("low", "open"), ("low", "close"), ("open", "high"), ("close", "high"))
    return tuple((prefix + low, prefix + high) for low, high in pairs)


_LEVELS: Final = (
    Field("bid_px", "list<float64>", "quote currency", *_PRICE),
    Field("bid_qty", "list<float64>", "base asset", 0.0),
    Field("ask_px", "list<float64>", "quote currency", *_PRICE),
    Field("ask_qty", "list<float64>", "base asset", 0.0),
)
_LEVEL_PAIRS: Final = (("bid_px", "bid_qty"), ("ask_px", "ask_qty"))

_KINDS: Final = (
    Kind("bars", "Bars of one interval: spot, perpetual, futures, equities", (*_OHLC, _amount("volume", "base asset")),
         known="end of the bar", cadence_s=300, stale_after_s=900, at_most=_bar_order()),
    Kind("quote_bars", "Bars of the best bid and ask", tuple(
            _price(f"{side}_{name}") for side in ("bid", "ask") for name in ("open", "high", "low", "close")),
         known="end of the bar", cadence_s=60, stale_after_s=900, at_most=(*_bar_order("bid_"), *_bar_order("ask_"))),
    Kind("mark_price", "Bars of a perpetual's mark price", _OHLC, known="end of the bar", cadence_s=3_600,
         stale_after_s=2 * 3_600, at_most=_bar_order()),
    Kind("funding", "Funding paid by longs to shorts at one settlement", (
            Field("funding_rate", "float64", "fraction of notional for the period", -0.5, 0.5),
            Field("period_hours", "float64", "hours", 0.01, 24.0)),
         known="the settlement", cadence_s=8 * 3_600, stale_after_s=10 * 3_600),
    Kind("open_interest", "Contracts outstanding", (
            _amount("open_interest", "base asset", is_required=False), _amount("open_interest_usd", "USD")),
         known="event_at", cadence_s=3_600, stale_after_s=3 * 3_600, retention_days=30),
    Kind("long_short", "Longs against shorts, by accounts and by positions", (
            Field("account_ratio", "float64", "long accounts / short accounts", 0.0, 1e6),
            Field("long_account_frac", "float64", "fraction of accounts", 0.0, 1.0, is_required=False),
            Field("position_ratio", "float64", "long / short positions of top traders", 0.0, 1e6, is_required=False)),
         known="event_at", cadence_s=3_600, stale_after_s=3 * 3_600, retention_days=30),
    Kind("taker_volume", "Volume that takers bought and sold", (
            _amount("buy_volume", "base asset"), _amount("sell_volume", "base asset")),
         known="end of the interval", cadence_s=300, stale_after_s=3_600, retention_days=30, derived_from=("trades",)),
    Kind("basis", "Futures against spot", (
            _price("spot_price"), _price("future_price"),
            Field("basis_frac", "float64", "future / spot - 1", -0.9, 9.0),
            Field("annualized_frac", "float64", "fraction a year; dated futures only", -100.0, 100.0,
                  is_required=False)),
         known="end of the interval", cadence_s=3_600, stale_after_s=3 * 3_600, derived_from=("bars",)),
    Kind("book_snapshot", "All levels of an order book at once, best first", (
            *_LEVELS,
            Field("update_id", "int64", "venue sequence", 0.0)),
         known=_AT_EVENT, has_row_id=True, same_length=_LEVEL_PAIRS),
    Kind("book_update", "Changed levels of an order book; quantity 0 removes one", (
            *_LEVELS,
            Field("first_update_id", "int64", "venue sequence", 0.0),
            Field("final_update_id", "int64", "venue sequence", 0.0)),
         known=_AT_EVENT, has_row_id=True, same_length=_LEVEL_PAIRS),
    Kind("book_ticker", "Best bid and ask", (
            _price("bid_px"), _amount("bid_qty", "base asset"), _price("ask_px"), _amount("ask_qty", "base asset"),
            Field("update_id", "int64", "venue sequence", 0.0, is_required=False)),
         known=_AT_EVENT, has_row_id=True, at_most=(("bid_px", "ask_px"),)),
    Kind("trades", "Single trades", (
            _price("price"), _amount("qty", "base asset"), Field("is_taker_buy", "bool", "true = the taker bought")),
         known=_AT_EVENT, stale_after_s=600, has_row_id=True),
    Kind("book_state", "The book at the end of an interval, and what happened to its best quotes in it", (
            Field("spread_frac", "float64", "(best ask - best bid) / mid", 0.0, 2.0),
            Field("microprice_frac", "float64", "microprice / mid - 1", -1.0, 1.0),
            Field("queue_imbalance", "float64", "(bid - ask) / (bid + ask) quantity of the best level", -1.0, 1.0),
            Field("depth_imbalance", "float64", "the same over the best five levels", -1.0, 1.0, is_required=False),
            _amount("bid_depth", "quote currency within 0.1 % of mid", is_required=False),
            _amount("ask_depth", "quote currency within 0.1 % of mid", is_required=False),
            Field("order_flow_imbalance", "float64", "signed changes of the best queues / their mean size", -1e9, 1e9,
                  is_required=False)),
         known="end of the interval", cadence_s=300, stale_after_s=600,
         derived_from=("book_ticker", "book_snapshot", "book_update")),
    Kind("trade_flow", "What was traded in an interval", (
            _amount("n_trades", "count"), _amount("n_taker_buys", "count"), _amount("notional", "quote currency"),
            _amount("taker_buy_notional", "quote currency")),
         known="end of the interval", cadence_s=300, stale_after_s=600, derived_from=("trades",)),
    Kind("liquidation_flow", "What was liquidated in an interval in which the feed showed life", (
            _amount("n_liquidations", "count"), _amount("liquidation_usd", "USD")),
         # Short of the next interval's end: without a row there, this one must not count twice.
         known="end of the interval", stale_after_s=299, derived_from=("liquidations",)),
    Kind("mark_premium", "Mark price against the last price of the perpetual", (
            Field("premium_frac", "float64", "mark price / close of the bar that ends with it - 1", -0.9, 9.0),),
         known="end of the bar", cadence_s=3_600, stale_after_s=2 * 3_600, derived_from=("mark_price", "bars")),
    Kind("series_state", "Where a series of macro or onchain stands among its own last values", (
            Field("zscore_60", "float64", "standard deviations from the mean of 60 values, this one included",
                  -8.0, 8.0),),
         known="when the last of the 60 values was", cadence_s=86_400, stale_after_s=5 * 86_400,
         derived_from=("macro", "onchain"), first_year=1900),
    Kind("event_density", "How many events became known in the last 24 hours", (
            _amount("n_events_24h", "count"),),
         known="end of the hour", cadence_s=3_600, stale_after_s=2 * 3_600, derived_from=("events",)),
    Kind("text_state", "What is said of a symbol in the hours up to a bucket's end; fields are columns of qraft_text", (
            _heat("posts_heat_1h"), _heat("posts_heat_24h"),
            Field("posts_heat_surprise", "float64", "posts_heat_1h - log(1 + posts of 24 hours / 24)", -30.0, 30.0,
                  is_required=False),
            _tone("posts_sentiment_1h"), _tone("posts_sentiment_24h"),
            Field("posts_opinion_spread_24h", "float64", "standard deviation of VADER compound", 0.0, 1.0,
                  is_required=False),
            _frac("posts_novelty_24h", "fraction of posts that repeat nobody"),
            _frac("posts_event_density_24h", "fraction of posts with a word of an event"),
            _frac("comment_ratio_24h", "comments / (posts + comments)"),
            _heat("news_heat_24h"), _tone("news_sentiment_24h"),
            _frac("news_event_density_24h", "fraction of news with a word of an event")),
         known="end of the bucket; posts and news count in the bucket in which they became known", stale_after_s=600,
         derived_from=("posts", "news")),
    Kind("liquidations", "Positions closed by force", (
            Field("side", "utf8", "as published"), _price("price"), _amount("size_usd", "USD")),
         known=_AT_EVENT, has_row_id=True),
    Kind("posts", "Social posts and comments that name a symbol", (
            Field("platform", "utf8", ""), Field("author_hash", "utf8", "", is_required=False),
            Field("text", "utf8", ""), Field("language", "utf8", "ISO 639-1", is_required=False),
            Field("is_comment", "bool", "")),
         known=_AT_EVENT, stale_after_s=6 * 3_600, has_row_id=True),
    Kind("post_engagement", "How a post was received, as counted at known_at", (
            Field("replies", "int64", "count", 0.0, 1e12, is_required=False),
            Field("reposts", "int64", "count", 0.0, 1e12, is_required=False),
            Field("likes", "int64", "count", -1e12, 1e12, is_required=False),
            Field("followers", "int64", "count", 0.0, 1e12, is_required=False)),
         known="when it was counted; long after the post in most collections", has_row_id=True),
    Kind("news", "News items", (
            Field("publisher", "utf8", ""),
            # By rules where the publisher names none; the row's source says by which, such as `;category=news/1`.
            Field("category", "utf8", "macro, regulation, exchange or other"),
            Field("title", "utf8", ""), Field("text", "utf8", "", is_required=False),
            Field("url", "utf8", "", is_required=False)),
         known=_AT_EVENT, stale_after_s=24 * 3_600, has_row_id=True),
    Kind("events", "Scheduled and unscheduled events; a schedule is known before the outcome", (
            Field("name", "utf8", ""), Field("category", "utf8", "macro, regulation, exchange or other"),
            Field("scheduled_at_us", "int64", "microseconds since 1970", is_required=False),
            Field("actual", "utf8", "as published", is_required=False),
            Field("consensus", "utf8", "as published", is_required=False),
            Field("previous", "utf8", "as published", is_required=False)),
         known="the publication", has_row_id=True),
    Kind("macro", "Daily and monthly series: VIX, DXY, US10Y, US2Y, …; symbol = the series", (
            Field("value", "float64", "as SERIES says", -1e12, 1e12),),
         known="the publication, after the day or month described", cadence_s=86_400, stale_after_s=5 * 86_400,
         first_year=1900),
    Kind("onchain", "Series of a chain: flows, hash rate; symbol = the series", (
            Field("value", "float64", "as SERIES says", -1e30, 1e30),),
         known="end of the day described", cadence_s=86_400, stale_after_s=3 * 86_400),
    Kind("corporate_actions", "Splits and dividends of an equity, on the ex-date", (
            Field("split_ratio", "float64", "new shares / old shares", 1e-6, 1e6),
            _amount("dividend", "quote currency a share before the split")),
         known="the ex-date where the announcement is not recorded", first_year=1900),
    Kind("futures_contracts", "Dated futures; symbol = the contract", (
            Field("root", "utf8", ""), Field("expires_at_us", "int64", "microseconds since 1970"),
            Field("multiplier", "float64", "units a contract", 1e-12, 1e12), _price("tick_size")),
         known="the listing"),
    Kind("option_quotes", "Quotes of options; symbol = the underlying, row_id = the contract", (
            Field("expires_at_us", "int64", "microseconds since 1970"), _price("strike"),
            Field("is_call", "bool", ""), _amount("bid", "quote currency", is_required=False),
            _amount("ask", "quote currency", is_required=False), _price("underlying_price")),
         known=_AT_EVENT, has_row_id=True),
)  # fmt: skip
KINDS: Final[dict[str, Kind]] = {kind.name: kind for kind in _KINDS}

# Units of the series under `macro` and `onchain`; a ticker under `macro` is an adjusted close in USD.
SERIES: Final[dict[str, str]] = {
    "VIX": "index points",
    "DXY": "index points",
    "US10Y": "percent a year",
    "US2Y": "percent a year",
    "FEAR_GREED": "index 0 to 100",
    "CORE_CPI": "index 1982-84 = 100",
    "UNEMPLOYMENT": "percent",
    "FED_FUNDS": "percent a year",
    "INDUSTRIAL_PRODUCTION": "index 2017 = 100",
    "SP500": "index points",
    "BTC_CLOSE": "USD",
    "BTC_VOLUME_USD": "USD a day",
    "BTC_HASHRATE": "terahashes a second",
    "BTC_EXCHANGE_NETFLOW": "BTC a day",
}


# Series that are described once a month and published some weeks after it; no daily row is owed.
MONTHLY_SERIES: Final = ("CORE_CPI", "UNEMPLOYMENT", "FED_FUNDS", "INDUSTRIAL_PRODUCTION")
# A month, and until the middle of the next but one: the latest that such a value is still the newest one.
MONTHLY_STALE_S: Final = 75 * 86_400


def stale_after_s(kind: str, symbol: str) -> int | None:
    """Return after how many seconds without a row a series is stale, None where nothing says so."""
    return MONTHLY_STALE_S if kind == "macro" and symbol in MONTHLY_SERIES else KINDS[kind].stale_after_s


@dataclass(frozen=True, slots=True)
class StateInput:
    """
    Where the value of a state comes from. market: None = the line's state market. symbol: None = the bar's own symbol.

    With market and symbol it is one series for all symbols, such as the VIX of us.macro; with a market alone it is what
    that market says of each symbol, such as what is written about it.
    """

    kind: str
    field: str
    market: str | None = None
    symbol: str | None = None


# The pipeline of texts whose buckets stand in `text_state`: the signature of qraft_text's filters, words and buckets.
# Its rows lie in a market of its own, so that what another pipeline made is never read as if this one had.
TEXT_SIGNATURE: Final = "3a9113304698ba115d77e2e43bdf039591c10d6fdb28a8dad2b3753d63e60fff"
TEXT_MARKET: Final = f"text.{TEXT_SIGNATURE[:12]}"

# What a bar message may carry beside the bar itself: the newest value of each metric known at the bar's end, made by
# the aligner. Empty (NaN) where nothing is known yet or the last row is stale. New ones are added at the end.
STATE_INPUTS: Final[dict[str, StateInput]] = {
    "funding_rate": StateInput("funding", "funding_rate"),
    "open_interest_usd": StateInput("open_interest", "open_interest_usd"),
    "basis_frac": StateInput("basis", "basis_frac"),
    "long_short_ratio": StateInput("long_short", "account_ratio"),
    "taker_buy_volume": StateInput("taker_volume", "buy_volume"),
    "taker_sell_volume": StateInput("taker_volume", "sell_volume"),
    "mark_premium_frac": StateInput("mark_premium", "premium_frac"),
    "book_spread_frac": StateInput("book_state", "spread_frac"),
    "microprice_frac": StateInput("book_state", "microprice_frac"),
    "queue_imbalance": StateInput("book_state", "queue_imbalance"),
    "depth_imbalance": StateInput("book_state", "depth_imbalance"),
    "bid_depth": StateInput("book_state", "bid_depth"),
    "ask_depth": StateInput("book_state", "ask_depth"),
    "order_flow_imbalance": StateInput("book_state", "order_flow_imbalance"),
    "n_trades": StateInput("trade_flow", "n_trades"),
    "n_taker_buys": StateInput("trade_flow", "n_taker_buys"),
    "trade_notional": StateInput("trade_flow", "notional"),
    "taker_buy_notional": StateInput("trade_flow", "taker_buy_notional"),
    "n_liquidations": StateInput("liquidation_flow", "n_liquidations"),
    "liquidation_usd": StateInput("liquidation_flow", "liquidation_usd"),
    "vix": StateInput("macro", "value", "us.macro", "VIX"),
    "dxy": StateInput("macro", "value", "us.macro", "DXY"),
    "us10y": StateInput("macro", "value", "us.macro", "US10Y"),
    "us2y": StateInput("macro", "value", "us.macro", "US2Y"),
    "fear_greed": StateInput("macro", "value", "crypto.macro", "FEAR_GREED"),
    "btc_hashrate": StateInput("onchain", "value", "crypto.chain", "BTC_HASHRATE"),
    "vix_z": StateInput("series_state", "zscore_60", "us.macro", "VIX"),
    "dxy_z": StateInput("series_state", "zscore_60", "us.macro", "DXY"),
    "us10y_z": StateInput("series_state", "zscore_60", "us.macro", "US10Y"),
    "fear_greed_z": StateInput("series_state", "zscore_60", "crypto.macro", "FEAR_GREED"),
    "btc_hashrate_z": StateInput("series_state", "zscore_60", "crypto.chain", "BTC_HASHRATE"),
    "n_events_24h": StateInput("event_density", "n_events_24h", "us.macro", "US"),
    "text_heat": StateInput("text_state", "posts_heat_1h", TEXT_MARKET),
    "text_heat_24h": StateInput("text_state", "posts_heat_24h", TEXT_MARKET),
    "text_heat_surprise": StateInput("text_state", "posts_heat_surprise", TEXT_MARKET),
    "text_sentiment": StateInput("text_state", "posts_sentiment_1h", TEXT_MARKET),
    "text_sentiment_24h": StateInput("text_state", "posts_sentiment_24h", TEXT_MARKET),
    "text_opinion_spread": StateInput("text_state", "posts_opinion_spread_24h", TEXT_MARKET),
    "text_novelty": StateInput("text_state", "posts_novelty_24h", TEXT_MARKET),
    "text_event_density": StateInput("text_state", "posts_event_density_24h", TEXT_MARKET),
    "text_comment_ratio": StateInput("text_state", "comment_ratio_24h", TEXT_MARKET),
    "news_heat": StateInput("text_state", "news_heat_24h", TEXT_MARKET),
    "news_sentiment": StateInput("text_state", "news_sentiment_24h", TEXT_MARKET),
    "news_event_density": StateInput("text_state", "news_event_density_24h", TEXT_MARKET),
}


def text_fields(inputs: Iterable[str]) -> tuple[str, ...]:
    """Return the fields of text_state that some inputs of the feature engine are read from, in their order."""
    states = (STATE_INPUTS[name] for name in inputs if name in STATE_INPUTS)
    return tuple(state.field for state in states if state.kind == "text_state")


def metric(name: str) -> tuple[Kind, Field]:
    """
    Return the kind and field of a metric named `kind.field`, such as `funding.funding_rate`.

    Raises:
        KeyError: if there is no such metric; the message lists what there is.
    """
    kind_name, _, field_name = name.partition(".")
    for field in KINDS[kind_name].fields if kind_name in KINDS else ():
        if field.name == field_name:
            return KINDS[kind_name], field
    there = [f"{kind_name}.{field}" for field in KINDS[kind_name].field_names] if kind_name in KINDS else list(KINDS)
    raise KeyError(f"expected a metric `kind.field`, one of {', '.join(there)}; received {name!r}")
