"""What one integrity check found, before it is written down as evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Finding:
    """
    n_checks comparisons were made, n_failed of them failed; `failures` names these, or the first few of them.
    """

    gate: str
    n_checks: int
    n_failed: int
    failures: tuple[str, ...] = ()
    measures: Mapping[str, float] = field(default_factory=dict)
