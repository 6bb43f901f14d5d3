"""
Rows that living sources gave and that were not taken: `refused/<name>/<n>.parquet`, one small part a batch.

A part is never written again; many small ones are joined into one now and then, so that no batch costs more than a few
rows. Blocks: call it in a thread from an event loop.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from qraft_contracts.outcomes import Malformed, Transient
from qraft_store.files import write_whole
from svc_ingest.domain.shaping import Refused

# Rows that are kept of one name; a venue in another unit adds some hundred a day.
KEPT_MAX: Final = 100_000
# Parts before they are joined: each costs a file that every count opens.
PARTS_MAX: Final = 64
TEXTS: Final = ("file", "kind", "market", "reason", "received")


class RefusedRows:
    """One folder of parts by name; what is kept already is kept once, also over restarts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, set[bytes]] = {}
        self._parts: dict[str, list[Path]] = {}
        self._lock = threading.Lock()  # feeds are written from threads

    def add(self, name: str, rows: Sequence[tuple[str, Refused]]) -> None:
        """
        Keep rows beside those kept before, KEPT_MAX of a name at most.

        Raises:
            Malformed: if a part kept before is damaged, with what to do.
            Transient: if the disk is full, or a part cannot be read.
        """
        with self._lock:
            known = self._load(name)
            new: dict[bytes, tuple[str, Refused]] = {}
            for row in rows:
                key = _key(_texts(row))
                if key not in known and len(known) + len(new) < KEPT_MAX:
                    new.setdefault(key, row)
            if not new:
                return
            self._write(name, encoded(refused_table(list(new.values()))))
            known.update(new)
            if len(self._parts[name]) >= PARTS_MAX:
                self._join(name)

    def _load(self, name: str) -> set[bytes]:
        """Return the keys of what is kept; read once in a process."""
        if name not in self._known:
            parts = sorted((self._folder / name).glob("*.parquet"))
            tables = [read_refused(path, [*TEXTS]) for path in parts]
            self._parts[name] = parts
            self._known[name] = {_key(texts) for table in tables for texts in _rows_of(table, TEXTS)}
        return self._known[name]

    def _write(self, name: str, data: bytes) -> Path:
        parts = self._parts[name]
        path = self._folder / name / f"{int(parts[-1].stem) + 1 if parts else 0:08d}.parquet"
        write_whole(path, lambda file: file.write(data))
        parts.append(path)
        return path

    def _join(self, name: str) -> None:
        """Write all parts as one, then remove them; killed in between, rows stand twice and are counted once."""
        before = list(self._parts[name])
        joined = self._write(name, encoded(pa.concat_tables([read_refused(path, None) for path in before])))
        for path in before:
            path.unlink(missing_ok=True)
        self._parts[name] = [joined]


def counted_rows(folder: Path, names: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    """
    Yield some columns of every row that is kept, as files (of data sets) and as folders of parts (of living sources).

    Raises:
        Malformed, Transient: as RefusedRows.
    """
    for path in sorted(folder.glob("*.parquet")):
        if path.is_file():
            yield from _rows_of(read_refused(path, list(names)), names)
    places = [TEXTS.index(name) for name in names]
    for own in sorted(path for path in folder.glob("*") if path.is_dir()):
        tables = [read_refused(path, [*TEXTS]) for path in sorted(own.glob("*.parquet"))]
        for texts in {_key(it): it for table in tables for it in _rows_of(table, TEXTS)}.values():
            yield tuple(texts[place] for place in places)


def read_refused(path: Path, columns: list[str] | None) -> pa.Table:
    """
    Read a file of refused rows.

    Raises:
        Malformed: if it is damaged. Transient: if it cannot be read.
    """
    try:
        return pq.read_table(path, columns=columns)
    except FileNotFoundError:  # joined with others meanwhile; those hold its rows
        return refused_table([]) if columns is None else refused_table([]).select(columns)
    # Damage shows as any of these: pyarrow's ArrowInvalid is a ValueError, a cut page an OSError without a number.
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        if error.errno is None:
            raise _damaged(path, error) from error
        raise Transient("lake_read_failed", f"could not read {path}: {error}") from error


def refused_table(refused: Sequence[tuple[str, Refused]]) -> pa.Table:
    """Return refused rows, each with its file or symbol, as a table."""
    columns = zip(*map(_texts, refused), strict=True) if refused else ((),) * len(TEXTS)
    texts = {name: pa.array(list(column), pa.string()) for name, column in zip(TEXTS, columns, strict=True)}
    return pa.table({"row": pa.array([row.row for _, row in refused], pa.int64()), **texts})


def encoded(table: pa.Table) -> bytes:
    """Return a table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _damaged(path: Path, error: Exception) -> Malformed:
    return Malformed("damaged_refused_rows", f"expected refused rows in {path}: {error}; move the file away")


def _texts(row: tuple[str, Refused]) -> tuple[str, ...]:
    came_by, refused = row
    return came_by, refused.kind, refused.market, refused.reason, refused.received


def _rows_of(table: pa.Table, names: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    return zip(*(table[name].to_pylist() for name in names), strict=True)


def _key(texts: Sequence[str]) -> bytes:
    # 100,000 rows are remembered as 16 bytes each.
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=16).digest()
