"""Where data came from. The worst origin of the inputs wins; a simulated input never passes a gate."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Origin(StrEnum):
    """Provenance of a message, a row or an artefact, best first."""

    REAL = "real"
    REPLAY = "replay"
    SIMULATED = "simulated"


_RANK = {Origin.REAL: 0, Origin.REPLAY: 1, Origin.SIMULATED: 2}


def worst_origin(origins: Iterable[Origin]) -> Origin:
    """
    Return the worst of the given origins.

    Raises:
        ValueError: if there is none; an unknown provenance is never taken for a good one.
    """
    found = list(origins)
    if not found:
        raise ValueError("expected at least one origin, received none: provenance must be known")
    return max(found, key=_RANK.__getitem__)
