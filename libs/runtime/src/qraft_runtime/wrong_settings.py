"""What is wrong with the environment, said in one line by the names of the variables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from qraft_telemetry import logs

# Starting again does not help: a variable must be changed first.
EXIT_USAGE: Final = 2


def wrong_settings(error: ValidationError) -> str:
    """Return which variables hold what their settings cannot be, without the values: one may be a secret."""
    prefix = next(
        (it.model_config.get("env_prefix", "") for it in _kinds(BaseSettings) if it.__name__ == error.title), ""
    )
    return "; ".join(
        f"{prefix}{'_'.join(map(str, it['loc']))}".upper() + f": {it['msg']}"
        for it in error.errors(include_input=False)
    )


def run_with_settings(name: str, run: Callable[[], int]) -> int:
    """Run a service's main function; wrong settings are logged in one line, and the exit code is 2."""
    try:
        return run()
    except ValidationError as error:
        logs.configure(name)
        logs.get().error("service.refused", reason="bad_settings", detail=wrong_settings(error))
        return EXIT_USAGE


def _kinds(of: type[BaseSettings]) -> Iterator[type[BaseSettings]]:
    for kind in of.__subclasses__():
        yield kind
        yield from _kinds(kind)
