"""Tell about faults: one log line and one counter step for each symbol and kind; keep refused rows beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qraft_contracts.outcomes import Outcome
from qraft_telemetry import logs, metrics
from svc_ingest.domain.faults import FaultKind, QualityReport
from svc_ingest.domain.shaping import Refused

# More lines than this for one chunk say nothing more; the report has them all.
MAX_LINES = 20


def tell_faults(report: QualityReport, *, market: str) -> None:
    """Log and count the faults found since the last call."""
    untold = report.take_untold()
    for symbol, kind, n in untold[:MAX_LINES]:
        logs.get().warning("bars.fault", symbol=symbol, kind=kind.value, n=n)
    if len(untold) > MAX_LINES:
        logs.get().warning("bars.faults_not_listed", n_lines=len(untold) - MAX_LINES)
    by_kind: dict[FaultKind, int] = {}
    for _, kind, n in untold:
        by_kind[kind] = by_kind.get(kind, 0) + n
    for kind, n in by_kind.items():
        metrics.BAR_FAULTS.labels(market, kind.value).inc(n)


def keep_refused(
    add: Callable[[str, Sequence[tuple[str, Refused]]], None], name: str, rows: Sequence[tuple[str, Refused]]
) -> None:
    """Keep refused rows; where that fails, say so: the bars do not stop for a file that nobody reads live. Blocks."""
    try:
        add(name, rows)
    except Outcome as error:
        logs.get().warning("refused.not_kept", name=name, n=len(rows), why=str(error)[:300])
