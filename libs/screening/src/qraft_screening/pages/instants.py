"""Microseconds as instants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def instant(micros: int) -> datetime:
    """Return the UTC instant of microseconds since 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
