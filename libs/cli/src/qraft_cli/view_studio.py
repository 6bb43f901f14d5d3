"""Image jobs as lines, where the live view of the bars is not shown."""

from __future__ import annotations

import asyncio

import msgspec
from nats.aio.msg import Msg

from qraft_cli.console import ERRORS, OUT, origin_badge
from qraft_cli.rows import credits_text
from qraft_cli.stack.local import LocalStack
from qraft_cli.stack.session import connect_bus
from qraft_contracts.imagejobs import ImageJobEvent

JOB_SUBJECTS = ("imagejob.*", "imagejob.created.*")


async def follow_jobs(stack: LocalStack) -> None:
    """Print one line a transition of a job until cancelled."""

    async def on_message(message: Msg) -> None:
        try:
            event = msgspec.json.decode(message.data, type=ImageJobEvent)
        except msgspec.DecodeError as error:
            ERRORS.print(f"[yellow]unreadable[/] {message.subject}: {error}", highlight=False)
            return
        OUT.print(describe_job(event), highlight=False, soft_wrap=True)

    connection = await connect_bus(stack.nats_url)
    try:
        for subject in JOB_SUBJECTS:
            await connection.subscribe(subject, cb=on_message)
        await asyncio.Event().wait()
    finally:
        await connection.close()


def describe_job(event: ImageJobEvent) -> str:
    """Return one transition as a line of rich markup, its effect on the money last."""
    color = {"succeeded": "green", "failed": "red", "uncertain": "yellow", "refund_failed": "bold red"}.get(event.state)
    state = f"[{color}]{event.state}[/]" if color else event.state
    cause = f" ({event.cause})" if event.cause else ""
    money = (
        f"charged {credits_text(event.charged_microcredits)} credits" if event.charged_microcredits else _held(event)
    )
    badge = f" {origin_badge(event.origin.value)}" if event.origin.value == "simulated" else ""
    return f"{event.at:%H:%M:%S} {event.job_id} {event.operation} {event.model}: {state}{cause}, {money}{badge}"


def _held(event: ImageJobEvent) -> str:
    if event.money in ("held", "settling", "disputing", "disputed"):
        return f"{credits_text(event.held_microcredits)} credits held"
    return "not charged" if event.money in ("voided", "none") else event.money.replace("_", " ")
