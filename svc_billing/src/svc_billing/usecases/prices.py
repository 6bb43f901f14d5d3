"""The price file that an operator writes: TOML, prices in credits, one table a group of calls."""

from __future__ import annotations

import hashlib
import itertools
import tomllib
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

import msgspec

from svc_billing.domain.prices import N_RULES_MAX, PriceList, PriceRule
from svc_billing.usecases.credits import credits_of, format_credits

PRICE_FILE_BYTES_MAX: Final = 4 << 20
_TEXTS: Final = ("provider", "model")
_LISTS: Final = ("operation", "size", "quality")  # one name or several
_PRICES: Final = ("per_image", "per_reference")
_EXAMPLE: Final = (
    '[[price]] provider = "simulated" model = "simulated-1" operation = ["generation", "edit"] size = "1024x1024" '
    'quality = "high" per_image = "4"'
)


def read_price_file(text: str) -> tuple[PriceRule, ...]:
    """
    Return the rules of a price file.

    operation, size and quality may be lists: the price then holds for every combination. Prices are credits, as text
    or as numbers; a number is read as it is written and never through a float.

    Raises:
        ValueError: if it is no such file; says which table is wrong, and how.
    """
    try:
        found = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"expected a price file in TOML: {error}") from error
    tables = found.pop("price", None)
    if found or not isinstance(tables, list) or not tables:
        raise ValueError(f"expected only tables such as {_EXAMPLE}, received {sorted(found) or 'none'}")
    rules: list[PriceRule] = []
    for number, table in enumerate(tables, start=1):
        try:
            rules.extend(itertools.islice(_rules_of(table), N_RULES_MAX + 1))
        except ValueError as error:
            raise ValueError(f"[[price]] number {number}: {error}") from error
        if len(rules) > N_RULES_MAX:
            raise ValueError(f"expected at most {N_RULES_MAX} prices in one list")
    return tuple(rules)


def write_price_file(rules: Iterable[PriceRule]) -> str:
    """Return a price file that reads as these rules, one table a rule."""
    return "\n".join(
        "\n".join(
            (
                "[[price]]",
                *(f"{name} = {_toml_text(getattr(rule, name))}" for name in (*_TEXTS, *_LISTS)),
                f'per_image = "{format_credits(rule.per_image_microcredits)}"',
                f'per_reference = "{format_credits(rule.per_reference_microcredits)}"',
                "",
            )
        )
        for rule in rules
    )


def is_current(rules: Iterable[PriceRule], prices: PriceList) -> bool:
    """Return whether a list says the same as the published one, in any order."""
    return {rule.key: rule for rule in rules} == prices.rules


def prices_operation_id(rules: Iterable[PriceRule], *, after_version: int) -> str:
    """
    Return the id under which a list follows a version.

    The same list may come back later, so its content alone would not do; sent twice after the same version it is one
    operation.
    """
    ordered = sorted(rules, key=lambda rule: rule.key)
    return f"prices/{after_version + 1}/{hashlib.sha256(msgspec.json.encode(ordered)).hexdigest()[:16]}"


def _rules_of(table: dict[str, Any]) -> Iterator[PriceRule]:
    if not isinstance(table, dict):
        raise ValueError(f"expected a table, received {table!r:.80}")
    unknown = sorted(set(table) - {*_TEXTS, *_LISTS, *_PRICES})
    missing = sorted({*_TEXTS, *_LISTS, "per_image"} - set(table))
    if unknown or missing:
        raise ValueError(f"missing {', '.join(missing) or 'nothing'}, unknown {', '.join(unknown) or 'nothing'}")
    provider, model = (_name(table[key], key) for key in _TEXTS)
    choices = [_names(table[key], key) for key in _LISTS]
    amounts = [_price(table.get(key, 0), key) for key in _PRICES]
    for operation, size, quality in itertools.product(*choices):
        yield PriceRule(provider, model, operation, size, quality, *amounts)


def _name(value: object, key: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected {key} to be a name, received {value!r:.80}")
    return value


def _names(value: object, key: str) -> list[str]:
    found = value if isinstance(value, list) else [value]
    if not found:
        raise ValueError(f"expected {key} to hold at least one name")
    return [_name(it, key) for it in found]


def _price(value: Any, key: str) -> int:
    try:
        return credits_of(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def _toml_text(text: str) -> str:
    # A JSON string is a TOML basic string, but for DEL, which check_rules does not let into a price list.
    return msgspec.json.encode(text).decode()
