"""
The acceptance matrix: which cells each model has to pass, and when a cell counts.

A cell counts only if the call was real: its cost is confirmed, the key is valid, nothing about it is simulated, and
what was made can be downloaded. Everything else is shown and never counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

# The four conditions of a real call, then what makes its picture the asked one.
PRICE_KNOWN: Final = "price known"
KEY_VALID: Final = "key valid"
NOT_SIMULATED: Final = "not simulated"
COST_CONFIRMED: Final = "cost confirmed"
DOWNLOADED: Final = "downloaded, SHA-256 right"
AS_ASKED: Final = "size and format as asked"
PROVENANCE: Final = "provenance in the file"
CHECKS: Final = (PRICE_KNOWN, KEY_VALID, NOT_SIMULATED, COST_CONFIRMED, DOWNLOADED, AS_ASKED, PROVENANCE)


class Verdict(StrEnum):
    """What became of a cell. unsupported: the model is known not to do this, so the cell is not required."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_COUNTED = "not counted: simulated"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class Cell:
    """One call of the matrix."""

    name: str
    size: str
    quality: str
    output_format: str = "png"
    n_references: int = 0
    has_mask: bool = False


@dataclass(frozen=True, slots=True)
class ModelUnderTest:
    """One model of one provider as the gateway lists it."""

    provider: str
    model: str
    is_simulated: bool

    @property
    def explicit_id(self) -> str:
        """Return the name that always means this model."""
        return f"{self.provider}/{self.model}"


class CellResult(msgspec.Struct, frozen=True, kw_only=True):
    """
    What became of one cell. Amounts are credits as text. checks: each of CHECKS that was reached, and whether it held.

    reason: why it did not pass, one sentence; "" when it did.
    """

    provider: str
    model: str
    cell: str
    verdict: Verdict
    reason: str
    job_id: str | None = None
    estimated_credits: str | None = None
    charged_credits: str | None = None
    elapsed_s: float | None = None
    asset_ids: tuple[str, ...] = ()
    asset_sha256s: tuple[str, ...] = ()
    checks: dict[str, bool] = {}


class Matrix(msgspec.Struct, frozen=True):
    """All results. is_accepted: at least one cell was required, and every required one is real and passed."""

    gateway: str
    began_at: str
    ended_at: str
    is_accepted: bool
    n_passed: int
    n_failed: int
    n_not_counted: int
    n_unsupported: int
    charged_credits: str
    results: tuple[CellResult, ...]


def cells(*, sizes: Sequence[str], formats: Sequence[str], quality: str) -> tuple[Cell, ...]:
    """Return the cells of every model: the operations at the first size, then each further size and format."""
    first = sizes[0]
    operations = (
        Cell("generation", first, quality, formats[0]),
        Cell("edit with one reference", first, quality, formats[0], n_references=1),
        Cell("edit with several references", first, quality, formats[0], n_references=2),
        Cell("edit with a mask", first, quality, formats[0], n_references=1, has_mask=True),
    )
    further_sizes = tuple(Cell(f"size {it}", it, quality, formats[0]) for it in sizes[1:])
    further_formats = tuple(Cell(f"format {it}", first, quality, it) for it in formats[1:])
    return operations + further_sizes + further_formats


def is_accepted(results: Sequence[CellResult]) -> bool:
    """Return whether the matrix is passed. A simulated cell is a required one that can never pass."""
    required = [it for it in results if it.verdict is not Verdict.UNSUPPORTED]
    return bool(required) and all(it.verdict is Verdict.PASSED for it in required)
