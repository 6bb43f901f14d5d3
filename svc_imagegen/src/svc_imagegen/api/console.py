"""
The operator's sub-commands. They work on the same stores as the service, beside which they may run at any time.

Results go to standard output, everything else to standard error, in one sentence.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from secrets import token_hex
from typing import Any, Final, Protocol

import msgspec

from qraft_runtime.clock import Clock
from svc_imagegen.domain.failures import credits_text, job_text
from svc_imagegen.domain.job import Job, JobState
from svc_imagegen.ports import ApiKey, AssetStore, CapabilityStore, JobStore, KeyStore, Provider
from svc_imagegen.usecases.authenticate import READ, WRITE, new_key_text, sha256_of_key
from svc_imagegen.usecases.sweep import Sweep

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1


class Unusable(Exception):
    """What was asked for cannot be done; the message says why in one sentence."""


class OperatorJobs(JobStore, Protocol):
    """The job store with what only the operator may see."""

    async def list_all(self, *, account_id: str | None, state: JobState | None, limit: int) -> Sequence[Job]: ...


@dataclass(frozen=True, slots=True)
class Desk:
    """What the sub-commands work on."""

    jobs: OperatorJobs
    assets: AssetStore
    keys: KeyStore
    capabilities: CapabilityStore
    providers: Mapping[str, Provider]
    sweep: Sweep
    clock: Clock


async def execute(desk: Desk, arguments: argparse.Namespace) -> int:
    """
    Run one sub-command and return the exit code.

    Raises:
        Unusable: if it cannot be done.
        Transient: if the database or billing is away.
    """
    match arguments.command, getattr(arguments, "keys_command", None):
        case "keys", "create":
            await _create_key(desk, arguments)
        case "keys", "revoke":
            await _revoke_key(desk, arguments)
        case "keys", _:
            await _list_keys(desk, arguments)
        case "jobs", _:
            await _list_jobs(desk, arguments)
        case "providers", _:
            await _list_providers(desk, arguments)
        case "job", _:
            await _show_job(desk, arguments)
        case _:
            await _sweep(desk, arguments)
    return EXIT_DONE


async def _create_key(desk: Desk, arguments: argparse.Namespace) -> None:
    text = new_key_text()
    key = ApiKey(
        key_id=f"key_{token_hex(8)}",
        account_id=arguments.account,
        name=arguments.name,
        scopes=frozenset(arguments.scope or (WRITE, READ)),
        created_at=desk.clock.now(),
        revoked_at=None,
    )
    if arguments.key_file:
        await asyncio.to_thread(_write_secret, arguments.key_file, text)
    await desk.keys.create(key, sha256_of_key(text))
    told = _key_view(key) | ({} if arguments.key_file else {"key": text})
    if arguments.json:
        _print_json(told)
        return
    print(f"key {key.key_id} of {key.account_id}: {', '.join(sorted(key.scopes))}")
    print(f"written to {arguments.key_file}" if arguments.key_file else f"{text}\nIt is not shown again.")


async def _revoke_key(desk: Desk, arguments: argparse.Namespace) -> None:
    if not await desk.keys.revoke(arguments.key_id, at=desk.clock.now()):
        raise Unusable(f"there is no key {arguments.key_id!r:.80} that could be revoked: `keys list` shows them")
    if arguments.json:
        _print_json({"key_id": arguments.key_id, "is_revoked": True})
    else:
        print(f"key {arguments.key_id} is revoked")


async def _list_keys(desk: Desk, arguments: argparse.Namespace) -> None:
    keys = [_key_view(it) for it in await desk.keys.list_keys(arguments.account)]
    if arguments.json:
        _print_json(keys)
        return
    rows = [
        (it["key_id"], it["account_id"], _when(it["created_at"]), _when(it["revoked_at"]), ",".join(it["scopes"]),
         it["name"])
        for it in keys
    ]  # fmt: skip
    _print_table(("KEY", "ACCOUNT", "CREATED", "REVOKED", "SCOPES", "NAME"), rows)


async def _list_jobs(desk: Desk, arguments: argparse.Namespace) -> None:
    state = JobState(arguments.state) if arguments.state else None
    jobs = await desk.jobs.list_all(account_id=arguments.account, state=state, limit=arguments.limit)
    if arguments.json:
        _print_json([_job_view(it) for it in jobs])
        return
    rows = [
        (it.job_id, it.account_id, _when(it.created_at), it.state.value, it.money.value,
         credits_text(it.charged_microcredits), f"{it.provider}/{it.request.model}", it.cause)
        for it in jobs
    ]  # fmt: skip
    _print_table(("JOB", "ACCOUNT", "CREATED", "STATE", "MONEY", "CHARGED", "MODEL", "CAUSE"), rows)


async def _list_providers(desk: Desk, arguments: argparse.Namespace) -> None:
    found = await desk.capabilities.list_all()
    views = [
        {
            "provider": provider.provider_id,
            "model": model,
            "is_simulated": provider.is_simulated,
            "findings": {it.feature: it.support.value for it in found if (it.provider, it.model) == (name, model)},
        }
        for name, provider in desk.providers.items()
        for model in provider.models()
    ]
    if arguments.json:
        _print_json(views)
        return
    rows = [
        (
            str(it["provider"]),
            str(it["model"]),
            "simulated" if it["is_simulated"] else "real",
            _findings(it["findings"]),
        )
        for it in views
    ]
    _print_table(("PROVIDER", "MODEL", "KIND", "FOUND OUT"), rows)


def _findings(found: object) -> str:
    assert isinstance(found, dict)
    return ", ".join(f"{feature}: {support}" for feature, support in sorted(found.items())) or "-"


async def _show_job(desk: Desk, arguments: argparse.Namespace) -> None:
    job = await desk.jobs.get(arguments.job_id)
    if job is None:
        raise Unusable(f"there is no job {arguments.job_id!r:.80}: `jobs` lists them")
    attempts = await desk.jobs.attempts(job.job_id)
    assets = await desk.assets.of_job(job.job_id)
    audit = await desk.jobs.audit(job.job_id)
    if arguments.json:
        lines = [{"at": at, "finding": finding, "detail": detail} for at, finding, detail in audit]
        view = _job_view(job) | {
            "attempts": [asdict(it) for it in attempts],
            "assets": [asdict(it) for it in assets],
            "audit": lines,
        }
        _print_json(view)
        return
    text = job_text(
        job.state,
        cause=job.cause,
        money=job.money,
        held_microcredits=job.held_microcredits,
        charged_microcredits=job.charged_microcredits,
    )
    print(_plain(f"job {job.job_id} of {job.account_id}: {job.state.value}. {text}"))
    print(
        f"{job.request.operation.value} of {job.request.n} by {job.provider}/{job.request.model}"
        f"{' (simulated)' if job.is_simulated else ''}, created {_when(job.created_at)}, "
        f"ended {_when(job.finished_at)}"
    )
    print(
        f"money: {job.money.value}; held {credits_text(job.held_microcredits)}, charged "
        f"{credits_text(job.charged_microcredits)} credits by price version {job.price_version}"
    )
    if job.detail:
        print(_plain(f"detail: {job.detail}"))
    if job.next_check_at is not None:
        print(f"looked at next: {_when(job.next_check_at)}")
    if attempts:
        print("\nattempts")
        _print_table(
            ("N", "WORKER", "SUBMITTED", "ENDED", "OUTCOME", "CAUSE", "PROVIDER ID"),
            [
                (str(it.attempt), it.worker_id, _when(it.submitted_at), _when(it.ended_at), it.outcome, it.cause,
                 it.provider_request_id or "")
                for it in attempts
            ],
        )  # fmt: skip
    if assets:
        print("\npictures")
        _print_table(
            ("ASSET", "TYPE", "SIZE", "BYTES", "DOWNLOADS", "SHA-256"),
            [
                (it.asset_id, it.media_type, f"{it.width}x{it.height}", str(it.n_bytes), str(it.n_downloads), it.sha256)
                for it in assets
            ],
        )
    if audit:
        print("\naudit")
        _print_table(("AT", "FINDING", "DETAIL"), [(_when(at), finding, detail) for at, finding, detail in audit])


async def _sweep(desk: Desk, arguments: argparse.Namespace) -> None:
    swept = await desk.sweep.once()
    if arguments.json:
        _print_json(asdict(swept))
    elif not swept.is_ours:
        print("another process is sweeping at this moment; nothing was done")
    else:
        print(f"{swept.n_jobs} jobs looked at, {swept.n_orphans} holds without a job given back")


def _job_view(job: Job) -> dict[str, Any]:
    """Return a job without its prompt and references: those are its owner's."""
    fields: dict[str, Any] = msgspec.to_builtins(job)
    request = fields.pop("request")
    fields.pop("fingerprint")
    return fields | {key: request[key] for key in ("operation", "model", "n", "size", "quality")}


def _key_view(key: ApiKey) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "account_id": key.account_id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }


def _write_secret(path: str, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Unusable(f"could not write the key to {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{text}\n")


def _when(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S") if at is not None else "-"


def _print_json(value: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [heads, *([_plain(cell) for cell in row] for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(heads))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _plain(cell: str) -> str:
    """Return what a terminal may print: no control characters out of a provider's words or a key's name."""
    return "".join(it if it.isprintable() else "?" for it in cell)
