"""Tell about faults: one log line and one counter step for each symbol and kind, and a report file."""

from __future__ import annotations

from qraft_telemetry import logs, metrics
from svc_ingest.domain.faults import FaultKind, QualityReport

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
