"""`models.*`: one decision of the model registry a message. The registry's own table is the truth."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import msgspec

from qraft_contracts.origin import Origin


class ModelDecision(msgspec.Struct, frozen=True):
    """
    A move of one model in one slot (symbol group × horizon).

    action: candidate, activated, rolled_back or refused. stage: candidate, paper or qualified, the one it is in
    (or was refused for). actor: who gave the command; a demonstration names itself `demo`.
    """

    SCHEMA: ClassVar[str] = "models/1"

    decision_id: str
    action: str
    model_id: str
    symbol_group: str
    horizon: str
    stage: str
    actor: str
    reason: str
    decided_at: datetime
    origin: Origin
    evidence: dict[str, str] = {}
    previous_model_id: str | None = None
