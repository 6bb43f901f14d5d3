"""What a job took is told once, and a job that nobody hears is not failed by it."""

from __future__ import annotations

from datetime import UTC, datetime

import nats
import pytest
from tests.kit.servers import free_port

from qraft_bus.usage import processor_ms, tell_usage
from qraft_contracts.codec import decode
from qraft_contracts.origin import Origin
from qraft_contracts.usage import RESEARCH, USAGE_COMPUTE, ComputeUsage

pytestmark = pytest.mark.nats

AT = datetime(2025, 9, 1, tzinfo=UTC)
USAGE = ComputeUsage("svc_x/1", RESEARCH, "svc_x", "a test", "one run", AT, AT, 12, 0, 34, Origin.SIMULATED)


async def test_usage_is_told_once_however_often(nats_url: str) -> None:
    assert [await tell_usage(nats_url, USAGE, lineage="x") for _ in range(2)] == [True, True]

    client = await nats.connect(nats_url)
    jetstream = client.jetstream()
    assert (await jetstream.stream_info("USAGE")).state.messages == 1
    stored = await jetstream.get_last_msg("USAGE", USAGE_COMPUTE)
    assert decode(stored.data or b"", ComputeUsage) == USAGE
    await client.close()


async def test_usage_that_nobody_hears_is_no_failure() -> None:
    assert await tell_usage(f"nats://127.0.0.1:{free_port()}", USAGE, lineage="x") is False


def test_processor_time_grows_with_work() -> None:
    before = processor_ms()
    sum(number * number for number in range(3_000_000))

    assert processor_ms() > before
