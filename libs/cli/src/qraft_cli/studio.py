"""
The image half of `qraft run`, step by step: ledger and gateway, prices of the simulated provider, a funded account for
the demonstration and its API key. Every step may be repeated and is done once. Nothing here knows a real provider.
"""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from qraft_cli.rows import credits_text
from qraft_cli.stack.local import LocalStack
from qraft_cli.stack.ready import wait_until_ready
from qraft_cli.stack.servers import ServerCommand, ServerFailed
from qraft_cli.stack.services import IMAGE_STUDIO
from qraft_contracts.billing import MICROCREDITS_PER_CREDIT

DEMO_ACCOUNT: Final = "demo"
DEMO_CREDITS: Final = 1_000
MODEL: Final = "simulated-1"
_READY_TIMEOUT_S: Final = 60.0
_TIMEOUT_S: Final = 15.0

# Published at the first start only, so that an operator's own list is never replaced by it.
PRICES: Final = """\
# Prices of the SIMULATED provider, in credits. It draws labeled placeholders and costs nothing.
# After editing: qraft ledger prices FILE
[[price]]
provider = "simulated"
model = "simulated-1"
operation = ["generation", "edit", "variation"]
size = ["auto", "256x256", "512x512", "1024x1024", "1536x1024", "1024x1536", "1792x1024", "1024x1792"]
quality = ["auto", "low", "medium", "standard"]
per_image = "4"
per_reference = "0.5"

[[price]]
provider = "simulated"
model = "simulated-1"
operation = ["generation", "edit", "variation"]
size = ["auto", "256x256", "512x512", "1024x1024", "1536x1024", "1024x1536", "1792x1024", "1024x1792"]
quality = ["high", "hd", "xhigh", "max"]
per_image = "8"
per_reference = "0.5"
"""


@dataclass(frozen=True, slots=True)
class StudioOpened:
    """What a person needs to make a picture."""

    base_url: str
    key_file: Path
    available: str


async def open_studio(stack: LocalStack) -> StudioOpened:
    """
    Start billing, gateway and worker on running servers, and see to prices, the demonstration account and its key.

    Raises:
        ServerFailed: if a service does not get ready or refuses a step; the message names its log.
    """
    token = _own_token(stack.home.admin_token)
    for service in IMAGE_STUDIO:
        only = {"QRAFT_BILLING_ADMIN_TOKEN": token} if service.name == "svc_billing" else {}
        await stack.start_service(service.name, secrets=only)
    for name in ("svc_billing", "svc_imagegen"):
        if not await wait_until_ready(stack.http_ports[name], timeout_s=_READY_TIMEOUT_S):
            raise ServerFailed(f"{name} is not ready after {_READY_TIMEOUT_S:.0f} s; see {stack.home.logs}/{name}.log")
    async with httpx.AsyncClient(
        base_url=stack.billing_url, headers={"authorization": f"Bearer {token}"}, timeout=_TIMEOUT_S
    ) as billing:
        await _publish_first_prices(stack, billing)
        available = await _fund(billing)
    await _make_key(stack, stack.home.demo_key)
    await _make_key(stack, stack.home.operator_key, "images:write", "images:read", "admin")
    return StudioOpened(stack.gateway_url, stack.home.demo_key, available)


def _own_token(path: Path) -> str:
    """Return the admin token of this home, made at the first start."""
    if not _read_secret(path):
        write_secret(path, secrets.token_urlsafe(32))
    return _read_secret(path)


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read, in one step."""
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    temporary.write_text(f"{text}\n")
    temporary.rename(path)


async def _publish_first_prices(stack: LocalStack, billing: httpx.AsyncClient) -> None:
    file = stack.home.prices
    if not file.exists():
        file.write_text(PRICES)
    if (await _call(billing, "GET", "/api/prices"))["version"] == 0:
        await run_command(stack, "svc_billing", "prices", str(file))


async def _fund(billing: httpx.AsyncClient) -> str:
    """Open the demonstration account and grant its credits, once; return what is available, in credits."""
    reason = "demonstration; not paid for"
    body: dict[str, Any] = {"operation_id": "qraft-run/open-demo", "account_id": DEMO_ACCOUNT, "reason": reason}
    await _call(billing, "POST", "/api/accounts", body)
    body = {
        "operation_id": "qraft-run/fund-demo",
        "grant_id": "qraft-run/demo",
        "amount_microcredits": DEMO_CREDITS * MICROCREDITS_PER_CREDIT,
        "is_promotional": True,
        "reason": reason,
    }
    await _call(billing, "POST", f"/api/accounts/{DEMO_ACCOUNT}/grants", body)
    account = (await _call(billing, "GET", f"/api/accounts/{DEMO_ACCOUNT}"))["account"]
    return credits_text(account["balance"]["available_microcredits"])


async def _make_key(stack: LocalStack, file: Path, *scopes: str) -> None:
    """Make an API key of the demonstration account unless the one in the home works."""
    if key := _read_secret(file):
        async with httpx.AsyncClient(timeout=_TIMEOUT_S) as client:
            response = await client.get(f"{stack.gateway_url}/models", headers={"authorization": f"Bearer {key}"})
        if response.status_code == httpx.codes.OK:
            return
        _forget(file)
    asked = [word for scope in scopes for word in ("--scope", scope)]
    named = ("--name", f"qraft run, {file.stem}", "--key-file", str(file))
    await run_command(stack, "svc_imagegen", "keys", "create", DEMO_ACCOUNT, *named, *asked)


def _read_secret(file: Path) -> str:
    return file.read_text().strip() if file.exists() else ""


def _forget(file: Path) -> None:
    file.unlink(missing_ok=True)


async def _call(client: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    try:
        response = await client.request(method, path, json=body)
    except httpx.HTTPError as error:
        raise ServerFailed(f"svc_billing did not answer {method} {path}: {error!r}") from error
    if response.is_error:
        raise ServerFailed(f"svc_billing refused {method} {path}: {response.status_code} {response.text[:300]}")
    return response.json()


async def run_command(stack: LocalStack, module: str, *arguments: str) -> None:
    """
    Run one of a service's own sub-commands to its end.

    Raises:
        ServerFailed: if it exits with a failure; the message is the last line of its log.
    """
    name = f"{module}-{arguments[0]}"
    command = ServerCommand(name, (sys.executable, "-m", module, *arguments))
    process = await stack.supervisor.run_job(command, env=stack.service_env())
    await process.communicate()
    if process.returncode != 0:
        log = stack.home.logs / f"{name}.log"
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise ServerFailed(f"{name} ended with exit code {process.returncode}: {' '.join(last)[:600]}")
