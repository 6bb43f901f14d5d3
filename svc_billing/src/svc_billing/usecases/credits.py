"""Credits as people write them, and the whole micro-credits that the ledger counts. Never through a float."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from qraft_contracts.billing import MICROCREDITS_PER_CREDIT
from svc_billing.domain.prices import AMOUNT_MAX

_N_DECIMALS: Final = 6
_CREDITS: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,6})?")


def parse_credits(text: str) -> int:
    """
    Return the micro-credits of an amount such as `12` or `0.000001`.

    Raises:
        ValueError: unless the text is a plain decimal of at most 6 places, from 0 to 1,000,000,000 credits.
    """
    if not _CREDITS.fullmatch(text):
        raise ValueError(
            f"expected credits as a plain decimal with at most 6 places, such as 12.5, received {text!r:.60}"
        )
    whole, _, places = text.partition(".")
    amount = int(whole) * MICROCREDITS_PER_CREDIT + int(places.ljust(_N_DECIMALS, "0"))
    if amount > AMOUNT_MAX:
        raise ValueError(f"expected at most {format_credits(AMOUNT_MAX)} credits, received {text}")
    return amount


def credits_of(number: int | Decimal | str) -> int:
    """Return the micro-credits of a number out of a TOML file that was read with `parse_float=Decimal`."""
    if isinstance(number, bool) or not isinstance(number, int | Decimal | str):
        raise ValueError(f"expected credits as a number or as text, received {number!r:.60}")
    return parse_credits(format(number, "f") if isinstance(number, Decimal) else str(number))


def format_credits(microcredits: int) -> str:
    """Return micro-credits as credits, without needless zeros: 12500000 is `12.5`."""
    sign = "-" if microcredits < 0 else ""
    whole, places = divmod(abs(microcredits), MICROCREDITS_PER_CREDIT)
    return f"{sign}{whole}.{places:06d}".rstrip("0").rstrip(".")
