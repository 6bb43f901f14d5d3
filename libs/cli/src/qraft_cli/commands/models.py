"""`qraft models list|show|promote|rollback`: the registry, moved by persons only."""

from __future__ import annotations

import asyncio
import getpass
import itertools
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from qraft_cli.console import OUT, origin_badge
from qraft_cli.registry_session import open_registry
from qraft_contracts.outcomes import Refused
from qraft_contracts.subjects import HORIZONS
from qraft_registry.domain import ALL_SYMBOLS, Decision, Slot, Stage
from qraft_registry.dossier import read_dossier
from qraft_registry.gates import PAPER_GATES, evaluate

app = typer.Typer(help="The model registry: candidate → paper → qualified, and rollback.", no_args_is_help=True)

Actor = Annotated[str, typer.Option(help="Who gives the command; the login name by default.")]
Reason = Annotated[str, typer.Option(help="Why; kept for ever in the history.", prompt=True)]
Horizons = Annotated[list[str] | None, typer.Option("--horizon", help="1h, 4h, 1d or 7d; repeatable; all by default.")]


@app.command("list")
def list_models(json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Show every decision of the registry, newest first, and what is active now."""
    asyncio.run(_list(json))


@app.command()
def show(model_id: str) -> None:
    """Show one model: manifest, evidence, and what each gate says of it."""
    asyncio.run(_show(model_id))


@app.command()
def promote(
    model_id: str,
    reason: Reason,
    to: Annotated[str, typer.Option(help="paper (integrity gates) or qualified (evidence gates).")] = "paper",
    horizon: Horizons = None,
    actor: Actor = "",
) -> None:
    """Move a candidate up one stage, if its gates let it."""
    asyncio.run(_promote(model_id, _horizons(horizon), to, actor or getpass.getuser(), reason))


@app.command()
def rollback(horizon: Annotated[list[str], typer.Option("--horizon")], reason: Reason, actor: Actor = "") -> None:
    """Bring back the model that was active before, per horizon; the services follow within a second."""
    asyncio.run(_rollback(_horizons(horizon), actor or getpass.getuser(), reason))


def _horizons(chosen: list[str] | None) -> tuple[str, ...]:
    unknown = sorted(set(chosen or ()) - set(HORIZONS))
    if unknown:
        raise typer.BadParameter(f"expected horizons out of {', '.join(HORIZONS)}, received {', '.join(unknown)}")
    return tuple(chosen) if chosen else HORIZONS


async def _list(as_json: bool) -> None:
    async with open_registry() as session:
        decisions = await session.registry.history()
        active = await session.registry.active()
    if as_json:
        document = {
            "active": {slot.horizon: decision.model_id for slot, decision in active.items()},
            "decisions": decisions,
        }
        OUT.print(msgspec.json.encode(document).decode(), markup=False, highlight=False, soft_wrap=True)
        return
    if not decisions:
        OUT.print("no model is registered yet: `make run` trains a first one, `python -m svc_train` another")
        return
    in_force = {decision.decision_id for decision in active.values()}
    for _, group in itertools.groupby(reversed(decisions), key=_command_of):
        moves = list(group)[::-1]
        first = moves[0]
        names = [f"[green]{m.slot.horizon}*[/]" if m.decision_id in in_force else m.slot.horizon for m in moves]
        what = f"[bold red]{'refused':17}[/]" if first.refusal else f"{_named(first):17}"
        at = f"{first.decided_at:%Y-%m-%d %H:%M:%S}"
        OUT.print(f"{at}  {what}  {first.model_id}  {' '.join(names)}", highlight=False)
        why = f" [red]({first.refusal})[/]" if first.refusal else ""
        OUT.print(Padding(f"by {escape(first.actor)}: {escape(first.reason)}{why}", (0, 0, 0, len(at) + 2)))
    OUT.print("[green]*[/] active now", highlight=False)


def _named(decision: Decision) -> str:
    """Return what was decided, with its stage where that says more."""
    action, stage = str(decision.action), str(decision.stage)
    return action if action == stage else f"{action} ({stage})"


def _command_of(decision: Decision) -> tuple[object, ...]:
    """Return what the moves of one command share: it decides each horizon in a row of its own."""
    return decision.decided_at, decision.action, decision.model_id, decision.actor, decision.reason, decision.refusal


async def _show(model_id: str) -> None:
    async with open_registry() as session:
        dossier = await read_dossier(session.artefacts, model_id, gates=PAPER_GATES)
        history = await session.registry.history(model_id=model_id)
    if dossier.manifest is None or dossier.fault:
        raise Refused("bad_model", dossier.fault or f"nothing is stored for {model_id}")
    OUT.print(f"[bold]{model_id}[/]  origin {origin_badge(dossier.origin)}")
    OUT.print(f"trained until {dossier.manifest.trained_until:%Y-%m-%d %H:%M} UTC", highlight=False)
    OUT.print(f"horizons {', '.join(dossier.horizons)}", highlight=False)
    OUT.print(f"data snapshot {dossier.snapshot_id or 'unknown'}", highlight=False)
    readiness = dossier.readiness
    OUT.print(f"data readiness {readiness.verdict} (mode {readiness.mode})", highlight=False)
    table = Table("gate", "passed", "detail")
    for gate in PAPER_GATES:
        found = dossier.evidence_files.get(gate)
        verdict = evaluate(gate, found, manifest=dossier.manifest, now=datetime.now(UTC), proof=dossier.proof)
        detail = verdict.reason or f"evidence sha256 {(verdict.sha256 or '')[:16]}"
        table.add_row(gate, "[green]yes[/]" if verdict.passed else "[bold red]no[/]", detail)
    OUT.print(table)
    OUT.print(f"{len(history)} decisions; `qraft models list` shows them", highlight=False)


async def _promote(model_id: str, horizons: tuple[str, ...], stage: str, actor: str, reason: str) -> None:
    async with open_registry() as session:
        try:
            decisions = await session.registry.promote(
                model_id, horizons=horizons, stage=_stage(stage), actor=actor, reason=reason
            )
        finally:
            await session.publish_decisions()  # a refusal is a decision too, and is told
    _print_decisions(decisions)


def _stage(text: str) -> Stage:
    try:
        return Stage(text)
    except ValueError as error:
        raise typer.BadParameter(f"expected paper or qualified, received {text!r}", param_hint="--to") from error


async def _rollback(horizons: tuple[str, ...], actor: str, reason: str) -> None:
    async with open_registry() as session:
        try:
            decisions = [
                await session.registry.rollback(Slot(ALL_SYMBOLS, horizon), actor=actor, reason=reason)
                for horizon in horizons
            ]
        finally:
            await session.publish_decisions()
    _print_decisions(decisions)


def _print_decisions(decisions: list[Decision]) -> None:
    for decision in decisions:
        OUT.print(f"[green]{decision.action}[/] {decision.slot.horizon}: {decision.model_id}", highlight=False)
