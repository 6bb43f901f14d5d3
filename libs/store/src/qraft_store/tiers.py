"""What ties a lake's hot root to its cold one: an id in both, and a mark beside each series that was moved."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from qraft_contracts.outcomes import Malformed, Refused, Transient
from qraft_store.files import make_folder, write_whole

TIERED: Final = ".tiered"  # an empty file in a hot series or table: some of its files lie in the cold root
LAKE_ID: Final = ".lake_id"  # in both roots: a cold root belongs to one lake
# A series or table lies three folders below its root: bars/<interval>/<market>, tables/<kind>/<market>.
_DEPTH: Final = 3


def check_tiers(hot: Path, cold: Path | None) -> None:
    """
    Refuse to work on half of a series or table, or beside another lake's. Takes its folders under the two roots.

    Raises:
        Transient: if files were moved to a cold root that was not given or is not there.
        Refused: if the cold root belongs to another lake.
        Malformed: if an id is damaged.
    """
    if (hot / TIERED).exists() and (cold is None or not cold.is_dir()):
        raise Transient(
            "lake_cold_missing",
            f"expected the older rows of {hot} in {cold or 'a cold root'}: open the lake with its cold root "
            "(QRAFT_LAKE_COLD), or mount it",
        )
    if cold is None:
        return
    root, cold_root = hot.parents[_DEPTH - 1], cold.parents[_DEPTH - 1]
    theirs = _id_of(cold_root)
    if theirs is not None and theirs != _id_of(root):
        raise Refused(
            "lake_cold_of_another",
            f"expected a cold root of the lake {root}, {cold_root} belongs to another one: give each QRAFT_HOME its "
            f"own QRAFT_LAKE_COLD; if {root} is that very lake, restored or made anew, copy {cold_root / LAKE_ID} to "
            f"{root / LAKE_ID}",
        )


def claim_cold(hot: Path, cold: Path) -> None:
    """
    Tie the roots together and mark the series, on disk when this returns; to be called before its first file moves.

    Raises:
        Transient: if the roots cannot be written.
        Refused: if the cold root belongs to another lake, or holds rows and nothing says whose.
        Malformed: if an id is damaged.
    """
    check_tiers(hot, cold)
    root, cold_root = hot.parents[_DEPTH - 1], cold.parents[_DEPTH - 1]
    if _id_of(cold_root) is None:
        _write_id(root, cold_root)
        check_tiers(hot, cold)  # two lakes may have come at once: the last one has it
    try:
        make_folder(cold)
    except OSError as error:
        raise Transient("lake_write_failed", f"could not make {cold}: {error}; is the disk full?") from error
    if not (hot / TIERED).exists():
        write_whole(hot / TIERED, lambda _file: None)


def _write_id(root: Path, cold_root: Path) -> None:
    """Write a new id to both roots; killed in between, the next call goes on with the hot root's."""
    is_tiered = any(root.glob(f"*/*/*/{TIERED}"))  # by a release that wrote no ids
    if not is_tiered and any(cold_root.glob("*/*/*/*=*/*.parquet")):
        raise Refused(
            "lake_cold_of_another",
            f"expected an empty cold root, {cold_root} holds rows that {root} did not move there: name an empty folder "
            "in QRAFT_LAKE_COLD",
        )
    name = _id_of(root)
    if name is None:
        name = secrets.token_hex(16)
        _put_id(root, name)
    _put_id(cold_root, name)


def _put_id(root: Path, name: str) -> None:
    write_whole(root / LAKE_ID, lambda file: file.write(f"{name}\n".encode()))


def _id_of(root: Path) -> str | None:
    with suppress(FileNotFoundError, NotADirectoryError):
        name = (root / LAKE_ID).read_text("ascii", errors="replace").strip()
        if not name:
            raise Malformed("damaged_lake_file", f"expected an id in {root / LAKE_ID}; take the one of the other root")
        return name
    return None
