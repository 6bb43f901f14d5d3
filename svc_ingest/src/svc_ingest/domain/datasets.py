"""
What a data set is, as data: which files, how to read them, and how each row becomes a row of the metric dictionary.

The catalogue (adapters/catalogue.toml) is a list of these; a person adds a data set without touching code.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from qraft_contracts.kinds import KINDS
from qraft_contracts.outcomes import Malformed
from svc_ingest.domain.categories import RULES

ReaderName = Literal[
    "parquet", "csv", "jsonl", "feather", "binance_messages", "binance_capture", "kraken_capture", "factors",
    "adjusted_closes",
]  # fmt: skip
# The same name in a bar store and in a table store.
_MARKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
TEMPLATE: Final = re.compile(r"\{([^{}]*)\}")


class Cell(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """
    How one field is made: a column × times + plus, perhaps divided by another column, or a constant `value`.

    rules: sorts the column's text into a category by a version of domain.categories, such as `news/1`.
    map: replaces texts; one that is not named is unreadable. empty: texts that mean "none". low, high: bounds of the
    source, tighter than the kind's, that catch another unit; inclusive.
    """

    column: str | None = None
    value: float | bool | str | None = None
    times: float = 1.0
    plus: float = 0.0
    over: str | None = None
    map: dict[str, float | bool | str] = {}
    rules: str | None = None
    empty: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that it reads."""
        return tuple(name for name in (self.column, self.over) if name is not None)


class Instant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """
    When a row's event was: the column, in `zone` where it carries none, plus `plus_s`.

    plus_s: from the time in the file to the event's end. floor_s: a stamp of less than a minute after a multiple of so
    many seconds is that multiple (a venue writes its settlements some milliseconds late).
    next_month: the column names a month, the event is its end.
    """

    column: str
    zone: str = "UTC"
    plus_s: int = 0
    floor_s: int = 0
    next_month: bool = False


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """
    When a row could first be known, never before its event: at the event; at a column; `plus_s` after the event; at
    the midnight UTC after so many weekdays; or at one instant for all, the end of the collection.
    """

    rule: Literal["event", "column", "after", "weekdays", "at"] = "event"
    column: str | None = None
    plus_s: int = 0
    weekdays: int = 0
    at: str | None = None


class TableRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """
    One table out of a data set.

    market, symbol, row_id: texts with {column}; {stem} = the file's name without suffix, {head} = what of it stands
    before the first underscore; row_id may be `sha256:` and columns. part: of a reader that gives several tables.
    where: rows to take, by column. no_value: rows whose columns are all empty are no observations (holidays), counted
    and left out. agrees_within: by how much a second source of the same rows may differ by its rounding.
    last_bar_may_form: the file was captured while its last bar was forming.
    """

    kind: str
    market: str
    symbol: str
    time: Instant
    fields: dict[str, Cell | str]
    known: Known = Known()
    interval: str | None = None
    row_id: str = ""
    part: str = "rows"
    where: dict[str, tuple[str, ...]] = {}
    no_value: tuple[str, ...] = ()
    agrees_within: dict[str, float] = {}
    last_bar_may_form: bool = False

    @property
    def cells(self) -> dict[str, Cell]:
        """Return how each field is made."""
        return {name: Cell(column=it) if isinstance(it, str) else it for name, it in self.fields.items()}

    @property
    def columns(self) -> frozenset[str]:
        """Return every column of the source that it reads."""
        texts = f"{self.market} {self.symbol} {self.row_id}"
        found = set(TEMPLATE.findall(texts)) - {"stem", "head"}
        found |= {self.time.column, *self.where, *self.no_value}
        found |= {self.known.column} if self.known.column else set()
        found |= {name for cell in self.cells.values() for name in cell.columns}
        if self.row_id.startswith("sha256:"):
            found |= set(self.row_id.removeprefix("sha256:").split(","))
        return frozenset(found)


class NamedGap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Something that a data set seems to offer and that is not taken, with the reason."""

    kind: str
    why: str


class Dataset(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """
    Files of one form. files: a pattern below the data folder. ignored: columns that no table reads; any other column
    is a change at the source and stops the data set. elsewhere: rows that are left to other data sets, by column; any
    other row that no table takes is refused. companion: a second file that the reader needs, {head} as above.
    """

    name: str
    files: str
    reader: ReaderName
    tables: tuple[TableRule, ...]
    note: str = ""
    companion: str | None = None
    ignored: tuple[str, ...] = ()
    elsewhere: dict[str, tuple[str, ...]] = {}
    gaps: tuple[NamedGap, ...] = ()


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All data sets, in the order in which they are collected. not_data: patterns of files that are something else."""

    dataset: tuple[Dataset, ...]
    not_data: tuple[str, ...] = ()


def check_catalogue(catalogue: Catalogue) -> None:
    """
    Refuse a catalogue that names kinds, fields or intervals that there are not.

    Raises:
        Malformed: naming the data set and what is wrong in it.
    """
    names = [dataset.name for dataset in catalogue.dataset]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Malformed("bad_catalogue", f"expected each data set once, {twice} stand twice")
    for dataset in catalogue.dataset:
        for rule in dataset.tables:
            _check_rule(dataset.name, rule)


def _check_rule(dataset: str, rule: TableRule) -> None:
    kind = KINDS.get(rule.kind)
    if kind is None:
        raise Malformed("bad_catalogue", f"{dataset}: expected a kind out of {sorted(KINDS)}, received {rule.kind!r}")
    if unknown := sorted(set(rule.fields) - set(kind.field_names)):
        raise Malformed("bad_catalogue", f"{dataset}: {rule.kind} has no {unknown}, it has {list(kind.field_names)}")
    required = {field.name for field in kind.fields if field.is_required}
    if missing := sorted(required - set(rule.fields)):
        raise Malformed("bad_catalogue", f"{dataset}: {rule.kind} needs {missing}")
    unknown_rules = sorted({it.rules for it in rule.cells.values() if it.rules is not None} - RULES.keys())
    if unknown_rules:
        raise Malformed("bad_catalogue", f"{dataset}: expected rules out of {sorted(RULES)}, received {unknown_rules}")
    if kind.has_row_id != bool(rule.row_id):
        raise Malformed("bad_catalogue", f"{dataset}: {rule.kind} {'needs a' if kind.has_row_id else 'has no'} row_id")
    if (rule.kind == "bars") != (rule.interval is not None):
        raise Malformed("bad_catalogue", f"{dataset}: bars have an interval and no other kind has one")
    if rule.known.rule == "at" and not rule.known.at:
        raise Malformed("bad_catalogue", f"{dataset}: expected `at`, the end of the collection")
    if not _MARKET.fullmatch(TEMPLATE.sub("x", rule.market)):
        raise Malformed("bad_catalogue", f"{dataset}: expected a market such as binance.perp, received {rule.market!r}")
