"""`qraft run`: everything in one command, in the foreground, with a live view."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer

from qraft_cli import story
from qraft_cli.console import OUT, origin_badge, progress_bars
from qraft_cli.stack.home import find_home
from qraft_cli.stack.local import LocalStack
from qraft_cli.view import follow

Speed = Annotated[float, typer.Option(help="Bars a second of the replay; 0 = as fast as the slowest service.", min=0)]


def run(
    speed: Speed = 5.0,
    profile: Annotated[str, typer.Option(help="Limits profile: standard or demo (labelled everywhere).")] = "demo",
    view: Annotated[bool, typer.Option(help="Show the live terminal view.")] = True,
    until_order: Annotated[bool, typer.Option(help="Stop after the first paper order (for checks).")] = False,
) -> None:
    """Start everything, train a first model if there is none, replay unseen bars and show the loop at work."""
    asyncio.run(_run(speed, profile, view, until_order))


async def _run(speed: float, profile: str, view: bool, until_order: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    plan = story.make_plan(speed=speed, profile=profile)
    stack = LocalStack(find_home(), environment=plan.environment, origin=plan.origin)
    OUT.print(f"bars: {origin_badge(plan.origin)} {plan.described}")
    try:
        work = asyncio.create_task(_work(stack, view, until_order))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if work.done():
            work.result()
        else:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
    finally:
        OUT.print("stopping: the services drain, then the servers stop")
        await stack.stop()
        OUT.print("stopped; the same command goes on where it was")


async def _work(stack: LocalStack, view: bool, until_order: bool) -> None:
    with progress_bars() as show:
        sentence = await story.prepare(stack, show)
    OUT.print(f"bars: {origin_badge(stack.origin)}")
    OUT.print(sentence)
    await story.start_services(stack)
    OUT.print(f"paper desk: [bold]{stack.desk_url}[/]   (Ctrl-C stops everything)")
    await follow(stack, view=view, until_order=until_order)
