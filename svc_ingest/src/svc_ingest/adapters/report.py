"""The quality report as a file that people and gates read."""

from __future__ import annotations

import json
from pathlib import Path

from svc_ingest.domain.faults import QualityReport
from svc_ingest.ports import BarSource


def write_report(path: Path, report: QualityReport, *, source: BarSource, market: str, interval: str) -> None:
    """Replace the report file; atomic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "source": source.description,
        "origin": source.origin.value,
        "lineage": source.lineage,
        "market": market,
        "interval": interval,
    }
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(about | report.as_dict(), indent=1) + "\n")
    temporary.replace(path)
