"""How long a venue wants us to wait, by what it answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Without Retry-After: after "too many requests" and after a ban, whose shortest at Binance is two minutes.
WAIT_UNTOLD_S: Final = 5.0
BAN_UNTOLD_S: Final = 600.0
# The longest ban that a venue announces: three days.
WAIT_MAX_S: Final = 3 * 86_400.0


# What ccxt's own reading raises where an answer has another form than it was written for.
UNREADABLE: Final = (AttributeError, IndexError, KeyError, TypeError, ValueError)


def told_to_wait_s(headers: Mapping[str, str] | None, error: Exception) -> float:
    """
    Return the seconds to wait after 429 or 418, as Retry-After says; asking during a ban makes it longer.

    headers: of the answer, as ccxt keeps them.
    """
    told = {name.lower(): value for name, value in (headers or {}).items()}.get("retry-after", "")
    try:
        return min(max(float(told), 0.0), WAIT_MAX_S)
    except ValueError:
        return BAN_UNTOLD_S if " 418 " in f" {error} " else WAIT_UNTOLD_S
