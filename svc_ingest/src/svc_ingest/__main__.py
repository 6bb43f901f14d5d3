"""`python -m svc_ingest` serves; `python -m svc_ingest load --until T` loads history into the lake and ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from qraft_contracts.outcomes import Outcome, Transient
from qraft_runtime.settings import CommonSettings
from qraft_telemetry import logs
from svc_ingest import app
from svc_ingest.settings import IngestSettings, parse_operator_instant

EXIT_AGAIN = 1  # something outside is away: the same call may succeed later
EXIT_USAGE = 2  # a setting or the data must be changed first


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; what the operator must mend is said in one line."""
    options = _parser().parse_args(arguments)
    logs.configure(app.NAME)
    try:
        common, settings = CommonSettings(), IngestSettings()
        if options.command == "load":
            return app.load(common, settings, until=options.until)
        return app.serve(common, settings)
    except ValidationError as error:
        wrong = [f"QRAFT_INGEST_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()]
        logs.get().error("ingest.failed", reason="bad_settings", detail="; ".join(wrong))
        return EXIT_USAGE
    except Outcome as error:
        logs.get().error("ingest.failed", reason=error.reason, detail=error.detail)
        return EXIT_AGAIN if isinstance(error, Transient) else EXIT_USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="svc_ingest", description="Closed market bars onto the bus.")
    commands = parser.add_subparsers(dest="command")
    load = commands.add_parser("load", help="load history into the lake, print JSON progress lines, end")
    load.add_argument(
        "--until",
        type=parse_operator_instant,
        help="last closed_at to load, such as 2025-06-01T00:00:00Z; without it QRAFT_INGEST_REPLAY_FROM, "
        "without that all closed bars of the source",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
