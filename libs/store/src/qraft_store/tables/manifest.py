"""
The manifest of a table in the lake: which files hold its rows, and what a reader may know of them without opening them.

Replacing it is what commits a write: files it does not name are leftovers of a killed writer, files that it names and
that are missing, shorter or unreadable are damage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from qraft_contracts.outcomes import Malformed
from qraft_store.files import write_whole
from qraft_store.tables.layout import partition_name, period_of

MANIFEST: Final = "manifest.json"
_FORMAT: Final = 1


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    One Parquet file of a partition, in so many row groups. Instants are microseconds since 1970, bounds inclusive.

    symbols: hexadecimal, bit i set if the manifest's symbol i is in the file. content: SHA-256 of the rows.
    """

    file: str
    n_rows: int
    n_groups: int
    n_bytes: int
    first: int
    last: int
    known_first: int
    known_last: int
    revision_max: int
    symbols: str
    content: str


class Manifest(msgspec.Struct, forbid_unknown_fields=True):  # a damaged name must not read as an empty table
    """All partitions of a table, each with its parts, oldest part first; symbols in the order in which they came."""

    kind: str
    market: str
    format: int = _FORMAT
    symbols: list[str] = []
    partitions: dict[str, list[Part]] = {}

    def bits(self, symbols: Iterable[str]) -> int:
        """Return the bit set of those of the symbols that the table holds."""
        place = {symbol: i for i, symbol in enumerate(self.symbols)}
        return sum(1 << place[symbol] for symbol in set(symbols) if symbol in place)

    def add_symbols(self, symbols: Iterable[str]) -> None:
        """Give new symbols a place."""
        known = set(self.symbols)
        self.symbols.extend(sorted(set(symbols) - known))


def load_manifest(folder: Path) -> Manifest | None:
    """
    Return the manifest of a table's folder, None where there is no table.

    Raises:
        Malformed: if it is damaged, or written by a newer release.
    """
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Malformed(
            "damaged_lake_file",
            f"expected the manifest of a table in {path}: {error}; move {folder} away and load it again",
        ) from error
    if manifest.format != _FORMAT:
        raise Malformed("damaged_lake_file", f"expected format {_FORMAT} in {path}, received {manifest.format}")
    return manifest


def save_manifest(folder: Path, manifest: Manifest) -> None:
    """
    Replace the manifest: from here on the rows of its parts are stored.

    Raises:
        Transient: if the disk is full; the manifest is as it was before.
    """
    data = msgspec.json.encode(manifest)
    write_whole(folder / MANIFEST, lambda file: file.write(data))


def foreign_partitions(manifest: Manifest) -> list[str]:
    """Return the partitions that are not of the length that this release gives the table; see layout.period_of."""
    prefix = f"{period_of(manifest.kind, manifest.market)}="
    return [name for name in manifest.partitions if not name.startswith(prefix)]


def grouped(manifest: Manifest, names: Iterable[str]) -> dict[str, list[Part]]:
    """Return the parts of some partitions, shorter than they should be, by the partitions that they belong to."""
    found: dict[str, list[Part]] = {}
    for name in names:
        for part in manifest.partitions[name]:
            found.setdefault(partition_name(manifest.kind, manifest.market, part.first), []).append(part)
    return found


def overlaps(parts: Sequence[Part]) -> bool:
    """Return whether two of the parts share an instant, so that their rows have to be sorted together."""
    by_time = sorted(parts, key=lambda part: part.first)
    return any(right.first <= left.last for left, right in pairwise(by_time))
