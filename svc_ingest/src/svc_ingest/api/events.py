"""What a command says while it works: one JSON object a line on standard output; the service logs it."""

from __future__ import annotations

import json
import sys

from qraft_contracts.times import format_instant
from qraft_telemetry import logs
from svc_ingest.domain.tally import Tally
from svc_ingest.usecases.load import LoadProgress


def print_event(event: str, **fields: object) -> None:
    """Print one line at once, so that whoever reads along sees it."""
    sys.stdout.write(json.dumps({"event": event} | fields) + "\n")
    sys.stdout.flush()


def print_progress(progress: LoadProgress) -> None:
    """Print how far loading is."""
    print_event("ingest.progress", **_progress_fields(progress))


def log_progress(progress: LoadProgress) -> None:
    """Log how far loading is, where nobody reads standard output."""
    logs.get().info("ingest.progress", **_progress_fields(progress))


def print_collected(name: str, tally: Tally, done_frac: float) -> None:
    """Print what became of a data set."""
    own = [count for (dataset, _, _), count in tally.counts.items() if dataset == name]
    failed = [it.code for it in tally.failures if it.where.startswith(name)]
    print_event(
        "collect.progress",
        dataset=name,
        n_new=sum(count.n_new for count in own),
        n_repeated=sum(count.n_repeated for count in own),
        n_quarantined=sum(count.n_quarantined for count in own),
        failed=failed[-1] if failed else None,
        done_frac=round(done_frac, 4),
    )


def _progress_fields(progress: LoadProgress) -> dict[str, object]:
    return {
        "closed_at": format_instant(progress.closed_at),
        "n_bars": progress.n_bars,
        "n_rows": progress.n_rows,
        "n_new": progress.n_new,
        "done_frac": None if progress.done_frac is None else round(progress.done_frac, 4),
    }
