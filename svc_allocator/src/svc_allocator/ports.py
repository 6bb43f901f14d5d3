"""What the use cases need of the outside."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from qraft_quant.allocation import Correlations


class CorrelationSource(Protocol):
    """Correlations between symbols as they were known at an instant."""

    async def at(self, as_of: datetime) -> Correlations | None:
        """Return the correlations to use for a bar, or None when nothing is known. Equal calls, equal answers."""
        ...
