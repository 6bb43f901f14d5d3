"""Messages of the bus as flat rows for people and for pipes."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from nats.aio.msg import Msg

from qraft_contracts import headers
from qraft_contracts.arrow_schemas import BARS_SCHEMA, FEATURES_SCHEMA
from qraft_contracts.billing import MICROCREDITS_PER_CREDIT
from qraft_contracts.outcomes import Malformed
from qraft_contracts.times import format_instant
from qraft_frames.bars import BarBatch, decode_bars
from qraft_frames.features import decode_features

Row = dict[str, Any]

# Fields that say what a row is about come first, whatever the message.
_FIRST = ("subject", "as_of", "at", "symbol", "horizon", "side", "job_id", "account_id", "kind", "state", "column")
# Left out of a line for people: said by the subject, or a chain that only a program compares.
_NEVER_READ = frozenset({"transition", "prev_hash", "account_seq"})
_HASH_LENGTH = 12


def decode_rows(message: Msg) -> list[Row]:
    """
    Return the rows of one message: one a symbol for Arrow payloads and signals, else one a message.

    Raises:
        Malformed: if the payload does not fit its schema header.
    """
    found = message.headers or {}
    schema = found.get(headers.SCHEMA, "")
    if schema == BARS_SCHEMA and not message.subject.startswith("deadletter."):
        return _bar_rows(message)
    if schema == FEATURES_SCHEMA and not message.subject.startswith("deadletter."):
        return _feature_rows(message)
    if message.subject.startswith("deadletter."):
        return [_dead_letter_row(message, dict(found))]
    try:
        payload = msgspec.json.decode(message.data)
    except msgspec.DecodeError as error:
        raise Malformed("undecodable", f"{len(message.data)} bytes of schema {schema or 'unknown'}: {error}") from error
    if not isinstance(payload, dict):
        return [{"subject": message.subject, "value": payload}]
    if "rows" in payload:
        return _signal_rows(message.subject, payload)
    return [{"subject": message.subject, **payload}]


def _bar_rows(message: Msg) -> list[Row]:
    batch = decode_bars(message.data)
    common = {"subject": message.subject, "as_of": format_instant(batch.closed_at), "origin": batch.origin.value}
    return [
        {
            **common,
            "symbol": symbol,
            "open": float(batch.open[i]),
            "high": float(batch.high[i]),
            "low": float(batch.low[i]),
            "close": float(batch.close[i]),
            "volume": float(batch.volume[i]),
            "revision": batch.revision,
            **_state_of(batch, i),
        }
        for i, symbol in enumerate(batch.symbols)
    ]


def _state_of(batch: BarBatch, i: int) -> Row:
    """Return what the message says of a symbol beside its bar; what was not known is left out."""
    return {name: float(values[i]) for name, values in batch.state.items() if math.isfinite(values[i])}


def _feature_rows(message: Msg) -> list[Row]:
    batch = decode_features(message.data)
    common = {"subject": message.subject, "as_of": format_instant(batch.as_of), "origin": batch.origin.value}
    return [
        {**common, "symbol": symbol, **dict(zip(batch.names, map(float, batch.values[i]), strict=True))}
        for i, symbol in enumerate(batch.symbols)
    ]


def _signal_rows(subject: str, payload: Row) -> list[Row]:
    common = {key: payload[key] for key in ("as_of", "horizon", "origin", "model_id", "cost") if key in payload}
    rows = [{"subject": subject, **common, **row} for row in payload["rows"]]
    refused = [{"subject": subject, **common, **row} for row in payload.get("refused", ())]
    return rows + refused or [{"subject": subject, **common, "reason": payload.get("reason")}]


def _dead_letter_row(message: Msg, found: dict[str, str]) -> Row:
    return {"subject": message.subject, "n_bytes": len(message.data), **found}


def matches(row: Row, where: list[tuple[str, str]]) -> bool:
    """Return whether every named field has the given text."""
    return all(name in row and _text(row[name]) == value for name, value in where)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    return "-" if value is None else str(value)


def format_row(row: Row) -> str:
    """Return a row as one line: what it is about first, then field=value; credits, not micro-credits."""
    shown = {name: value for name, value in row.items() if name not in _NEVER_READ}
    lead = [f"{_text(shown[name]):<12}" for name in _FIRST if shown.get(name) is not None]
    rest = [_field(name, value) for name, value in shown.items() if name not in _FIRST]
    return " ".join([*lead, *filter(None, rest)])


def _field(name: str, value: Any) -> str:
    """Return one field for people, "" for one that says nothing."""
    if name.endswith("_microcredits") and isinstance(value, int):
        return f"{name.removesuffix('_microcredits')}={credits_text(value)}"
    if name == "postings" and isinstance(value, list):
        return " ".join(map(_posting, value))
    if name == "details" and isinstance(value, dict):
        return " ".join(f"{key}={_text(detail)}" for key, detail in value.items())
    if name == "hash":
        return f"hash={_text(value)[:_HASH_LENGTH]}"
    return "" if value in ("", []) else f"{name}={_text(value)}"


def _posting(posting: Any) -> str:
    amount = credits_text(posting["amount"]) if posting["unit"] == "microcredit" else f"{posting['amount']:+,}"
    unit = "" if posting["unit"] == "microcredit" else f" {posting['unit']}"
    return f"[{posting['account']} {amount}{unit}]"


def credits_text(amount_microcredits: int) -> str:
    """Return micro-credits as credits, exact: 4500000 is 4.5."""
    whole, part = divmod(abs(amount_microcredits), MICROCREDITS_PER_CREDIT)
    sign = "-" if amount_microcredits < 0 else ""
    return f"{sign}{whole:,}" + (f".{part:06d}".rstrip("0") if part else "")
