"""`qraft status`: what runs, how far behind each consumer is, and where the paper account stands."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import msgspec
import typer
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from rich.markup import escape
from rich.table import Table

from qraft_bus.streams import STREAMS
from qraft_cli.console import OUT, origin_badge
from qraft_cli.stack.home import find_home
from qraft_cli.stack.session import Addresses, connect_bus, find_addresses
from qraft_cli.stack.state import StackState


def status(json: bool = typer.Option(False, "--json", help="One JSON document, for other programs.")) -> None:
    """Show processes, addresses, streams, consumers and the paper account."""
    addresses = find_addresses()
    found = asyncio.run(_collect(addresses))
    if json:
        OUT.print(msgspec.json.encode(found).decode(), markup=False, highlight=False, soft_wrap=True)
        return
    if addresses.local is not None:
        _print_local(addresses.local)
    OUT.print(_stream_table(found["streams"]))
    for line in feed_lines(found["feeds"]):
        OUT.print(line, highlight=False)
    if found["desk"] is not None:
        equity = found["desk"]["equity"]
        OUT.print(
            f"paper account: equity {equity['now']:,.2f}, drawdown {equity['drawdown']:.2%}, "
            f"as of {found['desk']['as_of']}, limits profile {found['desk']['profile']}"
        )


def _print_local(state: StackState) -> None:
    if state.desk_url:
        OUT.print(f"bars {origin_badge(state.origin)}   desk {state.desk_url}")
    if state.gateway_url:
        OUT.print(
            f"images {state.gateway_url}   ledger {state.billing_url}   key {find_home().demo_key}", soft_wrap=True
        )
    for problem in state.problems:
        OUT.print(f"[bold red]problem[/] {problem}", highlight=False)
    OUT.print(process_table(state))


def process_table(state: StackState) -> Table:
    """Return the processes as a table."""
    table = Table(title="processes", title_justify="left")
    for name in ("process", "pid", "state", "restarts", "http"):
        table.add_column(name)
    style = {"running": "green", "failed": "bold red", "restarting": "yellow"}
    for process in state.processes:
        shown = f"[{style.get(process.state, 'white')}]{process.state}[/]"
        table.add_row(process.name, str(process.pid), shown, str(process.n_restarts), str(process.http_port or "-"))
    return table


async def _collect(addresses: Addresses) -> dict[str, Any]:
    connection = await connect_bus(addresses.nats_url)
    try:
        streams = [await _describe_stream(connection.jetstream(), spec.name) for spec in STREAMS]
    finally:
        await connection.close()
    processes = [msgspec.to_builtins(p) for p in addresses.local.processes] if addresses.local else []
    local = addresses.local
    return {
        "processes": processes,
        "problems": list(local.problems) if local else [],
        "gateway_url": local.gateway_url if local else "",
        "billing_url": local.billing_url if local else "",
        "streams": streams,
        "desk": await _read_desk(addresses.desk_url),
        "feeds": await _read_feeds(local),
    }


async def _describe_stream(jetstream: JetStreamContext, name: str) -> dict[str, Any]:
    try:
        info = await jetstream.stream_info(name)
    except NotFoundError:
        return {"name": name, "missing": True, "messages": 0, "bytes": 0, "consumers": []}
    consumers = [
        {"name": consumer.name, "pending": consumer.num_pending, "unacknowledged": consumer.num_ack_pending}
        for consumer in await jetstream.consumers_info(name)
    ]
    return {
        "name": name,
        "missing": False,
        "messages": info.state.messages,
        "bytes": info.state.bytes,
        "consumers": consumers,
    }


async def _read_feeds(local: StackState | None) -> list[dict[str, Any]]:
    """Return what svc_ingest polls beside its bars; nothing where it polls nothing or does not answer."""
    port = next((it.http_port for it in local.processes if it.name == "svc_ingest"), 0) if local else 0
    if not port:
        return []
    try:
        async with httpx.AsyncClient(timeout=3.0) as client:
            response = await client.get(f"http://127.0.0.1:{port}/api/feeds")
            response.raise_for_status()
            found: list[dict[str, Any]] = response.json()["feeds"]
            return found
    except httpx.HTTPError:  # an error, or no such path: nothing is polled beside a data set
        return []


def feed_lines(feeds: list[dict[str, Any]]) -> list[str]:
    """Return what to say of polled feeds: one line of those that are fresh, one for each that is not."""
    lines = [
        f"[yellow]stale[/] {it['kind']} {it['market']}: {', '.join(it['stale'][:5]) or 'failing'}"
        f"{escape('; ' + it['problem']) if it['problem'] else ''}"
        for it in feeds
        if it["stale"] or it["problem"]
    ]
    fresh = [f"{it['kind']} {it['market']}" for it in feeds if not (it["stale"] or it["problem"])]
    return ([f"feeds fresh: {', '.join(fresh)}"] if fresh else []) + lines


async def _read_desk(desk_url: str) -> dict[str, Any] | None:
    if not desk_url:
        return None
    try:
        async with httpx.AsyncClient(timeout=3.0) as client:
            response = await client.get(desk_url.replace("/desk", "/api/desk"))
            response.raise_for_status()
            found: dict[str, Any] = response.json()
            return found
    except httpx.HTTPError:
        return None


def _stream_table(streams: list[dict[str, Any]]) -> Table:
    table = Table(title="streams", title_justify="left")
    for name in ("stream", "messages", "size", "consumer", "behind", "in hand"):
        table.add_column(name)
    for stream in streams:
        if stream["missing"]:
            table.add_row(stream["name"], "[red]missing[/]", "", "", "", "")
            continue
        size = f"{stream['bytes'] / 1e6:,.1f} MB"
        lines = stream["consumers"] or [{"name": "-", "pending": 0, "unacknowledged": 0}]
        for i, consumer in enumerate(lines):
            lead = (stream["name"], f"{stream['messages']:,}", size) if i == 0 else ("", "", "")
            table.add_row(*lead, consumer["name"], str(consumer["pending"]), str(consumer["unacknowledged"]))
    return table
