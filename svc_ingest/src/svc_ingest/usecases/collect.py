"""Bring data sets into the lake: each file read by its rules, judged, stored once; what is refused is kept by name."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qraft_contracts.kinds import KINDS
from qraft_contracts.outcomes import Malformed
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import parse_instant
from qraft_runtime.clock import Clock
from qraft_store.bars.port import BarStore
from qraft_store.tables.port import TableStore
from svc_ingest.domain.datasets import Catalogue, Dataset, TableRule
from svc_ingest.domain.parts import Part
from svc_ingest.domain.raw import micros_of
from svc_ingest.domain.shaping import Refused, Shaped, check_columns, matches, shape, without_a_rule
from svc_ingest.domain.tally import Count, Named, Tally
from svc_ingest.ports import CollectRecord, DatasetReader
from svc_ingest.usecases.collect_bars import BarWriter
from svc_ingest.usecases.collect_tables import TableWriter, check_not_swapped
from svc_ingest.usecases.kept_live import KeptLive

# Readers that give a file's own columns; the others make theirs.
_PLAIN: Final = ("parquet", "csv", "jsonl", "feather")
# Bars of one data set are held at once, to be merged by time: 20 million rows are 2 GB.
MAX_BAR_ROWS: Final = 20_000_000
# Refused rows kept of one data set. More is a broken file: the data set stops.
MAX_REFUSED: Final = 100_000


@dataclass(frozen=True, slots=True)
class Selection:
    """
    Which part of the catalogue. Empty = all. start < event_at <= end. again: also what was collected before.

    tables: only these (kind, market). exchange, symbols, intervals: of an exchange's history; None or empty = as the
    settings say.
    """

    kinds: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    start: datetime | None = None
    end: datetime | None = None
    again: bool = False
    tables: frozenset[tuple[str, str]] = frozenset()
    exchange: str | None = None
    symbols: tuple[str, ...] = ()
    intervals: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Return whether every row of a data set is taken."""
        return not self.kinds and not self.tables and self.start is None and self.end is None

    @property
    def is_by_table(self) -> bool:
        """Return whether every row of some tables is taken, and of no other."""
        return bool(self.tables) and not self.kinds and self.start is None and self.end is None

    def takes(self, kind: str) -> bool:
        """Return whether a kind is wanted."""
        return (not self.kinds or kind in self.kinds) and (not self.tables or any(kind == it for it, _ in self.tables))

    def takes_market(self, kind: str, market: str) -> bool:
        """Return whether rows of a kind and market are wanted; a market may be a template, which is any."""
        return self.takes(kind) and (not self.tables or "{" in market or (kind, market) in self.tables)


@dataclass(frozen=True, slots=True)
class Collector:
    """
    What collecting needs. data: the data folder. on_dataset: called after each data set with its name.

    kept_live: for a lake that a running line may read, None = for a lake of history.
    """

    catalogue: Catalogue
    data: Path
    reader: DatasetReader
    bars: BarStore
    tables: TableStore
    record: CollectRecord
    clock: Clock
    on_dataset: Callable[[str, Tally, float], None]
    kept_live: KeptLive | None = None

    def collect(self, selection: Selection, tally: Tally) -> None:
        """
        Collect what is selected and count what was found.

        A data set that cannot be read is a failure by name; the others go on. Killed anywhere, the next run goes on
        with the data set at hand: rows that are stored are repetitions.

        Raises:
            Malformed: if a data set is asked for that the catalogue does not have.
            Transient: if the disk is full or another process writes the lake.
        """
        wanted = self._wanted(selection)
        for i, dataset in enumerate(wanted):
            tally.gaps += [Named(dataset.name, f"not_taken: {gap.kind}", gap.why) for gap in dataset.gaps]
            try:
                self._dataset(dataset, selection, tally)
            except Malformed as error:
                tally.failures.append(Named(dataset.name, error.reason, error.detail))
            self.on_dataset(dataset.name, tally, (i + 1) / len(wanted))
        if not selection.datasets and not selection.kinds and not selection.tables:
            tally.gaps += [*self._unclaimed(), *self._without_source()]

    def _wanted(self, selection: Selection) -> list[Dataset]:
        known = {dataset.name for dataset in self.catalogue.dataset}
        if unknown := sorted(set(selection.datasets) - known):
            raise Malformed("unknown_dataset", f"expected data sets out of {sorted(known)}, received {unknown}")
        return [
            dataset
            for dataset in self.catalogue.dataset
            if (not selection.datasets or dataset.name in selection.datasets)
            and any(selection.takes_market(rule.kind, rule.market) for rule in dataset.tables)
        ]

    def _unclaimed(self) -> list[Named]:
        """Return the files of the data folder that no data set takes."""
        patterns = (*self.catalogue.not_data, *(dataset.files for dataset in self.catalogue.dataset))
        files = sorted(str(path.relative_to(self.data)) for path in self.data.rglob("*") if path.is_file())
        return [
            Named(name, "unclaimed_file", "no data set of the catalogue takes it")
            for name in files
            if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
        ]

    def _without_source(self) -> list[Named]:
        """Return the kinds of the dictionary that no data set gives and nothing derives."""
        given = {rule.kind for dataset in self.catalogue.dataset for rule in dataset.tables}
        return [
            Named("catalogue", f"no_source: {kind.name}", "no data set gives this kind")
            for kind in KINDS.values()
            if kind.name not in given and not kind.derived_from
        ]

    def _dataset(self, dataset: Dataset, selection: Selection, tally: Tally) -> None:
        files = sorted(self.data.glob(dataset.files))
        if not files:
            tally.gaps.append(Named(dataset.name, "no_file", f"no {dataset.files} under {self.data}"))
            return
        version = self.record.version_of(dataset, files)
        record = _record_name(dataset.name, selection)
        for name in {dataset.name, record} if record and not selection.again else ():
            if kept := self.record.done(name, version):
                _count_again(tally, dataset.name, kept)
                return
        run = _DatasetRun(self, dataset, selection, tally)
        try:
            for path in files:
                run.file(path)
            run.finish()
        finally:
            self.record.keep_refused(dataset.name, run.refused)
        if record and not run.has_no_slot:
            counts = [
                {"kind": kind, "market": market} | count.as_dict()
                for (name, kind, market), count in tally.counts.items()
                if name == dataset.name
            ]
            self.record.set_done(record, version, {"tables": counts})


@dataclass(slots=True)
class _DatasetRun:
    """One data set on its way in."""

    collector: Collector
    dataset: Dataset
    selection: Selection
    tally: Tally
    refused: list[tuple[str, Refused]] = field(default_factory=list)
    bars: dict[tuple[str, str], list[tuple[str, pa.Table]]] = field(default_factory=dict)
    n_bar_rows: int = 0
    has_no_slot: bool = False
    forming: set[tuple[str, str]] = field(default_factory=set)

    def file(self, path: Path) -> None:
        """Read one file, store its tables and keep its bars for `finish`."""
        stem = path.name.partition(".")[0]
        try:
            for part in self._parts(path, stem):
                self._torn(path.name, part)
                self._without_a_rule(path.name, part)
                for rule in self.dataset.tables:
                    if rule.part == part.name and self.selection.takes_market(rule.kind, rule.market):
                        self._rule(path.name, stem, part, rule)
        except Malformed as error:
            raise Malformed(error.reason, f"{path.name}: {error.detail}") from error

    def _parts(self, path: Path, stem: str) -> Iterator[Part]:
        companion = None
        if self.dataset.companion is not None:
            companion = self.collector.data / self.dataset.companion.replace("{head}", stem.partition("_")[0])
        wanted = frozenset(self.dataset.elsewhere).union(*(rule.columns for rule in self.dataset.tables))
        for part in self.collector.reader.parts(path, reader=self.dataset.reader, companion=companion):
            if self.dataset.reader in _PLAIN:
                check_columns(part.table, wanted, self.dataset.ignored, where=path.name)
            yield part

    def _without_a_rule(self, file: str, part: Part) -> None:
        rules = [rule for rule in self.dataset.tables if rule.part == part.name]
        elsewhere = self.dataset.elsewhere if rules else {}
        refused = without_a_rule(part.table, rules, elsewhere, first_row=part.first_row)
        self.tally.n_taken[self.dataset.name] += len(refused)
        for row in refused:
            self.tally.of(self.dataset.name, row.kind, row.market).refuse(row.reason)
        self._keep(file, refused)

    def _torn(self, file: str, part: Part) -> None:
        kind, market = self.dataset.tables[0].kind, "unread"
        self.tally.n_taken[self.dataset.name] += len(part.torn)
        for torn in part.torn:
            self.tally.of(self.dataset.name, kind, market).refuse(torn.reason)
            self._keep(file, [Refused(kind, market, torn.row, torn.reason, torn.received)])

    def _keep(self, file: str, refused: Sequence[Refused]) -> None:
        self.refused += [(file, row) for row in refused]
        if len(self.refused) > MAX_REFUSED:
            raise Malformed("too_many_refused", f"more than {MAX_REFUSED} rows of {self.dataset.name} were refused")

    def _rule(self, file: str, stem: str, part: Part, rule: TableRule) -> None:
        shaped = shape(
            part.table, rule, source=f"file:{self.dataset.name}", stem=stem, first_row=part.first_row,
            now_us=micros_of(self.collector.clock.now()), origin="replay",
        )  # fmt: skip
        self.tally.n_taken[self.dataset.name] += int(matches(part.table, rule.where).sum())
        for row in shaped.refused:
            self.tally.of(self.dataset.name, rule.kind, _market(rule, row.market)).refuse(row.reason)
        self._keep(file, shaped.refused)
        check_not_swapped(rule.kind, shaped, part.table.num_rows)
        self._count_empty(rule, shaped)
        for market, rows in shaped.rows.items():
            is_wanted = self.selection.takes_market(rule.kind, market)
            inside = within(rows, self.selection) if is_wanted else rows.slice(0, 0)
            self.tally.n_outside[self.dataset.name] += rows.num_rows - inside.num_rows
            self._market_rows(file, rule, market, inside)

    def _count_empty(self, rule: TableRule, shaped: Shaped) -> None:
        if shaped.n_empty:
            market = next(iter(shaped.rows), rule.market)
            self.tally.of(self.dataset.name, rule.kind, _market(rule, market)).add(n_empty=shaped.n_empty)

    def _market_rows(self, file: str, rule: TableRule, market: str, rows: pa.Table) -> None:
        if rows.num_rows == 0:
            return
        count = self.tally.of(self.dataset.name, rule.kind, _market(rule, market))
        if rule.interval is None:
            kept_live = self.collector.kept_live
            rows = rows if kept_live is None else kept_live.stamped(market, rows)
            self._keep(file, TableWriter(self.collector.tables, rule, market).write(rows, count))
            return
        if rule.interval not in INTERVAL_SECONDS:
            self.has_no_slot = True
            self.tally.n_outside[self.dataset.name] += rows.num_rows
            self.tally.gaps.append(Named(self.dataset.name, f"no_interval: {rule.interval}", "the lake has no slot"))
            return
        self.bars.setdefault((market, rule.interval), []).append((file, rows))
        if rule.last_bar_may_form:
            self.forming.add((market, rule.interval))
        self.n_bar_rows += rows.num_rows
        if self.n_bar_rows > MAX_BAR_ROWS:
            raise Malformed("too_many_rows", f"expected at most {MAX_BAR_ROWS} bars in one data set: split its files")

    def finish(self) -> None:
        """Store the bars of all files, by time."""
        for (market, interval), tables in self.bars.items():
            count = self.tally.of(self.dataset.name, "bars", f"{market}.{interval}")
            writer = BarWriter(self.collector.bars, market, interval, count)
            rows = pa.concat_tables([table for _, table in tables])
            ends = np.cumsum([table.num_rows for _, table in tables])
            for row in writer.write(rows, last_may_form=(market, interval) in self.forming):
                i = int(np.searchsorted(ends, row.row, side="right"))
                self._keep(tables[i][0], [replace(row, row=row.row - int(ends[i]) + tables[i][1].num_rows)])


def _record_name(dataset: str, selection: Selection) -> str:
    """Return under which name a data set is remembered as collected, "" = a part that is not remembered."""
    if selection.is_whole:
        return dataset
    if not selection.is_by_table:
        return ""
    tables = ";".join(f"{kind}/{market}" for kind, market in sorted(selection.tables))
    return f"{dataset}.{hashlib.sha256(tables.encode()).hexdigest()[:12]}"


def within(rows: pa.Table, selection: Selection) -> pa.Table:
    """Return the rows with start < event_at <= end."""
    if selection.start is not None:
        rows = rows.filter(pc.greater(rows["event_at"], pa.scalar(selection.start, rows["event_at"].type)))
    if selection.end is not None:
        rows = rows.filter(pc.less_equal(rows["event_at"], pa.scalar(selection.end, rows["event_at"].type)))
    return rows


def _market(rule: TableRule, market: str) -> str:
    return market if rule.interval is None else f"{market}.{rule.interval}"


def _count_again(tally: Tally, dataset: str, kept: Any) -> None:
    tally.before.append(dataset)
    for row in kept["tables"]:
        first, last = ((micros_of(parse_instant(row[k])) if row[k] else 0) for k in ("first", "last"))
        tally.counts[dataset, row["kind"], row["market"]] = Count.of(row, first_us=first, last_us=last)
