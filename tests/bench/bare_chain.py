"""
The yardstick of the bus: a chain of bare nats-py processes, one JetStream publish and acknowledgement a hop.

`python -m tests.bench.bare_chain HOP URL SOURCE TARGET N`: take N messages from SOURCE and publish each to TARGET.
"""

from __future__ import annotations

import asyncio
import sys

import nats
import uvloop
from nats.errors import TimeoutError as NatsTimeout


async def forward(url: str, source: str, target: str, n_messages: int) -> None:
    """Forward the messages in order, the payload untouched."""
    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    subscription = await jetstream.pull_subscribe(source, durable=f"bare_{source.replace('.', '_')}")
    print("ready", flush=True)
    n_done = 0
    while n_done < n_messages:
        try:
            (message,) = await subscription.fetch(1, timeout=5)
        except NatsTimeout:
            continue
        headers = dict(message.headers or {})
        headers["Nats-Msg-Id"] = f"{target}/{n_done}"
        await jetstream.publish(target, message.data, headers=headers)
        await message.ack()
        n_done += 1
    await connection.drain()


if __name__ == "__main__":
    _, url, source, target, n = sys.argv
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(forward(url, source, target, int(n)))
