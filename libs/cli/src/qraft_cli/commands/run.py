"""`qraft run`: everything in one command, in the foreground, with a live view."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import httpx
import typer

from qraft_cli import story
from qraft_cli.console import OUT, origin_badge, progress_bars
from qraft_cli.stack.home import find_home
from qraft_cli.stack.local import LocalStack
from qraft_cli.stack.servers import ServerFailed
from qraft_cli.stack.services import PARTS, QUANT, STUDIO
from qraft_cli.studio import DEMO_ACCOUNT, MODEL, StudioOpened, open_studio
from qraft_cli.view import follow
from qraft_cli.view_studio import follow_jobs
from qraft_contracts.outcomes import Outcome

Speed = Annotated[float, typer.Option(help="Bars a second of the replay; 0 = as fast as the slowest service.", min=0)]
Only = Annotated[
    str | None, typer.Option(help="Start one half only: quant (bars to paper orders) or studio (credits and pictures).")
]


def run(
    speed: Speed = 5.0,
    profile: Annotated[str, typer.Option(help="Limits profile: standard or demo (labelled everywhere).")] = "demo",
    view: Annotated[bool, typer.Option(help="Show the live terminal view.")] = True,
    until_order: Annotated[bool, typer.Option(help="Stop after the first paper order (for checks).")] = False,
    only: Only = None,
) -> None:
    """
    Start everything: bars to paper orders, and the image gateway with its ledger. Ctrl-C stops it cleanly.

    The first start trains a model; bars it never saw are replayed. Pictures come from the SIMULATED provider, paid for
    with the promotional credits of a demonstration account, until providers are configured (QRAFT_IMAGEGEN_PROVIDERS).
    """
    asyncio.run(_run(speed, profile, view, until_order, chosen_parts(only)))


def chosen_parts(only: str | None) -> tuple[str, ...]:
    """Return the parts to start; raises BadParameter for an unknown one."""
    if only is not None and only not in PARTS:
        raise typer.BadParameter(f"expected {' or '.join(PARTS)}, received {only!r}", param_hint="--only")
    return (only,) if only else PARTS


async def _run(speed: float, profile: str, view: bool, until_order: bool, parts: tuple[str, ...]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    stack = _stack(speed, profile, parts)
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


def _stack(speed: float, profile: str, parts: tuple[str, ...]) -> LocalStack:
    if QUANT not in parts:
        return LocalStack(find_home(), origin="simulated", parts=parts)
    plan = story.make_plan(speed=speed, profile=profile)
    OUT.print(f"bars: {origin_badge(plan.origin)} {plan.described}")
    return LocalStack(find_home(), environment=plan.environment, origin=plan.origin, parts=parts)


async def _work(stack: LocalStack, view: bool, until_order: bool) -> None:
    """Run the parts side by side: one that fails is said and does not end the other; the last one that fails does."""
    await stack.start_servers()
    halves = {QUANT: lambda: _run_quant(stack, view, until_order), STUDIO: lambda: _run_studio(stack)}
    running = {asyncio.create_task(halves[part]()): part for part in stack.parts}
    try:
        while running:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                part = running.pop(task)
                if _ended_well(stack, task, part, is_last=not running) and part == QUANT:
                    return  # the first paper order, if that was asked for
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _ended_well(stack: LocalStack, task: asyncio.Task[None], part: str, *, is_last: bool) -> bool:
    error = task.exception()
    if error is None:
        return True
    if is_last or not isinstance(error, ServerFailed | Outcome | OSError | httpx.HTTPError):
        raise error
    sentence = f"the {part} half did not start: {error}"
    stack.report_part(part, problem=sentence)
    OUT.print(f"[bold red]{part}[/]: {sentence}; the other half goes on", highlight=False)
    return False


async def _run_quant(stack: LocalStack, view: bool, until_order: bool) -> None:
    with progress_bars() as show:
        sentence = await story.prepare(stack, show)
    OUT.print(f"bars: {origin_badge(stack.origin)}")
    OUT.print(sentence)
    await story.start_services(stack)
    stack.report_part(QUANT)
    OUT.print(f"paper desk: [bold]{stack.desk_url}[/]   (Ctrl-C stops everything)")
    await follow(stack, view=view, until_order=until_order)


async def _run_studio(stack: LocalStack) -> None:
    opened = await open_studio(stack)
    stack.report_part(STUDIO)
    for line in studio_lines(opened):
        OUT.print(line, highlight=False, soft_wrap=True)
    if QUANT in stack.parts:
        await asyncio.Event().wait()  # the live view shows the jobs too
    await follow_jobs(stack)


def studio_lines(opened: StudioOpened) -> tuple[str, ...]:
    """Return what to tell a person who wants to make a picture."""
    return (
        f"images: {origin_badge('simulated')} OpenAI-compatible at [bold]{opened.base_url}[/], model {MODEL}; "
        f"account {DEMO_ACCOUNT} has {opened.available} promotional credits",
        f"  export OPENAI_BASE_URL={opened.base_url}",
        f'  export OPENAI_API_KEY="$(cat {opened.key_file})"',
    )
