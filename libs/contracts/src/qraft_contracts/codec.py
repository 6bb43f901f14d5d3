"""JSON on the wire, by msgspec: the one place where JSON messages are encoded and decoded."""

from __future__ import annotations

from functools import cache
from typing import TypeVar

import msgspec

from qraft_contracts.outcomes import Malformed

T = TypeVar("T", bound=msgspec.Struct)

_ENCODER = msgspec.json.Encoder(order="deterministic")


def encode(message: msgspec.Struct) -> bytes:
    """Return the message as JSON; equal messages give equal bytes."""
    return bytes(_ENCODER.encode(message))


@cache
def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind)


def decode(data: bytes, kind: type[T]) -> T:
    """
    Return the message in the bytes; fields that this version does not know are ignored.

    Raises:
        Malformed: if the bytes are no JSON or do not fit the message.
    """
    try:
        found: T = _decoder(kind).decode(data)
    # JSON nested tens of thousands deep ends in a RecursionError.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed("undecodable", f"expected {kind.__name__} as JSON: {error}") from error
    return found
