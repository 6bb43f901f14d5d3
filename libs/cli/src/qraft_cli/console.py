"""The two consoles: results on standard output, everything else on standard error."""

from __future__ import annotations

from rich.console import Console

OUT = Console()
ERRORS = Console(stderr=True)

ORIGIN_STYLE = {"real": "bold black on green", "replay": "bold black on cyan", "simulated": "bold white on red"}


def origin_badge(origin: str) -> str:
    """Return the origin as rich markup; simulated is loud."""
    text = "SIMULATED — not real data" if origin == "simulated" else origin.upper()
    return f"[{ORIGIN_STYLE.get(origin, 'bold white on magenta')}] {text} [/]"
