"""`qraft execution halt|resume`: the kill switch of the paper account."""

from __future__ import annotations

import asyncio
import getpass
from typing import Annotated

import typer

from qraft_cli.console import OUT
from qraft_cli.stack.session import database

app = typer.Typer(help="The kill switch of the paper account.", no_args_is_help=True)

Reason = Annotated[str, typer.Option(help="Why; kept in the append-only history.", prompt=True)]
Actor = Annotated[str, typer.Option(help="Who gives the command.")]


@app.command()
def halt(reason: Reason, actor: Actor = "") -> None:
    """Decide no new orders from now on. Positions stay; open orders end with their bar."""
    asyncio.run(_set(actor or getpass.getuser(), True, reason))


@app.command()
def resume(reason: Reason, actor: Actor = "") -> None:
    """Allow new orders again."""
    asyncio.run(_set(actor or getpass.getuser(), False, reason))


async def _set(actor: str, engaged: bool, reason: str) -> None:
    if not reason.strip():
        raise typer.BadParameter("expected a reason, received an empty one", param_hint="--reason")
    async with database() as connection:
        await connection.execute("select execution.set_kill_switch($1, $2, $3)", actor, engaged, reason)
    word = "engaged: no new orders" if engaged else "released: orders are allowed"
    OUT.print(f"kill switch {word} (by {actor}: {reason})")
