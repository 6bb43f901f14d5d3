"""Every setting that a trap of JetStream, nats-py or FastStream asks for, as it stands on the server and the client."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import nats
import pytest
from faststream import AckPolicy
from nats.js import JetStreamContext
from nats.js.api import AckPolicy as ServerAckPolicy
from nats.js.api import DeliverPolicy, DiscardPolicy, RetentionPolicy, StorageType
from tests.libs.bus.harness import QUICK, Recorder, subscription, work

from qraft_bus.nats import NatsBus
from qraft_bus.settings import BusSettings
from qraft_bus.streams import STREAMS, apply_streams, stream_config

pytestmark = pytest.mark.nats


@pytest.fixture
async def js(nats_url: str) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(nats_url)
    yield client.jetstream()
    await client.close()


@pytest.mark.parametrize("spec", STREAMS, ids=lambda spec: spec.name)
async def test_stream_stands_on_the_server_as_written(js: JetStreamContext, spec) -> None:  # type: ignore[no-untyped-def]
    await apply_streams(js)

    config = (await js.stream_info(spec.name)).config

    assert config.subjects == list(spec.subjects)
    assert config.storage is None or config.storage == StorageType.FILE
    assert config.retention == RetentionPolicy.LIMITS
    assert config.discard == (DiscardPolicy.NEW if spec.keeps_old else DiscardPolicy.OLD)
    assert config.max_bytes == spec.max_bytes > 0
    assert config.max_age == spec.max_age_s
    assert config.max_msg_size == 1 << 20
    assert config.duplicate_window == 600
    assert config.deny_delete is True
    assert config.deny_purge is spec.deny_purge
    assert config.num_replicas == 1


async def test_records_refuse_new_messages_before_they_drop_old_ones() -> None:
    assert {spec.name for spec in STREAMS if spec.keeps_old} == {"MODELS", "DEADLETTER"}
    assert {spec.name for spec in STREAMS if spec.deny_purge} == {"MODELS", "EXECUTION", "LEDGER"}


async def test_applying_streams_again_changes_nothing_and_repairs_a_changed_one(js: JetStreamContext) -> None:
    await apply_streams(js)
    await js.update_stream(stream_config(STREAMS[0]), max_age=60, duplicate_window=30)

    await apply_streams(js)
    await apply_streams(js)

    config = (await js.stream_info("BARS")).config
    assert (config.max_age, config.duplicate_window) == (STREAMS[0].max_age_s, 600)


async def test_durable_stands_on_the_server_as_written(js: JetStreamContext, nats_url: str) -> None:
    bus = NatsBus(nats_url, name="test", settings=QUICK)
    bus.subscribe(subscription(Recorder(), subject="signals.*"))
    await bus.start()

    config = (await js.consumer_info("SIGNALS", "reader")).config
    await bus.drain()

    assert config.durable_name == "reader"
    assert config.filter_subject == "signals.*"
    assert config.deliver_subject is None  # pull
    assert config.deliver_policy == DeliverPolicy.ALL
    assert config.ack_policy == ServerAckPolicy.EXPLICIT
    assert config.ack_wait == QUICK.ack_wait_s
    assert config.max_ack_pending == 1
    assert config.max_deliver == -1
    assert config.max_waiting == 16
    assert not config.backoff  # never together with retries of our own


async def test_changed_settings_reach_an_existing_durable(js: JetStreamContext, nats_url: str) -> None:
    for settings in (QUICK, BusSettings(ack_wait_s=7, batch_size=8)):
        bus = NatsBus(nats_url, name="test", settings=settings)
        bus.subscribe(subscription(Recorder()))
        await bus.start()
        await bus.drain()

    config = (await js.consumer_info("BARS", "reader")).config

    assert (config.ack_wait, config.max_ack_pending) == (7, 8)


async def test_work_queue_stands_on_the_server_as_written_and_follows_a_changed_cap(
    js: JetStreamContext, nats_url: str
) -> None:
    for n_concurrent in (4, 7, 2):
        bus = NatsBus(nats_url, name="test", settings=QUICK)
        bus.work(work(Recorder(), n_concurrent=n_concurrent, ack_wait_s=30))
        await bus.start()
        await bus.drain()

        config = (await js.consumer_info("IMAGEJOBS", "imagegen-openai")).config
        assert config.max_ack_pending == n_concurrent  # over all processes together

    assert config.durable_name == "imagegen-openai"
    assert config.filter_subject == "imagejob.created.openai"
    assert config.deliver_subject is None  # pull
    assert config.deliver_policy == DeliverPolicy.ALL
    assert config.ack_policy == ServerAckPolicy.EXPLICIT
    assert config.ack_wait == 30
    assert config.max_deliver == -1
    assert config.max_waiting == 512
    assert not config.backoff


async def test_client_never_stops_reconnecting_and_notices_a_frozen_server(nats_url: str) -> None:
    bus = NatsBus(nats_url, name="svc_test", settings=QUICK)
    bus.subscribe(subscription(Recorder()))
    await bus.start()

    options = bus.broker.connection.options
    await bus.drain()

    assert options["max_reconnect_attempts"] == -1
    assert options["allow_reconnect"] is True
    assert options["reconnect_time_wait"] <= 1
    assert options["ping_interval"] * (options["max_outstanding_pings"] + 2) <= 10
    assert options["drain_timeout"] <= 10
    assert options["name"] == "svc_test"


async def test_faststream_neither_acknowledges_nor_declares_nor_talks_per_message(nats_url: str) -> None:
    bus = NatsBus(nats_url, name="test", settings=QUICK)
    bus.subscribe(subscription(Recorder()))

    (subscriber,) = bus.broker.subscribers

    assert subscriber.ack_policy is AckPolicy.MANUAL
    assert subscriber.stream.declare is False
    assert (subscriber.pull_sub.batch, subscriber.pull_sub.batch_size) == (True, 1)
    assert bus.broker.config.fd_config.use_fastdepends is False
    assert not logging.getLogger("qraft_bus.faststream").isEnabledFor(logging.INFO)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="batch_size"):
        BusSettings(batch_size=0)
    with pytest.raises(ValueError, match="publish_timeout_s"):
        BusSettings(publish_timeout_s=20)
    with pytest.raises(ValueError, match="durable of letters"):
        NatsBus("nats://127.0.0.1:1", name="test", settings=QUICK).subscribe(subscription(Recorder(), durable="a.b"))


async def test_error_outside_a_handler_is_surfaced_and_not_swallowed_by_faststream() -> None:
    bus = NatsBus("nats://127.0.0.1:1", name="test", settings=QUICK)

    with pytest.raises(LookupError):
        async with bus.broker.config.broker_middlewares[0](None, context=bus.broker.context):
            raise LookupError("a bug in the receiver")

    assert "a bug in the receiver" in await bus.wait_fatal()
