"""What a venue tells of its past, kind by kind: how much at once, how far back, and how its rows become ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

from qraft_contracts.outcomes import Malformed, Transient

ContractType = Literal["spot", "perp"]
CONTRACTS: Final[tuple[ContractType, ...]] = ("spot", "perp")
MS_MINUTE: Final = 60_000
MS_HOUR: Final = 3_600_000
MS_DAY: Final = 86_400_000
# A venue's clock may run a little before ours; a row of later than the step that is forming comes from a wrong one.
AHEAD: Final = "ahead_of_clock"
AHEAD_MAX_MS: Final = MS_MINUTE


@dataclass(frozen=True, slots=True)
class VenueRow:
    """One row as a venue gives it: its event and when it was known, milliseconds since 1970, its id and its fields."""

    event_ms: int
    known_ms: int
    fields: Mapping[str, Any]
    row_id: str = ""


@dataclass(frozen=True, slots=True)
class Feed:
    """
    One kind of history of one contract type.

    step_ms: one row so often; None = whenever it happens. page_rows: the most that one request gives. span_max_ms: the
    longest stretch of time that one request may ask for. retention_days: what the venue keeps; None = everything.
    default_days: how far back without a start, None = as the setting says. interval: of bars.
    """

    name: str
    kind: str
    contract: ContractType
    step_ms: int | None
    page_rows: int
    span_max_ms: int
    retention_days: float | None = None
    default_days: float | None = None
    interval: str | None = None
    is_snapshot: bool = False

    @property
    def window_ms(self) -> int:
        """Return the stretch of time of one request."""
        return self.span_max_ms if self.step_ms is None else min(self.span_max_ms, self.page_rows * self.step_ms)


def _state(name: str, kind: str, *, retention_days: float | None = 30.0) -> Feed:
    return Feed(name, kind, "perp", 5 * MS_MINUTE, 500, 30 * MS_DAY, retention_days)


def bar_feed(contract: ContractType, interval: str, step_ms: int) -> Feed:
    """Return the bars of one interval."""
    return Feed(f"bars.{interval}.{contract}", "bars", contract, step_ms, 1000, 1000 * step_ms, interval=interval)


# Sources: developers.binance.com, USDⓈ-M futures, market data: funding rate history (1000 rows), open interest
# statistics, long/short ratios and taker volume (500 rows, the latest 30 days), aggregate trades (1000 rows, an hour).
FEEDS: Final = (
    Feed("funding", "funding", "perp", None, 1000, 300 * MS_DAY),
    _state("open_interest", "open_interest"),
    _state("long_short", "long_short"),
    _state("taker_volume", "taker_volume"),
    Feed("mark_price", "mark_price", "perp", MS_HOUR, 1000, 1000 * MS_HOUR),
    Feed("trades.spot", "trades", "spot", None, 1000, MS_HOUR, default_days=1 / 24),
    Feed("trades.perp", "trades", "perp", None, 1000, MS_HOUR, default_days=1 / 24),
    Feed("book_snapshot.spot", "book_snapshot", "spot", None, 1, MS_HOUR, is_snapshot=True),
    Feed("book_snapshot.perp", "book_snapshot", "perp", None, 1, MS_HOUR, is_snapshot=True),
)


class Banned(Transient):
    """The venue told us to stay away until an instant, milliseconds since 1970."""

    def __init__(self, until_ms: int, detail: str) -> None:
        super().__init__("exchange_banned", detail)
        self.until_ms = until_ms


class TooOld(Malformed):
    """The venue does not keep what was asked for."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """One row of a venue that was not taken: why, and what it said."""

    reason: str
    received: Mapping[str, Any]


def rows_of(feed: Feed, page: Sequence[Mapping[str, Any]], *, now_ms: int) -> tuple[list[VenueRow], list[BadRow]]:
    """
    Return a page's rows, by time, and those that cannot be read.

    A statistic stamped with a time is taken as the end of nothing and known one step later: venues do not say whether
    their stamp begins or ends its interval. Volume of an interval is an event at its end, by the same rule.

    Raises:
        Malformed: if a required entry stands in no row: the venue changed its format.
    """
    needed = _NEEDED[feed.kind]
    for name in needed:
        if page and all(row.get(name) is None for row in page):
            raise Malformed(
                "schema_drift", f"expected {list(needed)} in the rows of {feed.name}, no row has {name!r}: {page[0]}"
            )
    found, bad = list[VenueRow](), list[BadRow]()
    for row in page:
        if feed.kind != "book_snapshot" and row.get("timestamp") is None:
            bad.append(BadRow("no_time", row))
            continue
        try:
            taken = _row(feed, row, now_ms)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            bad.append(BadRow(f"unreadable: {type(error).__name__} {str(error)[:80]}", row))
            continue
        if feed.kind != "funding" and taken.event_ms > now_ms + (feed.step_ms or 0) + AHEAD_MAX_MS:
            bad.append(BadRow(AHEAD, row))
        else:
            found.append(taken)
    return sorted(found, key=lambda row: row.event_ms), bad


_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "funding": ("timestamp", "fundingRate"),
    "open_interest": ("timestamp", "openInterestAmount", "openInterestValue"),
    "long_short": ("timestamp", "account_ratio"),
    "taker_volume": ("timestamp", "buyVol", "sellVol"),
    "mark_price": ("timestamp", "open", "high", "low", "close"),
    "bars": ("timestamp", "open", "high", "low", "close", "volume"),
    "trades": ("timestamp", "id", "price", "amount", "side"),
    "book_snapshot": ("nonce", "bids", "asks"),
}


def _row(feed: Feed, row: Mapping[str, Any], now_ms: int) -> VenueRow:
    """Return one row; raises what a value raises that is none."""
    if feed.kind == "book_snapshot":
        levels = {f"{side}_{name}": [float(level[i]) for level in row[f"{side}s"]]
                  for side in ("bid", "ask") for i, name in enumerate(("px", "qty"))}  # fmt: skip
        event = int(row.get("timestamp") or now_ms)
        return VenueRow(event, max(event, now_ms), {**levels, "update_id": int(row["nonce"])}, str(row["nonce"]))
    stamp, step = int(row["timestamp"]), feed.step_ms or 0
    match feed.kind:
        case "funding":
            # Written some milliseconds after the hour it settles.
            event = stamp - stamp % MS_HOUR if stamp % MS_HOUR < MS_MINUTE else stamp
            return VenueRow(event, stamp, {"funding_rate": _number(row["fundingRate"])})
        case "open_interest":
            amounts = {"open_interest": row["openInterestAmount"], "open_interest_usd": row["openInterestValue"]}
            return VenueRow(stamp, stamp + step, {name: _number(value) for name, value in amounts.items()})
        case "long_short":
            names = ("account_ratio", "long_account_frac", "position_ratio")
            return VenueRow(stamp, stamp + step, {name: _number(row.get(name)) for name in names})
        case "taker_volume":
            volumes = {"buy_volume": _number(row["buyVol"]), "sell_volume": _number(row["sellVol"])}
            return VenueRow(stamp + step, stamp + step, volumes)
        case "trades":
            fields = {
                "price": _number(row["price"]),
                "qty": _number(row["amount"]),
                "is_taker_buy": row["side"] == "buy",
            }
            return VenueRow(stamp, stamp, fields, f"a{row['id']}")
        case _:
            names = ("open", "high", "low", "close", *(("volume",) if feed.kind == "bars" else ()))
            return VenueRow(stamp + step, stamp + step, {name: _number(row[name]) for name in names})


def _number(value: Any) -> float | None:
    return None if value is None or value == "" else float(value)


def with_periods(rows: Sequence[VenueRow]) -> list[VenueRow]:
    """
    Return funding rows with the hours since the settlement before them; the first of all has none and is left out.

    Venues change a contract's period (8, 4, 1 hours) and do not say so in its history.
    """
    return [
        VenueRow(row.event_ms, row.known_ms, {**row.fields, "period_hours": (row.event_ms - before.event_ms) / MS_HOUR})
        for before, row in pairwise(rows)
    ]
