"""The commands on stored data: audit, mend, show, snapshot. They read the lake and write reports and snapshots."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from qraft_contracts.outcomes import Malformed, Refused
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import parse_instant
from qraft_data.audit.expectation import Thresholds, window_of
from qraft_data.audit.findings import Audit, Quarantined, Verdict
from qraft_data.audit.mending import merged_commands
from qraft_data.audit.page import audit_page
from qraft_data.audit.run import Auditor
from qraft_data.library import DataLibrary
from qraft_data.query import Query
from qraft_data.snapshots.store import SnapshotStore
from qraft_store.artefacts.port import ArtefactStore
from qraft_store.bars.port import BarStore
from qraft_store.files import write_whole
from qraft_store.tables.port import TableStore
from svc_ingest.api.events import print_event

# Commands that one mend runs before it audits again; those of one kind and market are one.
MEND_COMMANDS_MAX: Final = 16
_MEND_TIMEOUT_S: Final = 6 * 3_600
_ROWS_SHOWN: Final = 20
EXIT_NOT_READY: Final = 3


@dataclass(frozen=True, slots=True)
class StoredData:
    """
    What the commands read, and where they write. reports: folder of the audit. refused: counts the rows that never
    reached a store. line_market, state_market: of svc_ingest, see qraft_data.audit.run.Auditor.
    """

    bars: BarStore
    tables: TableStore
    artefacts: ArtefactStore
    reports: Path
    refused: Callable[[], Sequence[Quarantined]]
    line_market: str = ""
    state_market: str = ""

    @property
    def library(self) -> DataLibrary:
        """Return the stores as one library."""
        return DataLibrary(self.bars, self.tables)


def audit(stored: StoredData, *, mode: str, market: str, interval: str, end: datetime | None, days: int) -> int:
    """
    Audit the lake, write JSON and HTML under QRAFT_HOME/reports/data, print the verdict; 3 = not ready.

    end: None = the newest stored bar of the market, so that a recorded past is judged in its own time.

    Raises:
        Refused: if nothing of the market is stored.
        Malformed: if the mode, the interval or the window makes no sense.
    """
    found = _audit(stored, mode=mode, market=market, interval=interval, end=end, days=days)
    sys.stderr.write(_summary(found))
    return 0 if found.ready else EXIT_NOT_READY


def mend(stored: StoredData, *, skip: int = 0) -> int:
    """
    Run the commands that the last audit named, audit the same window again and say what is still missing.

    Gaps that one command can bring are asked for at once; MEND_COMMANDS_MAX commands are run, and how many are left is
    told. skip: leave so many out, which were run before.

    Raises:
        Refused: if there is no audit yet.
    """
    path = stored.reports / "audit.json"
    if not path.is_file():
        raise Refused("no_audit", f"expected {path.name} from `qraft data audit`; run it first")
    before = msgspec.json.decode(path.read_bytes(), type=Audit)
    commands = merged_commands([it.mend for it in before.required if it.mend])
    chosen = commands[skip : skip + MEND_COMMANDS_MAX]
    n_left = max(0, len(commands) - skip - len(chosen))
    for i, command in enumerate(chosen):
        print_event("mend.progress", command=command, done_frac=round(i / len(chosen), 4))
        words = shlex.split(command)[2:]  # without `qraft data`
        # Its own process: it locks the lake as any other writer does, and one that fails leaves the others their turn.
        done = subprocess.run(  # noqa: S603 our own module with words that the audit made
            [sys.executable, "-m", "svc_ingest", *words],
            check=False,
            timeout=_MEND_TIMEOUT_S,
            stdout=subprocess.DEVNULL,
        )
        print_event("mend.ran", command=command, exit_code=done.returncode)
    days = (parse_instant(before.end) - parse_instant(before.start)).days
    interval = next((it.interval for it in before.required if it.interval), "5m")
    after = _audit(stored, mode=before.mode, market=before.market, interval=interval,
                   end=parse_instant(before.end), days=days)  # fmt: skip
    mended = sum(it.n_missing for it in before.required) - sum(it.n_missing for it in after.required)
    n_missing = sum(it.n_missing for it in after.required)
    print_event("mend.finished", n_rows_mended=mended, n_rows_missing=n_missing, n_commands_left=n_left)
    sys.stderr.write(_summary(after))
    if n_left:
        sys.stderr.write(f"{n_left} commands left: audit again, or `qraft data mend --skip {skip + len(chosen)}`\n")
    return 0 if after.ready else EXIT_NOT_READY


def show(stored: StoredData, query: Query) -> int:
    """Print the newest rows of a query as they were known at its as_of, and what was missing."""
    panel = stored.library.run(query)
    table = panel.table()
    names = table.column_names
    sys.stdout.write("\t".join(names) + "\n")
    for row in table.slice(max(0, table.num_rows - _ROWS_SHOWN)).to_pylist():
        sys.stdout.write("\t".join(_cell(row[name]) for name in names) + "\n")
    missing = ", ".join(f"{name} {n:,}" for name, n in panel.counts.n_missing.items() if n) or "nothing"
    sys.stderr.write(f"{table.num_rows:,} rows, origin {panel.origin.value}; missing: {missing}\n")
    return 0


def take_snapshot(stored: StoredData, query: Query) -> int:
    """Freeze a query under `snapshots/<id>` of the artefact store and print its record."""
    store = SnapshotStore(stored.artefacts)
    meta = asyncio.run(store.take(stored.library, query))
    print_event("snapshot.taken", snapshot_id=meta.snapshot_id, n_rows=meta.n_rows, origin=meta.origin.value)
    return 0


def verify_snapshot(stored: StoredData, snapshot_id: str) -> int:
    """
    Hash a snapshot again and name what differs; 3 = it is not as it was written.

    Raises:
        Refused: if there is no such snapshot.
    """
    store = SnapshotStore(stored.artefacts)
    try:
        found = asyncio.run(store.verify(snapshot_id))
    except KeyError as error:
        raise Refused("no_snapshot", f"expected one of `qraft data snapshot --list`, received {snapshot_id}") from error
    print_event("snapshot.verified", snapshot_id=snapshot_id, is_intact=found.is_intact, differences=found.differences)
    return 0 if found.is_intact else EXIT_NOT_READY


def list_snapshots(stored: StoredData) -> int:
    """Print the ids of all snapshots."""
    for name in asyncio.run(SnapshotStore(stored.artefacts).ids()):
        sys.stdout.write(f"{name}\n")
    return 0


def _audit(
    stored: StoredData, *, mode: str, market: str, interval: str, end: datetime | None, days: int
) -> Audit:  # fmt: skip
    if interval not in INTERVAL_SECONDS:
        raise Malformed("bad_interval", f"expected one of {sorted(INTERVAL_SECONDS)}, received {interval!r}")
    markets = stored.bars.markets(interval)
    whole = stored.bars.range(market=market, interval=interval) if market in markets else None
    if whole is None:
        there = ", ".join(markets) or "none"
        raise Refused("no_bars", f"expected a market with {interval} bars ({there}), received {market!r}; "
                      "`qraft data collect` brings them")  # fmt: skip
    try:
        window = window_of(mode, end=end or whole[1], days=days)
    except ValueError as error:
        raise Malformed("bad_window", str(error)) from error
    auditor = Auditor(
        stored.bars, stored.tables, Thresholds(), _print_progress, stored.line_market, stored.state_market
    )
    found = auditor.audit(mode=mode, market=market, interval=interval, window=window)
    found = msgspec.structs.replace(found, quarantined=(*found.quarantined, *stored.refused()))
    write_whole(stored.reports / "audit.json", lambda file: file.write(msgspec.json.encode(found)))
    write_whole(stored.reports / "audit.html", lambda file: file.write(audit_page(found).encode()))
    print_event(
        "audit.finished",
        ready=found.ready,
        n_ready=found.n_ready,
        n_required=found.n_required,
        report=str(stored.reports / "audit.html"),
    )
    return found


def _summary(found: Audit) -> str:
    lines = [
        f"{found.market}, {found.mode}, {found.start} … {found.end}: "
        f"{'READY' if found.ready else 'NOT READY'}, {found.n_ready} of {found.n_required} required series"
    ]
    for it in found.required:
        if it.verdict is Verdict.NOT_READY:
            lines.append(f"  {it.kind} {it.interval} {it.symbol}: {'; '.join(it.reasons)}")
            lines += [f"    {it.mend}"] if it.mend else []
    lines += [f"  quarantined: {it.n:,} rows of {it.kind} {it.market}: {it.reason}" for it in found.quarantined]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    return "" if value is None else value.isoformat() if isinstance(value, datetime) else str(value)


def _print_progress(done: int, total: int) -> None:
    print_event("audit.progress", done_frac=round(done / total, 4))
