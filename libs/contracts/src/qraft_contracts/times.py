"""Instants on the wire: UTC, ISO 8601, `Z`, no fraction unless there is one."""

from __future__ import annotations

from datetime import UTC, datetime


def format_instant(instant: datetime) -> str:
    """
    Return an instant as text, such as `2025-06-01T00:05:00Z`.

    Raises:
        ValueError: if the instant has no time zone.
    """
    if instant.tzinfo is None:
        raise ValueError(f"expected an instant with a time zone, received the naive {instant.isoformat()}")
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_instant(text: str) -> datetime:
    """
    Return the UTC instant that a text names.

    Raises:
        ValueError: if the text is no ISO 8601 instant or has no time zone.
    """
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"expected an instant with a time zone such as 2025-06-01T00:05:00Z, received {text!r}")
    return instant.astimezone(UTC)


def parse_typed_instant(text: str) -> datetime:
    """
    Return the UTC instant that an operator typed: 2025-06-01T00:00:00Z, or 2025-06-01 for its UTC midnight.

    Raises:
        ValueError: if the text names none.
    """
    instant = datetime.fromisoformat(text)
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
