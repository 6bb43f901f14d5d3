"""Small pictures that a check of a provider sends along: blocks of color, and a mask with a hole. No library needed."""

from __future__ import annotations

import struct
import zlib
from typing import Final

from svc_imagegen.domain.containers import PNG_SIGNATURE

SIDE: Final = 512  # the smallest side that every provider of edits takes


def sample_card(*, hue: int) -> bytes:
    """Return a PNG of a light ground with a colored square in the middle. hue: 0 red, 1 green, 2 blue."""
    ground, ink = bytes((236, 236, 232)), bytearray((40, 40, 40))
    ink[hue % 3] = 210
    return _png(ground, bytes(ink), color_type=2)


def sample_mask() -> bytes:
    """Return a PNG that is opaque but for a square hole in the middle, where an edit may paint."""
    return _png(bytes((0, 0, 0, 255)), bytes((0, 0, 0, 0)), color_type=6)


def _png(ground: bytes, ink: bytes, *, color_type: int) -> bytes:
    quarter = SIDE // 4
    plain = b"\0" + ground * SIDE
    marked = b"\0" + ground * quarter + ink * (2 * quarter) + ground * quarter
    rows = plain * quarter + marked * (2 * quarter) + plain * quarter
    header = struct.pack("!IIBBBBB", SIDE, SIDE, 8, color_type, 0, 0, 0)
    return PNG_SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack("!I", len(body)) + kind + body + struct.pack("!I", zlib.crc32(kind + body))
