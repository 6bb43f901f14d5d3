"""What is asked of get_data, in a form that can be hashed: every choice that changes the answer is a field here."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import msgspec

from qraft_contracts.kinds import STATE_INPUTS, Field, Kind, metric
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_data.adjustment import ADJUSTMENTS, Adjustment
from qraft_data.continuous.rolls import RollRule
from qraft_data.zones import zone_of

Missing = Literal["keep", "flag", "drop", "previous", "refuse"]
MISSING: Final = ("keep", "flag", "drop", "previous", "refuse")
Revisions = Literal["latest", "first"]

BAR_INPUTS: Final = ("open", "high", "low", "close", "volume")
_REFERENCE: Final = re.compile(
    r"(?P<metric>[a-z_]+\.[a-z_0-9]+)(@(?P<market>[A-Za-z0-9][A-Za-z0-9_.-]{0,63})(:(?P<symbol>[^~\s]+))?)?"
    r"(~(?P<age>\d+)(?P<unit>[smhd]))?"
)
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBERS: Final = ("float64", "int64", "bool")
# A query names what a person or a training run chose; a longer list is a mistake, not a universe.
N_FIELDS_MAX: Final = 200
N_SYMBOLS_MAX: Final = 10_000


class FieldRef(msgspec.Struct, frozen=True, kw_only=True):
    """
    One metric of the dictionary and where it comes from.

    market: None = the query's. symbol: None = each of the query's symbols; else this one series for all of them, such
    as VIX. max_age_s: how old an event may be and still stand, None = what the dictionary says (not for bars).
    """

    metric: str
    market: str | None = None
    symbol: str | None = None
    max_age_s: int | None = None

    @property
    def name(self) -> str:
        """Return the column's name: the text that parse_field reads."""
        market = f"@{self.market}" if self.market else ""
        symbol = f":{self.symbol}" if self.symbol else ""
        age = f"~{self.max_age_s}s" if self.max_age_s is not None else ""
        return f"{self.metric}{market}{symbol}{age}"

    @property
    def kind(self) -> Kind:
        """Return the kind of data."""
        return metric(self.metric)[0]

    @property
    def field(self) -> Field:
        """Return the field of the kind."""
        return metric(self.metric)[1]


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """
    How prices become another currency: by the newest rate known at each row's time.

    source, to: currency codes. symbol: the pair, `<source><to>` (multiplied) or `<to><source>` (divided). fields:
    metrics of the pair whose mean is the rate, such as the two closes of quote_bars. interval: of the pair's bars, None
    = the query's. max_age_s: of the rate; the default lasts over a long weekend.
    """

    source: str
    to: str
    market: str
    symbol: str
    fields: tuple[str, ...] = ("bars.close",)
    interval: str | None = None
    max_age_s: int = 4 * 86_400


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """
    One question; `checked` returns it complete. Equal questions have equal bytes in `canonical`.

    market: where symbols and fields are, unless a field names another market. symbols: the columns; roots (such as ES)
    where `continuous` is given. start, end: of (start, end]. as_of: nothing known later is seen; None = end.
    interval: of the bars and the grid. revisions: `latest` = of a bar the newest revision known by as_of; `first` = as
    first published; other metrics always show each row what was known at its time.
    adjustment: of bars.* for splits and dividends known by as_of; adjustment.py says in which direction. currency:
    fields in quote currency are converted. time_zone: of the local times in the answer; the grid stays UTC.
    calendar: None or 24/7 = every step of the grid; else those that lie in a session.
    missing: `keep` = NaN; `flag` = NaN, and the table has flag columns; `drop` = cells (row × symbol) without all
    fields are left out and counted; `previous` = the last value of up to `fill_bars` rows before, counted and flagged;
    `refuse` = an error that names them. continuous: the roll rule of continuous futures.
    """

    market: str
    symbols: tuple[str, ...]
    start: datetime
    end: datetime
    fields: tuple[FieldRef, ...]
    as_of: datetime | None = None
    interval: str = "5m"
    revisions: Revisions = "latest"
    adjustment: Adjustment = "none"
    currency: Conversion | None = None
    time_zone: str = "UTC"
    calendar: str | None = None
    missing: Missing = "keep"
    fill_bars: int = 0
    continuous: RollRule | None = None

    @property
    def limit(self) -> datetime:
        """Return up to when something had to be known: as_of, or else the end of the range."""
        return self.end if self.as_of is None else self.as_of

    @property
    def first_read(self) -> datetime:
        """Return from when on rows are read: earlier than the range where a roll rule warms up."""
        if self.continuous is None:
            return self.start
        return max(_FIRST, self.start - timedelta(days=self.continuous.warm_up_days))

    def checked(self) -> Query:
        """
        Return the query with its instants in UTC and as_of said.

        Raises:
            ValueError: for what cannot be answered; the message says what to change.
            KeyError: if a metric is not in the dictionary.
        """
        _check_names(self)
        for field in self.fields:
            _check_field(field)
        if self.interval not in INTERVAL_SECONDS:
            raise ValueError(f"expected an interval out of {sorted(INTERVAL_SECONDS)}, received {self.interval!r}")
        for name, value, allowed in (
            ("adjustment", self.adjustment, ADJUSTMENTS),
            ("missing", self.missing, MISSING),
            ("revisions", self.revisions, ("latest", "first")),
        ):
            if value not in allowed:
                raise ValueError(f"expected {name} out of {allowed}, received {value!r}")
        _check_together(self)
        zone_of(self.time_zone)
        return msgspec.structs.replace(self, start=_utc(self.start), end=_utc(self.end), as_of=_utc(self.limit))

    def canonical(self) -> bytes:
        """Return the checked query as JSON with sorted keys."""
        return _JSON.encode(self.checked())


_JSON: Final = msgspec.json.Encoder(order="deterministic")


def parse_field(text: str) -> FieldRef:
    """
    Return the reference that a text means: `kind.field[@market[:symbol]][~age]`.

    `bars.close` is the query's own; `funding.funding_rate@binance.perp` of the same symbols in another market;
    `macro.value@us.macro:VIX~7d` one series for all symbols, at most seven days old.

    Raises:
        ValueError: if the text has another form.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise ValueError(f"expected kind.field[@market[:symbol]][~age], such as bars.close, received {text!r}")
    age = int(found["age"]) * _UNIT_S[found["unit"]] if found["age"] else None
    return FieldRef(metric=found["metric"], market=found["market"], symbol=found["symbol"], max_age_s=age)


def engine_inputs(query: Query) -> dict[str, str]:
    """
    Return which field of a query is which input of the feature engine: open to volume, and STATE_INPUTS.

    Bars count from the query's own market only; a state of the same symbol may come from another one. An input that
    names its market or series counts only from there, such as macro.value@us.macro:VIX, and text_state only from the
    market of its pipeline: under another's name numbers mean something else.

    Raises:
        ValueError: if two fields would be the same state.
    """
    found: dict[str, str] = {}
    for ref in query.fields:
        name = _input_of(ref)
        if name is None:
            continue
        if name in found:
            raise ValueError(f"expected one field for the input {name}, received {found[name]} and {ref.name}")
        found[name] = ref.name
    return found


def _input_of(ref: FieldRef) -> str | None:
    """Return which input of the feature engine a field is, None for one that is none."""
    if ref.kind.name == "bars":
        is_own = ref.market is None and ref.symbol is None
        return ref.field.name if is_own and ref.field.name in BAR_INPUTS else None
    for name, it in STATE_INPUTS.items():
        is_there = it.market is None or it.market == ref.market
        if is_there and it.symbol == ref.symbol and f"{it.kind}.{it.field}" == ref.metric:
            return name
    return None


def _check_names(query: Query) -> None:
    names = [field.name for field in query.fields]
    for what, found, limit in (("symbols", query.symbols, N_SYMBOLS_MAX), ("fields", names, N_FIELDS_MAX)):
        if not 0 < len(found) <= limit or len(set(found)) != len(found):
            raise ValueError(f"expected 1 to {limit} different {what}, received {len(found)}: {list(found)[:10]}")
    if not _utc(query.start) < _utc(query.end):
        raise ValueError(f"expected start before end, received {query.start} and {query.end}")


def _check_field(ref: FieldRef) -> None:
    if ref.field.type not in _NUMBERS:
        raise ValueError(
            f"expected metrics that are numbers, received {ref.metric} of type {ref.field.type}: texts and lists are "
            "read from the table store, or through the text features"
        )
    if ref.kind.name == "bars" and ref.max_age_s is not None:
        raise ValueError(f"expected no age for bars, received {ref.name}: a bar stands in its own row only")


def _check_together(query: Query) -> None:
    if (query.missing == "previous") != (query.fill_bars > 0):
        raise ValueError(
            f"expected fill_bars from 1 on with the policy previous and 0 with others, received {query.fill_bars} with "
            f"{query.missing}"
        )
    if query.continuous is not None and query.adjustment != "none":
        raise ValueError("expected adjustment none for continuous futures: their rule says how rolls are adjusted")
    if query.continuous is not None and any(ref.symbol is None and ref.market for ref in query.fields):
        raise ValueError("expected the fields of continuous futures from the query's own market")
    pair = query.currency
    if pair is not None and pair.symbol not in (pair.source + pair.to, pair.to + pair.source):
        raise ValueError(
            f"expected the pair {pair.source + pair.to} or {pair.to + pair.source}, received {pair.symbol}"
        )


def _utc(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError(f"expected an instant with a time zone, received the naive {instant.isoformat()}")
    return instant.astimezone(UTC)
