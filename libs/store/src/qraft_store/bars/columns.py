"""
The column file of a closed partition, `bars.columns`: its first revisions as dense cells, for reads without decoding.

Derived from `bars.parquet` and never a truth of its own: it names the Parquet file it was made from (inode, size,
modification time, and the SHA-256 of the rows), and a reader that finds it missing, of another version, stale or
damaged reads the Parquet file instead. The writer of the series makes it when it writes the Parquet file.

Layout: prefix, JSON header, one CRC-32 a symbol, padding to 64 bytes, then cells (n_symbols, N_FIELDS, n_rows), eight
bytes each, little-endian. A symbol's partition is one run of bytes, and so are all symbols of a partition. Read by
`pread`, not mapped: pages that are mapped count as this process's memory, and a shortened file would kill it.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qraft_store.bars.days import PARQUET
from qraft_store.bars.partitions import Partition
from qraft_store.bars.rows import encode_texts, is_first_revision
from qraft_store.bars.slab import CELL_BYTES, N_FIELDS, FloatArray, cells_of, known_us_of, words_of

COLUMNS: Final = "bars.columns"
VERSION: Final = 1
# A partition with fewer bars than this part of its cells stays Parquet only: the file would be mostly holes. So does
# one of more bytes, a day of 1-minute bars of 3,800 symbols: the writer holds all of them while it makes the file.
FILLED_FRAC_MIN: Final = 1 / 16
COLUMNS_BYTES_MAX: Final = 256 * 1024 * 1024
_MAGIC: Final = b"QRAFTCOL"
_PREFIX: Final = struct.Struct("<8sIIII")  # magic, version, bytes of JSON, CRC-32 of JSON and CRCs, offset of the cells
_HEADER_BYTES_MAX: Final = 1 << 24

FileKey = tuple[int, int, int]  # inode, size, modification time in ns: another file has another one


def file_key(path: Path | str) -> FileKey | None:
    """Return what tells a file from its successors, or None when there is no file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - three of these a partition and read: a Path would cost more than they do
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(slots=True)
class ColumnsHeader:
    """
    What a column file says of itself.

    made_from, sha256: the Parquet file and its rows. first_row, last_rows: the first row with a bar and each symbol's
    last, -1 where there is none; known_us_max: the latest known_at; n_revisions: rows above revision 0, which are only
    in the Parquet file. verified: whose cells, by place, this process has checked against their CRC-32.
    """

    key: FileKey
    symbols: tuple[str, ...]
    n_rows: int
    made_from: FileKey
    sha256: str
    n_revisions: int
    first_row: int
    last_rows: npt.NDArray[np.int64]
    known_us_max: int
    data_offset: int
    crcs: npt.NDArray[np.uint32]
    verified: set[int] = field(default_factory=set)

    def verify(self, path: Path | str) -> bool:
        """Return whether every cell of the file at `path` is as it was written."""
        cells = np.empty((len(self.symbols), N_FIELDS, self.n_rows))
        return read_cells(path, self, None, cells)


def write_columns(folder: Path, rows: pa.Table, *, partition: Partition, step_us: int, sha256: str) -> bool:
    """
    Write the column file of a partition beside its Parquet file; return False, with none left, where it would not pay.

    Not synced to disk: what a power cut leaves of it is found by its checksums. A full disk leaves none: bars are never
    refused for want of a derived file.
    """
    names, _ = encode_texts(rows["symbol"])
    symbols = tuple(sorted(names))
    made_from = file_key(folder / PARQUET)
    n_first = int(is_first_revision(rows).sum())
    n_cells = len(symbols) * partition.n_rows
    if made_from is None or n_first < FILLED_FRAC_MIN * n_cells or n_cells * CELL_BYTES > COLUMNS_BYTES_MAX:
        (folder / COLUMNS).unlink(missing_ok=True)
        return False
    cells = cells_of(rows, symbols, first_us=partition.start_us, n_rows=partition.n_rows, step_us=step_us)
    is_there = words_of(cells) != 0
    last_rows = np.where(is_there.any(axis=1), partition.n_rows - 1 - is_there[:, ::-1].argmax(axis=1), -1)
    header = {
        "symbols": symbols,
        "n_rows": partition.n_rows,
        "made_from": made_from,
        "sha256": sha256,
        "n_revisions": rows.num_rows - n_first,
        "first_row": int(is_there.any(axis=0).argmax()) if n_first else -1,
        "last_rows": last_rows.tolist(),
        "known_us_max": known_us_of(int(words_of(cells).max(initial=0))),
    }
    return _write(folder / COLUMNS, header, cells)


def _write(path: Path, header: dict[str, Any], cells: FloatArray) -> bool:
    text = json.dumps(header).encode()
    crcs = np.array([zlib.crc32(of_symbol) for of_symbol in cells], dtype="<u4").tobytes()
    offset = -(-(_PREFIX.size + len(text) + len(crcs)) // 64) * 64
    prefix = _PREFIX.pack(_MAGIC, VERSION, len(text), zlib.crc32(text + crcs), offset)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write((prefix + text + crcs).ljust(offset, b"\0"))
            file.write(cells.astype("<f8", copy=False).data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        return False
    return True


def read_header(path: Path | str) -> ColumnsHeader | None:
    """Return the header of a column file, or None where there is none that this version can use."""
    try:
        with Path(path).open("rb") as file:
            found = os.fstat(file.fileno())
            prefix = file.read(_PREFIX.size)
            if len(prefix) < _PREFIX.size:
                return None
            magic, version, n_text, crc, offset = _PREFIX.unpack(prefix)
            if (magic, version) != (_MAGIC, VERSION) or not _PREFIX.size <= offset <= _HEADER_BYTES_MAX:
                return None
            body = file.read(offset - _PREFIX.size)
    except OSError:
        return None
    return _header_of(body, n_text, crc, offset, key=(found.st_ino, found.st_size, found.st_mtime_ns))


def _header_of(body: bytes, n_text: int, crc: int, offset: int, *, key: FileKey) -> ColumnsHeader | None:
    try:
        said = json.loads(body[:n_text])
        n_symbols = len(said["symbols"])
    except (ValueError, KeyError, TypeError):
        return None
    end = n_text + 4 * n_symbols
    if len(body) < end or zlib.crc32(body[:end]) != crc:
        return None
    if key[1] != offset + n_symbols * said["n_rows"] * CELL_BYTES:
        return None
    return ColumnsHeader(
        key=key,
        symbols=tuple(said["symbols"]),
        n_rows=said["n_rows"],
        made_from=tuple(said["made_from"]),
        sha256=said["sha256"],
        n_revisions=said["n_revisions"],
        first_row=said["first_row"],
        last_rows=np.array(said["last_rows"], dtype=np.int64),
        known_us_max=said["known_us_max"],
        data_offset=offset,
        crcs=np.frombuffer(body[n_text:end], dtype="<u4"),
    )


def read_cells(path: Path | str, header: ColumnsHeader, places: list[int] | None, out: FloatArray) -> bool:
    """
    Read cells into `out` and return whether they are whole and of this very file.

    places: which symbols, by their place in the header, None = all. out: (n_places, N_FIELDS, n_rows), C order.
    """
    assert out.flags.c_contiguous and out.shape[1:] == (N_FIELDS, header.n_rows), "cells as the file has them"
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        found = os.fstat(handle)
        if (found.st_ino, found.st_size, found.st_mtime_ns) != header.key:
            return False
        size = header.n_rows * CELL_BYTES
        runs = (
            [(0, out.data)] if places is None else [(p * size, part.data) for p, part in zip(places, out, strict=True)]
        )
        for at, into in runs:
            if os.preadv(handle, [into], header.data_offset + at) != into.nbytes:
                return False
    except OSError:
        return False
    finally:
        os.close(handle)
    return _verify(header, range(len(header.symbols)) if places is None else places, out)


def _verify(header: ColumnsHeader, places: Sequence[int], cells: FloatArray) -> bool:
    """Check each symbol's cells once a process: a CRC-32 of 50 symbols × 288 bars takes a third of a millisecond."""
    if not header.verified.issuperset(places):
        for i, place in enumerate(places):
            if place not in header.verified and zlib.crc32(cells[i]) != header.crcs[place]:
                return False
        header.verified.update(places)
    return True
