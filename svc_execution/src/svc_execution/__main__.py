"""`python -m svc_execution`."""

from __future__ import annotations

import sys

from qraft_runtime.wrong_settings import run_with_settings
from qraft_telemetry import logs
from svc_execution.app import NAME, run
from svc_execution.ports import JournalMismatch

# Told apart from a crash: restarting does not help, a person has to look.
_EXIT_MISMATCH = 3


def main() -> int:
    """Run the service and return its exit code."""
    try:
        return run_with_settings(NAME, run)
    except JournalMismatch as error:
        logs.get().error("journal.mismatch", detail=str(error), action="compare the journal with a backup; see README")
        return _EXIT_MISMATCH


if __name__ == "__main__":
    sys.exit(main())
