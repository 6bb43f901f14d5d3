"""The commands that carry a lake: make a bundle, verify one (or the lake itself), import one, move old parts away."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from qraft_contracts.outcomes import Malformed, Refused, Transient
from qraft_contracts.times import format_instant
from qraft_data.bundle.create import Asked, make_bundle
from qraft_data.bundle.judged import audit_again
from qraft_data.bundle.load import Opened, import_bundle, open_bundle, verify_bundle
from qraft_data.bundle.manifest import Selection
from qraft_data.bundle.sources import Stores, sources_of
from qraft_data.times import instant_of
from qraft_store.bars.lake import ParquetLake
from qraft_store.tables.lake import ParquetTables
from svc_ingest.api.events import print_event

EXIT_AGAIN: Final = 1
EXIT_NOT_AS_IT_WAS: Final = 3
_NAMED_MAX: Final = 20
_FILES_NAMED_MAX: Final = 200
# A reader of progress lines needs no more of them, and a lake of ten years has 50,000 parts.
_PROGRESS_EVERY_S: Final = 0.5


@dataclass(slots=True)
class _Progress:
    """Prints where a command is, some times a second."""

    event: str
    printed_s: float = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now_s = time.monotonic()
        if done == total or now_s - self.printed_s >= _PROGRESS_EVERY_S:
            self.printed_s = now_s
            print_event(self.event, what=what, done_frac=round(done / total, 4))


def bundle(stores: Stores, asked: Asked, path: Path) -> int:
    """
    Make a bundle and print its id.

    Raises:
        Refused, Transient, Malformed: as make_bundle.
    """
    made = make_bundle(stores, asked, path, on_step=_Progress("bundle.progress"))
    print_event(
        "bundle.made",
        path=str(path),
        bundle_id=made.bundle_id,
        n_parts=len(made.manifest.parts),
        n_resumed=made.n_resumed,
        n_rows=made.manifest.n_rows,
        n_bytes=made.n_bytes,
        as_of=format_instant(instant_of(made.manifest.as_of_us)),
        is_green=made.manifest.is_green,
    )
    _warn(made.manifest.is_green, made.manifest.why_not)
    sys.stderr.write(f"verify there with: qraft data verify {path.name} --expect {made.bundle_id}\n")
    return 0


def verify(path: Path, *, expected_id: str | None) -> int:
    """
    Check every byte and row of a bundle; 3 = it is not as it was made, and the event says where.

    Raises:
        Refused: if it is another bundle than expected.
    """
    try:
        opened = open_bundle(path, expected_id=expected_id)
        try:
            verify_bundle(opened, on_step=_Progress("bundle.progress"))
        finally:
            opened.archive.close()
    except Malformed as error:
        print_event("bundle.verified", path=str(path), is_intact=False, reason=error.reason, detail=error.detail)
        return EXIT_NOT_AS_IT_WAS
    print_event("bundle.verified", path=str(path), is_intact=True, **_described(opened))
    _warn(opened.manifest.is_green, opened.manifest.why_not)
    return 0


def import_(stores: Stores, path: Path, *, expected_id: str | None, is_dry: bool) -> int:
    """
    Take a bundle in and audit again what it brought; 3 = the audit says something else than in the bundle.

    Raises:
        Malformed: if the bundle is not whole; nothing was written.
        Refused: if it is another one than expected, or stored rows contradict it; nothing was written.
        Transient: if another process writes a table or the disk is full; the same call again goes on.
    """
    opened = open_bundle(path, expected_id=expected_id)
    try:
        done = import_bundle(stores, opened, is_dry=is_dry, on_step=_Progress("import.progress"))
    finally:
        opened.archive.close()
    moved = sorted(name for name, (there, here) in done.versions.items() if there != here)
    differing: tuple[str, ...] = ()
    if not is_dry:
        progress = _Progress("audit.progress")
        differing = audit_again(stores, opened.manifest, on_series=lambda n, total: progress("audit", n, total))
    print_event(
        "import.finished",
        path=str(path),
        is_dry=is_dry,
        n_new=done.n_new,
        n_repeated=done.n_repeated,
        n_same_version=len(done.versions) - len(moved),
        other_versions=moved[:_NAMED_MAX],
        audit_differs=list(differing),
        **_described(opened),
    )
    _warn(opened.manifest.is_green, opened.manifest.why_not)
    for line in differing:
        sys.stderr.write(f"  the audit here differs: {line}\n")
    return EXIT_NOT_AS_IT_WAS if differing else 0


def _described(opened: Opened) -> dict[str, object]:
    manifest = opened.manifest
    return {
        "bundle_id": opened.bundle_id,
        "n_parts": len(manifest.parts),
        "n_rows": manifest.n_rows,
        "as_of": format_instant(instant_of(manifest.as_of_us)),
        "is_green": manifest.is_green,
    }


def _warn(is_green: bool, reasons: tuple[str, ...]) -> None:
    if is_green:
        return
    sys.stderr.write(f"This bundle is NOT green, its audit found {len(reasons)} faults:\n")
    sys.stderr.writelines(f"  {reason}\n" for reason in reasons[:_NAMED_MAX])


def verify_lake(bars: ParquetLake, tables: ParquetTables) -> int:
    """
    Read every file of the lake, compare rows with their hashes, and name what is damaged; 3 = something is.

    Raises:
        Transient: if the cold root is not there.
    """
    checked = bars.verify()
    checked.add(tables.verify())
    print_event(
        "lake.verified",
        is_intact=not checked.damages,
        n_files=checked.n_files,
        n_rows=checked.n_rows,
        n_bytes=checked.n_bytes,
        n_damages=len(checked.damages),
        n_notes=len(checked.notes),
    )
    for word, findings in (("DAMAGED", checked.damages), ("left over", checked.notes)):
        sys.stderr.writelines(f"  {word}: {it.path}: {it.what}\n" for it in findings[:_FILES_NAMED_MAX])
    return EXIT_NOT_AS_IT_WAS if checked.damages else 0


def tier(bars: ParquetLake, tables: ParquetTables, *, hot_days: int) -> int:
    """
    Move to the cold root what is older than `hot_days` before each series' own newest row.

    Series that another process writes are left for its own turn, and named; 1 = there were some.

    Raises:
        Refused: if hot_days is not positive, or nothing is stored.
        Transient: if the cold root cannot be written.
    """
    if hot_days < 1:
        raise Refused("bad_settings", f"expected QRAFT_LAKE_HOT_DAYS from 1 on, received {hot_days}")
    hot, n_bytes, locked = timedelta(days=hot_days), 0, []
    stores = Stores(bars, tables)
    for source in sources_of(stores, Selection()):
        try:
            if source.kind == "bars":
                newest = bars.range(market=source.market, interval=source.interval)
                before = newest[1] - hot if newest else None
                moved = bars.tier(market=source.market, interval=source.interval, before=before) if before else 0
            else:
                newest = tables.range(source.kind, market=source.market)
                moved = tables.tier(source.kind, market=source.market, before=newest[1] - hot) if newest else 0
        except Transient as error:
            if error.reason != "lake_locked":
                raise
            locked.append(source.name)
            continue
        n_bytes += moved
        if moved:
            print_event("tier.moved", source=source.name, n_bytes=moved)
    print_event("tier.finished", n_bytes=n_bytes, locked=locked)
    return EXIT_AGAIN if locked else 0
