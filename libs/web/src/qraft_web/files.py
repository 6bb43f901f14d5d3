"""Where the shared static files lie. A service mounts them under `/web`, the address that the modules expect."""

from __future__ import annotations

from pathlib import Path


def static_dir() -> Path:
    """Return the folder of shared styles and ES modules, to be served under `/web`."""
    return Path(__file__).parent / "static"
