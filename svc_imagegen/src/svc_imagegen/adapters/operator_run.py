"""
`python -m svc_imagegen.adapters.operator_run accept|probe`: the operator's checks of providers, over the HTTP API.

Exit codes: 0 all is well; 2 something required is missing, unknown, refused or simulated.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from qraft_runtime.clock import SystemClock
from qraft_runtime.settings import CommonSettings
from svc_imagegen.adapters.acceptance_report import page, table
from svc_imagegen.adapters.gateway_http import HttpGateway
from svc_imagegen.domain.acceptance import cells
from svc_imagegen.domain.failures import credits_text
from svc_imagegen.usecases.acceptance import Acceptance, AcceptanceTerms, Refusal

EXIT_OK: Final = 0
EXIT_LACKING: Final = 2
KEY_VARIABLE: Final = "QRAFT_API_KEY"
URL_VARIABLE: Final = "QRAFT_GATEWAY_URL"
_URL: Final = "http://127.0.0.1:8710"
_FINAL: Final = ("succeeded", "failed", "canceled", "uncertain")
_FINDING_WAIT_S: Final = 5.0  # a finding is recorded right after its job has ended

Say = Callable[[str], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. The key comes from the environment only: arguments are seen by all."""
    asked = _parser().parse_args(arguments)
    key = os.environ.get(KEY_VARIABLE, "")
    if not key:
        _say(f"expected an API key in the environment variable {KEY_VARIABLE}, found none")
        return EXIT_LACKING
    command = _accept if asked.command == "accept" else _probe
    try:
        return asyncio.run(command(asked, key))
    except Refusal as refusal:
        _say(f"refused: {refusal}")
        return EXIT_LACKING


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="qraft images", description="Checks of image providers.")
    commands = parser.add_subparsers(dest="command", required=True)
    accept = commands.add_parser("accept", help="run the acceptance matrix; it makes and pays for pictures")
    accept.add_argument("only", nargs="*", help="providers, or provider/model; default: all")
    accept.add_argument(
        "--size", action="append", dest="sizes", help="may be repeated; default 1024x1024 and 1536x1024"
    )
    accept.add_argument("--format", action="append", dest="formats", choices=("png", "jpeg", "webp"))
    accept.add_argument("--quality", default="low")
    accept.add_argument("--credits-max", type=int, default=1_000, help="run nothing if it could cost more")
    accept.add_argument("--allow-simulated", action="store_true", help="run simulated models too; they never count")
    reports = CommonSettings().home / "reports" / "images"
    accept.add_argument("--out", type=Path, default=reports, help=f"folder of the report; default {reports}")
    accept.add_argument("--timeout-s", type=float, default=780.0, help="of one job")
    probe = commands.add_parser("probe", help="find out what a provider can do; tells the price and stops there")
    probe.add_argument("provider")
    probe.add_argument("--model")
    probe.add_argument("--feature", help="also one that is known, such as output_format:webp")
    probe.add_argument("--spend", action="store_true", help="make the calls and pay for them")
    probe.add_argument("--timeout-s", type=float, default=780.0, help="of one job")
    for command in (accept, probe):
        url = os.environ.get(URL_VARIABLE, _URL)
        command.add_argument("--url", default=url, help=f"the gateway; default {URL_VARIABLE}, else {_URL}")
        command.add_argument("--poll-s", type=float, default=1.0, help=argparse.SUPPRESS)
    return parser


async def _accept(asked: argparse.Namespace, key: str) -> int:
    terms = AcceptanceTerms(
        gateway=asked.url,
        cells=cells(
            sizes=asked.sizes or ("1024x1024", "1536x1024"),
            formats=asked.formats or ("png", "jpeg", "webp"),
            quality=asked.quality,
        ),
        credits_max=asked.credits_max,
        allow_simulated=asked.allow_simulated,
        only=frozenset(asked.only),
        job_timeout_s=asked.timeout_s,
        poll_s=asked.poll_s,
    )
    async with HttpGateway(asked.url, key=key) as gateway:
        acceptance = Acceptance(terms, gateway=gateway, clock=SystemClock())
        models = await acceptance.models()
        total = await acceptance.total_microcredits(models)
        _say(f"{len(models)} models, {len(terms.cells)} cells each, up to {credits_text(total)} credits")
        matrix = await acceptance(models)
    _say(table(matrix))
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "acceptance.json").write_bytes(msgspec.json.format(msgspec.json.encode(matrix), indent=2))
    (asked.out / "acceptance.html").write_text(page(matrix), encoding="utf-8")
    _say(f"written: {asked.out / 'acceptance.json'}, {asked.out / 'acceptance.html'}")
    return EXIT_OK if matrix.is_accepted else EXIT_LACKING


async def _probe(asked: argparse.Namespace, key: str) -> int:
    async with HttpGateway(asked.url, key=key) as gateway:
        plan = await gateway.probe(asked.provider, model=asked.model, feature=asked.feature, spend=False)
        steps = plan["data"]
        if not steps:
            _say("nothing is unknown")
            return EXIT_OK
        for step in steps:
            price = f"{step['credits']} credits" if step["credits"] is not None else "no price is known: not called"
            _say(f"{step['provider']}/{step['model']}  {step['feature']}  {price}")
        _say(f"up to {plan['total_credits']} credits in all")
        if not asked.spend:
            _say("nothing was called; add --spend to make these calls and pay for them")
            return EXIT_LACKING
        made = await gateway.probe(asked.provider, model=asked.model, feature=asked.feature, spend=True)
        outcomes = [await _outcome(gateway, it, asked) for it in made["data"]]
    return EXIT_OK if all(outcomes) else EXIT_LACKING


async def _outcome(gateway: HttpGateway, step: dict[str, Any], asked: argparse.Namespace) -> bool:
    """Wait for one probe, say what it found, and return whether that is known now."""
    name = f"{step['provider']}/{step['model']}  {step['feature']}"
    job_id = step["job_id"]
    if job_id is None:
        _say(f"{name}  not called: {step['refusal']}")
        return False
    try:
        async with asyncio.timeout(asked.timeout_s):
            while True:
                job = await gateway.job(job_id)
                if job.state in _FINAL:
                    break
                await asyncio.sleep(asked.poll_s)
    except TimeoutError:
        _say(f"{name}  job {job_id} has no end yet; its finding is recorded when it has")
        return False
    support = await _finding(gateway, step, job_id, poll_s=asked.poll_s)
    _say(f"{name}  {support or 'still unknown'}  job {job_id}: {job.message}")
    return support is not None


async def _finding(gateway: HttpGateway, step: dict[str, Any], job_id: str, *, poll_s: float) -> str | None:
    key = (step["provider"], step["model"], step["feature"])
    try:
        async with asyncio.timeout(_FINDING_WAIT_S):
            while True:
                for it in await gateway.findings():
                    if (it["provider"], it["model"], it["feature"]) == key and job_id in it["evidence"]:
                        return str(it["support"])
                await asyncio.sleep(poll_s)
    except TimeoutError:
        return None


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
