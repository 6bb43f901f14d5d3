"""A stream that takes nothing more is said by the writer's readiness, and nothing is lost when it takes again."""

from __future__ import annotations

from dataclasses import replace

import nats
import pytest
from nats.js.api import DiscardPolicy
from tests.libs.bus.harness import QUICK, message

from qraft_bus.nats import NatsBus
from qraft_bus.streams import STREAMS, stream_config
from qraft_contracts.outcomes import Transient

pytestmark = pytest.mark.nats


async def test_full_stream_makes_its_writer_not_ready_until_it_takes_again(nats_url: str) -> None:
    bus = NatsBus(nats_url, name="test", settings=replace(QUICK, publish_timeout_s=0.5, publish_budget_s=0.5))
    await bus.start()
    first = await bus.publish(message(0))
    config = stream_config(next(it for it in STREAMS if it.name == first.stream))
    admin = await nats.connect(nats_url)
    await admin.jetstream().update_stream(replace(config, max_bytes=1, discard=DiscardPolicy.NEW))

    with pytest.raises(Transient, match="stream_refused"):
        await bus.publish(message(1))

    assert "maximum bytes exceeded" in (bus.why_not_connected or "")
    await admin.jetstream().update_stream(config)
    assert not (await bus.publish(message(1))).is_duplicate
    assert bus.is_connected
    await bus.drain()
    await admin.close()
