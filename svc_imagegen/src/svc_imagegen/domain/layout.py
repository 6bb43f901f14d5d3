"""What a picture's own headers say, without decoding it: type, size, frames, and where it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svc_imagegen.domain.containers import (
    GIF,
    JPEG,
    PNG,
    WEBP,
    Block,
    gif_blocks,
    jpeg_blocks,
    png_blocks,
    sniff,
    truncated,
    webp_blocks,
    webp_end,
)
from svc_imagegen.domain.outcome import BadPicture

# Start-of-frame markers; C4, C8 and CC in this range mean other things.
_JPEG_FRAMES: Final = frozenset(bytes((it,)) for it in range(0xC0, 0xD0) if it not in (0xC4, 0xC8, 0xCC))
# A progressive photo has about ten scans; each costs a pass over all of its pixels.
_N_SCANS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Layout:
    """
    A picture by its headers. width and height are the largest that any header claims.

    end: how many bytes belong to the picture; more than that is a payload behind it.
    """

    media_type: str
    width: int
    height: int
    n_frames: int
    end: int


def read_layout(data: bytes) -> Layout:
    """
    Return what the headers say, having walked the container to its end mark.

    Raises:
        BadPicture: no picture of a known type, not whole, or without a dimension.
    """
    media_type = sniff(data)
    layout = {PNG: _png, JPEG: _jpeg, WEBP: _webp, GIF: _gif}[media_type](data)
    if layout.width < 1 or layout.height < 1 or layout.n_frames < 1:
        raise BadPicture("corrupt", "the picture has no width, no height or no frame")
    return layout


def _png(data: bytes) -> Layout:
    size: tuple[int, int] | None = None
    n_frames, has_pixels, end = 1, False, 0
    for block in png_blocks(data):
        if size is None and block.kind != b"IHDR":
            raise BadPicture("corrupt", "a PNG begins with another chunk than IHDR")
        if block.kind == b"IHDR":
            size = _u32(data, block, 0), _u32(data, block, 4)
        elif block.kind == b"acTL":
            n_frames = _u32(data, block, 0)
        has_pixels |= block.kind == b"IDAT"
        end = block.end
    if size is None or not has_pixels:
        raise BadPicture("corrupt", "a PNG without pixels")
    return Layout(PNG, *size, n_frames, end)


def _jpeg(data: bytes) -> Layout:
    width = height = n_scans = end = 0
    for block in jpeg_blocks(data):
        if block.kind in _JPEG_FRAMES:
            body = _body(data, block, 5)
            height = max(height, int.from_bytes(body[1:3], "big"))
            width = max(width, int.from_bytes(body[3:5], "big"))
        n_scans += block.kind == b"\xda"
        end = block.end
    if n_scans > _N_SCANS_MAX:
        raise BadPicture("corrupt", f"expected at most {_N_SCANS_MAX} scans in a JPEG")
    return Layout(JPEG, width, height, min(1, n_scans), end)


def _webp(data: bytes) -> Layout:
    width = height = n_animated = n_still = 0
    for block in webp_blocks(data):
        found = (0, 0)
        if block.kind == b"VP8X":
            body = _body(data, block, 10)
            found = 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
        elif block.kind == b"VP8L":
            bits = int.from_bytes(_body(data, block, 5)[1:5], "little")
            found = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        elif block.kind == b"VP8 ":
            body = _body(data, block, 10)
            found = int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
        width, height = max(width, found[0]), max(height, found[1])
        n_animated += block.kind == b"ANMF"
        n_still += block.kind in (b"VP8 ", b"VP8L")
    return Layout(WEBP, width, height, n_animated or n_still, webp_end(data))


def _gif(data: bytes) -> Layout:
    width = height = n_frames = end = 0
    for block in gif_blocks(data):
        if block.kind == b"GIF":
            width, height = _u16_pair(data[6:10])
        elif block.kind == b",":
            # A frame may lie beyond the screen; decoders then make the screen larger.
            left, top = _u16_pair(data[block.body : block.body + 4])
            across, down = _u16_pair(data[block.body + 4 : block.body + 8])
            width, height = max(width, left + across), max(height, top + down)
            n_frames += 1
        end = block.end
    return Layout(GIF, width, height, n_frames, end)


def _body(data: bytes, block: Block, n: int) -> bytes:
    if block.body_end - block.body < n:
        raise truncated()
    return data[block.body : block.body_end]


def _u32(data: bytes, block: Block, offset: int) -> int:
    return int.from_bytes(_body(data, block, offset + 4)[offset : offset + 4], "big")


def _u16_pair(pair: bytes) -> tuple[int, int]:
    return int.from_bytes(pair[:2], "little"), int.from_bytes(pair[2:4], "little")
