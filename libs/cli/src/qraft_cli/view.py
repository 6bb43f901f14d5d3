"""The live terminal view: what passes on the bus, and what the paper desk says of it."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
from nats.aio.msg import Msg
from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from qraft_cli.console import OUT, origin_badge
from qraft_cli.stack.local import LocalStack
from qraft_cli.stack.services import STUDIO
from qraft_cli.stack.session import connect_bus
from qraft_cli.view_studio import JOB_SUBJECTS, describe_job
from qraft_contracts.imagejobs import CREATED, FAILED, SUCCEEDED, UNCERTAIN, ImageJobEvent
from qraft_contracts.outcomes import Malformed
from qraft_frames.bars import BarBatch, decode_bars

_REFRESH_PER_S = 4
_DESK_EVERY_S = 1.0
_N_ORDERS = 8
_N_ORDERS_MIN = 2
_N_SYMBOLS = 10
# What the view needs beside bars and orders; a smaller terminal shows fewer of those.
_N_OTHER_LINES = 28
_PLAIN_EVERY_BARS = 100
_SPARK = "▁▂▃▄▅▆▇█"
Desk = dict[str, Any]


@dataclass(slots=True)
class Seen:
    """What the view has seen so far. All of it is a copy of the bus; nothing is computed here."""

    bar: BarBatch | None = None
    previous: dict[str, float] = field(default_factory=dict)
    n_bars: int = 0
    n_orders: int = 0
    targets: Desk = field(default_factory=dict)
    orders: deque[Desk] = field(default_factory=lambda: deque(maxlen=_N_ORDERS))
    desk: Desk = field(default_factory=dict)
    jobs: Counter[str] = field(default_factory=Counter)  # transitions of image jobs
    last_job: str = ""


async def follow(stack: LocalStack, *, view: bool, until_order: bool) -> None:
    """Show the loop until cancelled, or until the first paper order if asked to."""
    connection = await connect_bus(stack.nats_url)
    seen = Seen()
    ordered = asyncio.Event()

    async def on_message(message: Msg) -> None:
        with suppress(Malformed, msgspec.DecodeError):
            _take(seen, message)
        if seen.n_orders:
            ordered.set()

    for subject in ("bars.*", "targets.paper", "orders.paper", *JOB_SUBJECTS):
        await connection.subscribe(subject, cb=on_message)
    desk = asyncio.create_task(_read_desk(seen, stack.desk_url.replace("/desk", "/api/desk")))
    show = asyncio.create_task(_draw(stack, seen) if view and OUT.is_terminal else _print_lines(seen))
    try:
        if until_order:
            await ordered.wait()
            OUT.print(f"first paper order: {msgspec.json.encode(seen.orders[0]).decode()}", markup=False)
        else:
            await asyncio.gather(desk, show)
    finally:
        for task in (desk, show):
            task.cancel()
        await asyncio.gather(desk, show, return_exceptions=True)
        await connection.close()


def _take(seen: Seen, message: Msg) -> None:
    if message.subject.startswith("bars."):
        if seen.bar is not None:
            seen.previous = dict(zip(seen.bar.symbols, map(float, seen.bar.close), strict=True))
        seen.bar = decode_bars(message.data)
        seen.n_bars += 1
    elif message.subject == "targets.paper":
        seen.targets = msgspec.json.decode(message.data)
    elif message.subject.startswith("imagejob."):
        event = msgspec.json.decode(message.data, type=ImageJobEvent)
        seen.jobs[event.transition] += 1
        seen.last_job = describe_job(event)
    else:
        seen.orders.appendleft(msgspec.json.decode(message.data))
        seen.n_orders += 1


async def _read_desk(seen: Seen, url: str) -> None:
    async with httpx.AsyncClient(timeout=3.0) as client:
        while True:
            with suppress(httpx.HTTPError):
                response = await client.get(url)
                if response.status_code == 200:
                    seen.desk = response.json()
            await asyncio.sleep(_DESK_EVERY_S)


async def _print_lines(seen: Seen) -> None:
    """Print a line now and then where there is no terminal to draw on."""
    shown = 0
    while True:
        await asyncio.sleep(0.5)
        if seen.bar is not None and seen.n_bars >= shown + _PLAIN_EVERY_BARS:
            shown = seen.n_bars
            equity = seen.desk.get("equity", {}).get("now")
            money = f", equity {equity:,.2f}" if equity is not None else ""
            OUT.print(f"{seen.bar.closed_at:%Y-%m-%d %H:%M} {seen.n_bars} bars, {seen.n_orders} orders{money}")


async def _draw(stack: LocalStack, seen: Seen) -> None:
    with Live(console=OUT, refresh_per_second=_REFRESH_PER_S, transient=False) as live:
        while True:
            live.update(Group(*_panels(stack, seen)))
            await asyncio.sleep(1 / _REFRESH_PER_S)


def _panels(stack: LocalStack, seen: Seen) -> list[Panel]:
    origin = seen.bar.origin.value if seen.bar else stack.origin
    profile = seen.targets.get("profile", "?")
    demo = "" if profile in ("standard", "?") else f"  [bold black on yellow] DEMO LIMITS: {profile} [/]"
    as_of = f"{seen.bar.closed_at:%Y-%m-%d %H:%M} UTC" if seen.bar else "waiting for the first bar"
    head = f"{origin_badge(origin)}{demo}  bar {as_of}   desk [bold]{stack.desk_url}[/]"
    panels = [Panel(head, title="Qraft"), Panel(_bars(seen), title="bars"), Panel(_scores(seen), title="signals")]
    panels.append(Panel(_orders(seen), title=f"targets and orders ({seen.n_orders} orders seen)"))
    panels.append(Panel(_account(seen.desk), title="paper account and latency per hop"))
    return [*panels, Panel(_images(stack, seen), title="images and credits")] if stack.gateway_url else panels


def _images(stack: LocalStack, seen: Seen) -> Table:
    table = Table.grid(padding=(0, 2))
    problem = next((it for it in stack.problems if STUDIO in it), "")
    if problem:
        table.add_row(f"[bold red]{problem}[/]")
        return table
    counts = "  ".join(f"{seen.jobs[it]} {it}" for it in (CREATED, SUCCEEDED, FAILED, UNCERTAIN))
    where = stack.gateway_url if STUDIO in stack.parts_done else "starting"
    table.add_row(f"{origin_badge('simulated')} [bold]{where}[/]  jobs: {counts}")
    if seen.last_job:
        table.add_row(seen.last_job)
    return table


def _bars(seen: Seen) -> Table:
    table = Table.grid(padding=(0, 2))
    if seen.bar is None:
        return table
    for i, symbol in enumerate(seen.bar.symbols[:_N_SYMBOLS]):
        close = float(seen.bar.close[i])
        change = close / seen.previous.get(symbol, close) - 1
        color = "green" if change > 0 else "red" if change < 0 else "white"
        table.add_row(symbol, f"{close:,.6g}", f"[{color}]{change:+.3%}[/]", f"volume {seen.bar.volume[i]:,.6g}")
    return table


def _scores(seen: Seen) -> Table:
    table = Table.grid(padding=(0, 2))
    for score in seen.targets.get("scores", ()):
        if score.get("score_max") is None:
            table.add_row(score["horizon"], f"[yellow]{score.get('reason') or 'no signals'}[/]")
            continue
        passed = f"[green]{score['n_passed']} passed[/]" if score["n_passed"] else "[yellow]none passed[/]"
        spread = f"scores {score['score_min']:+.2f} … {score['score_p50']:+.2f} … {score['score_max']:+.2f}"
        table.add_row(score["horizon"], passed, spread, f"threshold {score['threshold']:.2f}",
                      f"best is {score['distance']:+.2f} below it" if score["distance"] > 0 else "")  # fmt: skip
    if seen.targets.get("hold"):
        table.add_row("hold", f"[yellow]{seen.targets.get('reason')}[/]")
    return table


def _orders(seen: Seen) -> Table:
    table = Table.grid(padding=(0, 2))
    weights = [f"{target['symbol']} {target['weight']:+.3f}" for target in seen.targets.get("targets", ())]
    table.add_row("targets", "  ".join(weights) or "flat")
    n_bars = min(_N_SYMBOLS, len(seen.bar.symbols)) if seen.bar else 0
    n_shown = max(_N_ORDERS_MIN, min(_N_ORDERS, OUT.size.height - _N_OTHER_LINES - n_bars + _N_ORDERS))
    for order in itertools.islice(seen.orders, n_shown):
        color = "green" if order["side"] == "buy" else "red"
        price = f"{order['theoretical_price']:,.6g}"
        what = f"[{color}]{order['side']}[/] {order['quantity']:,.6g} {order['symbol']} @ {price}  {order['reason']}"
        table.add_row(order["decided_at"][:16], what)
    return table


def _account(desk: Desk) -> Table:
    table = Table.grid(padding=(0, 2))
    if not desk:
        table.add_row("waiting for the paper desk")
        return table
    equity = desk["equity"]
    line = sparkline([point[1] for point in equity["series"]], width=50)
    table.add_row(f"equity {equity['now']:,.2f}", f"drawdown {equity['drawdown']:.2%}", line)
    hops = "   ".join(f"{hop['name']} {hop['p50_ms']:.1f}/{hop['p99_ms']:.1f}" for hop in desk["latency"]["hops"])
    total = desk["latency"]["total"]
    if total["n"]:
        table.add_row("p50/p99 ms", f"total {total['p50_ms']:.1f}/{total['p99_ms']:.1f}", hops)
    return table


def sparkline(values: list[float], *, width: int) -> str:
    """Return the last values as one line of blocks; a constant series is flat in the middle."""
    if not values:
        return ""
    step = max(1, len(values) // width)
    shown = values[::step][-width:]
    low, high = min(shown), max(shown)
    if high == low:
        return _SPARK[3] * len(shown)
    return "".join(_SPARK[round((value - low) / (high - low) * (len(_SPARK) - 1))] for value in shown)
