"""Pictures, good and hostile, made here: nothing that could harm anybody lies in the repository."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageCms

from svc_imagegen.adapters.pictures import ProcessPictures

FORMATS = ("png", "jpeg", "webp", "gif")


@contextmanager
def quiet_bombs() -> Iterator[None]:
    """Let Pillow make what it would refuse to read."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def photo(width: int = 64, height: int = 48, mode: str = "RGB") -> Image.Image:
    """Return noise that no encoder turns into nothing; the same for the same arguments."""
    bands = Image.Image.getbands(Image.new(mode, (1, 1)))
    noise = random.Random(7).randbytes(width * height * len(bands))
    return Image.frombytes(mode, (width, height), noise)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    written = io.BytesIO()
    if kind == "gif":
        picture = picture.convert("P")
    picture.save(written, format=kind.upper(), **options)
    return written.getvalue()


def good(kind: str, width: int = 64, height: int = 48) -> bytes:
    return encoded(photo(width, height), kind)


def animated(kind: str, n_frames: int) -> bytes:
    frames = [Image.new("RGB", (16, 16), (97 * i % 256, 151 * i % 256, 90)) for i in range(n_frames)]
    written = io.BytesIO()
    frames[0].save(written, format="PNG" if kind == "png" else kind.upper(), save_all=True, append_images=frames[1:])
    return written.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack("!I", len(body)) + kind + body + struct.pack("!I", zlib.crc32(kind + body))


def png_of(width: int, height: int, *chunks: bytes, idat: bytes = b"") -> bytes:
    """Return a PNG whose header claims a size; its pixels are what is given."""
    header = png_chunk(b"IHDR", struct.pack("!IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + png_chunk(b"IDAT", idat) + png_chunk(b"IEND", b"")


def png_bomb(side: int) -> bytes:
    """Return a PNG of side x side pixels of one bit, really all there, in some hundred kilobytes."""
    row = bytes(1 + (side + 7) // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row * 100) for _ in range(side // 100)) + packer.flush()
    return png_of(side, side, idat=packed)


def gif_bomb(side: int) -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HH", side, side)
        + b"\x80\0\0"
        + bytes(6)
        + b","
        + struct.pack("<HHHH", 0, 0, side, side)
        + b"\0\x02\x02\x44\x01\0;"
    )


def with_text_bomb(kind: bytes) -> bytes:
    """Return a PNG with a compressed chunk that unpacks to 64 MiB."""
    packed = zlib.compress(bytes(64 << 20), 9)
    head = b"bomb\0\0" if kind in (b"zTXt", b"iCCP") else b"bomb\0\x01\0\0\0"
    data = good("png")
    return data[:33] + png_chunk(kind, head + packed) + data[33:]


def zip_of(name: str = "run.js") -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr(name, "alert(1)")
    return written.getvalue()


def polyglots() -> dict[str, bytes]:
    """Return pictures with something executable behind them."""
    return {
        "PNG and ZIP": good("png") + zip_of(),
        "GIF and JavaScript": good("gif") + b"/*GIF*/=1;alert(1)//",
        "JPEG and HTML": good("jpeg") + b"<html><script>alert(1)</script></html>",
        "WebP and ZIP": good("webp") + zip_of(),
    }


def no_pictures() -> dict[str, bytes]:
    """Return what providers and people send in place of pictures."""
    return {
        "HTML": b"<!doctype html><title>502 Bad Gateway</title>",
        "JSON": b'{"error": {"message": "no"}}',
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "SVG with a head": b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "b">]><svg/>',
        "PDF": b"%PDF-1.7\n",
        "ZIP": zip_of(),
        "TIFF": b"II*\0\x08\0\0\0" + bytes(64),
        "BMP": encoded(photo(), "bmp"),
        "AVIF": bytes.fromhex("0000001c667479706176696600000000") + bytes(64),
        "ICO": b"\0\0\x01\0\x01\0" + bytes(64),
        "PNG's first bytes": b"\x89PNG\r\n\x1a\n",
        "JPEG's first bytes": b"\xff\xd8\xff\xe0",
        "RIFF that is sound": b"RIFF\x24\0\0\0WAVE" + bytes(32),
        "zeros": bytes(512),
        "nothing": b"",
    }


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010F] = "Secret Camera 4711"
    tags[0x8825] = {1: "N", 2: (52.0, 31.0, 12.0)}  # where the photo was taken
    return tags.tobytes()


def small_pool(**options: object) -> ProcessPictures:
    return ProcessPictures(**({"n_workers": 1} | options))  # type: ignore[arg-type]
