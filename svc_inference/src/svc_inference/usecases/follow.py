"""Follow the registry: build the board of what is active, and swap it whole so that no bar sees half of one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from qraft_contracts.outcomes import Refused, Transient
from svc_inference.domain.board import Board, Seat
from svc_inference.domain.model import ActiveModel
from svc_inference.ports import ActiveModels, Model, ModelSource

# One model a horizon, and as many again: the models of the last promotion, so that a rollback loads nothing.
MODELS_KEPT_MAX: Final = 8
# Pause before asking again for a registry or store that did not answer.
RETRY_S: Final = 1.0

# (event, fields) of what an operator should see.
Told = Callable[[str, Mapping[str, object]], None]


class FollowRegistry:
    """
    Keeps a board up to date. Only `refresh` changes it, by one assignment: a bar that reads `board` once sees one
    state of the registry. What cannot be loaded has a seat with the reason; the model before it never stands in.
    """

    def __init__(self, *, registry: ActiveModels, source: ModelSource, refresh_s: float, tell: Told) -> None:
        self._registry = registry
        self._source = source
        self._refresh_s = refresh_s
        self._tell = tell
        self._kept: OrderedDict[ActiveModel, Model] = OrderedDict()
        self._asked = asyncio.Event()
        self.board: Board[Model] = Board()

    def ask(self) -> None:
        """Ask for a refresh as soon as possible; asking again before it begins is the same."""
        self._asked.set()

    async def refresh(self) -> None:
        """
        Read what is active, load what is new, swap the board.

        Raises:
            Transient: if the registry or the artefact store is away; the board is as it was.
        """
        active = await self._registry.active()
        seats = {horizon: await self._seat(wanted) for horizon, wanted in active.items()}
        is_changed = seats != self.board.seats
        self.board = Board(seats)
        if is_changed:
            self._tell("models.swapped", {
                "models": {horizon: seat.model_id for horizon, seat in seats.items() if seat.model},
                "refused": {horizon: seat.reason for horizon, seat in seats.items() if not seat.model},
            })  # fmt: skip

    async def start(self) -> None:
        """Refresh until it succeeds once: without the registry nobody knows what is active."""
        self._asked.set()
        while self._asked.is_set():
            await self._answer()

    async def run(self) -> None:
        """Refresh when asked, and every refresh_s in case a message was missed; until canceled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._refresh_s):
                    await self._asked.wait()
            await self._answer()

    async def _answer(self) -> None:
        """Refresh; what fails is asked for again, after a pause."""
        # Cleared first: a decision published while the registry is read asks for another look.
        self._asked.clear()
        try:
            await self.refresh()
        except Transient as error:
            self._tell("models.refresh_failed", {"reason": error.reason, "detail": error.detail})
            self._asked.set()
            await asyncio.sleep(RETRY_S)

    async def _seat(self, wanted: ActiveModel) -> Seat[Model]:
        model = self._kept.get(wanted)
        if model is None:
            try:
                model = await self._source.load(wanted)
            except Refused as error:
                self._tell(
                    "model.refused", {"model_id": wanted.model_id, "reason": error.reason, "detail": error.detail}
                )
                return Seat(wanted.model_id, None, error.reason)
            self._kept[wanted] = model
        self._kept.move_to_end(wanted)
        while len(self._kept) > MODELS_KEPT_MAX:
            self._kept.popitem(last=False)
        return Seat(wanted.model_id, model, None)
