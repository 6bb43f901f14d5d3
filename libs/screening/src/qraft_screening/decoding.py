"""Read an artefact back, and refuse what is none: one rule for reports, references and watches."""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec


class Artefact(Protocol):
    """What names its own format."""

    @property
    def format(self) -> str:
        """Return the format's name and version."""


A = TypeVar("A", bound=Artefact)


def decoded(data: bytes, kind: type[A], *, form: str, remedy: str) -> A:
    """
    Return what JSON bytes hold.

    Args:
        form: the format that the artefact must name.
        remedy: what to do about another one.

    Raises:
        ValueError: if they hold no such artefact.
    """
    try:
        found = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"expected {form} as JSON: {error}; {remedy}") from error
    if found.format != form:
        raise ValueError(f"expected {form}, received {found.format!r}: {remedy}")
    return found
