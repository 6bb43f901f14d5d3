"""The AsyncAPI document of what buses consume, from the running code: the FastStream brokers themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from faststream.specification.asyncapi import AsyncAPI

from qraft_bus.nats import NatsBus


def asyncapi(buses: Iterable[NatsBus]) -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document of the subscriptions of these buses; they need not be started."""
    specification = AsyncAPI(*(bus.broker for bus in buses), title="Qraft bus", version="0.1.0")
    document: dict[str, Any] = json.loads(specification.to_specification().to_json())
    return document
