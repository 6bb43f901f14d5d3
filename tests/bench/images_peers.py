"""
What the gateway is measured against: a bare FastAPI app and LiteLLM's proxy, each in an environment of its own.

They are no dependencies of ours: pip installs the pinned versions into a cache folder outside of the repository
(QRAFT_BENCH_CACHE, default ~/.cache/qraft-bench), once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx

from qraft_cli.stack.ports import free_port

FASTAPI: Final = ("fastapi==0.165.0", "uvicorn==0.54.0", "uvloop==0.22.1", "httptools==0.9.0")
LITELLM: Final = ("litellm[proxy]==1.106.2",)
_INSTALL_TIMEOUT_S: Final = 900.0
_START_TIMEOUT_S: Final = 120.0  # LiteLLM imports for ten seconds on a quiet machine
_STOP_TIMEOUT_S: Final = 10.0


class PeerMissing(Exception):
    """The environment could not be made; the text says why."""


def python_with(requirements: tuple[str, ...]) -> Path:
    """
    Return the interpreter of an environment that has the requirements, made now if there is none.

    Raises:
        PeerMissing: if it cannot be made.
    """
    cache = Path(os.environ.get("QRAFT_BENCH_CACHE", "~/.cache/qraft-bench")).expanduser()
    name = hashlib.sha256(" ".join((sys.version, *requirements)).encode()).hexdigest()[:12]
    folder, python = cache / name, cache / name / "bin" / "python"
    if (folder / "whole").exists():
        return python
    print(f"  installing {' '.join(requirements)} into {folder}", flush=True)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(folder))
        _run(str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise PeerMissing(f"{' '.join(requirements)}: {' '.join(str(said).split())[-400:]}") from error
    (folder / "whole").touch()
    return python


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S)


@asynccontextmanager
async def bare_fastapi(folder: Path) -> AsyncIterator[tuple[int, int]]:
    """
    Serve a bare 202 with one process of uvicorn while the block runs; gives port and process.

    Raises:
        PeerMissing: if it cannot be installed.
    """
    python, port = python_with(FASTAPI), free_port()
    command = [
        str(python), "-m", "uvicorn", "--app-dir", str(Path(__file__).parent), "images_bare:app", "--port", str(port),
        "--no-access-log", "--log-level", "warning", "--loop", "uvloop", "--http", "httptools",
    ]  # fmt: skip
    async with _served(command, port, "/openapi.json", folder / "fastapi.log", {}) as pid:
        yield port, pid


@asynccontextmanager
async def litellm_proxy(folder: Path, *, upstream_port: int) -> AsyncIterator[tuple[int, int]]:
    """
    Serve LiteLLM's proxy while the block runs, one worker, without database, keys, logs or telemetry.

    Raises:
        PeerMissing: if it cannot be installed.
    """
    python, port = python_with(LITELLM), free_port()
    model = {"model": "openai/bench-image", "api_base": f"http://127.0.0.1:{upstream_port}/v1", "api_key": "none"}
    settings = {
        "model_list": [
            {"model_name": "bench-image", "litellm_params": model, "model_info": {"mode": "image_generation"}}
        ],
        "litellm_settings": {"telemetry": False},
    }
    config = folder / "litellm.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    command = [
        str(python.parent / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port),
        "--num_workers", "1", "--telemetry", "False",
    ]  # fmt: skip
    lean = {
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # so that it checks no key, which is faster
    }
    async with _served(command, port, "/health/liveliness", folder / "litellm.log", lean) as pid:
        yield port, pid


@asynccontextmanager
async def _served(command: list[str], port: int, path: str, log: Path, variables: dict[str, str]) -> AsyncIterator[int]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("QRAFT_", "PYTHON"))}
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=out, stderr=out, env=environment | variables, cwd=log.parent
        )
    try:
        await until_answered(f"http://127.0.0.1:{port}{path}", process, log)
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def until_answered(url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    """Wait until a server answers 200."""
    async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client, asyncio.timeout(_START_TIMEOUT_S):
        while True:
            assert process.returncode is None, f"it ended with {process.returncode}: {log.read_text()[-2000:]}"
            try:
                if (await client.get(url)).status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)
