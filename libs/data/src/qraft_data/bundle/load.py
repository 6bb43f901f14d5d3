"""Verify a bundle, and take it into other stores: everything is checked before anything is written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from qraft_contracts.kinds import KINDS
from qraft_contracts.outcomes import Malformed, Refused
from qraft_contracts.times import format_instant
from qraft_data.bundle.archive import Archive, open_archive
from qraft_data.bundle.manifest import Manifest, Part, Source, bundle_id_of, damaged, decode_manifest
from qraft_data.bundle.rows import check_member, content_of, rows_of
from qraft_data.bundle.sources import Stores, time_column
from qraft_data.times import instant_of, micros, micros_column
from qraft_store.tables.rows import judge

_NAMED_MAX: Final = 5
OnStep = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Opened:
    """A bundle that is whole: its record, its name, and the archive that it is read from."""

    manifest: Manifest
    bundle_id: str
    archive: Archive

    def parts(self) -> Iterator[tuple[Part, pa.Table]]:
        """
        Give each part with its rows, checked.

        Raises:
            Malformed: at the first part that is not as it was made.
        """
        for part, member in zip(self.manifest.parts, self.archive.parts, strict=True):
            data = self.archive.read(member)
            check_member(part, member, hashlib.sha256(data).hexdigest())
            yield part, rows_of(part, data)


@dataclass(frozen=True, slots=True)
class Imported:
    """
    What became of a bundle. n_new: rows that were stored; the others had been. versions: of each source, what the
    manifest says and what is stored now; equal where nothing else is stored there and the engine is the same.
    """

    n_new: int
    n_repeated: int
    versions: dict[str, tuple[str, str]]


def open_bundle(path: Path, *, expected_id: str | None) -> Opened:
    """
    Open a bundle whose structure and manifest are right. Its rows are checked as they are read.

    expected_id: what the maker of the bundle said its id is. Who can change a bundle can also make another manifest for
    it; only the id, brought on another way, tells.

    Raises:
        Malformed: if it is damaged, cut off, or of another format.
        Refused: if it is another bundle than expected.
    """
    archive = open_archive(path)
    is_open = False
    try:
        found = bundle_id_of(archive.manifest)
        if expected_id is not None and expected_id != found:
            raise Refused("another_bundle", f"expected the bundle {expected_id}, received {found}")
        manifest = decode_manifest(archive.manifest)
        names = [member.name for member in archive.parts]
        if names != [part.name for part in manifest.parts]:
            odd = sorted(set(names) ^ {part.name for part in manifest.parts}) or names
            raise damaged(
                f"its members are not those that the manifest names: {', '.join(map(repr, odd[:_NAMED_MAX]))}"
            )
        is_open = True
        return Opened(manifest, found, archive)
    finally:
        if not is_open:
            archive.close()


def verify_bundle(opened: Opened, *, on_step: OnStep) -> None:
    """
    Check every byte and every row of a bundle.

    Raises:
        Malformed: naming the first thing that is not as it was made.
    """
    for done, (part, _) in enumerate(opened.parts()):
        on_step(part.name, done + 1, len(opened.manifest.parts))


def import_bundle(stores: Stores, opened: Opened, *, is_dry: bool, on_step: OnStep) -> Imported:
    """
    Take a bundle in: all of it is checked, against itself and against what is stored, then what is new is stored and
    read back. Run again after it was stopped anywhere it stores what is missing; run twice it adds nothing.

    is_dry: only check, and say how many rows would be new.

    Raises:
        Malformed: if the bundle is not whole; nothing was written.
        Refused: if stored rows contradict it, naming them; nothing was written.
        Transient: if another process writes one of the tables or the disk is full; the same call again goes on.
    """
    total = len(opened.manifest.parts) * (1 if is_dry else 2)
    wanted: set[str] = set()
    n_new = 0
    ends = _Ends(stores)
    for done, (part, rows) in enumerate(opened.parts()):
        n_missing = _compared(stores, part, rows, ends)
        n_new += n_missing
        if n_missing:
            wanted.add(part.name)
        on_step(f"checked {part.name}", done + 1, total)
    if not is_dry:
        for done, (part, rows) in enumerate(opened.parts()):
            if part.name in wanted:
                _store(stores, part, rows)
                _check_stored(stores, part, rows)
            on_step(f"stored {part.name}", len(opened.manifest.parts) + done + 1, total)
    sources = sorted({part.source for part in opened.manifest.parts})
    versions = {it.name: (opened.manifest.versions[it.name], stores.version(it)) for it in sources}
    return Imported(n_new, opened.manifest.n_rows - n_new, versions)


class _Ends:
    """The newest first row of each series of bars before an import: older ones cannot be stored behind it."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._known: dict[Source, int] = {}

    def of(self, source: Source) -> int:
        if source not in self._known:
            found = self._stores.bars.range(market=source.market, interval=source.interval)
            self._known[source] = micros(found[1]) if found else -(1 << 62)
        return self._known[source]


def _compared(stores: Stores, part: Part, rows: pa.Table, ends: _Ends) -> int:
    """
    Return how many rows of a part are not stored yet.

    Raises:
        Refused: if a stored row of the same name differs in anything, a store would not take one of the rows, or
            first rows of bars are missing before the stored end.
    """
    stored = stores.rows(part.source, first_us=part.first_us, last_us=part.last_us)
    if not stored.num_rows:
        if part.source.kind == "bars":
            _check_order(part, rows, ends)
        return rows.num_rows
    mine, theirs = places_of_both(part.source, rows, stored)
    left, right = rows.take(mine), stored.take(theirs)
    if mine.size and content_of(part.source, left) != content_of(part.source, right):
        raise _conflict(part, _first_difference(part.source, left, right))
    is_new = np.ones(rows.num_rows, dtype=bool)
    is_new[mine] = False
    new = rows.filter(pa.array(is_new))
    if part.source.kind == "bars":
        _check_order(part, new, ends)
    else:
        judged = judge(KINDS[part.source.kind], rows, stored)
        if judged.refused.size:
            raise _conflict(part, f"{_name(part.source, rows, int(judged.refused[0]))} ({judged.reasons[0]})")
    return int(new.num_rows)


def _check_order(part: Part, new: pa.Table, ends: _Ends) -> None:
    end = ends.of(part.source)
    is_late = (micros_column(new, "closed_at") < end) & (np.asarray(new["revision"]) == 0)
    if is_late.any():
        raise Refused(
            "bundle_conflict",
            f"expected bars of {part.source.name} from {format_instant(instant_of(end))} on, where the stored ones "
            f"end; the bundle has {int(is_late.sum())} older ones in {part.name} that are not stored, the first "
            f"{_name(part.source, new, int(np.flatnonzero(is_late)[0]))}: import older bundles first, or into an "
            "empty QRAFT_HOME; nothing was written",
        )


def places_of_both(source: Source, rows: pa.Table, stored: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the rows that both tables name, in each; both are sorted, and so are the positions."""
    keys = [time_column(source), "symbol", *(() if source.kind == "bars" else ("row_id",)), "revision"]
    left, right = (
        table.select(keys).append_column(name, pa.array(np.arange(table.num_rows)))
        for table, name in ((rows, "mine"), (stored, "theirs"))
    )
    both = left.join(right, keys=keys, join_type="inner", use_threads=False).sort_by("mine")
    return np.asarray(both["mine"]), np.asarray(both["theirs"])


def _first_difference(source: Source, left: pa.Table, right: pa.Table) -> str:
    low, high = 0, left.num_rows  # the first difference is in [low, high)
    while high - low > 1:
        middle = (low + high) // 2
        halves = (table.slice(low, middle - low).combine_chunks() for table in (left, right))
        low, high = (middle, high) if len({content_of(source, half) for half in halves}) == 1 else (low, middle)
    ours, theirs = (table.slice(low, 1).to_pylist()[0] for table in (left, right))
    names = [name for name in ours if repr(ours[name]) != repr(theirs[name])]
    values = ", ".join(f"{name} {ours[name]!r} in the bundle, {theirs[name]!r} stored" for name in names[:_NAMED_MAX])
    return f"{_name(source, left, low)}: {values}"


def _name(source: Source, rows: pa.Table, place: int) -> str:
    row = rows.slice(place, 1).to_pylist()[0]
    row_id = f" {row['row_id']}" if row.get("row_id") else ""
    return f"{row['symbol']} {format_instant(row[time_column(source)])}{row_id} revision {row['revision']}"


def _conflict(part: Part, what: str) -> Refused:
    return Refused(
        "bundle_conflict",
        f"expected stored rows of {part.source.name} to be those of the bundle where both have them, they differ: "
        f"{what}; import into another QRAFT_HOME and compare; nothing was written",
    )


def _store(stores: Stores, part: Part, rows: pa.Table) -> None:
    if part.source.kind == "bars":
        stores.bars.append_rows(rows, market=part.source.market, interval=part.source.interval)
        return
    done = stores.tables.append(part.source.kind, market=part.source.market, rows=rows)
    if done.n_quarantined:
        raise Malformed("bundle_conflict", f"expected every row of {part.name} to be stored, {done.n_quarantined} were "
                        "quarantined: another process wrote the table meanwhile; see `qraft data audit`")  # fmt: skip


def _check_stored(stores: Stores, part: Part, rows: pa.Table) -> None:
    """Read a part back: each of its rows must be there as it is in the bundle."""
    stored = stores.rows(part.source, first_us=part.first_us, last_us=part.last_us)
    mine, theirs = places_of_both(part.source, rows, stored)
    if mine.size != rows.num_rows or content_of(part.source, stored.take(theirs)) != content_of(part.source, rows):
        raise Malformed("bundle_conflict", f"expected every row of {part.name} to be readable as it was imported, "
                        f"{mine.size} of {rows.num_rows} are; verify the lake with `qraft data verify`")  # fmt: skip
