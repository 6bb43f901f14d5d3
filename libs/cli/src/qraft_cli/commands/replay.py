"""`qraft replay DAY`: a stored day through a separate line of the same services."""

from __future__ import annotations

import asyncio
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from qraft_cli.console import OUT, origin_badge, progress_bars
from qraft_cli.line import Played, Stretch, play
from qraft_cli.registry_session import open_registry
from qraft_cli.stack.home import Home, find_home
from qraft_cli.stack.local import dataset_folder
from qraft_cli.stack.session import NotRunning
from qraft_cli.story import stored_range
from qraft_contracts.outcomes import Refused

_TIMEOUT_S = 3_600.0


def replay(
    day: Annotated[str, typer.Argument(help="A stored UTC day, such as 2025-09-03.")],
    days: Annotated[int, typer.Option(help="How many days.", min=1, max=31)] = 1,
    speed: Annotated[float, typer.Option(help="Bars a second; 0 = as fast as the services go.", min=0)] = 0.0,
    profile: Annotated[str, typer.Option(help="Limits profile: standard or demo.")] = "demo",
    model: Annotated[str | None, typer.Option(help="Model id; the active one by default.")] = None,
    keep: Annotated[bool, typer.Option(help="Keep the line's home for looking into it.")] = False,
) -> None:
    """
    Play a stored day through the services, with its own paper account that starts flat.

    The hash of all orders and fills is printed: the same day, model and limits give the same hash, always.
    """
    try:
        start = datetime.fromisoformat(day).replace(tzinfo=UTC)
    except ValueError as error:
        raise typer.BadParameter(f"expected a day such as 2025-09-03, received {day!r}") from error
    dataset = dataset_folder()
    if dataset is None:
        raise NotRunning("no stored bars are known: set QRAFT_DATA to the folder that holds bars/")
    end = start + timedelta(days=days)
    _check_range(dataset, start, end)
    model_id = model or asyncio.run(_active_model())
    main = find_home()
    artefacts = os.environ.get("QRAFT_ARTEFACTS_URL") or str(main.root / "artefacts")
    stretch = Stretch(dataset, start, end, model_id, artefacts, profile=profile, speed=speed)
    home = Home(main.root / "replays" / f"{day}-{os.getpid()}")
    OUT.print(f"{origin_badge('replay')} {dataset.name} {day} ({days} d), model {model_id}, limits {profile}")
    try:
        played = _play(home, stretch)
    finally:
        if not keep:
            shutil.rmtree(home.root, ignore_errors=True)
    _print(played)
    if keep:
        OUT.print(f"kept in {home.root}")


def _check_range(dataset: Path, start: datetime, end: datetime) -> None:
    """Refuse a stretch that the data set does not reach to: the line would wait for its last bar without end."""
    first, last = stored_range(dataset)
    if start < first or end - timedelta(days=1) > last:
        raise typer.BadParameter(
            f"{dataset.name} holds {first:%Y-%m-%d} to {last:%Y-%m-%d}, received {start:%Y-%m-%d} to "
            f"{end - timedelta(days=1):%Y-%m-%d}",
            param_hint="DAY",
        )


async def _active_model() -> str:
    try:
        async with open_registry() as session:
            active = await session.registry.active()
    except NotRunning as error:
        raise NotRunning(f"{error}; or name the model by --model, then no stack has to run") from error
    models = sorted({decision.model_id for decision in active.values()})
    if len(models) != 1:
        raise Refused("no_single_model", f"expected one active model, found {models or 'none'}: name one by --model")
    return models[0]


def _play(home: Home, stretch: Stretch) -> Played:
    with progress_bars() as show:
        return asyncio.run(play(home, stretch, timeout_s=_TIMEOUT_S, progress=show))


def _print(played: Played) -> None:
    table = Table(show_header=False)
    table.add_row("bars", str(played.n_bars))
    table.add_row("orders / fills", f"{played.n_orders} / {played.n_fills}")
    table.add_row("equity at the end", f"{played.equity:,.2f} (started flat with 1,000,000)")
    OUT.print(table)
    # Below the table and never folded, so that two runs can be compared by eye and by a program.
    OUT.print(f"orders sha256 {played.orders_sha256}", highlight=False, soft_wrap=True)
    OUT.print(f"fills sha256  {played.fills_sha256}", highlight=False, soft_wrap=True)
