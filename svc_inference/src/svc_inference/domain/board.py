"""Which model answers for which horizon: one immutable board, swapped whole between two bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Seat(Generic[M]):
    """One horizon's model. model None: there is none that may answer, and reason says why."""

    model_id: str | None
    model: M | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Board(Generic[M]):
    """The seat of every horizon. A horizon without a seat has no active model."""

    seats: Mapping[str, Seat[M]] = field(default_factory=dict)

    def seat(self, horizon: str) -> Seat[M]:
        """Return the seat of a horizon."""
        return self.seats.get(horizon, Seat(None, None, "no_active_model"))
