"""Who made a picture stands in its file, and its pixels do not know."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.svc_imagegen.pictures import corpus

from svc_imagegen.domain.layout import read_layout
from svc_imagegen.domain.outcome import BadPicture
from svc_imagegen.domain.provenance import Provenance, read_provenance, stamp

MADE = Provenance(
    provider="openai",
    model="gpt-image-2",
    job_id="0193a1-7",
    created_at=datetime(2026, 11, 21, 12, 0, 1, tzinfo=UTC),
    is_simulated=False,
)
VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "png": ("png", "RGB", {}),
    "png with alpha, dpi and color profile": ("png", "RGBA", {"dpi": (72, 72), "icc_profile": corpus.srgb_profile()}),
    "jpeg": ("jpeg", "RGB", {}),
    "progressive jpeg with Exif": ("jpeg", "RGB", {"progressive": True, "exif": corpus.exif(1)}),
    "cmyk jpeg": ("jpeg", "CMYK", {}),
    "lossy webp of odd length": ("webp", "RGB", {"quality": 71}),
    "lossless webp": ("webp", "RGB", {"lossless": True}),
    "lossless webp with alpha": ("webp", "RGBA", {"lossless": True}),
    "lossy webp with alpha": ("webp", "RGBA", {"quality": 80}),
    "webp with Exif and color profile": ("webp", "RGB", {"exif": corpus.exif(1), "icc_profile": corpus.srgb_profile()}),
    "gif": ("gif", "RGB", {}),
}


def made(name: str) -> tuple[bytes, str]:
    kind, mode, options = VARIANTS[name]
    return corpus.encoded(corpus.photo(33, 21, mode), kind, **options), f"image/{kind}"


@pytest.mark.parametrize("name", VARIANTS)
def test_stamped_picture_tells_its_maker_and_keeps_every_pixel(name: str) -> None:
    data, media_type = made(name)

    stamped = stamp(data, media_type, MADE)

    assert read_provenance(stamped, media_type) == MADE
    assert read_provenance(data, media_type) is None
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(stamped)) as after:
        assert (after.mode, after.size) == (before.mode, before.size)
        assert after.tobytes() == before.tobytes()
        assert after.info.get("icc_profile") == before.info.get("icc_profile")
    assert read_layout(stamped).end == len(stamped)


@pytest.mark.parametrize("kind", ["png", "gif", "webp"])
def test_every_frame_and_the_loop_of_an_animation_stay(kind: str) -> None:
    data = corpus.animated(kind, 5)

    stamped = stamp(data, f"image/{kind}", MADE)

    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(stamped)) as after:
        assert after.n_frames == before.n_frames == 5  # type: ignore[attr-defined]
        assert after.info.get("loop") == before.info.get("loop")
        for frame in range(5):
            before.seek(frame)
            after.seek(frame)
            assert after.tobytes() == before.tobytes()
    assert read_provenance(stamped, f"image/{kind}") == MADE


@pytest.mark.parametrize("name", VARIANTS)
def test_stamping_again_replaces_the_first_stamp(name: str) -> None:
    data, media_type = made(name)
    other = Provenance(
        provider="xai", model="m", job_id="2", created_at=datetime(2027, 1, 1, tzinfo=UTC), is_simulated=False
    )

    twice = stamp(stamp(data, media_type, other), media_type, MADE)

    assert twice == stamp(data, media_type, MADE)


@pytest.mark.parametrize("name", VARIANTS)
def test_stamped_picture_is_still_a_good_picture(name: str) -> None:
    data, media_type = made(name)

    stamped = stamp(data, media_type, MADE)

    assert read_layout(stamped).media_type == media_type
    assert b"trainedAlgorithmicMedia" in stamped
    assert b'AISystemUsed="openai/gpt-image-2"' in stamped
    assert b"AI-generated" in stamped


def test_simulated_picture_is_never_called_a_models_work() -> None:
    simulated = Provenance(
        provider="simulated", model="simulated-1", job_id="1", created_at=MADE.created_at, is_simulated=True
    )

    stamped = stamp(corpus.good("png"), "image/png", simulated)

    assert b"trainedAlgorithmicMedia" not in stamped
    assert b"AI-generated" not in stamped
    assert b"digitalsourcetype/algorithmicMedia" in stamped
    found = read_provenance(stamped, "image/png")
    assert found is not None
    assert found.origin == "simulated"


@pytest.mark.parametrize(("mode", "has_alpha"), [("RGB", False), ("RGBA", True)])
def test_extended_webp_header_says_whether_there_is_alpha(mode: str, has_alpha: bool) -> None:
    data = corpus.encoded(corpus.photo(mode=mode), "webp", lossless=True)
    assert data[12:16] == b"VP8L"

    stamped = stamp(data, "image/webp", MADE)

    assert stamped[12:16] == b"VP8X"
    assert stamped[20] == 0x04 | (0x10 if has_alpha else 0)


def test_old_gif_becomes_one_that_may_carry_extensions() -> None:
    data = b"GIF87a" + corpus.good("gif")[6:]

    stamped = stamp(data, "image/gif", MADE)

    assert stamped.startswith(b"GIF89a")
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(stamped)) as after:
        assert after.tobytes() == before.tobytes()


@settings(max_examples=80, deadline=None)
@given(provider=st.text(max_size=40), model=st.text(max_size=40), kind=st.sampled_from(corpus.FORMATS))
def test_any_name_stays_inside_its_attribute(provider: str, model: str, kind: str) -> None:
    named = Provenance(provider=provider, model=model, job_id="j", created_at=MADE.created_at, is_simulated=False)

    stamped = stamp(corpus.good(kind, 8, 8), f"image/{kind}", named)
    found = read_provenance(stamped, f"image/{kind}")

    assert found is not None
    assert (found.job_id, found.is_simulated) == ("j", False)
    if provider.isprintable():
        assert found.provider == provider


def test_hostile_name_cannot_claim_another_origin() -> None:
    name = '" qraft:origin="simulated" x="'
    named = Provenance(provider=name, model="m", job_id="j", created_at=MADE.created_at, is_simulated=False)

    found = read_provenance(stamp(corpus.good("jpeg"), "image/jpeg", named), "image/jpeg")

    assert found == named


@pytest.mark.parametrize("kind", corpus.FORMATS)
def test_picture_that_is_not_whole_is_not_stamped(kind: str) -> None:
    data = corpus.good(kind)

    with pytest.raises(BadPicture):
        stamp(data[: len(data) // 2], f"image/{kind}", MADE)


def test_unknown_media_type_is_refused() -> None:
    with pytest.raises(ValueError, match="expected image/png"):
        stamp(b"<svg/>", "image/svg+xml", MADE)
