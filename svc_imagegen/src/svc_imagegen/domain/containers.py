"""How the four picture formats are cut into blocks. Bytes only: nothing in here decodes a pixel."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from svc_imagegen.domain.outcome import BadPicture

PNG: Final = "image/png"
JPEG: Final = "image/jpeg"
WEBP: Final = "image/webp"
GIF: Final = "image/gif"

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
# A 40 Mpx PNG in the smallest blocks that encoders write (8 KiB) has 20,000.
N_BLOCKS_MAX: Final = 65_536
# The next JPEG marker behind entropy-coded data: neither a stuffed zero nor a restart nor a fill byte.
_JPEG_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JPEG_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
JPEG_SOI: Final = 0xD8
JPEG_EOI: Final = 0xD9
JPEG_SOS: Final = 0xDA


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a container: data[start:end] is all of it, data[body:body_end] what it carries."""

    kind: bytes
    start: int
    body: int
    body_end: int
    end: int


def sniff(data: bytes) -> str:
    """
    Return the media type by content.

    Raises:
        BadPicture: `unsupported_type` for anything else, SVG, HTML and archives among them.
    """
    if data.startswith(PNG_SIGNATURE):
        return PNG
    if data.startswith(b"\xff\xd8\xff"):
        return JPEG
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WEBP
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return GIF
    raise BadPicture("unsupported_type", "expected a PNG, JPEG, WebP or GIF, received something else")


def png_blocks(data: bytes) -> Iterator[Block]:
    """Yield the chunks up to IEND, each with a right checksum."""
    at = len(PNG_SIGNATURE)
    for _ in range(N_BLOCKS_MAX):
        body = at + 8
        body_end = body + int.from_bytes(_take(data, at, 4), "big")
        kind = _take(data, at + 4, 4)
        checksum = int.from_bytes(_take(data, body_end, 4), "big")
        if zlib.crc32(memoryview(data)[at + 4 : body_end]) != checksum:
            raise BadPicture("corrupt", "a PNG chunk does not match its checksum")
        yield Block(kind, at, body, body_end, at := body_end + 4)
        if kind == b"IEND":
            return
    raise _too_many_blocks()


def webp_blocks(data: bytes) -> Iterator[Block]:
    """Yield the chunks of the RIFF form; the form's own length decides where they end."""
    at, form_end = 12, webp_end(data)
    for _ in range(N_BLOCKS_MAX):
        if at >= form_end:
            return
        body = at + 8
        body_end = body + int.from_bytes(_take(data, at + 4, 4), "little")
        end = body_end + (body_end - body) % 2
        if end > form_end:
            raise truncated()
        yield Block(data[at : at + 4], at, body, body_end, end)
        at = end
    raise _too_many_blocks()


def webp_end(data: bytes) -> int:
    """Return where the RIFF form ends by its own length."""
    end = 8 + int.from_bytes(_take(data, 4, 4), "little")
    if end > len(data):
        raise truncated()
    return end


def jpeg_blocks(data: bytes) -> Iterator[Block]:
    """Yield the segments up to EOI; a scan's block carries its header, and its end lies behind its coded data."""
    yield Block(bytes((JPEG_SOI,)), 0, 2, 2, 2)
    at = 2
    for _ in range(N_BLOCKS_MAX):
        while _take(data, at, 2) == b"\xff\xff":
            at += 1
        if data[at] != 0xFF:
            raise BadPicture("corrupt", "a JPEG segment does not begin with a marker")
        marker = data[at + 1]
        if marker == JPEG_EOI:
            yield Block(bytes((JPEG_EOI,)), at, at + 2, at + 2, at + 2)
            return
        body = body_end = at + 2
        if marker not in _JPEG_STANDALONE:
            body, body_end = at + 4, at + 2 + int.from_bytes(_take(data, at + 2, 2), "big")
        if body_end < body or body_end > len(data):
            raise truncated()
        end = _end_of_scan(data, body_end) if marker == JPEG_SOS else body_end
        yield Block(bytes((marker,)), at, body, body_end, end)
        at = end
    raise _too_many_blocks()


def gif_blocks(data: bytes) -> Iterator[Block]:
    """Yield the header with its color table, then extensions and frames up to the trailer."""
    flags = _take(data, 10, 1)[0]
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    yield Block(b"GIF", 0, 6, 13, at)
    for _ in range(N_BLOCKS_MAX):
        kind, body = _take(data, at, 1), at + 1
        if kind == b";":
            yield Block(b";", at, body, body, body)
            return
        if kind == b"!":
            body += 1
            start_of_parts = body
        elif kind == b",":
            flags = _take(data, at + 9, 1)[0]
            start_of_parts = at + 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        else:
            raise BadPicture("corrupt", "a GIF block is neither an extension nor a frame nor the end")
        end = _end_of_parts(data, start_of_parts)
        yield Block(kind, at, body, end, end)
        at = end
    raise _too_many_blocks()


def truncated() -> BadPicture:
    """Return the failure of bytes that end too early."""
    return BadPicture("truncated", "the picture's bytes end before the picture does")


def _end_of_scan(data: bytes, at: int) -> int:
    found = _JPEG_MARKER.search(data, at)
    if found is None:
        raise truncated()
    return found.start()


def _end_of_parts(data: bytes, at: int) -> int:
    """Return where a chain of GIF sub-blocks ends. Each is one length and as many bytes; a zero ends it."""
    while length := _take(data, at, 1)[0]:
        at += 1 + length
    return at + 1


def _take(data: bytes, at: int, n: int) -> bytes:
    taken = data[at : at + n]
    if len(taken) < n:
        raise truncated()
    return taken


def _too_many_blocks() -> BadPicture:
    return BadPicture("corrupt", f"expected at most {N_BLOCKS_MAX} blocks in a picture")
