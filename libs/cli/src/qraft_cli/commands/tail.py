"""`qraft tail SUBJECT`: the messages of any subject as readable rows, Arrow ones too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
import nats.errors
import nats.js.errors
import typer
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy

from qraft_bus.streams import STREAMS
from qraft_cli.console import ERRORS, OUT
from qraft_cli.rows import decode_rows, format_row, matches
from qraft_cli.stack.session import connect_bus, find_addresses
from qraft_contracts.outcomes import Malformed
from qraft_contracts.times import parse_instant

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def tail(
    subject: Annotated[str, typer.Argument(help="Such as bars.5m, orders.paper, imagejob.>, ledger.>, deadletter.>")],
    since: Annotated[
        str | None, typer.Option(help="Begin with stored messages: a span back (10m, 2h) or an instant.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a row, for other programs.")] = False,
    where: Annotated[
        list[str] | None, typer.Option(help="Only rows with field=value, such as symbol=BTCUSDT; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Stop after so many rows; 0 = go on until Ctrl-C.", min=0)] = 0,
    follow: Annotated[bool, typer.Option(help="Wait for more after the stored messages.")] = True,
) -> None:
    """Print the rows of a subject as they come; [bold]--since[/] begins with what is stored."""
    conditions = [_parse_condition(text) for text in where or []]
    start = _parse_since(since) if since else None
    try:
        asyncio.run(_tail(subject, start, json, conditions, limit, follow))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _parse_condition(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"expected field=value, received {text!r}", param_hint="--where")
    return name, value


def _parse_since(text: str) -> datetime:
    if text[-1:] in _UNITS and text[:-1].isdigit():
        return datetime.now(UTC) - timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]])
    try:
        return parse_instant(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"expected a span such as 10m, 2h, 1d or an instant such as 2025-09-01T00:00:00Z, received {text!r}",
            param_hint="--since",
        ) from error


async def _tail(
    subject: str, start: datetime | None, as_json: bool, where: list[tuple[str, str]], limit: int, follow: bool
) -> None:
    connection = await connect_bus(find_addresses().nats_url)
    n_rows = 0
    try:
        source = _live(connection, subject) if start is None else _stored(connection, subject, start, follow)
        async for message in source:
            try:
                rows = decode_rows(message)
            except Malformed as error:
                ERRORS.print(f"[yellow]unreadable[/] {message.subject}: {error}", highlight=False)
                continue
            for row in rows:
                if not matches(row, where):
                    continue
                line = msgspec.json.encode(row).decode() if as_json else format_row(row)
                OUT.print(line, markup=False, highlight=False, soft_wrap=True)
                n_rows += 1
                if limit and n_rows >= limit:
                    return
    finally:
        await connection.close()


async def _live(connection: Client, subject: str) -> AsyncIterator[Msg]:
    subscription = await connection.subscribe(subject)
    async for message in subscription.messages:
        yield message


def _stream_of(subject: str) -> str:
    first = subject.split(".", 1)[0]
    for spec in STREAMS:
        if any(pattern.split(".", 1)[0] == first for pattern in spec.subjects):
            return spec.name
    known = sorted({pattern for spec in STREAMS for pattern in spec.subjects})
    raise typer.BadParameter(f"no stream holds {subject!r}; known subjects are {', '.join(known)}")


async def _stored(connection: Client, subject: str, start: datetime, follow: bool) -> AsyncIterator[Msg]:
    jetstream = connection.jetstream()
    config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=start.isoformat())
    subscription = await jetstream.subscribe(subject, stream=_stream_of(subject), ordered_consumer=True, config=config)
    info = await subscription.consumer_info()
    # What waits and what is on its way already: a short history may be here before the question is.
    n_left = (info.num_pending or 0) + (info.delivered.consumer_seq if info.delivered else 0)
    while n_left or follow:
        try:
            message = await subscription.next_msg(timeout=1.0)
        except nats.errors.TimeoutError:
            continue
        n_left = max(0, n_left - 1)
        yield message
