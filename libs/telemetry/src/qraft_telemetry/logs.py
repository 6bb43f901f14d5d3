"""Structured logs: JSON unless a person is watching. One line per unit of work, at its end, named noun.verb."""

from __future__ import annotations

import logging
import sys
from typing import Any, cast

import structlog

# Keys whose values never reach a log, whatever the caller passes.
_SECRET_KEYS = frozenset({"password", "token", "api_key", "authorization", "secret", "dsn", "postgres_dsn"})


def _redact(_logger: object, _method: str, event: Any) -> Any:
    for key in _SECRET_KEYS & event.keys():
        event[key] = "[redacted]"
    return event


def configure(service: str, *, level: str = "INFO", json: bool | None = None) -> None:
    """
    Set up logging for the process. Logs go to standard error, so standard output stays for results.

    Args:
        service: bound to every line.
        level: DEBUG, INFO, WARNING or ERROR.
        json: None = JSON unless standard error is a terminal.
    """
    as_json = not sys.stderr.isatty() if json is None else json
    renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    numeric_level = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _redact,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(numeric_level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
    # Libraries log through the standard module: warnings and worse, in the same place.
    logging.basicConfig(stream=sys.stderr, level=max(numeric_level, logging.WARNING), force=True)


def get() -> structlog.typing.FilteringBoundLogger:
    """Return the process's logger."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())
