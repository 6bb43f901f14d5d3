"""What a command says while it works: one JSON object a line on standard output."""

from __future__ import annotations

import json
import sys


def print_event(event: str, **fields: object) -> None:
    """Print one line at once, so that whoever reads along sees it."""
    sys.stdout.write(json.dumps({"event": event} | fields) + "\n")
    sys.stdout.flush()
