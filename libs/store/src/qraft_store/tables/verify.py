"""Check every file of a table against its manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from qraft_contracts.kinds import Kind
from qraft_contracts.outcomes import Malformed
from qraft_store.checked import Checked, Finding, bounds_fault
from qraft_store.tables.content import content_hash
from qraft_store.tables.folder import TableFolder
from qraft_store.tables.manifest import MANIFEST, Manifest, Part, load_manifest
from qraft_store.tables.parts import read_part
from qraft_store.tables.quarantine import read_quarantine
from qraft_store.tables.schema import distinct, kind_of, micros_of, table_schema


def check_table(places: TableFolder, *, kind: str, market: str) -> Checked:
    """Read every part, in both roots where it stands in both, and compare it with what the manifest says of it."""
    checked = Checked()
    found = [path for root in (places.hot, places.cold) if root for path in sorted(root.glob("*=*/*"))]
    try:
        manifest = load_manifest(places.hot)
    except Malformed as error:
        checked.damages.append(Finding(places.hot / MANIFEST, error.detail))
        return checked
    if manifest is None:
        if found:
            checked.damages.append(Finding(places.hot / MANIFEST, f"is missing beside {len(found)} files of rows"))
        return checked
    if (manifest.kind, manifest.market) != (kind, market):
        checked.damages.append(Finding(places.hot / MANIFEST, f"is of {manifest.kind} {manifest.market}"))
        return checked
    named = _check_parts(places, manifest, checked)
    checked.notes += [Finding(path, _why_left(path, places)) for path in found if path not in named]
    checked.notes += [Finding(path, "half-written") for path in sorted(places.hot.glob(".*.tmp"))]
    try:
        read_quarantine(places.hot, kind=kind)
    except Malformed as error:
        checked.damages.append(Finding(places.hot / "quarantine", error.detail))
    return checked


def _why_left(path: Path, places: TableFolder) -> str:
    if path.is_relative_to(places.hot):
        return "not committed by a writer that was killed"
    return "not named by the manifest: left by a kill, or the hot root is an older backup; nothing removes it"


def _check_parts(places: TableFolder, manifest: Manifest, checked: Checked) -> set[Path]:
    """Check the parts of a manifest; return the files that it names."""
    kind = kind_of(manifest.kind)
    named: set[Path] = set()
    for name, part in ((name, part) for name, parts in manifest.partitions.items() for part in parts):
        if part.file.partition("/")[0] != name:
            checked.damages.append(Finding(places.hot / MANIFEST, f"names {part.file} under {name}"))
        paths = places.paths_of(part.file)
        named.update(paths)
        there = [path for path in paths if path.exists()]
        if not there:
            checked.damages.append(Finding(paths[0], f"is missing, with {part.n_rows} rows"))
        for path in there:
            checked.n_files += 1
            checked.n_bytes += path.stat().st_size
            try:
                what = _difference(TableFolder(path.parent.parent), part, kind, manifest)
            except Malformed as error:
                what = error.detail
            if what:
                checked.damages.append(Finding(path, what))
        checked.n_rows += part.n_rows
    return named


def _difference(place: TableFolder, part: Part, kind: Kind, manifest: Manifest) -> str:
    """Return what a file holds otherwise than its manifest says, "" = nothing."""
    columns = table_schema(kind.name).names
    rows = read_part(place, part, kind=kind, columns=columns, first=part.first, last=part.last)
    if rows.num_rows != part.n_rows:
        return f"expected {part.n_rows} rows, found {rows.num_rows}"
    event, known = micros_of(rows, "event_at"), micros_of(rows, "known_at")
    found = (int(event[0]), int(event[-1]), int(known.min()), int(known.max()), int(np.asarray(rows["revision"]).max()))
    if found != (part.first, part.last, part.known_first, part.known_last, part.revision_max):
        return "holds rows of other times than its manifest says"
    symbols = distinct(rows["symbol"])
    if f"{manifest.bits(symbols):x}" != part.symbols or set(symbols) - set(manifest.symbols):
        return "holds other symbols than its manifest says"
    # Lists were hashed under either name, and a field that the file was written without was none of its content.
    contents = {content_hash(rows, element=element) for element in ("item", "element")}
    if part.content not in contents:
        return "holds other rows than its manifest says"
    if pq.read_metadata(place.hot / part.file).num_row_groups != part.n_groups:
        return f"expected {part.n_groups} row groups"
    return bounds_fault(place.hot / part.file, "event_at", event)
