"""The durable consumer of a subscription on the server, and what it delivers."""

from __future__ import annotations

from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, ReplayPolicy

from qraft_bus.port import Delivery, Subscription, WorkSubscription
from qraft_bus.settings import BusSettings

_WORKERS_MAX = 512  # pull requests that wait, one a process; the server's own default


def consumer_config(subscription: Subscription, settings: BusSettings) -> ConsumerConfig:
    """Return the full configuration of a durable; every default that ever surprised anybody is written out."""
    return ConsumerConfig(
        name=subscription.durable,
        durable_name=subscription.durable,
        filter_subject=subscription.subject,
        deliver_policy=DeliverPolicy.ALL,
        replay_policy=ReplayPolicy.INSTANT,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=settings.ack_wait_s,
        # Order: nothing is delivered past a message that is not finished.
        max_ack_pending=settings.batch_size,
        # Unbounded on the server: a message that passes it there would just vanish. `decisions` counts and buries.
        max_deliver=-1,
        max_waiting=16,
    )


def work_config(work: WorkSubscription) -> ConsumerConfig:
    """Return the full configuration of a work queue's durable."""
    return ConsumerConfig(
        name=work.durable,
        durable_name=work.durable,
        filter_subject=work.subject,
        deliver_policy=DeliverPolicy.ALL,
        replay_policy=ReplayPolicy.INSTANT,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=work.ack_wait_s,
        # The cap over all processes together.
        max_ack_pending=work.n_concurrent,
        max_deliver=-1,
        max_waiting=_WORKERS_MAX,
    )


def delivery_of(message: Msg) -> Delivery:
    """Return a JetStream message as the handlers see it."""
    metadata = message.metadata
    return Delivery(
        subject=message.subject,
        data=message.data,
        headers=message.headers or {},
        stream=metadata.stream,
        stream_seq=metadata.sequence.stream,
        n_delivered=metadata.num_delivered,
        published_at=metadata.timestamp,
    )
