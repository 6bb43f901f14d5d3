"""`python -m svc_imagegen`: the service, or one of the operator's sub-commands."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace

from pydantic import ValidationError

from qraft_contracts.outcomes import Transient
from qraft_runtime.wrong_settings import run_with_settings, wrong_settings
from qraft_telemetry import logs
from svc_imagegen.adapters.providers.config import ConfigError
from svc_imagegen.api.arguments import parse
from svc_imagegen.api.console import EXIT_FAILED, Unusable, execute
from svc_imagegen.app import NAME, open_desk, run


def main() -> int:
    """Run what the command line says and return its exit code."""
    if sys.argv[1:2] in (["accept"], ["probe"]):
        # Only these are clients of a gateway; a third of the service's start would go into their HTTP library.
        from svc_imagegen.adapters import operator_run

        return operator_run.main(sys.argv[1:])
    arguments = parse(sys.argv[1:])
    try:
        if arguments.command in (None, "serve"):
            return run_with_settings(NAME, run)
        logs.configure(NAME, level="WARNING")
        return asyncio.run(_run_command(arguments))
    except (Unusable, ConfigError) as error:
        return _fail(str(error))
    except Transient as error:
        return _fail(f"a server is away ({error.reason}: {error.detail})")
    except ValidationError as error:
        return _fail(f"settings are wrong: {wrong_settings(error)}")


async def _run_command(arguments: Namespace) -> int:
    async with open_desk(needs_bus=arguments.command == "sweep") as desk:
        return await execute(desk, arguments)


def _fail(message: str) -> int:
    print(f"svc_imagegen: {message}", file=sys.stderr)
    return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
