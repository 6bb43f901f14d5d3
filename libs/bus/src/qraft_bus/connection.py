"""How the client connects, and what FastStream is kept from doing."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from faststream import BaseMiddleware

from qraft_bus.fatal import Fatal

_RECONNECT_PAUSE_S: Final = 0.25
# Three unanswered pings, so a frozen server is noticed within 8 s (nats-py's own default: 6 minutes).
_PING_INTERVAL_S: Final = 2
_PINGS_OUTSTANDING_MAX: Final = 2


def connection_options() -> dict[str, Any]:
    """Return how the client connects and reconnects; nats-py's types want whole seconds where it takes fractions."""
    return {
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": _RECONNECT_PAUSE_S,
        "connect_timeout": 2,
        "ping_interval": _PING_INTERVAL_S,
        "max_outstanding_pings": _PINGS_OUTSTANDING_MAX,
        "drain_timeout": 5,
        "allow_reconnect": True,
    }


def quiet_logger() -> logging.Logger:
    """Return FastStream's logger: it logs two INFO lines a message; its warnings and errors stay."""
    logger = logging.getLogger("qraft_bus.faststream")
    logger.setLevel(logging.WARNING)
    return logger


async def raw_messages(message: Any) -> Any:
    """Return the messages as they came; FastStream's decoder would try every payload as JSON."""
    return message.raw_message


class SurfaceErrors(BaseMiddleware[Any, Any]):
    """FastStream swallows what a consumer raises. Handlers' errors are judged in `consume`; here is the rest: ours."""

    def __init__(self, message: Any, /, *, context: Any, fatal: Fatal) -> None:
        super().__init__(message, context=context)
        self._fatal = fatal

    async def after_processed(
        self, exc_type: type[BaseException] | None = None, exc_val: BaseException | None = None, exc_tb: Any = None
    ) -> bool | None:
        """Declare the bus fatal for any exception that came this far."""
        if exc_val is not None and not isinstance(exc_val, asyncio.CancelledError):
            self._fatal.declare(f"bug or lost connection while receiving: {exc_val!r}")
        return await super().after_processed(exc_type, exc_val, exc_tb)
