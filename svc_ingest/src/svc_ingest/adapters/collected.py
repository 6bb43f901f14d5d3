"""
What is remembered of collected data sets, inside the lake: `collected/<data set>.json` once it is whole, and
`refused/<data set>.parquet` with every row that was not taken, as it was received (of living sources a folder of parts,
see adapters.refused). The lake gone, all are gone.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from qraft_contracts.outcomes import Malformed, Transient
from qraft_contracts.times import format_instant, parse_instant
from qraft_data.audit.findings import Quarantined
from qraft_store.files import write_whole
from svc_ingest.adapters.catalogue import fingerprint
from svc_ingest.adapters.refused import RefusedRows, counted_rows, encoded, refused_table
from svc_ingest.domain.datasets import Dataset
from svc_ingest.domain.shaping import Refused
from svc_ingest.domain.tally import Tally


class LakeRecord:
    """The CollectRecord in the lake's folder."""

    def __init__(self, lake: Path) -> None:
        self._lake = lake
        self._refused = RefusedRows(lake / "refused")

    def version_of(self, dataset: Dataset, files: Sequence[Path]) -> str:
        """Return the SHA-256 over the rules and every file's name and bytes."""
        digest = hashlib.sha256(fingerprint(dataset).encode())
        for path in files:
            try:
                with path.open("rb") as file:
                    digest.update(f"\n{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
            except OSError as error:
                raise Malformed("unreadable_file", f"expected to read {path}: {error}") from error
        return digest.hexdigest()

    def done(self, dataset: str, version: str) -> Mapping[str, Any] | None:
        """Return the counts of a data set collected whole in this version."""
        path = self._lake / "collected" / f"{dataset}.json"
        try:
            kept: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (json.JSONDecodeError, OSError) as error:
            raise Malformed("damaged_record", f"expected JSON in {path}: {error}; remove the file") from error
        return kept["counts"] if kept["version"] == version else None

    def set_done(self, dataset: str, version: str, counts: Mapping[str, Any]) -> None:
        """Write the file; atomic."""
        text = json.dumps({"version": version, "counts": counts}, indent=1) + "\n"
        _replace(self._lake / "collected" / f"{dataset}.json", text.encode())

    def check_ban(self, venue: str, now: datetime) -> None:
        """
        Refuse to ask a venue that has banned us.

        Raises:
            Transient: saying until when.
        """
        until = self.banned_until(venue)
        if until is not None and now < until:
            path = self._ban_file(venue)
            raise Transient("exchange_banned", f"{venue} wants no request before {format_instant(until)}; see {path}")

    def banned_until(self, venue: str) -> datetime | None:
        """Return until when a venue wanted no request, or None where it never said so."""
        return _read_instant(self._ban_file(venue), "until")

    def polled_since(self, venue: str) -> datetime | None:
        """Return when this lake was polled for the first time, None where it never was."""
        return _read_instant(self._lake / "collected" / f"polled.{venue}.json", "since")

    def read_since(self) -> datetime | None:
        """Return when a living line first read this lake, or it was first polled; None where neither ever was."""
        folder = self._lake / "collected"
        found = [_read_instant(path, "since") for path in (*folder.glob("polled.*.json"), folder / "live.json")]
        return min((it for it in found if it is not None), default=None)

    def set_live(self, now: datetime) -> None:
        """Remember that a living line reads this lake from now on; the first time counts."""
        path = self._lake / "collected" / "live.json"
        if _read_instant(path, "since") is None:
            _replace(path, (json.dumps({"since": format_instant(now)}) + "\n").encode())

    def polling_since(self, venue: str, now: datetime) -> datetime:
        """Return when this lake was polled for the first time; `now`, which is kept, where it never was."""
        path = self._lake / "collected" / f"polled.{venue}.json"
        since = _read_instant(path, "since")
        if since is None:
            _replace(path, (json.dumps({"since": format_instant(now)}) + "\n").encode())
        return since or now

    def set_ban(self, venue: str, until: datetime) -> None:
        """Remember until when a venue wants no request."""
        _replace(self._ban_file(venue), (json.dumps({"until": format_instant(until)}) + "\n").encode())

    def _ban_file(self, venue: str) -> Path:
        return self._lake / "collected" / f"ban.{venue}.json"

    def keep_refused(self, dataset: str, refused: Sequence[tuple[str, Refused]]) -> None:
        """Replace the data set's file of refused rows; none where there are none."""
        path = self._lake / "refused" / f"{dataset}.parquet"
        if not refused:
            path.unlink(missing_ok=True)
            return
        _replace(path, encoded(refused_table(refused)))

    def add_refused(self, name: str, rows: Sequence[tuple[str, Refused]]) -> None:
        """Keep refused rows of a living source beside those kept before; what is kept already is kept once. Blocks."""
        self._refused.add(name, rows)


def _read_instant(path: Path, name: str) -> datetime | None:
    """Return the instant that a small file of the record holds; None without the file."""
    try:
        return parse_instant(json.loads(path.read_text())[name])
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise Malformed("damaged_record", f"expected an instant in {path}: {error}; remove the file") from error


def refused_counts(lake: Path) -> list[Quarantined]:
    """Return how many rows of files were not taken into a lake, by kind, market and reason, sorted."""
    counts: Counter[tuple[str, ...]] = Counter(counted_rows(lake / "refused", ("kind", "market", "reason")))
    return [Quarantined(kind=kind, market=market, reason=why, n=n) for (kind, market, why), n in sorted(counts.items())]


def write_collect_report(path: Path, tally: Tally, **about: Any) -> None:
    """Replace the report; atomic."""
    _replace(path, (json.dumps(about | tally.as_dict(), indent=1) + "\n").encode())


def table_of(tally: Tally) -> str:
    """Return the counts by kind and market as a table for people."""
    head = ("kind", "market", "new", "repeated", "quarantined", "first", "last")
    rows = [head] + [
        (kind, market, *(f"{n:,}" for n in (count.n_new, count.n_repeated, count.n_quarantined)),
         count.as_dict()["first"] or "-", count.as_dict()["last"] or "-")
        for (kind, market), count in tally.tables().items()
    ]  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(
            text.rjust(w) if 2 <= i <= 4 else text.ljust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    notes = [f"gap      {it.where}: {it.code}: {it.why}" for it in tally.gaps]
    notes += [f"FAILED   {it.where}: {it.code}: {it.why}" for it in tally.failures]
    return "\n".join(line.rstrip() for line in [*lines, "", *notes]) + "\n"


def _replace(path: Path, data: bytes) -> None:
    write_whole(path, lambda file: file.write(data))
