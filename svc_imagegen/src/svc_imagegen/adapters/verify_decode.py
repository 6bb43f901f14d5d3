"""
Decoding of untrusted pictures. Only the limited process of `verify_process.py` may call this.

Pillow's plugin of the sniffed type is called by name: `Image.open` would try forty other formats.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from PIL import ExifTags, Image, ImageCms, ImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from svc_imagegen.domain.containers import GIF, JPEG, PNG, WEBP
from svc_imagegen.domain.layout import Layout, read_layout
from svc_imagegen.domain.outcome import BadPicture

N_FRAMES_MAX: Final = 64  # the longest animation that a provider documents has 16
# What Pillow's pure-Python parsers raise on hostile bytes, found by fuzzing; anything else ends the process.
DECODER_ERRORS: Final = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError,
    struct.error, zlib.error, Image.DecompressionBombError, ImageCms.PyCMSError,
)  # fmt: skip
_PLUGINS: Final[dict[str, type[ImageFile.ImageFile]]] = {
    PNG: PngImageFile, JPEG: JpegImageFile, WEBP: WebPImageFile, GIF: GifImageFile,
}  # fmt: skip
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ICC_BYTES_MAX: Final = 1 << 20  # a real profile has some kilobytes; printers' have up to a megabyte
# 95 is the highest quality at which JPEG and WebP still gain size; a reference is an input, not a product.
_QUALITY: Final = 95
_PNG_LEVEL: Final = 3  # 6 takes three times as long for 4 % fewer bytes


@dataclass(frozen=True, slots=True)
class Decoded:
    """What was found. data: the re-encoded bytes, empty when the given ones stay as they are."""

    media_type: str
    width: int
    height: int
    data: bytes = b""


def examine(data: bytes, *, n_pixels_max: int) -> Decoded:
    """
    Decode every frame to its end and leave the bytes alone.

    Raises:
        BadPicture: not one whole picture within the caps, or something lies behind it.
    """
    layout = _layout_within(data, n_pixels_max)
    if layout.end != len(data):
        raise BadPicture("trailing_data", f"{len(data) - layout.end} bytes lie behind the end of the picture")
    picture = _open(data, layout)
    for frame in range(layout.n_frames):
        picture.seek(frame)
        picture.load()
    return Decoded(layout.media_type, layout.width, layout.height)


def reencode(data: bytes, *, is_mask: bool, n_pixels_max: int) -> Decoded:
    """
    Write the first frame anew: upright, in sRGB, 8 bits a channel, without metadata or anything behind the picture.

    A mask and a GIF become PNG, because a mask's alpha must not change; the others keep their type.

    Raises:
        BadPicture: not a picture within the caps.
    """
    layout = _layout_within(data, n_pixels_max)
    picture = _open(data[: layout.end], layout)
    picture.load()
    media_type = PNG if is_mask or layout.media_type == GIF else layout.media_type
    clean = _in_plain_mode(_upright(_in_srgb(picture), _orientation(picture)), media_type)
    written = BytesIO()
    if media_type == PNG:
        clean.save(written, format="PNG", compress_level=_PNG_LEVEL)
    elif media_type == JPEG:
        clean.save(written, format="JPEG", quality=_QUALITY, subsampling=0)
    else:
        clean.save(written, format="WEBP", quality=_QUALITY, method=2)
    return Decoded(media_type, clean.width, clean.height, written.getvalue())


def _layout_within(data: bytes, n_pixels_max: int) -> Layout:
    if not data:
        raise BadPicture("empty", "no bytes came")
    layout = read_layout(data)
    n_pixels = layout.width * layout.height
    if n_pixels > n_pixels_max:
        raise BadPicture(
            "too_many_pixels",
            f"expected at most {n_pixels_max} pixels, the header says {layout.width} × {layout.height}",
        )
    if layout.n_frames > N_FRAMES_MAX or n_pixels * layout.n_frames > 4 * n_pixels_max:
        raise BadPicture("too_many_frames", f"expected at most {N_FRAMES_MAX} frames, the header says more")
    return layout


def _open(data: bytes, layout: Layout) -> ImageFile.ImageFile:
    picture = _PLUGINS[layout.media_type](BytesIO(data))
    n_frames = getattr(picture, "n_frames", 1)
    if picture.size != (layout.width, layout.height) or n_frames != layout.n_frames:
        raise BadPicture("corrupt", "the picture's headers contradict one another")
    return picture


def _orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation; 1, which is upright, where the EXIF data make no sense."""
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except DECODER_ERRORS:
        return 1


def _in_srgb(picture: Image.Image) -> Image.Image:
    """Convert by the embedded profile; a profile that is none is dropped."""
    profile = picture.info.get("icc_profile")
    if not isinstance(profile, bytes) or not 0 < len(profile) <= _ICC_BYTES_MAX or picture.mode not in ("RGB", "CMYK"):
        return picture
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        return ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB") or picture
    except DECODER_ERRORS:
        return picture


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    method = _UPRIGHT.get(orientation)
    return picture if method is None else picture.transpose(method)


def _in_plain_mode(picture: Image.Image, media_type: str) -> Image.Image:
    """Return 8 bits a channel, gray, RGB or RGBA, and without info: what is in there, encoders write into the file."""
    has_alpha = media_type != JPEG and picture.has_transparency_data
    if picture.mode.startswith("I"):
        # 16 bits a sample: Pillow's own conversion to L clips at 255 instead of scaling.
        picture = picture.point(lambda value: value * (1 / 257)).convert("L")
    mode = "RGBA" if has_alpha else "L" if picture.mode in ("1", "L") else "RGB"
    if picture.mode != mode:
        picture = picture.convert(mode)
    picture.info.clear()
    return picture
