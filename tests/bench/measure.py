"""Small tools that every benchmark here shares."""

from __future__ import annotations

import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]


def data_folder() -> Path | None:
    """Return the folder of the real data, or None where there is none."""
    folder = Path(os.environ.get("QRAFT_DATA", ROOT.parent / "shared" / "data"))
    return folder if (folder / "bars").is_dir() else None


def temporary_home() -> Path:
    """Return a new folder with a short path that other accounts may enter (PostgreSQL's, when we are root)."""
    folder = Path(tempfile.mkdtemp(prefix="qb-"))
    folder.chmod(0o755)
    return folder


def machine() -> str:
    """Return one line about where the figures were taken."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load}"


@dataclass(frozen=True, slots=True)
class Quantiles:
    """p50 and p99 of a sample, with its size."""

    p50: float
    p99: float
    n: int

    @classmethod
    def of(cls, values: list[float]) -> Quantiles:
        """Return the quantiles of a sample that is not empty."""
        p50, p99 = np.quantile(values, [0.5, 0.99])
        return cls(float(p50), float(p99), len(values))


def verdict(is_reached: bool) -> str:
    """Return how a figure stands to its target."""
    return "reached" if is_reached else "NOT REACHED"
