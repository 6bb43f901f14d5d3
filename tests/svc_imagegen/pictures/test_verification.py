"""What is a picture and what is not, through the real limited processes."""

from __future__ import annotations

import asyncio
import hashlib
import io
import struct
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.svc_imagegen.pictures import corpus

from svc_imagegen.adapters.pictures import ProcessPictures
from svc_imagegen.adapters.verify_decode import N_FRAMES_MAX
from svc_imagegen.domain.layout import read_layout
from svc_imagegen.domain.outcome import BadPicture
from svc_imagegen.ports import VerifiedPicture

Verify = Callable[[bytes], VerifiedPicture]
Sanitize = Callable[..., VerifiedPicture]


class Line:
    """One pool on one event loop, for a whole module: a process start per test would be most of its time."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self.pool: ProcessPictures = corpus.small_pool()

    def run(self, asked: Coroutine[Any, Any, VerifiedPicture]) -> VerifiedPicture:
        return self._runner.run(asked)

    def verify(self, data: bytes) -> VerifiedPicture:
        return self.run(self.pool.verify(data))

    def sanitize(self, data: bytes, role: str = "image") -> VerifiedPicture:
        return self.run(self.pool.sanitize(data, role=role))

    def cause(self, data: bytes) -> str:
        with pytest.raises(BadPicture) as caught:
            self.verify(data)
        return caught.value.cause

    def close(self) -> None:
        self._runner.run(self.pool.close())
        self._runner.close()


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.close()


@pytest.fixture
def fresh_line() -> Iterator[Line]:
    line = Line()
    yield line
    line.close()


@pytest.mark.parametrize("kind", corpus.FORMATS)
def test_good_picture_passes_with_its_bytes_unchanged(line: Line, kind: str) -> None:
    data = corpus.good(kind)

    picture = line.verify(data)

    assert picture.data == data
    assert (picture.media_type, picture.width, picture.height) == (f"image/{kind}", 64, 48)
    assert picture.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("png", "RGBA", {}), ("png", "L", {}), ("png", "1", {}), ("png", "LA", {}), ("png", "I;16", {}),
        ("jpeg", "L", {}), ("jpeg", "CMYK", {}), ("jpeg", "RGB", {"progressive": True}),
        ("jpeg", "RGB", {"optimize": True, "quality": 100}), ("webp", "RGBA", {"lossless": True}),
        ("webp", "RGBA", {"exif": corpus.exif(1)}), ("jpeg", "RGB", {"icc_profile": corpus.srgb_profile()}),
    ],
)  # fmt: skip
def test_every_usual_variant_passes(line: Line, kind: str, mode: str, options: dict[str, Any]) -> None:
    picture = (
        Image.new("1", (64, 48))
        if mode == "1"
        else corpus.photo(mode="L").convert("I;16")
        if mode == "I;16"
        else (corpus.photo(mode=mode))
    )
    data = corpus.encoded(picture, kind, **options)

    assert line.verify(data).width == 64


@pytest.mark.parametrize("kind", ["png", "webp", "gif"])
def test_short_animation_passes_and_one_beyond_the_cap_is_refused(line: Line, kind: str) -> None:
    assert line.verify(corpus.animated(kind, 9)).width == 16

    assert line.cause(corpus.animated(kind, N_FRAMES_MAX + 1)) == "too_many_frames"


def test_animation_that_claims_more_frames_than_it_has_is_refused(line: Line) -> None:
    data = corpus.animated("png", 3)
    at = data.index(b"acTL")
    control = corpus.png_chunk(b"acTL", struct.pack("!II", 9, 0))

    assert line.cause(data[: at - 4] + control + data[at + 16 :]) in ("corrupt", "truncated")


@pytest.mark.parametrize("name", corpus.no_pictures())
def test_what_is_no_picture_is_refused(line: Line, name: str) -> None:
    assert line.cause(corpus.no_pictures()[name]) in ("unsupported_type", "empty", "truncated")


@pytest.mark.parametrize("name", corpus.polyglots())
def test_payload_behind_a_picture_is_refused_from_a_provider_and_dropped_from_an_upload(line: Line, name: str) -> None:
    data = corpus.polyglots()[name]

    assert line.cause(data) == "trailing_data"
    clean = line.sanitize(data)
    assert b"alert(1)" not in clean.data
    assert b"PK\x03\x04" not in clean.data
    assert line.verify(clean.data).width == 64


@pytest.mark.parametrize("kind", corpus.FORMATS)
def test_truncated_picture_is_refused_at_every_length(line: Line, kind: str) -> None:
    data = corpus.good(kind, 24, 24)
    for length in range(0, len(data), max(1, len(data) // 60)):
        assert line.cause(data[:length]) in ("empty", "truncated", "unsupported_type", "corrupt"), length


@pytest.mark.parametrize("side", [6_400, 9_000, 13_000, 20_000])
def test_bomb_with_all_its_pixels_is_refused_by_its_header(fresh_line: Line, side: int) -> None:
    assert fresh_line.cause(corpus.png_bomb(side)) == "too_many_pixels"

    assert _peak_bytes(fresh_line) < 60 << 20  # 6,400 squared would be 41 MB more even at one byte a pixel


@pytest.mark.parametrize("data", [corpus.png_of(40_000, 40_000), corpus.gif_bomb(40_000), corpus.gif_bomb(65_535)])
def test_header_of_40000_squared_is_refused_without_decoding(line: Line, data: bytes) -> None:
    assert line.cause(data) == "too_many_pixels"


def test_jpeg_and_webp_headers_beyond_the_cap_are_refused(line: Line) -> None:
    jpeg = corpus.good("jpeg")
    at = jpeg.index(b"\xff\xc0")
    assert line.cause(jpeg[: at + 5] + struct.pack("!HH", 40_000, 40_000) + jpeg[at + 9 :]) == "too_many_pixels"

    webp = corpus.encoded(corpus.photo(mode="RGBA"), "webp", exif=corpus.exif(1))
    at = webp.index(b"VP8X") + 12
    assert line.cause(webp[:at] + b"\xff\xff\x00\xff\xff\x00" + webp[at + 6 :]) == "too_many_pixels"


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 5), (5, 0)])
def test_picture_without_a_dimension_is_refused(line: Line, width: int, height: int) -> None:
    assert line.cause(corpus.png_of(width, height, idat=b"\x78\x9c\x03\0\0\0\0\x01")) == "corrupt"


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_compressed_chunk_that_unpacks_to_64_mib_is_refused_or_skipped_in_little_memory(
    line: Line, kind: bytes
) -> None:
    data = corpus.with_text_bomb(kind)

    try:
        line.verify(data)
    except BadPicture as error:
        assert error.cause == "corrupt"

    assert _peak_bytes(line) < 512 << 20
    assert b"bomb" not in line.sanitize(corpus.good("png")).data  # the process is still well


def test_largest_allowed_picture_is_decoded_within_the_memory_cap(line: Line) -> None:
    picture = Image.new("RGB", (6_320, 6_320), (20, 90, 160))
    for kind in ("png", "jpeg"):
        data = corpus.encoded(picture, kind)
        assert line.verify(data).width == 6_320
        assert line.sanitize(data).width == 6_320
        assert _peak_bytes(line) < 512 << 20


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(corpus.FORMATS), changes=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1)
)
def test_corrupted_bytes_never_end_the_parent_nor_pass_with_another_size(
    line: Line, kind: str, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(corpus.good(kind, 20, 20))
    for at, value in changes:
        data[at % len(data)] = value

    for ask in (line.verify, line.sanitize):
        try:
            picture = ask(bytes(data))
        except BadPicture:
            continue
        with Image.open(io.BytesIO(picture.data)) as opened:
            assert opened.size == (picture.width, picture.height)


def test_flipped_bit_anywhere_in_a_png_is_found_without_decoding() -> None:
    data = corpus.good("png", 20, 20)

    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        with pytest.raises(BadPicture):
            read_layout(bytes(changed))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    head=st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\xff\0\0\0WEBP", b"GIF89a"]), rest=st.binary()
)
def test_random_bytes_behind_a_true_head_are_refused(line: Line, head: bytes, rest: bytes) -> None:
    with pytest.raises(BadPicture):
        line.verify(head + rest)


def test_upload_loses_its_metadata_and_is_turned_upright(line: Line) -> None:
    data = corpus.encoded(corpus.photo(), "jpeg", exif=corpus.exif(6), comment=b"private note")

    clean = line.sanitize(data)

    assert (clean.media_type, clean.width, clean.height) == ("image/jpeg", 48, 64)
    assert b"Secret Camera" in data
    for secret in (b"Secret Camera", b"Exif", b"private note"):
        assert secret not in clean.data


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_turns_the_mark_to_the_top_left(line: Line, orientation: int) -> None:
    upright = Image.new("RGB", (40, 20), (0, 0, 0))
    upright.paste((255, 0, 0), (0, 0, 10, 10))
    backwards = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(backwards[orientation]) if orientation in backwards else upright

    clean = line.sanitize(corpus.encoded(stored, "png", exif=corpus.exif(orientation)))

    with Image.open(io.BytesIO(clean.data)) as opened:
        assert opened.size == (40, 20)
        assert opened.convert("RGB").getpixel((3, 3)) == (255, 0, 0)
        assert opened.convert("RGB").getpixel((30, 15)) == (0, 0, 0)


@pytest.mark.parametrize("profile", [b"not a profile", bytes(2 << 20), corpus.srgb_profile()[:200]])
def test_upload_with_a_broken_color_profile_comes_out_without_it(line: Line, profile: bytes) -> None:
    clean = line.sanitize(corpus.encoded(corpus.photo(), "jpeg", icc_profile=profile))

    with Image.open(io.BytesIO(clean.data)) as opened:
        assert "icc_profile" not in opened.info


def test_mask_keeps_its_alpha_exactly_and_becomes_png(line: Line) -> None:
    mask = corpus.photo(mode="RGBA")

    clean = line.sanitize(corpus.encoded(mask, "webp", lossless=True, exact=True), "mask")

    assert clean.media_type == "image/png"
    with Image.open(io.BytesIO(clean.data)) as opened:
        assert opened.getchannel("A").tobytes() == mask.getchannel("A").tobytes()


def test_sixteen_bit_gray_is_scaled_and_not_clipped(line: Line) -> None:
    deep = Image.frombytes("I;16", (2, 1), struct.pack("<HH", 65_535, 32_896))

    clean = line.sanitize(corpus.encoded(deep, "png"))

    with Image.open(io.BytesIO(clean.data)) as opened:
        assert list(opened.convert("L").tobytes()) == [255, 128]


def test_palette_with_transparency_keeps_it(line: Line) -> None:
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 200, 10, 10])
    picture.paste(0, (0, 0, 4, 8))

    clean = line.sanitize(corpus.encoded(picture, "png", transparency=0))

    with Image.open(io.BytesIO(clean.data)) as opened:
        assert opened.mode == "RGBA"
        assert opened.getpixel((1, 1))[3] == 0  # type: ignore[index]
        assert opened.getpixel((6, 6)) == (200, 10, 10, 255)


def test_animation_as_an_upload_becomes_its_first_frame(line: Line) -> None:
    clean = line.sanitize(corpus.animated("gif", 5))

    assert clean.media_type == "image/png"
    with Image.open(io.BytesIO(clean.data)) as opened:
        assert getattr(opened, "n_frames", 1) == 1


def _peak_bytes(line: Line) -> int:
    return max((_status(pid, "VmHWM") for pid in line.pool.pids()), default=0)


def _status(pid: int, name: str) -> int:
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123
        return next(int(row.split()[1]) << 10 for row in status if row.startswith(name))
